//! The lab corpus: the shipped captures match the manifest and the stated counts, tshark can read all of them, and the
//! recorder works if the machine allows it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use etcbench::dataset::{Dataset, DatasetDefinition, LabelledFlow, Loaded, definition_path, load, open_folder};
use etcbench::flow::FlowOptions;
use etcbench::progress::Silent;
use sha2::{Digest, Sha256};

/// The counts in `data/lab/README.md` of every class of every table.
const MINIMUM_FLOWS: usize = 150;
const MINIMUM_CAPTURES: usize = 8;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn captures() -> PathBuf {
    root().join("data/lab/captures")
}

fn loaded(name: &str) -> Loaded {
    let definition = DatasetDefinition::read(&definition_path(root(), name)).unwrap();
    let folder = open_folder(&definition, &root().join("data/lab")).unwrap();
    load(&[Dataset { definition, folder }], &FlowOptions::default(), &Silent).unwrap()
}

/// Returns the lines of the manifest by capture.
fn manifest() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(captures().join("captures.csv")).unwrap();
    let lines = reader.deserialize::<BTreeMap<String, String>>().map(Result::unwrap);
    lines.map(|line| (line["capture"].clone(), line)).collect()
}

#[test]
fn captures_agree_with_the_manifest() {
    let manifest = manifest();
    let mut listed = BTreeSet::new();
    for (dataset, outside) in [("lab", false), ("lab-outside", true)] {
        let loaded = loaded(dataset);
        assert!(loaded.unlabelled.is_empty(), "{:?}", loaded.unlabelled);
        for capture in &loaded.captures {
            let name = capture.capture.strip_prefix("captures/").unwrap();
            let line = manifest.get(name).unwrap_or_else(|| panic!("{name} is not in captures.csv"));
            let bytes = std::fs::read(captures().join(name)).unwrap();
            assert_eq!(hex::encode(Sha256::digest(&bytes)), line["sha256"], "{name}");
            assert_eq!(capture.flows.to_string(), line["flows"], "flows of {name}");
            assert_eq!(capture.summary.packets.to_string(), line["packets"], "packets of {name}");
            assert_eq!(line["variant"] == "outside", outside, "{name}");
            listed.insert(name.to_owned());
        }
        for LabelledFlow { provenance, labels, flow } in &loaded.flows {
            let line = &manifest[provenance.capture.strip_prefix("captures/").unwrap()];
            assert_eq!(labels["category"], line["category"]);
            assert_eq!(labels["application"], line["application"]);
            let bot = line["category"] == "bot";
            assert_eq!(labels["tunnel"], if bot { "none" } else { &line["tunnel"] });
            assert_eq!(labels["traffic"], if bot { "botnet" } else { "normal" });
            assert!(!flow.packets.is_empty() && flow.packets.len() <= 32, "{}", provenance.flow_id());
        }
    }
    assert_eq!(listed, manifest.keys().cloned().collect(), "captures.csv lists what is not there");
    let size: u64 = manifest.values().map(|line| line["bytes"].parse::<u64>().unwrap()).sum();
    assert!(size <= 16 << 20, "the corpus is {size} bytes");
}

#[test]
fn its_page_names_every_kind_and_counts_right() {
    let page = std::fs::read_to_string(root().join("data/lab/README.md")).unwrap();
    let kinds = std::fs::read_dir(root().join("data/lab/record/kinds")).unwrap();
    for name in kinds.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        if let Some(kind) = name.strip_suffix(".py").filter(|kind| *kind != "__init__") {
            assert!(page.contains(&format!("\n| {kind} | ")), "{kind} is not in the table of kinds");
        }
    }
    let mut counted: BTreeMap<[String; 3], [usize; 2]> = BTreeMap::new();
    for line in manifest().into_values() {
        let tunnel = match (&*line["category"], &*line["variant"]) {
            ("bot", _) => "none".to_owned(),
            (_, "outside") => format!("{}, outside", line["tunnel"]),
            _ => line["tunnel"].clone(),
        };
        let [captures, flows] =
            counted.entry([tunnel, line["category"].clone(), line["application"].clone()]).or_default();
        *captures += 1;
        *flows += line["flows"].parse::<usize>().unwrap();
    }
    for ([tunnel, category, application], [captures, flows]) in counted {
        let row = format!("\n| {tunnel} | {category} | {application} | {captures} | {flows} | ");
        assert!(page.contains(&row), "the table of classes has no line {row:?}");
    }
}

