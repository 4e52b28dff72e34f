//! Tests that held-out data never gets into a corpus, whatever captures, flows and packets have in common, and that
//! draws are even.

use proptest::prelude::*;

use super::*;
use etcbench_capture::{HeaderLayout, Transport};
use etcbench_dataset::{FlowProvenance, Labels};
use etcbench_feature::{Mask, PacketStart};
use etcbench_flow::{FiveTuple, Flow, FlowPacket, PacketDirection};

const CAPTURES: [&str; 4] = ["c0", "c1", "c2", "c3"];

/// A flow of packets of 40 bytes that differ in a masked part (the addresses) and in a part that is read.
fn flow(capture: usize, number: u32, packets: &[(u8, u8)]) -> LabelledFlow {
    let five_tuple = FiveTuple {
        source: "10.0.0.1:1".parse().unwrap(),
        destination: "10.0.0.2:2".parse().unwrap(),
        transport: Transport::Udp,
    };
    let packet = |&(masked, read): &(u8, u8)| {
        let mut bytes = vec![0; 40];
        bytes[0] = 0x45;
        bytes[12] = masked;
        bytes[30] = read;
        FlowPacket {
            direction: PacketDirection::Forward,
            timestamp: 0,
            wire_length: 40,
            bytes,
            layout: HeaderLayout { transport_offset: 20, payload_offset: 28, transport: Transport::Udp },
        }
    };
    let provenance =
        FlowProvenance { capture: CAPTURES[capture].to_owned(), number, five_tuple, start: 0, end: 0, packet: None };
    let packets = packets.iter().map(packet).collect();
    let flow = Flow { five_tuple, start: 0, end: 0, packets, statistics: Vec::new() };
    LabelledFlow { provenance, labels: Labels::new(), flow }
}

fn of(flow: &LabelledFlow) -> SourceFlow<'_> {
    SourceFlow { flow, dataset: "d", capture: &flow.provenance.capture, sha256: &flow.provenance.capture }
}

fn source<'a>(name: &'a str, flows: &[&'a LabelledFlow], is_training: bool) -> Source<'a> {
    Source { name, flows: flows.iter().map(|flow| of(flow)).collect(), is_training }
}

fn tokens() -> TokenOptions {
    TokenOptions { packets: 3, bytes: 32, masks: vec![Mask::IpAddresses], ..TokenOptions::default() }
}

fn packets_of(tokens: &TokenOptions) -> Reading<'_> {
    Reading { tokens, sample: Sample::Packet }
}

/// Returns the byte that distinguishes packets as read, for every packet of a corpus.
fn read(drawn: &Drawn) -> Vec<u16> {
    drawn.corpus.tokens.values.chunks_exact(32).map(|packet| packet[30]).collect()
}

#[test]
fn captures_and_equal_packets_are_kept_out_and_counted() {
    let tested = flow(0, 0, &[(1, 1), (1, 2)]);
    let trained = flow(0, 1, &[(2, 3), (2, 1)]);
    // A flow of the tested capture; a flow of another capture with a packet that reads the same; the training flow
    // again.
    let beside = flow(0, 2, &[(3, 4)]);
    let equal = flow(1, 0, &[(4, 2), (4, 5), (4, 6), (4, 7)]);
    let sources = [
        source(TRAINING, &[&trained], true),
        source("first", &[&tested, &trained, &beside, &equal], false),
        // The same capture under another name contributes nothing twice.
        Source { flows: vec![SourceFlow { dataset: "e", ..of(&equal) }], ..source("second", &[], false) },
    ];
    let held_out = HeldOut::of(&[of(&tested)], packets_of(&tokens())).unwrap();
    let drawn = draw(&sources, &held_out, packets_of(&tokens()), 100, 0).unwrap();
    // N is 3, so the fourth packet is not read.
    assert_eq!(read(&drawn), [3, 5, 6]);
    let Pretraining { parts, excluded, .. } = &drawn.corpus.pretraining;
    assert_eq!(*excluded, Excluded { captures: 1, flows: 2, packets: 2 });
    let counts: Vec<[u64; 4]> =
        parts.iter().map(|part| [part.captures, part.flows, part.packets, part.left_over]).collect();
    assert_eq!(counts, [[1, 1, 1, 0], [1, 1, 2, 0], [0, 0, 0, 0]]);
    let captures: Vec<(&str, u64, u64)> =
        drawn.captures.iter().map(|capture| (capture.sha256.as_str(), capture.flows, capture.packets)).collect();
    assert_eq!(captures, [("c0", 1, 1), ("c1", 1, 2)]);
}

