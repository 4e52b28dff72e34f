//! Shared code of the end-to-end tests: a temporary project and the real binary.

#[cfg(unix)]
pub(crate) mod cluster;
pub(crate) mod every_stage;
pub(crate) mod external;
#[cfg(target_os = "linux")]
pub(crate) mod faults;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A copy of the project's declarative files in a temporary folder, where runs write their results.
pub(crate) struct Project {
    folder: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Project {
    pub(crate) fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        Self::fill(temporary.path().to_owned(), Some(temporary))
    }

    /// A project shared by several tests of one file. Since the last user is unknown, the next test run removes it.
    pub(crate) fn shared(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        Self::fill(folder, None)
    }

    fn fill(folder: PathBuf, temporary: Option<tempfile::TempDir>) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for part in ["experiments", "experiments/sizes", "data", "paper/published", "results/tolerances"] {
            let target = folder.join(part);
            fs::create_dir_all(&target).unwrap();
            for entry in fs::read_dir(root.join(part)).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    fs::copy(&path, target.join(path.file_name().unwrap())).unwrap();
                }
            }
        }
        Self { folder, _temporary: temporary }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.join(relative)
    }

    pub(crate) fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Runs `etcbench` in the project's folder.
    pub(crate) fn etcbench(&self, arguments: &[&str]) -> Output {
        assert_cmd::Command::cargo_bin("etcbench")
            .expect("the binary is built with the tests")
            .current_dir(&self.folder)
            .env_remove("ETCBENCH_DATA")
            .args(arguments)
            .output()
            .expect("the binary runs")
    }

    /// Runs `etcbench` and expects it to succeed.
    #[track_caller]
    pub(crate) fn done(&self, arguments: &[&str]) -> Output {
        let output = self.etcbench(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Runs `etcbench` and expects exit code 2 and one message on standard error, a line and lines of advice, that
    /// contains all of `words`.
    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str], words: &[&str]) {
        let output = self.etcbench(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.rfind("etcbench: ").map_or("", |start| &text[start..]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        let messages = text.lines().filter(|line| line.starts_with("etcbench: ")).count();
        assert_eq!(messages, 1, "{arguments:?}: {text}");
        assert!(line.lines().skip(1).all(|line| line.starts_with("  ")), "{arguments:?}: {text}");
        for word in words {
            assert!(line.contains(word), "{arguments:?}: `{word}` is not in: {line}");
        }
    }
}

/// Returns every file of a results folder without what depends on time and machine: omits `run.json`, `units.json`, the
/// checksums, and columns and records of seconds, rates and memory.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                pending.push(path);
            } else if ["run.json", "units.json", "SHA256SUMS"].contains(&name.as_str())
                || name.ends_with(".md")
                || name.ends_with(".tex")
            {
                // The same values as in the CSV files, formatted for readers.
            } else if name.starts_with("tables/") && name.ends_with(".csv") {
                files.insert(name, without_timing_columns(&fs::read_to_string(&path).unwrap()));
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let kept = text.lines().filter(|line| {
                    !name.starts_with("records")
                        || !["_seconds", "_per_second", "_memory_bytes"].iter().any(|timing| line.contains(timing))
                });
                files.insert(name.clone(), kept.collect::<Vec<_>>().join("\n"));
            }
        }
    }
    files
}

fn without_timing_columns(text: &str) -> String {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let timing: Vec<bool> = records[0].iter().map(|column| column.contains("seconds")).collect();
    let kept = records.iter().map(|record| {
        let kept = record.iter().zip(&timing).filter(|(_, timing)| !**timing).map(|(field, _)| field);
        kept.collect::<Vec<_>>().join(",")
    });
    kept.collect::<Vec<_>>().join("\n")
}

/// Returns a fast experiment on captures: one seed, with `[packets, bytes]` of each flow.
pub(crate) fn small_experiment(dataset: &str, label: &str, models: &[&str], [packets, bytes]: [usize; 2]) -> String {
    format!(
        "title = \"Small\"\nseeds = [0]\nmodels = {models:?}\n[dataset]\nnames = [\"{dataset}\"]\n\
         [selection]\nlabel = \"{label}\"\n[feature]\npackets = {packets}\nbytes = {bytes}\n\
         [split]\nmethod = \"stratified\"\ntrain = 0.5\nvalidation = 0.25\ntest = 0.25\n"
    )
}

/// Writes a dataset of sixty pseudo-random points of three overlapping classes as a feature file.
pub(crate) fn write_points(project: &Project) {
    let mut state = 1_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1 << 24) as f64
    };
    let mut text = "x,y,class\n".to_owned();
    for index in 0..60 {
        let class = index % 3;
        let centre = class as f64;
        text += &format!("{},{},{}\n", centre + 1.4 * next(), 2.0 * centre + 3.0 * next(), ["a", "b", "c"][class]);
    }
    project.write("data/points/points.csv", text);
    project.write(
        "data/points.toml",
        "name = \"points\"\ntitle = \"Three clouds of points\"\nreference = \"none\"\nlabel_columns = [\"kind\"]\n\
         [published_at]\nurl = \"https://example.org/points\"\nhow = \"nothing to download\"\n\
         [files]\npatterns = [\"*.csv\"]\n[features]\nformat = \"csv\"\nlabels = { kind = \"class\" }\n",
    );
}
