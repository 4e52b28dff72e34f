//! Tests of the definitions that ship with the project, and of small datasets from folder to flows.

use std::path::Path;

use super::*;
use etcbench_flow::FlowOptions;
use etcbench_storage::progress::Silent;
use etcbench_synth as synth;

fn project() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn shipped(name: &str) -> DatasetDefinition {
    DatasetDefinition::read(&definition_path(project(), name)).unwrap()
}

fn labels_of(definition: &DatasetDefinition, path: &str) -> Vec<String> {
    definition.rules.labels_of(path).unwrap().into_iter().map(|(column, value)| format!("{column}={value}")).collect()
}

/// Reads a definition written to a temporary folder.
fn definition_of(folder: &Path, text: &str) -> Result<DatasetDefinition, DatasetError> {
    let path = folder.join("own.toml");
    std::fs::write(&path, text).unwrap();
    DatasetDefinition::read(&path)
}

const OWN: &str = r#"
name = "own"
title = "Own"
reference = "none"
label_columns = ["traffic"]
[published_at]
url = "https://example.org/own"
how = "download it"
[files]
patterns = ["**/*.pcap"]
exclude = [{ pattern = "broken/**", reason = "cut in transfer" }]
[[rule]]
stem = "^(?<traffic>benign|malware)-"
"#;

#[test]
fn every_shipped_definition_is_valid() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(project().join("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "toml") {
            names.push(DatasetDefinition::read(&path).unwrap().name);
        }
    }
    names.sort();
    assert_eq!(
        names,
        [
            "appclassnet",
            "cesnet-quic22",
            "cesnet-tls-year22",
            "cesnet-tls22",
            "cic-darknet2020",
            "cstnet-tls13",
            "ctu13",
            "ctu13-hosts",
            "et-bert",
            "iscxtor2016",
            "iscxtor2016-features",
            "iscxtor2016-flow-features",
            "iscxtor2016-time-features",
            "iscxvpn2016",
            "iscxvpn2016-784",
            "iscxvpn2016-features",
            "iscxvpn2016-first10",
            "iscxvpn2016-time-features",
            "lab",
            "lab-outside",
            "mirage19",
            "mirage22",
            "ndpi",
            "pcapml",
            "session-images",
            "synth",
            "tcbench-ucdavis-icdm19",
            "ucdavis-icdm19",
            "ustc-tfc2016",
            "utmobilenet21",
            "vnat",
            "wflib",
            "yatc"
        ]
    );
}

#[test]
fn every_stem_of_the_label_tables_gets_the_labels_of_its_row_in_any_letter_case() {
    for (name, rows) in [("iscxvpn2016", 150), ("iscxtor2016", 41)] {
        let definition = shipped(name);
        let text = std::fs::read_to_string(project().join(format!("data/{name}.csv"))).unwrap();
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap().split(',').collect();
        let mut count = 0;
        for line in lines {
            let fields: Vec<&str> = line.split(',').collect();
            for path in [format!("{}.pcap", fields[0]), format!("a/B/{}.PCAPNG", fields[0].to_uppercase())] {
                assert!(definition.files.is_match(&path), "{path}");
                let labels = definition.rules.labels_of(&path).unwrap();
                for (column, value) in header.iter().zip(&fields).skip(1) {
                    assert_eq!(labels[*column], *value, "{path} {column}");
                }
                assert_eq!(labels.len(), 3);
            }
            count += 1;
        }
        assert!(count >= rows - 20 && count == definition.expected_stems().len(), "{name}: {count}");
    }
}