const TRAINING: &str = "training part";

#[test]
fn packets_recorded_alike_are_kept_out_however_they_are_masked() {
    // Random masks depend on the flow, so equal packets read differently.
    let options = TokenOptions { mask_method: etcbench_feature::MaskMethod::Randomise, ..tokens() };
    let tested = flow(0, 0, &[(9, 1)]);
    let mut copied = flow(1, 0, &[(9, 1), (9, 2)]);
    copied.flow.start = 5;
    copied.flow.five_tuple.source = "10.0.0.9:9".parse().unwrap();
    let [own] = &hashes(&[of(&tested)], packets_of(&options)).unwrap()[..] else { panic!("one flow") };
    let other = &hashes(&[of(&copied)], packets_of(&options)).unwrap()[0];
    assert!(own[0].recorded == other[0].recorded && own[0].read != other[0].read);
    let held_out = HeldOut::of(&[of(&tested)], packets_of(&options)).unwrap();
    let drawn = draw(&[source("first", &[&copied], false)], &held_out, packets_of(&options), 100, 0).unwrap();
    assert_eq!(read(&drawn), [2]);
}

#[test]
fn headers_outside_the_input_are_compared_only_as_recorded() {
    let options = TokenOptions { packet_start: PacketStart::Payload, masks: Vec::new(), ..tokens() };
    let tested = flow(0, 0, &[(1, 1)]);
    let drawn = |masked, read| {
        let other = flow(1, 0, &[(masked, read)]);
        let held_out = HeldOut::of(&[of(&tested)], packets_of(&options)).unwrap();
        draw(&[source("first", &[&other], false)], &held_out, packets_of(&options), 100, 0)
            .unwrap()
            .corpus
            .pretraining
            .packets()
    };
    assert_eq!([drawn(1, 1), drawn(2, 1), drawn(1, 2)], [0, 0, 1]);
}

#[test]
fn whole_flows_are_kept_out_only_if_all_their_packets_are_the_same() {
    let tokens = tokens();
    let reading = Reading { tokens: &tokens, sample: Sample::Flow };
    let tested = flow(0, 0, &[(1, 1), (1, 2)]);
    let trained = flow(0, 1, &[(2, 3), (2, 1)]);
    // The same packets with other addresses, which are masked; the same first packet; packets in another order; and a
    // flow that differs only in a packet that is not read.
    let equal = flow(1, 0, &[(4, 1), (4, 2)]);
    let longer = flow(1, 1, &[(4, 1), (4, 2), (4, 3), (4, 4)]);
    let other = flow(2, 0, &[(4, 2), (4, 1)]);
    let beside = flow(0, 2, &[(3, 4)]);
    let sources = [source(TRAINING, &[&trained], true), source("first", &[&equal, &longer, &other, &beside], false)];
    let held_out = HeldOut::of(&[of(&tested)], reading).unwrap();
    let drawn = draw(&sources, &held_out, reading, 100, 0).unwrap();
    assert_eq!((drawn.corpus.tokens.packets, drawn.corpus.tokens.rows()), (3, 3));
    assert_eq!(read(&drawn), [3, 1, PAD, 1, 2, 3, 2, 1, PAD]);
    let Pretraining { parts, excluded, .. } = &drawn.corpus.pretraining;
    assert_eq!(*excluded, Excluded { captures: 1, flows: 1, packets: 2 });
    let counts: Vec<[u64; 4]> =
        parts.iter().map(|part| [part.captures, part.flows, part.packets, part.left_over]).collect();
    assert_eq!(counts, [[1, 1, 2, 0], [2, 2, 5, 0]]);
    assert_eq!((drawn.seen.read.len(), drawn.seen.recorded.len()), (3, 3));

    let held_out = HeldOut::of(&[of(&longer)], reading).unwrap();
    let again = flow(2, 1, &[(5, 1), (5, 2), (5, 3)]);
    let drawn = draw(&[source("first", &[&again, &equal], false)], &held_out, reading, 1, 0).unwrap();
    assert_eq!(drawn.corpus.tokens.rows(), 0, "the fourth packet is not read, and the other is of the same capture");
}

