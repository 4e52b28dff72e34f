//! Bad input through the real binary: one line that names the cause and what to do, exit code 2, and no partial
//! results.

use std::fs;

use crate::common::{Project, small_experiment};

/// Eight tiny flows of two UDP packets each in a little-endian microsecond pcap of raw IPv4.
fn capture(first_port: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 101] {
        bytes.extend(value.to_le_bytes());
    }
    for flow in 0..8_u16 {
        for packet in 0..2_u8 {
            let mut ip = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
            ip.extend((first_port + flow).to_be_bytes());
            ip.extend(53_u16.to_be_bytes());
            ip.extend(12_u16.to_be_bytes());
            ip.extend([0, 0, packet, 1, 2, 3]);
            for value in [u32::from(flow), u32::from(packet), ip.len() as u32, ip.len() as u32] {
                bytes.extend(value.to_le_bytes());
            }
            bytes.extend(ip);
        }
    }
    bytes
}

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

fn project() -> Project {
    let project = Project::new();
    project.write("data/small.toml", DATASET);
    project.write("data/small/one.pcap", capture(1000));
    project.write("data/small/two.pcap", capture(2000));
    project.write("experiments/small.toml", small_experiment("small", "kind", &["majority"], [2, 32]));
    project
}

const RUN: [&str; 2] = ["run", "experiments/small.toml"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&RUN[..], more].concat()
}

#[test]
fn the_experiment_of_these_tests_is_itself_good() {
    let project = project();
    project.done(&RUN);
    assert!(project.path("results/small-small-full/tables/small.csv").is_file());
}

#[test]
fn bad_arguments_and_experiment_keys() {
    let project = project();
    project.refused(&["run", "experiments/absent.toml"], &["experiments/absent.toml"]);
    project.refused(&with(&["--set", "feature.pakets=3"]), &["small.toml", "pakets", "did you mean `packets`"]);
    project.refused(&with(&["--set", "feture.packets=3"]), &["small.toml", "feture", "did you mean `feature`"]);
    project.refused(&with(&["--set", "feature.packets=0"]), &["packets"]);
    project.refused(&with(&["--set", "feature.bytes=0"]), &["bytes"]);
    project.refused(&with(&["--set", "feature.packets"]), &["--set feature.packets", "key=value"]);
    project.refused(&with(&["--set", "split.train=0.9"]), &["[split]"]);
    project.refused(&with(&["--set", "model.knn.neighbours=3", "--models", "knn"]), &["neighbours"]);
    project.refused(&with(&["--models", "smv"]), &["smv", "did you mean `svm`"]);
    project.refused(&with(&["--set", "seeds=[1,2,1]"]), &["seeds", "twice"]);
    project.refused(&with(&["--seeds", "4,4"]), &["seeds", "twice"]);
    project.refused(&with(&["--size", "tiny"]), &["tiny", "ci", "demo"]);
    project.refused(&with(&["--data", "smal"]), &["smal", "small"]);
    project.write("experiments/broken.toml", "title = \"x\"\nseeds = [\n");
    project.refused(&["run", "experiments/broken.toml"], &["broken.toml, line"]);
    nothing_left(&project);
}

#[test]
fn bad_data() {
    let project = project();
    project.refused(&["reproduce", "table2"], &["iscxvpn2016", "--data synth"]);
    project.refused(&with(&["--set", "selection.classes=[\"one\",\"three\"]"]), &["three", "two"]);
    project.refused(&with(&["--set", "selection.classes=[\"one\"]"]), &["one"]);
    project.refused(&with(&["--set", "selection.label=kinds"]), &["kinds", "kind"]);
    project.refused(&with(&["--set", "split.method=grouped"]), &["one"]);
    for (content, words) in [
        (Vec::new(), vec!["two.pcap", "empty"]),
        (b"this is a text file, not a capture".to_vec(), vec!["two.pcap", "not a"]),
        ([&capture(1)[..20], &[147, 0, 0, 0], &capture(1)[24..]].concat(), vec!["two.pcap", "link type 147"]),
        (capture(2000)[..24 + 16 + 10].to_vec(), vec!["two"]),
    ] {
        project.write("data/small/two.pcap", content);
        project.refused(&RUN, &words);
    }
    fs::remove_file(project.path("data/small/two.pcap")).unwrap();
    fs::remove_file(project.path("data/small/one.pcap")).unwrap();
    project.refused(&RUN, &["small", "*.pcap"]);
    nothing_left(&project);
}

