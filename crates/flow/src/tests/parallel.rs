//! Rounds and shards produce the same flows as a single assembler, at any number of threads; fragments find their flow.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use etcbench_craft as craft;
use etcbench_craft::Order;

use crate::{Assembler, Flow, FlowOptions, NumberedFlow, STATISTIC_NAMES, assemble_as_completed, assemble_packets};
use etcbench_capture::{CaptureReader, CaptureSummary, SkipReason};

fn capture(frames: &[(i64, Vec<u8>)]) -> Vec<u8> {
    craft::pcap(Order::Little, true, 101, 65_535, frames)
}

fn open(file: &[u8]) -> CaptureReader {
    CaptureReader::from_reader(std::io::Cursor::new(file.to_vec()), "test").unwrap()
}

fn in_rounds(file: &[u8], options: &FlowOptions, threads: usize) -> (Vec<Flow>, CaptureSummary) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let mut flows = Vec::new();
        let summary = assemble_packets(open(file), options, &mut |flow| flows.push(flow), &mut |_| {}).unwrap();
        (flows, summary)
    })
}

fn as_completed(file: &[u8], options: &FlowOptions, threads: usize) -> Vec<NumberedFlow> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let mut flows = Vec::new();
        assemble_as_completed(open(file), options, &mut |flow| flows.push(flow), &mut |_| {}).unwrap();
        flows
    })
}

/// Returns the flows of a single assembler, in order of completion.
fn one_by_one_as_completed(file: &[u8], options: &FlowOptions) -> Vec<NumberedFlow> {
    let mut assembler = Assembler::new(options).unwrap();
    let mut reader = open(file);
    let mut flows = Vec::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        assembler.push(&packet, &mut |flow| flows.push(flow));
    }
    assembler.finish(&mut |flow| flows.push(flow));
    flows
}

/// Returns the same flows in order of first packets.
fn one_by_one(file: &[u8], options: &FlowOptions) -> Vec<Flow> {
    let mut flows = BTreeMap::new();
    for NumberedFlow { number, flow } in one_by_one_as_completed(file, options) {
        assert!(flows.insert(number, flow).is_none());
    }
    assert!(flows.keys().copied().eq(0..flows.len() as u64));
    flows.into_values().collect()
}

fn options() -> FlowOptions {
    FlowOptions { idle_timeout: 10.0, active_timeout: 50.0, kept_packets: 3, kept_bytes: 64, ..FlowOptions::default() }
}

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
const SECOND: i64 = 1_000_000_000;

fn datagram(host: u8, port: u16, reply: bool) -> Vec<u8> {
    let (ends, ports) = (([10, 0, 1, host], B), (port, 53));
    let (ends, ports) = if reply { ((ends.1, ends.0), (ports.1, ports.0)) } else { (ends, ports) };
    craft::ipv4(ends.0, ends.1, 17, &craft::udp(ports, &[host; 30]))
}

/// Splits a UDP datagram of `A` into fragments, cutting at these byte offsets.
fn fragments(identification: u16, payload: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let whole = craft::udp((1000, 2000), payload);
    let mut places = vec![0];
    places.extend(cuts);
    places.push(whole.len());
    places
        .windows(2)
        .map(|cut| {
            let mut packet = craft::ipv4(A, B, 17, &whole[cut[0]..cut[1]]);
            packet[4..6].copy_from_slice(&identification.to_be_bytes());
            let more = if cut[1] < whole.len() { 0x2000 } else { 0 };
            packet[6..8].copy_from_slice(&((cut[0] / 8) as u16 | more).to_be_bytes());
            packet
        })
        .collect()
}