#[test]
fn shares_are_even_and_what_small_sources_leave_goes_to_the_others() {
    assert_eq!(shares(&[10, 10, 10], 9), [3, 3, 3]);
    assert_eq!(shares(&[100, 2, 50], 62), [30, 2, 30]);
    assert_eq!(shares(&[100, 2, 20], 62), [40, 2, 20]);
    assert_eq!(shares(&[1, 2], 100), [1, 2]);
    assert_eq!(shares(&[5, 5], 3).iter().sum::<usize>(), 3);
    assert_eq!(shares(&[], 3), Vec::<usize>::new());
}

/// Flows of a few captures with few distinct packets, so that duplicates are frequent.
fn flows() -> impl Strategy<Value = Vec<LabelledFlow>> {
    let packets = prop::collection::vec((0..3_u8, 0..12_u8), 0..5);
    prop::collection::vec((0..CAPTURES.len(), packets), 1..30).prop_map(|flows| {
        let flow = |(number, (capture, packets)): (usize, (usize, Vec<_>))| flow(capture, number as u32, &packets);
        flows.into_iter().enumerate().map(flow).collect()
    })
}

proptest! {
    #[test]
    fn no_held_out_content_remains(
        flows in flows(),
        held in prop::collection::vec(any::<bool>(), 30),
        training in prop::collection::vec(any::<bool>(), 30),
        most in 0_usize..60,
        seed in 0_u64..5,
    ) {
        let held_out_flows: Vec<SourceFlow<'_>> =
            flows.iter().zip(&held).filter(|(_, held)| **held).map(|(flow, _)| of(flow)).collect();
        let training_flows: Vec<&LabelledFlow> = flows
            .iter()
            .zip(held.iter().zip(&training))
            .filter(|(_, (held, training))| !**held && **training)
            .map(|(flow, _)| flow)
            .collect();
        let all: Vec<&LabelledFlow> = flows.iter().collect();
        let sources = [source(TRAINING, &training_flows, true), source("all", &all, false)];
        let held_out = HeldOut::of(&held_out_flows, packets_of(&tokens())).unwrap();
        let drawn = draw(&sources, &held_out, packets_of(&tokens()), most, seed).unwrap();
        prop_assert_eq!(&draw(&sources, &held_out, packets_of(&tokens()), most, seed).unwrap().corpus.tokens, &drawn.corpus.tokens);

        // Reference without hashes: compare the bytes that are read, and the captures.
        let mut tested = HashSet::new();
        for flow in &held_out_flows {
            for packet in flow.flow.flow.packets.iter().take(3) {
                tested.insert(u16::from(packet.bytes[30]));
            }
        }
        let found = read(&drawn);
        prop_assert!(found.iter().all(|packet| !tested.contains(packet)));
        let captures: HashSet<&str> = held_out_flows.iter().map(|flow| flow.sha256).collect();
        let trained: HashSet<&str> = training_flows.iter().map(|flow| flow.provenance.capture.as_str()).collect();
        for capture in &drawn.captures {
            prop_assert!(!captures.contains(capture.sha256.as_str()) || trained.contains(capture.sha256.as_str()));
        }
        // Everything else is included, up to the maximum.
        let parts = &drawn.corpus.pretraining.parts;
        let packets: u64 = parts.iter().map(|part| part.packets).sum();
        prop_assert_eq!(packets as usize, found.len());
        prop_assert!(packets as usize <= most);
        let allowed = |flow: &&LabelledFlow| {
            training_flows.iter().any(|other| std::ptr::eq(*other, *flow))
                || !captures.contains(flow.provenance.capture.as_str())
        };
        let expected = flows.iter().filter(allowed).flat_map(|flow| flow.flow.packets.iter().take(3));
        let expected = expected.filter(|packet| !tested.contains(&u16::from(packet.bytes[30]))).count();
        prop_assert_eq!(found.len() + parts.iter().map(|part| part.left_over as usize).sum::<usize>(), expected);
        prop_assert_eq!(found.len(), expected.min(most));
    }
}
