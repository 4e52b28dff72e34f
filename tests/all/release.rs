//! `scripts/release --check`: versions agree and packages are complete here, and what is wrong in another tree is found.

use std::path::Path;
use std::process::Command;

use crate::common::external::has_python;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/release");

/// Runs the checks of a tree and returns the exit code and what they print.
fn check(script: &Path, checks: &[&str]) -> (i32, String) {
    let output = Command::new("python3").arg(script).arg("--check").args(checks).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), printed)
}

#[test]
fn versions_agree_and_packages_are_complete() {
    if !has_python() {
        return;
    }
    let (code, printed) = check(Path::new(SCRIPT), &["versions", "packages"]);
    assert_eq!(code, 0, "{printed}");
    assert_eq!(printed.lines().filter(|line| line.starts_with("ok: ")).count(), 2, "{printed}");
}

/// A workspace of two packages, in which everything is wrong that a check looks for.
const TREE: [(&str, &str); 11] = [
    (
        "Cargo.toml",
        r#"
        [workspace]
        members = ["crates/storage"]
        [package]
        name = "etcbench"
        version = "1.2.0"
        edition = "2024"
        description = "The program."
        license = "MIT"
        readme = "README.md"
        documentation = "https://docs.rs/etcbench"
        exclude = ["data/two.toml"]
        [dependencies]
        etcbench-storage = { path = "crates/storage", version = "1.1.0" }
        "#,
    ),
    ("README.md", "# etcbench"),
    ("LICENSE-MIT", "MIT"),
    ("LICENSE-APACHE", "Apache"),
    ("build.rs", r#"const FOLDERS: [(&str, &str); 1] = [("data", "toml")]; fn main() {}"#),
    ("data/one.toml", ""),
    ("data/two.toml", ""),
    ("CHANGELOG.md", "# Changelog\n\n## Unreleased\n\n- A change.\n\n## 1.1.0\n\n- Another.\n"),
    ("CITATION.cff", "cff-version: 1.2.0\nversion: 1.1.0\n"),
    ("pyproject.toml", "[project]\nname = \"etcbench\"\nversion = \"1.0.0\"\n"),
    (
        "crates/storage/Cargo.toml",
        r#"
        [package]
        name = "etcbench-storage"
        version = "1.1.0"
        edition = "2024"
        description = "Files."
        license = "MIT"
        include = ["src/**/*.rs"]
        "#,
    ),
];

const LIBRARY: &str = r#"
#![doc = "Files."]
pub const PAGE: &str = include_str!("page.html");
#[cfg(test)]
mod tests {
    const FIXTURE: &str = include_str!("../../fixture.json");
}
"#;

const LOCK: &str = r#"version = 4

[[package]]
name = "etcbench"
version = "1.2.0"
dependencies = [
 "etcbench-storage",
]

[[package]]
name = "etcbench-storage"
version = "1.1.0"
"#;

#[test]
fn every_check_finds_what_it_looks_for() {
    if !has_python() {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = tree.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    for (path, text) in TREE {
        write(path, text);
    }
    write("src/main.rs", "fn main() {}");
    write("crates/storage/src/lib.rs", LIBRARY);
    write("crates/storage/src/page.html", "");
    write("Cargo.lock", LOCK);
    write("scripts/release", &std::fs::read_to_string(SCRIPT).unwrap());
    let script = tree.path().join("scripts/release");
    let (code, printed) = check(&script, &["changelog", "versions", "packages"]);
    assert_eq!(code, 1, "{printed}");
    let problems: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let expected = [
        "CHANGELOG.md: no section ## 1.2.0, or nothing in it",
        "CHANGELOG.md: entries under Unreleased; move them into the section of the version that is released",
        "etcbench: requires etcbench-storage ^1.1.0, not 1.2.0",
        "etcbench-storage: version 1.1.0, not 1.2.0",
        "CITATION.cff: version 1.1.0, not 1.2.0",
        "pyproject.toml: version 1.0.0, not 1.2.0 and not dynamic",
        "etcbench: its package lacks data/two.toml",
        "etcbench-storage: no readme in Cargo.toml",
        "etcbench-storage: cargo package --list: warning: manifest has no documentation, homepage or repository",
        "etcbench-storage: its package lacks LICENSE-APACHE",
        "etcbench-storage: its package lacks LICENSE-MIT",
        "etcbench-storage: its package lacks README.md",
        "etcbench-storage: its package lacks src/page.html",
    ];
    assert_eq!(problems, expected, "{printed}");
    // Nothing is committed in this tree, which is not a repository.
    let (code, printed) = check(&script, &["tree"]);
    assert_eq!(code, 2, "{printed}");
    let (code, printed) = check(&script, &["spelling"]);
    assert_eq!((code, printed.contains("there are changelog, versions, tree, packages")), (2, true), "{printed}");
}

#[test]
#[cfg(target_os = "linux")]
fn the_root_of_a_container_replaces_no_folder_of_others() {
    // A system in which the program is installed.
    let system = tempfile::tempdir().unwrap();
    let program = assert_cmd::cargo::cargo_bin("etcbench");
    std::fs::create_dir_all(system.path().join("usr/bin")).unwrap();
    std::fs::copy(&program, system.path().join("usr/bin/etcbench")).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/container-root");
    let output = Command::new(script).arg("--binary").arg(program).arg(system.path()).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && message.contains("has other files"), "{message}");
    assert!(system.path().join("usr/bin/etcbench").is_file());
}
