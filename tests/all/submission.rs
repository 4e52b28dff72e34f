//! Bundles of runs: a tampered bundle is refused with the reason, even though all hashes in it are valid, and so is what
//! is no bundle.

mod honest;
mod leaderboard;
mod published_parts;
mod tampered;
mod tamperings;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use tampered::Tampered;
use tamperings::{ASKED_TAMPERINGS, PLAIN_TAMPERINGS, TUNED_TAMPERINGS};

use crate::common::{Project, every_stage};

/// The files of a bundle.
type Files = BTreeMap<String, Vec<u8>>;

const DATASET: &str = r#"
name = "many"
title = "Two classes, four captures each"
reference = "none"
label_columns = ["kind"]
[published_at]
url = "https://example.org/many"
how = "nothing to download"
[files]
patterns = ["*.pcap"]
[[rule]]
stem = "^(?<kind>[a-z]+)"
"#;

const PLAIN: &str = r#"
title = "Plain"
seeds = [0, 1, 2]
models = ["knn", "random_forest"]
[dataset]
names = ["many"]
[selection]
label = "kind"
classes = ["web", "mail"]
[feature]
packets = 1
bytes = 24
[model.knn]
input = ["bytes", "statistics"]
k = 3
[model.random_forest]
trees = 3
[variant.random.split]
method = "stratified"
train = 0.5
validation = 0.25
test = 0.25
[variant.captures.split]
method = "grouped"
train = 0.5
validation = 0.25
test = 0.25
"#;

/// Folds, tuning, and costs of decisions.
const TUNED: &str = r#"
title = "Tuned"
seeds = [0]
models = ["knn", "random_forest"]
[dataset]
names = ["many"]
[selection]
label = "kind"
[feature]
packets = 1
bytes = 24
[split]
method = "k_fold"
folds = 3
[tune]
search = "grid"
budget = 3
[tune.space.knn]
k = [1, 3, 9]
[model.knn]
k = 3
[model.random_forest]
trees = 3
[tune.space.random_forest]
trees = [1, 3]
[evaluation]
cost = true
"#;

/// Answers under every kind of condition, with flows that were drawn.
const ASKED: &str = r#"
title = "Asked"
seeds = [0, 1]
models = ["knn", "majority"]
[dataset]
names = ["three"]
[selection]
label = "kind"
classes = ["web", "mail", "chat"]
maximum_flows_per_class = 30
[feature]
packets = 2
bytes = 32
sequences.packets = 4
[split]
method = "stratified"
train = 0.5
validation = 0.25
test = 0.25
[model.knn]
input = ["bytes", "sequences", "statistics"]
k = 3
[evaluation]
first_packets = true
masked = ["ports"]
byte_ranges = 16
occluded = ["lengths", "times"]
disturbed = ["drop 0.3", "pad 128", "jitter 0.5"]
unknown_classes = ["chat"]
calibration = true
"#;

fn project() -> Project {
    let project = every_stage::project();
    project.write("data/many.toml", DATASET);
    let three = DATASET.replace("\"many\"", "\"three\"").replace("Two classes", "Three classes");
    project.write("data/three.toml", three.replace("reference", "licence = \"CC-BY-4.0\"\nreference"));
    for capture in 0..4_u16 {
        for (class, length, port) in [("web", 60, 1000), ("mail", 61, 2000), ("chat", 63, 3000)] {
            let bytes = every_stage::capture(port + 20 * capture, length + capture % 2);
            project.write(&format!("data/three/{class}-{capture}.pcap"), &bytes);
            if class != "chat" {
                project.write(&format!("data/many/{class}-{capture}.pcap"), bytes);
            }
        }
    }
    project.write("experiments/asked.toml", ASKED);
    project.write("experiments/plain.toml", PLAIN);
    project.write("experiments/tuned.toml", TUNED);
    project
}

/// Returns the results folder, from the last line of standard error of a run.
fn run(project: &Project, arguments: &[&str]) -> String {
    let output = project.done(arguments);
    let progress = String::from_utf8_lossy(&output.stderr).into_owned();
    let folder = progress.lines().rev().find_map(|line| Some(line.split_once("results in ")?.1.trim().to_owned()));
    folder.unwrap_or_else(|| panic!("{arguments:?} names no folder: {progress}"))
}

fn pack(project: &Project, run: &str) -> PathBuf {
    let output = project.done(&["submission", "pack", run, "-o", "."]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    project.path(printed.split_once(": ").unwrap_or_else(|| panic!("{printed}")).0)
}

fn read(path: &Path) -> Files {
    let bytes = zstd::decode_all(fs::File::open(path).unwrap()).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (name, content)
    });
    entries.collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Writes files as a bundle with a valid index, as anyone can.
