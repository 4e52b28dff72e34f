//! Bundles of runs: the claims of an honest run are reproduced with any settings, and a tampered bundle is refused with
//! the reason, even though all hashes in it are valid.

mod published_parts;
mod tampered;
mod tamperings;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use tampered::Tampered;
use tamperings::{PLAIN_TAMPERINGS, TUNED_TAMPERINGS};

use crate::common::external::{self, has_python};
use crate::common::{Project, every_stage, small_experiment, write_points};

/// The files of a bundle.
type Files = BTreeMap<String, Vec<u8>>;

const DATASET: &str = r#"
name = "many"
title = "Two classes, four captures each"
reference = "none"
label_columns = ["kind"]
[published_at]
url = "https://example.org/many"
how = "nothing to download"
[files]
patterns = ["*.pcap"]
[[rule]]
stem = "^(?<kind>[a-z]+)"
"#;

const PLAIN: &str = r#"
title = "Plain"
seeds = [0, 1, 2]
models = ["knn", "random_forest"]
[dataset]
names = ["many"]
[selection]
label = "kind"
classes = ["web", "mail"]
[feature]
packets = 1
bytes = 24
[model.knn]
input = ["bytes", "statistics"]
k = 3
[model.random_forest]
trees = 3
[variant.random.split]
method = "stratified"
train = 0.5
validation = 0.25
test = 0.25
[variant.captures.split]
method = "grouped"
train = 0.5
validation = 0.25
test = 0.25
"#;

/// Folds, tuning, and costs of decisions.
const TUNED: &str = r#"
title = "Tuned"
seeds = [0]
models = ["knn", "random_forest"]
[dataset]
names = ["many"]
[selection]
label = "kind"
[feature]
packets = 1
bytes = 24
[split]
method = "k_fold"
folds = 3
[tune]
search = "grid"
budget = 3
[tune.space.knn]
k = [1, 3, 9]
[model.knn]
k = 3
[model.random_forest]
trees = 3
[tune.space.random_forest]
trees = [1, 3]
[evaluation]
cost = true
"#;

fn project() -> Project {
    let project = every_stage::project();
    project.write("data/many.toml", DATASET);
    for capture in 0..4_u16 {
        for (class, length, port) in [("web", 60, 1000), ("mail", 61, 2000)] {
            let bytes = every_stage::capture(port + 20 * capture, length + capture % 2);
            project.write(&format!("data/many/{class}-{capture}.pcap"), bytes);
        }
    }
    project.write("experiments/plain.toml", PLAIN);
    project.write("experiments/tuned.toml", TUNED);
    project
}

/// Returns the results folder, from the last line of standard error of a run.
fn run(project: &Project, arguments: &[&str]) -> String {
    let output = project.done(arguments);
    let progress = String::from_utf8_lossy(&output.stderr).into_owned();
    let folder = progress.lines().rev().find_map(|line| Some(line.split_once("results in ")?.1.trim().to_owned()));
    folder.unwrap_or_else(|| panic!("{arguments:?} names no folder: {progress}"))
}

fn pack(project: &Project, run: &str) -> PathBuf {
    let output = project.done(&["submission", "pack", run, "-o", "."]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    project.path(printed.split_once(": ").unwrap_or_else(|| panic!("{printed}")).0)
}

fn read(path: &Path) -> Files {
    let bytes = zstd::decode_all(fs::File::open(path).unwrap()).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (name, content)
    });
    entries.collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Writes files as a bundle with a valid index, as anyone can.
fn write(path: &Path, files: &Files) {
    let mut files = files.clone();
    files.remove("bundle.json");
    let entry = |content: &Vec<u8>| serde_json::json!({ "bytes": content.len(), "sha256": sha256(content) });
    let entries: serde_json::Map<_, _> = files.iter().map(|(name, content)| (name.clone(), entry(content))).collect();
    let index = serde_json::json!({ "format": "etcbench-bundle-1", "files": entries });
    files.insert("bundle.json".to_owned(), serde_json::to_vec(&index).unwrap());
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in &files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    fs::write(path, zstd::encode_all(archive.into_inner().unwrap().as_slice(), 1).unwrap()).unwrap();
}

