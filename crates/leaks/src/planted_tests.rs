//! Leaks planted into generated data sets, each of which the report must name, and data sets without leaks, for which
//! it must raise no alarm.

use std::net::SocketAddr;

use ndarray::Array2;
use rand::RngExt;
use rand::seq::SliceRandom;

use super::*;
use etcbench_capture::{HeaderLayout, Transport};
use etcbench_dataset::FlowProvenance;
use etcbench_feature::{PAD, TokenArray, tokenize};
use etcbench_flow::{FiveTuple, FlowPacket, PacketDirection};
use etcbench_storage::seed::generator;

/// Number of flows of a data set, and of captures of each of its two classes.
const FLOWS: usize = 240;
const CAPTURES: usize = 12;
/// Number of bytes that flows keep of a packet.
const KEPT: usize = 96;

/// A generated flow, before it is converted to packets.
#[derive(Clone)]
struct Made {
    class: u32,
    capture: usize,
    start: i64,
    addresses: [u8; 8],
    ports: [u16; 2],
    identification: u16,
    checksum: u16,
    sequence: u32,
    ttl: u8,
    payload: Vec<u8>,
    /// Snap length of the capture.
    snap: usize,
    statistics: [f32; 3],
}

/// Returns a random number between -2 and 2.
fn noise(draw: &mut impl RngExt) -> f32 {
    draw.random::<f32>() * 4.0 - 2.0
}

/// Generates a data set without a leak: fields that identify endpoints, flow or time are independent for each flow;
/// payload and statistics are correlated with the class as in real traffic, but never determine it.
fn clean(seed: u64) -> Vec<Made> {
    let mut draw = generator(seed, "planted flows");
    (0..FLOWS)
        .map(|row| {
            let class = (row % 2) as u32;
            let length = draw.random_range(20..120);
            let mut payload: Vec<u8> = (0..length).map(|_| draw.random()).collect();
            // A byte that equals the class in seven of ten flows.
            payload[4] = if draw.random::<f64>() < 0.7 { class as u8 } else { 1 - class as u8 };
            Made {
                class,
                capture: (row / 2) % CAPTURES * 2 + row % 2,
                start: draw.random_range(0..1_000_000_000),
                addresses: draw.random(),
                ports: [draw.random_range(1024..60_000), draw.random_range(1024..60_000)],
                identification: draw.random(),
                checksum: draw.random(),
                sequence: draw.random(),
                ttl: 64,
                payload,
                snap: usize::MAX,
                statistics: [class as f32 + noise(&mut draw), noise(&mut draw), 3.0 * noise(&mut draw)],
            }
        })
        .collect()
}

fn packet(made: &Made, number: u16) -> FlowPacket {
    let mut bytes = vec![0; 40];
    bytes[0] = 0x45;
    let length = 40 + made.payload.len();
    bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    bytes[4..6].copy_from_slice(&made.identification.wrapping_add(number).to_be_bytes());
    bytes[8] = made.ttl;
    bytes[9] = 6;
    bytes[10..12].copy_from_slice(&made.checksum.wrapping_mul(number + 1).to_be_bytes());
    bytes[12..20].copy_from_slice(&made.addresses);
    bytes[20..22].copy_from_slice(&made.ports[0].to_be_bytes());
    bytes[22..24].copy_from_slice(&made.ports[1].to_be_bytes());
    bytes[24..28].copy_from_slice(&made.sequence.wrapping_add(u32::from(number)).to_be_bytes());
    bytes[32] = 0x50;
    bytes.extend(&made.payload);
    bytes.truncate(KEPT.min(made.snap));
    FlowPacket {
        direction: PacketDirection::Forward,
        timestamp: made.start,
        wire_length: length as u32,
        bytes,
        layout: HeaderLayout { transport_offset: 20, payload_offset: 40, transport: Transport::Tcp },
    }
}

/// How the flows are divided.
enum Division {
    Captures,
    Random,
    /// Like [`Division::Captures`], but the last flows are also tested, whatever capture they are from.
    Last(usize),
}