#[test]
fn a_capture_cut_short_gives_the_flows_before_the_damage_and_says_so() {
    let project = project();
    let whole = capture(2000);
    project.write("data/small/two.pcap", &whole[..whole.len() - 5]);
    let output = project.done(&RUN);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("two.pcap") && text.contains("byte"), "{text}");
}

#[test]
fn compressed_captures_and_archives() {
    let project = Project::new();
    let fixture =
        |name: &str| fs::read(format!("{}/tests/fixtures/capture/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    for name in ["methods.zip", "encrypted.zip", "whole.pcap.xz"] {
        project.write(name, fixture(name));
    }
    project.write("cut.pcap.gz", &fixture("whole.pcap.gz")[..15]);
    project.write("cut.zip", &fixture("methods.zip")[..9000]);
    project.write("bytes.zst", [0x28, 0xb5, 0x2f, 0xfd, 9, 9, 9, 9, 9]);
    let features = |capture: &'static str| ["features", capture, "-o", "flows.parquet"];
    project.refused(&features("methods.zip"), &["methods.zip!MEMBER", "6 members"]);
    project.refused(&features("methods.zip!folder/copy.pca"), &["no member folder/copy.pca", "folder/copy.pcap"]);
    project.refused(&features("methods.zip!folder/lzma.pcap"), &["methods.zip!folder/lzma.pcap", "not supported"]);
    project.refused(&features("encrypted.zip!secret.pcap"), &["encrypted.zip!secret.pcap", "encrypted"]);
    project.refused(&features("cut.zip!folder/copy.pcap"), &["cut.zip", "download"]);
    project.refused(&features("cut.pcap.gz"), &["cut.pcap.gz", "gzip", "damaged or cut"]);
    project.refused(&features("bytes.zst"), &["bytes.zst", "zstd", "damaged or cut"]);
    let missing = String::from_utf8_lossy(&project.etcbench(&features("missing.pcap")).stderr).into_owned();
    assert_eq!(missing.matches("No such file or directory").count(), 1, "{missing}");
    let both = project.etcbench(&[&features("whole.pcap.xz")[..], &["--tunnels", "both"]].concat());
    assert_eq!(both.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&both.stderr).contains("it must be one of outer, inner"));
    assert!(!project.path("flows.parquet").exists());
    project.done(&features("whole.pcap.xz"));
    project.done(&[&features("methods.zip!folder/nested.pcap.gz")[..], &["--tunnels", "inner"]].concat());
    assert!(project.path("flows.parquet").exists());
}

#[test]
fn check_without_a_run_or_without_tolerances() {
    let project = project();
    project.refused(&["check", "small"], &["small", "run"]);
    project.done(&RUN);
    project.refused(&["check", "small"], &["tolerances", "--update"]);
    project.done(&["check", "small", "--update", "--write"]);
    project.done(&["check", "small"]);
}

/// Asserts that there is no results folder and no partial file.
fn nothing_left(project: &Project) {
    let left: Vec<String> = fs::read_dir(project.path("results"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name != "tolerances" && name != "cache")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_run_that_does_not_fit_into_memory_is_refused_before_it_begins() {
    let project = crate::common::every_stage::project();
    let run = ["run", "experiments/small.toml", "--memory-limit"];
    project.refused(
        &[&run[..], &["1M"]].concat(),
        &[
            "variant whole: the features of 20 flows, 2 packets of 24 bytes each: expected to need",
            "1 MiB are available; lower selection.maximum_flows_per_class, feature.packets or feature.bytes",
        ],
    );
    project.refused(
        &[&run[..], &["1G", "--set", "model.attention_lstm.lstm=8192"]].concat(),
        &[
            "variant whole: attention_lstm on bytes: expected to need",
            "1024 MiB are available; lower model.attention_lstm.lstm",
        ],
    );
    let cache = project.path("results/cache");
    assert!(!cache.join("fits").exists() && !cache.join("trials").exists());
    let output = project.done(&[&run[..], &["8G"]].concat());
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = printed
        .lines()
        .find(|line| line.starts_with("small: expected memory: "))
        .unwrap_or_else(|| panic!("{printed}"));
    assert!(line.ends_with(" MiB of 8192 MiB available"), "{line}");
}
