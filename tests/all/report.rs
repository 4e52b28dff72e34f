//! The report end to end through the real binary: from small runs on generated captures to the page, tables and
//! figures; also the page in a browser, and the PDF, if the machine has the programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::common::{Project, write_points};

/// A folder with three stored runs: two tables of three models, and an ablation.
fn project() -> &'static Project {
    static PROJECT: OnceLock<Project> = OnceLock::new();
    PROJECT.get_or_init(|| {
        let project = Project::shared("report");
        for name in ["table3", "table5"] {
            let path = format!("experiments/{name}.toml");
            let models = "models = [\"knn\", \"svm\", \"random_forest\"]\n\n[dataset]";
            project.write(&path, read(project.path(&path)).replacen("[dataset]", models, 1));
            project.done(&["run", &path, "--data", "synth", "--size", "ci"]);
        }
        let packets = |count: usize| format!("[variant.packets_{count}]\nfeature.packets = {count}\n");
        let ablation = "extends = \"paper.toml\"\ntitle = \"Packets <b> & \\\"more\\\"\\u202e\"\nmodels = [\"attention_lstm\"]\n\
                        [dataset]\nnames = [\"ctu13\"]\n[selection]\nlabel = \"traffic\"\nclasses = [\"normal\", \"botnet\"]\n";
        project.write("experiments/packets.toml", [1, 2, 3].map(packets).iter().fold(ablation.to_owned(), |all, one| all + one));
        let short = ["model.attention_lstm.epochs=2", "model.attention_lstm.elmo.epochs=1"];
        let ablation = ["run", "experiments/packets.toml", "--data", "synth", "--size", "ci", "--set", short[0], "--set", short[1]];
        project.done(&ablation);
        project.done(&["report"]);
        project
    })
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()))
}

#[test]
fn the_page_has_every_part_and_loads_nothing() {
    let page = read(project().path("results/report.html"));
    for part in [
        "All results",
        "Confusion matrix",
        "Reliability: are the probabilities calibrated?",
        "Critical difference over 2 tables",
        "Macro F1 over packets",
        "Classifier training: loss",
        "ELMo pre-training: loss",
        "Peak memory of a fit",
        "what one field alone predicts",
        "table3: numbers that arithmetic rules out",
        "Experiment file",
        "Captures and their SHA-256",
        "expectations are not met",
        "Packets &#60;b&#62; &#38; &#34;more&#34;[U+202E]",
    ] {
        assert!(page.contains(part), "{part} is not in the page");
    }
    assert!(!page.contains('\u{202e}'), "the direction of text is overridden");
    // Nothing that a browser would fetch; addresses of datasets are plain text.
    for fetched in
        ["src=", "url(", "@import", "href=\"http", "href='http", "fetch(", "XMLHttpRequest", "var(--series-8"]
    {
        assert!(!page.contains(fetched), "{fetched} is in the page");
    }
    assert!(page.len() < 8 << 20, "{} bytes", page.len());
}