#[test]
fn published_layouts_get_their_labels() {
    let ustc = shipped("ustc-tfc2016");
    assert_eq!(labels_of(&ustc, "malware-Nsis-ay.pcap"), ["traffic=malware", "application=Nsis-ay"]);
    assert_eq!(labels_of(&ustc, "USTC/Benign/Weibo-2.pcap"), ["traffic=benign", "application=Weibo"]);
    assert_eq!(labels_of(&ustc, "Malware/Neris/Neris.pcap"), ["traffic=malware", "application=Neris"]);
    let vnat = shipped("vnat");
    for (path, expected) in [
        ("VNAT/nonvpn_scp_long_capture1.pcap", ["nonvpn", "file_transfer", "scp"]),
        ("nonvpn_skype-chat_capture54.pcap", ["nonvpn", "chat", "skype"]),
        ("vpn_rsync_newcapture1.pcap", ["vpn", "file_transfer", "rsync"]),
        ("vpn_voip_capture2.pcap", ["vpn", "voip", "voip"]),
        ("nonvpn_rdp_capture5.pcap", ["nonvpn", "command_and_control", "rdp"]),
        ("vpn_vimeo_capture1.pcap", ["vpn", "streaming", "vimeo"]),
    ] {
        assert!(vnat.files.is_match(path), "{path}");
        let labels = vnat.rules.labels_of(path).unwrap();
        assert_eq!(
            vnat.label_columns.iter().map(|column| labels[column].as_str()).collect::<Vec<_>>(),
            expected,
            "{path}"
        );
    }
    let ctu = shipped("ctu13");
    assert!(labels_of(&ctu, "1/botnet-capture-20110810-neris.pcap").is_empty());
    assert_eq!(labels_of(&ctu, "1/capture20110810.truncated.pcap"), ["scenario=1", "content=headers"]);
    assert_eq!(labels_of(&ctu, "capture20110815-3.truncated.pcap.bz2"), ["scenario=13", "content=headers"]);
    assert_eq!(ctu.expected_stems().len(), 13);
    // One capture and one flow-label file per scenario.
    assert_eq!(ctu.downloads.len(), 26);
    let synth = shipped("synth");
    assert_eq!(
        labels_of(&synth, "non_vpn/botnet-non_vpn-resolution-generated_names-003.pcap"),
        ["traffic=botnet", "tunnel=non_vpn", "category=resolution", "application=generated_names"]
    );
    for class in synth::CLASSES {
        let stem = format!("{}-{}-{}-{}-000.pcap", class.traffic, class.tunnel, class.category, class.application);
        assert_eq!(labels_of(&synth, &stem).len(), 4, "{stem}");
    }
}

#[test]
fn a_dataset_that_is_not_here_says_where_it_was_sought_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let roots = [folder.path().join("one"), folder.path().join("two")];
    std::fs::create_dir(&roots[1]).unwrap();
    let error = locate_in(&shipped("iscxvpn2016"), &roots, "etcbench table 2 --data synth").unwrap_err().to_string();
    for part in ["one (no such folder)", "two (no capture in it)", "AIMchat1", "https://www.unb.ca", "--data synth"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(error.lines().count(), 3, "{error}");
}

#[test]
fn definitions_that_cannot_work_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let fault = |from: &str, to: &str| definition_of(folder.path(), &OWN.replace(from, to)).unwrap_err().to_string();
    assert!(definition_of(folder.path(), OWN).is_ok());
    assert!(fault("label_columns", "label_colums").contains("did you mean `label_columns`?"));
    assert!(fault("name = \"own\"", "name = \"other\"").contains("make them equal"));
    assert!(fault("patterns = [\"**/*.pcap\"]", "patterns = []").contains("`files.patterns` is empty"));
    assert!(fault("(?<traffic>", "(?<trafic>").contains("most similar is `traffic`"));
    assert!(fault("cut in transfer", " ").contains("has no reason"));
}

#[test]
fn without_labels_every_capture_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let own = definition_of(folder.path(), OWN).unwrap();
    let stripped = own.clone().without_labels();
    let rule = &OWN[OWN.find("[[rule]]").unwrap()..];
    let text = OWN.replace("[\"traffic\"]", "[]").replace(rule, "");
    let bare = definition_of(folder.path(), &text).unwrap();
    assert!(own.is_labelled() && !stripped.is_labelled() && !bare.is_labelled());
    assert_ne!(own.digest, stripped.digest);
    let root = folder.path().join("own");
    std::fs::create_dir_all(&root).unwrap();
    for name in ["benign-a.pcap", "other.pcap"] {
        std::fs::write(root.join(name), name).unwrap();
    }
    let used = |definition: &DatasetDefinition| {
        let plan = plan(definition, &open_folder(definition, &root).unwrap()).unwrap();
        plan.captures.iter().map(|capture| (capture.file.path.clone(), capture.labels.len())).collect::<Vec<_>>()
    };
    assert_eq!(used(&own), [("benign-a.pcap".to_owned(), 1)]);
    for definition in [stripped, bare] {
        assert_eq!(used(&definition), [("benign-a.pcap".to_owned(), 0), ("other.pcap".to_owned(), 0)]);
    }
}

