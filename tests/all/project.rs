//! Finding the project and resolving names: an empty folder, a folder inside a project, a user's own project;
//! experiments and runs by name in every command.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::common::{every_stage, small_experiment};

fn etcbench(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = assert_cmd::Command::cargo_bin("etcbench").unwrap();
    command.current_dir(folder).env_remove("ETCBENCH_DATA").args(arguments).output().unwrap()
}

fn printed(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn an_empty_folder_has_what_comes_with_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let (listed, _) = printed(&etcbench(folder.path(), &["list"]));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for part in ["experiments", "data"] {
        for entry in fs::read_dir(root.join(part)).unwrap() {
            let path = entry.unwrap().path();
            let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".toml") else { continue };
            // A file without a title is only a base for others.
            if fs::read_to_string(&path).unwrap().lines().any(|line| line.starts_with("title = ")) {
                assert!(listed.contains(&format!("\n  {name}: ")), "{name} in {listed}");
            }
        }
    }
    // The paper's printed tables can be audited and its experiments found; the captures are missing.
    assert_eq!(etcbench(folder.path(), &["audit"]).status.code(), Some(1));
    let missing = etcbench(folder.path(), &["run", "table2"]);
    assert_eq!(missing.status.code(), Some(2));
    let (_, errors) = printed(&missing);
    let lines: Vec<&str> = errors.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("etcbench: dataset iscxvpn2016 not found;"), "{errors}");
    assert_eq!(lines[2], "  without it: etcbench run table2 --data synth --size demo");
    // Nothing is written unless requested.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    // Folders with the names of a project's folders but other content do not make their parent a project.
    for name in ["experiments", "data", "below"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let below = etcbench(&folder.path().join("below"), &["cache"]);
    let shown = String::from_utf8_lossy(&below.stdout);
    assert!(below.status.success() && shown.contains("./results/cache") && !shown.contains("../"), "{shown}");
}

#[test]
fn units_find_the_experiments_that_come_with_the_program() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/lab");
    std::os::unix::fs::symlink(lab, folder.path().join("data/lab")).unwrap();
    let run = etcbench(folder.path(), &["run", "table2", "--data", "lab", "--models", "majority", "--jobs", "2"]);
    let (table, errors) = printed(&run);
    assert!(run.status.success() && table.contains("| majority"), "{errors}");
    assert!(errors.contains("6 fits of 6 units"), "{errors}");
}

#[test]
fn a_new_project_runs_its_first_experiment() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".gitignore"), "mine").unwrap();
    assert!(etcbench(folder.path(), &["init"]).status.success());
    assert_eq!(fs::read_to_string(folder.path().join(".gitignore")).unwrap(), "mine");
    let experiment = folder.path().join("experiments/first.toml");
    let written = fs::read_to_string(&experiment).unwrap();
    fs::write(&experiment, written.replace("[\"svm\", \"random_forest\"]", "[\"random_forest\"]")).unwrap();
    let again = etcbench(folder.path(), &["init"]);
    assert!(again.status.success());
    assert!(fs::read_to_string(&experiment).unwrap().contains("[\"random_forest\"]"), "what is there stays");
    // From a subfolder, by name.
    let run = etcbench(&folder.path().join("models"), &["run", "first", "--size", "ci"]);
    assert!(run.status.success(), "{}", printed(&run).1);
    assert!(folder.path().join("results/first-synth-ci/records.csv").is_file());
    let (runs, _) = printed(&etcbench(&folder.path().join("data/synth"), &["list", "runs"]));
    assert!(runs.starts_with("first-synth-ci: My first experiment"), "{runs}");
}

#[test]
fn experiments_and_runs_go_by_their_names() {
    let project = every_stage::project();
    project.write("experiments/small.toml", small_experiment("small", "kind", &["knn"], [2, 24]));
    for name in ["small", "small.toml", "experiments/small", "experiments/small.toml"] {
        let (_, stderr) = printed(&project.done(&["run", name]));
        assert!(stderr.contains("results in ./results/small-small-full"), "{name}: {stderr}");
    }
    project.done(&["split", "small", "-o", "split.csv"]);
    project.done(&["data", "leaks", "small"]);
    for name in ["small", "small-small-full", "results/small-small-full"] {
        project.done(&["tables", name]);
        project.done(&["check", name, "--update"]);
    }
    let near = "did you mean `small`?";
    for command in
        [&["run"][..], &["ladder"], &["split", "-o", "s.csv"], &["data", "leaks"], &["export", "-o", "arrays"]]
    {
        project.refused(&[command, &["smal"]].concat(), &["smal: no such experiment", near]);
    }
    for command in ["tables", "check"] {
        let words = ["no such experiment or run", "did you mean `small-small-full`?"];
        project.refused(&[command, "small-smal-full"], &words);
    }
}
