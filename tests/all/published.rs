//! Published data without captures through the real binary: sequences with the models that read them, refusals of what
//! the data does not contain, and the published feature files, if present next to the checkout.

use std::fs;
use std::path::Path;

use crate::common::Project;

const DATASET: &str = r#"
name = "small"
title = "Two classes of sequences"
reference = "none"
label_columns = ["kind", "partition"]
[published_at]
url = "https://example.org/small"
how = "nothing to download"
[files]
patterns = ["**/*.txt"]
[[rule]]
path = "^(?<partition>[a-z]+)/(?<kind>[a-z]+)/"
[published]
layout = "ucdavis_icdm19"
"#;

const EXPERIMENT: &str = r#"
title = "Two classes"
seeds = [0]
models = ["sequence_cnn", "deep_fingerprinting", "knn", "random_forest"]
[dataset]
names = ["small"]
[selection]
label = "kind"
filter = { partition = "first" }
[feature.sequences]
packets = 32
[split]
method = "stratified"
train = 0.5
validation = 0.25
test = 0.25
[model.sequence_cnn]
epochs = 1
[model.deep_fingerprinting]
epochs = 1
channels = [4, 4, 4, 4]
dense = 8
pool = 2
pool_stride = 2
[model.knn]
input = ["sequences", "statistics"]
[model.random_forest]
input = ["sequences", "statistics", "sequences_and_statistics"]
trees = 10
"#;

/// Writes a folder of text files per class: long packets in both directions, and short ones in one direction.
pub(crate) fn project() -> Project {
    let project = Project::new();
    project.write("data/small.toml", DATASET);
    for flow in 0..16_u32 {
        for (kind, base) in [("long", 900), ("short", 80)] {
            let line = |packet: u32| {
                let direction = if kind == "long" { packet % 2 } else { 0 };
                let time = f64::from(packet) * 0.01;
                format!("{}\t{time}\t{}\t{direction}\n", 1.5e9 + time, base + (7 * packet + flow) % 13)
            };
            let text: String = (0..12 + flow % 3).map(line).collect();
            project.write(&format!("data/small/first/{kind}/{flow}.txt"), text);
        }
    }
    project.write("data/small/second/long/1.txt", "1500000000\t0\t60\t1\n");
    project.write("experiments/small.toml", EXPERIMENT);
    project
}

#[test]
fn sequences_without_captures_are_read_by_the_models_that_read_sequences() {
    let project = project();
    let told = project.done(&["run", "experiments/small.toml", "--save-models"]);
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("no model is saved, because small is published without captures"), "{told}");
    let folder = project.path("results/small-small-full");
    let records = fs::read_to_string(folder.join("records.csv")).unwrap();
    for model in ["sequence_cnn", "deep_fingerprinting", "knn", "random_forest"] {
        assert!(records.contains(model), "{model}");
    }
    // Lengths alone distinguish the classes.
    let forest: Vec<&str> =
        records.lines().filter(|line| line.contains("random_forest") && line.contains(",accuracy,")).collect();
    assert!(forest.len() == 3 && forest.iter().all(|line| line.ends_with(",1.0")), "{forest:?}");
    let leaks = fs::read_to_string(folder.join("leaks.csv")).unwrap();
    assert!(leaks.contains("packet_length_mean") && leaks.contains("duration"), "{leaks}");
    // No statistic uses what the files do not contain.
    for unknown in ["payload", "header_bytes", "initial_window", "forward_syn", "is_tcp"] {
        assert!(!leaks.contains(unknown), "{unknown}");
    }
    project.done(&["data", "verify", "small"]);
    let listed = String::from_utf8(project.done(&["data", "list"]).stdout).unwrap();
    assert!(listed.contains("small: Two classes of sequences [33 files of layout ucdavis_icdm19 in "), "{listed}");
}