fn write(path: &Path, files: &Files) {
    let mut files = files.clone();
    files.remove("bundle.json");
    let entry = |content: &Vec<u8>| serde_json::json!({ "bytes": content.len(), "sha256": sha256(content) });
    let entries: serde_json::Map<_, _> = files.iter().map(|(name, content)| (name.clone(), entry(content))).collect();
    let index = serde_json::json!({ "format": "etcbench-bundle-1", "files": entries });
    files.insert("bundle.json".to_owned(), serde_json::to_vec(&index).unwrap());
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in &files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    fs::write(path, zstd::encode_all(archive.into_inner().unwrap().as_slice(), 1).unwrap()).unwrap();
}

/// Returns the exit code and the output of a check.
fn check(project: &Project, bundle: &str) -> (Option<i32>, String) {
    let output = project.etcbench(&["submission", "check", bundle]);
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&printed).into_owned())
}

/// Packs a run twice to the same bytes, and expects the check to pass.
#[track_caller]
fn passes(project: &Project, what: &str, arguments: &[&str]) -> PathBuf {
    let folder = run(project, arguments);
    passes_as_it_is(project, what, &folder)
}

#[track_caller]
fn passes_as_it_is(project: &Project, what: &str, run: &str) -> PathBuf {
    let bundle = pack(project, run);
    let first = fs::read(&bundle).unwrap();
    assert!(fs::read(pack(project, run)).unwrap() == first, "{what}: the same run is packed to other bytes");
    let name = bundle.file_name().unwrap().to_str().unwrap().to_owned();
    let (code, printed) = check(project, &name);
    assert!(code == Some(0) && printed.contains(": nothing found; identity "), "{what}: {printed}");
    bundle
}

#[test]
fn a_bundle_that_was_tampered_with_is_refused_with_the_reason() {
    let project = project();
    let (mut tried, mut failed) = (0, Vec::new());
    for (experiment, tamperings) in
        [("plain", PLAIN_TAMPERINGS), ("tuned", TUNED_TAMPERINGS), ("asked", ASKED_TAMPERINGS)]
    {
        let folder = run(&project, &["run", experiment]);
        let honest = read(&pack(&project, &folder));
        write(&project.path("honest.etcbundle"), &honest);
        let (code, printed) = check(&project, "honest.etcbundle");
        assert_eq!(code, Some(0), "{experiment}: {printed}");
        for (what, change, reasons) in tamperings.iter().copied().flatten() {
            let mut tampered = Tampered(honest.clone());
            change(&mut tampered);
            tampered.settle();
            write(&project.path("tampered.etcbundle"), &tampered.0);
            let (code, printed) = check(&project, "tampered.etcbundle");
            let missing: Vec<_> = reasons.iter().filter(|reason| !printed.contains(**reason)).collect();
            if code != Some(1) || !missing.is_empty() {
                failed.push(format!("{what}: {code:?}, {missing:?} is not in: {printed}"));
            }
            tried += 1;
        }
    }
    assert!(failed.is_empty(), "{} of {tried}:\n{}", failed.len(), failed.join("\n"));
    assert!(tried >= 40, "{tried}");
}

#[test]
fn files_that_are_no_bundles_and_runs_that_cannot_be_packed_are_refused() {
    let project = project();
    project.write("other.etcbundle", "no archive");
    project.refused(
        &["submission", "check", "other.etcbundle"],
        &["other.etcbundle: not a bundle as written by `etcbench submission pack`"],
    );
    project.refused(&["submission", "check", "missing.etcbundle"], &["missing.etcbundle: "]);
    let folder = run(&project, &["run", "plain", "--variants", "random", "--seeds", "3"]);
    let bundle = pack(&project, &folder);
    // The name contains the identity, which is also printed.
    let name = bundle.file_name().unwrap().to_str().unwrap();
    let identity = sha256(&read(&bundle)["bundle.json"]);
    assert_eq!(name, format!("plain-many-full-{}.etcbundle", &identity[..16]));
    fs::copy(&bundle, project.path("plain-many-full-0123456789abcdef.etcbundle")).unwrap();
    let (code, printed) = check(&project, "plain-many-full-0123456789abcdef.etcbundle");
    assert!(
        code == Some(1) && printed.contains("is named 0123456789abcdef, but the identity of its content begins with"),
        "{printed}"
    );
    let cut = fs::read(&bundle).unwrap();
    project.write("cut.etcbundle", &cut[..cut.len() / 2]);
    project.refused(&["submission", "check", "cut.etcbundle"], &["cut.etcbundle: "]);
    let records = fs::read_to_string(project.path(&format!("{folder}/records.csv"))).unwrap();
    project.write(&format!("{folder}/records.csv"), records.replacen("0.", "1.", 1));
    project.refused(
        &["submission", "pack", &folder, "-o", "."],
        &["the run was changed after it was written and is not packed: records.csv: was changed"],
    );
    project.write(&format!("{folder}/records.csv"), records);
    fs::remove_file(project.path(&format!("{folder}/flows/random.csv"))).unwrap();
    fs::remove_file(project.path(&format!("{folder}/SHA256SUMS"))).unwrap();
    project.refused(&["submission", "pack", &folder, "-o", "."], &["there are no flows/*.csv", "run it again"]);
}
