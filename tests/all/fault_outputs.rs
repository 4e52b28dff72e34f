//! Faults while a command writes an output: an operation fails, the disk is full, or the power is cut. The output is then
//! the older one, the new one, or absent, never a part of one, and the same command succeeds afterwards. `faults.rs` does
//! the same for the folder of a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::every_stage::{self, files, leftovers};
use crate::common::external;
use crate::common::faults::{all_faults, chosen, library, succeeded};
use crate::common::{Project, small_experiment};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// How an output looks after a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A file that exists before.
    File,
    /// A folder that appears whole.
    Folder,
    /// A folder of which every file is whole.
    Files,
}

/// Every command that writes something other than a run, with its output.
const COMMANDS: [(&str, &[&str], Kind); 14] = [
    ("flows.parquet", &["features", "data/small/one.pcap", "-o", "flows.parquet"], Kind::File),
    ("flows.csv", &["features", "data/small/one.pcap", "--format", "csv", "-o", "flows.csv"], Kind::File),
    ("answers.csv", &["classify", "model.safetensors", "data/small/one.pcap", "-o", "answers.csv"], Kind::File),
    ("split.csv", &["split", "small", "--variants", "whole", "-o", "split.csv"], Kind::File),
    ("leaks.md", &["data", "leaks", "small", "--variants", "whole", "-o", "leaks.md"], Kind::File),
    ("appendix.md", &["appendix", "small-small-full", "-o", "appendix.md"], Kind::File),
    ("manifest.csv", &["data", "verify", "small", "--manifest", "manifest.csv"], Kind::File),
    ("synth.pcap", &["data", "synth", "--packets", "50", "--active-flows", "5", "-o", "synth.pcap"], Kind::File),
    ("run.etcbundle", &["submission", "pack", "small-small-full", "-o", "run.etcbundle"], Kind::File),
    ("report.html", &["report", "small-small-full", "-o", "report.html"], Kind::File),
    ("arrays", &["export", "small", "-o", "arrays"], Kind::Folder),
    ("site", &["leaderboard", "bundles", "-o", "site"], Kind::Files),
    ("manual", &["man", "-o", "manual"], Kind::Files),
    ("new", &["init", "new"], Kind::Files),
];

/// What the output holds before, if it is a file.
const OLDER: &str = "older";

fn project() -> Project {
    let project = every_stage::project();
    let rest = "[model.random_forest]\ntrees = 4\n[variant.whole]\n";
    let experiment = small_experiment("small", "kind", &["random_forest"], [2, 24]);
    project.write("experiments/small.toml", experiment + rest);
    project.done(&["run", "small", "--save-models"]);
    let models = files(&project.path("results/small-small-full/models"));
    let model = models.iter().find(|path| path.extension().is_some_and(|end| end == "safetensors")).unwrap();
    fs::copy(model, project.path("model.safetensors")).unwrap();
    fs::create_dir(project.path("bundles")).unwrap();
    project.done(&["submission", "pack", "small-small-full", "-o", "bundles"]);
    for (name, _, kind) in COMMANDS {
        if kind == Kind::File {
            project.write(name, OLDER);
        }
    }
    project
}

fn copy(project: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    // Preserves the files' times, by which the cache identifies them.
    let source = project.join(".");
    assert!(Command::new("cp").arg("-a").arg(source).arg(folder.path()).status().unwrap().success());
    folder
}

/// Runs a command with faults in the project's folder; returns the number of its changes too.
fn run(folder: &Path, arguments: &[&str], faults: &[(&str, String)]) -> (Output, u64) {
    let state = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_etcbench"))
        .current_dir(folder)
        .env_remove("ETCBENCH_DATA")
        .env("LD_PRELOAD", library())
        .env("FAULTS_ROOT", folder)
        .env("FAULTS_STATE", state.path())
        .envs(faults.iter().map(|(name, value)| (name, value)))
        .args(arguments)
        // One thread, so that the order of changes is fixed.
        .args(["--threads", "1"])
        .output()
        .unwrap();
    let counters = fs::read(state.path()).unwrap();
    (output, u64::from_ne_bytes(counters[..8].try_into().unwrap()))
}

/// Returns the content of an output by path; nothing if it does not exist.
fn content(folder: &Path, name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let path = folder.join(name);
    let paths = if path.is_file() { vec![path] } else { files(&path) };
    let below = |path: &PathBuf| path.strip_prefix(folder).unwrap().to_owned();
    paths.iter().map(|path| (below(path), fs::read(path).unwrap())).collect()
}