#[test]
fn a_manifest_tells_used_from_unused() {
    let folder = tempfile::tempdir().unwrap();
    let definition = definition_of(folder.path(), OWN).unwrap();
    let root = folder.path().join("own");
    for name in ["benign-a.pcap", "x/malware-b.PCAP", "other.pcap", "broken/benign-c.pcap", "README"] {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, name).unwrap();
    }
    let opened = locate_in(&definition, std::slice::from_ref(&root), "").unwrap();
    assert_eq!(plan(&definition, &opened).unwrap().unlabelled[0].path, "other.pcap");
    let manifest = verify(&Dataset { definition, folder: opened }, &Silent).unwrap();
    let states: Vec<(&str, &str)> =
        manifest.entries.iter().map(|entry| (entry.state.name(), entry.path.as_str())).collect();
    assert_eq!(
        states,
        [
            ("used", "benign-a.pcap"),
            ("used", "x/malware-b.PCAP"),
            ("without_label", "other.pcap"),
            ("excluded", "broken/benign-c.pcap"),
            ("unexpected", "README"),
        ]
    );
    let first = &manifest.entries[0];
    // printf benign-a.pcap | sha256sum
    assert_eq!(first.sha256.as_deref(), Some("1cd810258ddebd5d41e11bedeb29b74a8960f16f597d1d714745a476f9b3477b"));
    assert!(first.damage.as_ref().is_some_and(|damage| damage.contains("not a pcap")), "{:?}", first.damage);
    assert_eq!(manifest.entries[3].note.as_deref(), Some("cut in transfer"));
}

#[test]
fn a_capture_that_is_there_twice_is_used_once_and_missing_ones_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let definition = shipped("iscxvpn2016");
    std::fs::write(folder.path().join("AIMchat1.pcapng"), "").unwrap();
    let planned = || plan(&definition, &open_folder(&definition, folder.path()).unwrap()).unwrap();
    let one = planned();
    assert_eq!((one.captures.len(), one.missing.len()), (1, definition.expected_stems().len() - 1));
    std::fs::write(folder.path().join("aimchat1.pcap"), "").unwrap();
    std::fs::write(folder.path().join("AIMCHAT1.pcap.gz"), "").unwrap();
    let three = planned();
    assert_eq!((three.captures.len(), three.missing.len()), (1, one.missing.len()));
    assert_eq!(three.captures[0].file.path, "aimchat1.pcap");
    let unused: Vec<(&str, &str)> =
        three.duplicates.iter().map(|duplicate| (duplicate.file.path.as_str(), duplicate.used.as_str())).collect();
    assert_eq!(unused, [("AIMCHAT1.pcap.gz", "aimchat1.pcap"), ("AIMchat1.pcapng", "aimchat1.pcap")]);
}

#[test]
fn shared_label_tables_are_the_projects() {
    for name in ["iscxvpn2016", "iscxtor2016"] {
        let path = project().join(format!("../shared/data/labels/{name}.csv"));
        let Ok(shared) = std::fs::read_to_string(&path) else {
            eprintln!("skipped: {} is missing", path.display());
            return;
        };
        let own = std::fs::read_to_string(project().join(format!("data/{name}.csv"))).unwrap();
        // Line endings depend on the publisher.
        assert!(own.lines().eq(shared.lines()), "{name}");
    }
}

#[test]
fn real_captures_load_in_a_fixed_order_at_any_number_of_threads() {
    let root = project().join("../shared/data/ustc-tfc2016-sessions");
    if !root.is_dir() {
        eprintln!("skipped: {} is missing", root.display());
        return;
    }
    let definition = shipped("ustc-tfc2016");
    let folder = open_folder(&definition, &root).unwrap();
    let dataset = [Dataset { definition, folder }];
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| load(&dataset, &FlowOptions::default(), &Silent)).unwrap()
    };
    let (one, four) = (on(1), on(4));
    assert_eq!(one.captures.len(), 20);
    assert!(one.unlabelled.is_empty() && one.missing.is_empty());
    assert!(one.flows.len() > 6000, "{}", one.flows.len());
    assert!(one.flows == four.flows);
    assert_eq!(one.captures.iter().map(|capture| capture.flows).sum::<u64>(), one.flows.len() as u64);
    let first = &one.flows[0];
    assert_eq!(first.provenance.flow_id(), "benign-BitTorrent.pcap#0");
    assert_eq!((first.labels["traffic"].as_str(), first.labels["application"].as_str()), ("benign", "BitTorrent"));
}

/// A dataset of generated captures in `folder`.
fn generated(folder: &Path) -> Dataset {
    let options = synth::SynthOptions { flows_per_class: 2, captures_per_class: 1, ..synth::SynthOptions::default() };
    synth::generate(&options, folder, &Silent).unwrap();
    let definition = shipped("synth");
    Dataset { folder: open_folder(&definition, folder).unwrap(), definition }
}

