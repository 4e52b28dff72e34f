//! Tests of selections on hand-crafted flows, and of real captures from folder to features.

use std::path::Path;

use super::*;
use crate::{PAD, StoreHeader, StoreReader, write_store};
use etcbench_capture::{HeaderLayout, Transport};
use etcbench_dataset::{Dataset, DatasetDefinition, FlowProvenance, definition_path, load, open_folder};
use etcbench_flow::{FiveTuple, Flow, FlowPacket, PacketDirection};
use etcbench_storage::declarative;
use etcbench_storage::progress::Silent;

/// Creates a flow of one packet with `bytes`, with statistics for `packets` packets.
fn flow(number: u32, labels: &[(&str, &str)], packets: f64, bytes: &[u8]) -> LabelledFlow {
    let five_tuple = FiveTuple {
        source: "10.0.0.1:1".parse().unwrap(),
        destination: "10.0.0.2:2".parse().unwrap(),
        transport: Transport::Udp,
    };
    let packet = FlowPacket {
        direction: PacketDirection::Forward,
        timestamp: 0,
        wire_length: 60,
        bytes: bytes.to_vec(),
        layout: HeaderLayout { transport_offset: 20, payload_offset: 28, transport: Transport::Udp },
    };
    let statistics = STATISTIC_NAMES.iter().map(|name| if *name == "packets" { packets } else { 0.25 }).collect();
    LabelledFlow {
        provenance: FlowProvenance { capture: "a.pcap".to_owned(), number, five_tuple, start: 0, end: 0, packet: None },
        labels: labels.iter().map(|(column, value)| ((*column).to_owned(), (*value).to_owned())).collect(),
        flow: Flow { five_tuple, start: 0, end: 0, packets: vec![packet], statistics },
    }
}

fn sample_flows() -> Vec<LabelledFlow> {
    let rows = [("vpn", "chat"), ("non_vpn", "voip"), ("non_vpn", "chat"), ("non_vpn", "chat"), ("non_vpn", "video")];
    let mut flows: Vec<LabelledFlow> = (0u32..)
        .zip(rows)
        .map(|(number, (tunnel, category))| {
            flow(number, &[("tunnel", tunnel), ("category", category)], 3.0, &[number as u8; 4])
        })
        .collect();
    flows[3].flow.statistics[STATISTIC_NAMES.iter().position(|name| *name == "packets").unwrap()] = 1.0;
    flows
}

fn tokens() -> TokenOptions {
    TokenOptions { packets: 2, bytes: 5, ..TokenOptions::default() }
}

fn build(text: &str) -> Result<(FeatureSet, Unselected), SelectionError> {
    let selection: Selection = declarative::parse(text, "e.toml").unwrap();
    build_features(&sample_flows(), &selection, &tokens(), PacketColumns::default(), &FlowOptions::default(), 1)
}

#[test]
fn duplicates_go_class_by_class_and_the_first_stays() {
    // Numbers 1 and 2 have the bytes of 0; 3 differs; 4 has the bytes of 0 but another class.
    let category = |name: &'static str| [("category", name)];
    let flows: Vec<LabelledFlow> = [("a", 7), ("a", 7), ("a", 7), ("a", 9), ("b", 7)]
        .iter()
        .zip(0..)
        .map(|(&(class, byte), number)| flow(number, &category(class), 3.0, &[byte; 40]))
        .collect();
    let of = |duplicates: &str, tokens: &TokenOptions| {
        let text = format!("label = \"category\"\n{duplicates}");
        let selection: Selection = declarative::parse(&text, "e.toml").unwrap();
        let (set, unselected) =
            build_features(&flows, &selection, tokens, PacketColumns::default(), &FlowOptions::default(), 1).unwrap();
        let numbers: Vec<u32> = set.provenance.iter().map(|row| row.number).collect();
        assert_eq!(set.len() + unselected.duplicates as usize, flows.len());
        assert_eq!(set.tokens.values.len(), set.len() * tokens.packets * tokens.bytes);
        numbers
    };
    let tokens = TokenOptions { packets: 1, bytes: 30, ..TokenOptions::default() };
    assert_eq!(of("", &tokens), [0, 1, 2, 3, 4]);
    assert_eq!(of("duplicates = \"drop_identical\"", &tokens), [0, 3, 4]);
    assert_eq!(of("duplicates = \"drop_near\"", &tokens), [0, 3, 4]);

    // Flows that differ only in their ports.
    let mut ports = flows.clone();
    ports.iter_mut().take(3).zip(0..).for_each(|(flow, port)| flow.flow.packets[0].bytes[20..24].fill(port));
    ports.iter_mut().for_each(|flow| flow.flow.packets[0].bytes[0] = 0x45);
    let selected = |duplicates: &str| {
        let text = format!("label = \"category\"\nduplicates = \"{duplicates}\"");
        let selection: Selection = declarative::parse(&text, "e.toml").unwrap();
        build_features(&ports, &selection, &tokens, PacketColumns::default(), &FlowOptions::default(), 1)
            .unwrap()
            .1
            .duplicates
    };
    assert_eq!((selected("drop_identical"), selected("drop_near")), (0, 2));
}