#[test]
fn tables_and_figures_are_files_and_the_same_records_give_the_same_bytes() {
    let project = project();
    let output = project.done(&["report", "-o", "again.html", "--paper", "again"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("3 runs"));
    assert_eq!(read(project.path("results/report.html")), read(project.path("again.html")));
    let index = read(project.path("again/tables/all.tex"));
    assert_eq!(index, read(project.path("paper/tables/all.tex")));
    let mut included = 0;
    for line in index.lines() {
        if let Some(name) = line.strip_prefix("\\input{").and_then(|line| line.strip_suffix('}')) {
            let latex = read(project.path(&format!("again/{name}.tex")));
            assert!(latex.contains("\\toprule"), "{name}");
            for extension in ["csv", "md"] {
                assert!(read(project.path(&format!("again/{name}.{extension}"))).len() > 20, "{name}");
            }
            included += 1;
        }
        if let Some(name) = line.strip_prefix("\\drawn{").and_then(|line| line.strip_suffix('}')) {
            let figure = read(project.path(&format!("again/{name}.svg")));
            assert!(figure.contains("xmlns=") && !figure.contains("var(") && !figure.contains("NaN"), "{name}");
            included += 1;
        }
    }
    assert!(included > 15, "{index}");
    // A figure in the document has a title; names in titles are escaped for LaTeX.
    assert!(
        index.contains("\\titled{Critical difference over 2 tables: without\\_shortcuts, size ci}\n\\drawn{"),
        "{index}"
    );
    // A single run, by name; its table has published numbers.
    project.done(&["report", "table3-synth-ci", "-o", "one.html", "--paper", "one"]);
    let one = read(project.path("one.html"));
    assert!(one.contains("<tr class=published>") && !one.contains("table5-synth-ci"));
}

#[test]
fn missing_and_broken_runs_are_reported() {
    let project = Project::new();
    let nothing = project.done(&["report", "-o", "none.html", "--paper", "none"]);
    assert!(String::from_utf8_lossy(&nothing.stdout).contains("0 runs"));
    assert!(read(project.path("none.html")).contains("There are no stored runs yet"));
    project.refused(&["report", "table2"], &["table2", "no stored run"]);
    project.write("results/broken/records.jsonl", "{}\n");
    project.refused(&["report", "broken"], &["broken/run.json", "a run's folder contains this file"]);
}

/// Runs as a user who may not read a run of another; tests that run as root, who may, switch to `nobody`.
#[cfg(unix)]
#[test]
fn runs_that_may_not_be_read_are_named() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let project = Project::new();
    write_points(&project);
    let experiment = "title = \"Points\"\nseeds = [0]\nmodels = [\"majority\"]\n[dataset]\nnames = [\"points\"]\n\
                      [selection]\nlabel = \"kind\"\n[split]\nmethod = \"stratified\"\n";
    project.write("experiments/open.toml", experiment);
    project.write("experiments/closed.toml", experiment);
    project.done(&["run", "open"]);
    project.done(&["run", "closed"]);
    std::fs::create_dir(project.path("out")).unwrap();
    let binary = project.path("etcbench");
    std::fs::copy(env!("CARGO_BIN_EXE_etcbench"), &binary).unwrap();
    let set = |path: &str, mode| {
        std::fs::set_permissions(project.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let run = "results/closed-points-full";
    for (path, mode) in [("", 0o755), ("out", 0o777), ("results/cache", 0o000), (run, 0o000)] {
        set(path, mode);
    }
    let told = |arguments: &[&str]| {
        let mut command = Command::new(&binary);
        command.current_dir(project.path("")).args(arguments).env_remove("ETCBENCH_DATA");
        if std::fs::metadata(&binary).unwrap().uid() == 0 {
            command.uid(65_534).gid(65_534);
        }
        let output = command.output().unwrap();
        (String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(), output.status.code())
    };
    let list = told(&["list", "runs"]);
    let page = told(&["report", "-o", "out/page.html", "--paper", "out/paper"]);
    let named = told(&["report", "closed-points-full", "-o", "out/page.html", "--paper", "out/paper"]);
    set(run, 0o755);
    set("results/cache", 0o755);
    assert_eq!(list.1, Some(0), "{}", list.0);
    assert!(list.0.contains("open-points-full: Points [1 seed"), "{}", list.0);
    assert!(list.0.contains("closed-points-full: cannot be read (") && !list.0.contains("cache"), "{}", list.0);
    assert_eq!(page.1, Some(1), "{}", page.0);
    assert!(page.0.contains("closed-points-full: left out: ") && page.0.contains("1 run;"), "{}", page.0);
    assert_eq!(named.1, Some(2), "{}", named.0);
    assert!(named.0.contains("Permission denied") && !named.0.contains("no stored run"), "{}", named.0);
}

#[test]
fn of_equal_rows_the_page_names_the_one_that_the_run_ended_with() {
    let project = Project::new();
    write_points(&project);
    let variant = |name: &str| format!("[variant.{name}]\nsplit.method = \"stratified\"\n");
    let experiment = "title = \"Ties\"\nseeds = [0]\nmodels = [\"majority\"]\n[dataset]\nnames = [\"points\"]\n\
                      [selection]\nlabel = \"kind\"\n[model.majority]\ninput = \"statistics\"\n";
    project.write("experiments/ties.toml", format!("{experiment}{}{}", variant("first"), variant("second")));
    let run = project.done(&["run", "ties"]);
    let told = String::from_utf8_lossy(&run.stderr).into_owned() + &String::from_utf8_lossy(&run.stdout);
    assert!(told.contains("majority · statistics · first"), "{told}");
    project.done(&["report", "-o", "page.html"]);
    assert!(read(project.path("page.html")).contains("<td>majority · statistics · first"));
}

/// Finds a browser; prints a message if there is none.
fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("ETCBENCH_CHROMIUM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = named.or_else(|| {
        names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file())
    });
    if found.is_none() {
        eprintln!("skipped: there is no chromium (ETCBENCH_CHROMIUM names one)");
    }
    found
}

