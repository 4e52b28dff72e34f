//! Every model in either implementation produces the same bits with any number of threads, when repeated, with a cold
//! and a warm cache, after being killed, and in whatever order files are listed. `scripts/build-check` checks the same
//! for a debug build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::every_stage::{self, command, command_of, files};
use crate::common::faults::library;
use sha2::{Digest, Sha256};

const MODELS: [&str; 8] = [
    "random_forest",
    "knn",
    "svm",
    "gradient_boosting",
    "logistic_regression",
    "attention_lstm",
    "decision_tree",
    "majority",
];
const WITH_REFERENCE: [&str; 5] = ["random_forest", "knn", "svm", "gradient_boosting", "attention_lstm"];

/// Returns the folder of a run's predictions, which contain every probability in full precision.
fn predictions(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let results = files(&folder.join("results"));
    let paths = results.into_iter().filter(|path| path.to_string_lossy().contains("/predictions/"));
    paths.map(|path| (path.file_name().unwrap().into(), std::fs::read(&path).unwrap())).collect()
}

#[track_caller]
fn run(folder: &Path, arguments: &[String], environment: &[(&str, String)]) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    run_of(command(folder), folder, arguments, environment)
}

#[track_caller]
fn run_of(
    mut command: Command,
    folder: &Path,
    arguments: &[String],
    environment: &[(&str, String)],
) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    for entry in std::fs::read_dir(folder.join("results")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("small-")) {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    let output = command.args(arguments).envs(environment.iter().cloned()).output().unwrap();
    let crashes = environment.iter().any(|(name, _)| *name == "FAULTS_CRASH");
    let expected = if crashes { 137 } else { 0 };
    assert_eq!(output.status.code(), Some(expected), "{}", String::from_utf8_lossy(&output.stderr));
    (!crashes).then(|| predictions(folder))
}

#[test]
fn the_same_bits_come_out_however_a_run_is_run() {
    let deep = &["attention_lstm"][..];
    for (implementation, encoder, models) in [
        ("fast", "frozen", &MODELS[..]),
        ("reference", "frozen", &WITH_REFERENCE[..]),
        ("fast", "fine_tuned", deep),
        ("reference", "fine_tuned", deep),
    ] {
        let project = every_stage::project();
        let folder = std::fs::canonicalize(project.path("")).unwrap();
        let mut arguments = vec!["--models".to_owned(), models.join(",")];
        arguments.extend(["--set".to_owned(), format!("model.attention_lstm.encoder=\"{encoder}\"")]);
        for model in models {
            arguments.extend(["--set".to_owned(), format!("tune.space.{model}={{}}")]);
            if implementation == "reference" {
                arguments.extend(["--set".to_owned(), format!("model.{model}.implementation=\"reference\"")]);
            }
        }
        let with = |more: &[&str]| {
            let more = more.iter().map(|&text| text.to_owned());
            arguments.iter().cloned().chain(more).collect::<Vec<String>>()
        };
        let state = tempfile::NamedTempFile::new().unwrap();
        let faults = |root: &str, name: &'static str, value: &str| {
            vec![
                ("LD_PRELOAD", library().to_string_lossy().into_owned()),
                ("FAULTS_ROOT", folder.join(root).to_string_lossy().into_owned()),
                ("FAULTS_STATE", state.path().to_string_lossy().into_owned()),
                (name, value.to_owned()),
            ]
        };
        let expected = run(&folder, &with(&["--no-cache", "--threads", "1"]), &[]).unwrap();
        // Two variants; k-nearest neighbours have two inputs.
        assert_eq!(expected.len(), 2 * (models.len() + usize::from(models.contains(&"knn"))));
        let same = |found: Option<BTreeMap<PathBuf, Vec<u8>>>, what: &str| {
            for (name, content) in &expected {
                let found = &found.as_ref().unwrap()[name];
                assert!(found == content, "{implementation} {encoder}, {what}: {} differs", name.display());
            }
        };
        same(run(&folder, &with(&["--no-cache", "--threads", "1"]), &[]), "again");
        same(run(&folder, &with(&["--no-cache", "--threads", "2"]), &[]), "2 threads");
        same(run(&folder, &with(&["--no-cache", "--threads", "4"]), &[]), "4 threads");
        let reversed = faults("", "FAULTS_REVERSE", "1");
        same(run(&folder, &with(&["--no-cache"]), &reversed), "files listed in another order");
        for crash in ["20", "60", "60"] {
            std::fs::write(state.path(), [0; 16]).unwrap();
            run(&folder, &with(&["--threads", "2"]), &faults("results", "FAULTS_CRASH", crash));
        }
        same(run(&folder, &with(&["--threads", "4"]), &[]), "after three kills");
        same(run(&folder, &with(&[]), &[]), "warm cache");
        std::fs::remove_dir_all(folder.join("results/cache")).unwrap();
        same(run(&folder, &with(&[]), &[]), "cold cache");
        if let Some(program) = std::env::var_os("ETCBENCH_OTHER_BUILD") {
            let other = command_of(Path::new(&program), &folder);
            same(run_of(other, &folder, &with(&["--no-cache"]), &[]), "another build");
        }
        let mut hasher = Sha256::new();
        for (name, content) in &expected {
            hasher.update(name.to_string_lossy().as_bytes());
            hasher.update(content);
        }
        println!(
            "{implementation} {encoder}: {} models, 8 ways of running, digest {}",
            models.len(),
            hex::encode(hasher.finalize())
        );
    }
}