#[test]
fn no_class_has_fewer_flows_or_captures_than_stated() {
    type Class = fn(&LabelledFlow) -> Option<String>;
    let tables: [(&str, usize, Class); 5] = [
        ("table 1", 2, |flow| Some(flow.labels["traffic"].clone())),
        ("table 2", 10, |flow| {
            let included = flow.labels["tunnel"] == "non_vpn" && ["voip", "video"].contains(&&*flow.labels["category"]);
            included.then(|| flow.labels["application"].clone())
        }),
        ("table 3", 4, |flow| {
            let included = ["chat", "filetrans", "video", "voip"].contains(&&*flow.labels["category"]);
            (included && flow.labels["tunnel"] == "vpn").then(|| flow.labels["category"].clone())
        }),
        ("table 4", 5, |flow| (flow.labels["tunnel"] == "tor").then(|| flow.labels["category"].clone())),
        ("table 5", 3, |flow| (flow.labels["tunnel"] != "none").then(|| flow.labels["tunnel"].clone())),
    ];
    let loaded = loaded("lab");
    for (table, classes, class) in tables {
        let mut found: BTreeMap<String, (usize, BTreeSet<&str>)> = BTreeMap::new();
        for flow in &loaded.flows {
            if let Some(class) = class(flow) {
                let (flows, captures) = found.entry(class).or_default();
                *flows += 1;
                captures.insert(&flow.provenance.capture);
            }
        }
        assert_eq!(found.len(), classes, "{table}: {:?}", found.keys());
        for (class, (flows, captures)) in found {
            assert!(flows >= MINIMUM_FLOWS, "{table}: {class} has {flows} flows");
            assert!(captures.len() >= MINIMUM_CAPTURES, "{table}: {class} has {} captures", captures.len());
        }
    }
}

fn installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    if !found.status.success() {
        eprintln!("skipped: {program} is not installed");
    }
    found.status.success()
}

/// All captures of one link type are read at once: a tshark for each would take minutes.
#[test]
fn tshark_finds_no_malformed_header() {
    if !installed("tshark") || !installed("mergecap") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut by_link_type: BTreeMap<u32, Vec<PathBuf>> = BTreeMap::new();
    for name in manifest().keys() {
        let packed = std::fs::File::open(captures().join(name)).unwrap();
        let bytes = zstd::decode_all(packed).unwrap();
        let link_type = u32::from_le_bytes(bytes[20..24].try_into().unwrap());
        let path = folder.path().join(name.replace('/', "-")).with_extension("");
        std::fs::write(&path, bytes).unwrap();
        by_link_type.entry(link_type).or_default().push(path);
    }
    assert_eq!(by_link_type.keys().copied().collect::<Vec<_>>(), [1, 101], "Ethernet, and raw IP inside VPNs");
    for (link_type, files) in by_link_type {
        let merged = folder.path().join(format!("merged-{link_type}.pcap"));
        let done = Command::new("mergecap").args(["-F", "pcap", "-a", "-w"]).arg(&merged).args(files).status().unwrap();
        assert!(done.success());
        // Segments of truncated captures cannot be reassembled.
        let output = Command::new("tshark")
            .args(["-n", "-o", "tcp.desegment_tcp_streams:FALSE", "-o", "ip.defragment:FALSE", "-r"])
            .arg(&merged)
            .args(["-Y", "_ws.malformed", "-T", "fields", "-e", "frame.number", "-e", "frame.protocols"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Above the transport headers tshark guesses by port: random bytes of a flood at port 53 are no DNS, and a message
        // that is cut is none to its dissector.
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let headers = ["eth", "ethertype", "ip", "tcp", "udp", "icmp"];
        let malformed = |line: &&str| {
            let layer = line.split(":_ws.malformed").next().and_then(|before| before.rsplit([':', '\t']).next());
            headers.contains(&layer.unwrap_or_default())
        };
        assert_eq!(text.lines().filter(malformed).collect::<Vec<_>>(), Vec::<&str>::new(), "link type {link_type}");
    }
}

/// Kinds that need no packages from PyPI, to be fast: without a tunnel, through a VPN, and a bot.
#[test]
fn the_recorder_records() {
    let folder = tempfile::tempdir().unwrap();
    let only = ["non_vpn-browsing_curl", "vpn-browsing_curl", "non_vpn-filetrans_sftp", "bot_http"];
    let mut command = Command::new("python3");
    command.args(["-m", "record", "--captures", "1", "--flows", "2", "--longest", "60", "--folder"]);
    command.arg(folder.path().join("captures")).arg("--scratch").arg(folder.path().join("scratch"));
    command.args(only.iter().flat_map(|word| ["--only", word]));
    let output = match command.env("PYTHONPATH", root().join("data/lab")).env("PYTHONDONTWRITEBYTECODE", "1").output() {
        Ok(output) => output,
        Err(error) => return eprintln!("skipped: python3 does not start: {error}"),
    };
    let words = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(2) && words.contains("cannot record: ") {
        return eprintln!("skipped: {words}");
    }
    assert!(output.status.success(), "{words}");
    for name in ["non_vpn-browsing-curl-01", "vpn-browsing-curl-01", "non_vpn-filetrans-sftp-01", "bot-http-01"] {
        let packed = std::fs::File::open(folder.path().join(format!("captures/{name}.pcap.zst"))).unwrap();
        assert!(zstd::decode_all(packed).unwrap().len() > 24, "{name} is empty");
    }
    let left = Command::new("ip").args(["netns", "list"]).output().unwrap();
    let prefix =
        format!("lab{}-", words.split("recorder ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("?"));
    assert!(!prefix.contains('?'), "{words}");
    assert!(!String::from_utf8_lossy(&left.stdout).contains(&prefix), "namespaces are left behind");
}