fn report(made: &[Made], division: &Division, seed: u64) -> LeakReport {
    let options = TokenOptions { packets: 2, bytes: 80, ..TokenOptions::default() };
    let end = |address: &[u8], port: u16| SocketAddr::from(([address[0], address[1], address[2], address[3]], port));
    let five_tuple = |made: &Made| FiveTuple {
        source: end(&made.addresses[..4], made.ports[0]),
        destination: end(&made.addresses[4..], made.ports[1]),
        transport: Transport::Tcp,
    };
    let flow = |made: &Made| Flow {
        five_tuple: five_tuple(made),
        start: made.start,
        end: made.start + 10,
        packets: vec![packet(made, 0), packet(made, 1)],
        statistics: Vec::new(),
    };
    let flows: Vec<Flow> = made.iter().map(flow).collect();
    let size = options.packets * options.bytes;
    let mut values = vec![PAD; made.len() * size];
    for (flow, out) in flows.iter().zip(values.chunks_exact_mut(size)) {
        tokenize(flow, &options, out).unwrap();
    }
    let provenance = |(row, made): (usize, &Made)| FlowProvenance {
        capture: format!("{}.pcap", made.capture),
        number: row as u32,
        five_tuple: five_tuple(made),
        start: made.start,
        end: made.start + 10,
        packet: None,
    };
    let features = FeatureSet {
        tokens: TokenArray { packets: options.packets, bytes: options.bytes, values },
        statistics: Array2::from_shape_fn((made.len(), 3), |(row, column)| made[row].statistics[column]),
        statistic_names: ["first", "second", "third"].map(str::to_owned).to_vec(),
        sequences: Array2::zeros((made.len(), 0)),
        flowpics: Array2::zeros((made.len(), 0)),
        labels: made.iter().map(|made| made.class).collect(),
        class_names: ["a", "b"].map(str::to_owned).to_vec(),
        provenance: made.iter().enumerate().map(provenance).collect(),
    };
    let mut tested: Vec<bool> = match division {
        // Four captures of each class.
        Division::Captures | Division::Last(_) => made.iter().map(|made| made.capture < 8).collect(),
        Division::Random => {
            let mut tested: Vec<bool> = (0..made.len()).map(|row| row < made.len() / 3).collect();
            tested.shuffle(&mut generator(seed, "planted split"));
            tested
        }
    };
    if let Division::Last(count) = division {
        let first = made.len() - count;
        tested.iter_mut().skip(first).for_each(|tested| *tested = true);
    }
    let rows = |wanted: bool| (0..made.len()).filter(|&row| tested[row] == wanted).collect::<Vec<_>>();
    let split = Split { train: rows(false), validation: Vec::new(), test: rows(true) };
    let flows: Vec<&Flow> = flows.iter().collect();
    leak_reports(&features, Some((&flows, &options)), &[&split]).remove(0)
}