fn statistic(flow: &Flow, name: &str) -> f64 {
    flow.statistics[STATISTIC_NAMES.iter().position(|other| *other == name).expect(name)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn rounds_give_what_one_assembler_gives(
        packets in prop::collection::vec((0u8..20, 0u16..3, any::<bool>(), -3i64..40), 0..200),
        jump in prop_oneof![Just(0i64), Just(-100), Just(500)],
    ) {
        let mut now = 1000;
        let mut frames: Vec<(i64, Vec<u8>)> = Vec::new();
        for (place, (host, port, reply, step)) in packets.iter().enumerate() {
            // Equal times, steps back, and one jump.
            now = (now + step / 10 + if place == 100 { jump } else { 0 }).max(0);
            frames.push((now * SECOND, datagram(*host, *port, *reply)));
            if place % 17 == 0 {
                let mut parts = fragments(place as u16, &[7; 100], &[40, 64]);
                parts.rotate_left(place % 3);
                frames.extend(parts.into_iter().map(|part| (now * SECOND, part)));
            }
        }
        let file = capture(&frames);
        let expected = one_by_one(&file, &options());
        for threads in [1, 3] {
            let (flows, summary) = in_rounds(&file, &options(), threads);
            prop_assert_eq!(&flows, &expected);
            prop_assert_eq!(summary.decoded, frames.len() as u64);
            prop_assert_eq!(as_completed(&file, &options(), threads), one_by_one_as_completed(&file, &options()));
        }
        prop_assert_eq!(expected.iter().map(|flow| statistic(flow, "packets")).sum::<f64>(), frames.len() as f64);
        // Without statistics, everything else is the same.
        let bytes_only = FlowOptions { statistics: false, ..options() };
        let bare: Vec<Flow> = expected.into_iter().map(|flow| Flow { statistics: Vec::new(), ..flow }).collect();
        prop_assert_eq!(&one_by_one(&file, &bytes_only), &bare);
        prop_assert_eq!(&in_rounds(&file, &bytes_only, 2).0, &bare);
    }
}

#[test]
fn many_rounds_give_the_same_flows_at_any_number_of_threads() {
    // More packets than fit into three rounds; some flows last through all of them, others end by timeout.
    let frames: Vec<(i64, Vec<u8>)> = (0..30_000u32)
        .map(|number| {
            let host = (number.wrapping_mul(2_654_435_761) >> 24) as u8;
            (i64::from(number) * 3_000_000, datagram(host, (number / 7000) as u16, number % 3 == 0))
        })
        .collect();
    let file = capture(&frames);
    let expected = one_by_one(&file, &options());
    assert!(expected.len() > 1000);
    for threads in [1, 2, 5] {
        assert!(in_rounds(&file, &options(), threads).0 == expected, "{threads} threads");
        let completed = as_completed(&file, &options(), threads);
        assert!(completed == one_by_one_as_completed(&file, &options()), "{threads} threads");
    }
}

#[test]
fn a_flow_that_lasts_holds_no_other_back() {
    // One flow through the whole capture, and in addition a single-packet flow every second.
    let frames: Vec<(i64, Vec<u8>)> = (0..40_000i64)
        .flat_map(|second| {
            let short = datagram(2 + (second % 250) as u8, 2 + (second / 250) as u16, false);
            [(second * SECOND, datagram(1, 1, false)), (second * SECOND + 1, short)]
        })
        .collect();
    let options = FlowOptions { active_timeout: 1e6, ..options() };
    let (given, most_held) = (Cell::new(0), Cell::new(0));
    let mut take = |_| given.set(given.get() + 1);
    let mut progress = |packets: u64| most_held.set(most_held.get().max((packets / 2).saturating_sub(given.get())));
    assemble_as_completed(open(&capture(&frames)), &options, &mut take, &mut progress).unwrap();
    assert_eq!(given.get(), 40_001);
    // Reading is up to three rounds of 4096 packets ahead of the emitted flows.
    assert!(most_held.get() < 7_000, "{} flows were held", most_held.get());
}

proptest! {
    #[test]
    fn fragments_follow_the_one_with_the_ports(
        payload in 100usize..400, first in 1usize..6, order in 0usize..6, waits in 0i64..25,
    ) {
        let parts = fragments(7, &vec![1; payload], &[first * 8, 80]);
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let frames: Vec<(i64, Vec<u8>)> =
            orders[order].iter().enumerate().map(|(place, part)| ((place as i64 * waits / 2) * SECOND, parts[*part].clone())).collect();
        let options = FlowOptions { idle_timeout: 100.0, active_timeout: 100.0, ..options() };
        let (flows, summary) = in_rounds(&capture(&frames), &options, 2);
        prop_assert_eq!(flows.len(), 1);
        prop_assert_eq!((flows[0].five_tuple.source.port(), flows[0].five_tuple.destination.port()), (1000, 2000));
        prop_assert_eq!(statistic(&flows[0], "packets"), 3.0);
        prop_assert_eq!(statistic(&flows[0], "payload_bytes"), payload as f64);
        prop_assert_eq!(statistic(&flows[0], "forward_header_bytes"), 20.0 + 8.0 + 20.0 + 20.0);
        // The first fragment is the flow's first packet, whatever came before it.
        prop_assert_eq!(&flows[0].packets[0].bytes[..], &parts[0][..parts[0].len().min(64)]);
        prop_assert_eq!((summary.decoded, summary.skipped), (3, vec![]));
    }
}

#[test]
fn fragments_whose_first_is_missing_or_too_far_are_counted() {
    let parts = fragments(7, &[1; 200], &[40, 80]);
    let other = fragments(8, &[1; 200], &[40, 80]);
    let lost = |frames: &[(i64, Vec<u8>)]| {
        let (flows, summary) = in_rounds(&capture(frames), &options(), 1);
        assert_eq!(flows.iter().map(|flow| statistic(flow, "packets")).sum::<f64>(), summary.decoded as f64);
        assert_eq!(summary.packets, frames.len() as u64);
        summary.skipped_for(SkipReason::FragmentWithoutPorts)
    };
    assert_eq!(lost(&[(0, parts[1].clone())]), 1);
    assert_eq!(lost(&[(0, parts[1].clone()), (1, other[0].clone())]), 1);
    // Too long before, and too long after, the first.
    assert_eq!(lost(&[(0, parts[1].clone()), (31 * SECOND, parts[0].clone())]), 1);
    assert_eq!(lost(&[(0, parts[0].clone()), (31 * SECOND, parts[1].clone())]), 1);
    // More fragments than can be held: the oldest are dropped.
    let mut flood: Vec<(i64, Vec<u8>)> = (0..2000u16)
        .map(|number| (i64::from(number), fragments(100 + number, &[1; 200], &[40, 80])[1].clone()))
        .collect();
    flood.push((3000, fragments(2099, &[1; 200], &[40, 80])[0].clone()));
    flood.push((3000, fragments(100, &[1; 200], &[40, 80])[0].clone()));
    assert_eq!(lost(&flood), 1999);
    // More datagrams than can be known.
    let mut firsts: Vec<(i64, Vec<u8>)> =
        (0..5000u16).map(|number| (i64::from(number), fragments(number, &[1; 200], &[40, 80])[0].clone())).collect();
    firsts.push((6000, fragments(4999, &[1; 200], &[40, 80])[1].clone()));
    firsts.push((6000, fragments(0, &[1; 200], &[40, 80])[1].clone()));
    assert_eq!(lost(&firsts), 1);
}
