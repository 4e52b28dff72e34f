//! A small experiment that runs every stage in a second or two, and the part of its results that must not depend on
//! interruptions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::Project;

const DATASET: &str = r#"
name = "small"
title = "Two classes, one capture each"
reference = "none"
label_columns = ["kind"]
[published_at]
url = "https://example.org/small"
how = "nothing to download"
[files]
patterns = ["*.pcap"]
[[rule]]
stem = "^(?<kind>[a-z]+)"
"#;

/// Captures without labels, to pre-train on.
const UNLABELLED: &str = r#"
name = "other"
title = "Nothing is known of it"
reference = "none"
label_columns = []
[published_at]
url = "https://example.org/other"
how = "nothing to download"
[files]
patterns = ["*.pcap"]
"#;

/// All models, tuning, sampling, and two variants with separate flows.
pub(crate) const EXPERIMENT: &str = r#"
title = "Every stage"
seeds = [0]
models = ["random_forest", "knn", "svm", "gradient_boosting", "logistic_regression", "attention_lstm"]
[dataset]
names = ["small"]
[selection]
label = "kind"
[feature]
packets = 2
bytes = 24
[split]
method = "stratified"
train = 0.5
validation = 0.25
test = 0.25
sampling = "oversample"
[model.random_forest]
trees = 4
[model.knn]
input = ["statistics", "sequences"]
[model.gradient_boosting]
rounds = 3
[model.attention_lstm]
lstm = 8
dense = 8
epochs = 3
batch = 4
elmo = { embedding = 4, hidden = 4, layers = 1, epochs = 2, batch = 8 }
[variant.whole]
[variant.short]
flow = { idle_timeout = 2.5 }
[tune]
search = "grid"
budget = 3
[tune.space.knn]
k = [1, 3]
[tune.space.random_forest]
[tune.space.svm]
[tune.space.gradient_boosting]
[tune.space.logistic_regression]
[tune.space.attention_lstm]
"#;

/// Flows of four UDP packets in a little-endian microsecond pcap of raw IPv4; packets of about `length` bytes.
pub(crate) fn capture(first_port: u16, length: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 101] {
        bytes.extend(value.to_le_bytes());
    }
    for flow in 0..10_u16 {
        for packet in 0..4_u16 {
            let size = length + packet + flow % 3;
            let mut ip = vec![0x45, 0];
            ip.extend(size.to_be_bytes());
            ip.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            if packet % 2 == 1 {
                ip[12..20].rotate_left(4);
            }
            let (source, destination) = (first_port + flow, 53_u16);
            let ports = if packet % 2 == 0 { [source, destination] } else { [destination, source] };
            ports.iter().for_each(|port| ip.extend(port.to_be_bytes()));
            ip.extend((size - 20).to_be_bytes());
            ip.extend([0, 0]);
            ip.resize(usize::from(size), (flow % 5) as u8);
            for value in [u32::from(flow) + u32::from(packet), 0, ip.len() as u32, ip.len() as u32] {
                bytes.extend(value.to_le_bytes());
            }
            bytes.extend(ip);
        }
    }
    bytes
}

/// Returns the arguments of the run.
pub(crate) const RUN: [&str; 4] = ["run", "experiments/small.toml", "--checkpoint-seconds", "0"];

/// Creates a project with the experiment and its captures.
pub(crate) fn project() -> Project {
    let project = Project::new();
    project.write("data/small.toml", DATASET);
    project.write("data/other.toml", UNLABELLED);
    for (name, port, length) in [("small/one", 1000, 60), ("small/two", 2000, 64), ("other/three", 3000, 68)] {
        let path = format!("data/{name}.pcap");
        project.write(&path, capture(port, length));
        // Old enough for its checksum to be cached.
        let file = fs::File::options().write(true).open(project.path(&path)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000)).unwrap();
    }
    project.write("experiments/small.toml", EXPERIMENT);
    project
}

/// Returns the command of the run in a project's folder.
pub(crate) fn command(folder: &Path) -> Command {
    command_of(Path::new(env!("CARGO_BIN_EXE_etcbench")), folder)
}

/// The same with another build.
#[allow(dead_code, reason = "not every test file has one")]
pub(crate) fn command_of(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_remove("ETCBENCH_DATA").args(RUN);
    command
}

/// Returns the results that do not depend on when and how fast the run was: predictions, splits, leaks, manifests, the
/// resolved experiment, every model, and the records without times.
pub(crate) fn results(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    results_in(folder, &["results/small-small-full", "results/cache/models"])
}

/// The same for some folders.
pub(crate) fn results_in(folder: &Path, parts: &[&str]) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for part in parts {
        for path in files(&folder.join(part)) {
            let name = path.strip_prefix(folder).unwrap().to_owned();
            let text = name.to_string_lossy().into_owned();
            if ["run.json", "SHA256SUMS"].iter().any(|name| text.ends_with(name)) || text.contains("/tables/") {
                continue;
            }
            let mut content = fs::read(&path).unwrap();
            if text.contains("records.") {
                let lines = String::from_utf8(content).unwrap();
                let timing =
                    |line: &&str| ["_seconds", "_per_second", "_memory_bytes"].iter().any(|unit| line.contains(unit));
                content = lines.lines().filter(|line| !timing(line)).collect::<Vec<_>>().join("\n").into_bytes();
            }
            found.insert(name, content);
        }
    }
    found
}

/// Returns all files below a folder, sorted.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Returns temporary files and claims left in a project.
pub(crate) fn leftovers(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let temporary = [".partial-", ".replaced-", ".claim-"].iter().any(|prefix| name.starts_with(prefix));
        if temporary || folder.ends_with("claims") {
            found.push(path);
        } else if path.is_dir() {
            found.extend(leftovers(&path));
        }
    }
    found
}

/// Asserts the results of an undisturbed run.
#[track_caller]
pub(crate) fn same(expected: &BTreeMap<PathBuf, Vec<u8>>, folder: &Path, what: &str) {
    let found = results(folder);
    let names = |results: &BTreeMap<PathBuf, Vec<u8>>| results.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(expected), "{what}");
    for (name, content) in expected {
        assert!(found[name] == *content, "{what}: {} differs", name.display());
    }
    assert_eq!(leftovers(folder), Vec::<PathBuf>::new(), "{what}");
}

/// Returns the counts of a stage in `run.json`: computed and reused.
#[allow(dead_code, reason = "not every test file looks at them")]
pub(crate) fn stage(folder: &Path, name: &str) -> (u64, u64) {
    let text = fs::read(folder.join("results/small-small-full/run.json")).unwrap();
    let run: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let count = |part: &str| run["stages"][name][part].as_u64().unwrap_or_default();
    (count("computed"), count("reused"))
}
