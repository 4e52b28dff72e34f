//! The numbers of leak reports, recomputed in Python from the arrays that `etcbench export` writes.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::Project;

#[test]
fn the_figures_of_table_3_follow_from_exported_arrays() {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/scikit-learn");
    let works = Command::new("python3").args(["-c", "import numpy"]).env("PYTHONPATH", &packages).output();
    if !works.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: numpy is not here; scripts/test-tools installs it with scikit-learn");
        return;
    }
    let project = Project::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/lab");
    std::os::unix::fs::symlink(&root, project.path("data/lab")).unwrap();
    project.done(&["run", "experiments/table3.toml", "--data", "lab", "--models", "majority", "--seeds", "2"]);
    project.done(&["export", "table3", "--data", "lab", "--seeds", "2", "-o", "arrays"]);
    let runs =
        std::fs::read_dir(project.path("results")).unwrap().map(|entry| entry.unwrap().path().join("leaks.json"));
    let leaks: PathBuf = runs.filter(|path| path.is_file()).collect::<Vec<_>>().remove(0);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/leaks/recompute.py");
    let output = Command::new("python3")
        .arg(script)
        .args([project.path("arrays"), leaks])
        .env("PYTHONPATH", &packages)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let checked: usize = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    assert!(checked > 1000, "{checked}");
}