#[test]
fn published_parts_are_the_split() {
    let project = project();
    let split = "method = \"stratified\"\ntrain = 0.5\nvalidation = 0.25\ntest = 0.25\n";
    let filter = "filter = { partition = \"first\" }\n";
    assert!(EXPERIMENT.contains(split) && EXPERIMENT.contains(filter));
    let text = EXPERIMENT.replace(split, "method = \"published\"\n").replace(filter, "");
    project.write("experiments/published.toml", text);
    let run = ["run", "experiments/published.toml", "--models", "knn"];
    let with = |more: &[&'static str]| [&run[..], more].concat();
    project.refused(&run, &["the definition of small has no [parts]", "split method \"published\""]);
    let parts = |rest: &str| {
        let parts = format!("[parts]\ncolumn = \"partition\"\n{rest}\n[published]");
        project.write("data/small.toml", DATASET.replace("[published]", &parts));
    };
    // Both classes are trained on, but only one is tested.
    parts("train = [\"first\"]\ntest = [\"second\"]");
    project.refused(&run, &["class short has 16 flow(s) in the published training part and 0 in the test part"]);
    for (kind, flow) in [("short", 2), ("short", 3), ("long", 4)] {
        for (folder, size) in [("second", 80), ("third", 81), ("fourth", 82)] {
            project.write(&format!("data/small/{folder}/{kind}/{flow}.txt"), format!("1500000000\t0\t{size}\t1\n"));
        }
    }
    let written = |more: &[&'static str]| {
        project.done(&[&["split", "experiments/published.toml", "-o", "split.csv"][..], more].concat());
        let mut reader = csv::Reader::from_path(project.path("split.csv")).unwrap();
        let header = reader.headers().unwrap().clone();
        let place = |name: &str| header.iter().position(|column| column == name).unwrap();
        let (flow, part) = (place("flow_id"), place("part"));
        let rows = reader.records().map(Result::unwrap);
        rows.map(|row| (row[flow].split('/').next().unwrap().to_owned(), row[part].to_owned())).collect::<Vec<_>>()
    };
    let count = |rows: &[(String, String)], folder: &str, part: &str| {
        rows.iter().filter(|row| row.0 == folder && row.1 == part).count()
    };
    // Without a published validation part, a tenth of each class's training flows.
    let rows = written(&[]);
    assert_eq!((count(&rows, "first", "train"), count(&rows, "first", "validation"), rows.len()), (28, 4, 36));
    assert_eq!(count(&rows, "second", "test"), 4);
    let rows = written(&["--set", "split.validation=0.25"]);
    assert_eq!((count(&rows, "first", "train"), count(&rows, "first", "validation")), (24, 8));
    // With one, everything is as published; what is in no part is not used.
    parts("train = [\"first\"]\nvalidation = [\"third\"]\ntest = [\"second\"]");
    let rows = written(&[]);
    assert_eq!((count(&rows, "first", "train"), count(&rows, "third", "validation")), (32, 3));
    assert_eq!((count(&rows, "second", "test"), rows.len()), (4, 39));
    let told = project.done(&run);
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("3 flows in none of the published parts, not used"), "{told}");
    let both = ["--set", "split.validation=0.25"];
    project.refused(&with(&both), &["[split] validation", "the dataset publishes a validation part; remove it"]);
    project.refused(&with(&["--set", "split.train=0.5"]), &["follows from the published parts"]);
    parts("train = [\"first\"]\ntest = [\"first\"]");
    project.refused(&run, &["`first` is twice in [parts]"]);

    // A folder with databases only: how to convert them, under which licence they are.
    fs::remove_dir_all(project.path("data/small")).unwrap();
    project.write("data/small/flows.h5", b"\x89HDF\r\n\x1a\n");
    project.write("data/small.toml", DATASET.replace("[published_at]", "licence = \"CC-BY-4.0\"\n[published_at]"));
    project.refused(&run, &["flows.h5: it is an HDF5 file, which is not read", "store.keys()", "no table in it"]);
    let listed = String::from_utf8(project.done(&["data", "list"]).stdout).unwrap();
    assert!(listed.contains("; licence CC-BY-4.0]"), "{listed}");
    let listed = project.done(&["list", "datasets", "--json"]).stdout;
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    let own = listed["datasets"].as_array().unwrap().iter().find(|dataset| dataset["name"] == "small").unwrap();
    assert_eq!(own["licence"], "CC-BY-4.0");
}

