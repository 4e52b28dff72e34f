//! The ladder through the real binary: every number is reproduced from stored predictions, rungs and classes that the
//! data does not allow are named, and units and threads change nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Project, contents};

/// A project with the recorded captures of two classes, and an experiment on them.
fn project(selection: &str, models: &str) -> Project {
    let project = Project::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/lab");
    std::os::unix::fs::symlink(&root, project.path("data/lab")).unwrap();
    project.write(
        "experiments/two.toml",
        format!(
            "title = \"Few classes\"\nseeds = [0]\nmodels = [{models}]\n[dataset]\nnames = [\"lab\"]\n\
             [selection]\nmaximum_flows_per_class = 30\nfilter = {{ tunnel = \"non_vpn\" }}\n{selection}\n\
             [feature]\npackets = 3\nbytes = 48\n[ladder]\nfolds = 3\nrepeats = 2\nmasks = [\"ports\", \"ip_addresses\"]\n\
             [model.random_forest]\ntrees = 8\ninput = [\"bytes\", \"statistics\"]\n"
        ),
    );
    project
}

const CLASSES: &str = "label = \"application\"\nclasses = [\"dash\", \"hls\", \"mumble\", \"sip_rtp\"]";

/// Finds scikit-learn as installed by `scripts/test-tools`; prints a message if it is missing.
fn scikit_learn() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/scikit-learn");
    let works = Command::new("python3").args(["-c", "import sklearn, tomllib"]).env("PYTHONPATH", &folder).output();
    if folder.is_dir() && works.is_ok_and(|output| output.status.success()) {
        return Some(folder);
    }
    eprintln!("skipped: scikit-learn is not here; scripts/test-tools installs it");
    None
}

fn rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect()
}

#[test]
fn a_ladder_has_every_rung_and_its_numbers_are_those_of_its_predictions() {
    let project = project(CLASSES, "\"random_forest\", \"knn\", \"majority\"");
    let arguments = ["ladder", "two"];
    let output = project.done(&arguments);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    for word in ["| packets ", "| captures ", "the ladder: what its rungs give away", "can be told apart"] {
        assert!(printed.contains(word), "{word}: {printed}");
    }
    let run = project.path("results/two-ladder-lab-full");

    let steps = rows(&run.join("tables/two-ladder-steps.csv"));
    // A forest on statistics has no rung of random packets; every other model has all seven rungs, with masks and
    // without.
    assert_eq!(steps.len(), 2 * (7 + 6 + 7 + 7));
    assert!(run.join("tables/two-ladder-steps.svg").is_file());
    let score = |model: &str, rung: &str| {
        let row = steps.iter().find(|row| row["model"] == model && row["rung"] == rung && row["masks"] == "none");
        row.unwrap()["macro_f1"].parse::<f64>().unwrap()
    };
    assert!(score("random_forest", "flows at random") > score("majority", "flows at random") + 0.3);
    // In every repetition every flow is tested once, and no capture trains and tests.
    let tests = |variant: &str| {
        let splits = fs::read_dir(run.join("splits")).unwrap().map(|entry| entry.unwrap().path());
        splits
            .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{variant}-seed")))
            .map(|path| rows(&path))
            .collect::<Vec<_>>()
    };
    let captures = tests("captures-masked");
    assert_eq!(captures.len(), 6);
    let capture = |row: &BTreeMap<String, String>| row["flow_id"].rsplit_once('#').unwrap().0.to_owned();
    let mut tested: BTreeMap<String, usize> = BTreeMap::new();
    for split in &captures {
        let train: Vec<String> = split.iter().filter(|row| row["part"] != "test").map(capture).collect();
        for row in split.iter().filter(|row| row["part"] == "test") {
            assert!(!train.contains(&capture(row)));
            *tested.entry(row["flow_id"].clone()).or_default() += 1;
        }
    }
    assert!(!tested.is_empty() && tested.values().all(|&times| times == 2));

    // Units produce the same bits, whether or not they reuse the work of the first run.
    let before = contents(&run);
    let again = Project::new();
    std::os::unix::fs::symlink(project.path("data/lab").canonicalize().unwrap(), again.path("data/lab")).unwrap();
    fs::copy(project.path("experiments/two.toml"), again.path("experiments/two.toml")).unwrap();
    again.done(&[&arguments[..], &["--jobs", "2"]].concat());
    assert_eq!(contents(&again.path("results/two-ladder-lab-full")), before);
    // `report` and `tables` produce the same from stored results.
    project.done(&["tables", "two-ladder"]);
    assert_eq!(contents(&run), before);
    project.done(&["report"]);

    let Some(packages) = scikit_learn() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ladder/recompute.py");
    let output = Command::new("python3").arg(script).arg(&run).env("PYTHONPATH", packages).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let checked: usize = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    assert!(checked > 120, "{checked}");
}

