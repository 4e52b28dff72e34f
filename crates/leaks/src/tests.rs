//! Planted leaks are found, and nothing is found if there is none.

use std::net::SocketAddr;

use ndarray::Array2;
use proptest::prelude::*;

use super::*;
use etcbench_capture::{HeaderLayout, Transport};
use etcbench_dataset::FlowProvenance;
use etcbench_feature::{Mask, PAD, TokenArray, tokenize};
use etcbench_flow::{FiveTuple, FlowPacket, PacketDirection};

/// Parameters of a crafted flow, which has two packets that differ only in their IP identification.
#[derive(Clone)]
struct Crafted {
    class: u32,
    capture: &'static str,
    port: u16,
    identification: u16,
    start: i64,
    payload: Vec<u8>,
}

fn crafted(row: usize) -> Crafted {
    // Values depend only on the row number, so no field reveals the class.
    Crafted {
        class: (row % 2) as u32,
        capture: if row.is_multiple_of(2) { "a.pcap" } else { "b.pcap" },
        port: 443,
        identification: (row as u16).wrapping_mul(40_503),
        start: row as i64 * 1000,
        payload: vec![(row * 7919 % 251) as u8, (row * 104_729 % 241) as u8],
    }
}

fn packet(flow: &Crafted, number: u16) -> FlowPacket {
    let mut bytes = vec![0; 40];
    bytes[0] = 0x45;
    bytes[4..6].copy_from_slice(&(flow.identification.wrapping_add(number)).to_be_bytes());
    bytes[8] = 64;
    bytes[9] = 6;
    bytes[12..20].copy_from_slice(&[10, 0, 0, 1, 192, 0, 2, 1]);
    bytes[20..22].copy_from_slice(&40_000_u16.to_be_bytes());
    bytes[22..24].copy_from_slice(&flow.port.to_be_bytes());
    bytes[32] = 0x50;
    bytes.extend(&flow.payload);
    FlowPacket {
        direction: PacketDirection::Forward,
        timestamp: flow.start,
        wire_length: bytes.len() as u32,
        bytes,
        layout: HeaderLayout { transport_offset: 20, payload_offset: 40, transport: Transport::Tcp },
    }
}

/// Reports on a split of `flows` in which the last `tested` flows are the test part.
fn report(flows: &[Crafted], options: &TokenOptions, tested: usize) -> LeakReport {
    let made: Vec<Flow> = flows
        .iter()
        .enumerate()
        .map(|(row, flow)| Flow {
            five_tuple: FiveTuple {
                source: SocketAddr::from(([10, 0, 0, 1], 1000 + row as u16)),
                destination: SocketAddr::from(([192, 0, 2, 1], flow.port)),
                transport: Transport::Tcp,
            },
            start: flow.start,
            end: flow.start + 100,
            packets: vec![packet(flow, 0), packet(flow, 1)],
            statistics: Vec::new(),
        })
        .collect();
    let size = options.packets * options.bytes;
    let mut values = vec![PAD; flows.len() * size];
    for (flow, out) in made.iter().zip(values.chunks_exact_mut(size)) {
        tokenize(flow, options, out).unwrap();
    }
    let features = FeatureSet {
        tokens: TokenArray { packets: options.packets, bytes: options.bytes, values },
        // A statistic without information, and a constant one.
        statistics: Array2::from_shape_fn(
            (flows.len(), 2),
            |(row, column)| if column == 0 { -(row as f32) } else { 1.0 },
        ),
        statistic_names: vec!["falling".to_owned(), "constant".to_owned()],
        sequences: Array2::zeros((flows.len(), 0)),
        flowpics: Array2::zeros((flows.len(), 0)),
        labels: flows.iter().map(|flow| flow.class).collect(),
        class_names: vec!["even".to_owned(), "odd".to_owned()],
        provenance: made
            .iter()
            .zip(flows)
            .enumerate()
            .map(|(row, (made, flow))| FlowProvenance {
                capture: flow.capture.to_owned(),
                number: row as u32,
                five_tuple: made.five_tuple,
                start: made.start,
                end: made.end,
                packet: None,
            })
            .collect(),
    };
    let train = flows.len() - tested;
    let split = Split { train: (0..train).collect(), validation: Vec::new(), test: (train..flows.len()).collect() };
    let made: Vec<&Flow> = made.iter().collect();
    leak_reports(&features, Some((&made, options)), &[&split]).remove(0)
}