#[test]
fn a_packet_as_a_sample_keeps_the_class_of_its_flow_and_nothing_else_of_it() {
    let mut flows = sample_flows();
    let second = FlowPacket { bytes: vec![200; 3], ..flows[0].flow.packets[0].clone() };
    flows[0].flow.packets.push(second);
    let empty = FlowPacket { bytes: Vec::new(), ..flows[1].flow.packets[0].clone() };
    flows[1].flow.packets.push(empty);
    let text = "label = \"category\"\nsample = \"packet\"";
    let selection: Selection = declarative::parse(text, "e.toml").unwrap();
    let (set, _) =
        build_features(&flows, &selection, &tokens(), PacketColumns::default(), &FlowOptions::default(), 1).unwrap();
    let ids: Vec<String> = set.provenance.iter().map(FlowProvenance::flow_id).collect();
    assert_eq!(ids, ["a.pcap#0.0", "a.pcap#0.1", "a.pcap#1.0", "a.pcap#2.0", "a.pcap#3.0", "a.pcap#4.0"]);
    assert_eq!((set.tokens.packets, set.tokens.bytes, set.statistics.ncols()), (1, 5, 0));
    assert_eq!(set.tokens.flow(1), [200, 200, 200, PAD, PAD]);
    let classes: Vec<&str> = set.labels.iter().map(|&label| set.class_names[label as usize].as_str()).collect();
    assert_eq!(classes, ["chat", "chat", "voip", "chat", "chat", "video"]);
}

fn fault(text: &str) -> String {
    build(text).unwrap_err().to_string()
}