#[test]
fn rungs_and_classes_that_the_data_does_not_allow_are_left_out_and_named() {
    // One class has one capture here, so no split by capture has it in train and test.
    let project = project(CLASSES, "\"random_forest\"");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/lab");
    fs::remove_file(project.path("data/lab")).unwrap();
    let mut of_mumble = 0;
    let mut copied = 0;
    for entry in walk(&root) {
        let relative = entry.strip_prefix(&root).unwrap();
        let name = relative.to_string_lossy().into_owned();
        let is_capture = name.starts_with("captures/") && !name.ends_with("captures.csv");
        let wanted = ["dash", "hls", "mumble", "sip_rtp"].iter().any(|class| name.contains(class));
        if is_capture && (!wanted || (name.contains("mumble") && std::mem::replace(&mut of_mumble, 1) == 1)) {
            continue;
        }
        copied += usize::from(is_capture);
        let target = project.path("data/lab").join(relative);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&entry, target).unwrap();
    }
    assert!(copied > 10, "{copied}");
    let definition = fs::read_to_string(project.path("data/lab.toml")).unwrap();
    project.write("data/lab.toml", format!("times = \"invented\"\n{definition}"));
    let output = project.done(&["ladder", "two", "--rungs", "flows,captures,time", "--folds", "2"]);
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(messages.contains("captures: class mumble is left out: it is in 1 capture, and needs 2"), "{messages}");
    assert!(messages.contains("time is left out: a dataset's packet times are invented"), "{messages}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains("Left out, time: a dataset's packet times are invented"), "{printed}");
    let named = "Left out, captures and captures-masked: class mumble, since it is in 1 capture, and needs 2";
    assert!(printed.contains(named), "{printed}");
    project.refused(&["ladder", "two", "--rungs", "time"], &["no rung of the ladder remains", "invented"]);
    project.refused(&["ladder", "two", "--rungs", "flow"], &["unknown rung `flow`", "flows"]);
    project.refused(&["ladder", "two", "--save-models"], &["--save-models does not work with ladders"]);
    project.refused(
        &["run", "experiments/two.toml", "--set", "selection.sample=\"packet\""],
        &["random_forest", "reads whole flows", "selection.sample"],
    );
}

#[test]
fn the_last_rung_tests_on_another_dataset_and_plain_variants_of_such_names_are_no_ladder() {
    let project = Project::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/lab");
    std::os::unix::fs::symlink(&root, project.path("data/lab")).unwrap();
    let arguments = ["--data", "lab", "--size", "ci", "--models", "majority,decision_tree"];
    let ladder = ["ladder", "table3", "--rungs", "flows,datasets", "--folds", "2", "--test-data", "lab-outside"];
    project.done(&[&ladder[..], &arguments].concat());
    let run = fs::read_dir(project.path("results")).unwrap().map(|entry| entry.unwrap().path());
    let run = run.filter(|path| path.join("records.csv").is_file()).collect::<Vec<_>>().remove(0);
    let split = rows(&run.join("splits/datasets-seed0.csv"));
    assert!(split.iter().any(|row| row["part"] == "test") && split.iter().any(|row| row["part"] == "validation"));
    for row in split {
        assert_eq!(row["flow_id"].starts_with("lab-outside/"), row["part"] == "test", "{row:?}");
    }
    let steps = rows(&run.join("tables/table3-ladder-steps.csv"));
    assert!(steps.iter().any(|row| row["rung"] == "another dataset" && !row["loss"].is_empty()));
    project.refused(&["ladder", "table3", "--rungs", "datasets"], &["requires `test_datasets`", "--test-data NAME"]);

    // Variants of an ordinary experiment may have these names and are read like any others.
    project.write(
        "experiments/named.toml",
        "extends = \"paper.toml\"\ntitle = \"Named\"\n[dataset]\nnames = [\"lab\"]\n[selection]\n\
         maximum_flows_per_class = 20\nfilter = { tunnel = \"vpn\" }\nlabel = \"category\"\n[variant.flows]\n\
         [variant.captures]\nsplit = { method = \"grouped\" }\n",
    );
    let output = project.done(&["run", "experiments/named.toml", "--models", "majority", "--seeds", "2"]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!printed.contains("the ladder") && !printed.contains("Rungs:"), "{printed}");
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