/// Returns the exit code and the output of a check.
fn check(project: &Project, bundle: &str) -> (Option<i32>, String) {
    let output = project.etcbench(&["submission", "check", bundle]);
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&printed).into_owned())
}

#[test]
fn a_bundle_that_was_tampered_with_is_refused_with_the_reason() {
    let project = project();
    let (mut tried, mut failed) = (0, Vec::new());
    for (experiment, tamperings) in [("plain", PLAIN_TAMPERINGS), ("tuned", TUNED_TAMPERINGS)] {
        let folder = run(&project, &["run", experiment]);
        let honest = read(&pack(&project, &folder));
        write(&project.path("honest.etcbundle"), &honest);
        let (code, printed) = check(&project, "honest.etcbundle");
        assert_eq!(code, Some(0), "{experiment}: {printed}");
        for (what, change, reasons) in tamperings {
            let mut tampered = Tampered(honest.clone());
            change(&mut tampered);
            tampered.settle();
            write(&project.path("tampered.etcbundle"), &tampered.0);
            let (code, printed) = check(&project, "tampered.etcbundle");
            let missing: Vec<_> = reasons.iter().filter(|reason| !printed.contains(**reason)).collect();
            if code != Some(1) || !missing.is_empty() {
                failed.push(format!("{what}: {code:?}, {missing:?} is not in: {printed}"));
            }
            tried += 1;
        }
    }
    assert!(failed.is_empty(), "{} of {tried}:\n{}", failed.len(), failed.join("\n"));
    assert!(tried >= 40, "{tried}");
}

/// Packs a run twice to the same bytes, and expects the check to pass.
#[track_caller]
fn passes(project: &Project, what: &str, arguments: &[&str]) -> PathBuf {
    let folder = run(project, arguments);
    passes_as_it_is(project, what, &folder)
}

#[track_caller]
fn passes_as_it_is(project: &Project, what: &str, run: &str) -> PathBuf {
    let bundle = pack(project, run);
    let first = fs::read(&bundle).unwrap();
    assert!(fs::read(pack(project, run)).unwrap() == first, "{what}: the same run is packed to other bytes");
    let name = bundle.file_name().unwrap().to_str().unwrap().to_owned();
    let (code, printed) = check(project, &name);
    assert!(code == Some(0) && printed.contains(": nothing found; identity "), "{what}: {printed}");
    bundle
}