#[test]
fn filter_label_and_minimum_select_and_count() {
    let (set, unselected) =
        build("filter = { tunnel = [\"non_vpn\"] }\nlabel = \"category\"\nclasses = [\"voip\", \"chat\"]\nminimum_packets = 2\n")
            .unwrap();
    assert_eq!(set.class_names, ["voip", "chat"]);
    assert_eq!(set.labels, [0, 1]);
    assert_eq!(set.provenance.iter().map(|one| one.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(unselected, Unselected { filtered: 1, too_few_packets: 1, of_no_class: 1, ..Unselected::default() });
    assert_eq!(set.tokens.flow(1), [2, 2, 2, 2, PAD, PAD, PAD, PAD, PAD, PAD]);
    assert_eq!(set.statistics.dim(), (2, STATISTIC_NAMES.len()));
    assert_eq!(set.statistics[[0, set.statistic_names.iter().position(|name| name == "packets").unwrap()]], 3.0);
}

#[test]
fn all_values_in_order_and_composed_classes() {
    assert_eq!(build("label = \"category\"").unwrap().0.class_names, ["chat", "video", "voip"]);
    let (set, unselected) = build(
        "[classes]\ncall = { tunnel = \"non_vpn\", category = [\"voip\", \"video\"] }\nhidden = { tunnel = \"vpn\" }\n",
    )
    .unwrap();
    assert_eq!(
        (set.class_names.as_slice(), set.labels.as_slice()),
        (&["call".to_owned(), "hidden".to_owned()][..], &[1, 0, 0][..])
    );
    assert_eq!(unselected.of_no_class, 2);
}

#[test]
fn classes_that_are_not_listed_are_the_values_that_the_filter_leaves() {
    let (set, _) = build("label = \"category\"\nfilter = { tunnel = \"non_vpn\" }").unwrap();
    assert_eq!(set.class_names, ["chat", "video", "voip"]);
    let (set, _) = build("label = \"category\"\nfilter = { tunnel = \"vpn\" }").unwrap();
    assert_eq!(set.class_names, ["chat"]);
}

#[test]
fn the_maximum_is_drawn_from_the_seed_alone() {
    let flows: Vec<LabelledFlow> = (0..40).map(|number| flow(number, &[("kind", "a")], 1.0, &[1])).collect();
    let selection =
        declarative::parse::<Selection>("label = \"kind\"\nmaximum_flows_per_class = 10\n", "e.toml").unwrap();
    let draw = |seed| {
        let (set, unselected) =
            build_features(&flows, &selection, &tokens(), PacketColumns::default(), &FlowOptions::default(), seed)
                .unwrap();
        assert_eq!((set.len(), unselected.over_maximum), (10, 30));
        set.provenance.iter().map(|one| one.number).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    assert!(draw(3).is_sorted());
}

#[test]
fn flows_without_bytes_to_show_are_counted() {
    let flows = [flow(0, &[("kind", "a")], 1.0, &[1; 28]), flow(1, &[("kind", "a")], 1.0, &[1; 30])];
    let selection = declarative::parse::<Selection>("label = \"kind\"", "e.toml").unwrap();
    let options = TokenOptions { packet_start: crate::PacketStart::Payload, ..tokens() };
    let (set, unselected) =
        build_features(&flows, &selection, &options, PacketColumns::default(), &FlowOptions::default(), 1).unwrap();
    assert_eq!((set.len(), unselected.without_bytes, set.provenance[0].number), (1, 1, 1));
}

#[test]
fn selections_that_cannot_work_are_told() {
    assert!(fault("label = \"catgory\"").contains("the most similar is `category`"));
    assert!(fault("label = \"category\"\nfilter = { tunnel = \"non-vpn\" }").contains("known: non_vpn, vpn"));
    assert!(fault("label = \"category\"\nclasses = [\"chat\", \"mail\"]").contains("category = \"mail\""));
    let empty = fault("label = \"category\"\nclasses = [\"chat\", \"video\"]\nfilter = { tunnel = \"vpn\" }");
    assert!(empty.contains("class `video` has no flow") && empty.contains("category = chat;"), "{empty}");
    let two = fault("[classes]\na = { tunnel = \"vpn\" }\nb = { category = \"chat\" }\n");
    assert!(two.contains("flow a.pcap#0 belongs to class `a` and to class `b`"), "{two}");
    assert!(fault("minimum_packets = 1").contains("set `label`"));
    assert!(fault("classes = [\"chat\"]").contains("requires `label`"));
    assert!(fault("label = \"category\"\nclasses = []").contains("`classes` is empty"));
    assert!(fault("label = \"category\"\nclasses = [\"chat\", \"chat\"]").contains("twice"));
    assert!(fault("label = \"category\"\nmaximum_flows_per_class = 0").contains("is 0"));
    let unknown = declarative::parse::<Selection>("labels = \"category\"", "e.toml").unwrap_err().to_string();
    assert!(unknown.contains("did you mean `label`?"), "{unknown}");
}

#[test]
fn real_captures_become_features_through_the_store() {
    let project = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let root = project.join("../shared/data/ustc-tfc2016-sessions");
    if !root.is_dir() {
        eprintln!("skipped: {} is missing", root.display());
        return;
    }
    let definition = DatasetDefinition::read(&definition_path(project, "ustc-tfc2016")).unwrap();
    let folder = open_folder(&definition, &root).unwrap();
    let options = FlowOptions::default();
    let header = StoreHeader {
        datasets: vec![definition.name.clone()],
        label_columns: definition.label_columns.clone(),
        added_columns: Vec::new(),
        statistic_names: STATISTIC_NAMES.iter().map(|name| (*name).to_owned()).collect(),
        flow_options: options.clone(),
    };
    let loaded = load(&[Dataset { definition, folder }], &options, &Silent).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    // If the environment variable is set, keep the file there, to open it from Python.
    let path = std::env::var_os("ETCBENCH_TEST_STORE").map_or(temporary.path().join("flows.parquet"), Into::into);
    write_store(&path, &header, &loaded.flows).unwrap();
    let again: Vec<LabelledFlow> = StoreReader::open(&path).unwrap().collect::<Result<_, _>>().unwrap();
    assert!(again == loaded.flows);
    let selection = declarative::parse::<Selection>(
        "label = \"application\"\nfilter = { traffic = \"malware\" }\n[classes]\n",
        "e.toml",
    );
    assert!(
        build_features(&again, &selection.unwrap(), &TokenOptions::default(), PacketColumns::default(), &options, 0)
            .is_err()
    );
    let selection =
        declarative::parse::<Selection>("label = \"traffic\"\nmaximum_flows_per_class = 500\n", "e.toml").unwrap();
    let (set, unselected) =
        build_features(&again, &selection, &TokenOptions::default(), PacketColumns::default(), &options, 0).unwrap();
    assert_eq!((set.len(), set.class_names.as_slice()), (1000, &["benign".to_owned(), "malware".to_owned()][..]));
    assert_eq!(unselected.over_maximum as usize + set.len(), loaded.flows.len());
    assert_eq!(set.tokens.values.len(), 1000 * 6 * 128);
}