/// Returns flows with one statistic and a class each.
pub(super) fn features_of_statistics(rows: &[(f32, u32)]) -> FeatureSet {
    let five_tuple = FiveTuple {
        source: SocketAddr::from(([10, 0, 0, 1], 1000)),
        destination: SocketAddr::from(([192, 0, 2, 1], 443)),
        transport: Transport::Tcp,
    };
    let provenance =
        |number| FlowProvenance { capture: "a".to_owned(), number, five_tuple, start: 0, end: 0, packet: None };
    FeatureSet {
        tokens: TokenArray { packets: 0, bytes: 0, values: Vec::new() },
        statistics: Array2::from_shape_fn((rows.len(), 1), |(row, _)| rows[row].0),
        statistic_names: vec!["value".to_owned()],
        sequences: Array2::zeros((rows.len(), 0)),
        flowpics: Array2::zeros((rows.len(), 0)),
        labels: rows.iter().map(|row| row.1).collect(),
        class_names: vec!["even".to_owned(), "odd".to_owned()],
        provenance: (0..rows.len() as u32).map(provenance).collect(),
    }
}

fn options(masks: &[Mask]) -> TokenOptions {
    TokenOptions { packets: 2, bytes: 64, masks: masks.to_vec(), ..TokenOptions::default() }
}

fn field<'a>(report: &'a LeakReport, name: &str) -> Option<&'a FieldScore> {
    report.fields.iter().find(|score| score.field == name)
}

fn duplicates<'a>(report: &'a LeakReport, features: &str) -> &'a Duplicates {
    report.duplicates.iter().find(|duplicates| duplicates.features == features).unwrap()
}

#[test]
fn a_port_that_gives_the_class_is_found_and_gone_once_masked() {
    let flows: Vec<Crafted> =
        (0..300).map(|row| Crafted { port: if row % 2 == 0 { 443 } else { 8443 }, ..crafted(row) }).collect();
    let found = report(&flows, &options(&[]), 60);
    assert_eq!((found.training_flows, found.test_flows), (240, 60));
    let port = field(&found, "destination_port").unwrap();
    assert_eq!((port.macro_f1, port.accuracy, port.values, port.packet), (1.0, 1.0, 2, Some(1)));
    assert_eq!(port.kind, FieldKind::Identifier);
    assert_eq!(found.fields[0].field, "destination_port");
    // The bytes of the port are found too, and fields without information are not.
    assert!(found.byte_positions.iter().any(|score| score.field == "byte_23" && score.macro_f1 == 1.0));
    assert!(field(&found, "ip_identification").unwrap().macro_f1 < 0.7);
    assert!((found.majority_macro_f1 - 1.0 / 3.0).abs() < 1e-12, "{}", found.majority_macro_f1);
    // Constant fields are not reported.
    assert!(field(&found, "ttl").is_none() && field(&found, "constant").is_none());
    assert!(field(&found, "falling").is_some());

    let masked = report(&flows, &options(&[Mask::Ports]), 60);
    assert!(field(&masked, "destination_port").is_none());
    assert!(masked.byte_positions.iter().all(|score| score.macro_f1 < 0.8));
    // Bytes from the payload on contain no ports either.
    let payload = TokenOptions { packet_start: etcbench_feature::PacketStart::Payload, ..options(&[]) };
    assert!(field(&report(&flows, &payload, 60), "destination_port").is_none());
}

#[test]
fn planted_duplicates_are_counted_by_class_and_label() {
    let mut flows: Vec<Crafted> = (0..100).map(crafted).collect();
    // Unique payloads, then copies in the test part: 92 unchanged, 93 with another class, 94 equal to flow 4 except for
    // the IP identification.
    for (row, flow) in flows.iter_mut().enumerate() {
        flow.payload = vec![row as u8, 1];
    }
    flows[92] = flows[2].clone();
    flows[93] = Crafted { class: 1, ..flows[2].clone() };
    flows[94] = Crafted { identification: 9, ..flows[4].clone() };
    let found = report(&flows, &options(&[]), 10);
    let bytes = duplicates(&found, "bytes");
    assert_eq!((bytes.test_flows, bytes.of_another_class, bytes.of_other_classes_only), (2, 1, 1));
    assert!((bytes.share - 0.2).abs() < 1e-12);
    let counts: Vec<(usize, usize)> = bytes.classes.iter().map(|class| (class.test_flows, class.duplicates)).collect();
    assert_eq!(counts, [(5, 1), (5, 1)]);
    assert_eq!(duplicates(&found, "bytes_but_identifiers").test_flows, 3);
    assert_eq!(duplicates(&found, "statistics").test_flows, 0);
    // If training contains the same bytes under two labels, the copy also counts as one of another class.
    flows[5] = Crafted { class: 0, ..flows[3].clone() };
    flows[95] = flows[3].clone();
    let found = report(&flows, &options(&[]), 10);
    let bytes = duplicates(&found, "bytes");
    assert_eq!((bytes.test_flows, bytes.of_another_class, bytes.of_other_classes_only), (3, 2, 1));
}

