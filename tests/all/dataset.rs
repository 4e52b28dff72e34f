//! Datasets through the real binary: the content of a folder, and comparing two copies.

mod folders;
mod labels;

use std::fs;
use std::io::Write;

use crate::common::{Project, small_experiment};

const SECOND: u32 = 1;

/// A little-endian microsecond pcap of raw IPv4: UDP flows of two packets each between `client`, from `first_port`
/// on, and 10.0.0.2:53, one flow every ten seconds from `start`.
fn capture(client: [u8; 4], first_port: u16, flows: u16, start: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 101] {
        bytes.extend(value.to_le_bytes());
    }
    for flow in 0..flows {
        for packet in 0..2_u8 {
            let mut ip = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0];
            ip.extend(client);
            ip.extend([10, 0, 0, 2]);
            ip.extend((first_port + flow).to_be_bytes());
            ip.extend(53_u16.to_be_bytes());
            ip.extend(12_u16.to_be_bytes());
            ip.extend([0, 0, packet, 1, 2, 3]);
            let time = start + 10 * u32::from(flow) + SECOND * u32::from(packet);
            for value in [time, 0, ip.len() as u32, ip.len() as u32] {
                bytes.extend(value.to_le_bytes());
            }
            bytes.extend(ip);
        }
    }
    bytes
}

fn usual(first_port: u16) -> Vec<u8> {
    capture([10, 0, 0, 1], first_port, 8, 1000)
}

fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in members {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn definition(name: &str, columns: &str, rest: &str) -> String {
    format!(
        "name = \"{name}\"\ntitle = \"Small\"\nreference = \"none\"\nlabel_columns = [{columns}]\n\
         [published_at]\nurl = \"https://example.org/{name}\"\nhow = \"nothing to download\"\n\
         [files]\npatterns = [\"**/*.pcap\", \"**/*.pcapng\"]\n{rest}"
    )
}

fn experiment(name: &str, label: &str) -> String {
    small_experiment(name, label, &["majority"], [2, 32])
}

/// Returns standard output and the exit code.
fn told(project: &Project, arguments: &[&str]) -> (String, Option<i32>) {
    let output = project.etcbench(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text + &String::from_utf8_lossy(&output.stderr), output.status.code())
}

/// A dataset of two folders, one per class.
fn two_classes() -> Project {
    let project = Project::new();
    project.write("data/small.toml", definition("small", "\"kind\"", "[folders]\ncolumns = [\"kind\"]\n"));
    project.write("data/small/chat/1.pcap", usual(1000));
    project.write("data/small/mail/1.pcap", usual(2000));
    project.write("experiments/small.toml", experiment("small", "kind"));
    project
}

#[track_caller]
fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

const TABLE: &str = "[table]\nfile = \"small.csv\"\nkey = \"stem\"\n";

#[test]
fn verify_reads_archives_and_tells_what_is_there_twice_damaged_missing_or_foreign() {
    let project = Project::new();
    project.write("data/small.toml", definition("small", "\"kind\"", TABLE));
    project.write("data/small.csv", "stem,kind\nOne,a\nTwo,b\nThree,b\nFour,a\nFive,a\n");
    project.write("data/small/one.PCAP", usual(1000));
    let mut damaged = usual(3000);
    damaged.truncate(damaged.len() - 20);
    project.write(
        "data/small/Publishers-01.zip",
        zipped(&[("sub/ONE.pcap", &usual(1000)), ("two.pcapng", &usual(2000)), ("README", b"text")]),
    );
    project.write("data/small/three.pcap", damaged);
    project.write("data/small/four.pcap.gz", gzipped(&usual(4000)));
    project.write("data/small/other.pcap", usual(5000));
    project.write("data/small/rest.tar.xz", b"anything");
    let (text, code) = told(&project, &["data", "verify", "small", "--manifest", "ours.json"]);
    assert_eq!(code, Some(1), "{text}");
    holds(
        &text,
        &[
            "used one.PCAP, 792 bytes, 16 packets, link type 101, sha256 ",
            "used Publishers-01.zip!two.pcapng, 792 bytes, 16 packets",
            "used four.pcap.gz, 792 bytes, 16 packets",
            "duplicate Publishers-01.zip!sub/ONE.pcap",
            "one.PCAP is used",
            "used three.pcap, 772 bytes, link type 101, DAMAGED after 15 whole packets: at byte 744: ",
            "without label other.pcap",
            "missing Five",
            "unexpected rest.tar.xz, 8 bytes, an archive whose members are not read in place; unpack it with",
            "4 captures used (1 damaged), 1 without label, 1 missing, 1 duplicate, 0 excluded",
        ],
    );
    // The same captures packed differently are the same data; a changed byte is reported.
    let other = Project::new();
    other.write("data/small.toml", definition("small", "\"kind\"", TABLE));
    other.write("data/small.csv", "stem,kind\nOne,a\nTwo,b\nThree,b\nFour,a\nFive,a\n");
    other.write("data/small/all.zip", zipped(&[("one.pcap", &usual(1000)), ("four.pcap", &usual(4000))]));
    other.write("data/small/two.pcap.gz", gzipped(&usual(2000)));
    other.write("data/small/three.pcap", {
        let mut damaged = usual(3000);
        damaged.truncate(damaged.len() - 20);
        damaged
    });
    other.write("data/small/other.pcap", usual(5000));
    let ours = project.path("ours.json");
    let against = ["data", "verify", "small", "--against", ours.to_str().unwrap(), "--manifest", "theirs.csv"];
    let (text, _) = told(&other, &against);
    holds(&text, &["here and the manifest contain the same data"]);
    let theirs = other.path("theirs.csv");
    let (text, code) = told(&other, &["data", "compare", ours.to_str().unwrap(), theirs.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{text}");
    let mut changed = usual(2000);
    *changed.last_mut().unwrap() ^= 1;
    other.write("data/small/two.pcap.gz", gzipped(&changed));
    let (text, code) = told(&other, &against);
    assert_eq!(code, Some(1), "{text}");
    holds(&text, &["Two: different bytes: 792 bytes, 16 packets, sha256 ", "1 difference;"]);
    fs::remove_file(other.path("data/small/all.zip")).unwrap();
    let (text, code) = told(&other, &against);
    assert_eq!(code, Some(1), "{text}");
    holds(&text, &["One: only in the second", "Four: only in the second"]);
}

#[test]
fn a_damaged_archive_is_told_and_no_run_goes_on_without_it() {
    let project = Project::new();
    project.write("data/small.toml", definition("small", "\"kind\"", "[[rule]]\nstem = \"^(?<kind>[a-z]+)\"\n"));
    project.write("data/small/one.pcap", usual(1000));
    let mut archive = zipped(&[("two.pcap", &usual(2000))]);
    archive.truncate(archive.len() / 2);
    project.write("data/small/more.zip", archive);
    project.write("experiments/small.toml", experiment("small", "kind"));
    let (text, code) = told(&project, &["data", "verify", "small"]);
    assert_eq!(code, Some(1), "{text}");
    holds(&text, &["damaged archive more.zip", "1 archive damaged"]);
    project.refused(&["run", "experiments/small.toml", "--device", "cpu"], &["more.zip", "captures would be missing"]);
}

#[test]
fn manifests_that_are_none_are_told() {
    let project = Project::new();
    project.write("a.json", "{\"format\": \"x\",\n \"entries\": 3}");
    project.write("b.csv", "format,dataset\nx,y\n");
    project.write("c.json", "{\"format\":\"later\",\"dataset\":\"d\",\"definition\":\"\",\"entries\":[]}");
    project.refused(&["data", "compare", "a.json", "a.json"], &["a.json, line 2: not a manifest"]);
    project.refused(&["data", "compare", "b.csv", "b.csv"], &["b.csv, line 1: not a manifest: its columns are not"]);
    project.refused(&["data", "compare", "c.json", "c.json"], &["its format is `later`"]);
    project.refused(&["data", "compare", "none.json", "c.json"], &["none.json"]);
}

#[test]
fn a_folder_per_class_becomes_a_dataset_and_a_run_stores_its_manifest() {
    let project = Project::new();
    for (class, port) in [("chat", 1000), ("mail", 2000)] {
        project.write(&format!("mine/{class}/1.pcap"), usual(port));
        project.write(&format!("mine/{class}/deep/2.pcap.gz"), gzipped(&usual(port + 100)));
    }
    // Members of an archive count as unpacked in the folder to which it was downloaded.
    project.write("mine/more.zip", zipped(&[("chat/3.pcap", &usual(3000)), ("chat/1.pcap", &usual(1000))]));
    let (text, code) = told(&project, &["data", "init", "mine", "--folder", "mine", "--column", "kind"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &["chat: 3 captures", "mail: 2 captures", "dataset mine with 2 classes", "data/mine is a link to "]);
    assert!(!fs::read_to_string(project.path("data/mine.toml")).unwrap().contains("folder ="));
    project.write("empty/readme.txt", "");
    project.refused(&["data", "init", "nothing", "--folder", "empty"], &["create one folder per class"]);
    assert!(project.path("data/nothing").symlink_metadata().is_err());
    project.refused(&["data", "init", "mine", "--folder", "mine"], &["already exists"]);
    project.refused(&["data", "init", "bad/name", "--folder", "mine"], &["use letters, digits"]);
    assert!(!project.path("data/bad").exists());
    project.refused(&["data", "init", "other", "--folder", "nowhere"], &["no such folder"]);
    project.write("experiments/mine.toml", experiment("mine", "kind"));
    project.done(&["run", "experiments/mine.toml"]);
    let manifest = fs::read_to_string(project.path("results/mine-mine-full/manifests/mine.json")).unwrap();
    holds(
        &manifest,
        &["\"state\": \"used\"", "more.zip!chat/3.pcap", "\"state\": \"duplicate\"", "\"kind\": \"mail\""],
    );
    // The run's manifest equals that of `verify`, also if the flows come from the cache.
    let stored = project.path("results/mine-mine-full/manifests/mine.json");
    let (text, code) = told(&project, &["data", "verify", "mine", "--against", stored.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{text}");
    project.done(&["run", "experiments/mine.toml"]);
    assert_eq!(fs::read_to_string(&stored).unwrap(), manifest);
}

#[cfg(unix)]
#[test]
fn a_generated_capture_goes_through_a_pipe() {
    let project = Project::new();
    let capture = project.done(&["data", "synth", "--packets", "2000", "-o", "/dev/stdout"]);
    holds(&String::from_utf8_lossy(&capture.stderr), &["standard output: 2000 packets of "]);
    project.write("piped.pcap", capture.stdout);
    let told = project.done(&["features", "piped.pcap"]);
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    holds(&told, &["2000 packets, 2000 of TCP or UDP"]);
    assert!(!told.contains("damaged"), "{told}");
}

#[test]
fn captures_with_times_out_of_order_or_range_are_told() {
    let project = Project::new();
    let definition = definition("unsorted", "\"kind\"", "[[rule]]\nstem = \"^(?<kind>[a-z]+)\"\n");
    project.write("data/unsorted.toml", definition);
    project.write("experiments/unsorted.toml", experiment("unsorted", "kind"));
    project.write("data/unsorted/one.pcap", usual(1000));
    // The answer of the first flow comes before its request.
    let mut swapped = usual(2000);
    let record = 16 + 32;
    let (first, second) = swapped[24..24 + 2 * record].split_at_mut(record);
    first.swap_with_slice(second);
    project.write("data/unsorted/two.pcap", swapped);
    // Nanoseconds in a file of microseconds.
    let mut nanoseconds = usual(3000);
    nanoseconds[28..32].copy_from_slice(&900_000_000_u32.to_le_bytes());
    project.write("data/unsorted/three.pcap", nanoseconds);

    let (text, code) = told(&project, &["data", "verify", "unsorted"]);
    assert_eq!(code, Some(0), "{text}");
    let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert!(line("two.pcap").contains("1 packet out of order (reordercap sorts them)"), "{text}");
    assert!(!line("one.pcap").contains("out of order"), "{text}");
    assert!(line("three.pcap").contains("1 packet with a fraction of a second beyond the file's resolution"), "{text}");
    let advice = "1 packet is earlier than a packet before";
    let (text, _) = told(&project, &["features", "data/unsorted/two.pcap"]);
    holds(&text, &[advice, "sort the capture by time with reordercap"]);
    // A run tells it once for a dataset, also when its flows come from the cache.
    for _ in 0..2 {
        let (text, code) = told(&project, &["run", "experiments/unsorted.toml"]);
        assert_eq!(code, Some(0), "{text}");
        holds(&text, &["unsorted: 1 capture (two.pcap): ", advice]);
        holds(&text, &["unsorted: 1 capture (three.pcap): 1 packet has a fraction of a second beyond the file's"]);
    }
}