/// The three faults of a change.
fn faults(change: u64) -> [(&'static str, Vec<(&'static str, String)>); 3] {
    let fail = |error: i32| vec![("FAULTS_FAIL", change.to_string()), ("FAULTS_ERRNO", error.to_string())];
    [
        ("it fails", fail(EIO)),
        ("the disk is full", [fail(ENOSPC), vec![("FAULTS_LASTING", "1".to_owned())]].concat()),
        ("the process ends", vec![("FAULTS_CRASH", change.to_string())]),
    ]
}

#[test]
fn an_output_is_the_older_one_or_the_new_one_whatever_fails() {
    let project = project();
    let mut tried = 0;
    for (name, arguments, kind) in COMMANDS {
        let folder = copy(&project.path(""));
        let (output, changes) = run(folder.path(), arguments, &[("FAULTS_CRASH", u64::MAX.to_string())]);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let expected = content(folder.path(), name);
        assert!(!expected.is_empty() && changes > 2, "{name}: {changes} changes");
        let older = BTreeMap::from([(PathBuf::from(name), OLDER.as_bytes().to_vec())]);
        for change in chosen(changes, 3) {
            for (fault, variables) in faults(change) {
                let folder = copy(&project.path(""));
                let folder = folder.path();
                let what = format!("{name}, change {change} of {changes}: {fault}");
                let (output, _) = run(folder, arguments, &variables);
                let found = content(folder, name);
                if fault == "the process ends" {
                    assert_eq!(output.status.code(), Some(137), "{what}");
                } else if succeeded(&output, &what) {
                    assert!(found == expected, "{what}: it succeeded with another output");
                }
                match kind {
                    Kind::File => assert!(found == older || found == expected, "{what}: neither old nor new"),
                    Kind::Folder => assert!(found.is_empty() || found == expected, "{what}: a part"),
                    Kind::Files => {
                        for (path, bytes) in &found {
                            let temporary = path.to_string_lossy().contains(".partial-");
                            assert!(temporary || expected.get(path) == Some(bytes), "{what}: {}", path.display());
                        }
                    }
                }
                tried += 1;
                // A new folder is asked for if there is one.
                if kind == Kind::Folder && found == expected {
                    continue;
                }
                let (again, _) = run(folder, arguments, &[]);
                assert!(again.status.success(), "{what}, again: {}", String::from_utf8_lossy(&again.stderr));
                assert!(content(folder, name) == expected, "{what}: another output afterwards");
            }
        }
        println!("{name}: {changes} changes");
    }
    println!("{tried} faults, all survived{}", if all_faults() { "" } else { " (a few of each command)" });
}

/// Tries faults in a command that writes a run, and compares the run's folder afterwards.
fn goes_on(project: &Project, arguments: &[&str]) {
    let source = project.path("");
    let own = |folder: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
        let found = every_stage::results_in(folder, &["results"]).into_iter();
        // What a failed removal leaves belongs to no run, and is gone after the next one.
        let is_left = |path: &Path| path.components().any(|part| part.as_os_str().to_string_lossy().starts_with('.'));
        found.filter(|(path, _)| !path.starts_with("results/cache") && !is_left(path)).collect()
    };
    let folder = copy(&source);
    let (output, changes) = run(folder.path(), arguments, &[("FAULTS_CRASH", u64::MAX.to_string())]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = own(folder.path());
    for change in chosen(changes, 3) {
        for (fault, variables) in faults(change) {
            let folder = copy(&source);
            let folder = folder.path();
            let what = format!("{arguments:?}, change {change} of {changes}: {fault}");
            let (output, _) = run(folder, arguments, &variables);
            if fault != "the process ends" && succeeded(&output, &what) {
                assert!(own(folder) == expected, "{what}: it succeeded with other results");
            }
            let (again, _) = run(folder, arguments, &[]);
            assert!(again.status.success(), "{what}, again: {}", String::from_utf8_lossy(&again.stderr));
            assert!(own(folder) == expected, "{what}: other results afterwards");
            assert_eq!(leftovers(folder), Vec::<PathBuf>::new(), "{what}");
        }
    }
    println!("{changes} changes of {arguments:?}");
}

#[test]
fn a_run_with_an_external_model_goes_on_after_any_fault() {
    if external::has_python() {
        goes_on(&external::project(), &["run", "points"]);
    }
}

#[test]
fn a_ladder_goes_on_after_any_fault() {
    goes_on(&project(), &["ladder", "small", "--rungs", "packets,flows", "--folds", "2"]);
}