/// Uses the page like a reader, and returns the outcome.
const USE: &str = r##"
const outcome = {};
const results = document.querySelector("#results .table");
const headings = [...results.querySelectorAll("th")];
const column = headings.findIndex((heading) => heading.textContent === "macro F1");
const rows = () => [...results.querySelector("tbody").rows].filter((row) => !row.hidden);
const scores = () => rows().map((row) => Number.parseFloat(row.cells[column].dataset.value ?? row.cells[column].textContent));
outcome.rows = rows().length;
headings[column].querySelector("button").click();
outcome.descending = scores();
outcome.sorted = headings[column].getAttribute("aria-sort");
headings[column].querySelector("button").click();
outcome.ascending = scores();
dispatchEvent(new KeyboardEvent("keydown", { key: "/" }));
const field = results.querySelector("input");
outcome.focused = document.activeElement === field;
field.value = "random_forest statistics";
field.dispatchEvent(new Event("input"));
outcome.filtered = rows().map((row) => row.cells[1].textContent + " " + row.cells[3].textContent);
outcome.count = results.querySelector(".count").textContent;
field.value = "";
field.dispatchEvent(new Event("input"));
const choice = results.querySelector('select[aria-label="variant"]');
choice.value = "without_shortcuts";
choice.dispatchEvent(new Event("change"));
outcome.chosen = rows().map((row) => row.cells[4].textContent);
const detail = document.querySelector(".detail");
const visible = () => [...detail.querySelectorAll(".panel")].filter((panel) => !panel.hidden).map((panel) => panel.dataset.row);
outcome.panels = [visible()];
detail.querySelector("select").value = "2";
detail.querySelector("select").dispatchEvent(new Event("change"));
outcome.panels.push(visible());
document.querySelector(".theme").click();
outcome.theme = document.documentElement.dataset.theme;
outcome.background = getComputedStyle(document.body).backgroundColor;
document.querySelector(".theme").click();
outcome.darkBackground = getComputedStyle(document.body).backgroundColor;
outcome.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
outcome.drawings = [...document.querySelectorAll("figure svg")].map((drawing) => {
  const parsed = new DOMParser().parseFromString(new XMLSerializer().serializeToString(drawing), "image/svg+xml");
  return parsed.querySelector("parsererror") === null && drawing.getAttribute("aria-label").length > 0;
});
outcome.brokenLinks = [...document.querySelectorAll('a[href^="#"]')].map((link) => link.hash.slice(1))
  .filter((id) => !document.getElementById(id));
outcome.fetched = performance.getEntriesByType("resource").map((entry) => entry.name);
outcome.problems = problems;
const end = document.createElement("pre");
end.id = "outcome";
end.textContent = JSON.stringify(outcome);
document.body.append(end);
"##;

const WATCH: &str = r#"<script>
const problems = [];
addEventListener("error", (event) => problems.push(event.message));
addEventListener("securitypolicyviolation", (event) => problems.push("policy: " + event.violatedDirective));
for (const kind of ["error", "warn"]) console[kind] = (...words) => problems.push(words.join(" "));
</script>"#;

