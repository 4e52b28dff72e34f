//! What the end-to-end tests share: a project folder of their own and the real binary.

#[allow(dead_code, reason = "not every test file runs it")]
pub mod every_stage;
#[allow(dead_code, reason = "not every test file needs faults")]
#[cfg(target_os = "linux")]
pub mod faults;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A copy of the project's declarative files in a temporary folder, where runs leave their results.
pub struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for part in ["experiments", "experiments/sizes", "data", "paper/published", "results/tolerances"] {
            let target = folder.path().join(part);
            fs::create_dir_all(&target).unwrap();
            for entry in fs::read_dir(root.join(part)).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    fs::copy(&path, target.join(path.file_name().unwrap())).unwrap();
                }
            }
        }
        Self { folder }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    #[allow(dead_code, reason = "not every test file writes files of its own")]
    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Runs `etcbench` in the project's folder.
    pub fn etcbench(&self, arguments: &[&str]) -> Output {
        assert_cmd::Command::cargo_bin("etcbench")
            .expect("the binary is built with the tests")
            .current_dir(self.folder.path())
            .env_remove("ETCBENCH_DATA")
            .args(arguments)
            .output()
            .expect("the binary runs")
    }

    /// Runs `etcbench` and expects it to succeed.
    #[track_caller]
    pub fn done(&self, arguments: &[&str]) -> Output {
        let output = self.etcbench(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Runs `etcbench` and expects exit code 2 and one line on standard error that holds every one of
    /// `words`.
    #[track_caller]
    #[allow(dead_code, reason = "not every test file gives bad input")]
    pub fn refused(&self, arguments: &[&str], words: &[&str]) {
        let output = self.etcbench(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().last().unwrap_or_default();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        let messages = text.lines().filter(|line| line.starts_with("etcbench: ")).count();
        assert_eq!(messages, 1, "{arguments:?}: {text}");
        for word in words {
            assert!(line.contains(word), "{arguments:?}: `{word}` is not in: {line}");
        }
    }
}