#[test]
fn what_the_flows_do_not_hold_is_refused_with_a_word() {
    let project = project();
    let run = ["run", "experiments/small.toml"];
    let with = |more: &[&'static str]| [&run[..], more].concat();
    project.refused(&with(&["--models", "byte_cnn"]), &["byte_cnn reads packet bytes", "published without"]);
    project.refused(
        &with(&["--models", "knn", "--set", "model.knn.input=bytes"]),
        &["knn has input = \"bytes\"", "model.knn.input = \"sequences\""],
    );
    project.refused(&with(&["--set", "split.method=grouped", "--set", "split.group=host"]), &["no addresses", "host"]);
    // These have times of day, unless the definition states otherwise.
    let invented = DATASET.replace("[published_at]", "times = \"invented\"\n[published_at]");
    project.write("data/small.toml", invented);
    project.refused(&with(&["--models", "knn", "--set", "split.method=temporal"]), &["no absolute times", "temporal"]);
    let models = "models = [\"sequence_cnn\", \"deep_fingerprinting\", \"knn\", \"random_forest\"]";
    assert!(EXPERIMENT.contains(models));
    project.write("experiments/small.toml", EXPERIMENT.replace(models, "models = [\"knn\"]"));
    let told = project.done(&run);
    assert!(String::from_utf8_lossy(&told.stderr).contains("the packet times of small are invented"));
    let leaks = fs::read_to_string(project.path("results/small-small-full/leaks.csv")).unwrap();
    assert!(leaks.contains("packet_length_mean") && !leaks.contains("duration") && !leaks.contains("interarrival"));
    let cut = DATASET.replace("[published_at]", "flows = \"cut\"\n[published_at]");
    project.write("data/small.toml", cut);
    let told = project.done(&run);
    assert!(String::from_utf8_lossy(&told.stderr).contains("flows of small are truncated to their first packets"));
    let leaks = fs::read_to_string(project.path("results/small-small-full/leaks.csv")).unwrap();
    assert!(
        leaks.contains("forward_interarrival_mean") && !leaks.contains("duration") && !leaks.contains("_per_second"),
        "{leaks}"
    );
    project.write("data/small/first/long/0.txt", "1500000000\t0\t60\n");
    project.refused(&run, &["first/long/0.txt: line 1: 3 tab-separated fields"]);
    fs::remove_file(project.path("experiments/small.toml")).unwrap();
    let elmo = ["pretrain", "small", "-o", "elmo.safetensors"];
    project.refused(&elmo, &["no packet bytes", "pre-trained"]);
}

/// The published feature files under `../shared/data`, with the shipped definitions.
#[test]
fn all_published_feature_files_load() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, folder, rows) in [
        ("iscxvpn2016-time-features", "iscxvpn2016-time-features", 18758 + 15515),
        ("iscxvpn2016-features", "iscxvpn2016-features", 8965 + 9793 + 8580 + 6935),
        ("iscxtor2016-time-features", "iscxtor2016-features", 38501),
        ("iscxtor2016-features", "iscxtor2016-features", 3360 + 1803 + 936 + 486),
        ("iscxtor2016-flow-features", "iscxtor2016-features", 14508 + 8044),
    ] {
        let source = root.join("../shared/data").join(folder);
        if !source.is_dir() {
            println!("skipped: {} is not here", source.display());
            continue;
        }
        let project = Project::new();
        fs::create_dir_all(project.path("data")).unwrap();
        let definition = format!("{name}.toml");
        fs::copy(root.join("data").join(&definition), project.path("data").join(&definition)).unwrap();
        copy(&source, &project.path("data").join(name));
        project.done(&["data", "verify", name]);
        let told = String::from_utf8(project.done(&["data", "labels", name]).stdout).unwrap();
        let count = |line: &str| line.split_once(" flows of ").and_then(|(count, _)| count.parse::<u64>().ok());
        assert_eq!(told.lines().filter_map(count).sum::<u64>(), rows, "{name}: {told}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