/// A leak: its name, the change to a clean data set, the division, and the alarm that it must raise.
type Planted = (&'static str, fn(&mut Vec<Made>), Division, AlarmKind);

/// Adds copies of training flows (captures from 8 on), modified by `change`, as flows of tested captures.
fn copies(made: &mut Vec<Made>, change: fn(&mut Made, usize)) {
    let trained: Vec<Made> = made.iter().filter(|made| made.capture >= 8).take(20).cloned().collect();
    for (number, mut copy) in trained.into_iter().enumerate() {
        copy.capture = copy.class as usize;
        change(&mut copy, number);
        made.push(copy);
    }
}

fn planted() -> Vec<Planted> {
    vec![
        ("the same flows twice", |made| copies(made, |_, _| {}), Division::Captures, AlarmKind::IdenticalFlows),
        (
            "the same flows under other addresses, ports and numbers",
            |made| {
                copies(made, |copy, number| {
                    copy.addresses = [number as u8; 8];
                    copy.ports = [1000 + number as u16, 2000];
                    copy.identification ^= 77;
                    copy.sequence ^= 1234;
                    copy.checksum ^= 99;
                });
            },
            Division::Captures,
            AlarmKind::NearIdenticalFlows,
        ),
        (
            "windows of one flow on both sides",
            |made| {
                let windows: Vec<Made> = made.iter().filter(|made| made.capture >= 8).take(20).cloned().collect();
                made.extend(windows.into_iter().enumerate().map(|(number, mut window)| {
                    window.payload.rotate_left(3);
                    window.payload[10] = number as u8;
                    window.start += 1_000;
                    window
                }));
            },
            Division::Last(20),
            AlarmKind::ConnectionOnBothSides,
        ),
        ("flows of one capture on both sides", |_| {}, Division::Random, AlarmKind::CaptureOnBothSides),
        (
            "per-capture constants",
            |made| made.iter_mut().for_each(|made| made.ports[1] = 5000 + (made.capture * 17 % 29) as u16),
            Division::Random,
            AlarmKind::Identifier,
        ),
        (
            "a server per class",
            |made| made.iter_mut().for_each(|made| made.addresses[4..].fill(made.class as u8)),
            Division::Captures,
            AlarmKind::Identifier,
        ),
        (
            "a port per class",
            |made| made.iter_mut().for_each(|made| made.ports[1] = if made.class == 0 { 443 } else { 8443 }),
            Division::Captures,
            AlarmKind::Identifier,
        ),
        (
            "identifications that one class leaves at zero",
            |made| made.iter_mut().filter(|made| made.class == 1).for_each(|made| made.identification = 0),
            Division::Captures,
            AlarmKind::Identifier,
        ),
        (
            "checksums that the machine of one class left to its network card",
            |made| made.iter_mut().filter(|made| made.class == 1).for_each(|made| made.checksum = 0),
            Division::Captures,
            AlarmKind::Identifier,
        ),
        (
            "one class recorded after the other",
            |made| made.iter_mut().filter(|made| made.class == 1).for_each(|made| made.start += 2_000_000_000),
            Division::Captures,
            AlarmKind::Time,
        ),
        (
            "packets of one class cut by the capture",
            |made| made.iter_mut().filter(|made| made.class == 1).for_each(|made| made.snap = 56),
            Division::Captures,
            AlarmKind::CutLength,
        ),
        (
            "the class in a byte",
            |made| made.iter_mut().for_each(|made| made.payload[7] = 100 + made.class as u8),
            Division::Captures,
            AlarmKind::Byte,
        ),
        (
            "the class in a column",
            |made| {
                made.iter_mut()
                    .for_each(|made| made.statistics[2] = made.class as f32 * 10.0 + made.statistics[2] / 9.0)
            },
            Division::Captures,
            AlarmKind::Statistic,
        ),
        (
            "preprocessing fitted on test rows",
            |made| {
                let values: Vec<f64> = made.iter().map(|made| f64::from(made.statistics[1])).collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
                for (made, value) in made.iter_mut().zip(values) {
                    made.statistics[1] = ((value - mean) / variance.sqrt()) as f32;
                }
            },
            Division::Captures,
            AlarmKind::Standardised,
        ),
        (
            "labels that contradict one another",
            |made| {
                for row in 0..made.len() / 4 {
                    let first = made[2 * row].clone();
                    let other = &mut made[2 * row + 1];
                    *other = Made { class: other.class, capture: other.capture, start: other.start, ..first };
                }
            },
            Division::Captures,
            AlarmKind::ContradictoryLabels,
        ),
        (
            "a class from one capture",
            |made| made.iter_mut().filter(|made| made.class == 1).for_each(|made| made.capture = 1),
            Division::Random,
            AlarmKind::ClassFromOneCapture,
        ),
    ]
}

#[test]
fn every_planted_leak_is_named() {
    let mut missed = Vec::new();
    for (name, plant, division, kind) in planted() {
        for seed in 0..5 {
            let mut made = clean(seed);
            plant(&mut made);
            let alarms = report(&made, &division, seed).alarms;
            if !alarms.iter().any(|alarm| alarm.kind == kind) {
                missed.push(format!("{name}, seed {seed}: {alarms:?}"));
            }
            assert!(alarms.iter().all(|alarm| !alarm.text().is_empty()));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_hundred_data_sets_without_a_leak_raise_no_alarm() {
    for seed in 100..200 {
        let alarms = report(&clean(seed), &Division::Captures, seed).alarms;
        assert!(alarms.is_empty(), "seed {seed}: {alarms:?}");
    }
}