#[test]
fn bundles_of_all_kinds_of_settings_pass() {
    let project = project();
    let mut passed = 0;
    let mut passes = |what: &str, arguments: &[&str]| {
        passes(&project, what, arguments);
        passed += 1;
    };
    let plain = ["run", "plain"];
    let with = |more: &[&'static str]| [&plain[..], more].concat();
    passes("plain", &plain);
    passes("one thread", &with(&["--threads", "1", "--no-cache"]));
    passes("three threads and processes", &with(&["--threads", "3", "--jobs", "2", "--overwrite"]));
    passes("more seeds, saved models", &with(&["--seeds", "5", "--save-models"]));
    passes("one variant", &with(&["--variants", "captures"]));
    // One seed is enough to see the effect of a key.
    project.write("experiments/quick.toml", PLAIN.replace("[0, 1, 2]", "[0]"));
    let quick = |more: &[&'static str]| [&["run", "quick"][..], more].concat();
    passes("other packets", &quick(&["--set", "feature.packets=2", "--set", "selection.maximum_flows_per_class=30"]));
    passes("by time", &quick(&["--variants", "random", "--set", "split.method=temporal"]));
    passes("by connection", &quick(&["--variants", "captures", "--set", "split.group=connection"]));
    passes(
        "few examples",
        &quick(&["--set", "split.training_flows_per_class=7", "--set", "split.sampling=oversample"]),
    );
    passes("packets alone", &quick(&["--set", "selection.sample=packet", "--set", "model.knn.input=bytes"]));
    passes("pauses", &quick(&["--set", "flow.idle_timeout=0.5"]));
    passes(
        "directions",
        &quick(&["--set", "flow.direction=unidirectional", "--set", "selection.duplicates=drop_identical"]),
    );
    passes("folds and tuning", &["run", "tuned"]);
    passes(
        "grouped folds, repeated",
        &[
            "run",
            "tuned",
            "--set",
            "split.group=capture",
            "--set",
            "split.repeats=2",
            "--set",
            "split.few_groups=spread",
        ],
    );
    passes(
        "a random search",
        &["run", "tuned", "--set", "tune.search=random", "--set", "tune.budget=2", "--seeds", "2"],
    );
    passes("a ladder", &["ladder", "quick", "--folds", "2", "--rungs", "packets,captures"]);
    passes("a sweep", &["run", "quick", "--set", "sweep.feature.packets=[1, 2]", "--variants", "random"]);
    assert!(passed >= 16, "{passed}");
}

#[test]
fn bundles_of_all_kinds_of_data_and_models_pass() {
    let project = project();
    let mut passed = 0;
    let mut passes = |what: &str, arguments: &[&str]| {
        passes(&project, what, arguments);
        passed += 1;
    };
    project.write("experiments/deep.toml", deep(&["attention_lstm", "ensemble", "majority"]));
    passes("a deep model and a mean of models", &["run", "deep", "--device", "cpu"]);
    project.write("experiments/small.toml", every_stage::EXPERIMENT);
    passes("every stage", &["run", "small", "--device", "cpu"]);
    project.write("data/lone/chat-0.pcap", every_stage::capture(3000, 70));
    for name in ["web-0", "web-1", "mail-0", "mail-1"] {
        fs::copy(project.path(&format!("data/many/{name}.pcap")), project.path(&format!("data/lone/{name}.pcap")))
            .unwrap();
    }
    project.write("data/lone.toml", DATASET.replace("\"many\"", "\"lone\""));
    let left_out =
        "[split]\nmethod = \"grouped\"\ntrain = 0.4\nvalidation = 0.2\ntest = 0.4\nsmall_classes = \"leave_out\"\n";
    let small = small_experiment("lone", "kind", &["knn"], [1, 24]);
    let (small, _) = small.split_once("[split]").unwrap();
    project.write("experiments/lone.toml", format!("{small}{left_out}"));
    passes("a class that is left out", &["run", "lone"]);
    let two =
        small.replace("[\"lone\"]", "[\"many\", \"lone\"]").replace("kind\"", "kind\"\nclasses = [\"web\", \"mail\"]");
    project.write("experiments/two.toml", format!("{two}[split]\nmethod = \"dataset\"\ntest_datasets = [\"lone\"]\n"));
    passes("another dataset", &["run", "two"]);
    write_points(&project);
    let points = small_experiment("points", "kind", &["knn"], [1, 24]).replace("packets = 1\nbytes = 24\n", "");
    project.write("experiments/points.toml", points + "[model.knn]\ninput = \"statistics\"\n");
    passes("a feature file", &["run", "points"]);
    project.done(&["split", "plain", "--variants", "random", "-o", "split.csv"]);
    let (head, _) = PLAIN.split_once("[variant.random.split]").unwrap();
    project.write("experiments/given.toml", format!("{head}[split]\nmethod = \"file\"\npath = \"split.csv\"\n"));
    passes("a split file", &["run", "given"]);
    assert!(passed >= 6, "{passed}");
    // Published flows without captures.
    let published = crate::published::project();
    let folder = run(&published, &["run", "small", "--models", "knn,random_forest"]);
    passes_as_it_is(&published, "a published layout", &folder);
}

fn deep(models: &[&str]) -> String {
    small_experiment("many", "kind", models, [2, 24]).replace("seeds = [0]", "seeds = [0, 1]")
        + "[model.attention_lstm]\nlstm = 4\ndense = 4\nepochs = 2\nbatch = 8\n\
           elmo = { embedding = 4, hidden = 4, layers = 1, epochs = 1, batch = 8 }\n\
           [model.ensemble]\nof = [\"majority\", \"attention_lstm\"]\n"
}

#[test]
fn external_and_imported_models_pass_and_their_cards_say_what_they_are() {
    if !has_python() {
        return;
    }
    let project = external::project();
    let folder = run(&project, &["run", "points"]);
    let bundle = passes_as_it_is(&project, "external", &folder);
    let files = read(&bundle);
    let cards: serde_json::Value = serde_json::from_slice(&files["cards.json"]).unwrap();
    assert_eq!((&cards[0]["model"], &cards[0]["implementation"]), (&"faulty".into(), &"external".into()));
    let program = &cards[0]["program"];
    assert_eq!(program["digest"].as_str().unwrap().len(), 64, "{program}");
    assert!(program["versions"].as_str().unwrap().contains("Python") && program["run"][0] == "python3", "{program}");
    // The check does not need the model.
    let elsewhere = Project::new();
    fs::copy(&bundle, elsewhere.path("there.etcbundle")).unwrap();
    let (code, printed) = check(&elsewhere, "there.etcbundle");
    assert_eq!(code, Some(0), "{printed}");
    // Missing fits of it are reported.
    let mut tampered = Tampered(files);
    tampered.edit_json("run.json", |run| run["fits"].as_array_mut().unwrap().retain(|fit| fit["model"] != "faulty"));
    tampered.retain_lines("records.csv", |line| !line.contains(",faulty,"));
    tampered.0.retain(|name, _| !name.contains("-faulty-"));
    write(&elsewhere.path("there.etcbundle"), &tampered.0);
    let (code, printed) = check(&elsewhere, "there.etcbundle");
    assert!(
        code == Some(1) && printed.contains("fits: run.json: the experiment names faulty, which has no fit"),
        "{printed}"
    );

    let predictions =
        fs::read_to_string(project.path(&format!("{folder}/predictions/default-majority-statistics-seed0.csv")))
            .unwrap();
    project.write("mine.csv", predictions);
    let folder = run(&project, &["import", "mine.csv", "--experiment", "points", "--model", "notebook"]);
    let files = read(&passes_as_it_is(&project, "imported", &folder));
    let cards: serde_json::Value = serde_json::from_slice(&files["cards.json"]).unwrap();
    assert_eq!((&cards[0]["model"], &cards[0]["version"]), (&"notebook".into(), &serde_json::Value::Null));
    assert!(cards[0]["notes"][0].as_str().unwrap().starts_with("imported: predicted elsewhere, SHA-256 of the file "));
}

#[test]
fn files_that_are_no_bundles_and_runs_that_cannot_be_packed_are_refused() {
    let project = project();
    project.write("other.etcbundle", "no archive");
    project.refused(
        &["submission", "check", "other.etcbundle"],
        &["other.etcbundle: not a bundle as written by `etcbench submission pack`"],
    );
    project.refused(&["submission", "check", "missing.etcbundle"], &["missing.etcbundle: "]);
    let folder = run(&project, &["run", "plain", "--variants", "random", "--seeds", "3"]);
    let bundle = pack(&project, &folder);
    // The name contains the identity, which is also printed.
    let name = bundle.file_name().unwrap().to_str().unwrap();
    let identity = sha256(&read(&bundle)["bundle.json"]);
    assert_eq!(name, format!("plain-many-full-{}.etcbundle", &identity[..16]));
    fs::copy(&bundle, project.path("plain-many-full-0123456789abcdef.etcbundle")).unwrap();
    let (code, printed) = check(&project, "plain-many-full-0123456789abcdef.etcbundle");
    assert!(
        code == Some(1) && printed.contains("is named 0123456789abcdef, but the identity of its content begins with"),
        "{printed}"
    );
    let cut = fs::read(&bundle).unwrap();
    project.write("cut.etcbundle", &cut[..cut.len() / 2]);
    project.refused(&["submission", "check", "cut.etcbundle"], &["cut.etcbundle: "]);
    let records = fs::read_to_string(project.path(&format!("{folder}/records.csv"))).unwrap();
    project.write(&format!("{folder}/records.csv"), records.replacen("0.", "1.", 1));
    project.refused(
        &["submission", "pack", &folder, "-o", "."],
        &["the run was changed after it was written and is not packed: records.csv: was changed"],
    );
    project.write(&format!("{folder}/records.csv"), records);
    fs::remove_file(project.path(&format!("{folder}/flows/random.csv"))).unwrap();
    fs::remove_file(project.path(&format!("{folder}/SHA256SUMS"))).unwrap();
    project.refused(&["submission", "pack", &folder, "-o", "."], &["there are no flows/*.csv", "run it again"]);
}

#[test]
fn a_variant_under_its_former_name_passes_and_shares_a_table_with_the_current_one() {
    let project = project();
    fs::create_dir(project.path("bundles")).unwrap();
    for (name, model) in [("as_published", "knn"), ("random_split", "decision_tree")] {
        project.write("experiments/plain.toml", PLAIN.replace("variant.random.", &format!("variant.{name}.")));
        let folder = run(&project, &["run", "plain", "--models", model]);
        let bundle = pack(&project, &folder);
        let (code, printed) = check(&project, bundle.file_name().unwrap().to_str().unwrap());
        assert_eq!(code, Some(0), "{name}: {printed}");
        let table = fs::read_to_string(project.path(&format!("{folder}/tables/plain.md"))).unwrap();
        assert!(table.contains(name), "a run shows the names that it has: {table}");
        fs::rename(&bundle, project.path("bundles").join(bundle.file_name().unwrap())).unwrap();
    }
    project.done(&["leaderboard", "bundles", "-o", "site"]);
    let table = fs::read_to_string(project.path("site/leaderboard.csv")).unwrap();
    let rows: Vec<BTreeMap<String, String>> =
        csv::Reader::from_reader(table.as_bytes()).deserialize().map(Result::unwrap).collect();
    let random: Vec<_> = rows.iter().filter(|row| row["variant"] == "random_split").collect();
    assert_eq!(random.len(), 3, "{table}");
    assert!(
        random.iter().all(|row| row["division"] == random[0]["division"] && !row["division"].is_empty()),
        "{table}"
    );
}

#[test]
fn a_bundle_of_another_version_is_checked_by_the_metrics_it_has() {
    let project = project();
    let folder = run(&project, &["run", "plain", "--variants", "random"]);
    let mut older = Tampered(read(&pack(&project, &folder)));
    older.edit_json("run.json", |run| run["provenance"]["version"] = "0.0.9".into());
    older.retain_lines("records.csv", |line| !line.contains(",log_loss,"));
    older.replace("tables/plain.md", "| knn", "| KNN");
    write(&project.path("older.etcbundle"), &older.0);
    let (code, printed) = check(&project, "older.etcbundle");
    assert!(code == Some(0) && printed.contains("the bundle is from etcbench 0.0.9, and this is "), "{printed}");
    older.edit_record(&[",macro_f1,"], |value| value + 0.01);
    let mut first = true;
    older.edit("records.csv", |text| {
        let kept = text.lines().filter(|line| !line.contains(",balanced_accuracy,") || !std::mem::take(&mut first));
        kept.map(|line| format!("{line}\n")).collect()
    });
    write(&project.path("older.etcbundle"), &older.0);
    let (code, printed) = check(&project, "older.etcbundle");
    assert!(code == Some(1) && printed.contains("records: records.csv: macro_f1 ("), "{printed}");
    assert!(printed.contains("balanced_accuracy (knn on bytes, random, seed 0, fold 0) is missing"), "{printed}");
}

#[test]
fn a_leaderboard_is_of_the_bundles_that_pass_and_is_the_same_bytes_again() {
    let project = project();
    let (plain, more) =
        (run(&project, &["run", "plain"]), run(&project, &["run", "plain", "--models", "decision_tree"]));
    let ladder = run(&project, &["ladder", "plain", "--folds", "3", "--rungs", "flows,captures"]);
    fs::create_dir(project.path("bundles")).unwrap();
    for run in [&plain, &more, &ladder] {
        let bundle = pack(&project, run);
        fs::rename(&bundle, project.path("bundles").join(bundle.file_name().unwrap())).unwrap();
    }
    let site = |folder: &str| -> (Option<i32>, String, String) {
        let output = project.etcbench(&["leaderboard", "bundles", "-o", folder]);
        let read = |name: &str| fs::read_to_string(project.path(&format!("{folder}/{name}"))).unwrap();
        (output.status.code(), read("index.html"), read("leaderboard.csv"))
    };
    let (code, page, table) = site("site");
    assert_eq!(code, Some(0));
    assert!(site("again") == (code, page.clone(), table.clone()), "the same bundles give other bytes");
    // Models of two bundles share a table, since they have the same splits; each rung is a separate table.
    let rows: Vec<BTreeMap<String, String>> =
        csv::Reader::from_reader(table.as_bytes()).deserialize().map(Result::unwrap).collect();
    let rows_of = |experiment: &str, variant: &str| {
        let wanted = |row: &&BTreeMap<String, String>| row["experiment"] == experiment && row["variant"] == variant;
        rows.iter().filter(wanted).collect::<Vec<_>>()
    };
    let random = rows_of("plain", "random");
    assert_eq!(random.len(), 4, "{table}");
    assert_eq!(random.iter().map(|row| &row["division"]).collect::<std::collections::BTreeSet<_>>().len(), 1);
    assert_eq!(random.iter().map(|row| &row["bundle"]).collect::<std::collections::BTreeSet<_>>().len(), 2);
    let score = |row: &BTreeMap<String, String>| row["macro_f1"].parse::<f64>().unwrap();
    assert!(random.is_sorted_by(|left, right| score(left) >= score(right)), "{table}");
    assert!(
        random.iter().all(|row| !row["mean_rank"].is_empty() && !row["interval_low"].is_empty() && row["fits"] == "3")
    );
    assert_eq!(rows_of("plain-ladder", "captures-masked").len(), 3);
    for word in [
        "plain-ladder on many, full: captures",
        "critical difference",
        "Score over cost",
        "id=\"cards\"",
        "id=\"history\"",
    ] {
        assert!(page.contains(word), "{word}");
    }
    // A bundle that fails the check is named, but is not an entry.
    let first = fs::read_dir(project.path("bundles")).unwrap().next().unwrap().unwrap().path();
    let mut tampered = Tampered(read(&first));
    tampered.edit_record(&[",macro_f1,"], |value| value + 0.01);
    write(&project.path("bundles/better.etcbundle"), &tampered.0);
    project.write("bundles/none.etcbundle", "no archive");
    let (code, page, refused) = site("site");
    assert!(code == Some(1) && refused == table);
    for word in ["<b>better.etcbundle</b>", "records: records.csv: macro_f1", "<b>none.etcbundle</b>", "not a bundle"] {
        assert!(page.contains(word), "{word}");
    }
    project.refused(&["leaderboard", "data", "-o", "site"], &["data: contains no bundles (*.etcbundle)"]);
}

#[test]
fn a_bundle_is_run_again_where_its_data_is() {
    let project = project();
    let folder = run(&project, &["run", "plain"]);
    let bundle = pack(&project, &folder);
    let name = bundle.file_name().unwrap().to_str().unwrap().to_owned();
    let again = |name: &str| {
        let output = project.etcbench(&["submission", "check", "--rerun", name]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, printed) = again(&name);
    assert!(code == Some(0) && printed.contains("nothing found, and the same when rerun"), "{printed}");
    // Results of other settings, consistently in all files: only a rerun reveals this.
    let other = run(&project, &["run", "plain", "--set", "model.knn.k=25"]);
    let invented = project.path("results/invented");
    for path in every_stage::files(&project.path(&other)) {
        let target = invented.join(path.strip_prefix(project.path(&other)).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&path, target).unwrap();
    }
    fs::remove_file(invented.join("SHA256SUMS")).unwrap();
    let experiment = fs::read_to_string(invented.join("experiment.toml")).unwrap();
    assert!(experiment.contains("k = 25"), "{experiment}");
    fs::write(invented.join("experiment.toml"), experiment.replace("k = 25", "k = 3")).unwrap();
    let name = pack(&project, "invented").file_name().unwrap().to_str().unwrap().to_owned();
    let (code, printed) = check(&project, &name);
    assert_eq!(code, Some(0), "{printed}");
    let (code, printed) = again(&name);
    assert!(
        code == Some(1) && printed.contains("rerun: records.csv: accuracy of knn on bytes, random, is claimed as"),
        "{printed}"
    );
    // Other data under the same name.
    project.write("data/many/web-0.pcap", every_stage::capture(7000, 66));
    let (code, printed) = again(&name);
    assert!(
        code == Some(1) && printed.contains("rerun: manifests/many.json: 1 difference(s) from the data here"),
        "{printed}"
    );
}

#[test]
fn an_appendix_says_what_the_run_knows_and_nothing_else() {
    let project = project();
    let folder = run(&project, &["run", "tuned"]);
    project.done(&["appendix", &folder, "-o", "appendix.md"]);
    let text = fs::read_to_string(project.path("appendix.md")).unwrap();
    for line in [
        "# Reproducibility: Tuned",
        "- **Experiment**: tuned on many, size full",
        "- **many: description**: Two classes, four captures each",
        "- **many: licence**: Unknown: the definition of the dataset states none; to be filled in by the author.",
        "- **Flows of default**: 80: mail 40; web 40",
        "- **Seeds**: 0",
        "- **knn: search**: {\"search\":\"grid\",\"budget\":3,\"space\":{\"k\":\\[1,3,9\\]}}",
        "- **Artifacts Available**: Unknown to the run; to be filled in by the author.",
        "- **Broader impacts**: Unknown to the run; to be filled in by the author.",
        "- **Weights**: Not saved with the run",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let latex = String::from_utf8(project.done(&["appendix", &folder, "--format", "latex", "-o", "-"]).stdout).unwrap();
    assert!(latex.starts_with("\\section{Reproducibility: Tuned}\n") && latex.contains("random\\_forest"), "{latex}");
    assert_eq!(latex.matches("\\begin{description}").count(), latex.matches("\\end{description}").count());
    // Both formats have the same content.
    assert_eq!(latex.matches("\\item[").count(), text.matches("\n- **").count());
}

#[test]
fn the_rules_in_the_repository_are_those_that_are_checked() {
    let rules = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("leaderboard/RULES.md")).unwrap();
    assert!(
        rules.contains(&etcbench::submission::rules_table()),
        "leaderboard/RULES.md lacks\n{}",
        etcbench::submission::rules_table()
    );
    for rule in etcbench::submission::RULES {
        assert!(!rule.asks.is_empty() && rule.shown_by.trim_end_matches(')').ends_with('.'), "{}", rule.name);
    }
}
