//! A project with an external model in plain Python (`tests/fixtures/external/faulty`), which needs only `python3`.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Project, write_points};

/// Returns whether Python is installed; prints a message if not.
pub(crate) fn has_python() -> bool {
    let found = Command::new("python3").args(["-c", "import sys; sys.exit(sys.version_info < (3, 8))"]).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: there is no python3");
    }
    found
}

/// Copies a model's folder to a project's `models/`, under a name.
pub(crate) fn add_model(project: &Project, source: &str, name: &str) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let target = format!("models/{name}/{}", path.file_name().unwrap().to_str().unwrap());
            project.write(&target, fs::read(&path).unwrap());
        }
    }
}

/// A project with the model `faulty`, sixty points of three classes, and an experiment `points` of the model and a
/// native one.
pub(crate) fn project() -> Project {
    let project = Project::new();
    write_points(&project);
    add_model(&project, "tests/fixtures/external/faulty", "faulty");
    project.write(
        "experiments/points.toml",
        "title = \"Points\"\nseeds = [0]\nmodels = [\"faulty\", \"majority\"]\n[dataset]\nnames = [\"points\"]\n\
         [selection]\nlabel = \"kind\"\n[split]\nmethod = \"stratified\"\ntrain = 0.5\nvalidation = 0.25\ntest = 0.25\n\
         [model.majority]\ninput = \"statistics\"\n",
    );
    project
}

/// Returns the command lines of all processes that contain `mark`.
#[cfg(target_os = "linux")]
pub(crate) fn processes_with(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        if entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(mark) {
                found.push(line);
            }
        }
    }
    found
}