fn used_in_browser(browser: &Path, page: &str, width: u32) -> serde_json::Value {
    let folder = tempfile::tempdir().unwrap();
    let used = page.replacen("<head>", &format!("<head>{WATCH}"), 1).replacen(
        "</body>",
        &format!("<script>{USE}</script></body>"),
        1,
    );
    let path = folder.path().join("used.html");
    std::fs::write(&path, used).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .args([&format!("--window-size={width},900"), "--enable-logging=stderr", "--dump-dom"])
        .arg(format!("file://{}", path.display()))
        .output()
        .expect("the browser starts");
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let console: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(console.is_empty(), "the console says {console:?}");
    let outcome = dom.split_once("<pre id=\"outcome\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let outcome = outcome.unwrap_or_else(|| panic!("the page was not used to its end: {log}")).0;
    serde_json::from_str(&outcome.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")).unwrap()
}

#[test]
fn the_page_sorts_filters_and_chooses_in_a_browser_without_console_messages() {
    let Some(browser) = chromium() else { return };
    let page = read(project().path("results/report.html"));
    for width in [1400, 420] {
        let outcome = used_in_browser(&browser, &page, width);
        let numbers = |key: &str| -> Vec<f64> {
            outcome[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
        };
        let words = |key: &str| -> Vec<&str> {
            outcome[key].as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect()
        };
        assert_eq!(outcome["problems"], serde_json::json!([]), "at {width}");
        assert_eq!(outcome["fetched"], serde_json::json!([]), "at {width}");
        assert_eq!(outcome["brokenLinks"], serde_json::json!([]), "at {width}");
        assert_eq!(outcome["overflow"], 0, "the page is wider than {width}");
        // Two tables of three models that read two inputs, in two variants; three points of one model.
        assert_eq!(outcome["rows"], 27);
        assert!(numbers("descending").is_sorted_by(|left, right| left >= right), "{outcome}");
        assert!(numbers("ascending").is_sorted(), "{outcome}");
        assert_eq!((outcome["sorted"].as_str(), numbers("ascending").len()), (Some("descending"), 27));
        assert_eq!(outcome["focused"], true);
        assert_eq!(words("filtered"), ["random_forest statistics"; 4]);
        assert_eq!(outcome["count"], "4 of 27 rows");
        assert_eq!(words("chosen"), ["without_shortcuts"; 12]);
        assert_eq!(outcome["panels"], serde_json::json!([["0"], ["2"]]));
        assert_eq!(outcome["theme"], "light");
        assert_ne!(outcome["background"], outcome["darkBackground"]);
        let drawings = outcome["drawings"].as_array().unwrap();
        assert!(drawings.len() > 60 && drawings.iter().all(|drawn| drawn == true), "{drawings:?}");
    }
}

#[test]
fn the_pdf_is_made_where_there_is_latex() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let project = project();
    let folder = tempfile::tempdir().unwrap();
    let paper = folder.path().join("paper");
    project.done(&["report", "-o", "paper.html", "--paper", paper.to_str().unwrap()]);
    std::fs::copy(root.join("paper/results.tex"), paper.join("results.tex")).unwrap();
    let run = |path: &str| Command::new(root.join("scripts/paper")).arg(&paper).env("PATH", path).output().unwrap();
    // Without LaTeX the script prints what to install.
    let tools = folder.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    for tool in ["bash", "dirname", "realpath", "env"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
        std::os::unix::fs::symlink(String::from_utf8(found.stdout).unwrap().trim(), tools.join(tool)).unwrap();
    }
    let output = run(tools.to_str().unwrap());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("apt install texlive-latex-recommended"));
    let path = std::env::var("PATH").unwrap_or_default();
    let latex = Command::new("sh").args(["-c", "command -v pdflatex && kpsewhich lmodern.sty"]).output().unwrap();
    if !latex.status.success() {
        eprintln!("skipped: there is no pdflatex with lmodern");
        return;
    }
    let output = run(&path);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(std::fs::read(paper.join("results.pdf")).unwrap().starts_with(b"%PDF"));
}