#[test]
fn several_datasets_are_merged_under_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let one = generated(&folder.path().join("synth"));
    let alone = load(std::slice::from_ref(&one), &FlowOptions::default(), &Silent).unwrap();
    assert_eq!(alone.captures.len(), synth::CLASSES.len());
    assert!(alone.unlabelled.is_empty() && !alone.flows.is_empty());
    assert!(
        alone
            .flows
            .iter()
            .all(|flow| flow.labels.len() == 4 && flow.provenance.capture.contains(&flow.labels["category"]))
    );

    let root = folder.path().join("own");
    std::fs::create_dir(&root).unwrap();
    let source = one.folder.root.join(&one.folder.captures[0].path);
    std::fs::copy(source, root.join("malware-x.pcap")).unwrap();
    let definition = definition_of(folder.path(), OWN).unwrap();
    let two = Dataset { folder: open_folder(&definition, &root).unwrap(), definition };
    let both = load(&[one.clone(), two], &FlowOptions::default(), &Silent).unwrap();
    assert_eq!(both.captures.len(), alone.captures.len() + 1);
    assert_eq!(both.flows[0].provenance.capture, format!("synth/{}", alone.flows[0].provenance.capture));
    let last = both.flows.last().unwrap();
    assert_eq!((last.provenance.capture.as_str(), last.labels["traffic"].as_str()), ("own/malware-x.pcap", "malware"));
    let twice = load(&[one.clone(), one], &FlowOptions::default(), &Silent).unwrap_err().to_string();
    assert!(twice.contains("listed twice"), "{twice}");
}

#[test]
fn flows_of_a_full_capture_get_the_labels_of_its_netflow_file_and_the_rest_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let synth = generated(&folder.path().join("synth"));
    let root = folder.path().join("ctu13/1");
    std::fs::create_dir_all(&root).unwrap();
    let source = synth.folder.root.join(&synth.folder.captures[0].path);
    let alone = load(std::slice::from_ref(&synth), &FlowOptions::default(), &Silent).unwrap();
    let flows: Vec<_> =
        alone.flows.iter().filter(|flow| flow.provenance.capture == alone.captures[0].capture).collect();
    assert!(flows.len() >= 2);
    std::fs::copy(source, root.join("capture20110810.truncated.pcap")).unwrap();
    let definition = shipped("ctu13");
    let open = || Dataset {
        definition: definition.clone(),
        folder: open_folder(&definition, root.parent().unwrap()).unwrap(),
    };
    let error = load(&[open()], &FlowOptions::default(), &Silent).unwrap_err().to_string();
    assert!(error.contains("add its flow-label file, named capture20110810.*"), "{error}");

    // The first flow is labelled as a bot's, with endpoints swapped; the second is background; the others have no line.
    let mut text = "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,Label\n".to_owned();
    for (flow, label) in flows.iter().zip(["flow=From-Botnet-V42-UDP-DNS", "flow=Background"]) {
        let tuple = flow.provenance.five_tuple;
        let transport = if tuple.transport == etcbench_capture::Transport::Tcp { "tcp" } else { "udp" };
        let seconds = flow.provenance.start / 1_000_000_000 + 7_200;
        let (days, clock) = (seconds / 86_400, seconds % 86_400);
        let (mut year, mut day) = (1970, days);
        let length = |year: i64| if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) { 366 } else { 365 };
        while day >= length(year) {
            day -= length(year);
            year += 1;
        }
        let mut month = 1;
        for days in [31, length(year) - 337, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            if day < days {
                break;
            }
            day -= days;
            month += 1;
        }
        text += &format!(
            "{year}/{month:02}/{:02} {:02}:{:02}:{:02}.0,1.5,{transport},{},{},<-,{},{},{label}\n",
            day + 1,
            clock / 3600,
            clock / 60 % 60,
            clock % 60,
            tuple.destination.ip(),
            tuple.destination.port(),
            tuple.source.ip(),
            tuple.source.port(),
        );
    }
    std::fs::write(root.join("capture20110810.binetflow"), text).unwrap();
    let loaded = load(&[open()], &FlowOptions::default(), &Silent).unwrap();
    let capture = &loaded.captures[0];
    assert_eq!((capture.flows, capture.unused, capture.ambiguous, capture.malformed_lines.count), (1, 1, 0, 0));
    assert_eq!(capture.unmatched as usize, flows.len() - 2);
    assert_eq!(loaded.without_label.len(), flows.len() - 2);
    assert_eq!(loaded.flows[0].provenance.number, flows[0].provenance.number);
    let labels: Vec<&str> = loaded.flows[0].labels.values().map(String::as_str).collect();
    assert_eq!(labels, ["1", "headers", "botnet", "neris"]);
}