#[test]
fn shared_captures_connections_and_times_are_counted() {
    let mut flows: Vec<Crafted> = (0..40).map(crafted).collect();
    for flow in &mut flows[30..] {
        flow.capture = "late.pcap";
    }
    flows[30].capture = "a.pcap";
    flows[30].start = 2_050;
    let found = report(&flows, &options(&[]), 10);
    assert_eq!((found.shared.captures, found.shared.capture_flows), (1, 1));
    assert_eq!((found.shared.hosts, found.shared.host_flows), (1, 10));
    // It overlaps flow 2, which lasts from 2000 to 2100, and begins between its class's training flows.
    assert_eq!((found.shared.concurrent_flows, found.shared.within_training_time_flows), (1, 1));
    assert_eq!(found.shared.connection_flows, 0);
    let captures: Vec<(usize, usize)> =
        found.classes.iter().map(|class| (class.captures, class.captures_of_its_own)).collect();
    assert_eq!(captures, [(2, 1), (2, 1)]);
    assert_eq!(found.classes[0].flows, 20);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_reported_on(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..150), 4..20),
        transport_offset in 0u16..80, hello: bool,
    ) {
        let endpoint: SocketAddr = "1.2.3.4:5".parse().unwrap();
        let five_tuple = FiveTuple { source: endpoint, destination: endpoint, transport: Transport::Tcp };
        let flows: Vec<Flow> = packets
            .into_iter()
            .map(|mut bytes| {
                let payload = usize::from(transport_offset) + 20;
                if hello && bytes.len() > payload + 6 {
                    (bytes[payload], bytes[payload + 5]) = (22, 1);
                }
                let layout =
                    HeaderLayout { transport_offset, payload_offset: payload as u16, transport: Transport::Tcp };
                let packet =
                    FlowPacket { direction: PacketDirection::Forward, timestamp: 0, wire_length: 0, bytes, layout };
                Flow { five_tuple, start: 0, end: 0, packets: vec![packet], statistics: Vec::new() }
            })
            .collect();
        let options = TokenOptions { packets: 2, bytes: 90, ..TokenOptions::default() };
        let mut values = vec![PAD; flows.len() * 180];
        for (flow, out) in flows.iter().zip(values.chunks_exact_mut(180)) {
            tokenize(flow, &options, out).unwrap();
        }
        let features = FeatureSet {
            tokens: TokenArray { packets: 2, bytes: 90, values },
            statistics: Array2::zeros((flows.len(), 0)),
            statistic_names: Vec::new(),
            sequences: Array2::zeros((flows.len(), 0)),
            flowpics: Array2::zeros((flows.len(), 0)),
            labels: (0..flows.len() as u32).map(|row| row % 2).collect(),
            class_names: vec!["even".to_owned(), "odd".to_owned()],
            provenance: (0..flows.len() as u32)
                .map(|number| FlowProvenance { capture: "a".to_owned(), number, five_tuple, start: 0, end: 0, packet: None })
                .collect(),
        };
        let split = Split { train: (2..flows.len()).collect(), validation: Vec::new(), test: vec![0, 1] };
        let flows: Vec<&Flow> = flows.iter().collect();
        let reports = leak_reports(&features, Some((&flows, &options)), &[&split, &split]);
        prop_assert_eq!(&reports[0], &reports[1]);
        let scores = reports[0].fields.iter().chain(&reports[0].byte_positions);
        for score in scores {
            prop_assert!((0.0..=1.0).contains(&score.macro_f1) && score.values <= flows.len());
        }
    }
}

#[test]
fn the_server_name_is_found_in_a_client_hello() {
    // Record header, handshake header, version, random, session ID, two cipher suites, compression, extensions.
    let hello = |name: &str| {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([2, 0xaa, 0xbb]);
        body.extend([0, 4, 0x13, 1, 0x13, 2, 1, 0]);
        // The server name must not be the first extension.
        let mut extensions = vec![0, 10, 0, 4, 0, 2, 0, 23];
        extensions.extend([0, 0, 0, name.len() as u8 + 5, 0, name.len() as u8 + 3, 0, 0, name.len() as u8]);
        extensions.extend(name.bytes());
        body.extend([0, extensions.len() as u8]);
        body.extend(extensions);
        let mut hello = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
        hello.extend(body);
        hello
    };
    let flows: Vec<Crafted> = (0..40)
        .map(|row| Crafted { payload: hello(["a.example.org", "b.example.net"][row % 2]), ..crafted(row) })
        .collect();
    let wide = TokenOptions { bytes: 128, ..options(&[]) };
    let found = report(&flows, &wide, 10);
    let name = field(&found, "tls_server_name").unwrap();
    assert_eq!((name.macro_f1, name.values, name.kind), (1.0, 2, FieldKind::Identifier));
    // The random is present, but constant; 60 bytes end before the name.
    assert!(field(&found, "tls_random").is_none());
    assert!(field(&report(&flows, &TokenOptions { bytes: 60, ..options(&[]) }, 10), "tls_server_name").is_none());
}
