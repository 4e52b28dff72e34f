//! Fault injection: the library preloaded between an unmodified etcbench and the C library (`fixtures/faults/faults.c`),
//! which faults are tried, and what a program that met one must print.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Compiles the library, once.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/faults/faults.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}.so", std::process::id()));
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .output()
            .expect("a C compiler, which the build needs too");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        library
    })
}

/// Whether the environment requests every fault.
pub(crate) fn all_faults() -> bool {
    std::env::var_os("ETCBENCH_ALL_FAULTS").is_some()
}

/// Returns `few` evenly spaced numbers from 1 to `all`, or every one if the environment requests all.
pub(crate) fn chosen(all: u64, few: u64) -> Vec<u64> {
    if all_faults() {
        return (1..=all).collect();
    }
    let mut numbers: Vec<u64> = (0..few).map(|index| 1 + (all - 1) * index / (few - 1).max(1)).collect();
    numbers.dedup();
    numbers
}

/// A program that met a fault either succeeds or prints one line with the reason and has the exit code of an error. It
/// never panics.
#[track_caller]
pub(crate) fn succeeded(output: &Output, what: &str) -> bool {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("panicked"), "{what}: {text}");
    if !output.status.success() {
        assert!(matches!(output.status.code(), Some(2 | 3)), "{what}: {:?} {text}", output.status);
        let line = text.lines().last().unwrap_or_default();
        assert!(line.starts_with("etcbench: "), "{what}: {text}");
    }
    output.status.success()
}
