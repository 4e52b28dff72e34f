//! Invariants for any packets: none is lost, directions mirror each other, sweeps do not split flows.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use proptest::prelude::*;

use crate::{Assembler, Flow, FlowOptions, NumberedFlow, PacketDirection, Pairing, STATISTIC_NAMES};
use etcbench_capture::{HeaderLayout, Packet, Transport};

/// Parameters of a random packet.
#[derive(Debug, Clone)]
pub(super) struct Drawn {
    source: u8,
    destination: u8,
    udp: bool,
    pub(super) timestamp: i64,
    payload: u16,
    flags: u8,
}

const BYTES: [u8; 400] = [0x45; 400];

pub(super) fn packet(drawn: &Drawn, number: usize) -> Packet<'static> {
    let address = |host: u8| SocketAddr::new(Ipv4Addr::new(10, 0, 0, host).into(), 1000 + u16::from(host % 2));
    let (transport, header) = if drawn.udp { (Transport::Udp, 28) } else { (Transport::Tcp, 40) };
    let length = header + drawn.payload;
    Packet {
        number: number as u64 + 1,
        timestamp: drawn.timestamp,
        wire_length: u32::from(length) + 14,
        fragment: None,
        source: address(drawn.source),
        destination: address(drawn.destination),
        bytes: &BYTES[..usize::from(length)],
        network_length: u32::from(length),
        payload_length: u32::from(drawn.payload),
        layout: HeaderLayout { transport_offset: 20, payload_offset: header, transport },
        tcp_flags: if drawn.udp { 0 } else { drawn.flags },
        tcp_window: 7,
        frame: &BYTES[..usize::from(length)],
        link_type: 101,
        comment: &[],
    }
}

pub(super) fn drawn(times: std::ops::Range<i64>) -> impl Strategy<Value = Drawn> {
    (0u8..4, 0u8..4, any::<bool>(), times, 0u16..300, any::<u8>()).prop_map(
        |(source, destination, udp, timestamp, payload, flags)| Drawn {
            source,
            destination,
            udp,
            timestamp,
            payload,
            flags,
        },
    )
}

pub(super) fn options() -> FlowOptions {
    FlowOptions { idle_timeout: 10.0, active_timeout: 50.0, kept_packets: 3, kept_bytes: 64, ..FlowOptions::default() }
}

/// Returns the flows in order of number.
fn assemble(packets: &[Drawn], options: &FlowOptions) -> Vec<Flow> {
    let mut flows = BTreeMap::new();
    let mut assembler = Assembler::new(options).unwrap();
    let mut sink = |NumberedFlow { number, flow }| assert!(flows.insert(number, flow).is_none());
    for (number, drawn) in packets.iter().enumerate() {
        assembler.push(&packet(drawn, number), &mut sink);
    }
    assembler.finish(&mut sink);
    assert!(flows.keys().copied().eq(0..flows.len() as u64));
    flows.into_values().collect()
}

fn statistic(flow: &Flow, name: &str) -> f64 {
    flow.statistics[STATISTIC_NAMES.iter().position(|other| *other == name).expect(name)]
}

fn total(flows: &[Flow], name: &str) -> f64 {
    flows.iter().map(|flow| statistic(flow, name)).sum()
}

pub(super) fn in_time_order(mut packets: Vec<Drawn>) -> Vec<Drawn> {
    packets.sort_by_key(|drawn| drawn.timestamp);
    packets
}

proptest! {
    #[test]
    fn no_packet_is_lost_and_every_value_is_finite(
        packets in prop::collection::vec(drawn(0..i64::MAX), 0..60),
        near in prop::collection::vec(drawn(0..200_000_000_000), 0..60),
        bidirectional: bool,
    ) {
        // Times are out of order, by up to three centuries.
        let packets = [near, packets].concat();
        let direction = if bidirectional { Pairing::Bidirectional } else { Pairing::Unidirectional };
        let flows = assemble(&packets, &FlowOptions { direction, ..options() });
        prop_assert_eq!(total(&flows, "packets"), packets.len() as f64);
        prop_assert_eq!(total(&flows, "payload_bytes"), packets.iter().map(|p| f64::from(p.payload)).sum::<f64>());
        for flow in &flows {
            prop_assert!(flow.end >= flow.start);
            prop_assert!(flow.statistics.iter().all(|value| value.is_finite() && *value >= 0.0));
            prop_assert_eq!(flow.packets.len() as f64, statistic(flow, "packets").min(3.0));
            prop_assert!(flow.packets.iter().all(|packet| packet.bytes.len() <= 64));
            prop_assert_eq!(flow.packets[0].direction, PacketDirection::Forward);
            if !bidirectional {
                prop_assert_eq!(statistic(flow, "backward_packets"), 0.0);
            }
        }
    }

    #[test]
    fn flows_are_those_of_the_definition(packets in prop::collection::vec(drawn(0..300_000_000_000), 1..120)) {
        let packets = in_time_order(packets);
        let flows = assemble(&packets, &options());
        // Direct implementation of the definition, without sweeps or reused positions.
        let mut expected: Vec<Vec<&Drawn>> = Vec::new();
        let mut open = BTreeMap::new();
        for drawn in &packets {
            let ends = (drawn.source.min(drawn.destination), drawn.source.max(drawn.destination));
            let index = *open.entry((ends, drawn.udp)).or_insert_with(|| { expected.push(Vec::new()); expected.len() - 1 });
            let flow = &expected[index];
            let is_over = flow.last().is_some_and(|last| drawn.timestamp - last.timestamp > 10_000_000_000)
                || flow.first().is_some_and(|first| drawn.timestamp - first.timestamp > 50_000_000_000);
            if is_over {
                open.insert((ends, drawn.udp), expected.len());
                expected.push(vec![drawn]);
            } else {
                expected[index].push(drawn);
            }
        }
        prop_assert_eq!(flows.len(), expected.len());
        for (flow, expected) in flows.iter().zip(&expected) {
            prop_assert_eq!(flow.start, expected[0].timestamp);
            prop_assert_eq!(flow.end, expected[expected.len() - 1].timestamp);
            prop_assert_eq!(statistic(flow, "packets"), expected.len() as f64);
            let gaps = statistic(flow, "flow_interarrival_mean") * (expected.len() - 1) as f64;
            prop_assert!((gaps - statistic(flow, "duration")).abs() < 1e-9);
        }
    }

    #[test]
    fn directions_mirror_each_other(packets in prop::collection::vec(drawn(0..300_000_000_000), 1..80)) {
        let packets = in_time_order(packets);
        let reversed: Vec<Drawn> = packets
            .iter()
            .map(|drawn| Drawn { source: drawn.destination, destination: drawn.source, ..drawn.clone() })
            .collect();
        let (flows, mirrored) = (assemble(&packets, &options()), assemble(&reversed, &options()));
        prop_assert_eq!(flows.len(), mirrored.len());
        for (flow, mirror) in flows.iter().zip(&mirrored) {
            prop_assert_eq!(flow.five_tuple.source, mirror.five_tuple.destination);
            // The first packet is forward in both, so all statistics are equal.
            prop_assert_eq!(&flow.statistics, &mirror.statistics);
        }
        let unidirectional = FlowOptions {
            direction: Pairing::Unidirectional, idle_timeout: 1e9, active_timeout: 1e9, ..options()
        };
        let both = FlowOptions { direction: Pairing::Bidirectional, ..unidirectional.clone() };
        let halves = assemble(&packets, &unidirectional);
        for flow in assemble(&packets, &both) {
            let forward = halves.iter().find(|half| half.five_tuple == flow.five_tuple).unwrap();
            for name in ["packet_length_std", "interarrival_mean", "psh", "header_bytes", "interarrival_total"] {
                let name = format!("forward_{name}");
                prop_assert_eq!(statistic(forward, &name), statistic(&flow, &name), "{}", name);
            }
        }
    }
}

/// Returns packets of one conversation at these times, in nanoseconds.
fn at(times: &[i64]) -> Vec<Drawn> {
    let drawn = |timestamp: &i64| Drawn {
        source: 1,
        destination: 2,
        udp: false,
        timestamp: *timestamp,
        payload: 10,
        flags: 0x11,
    };
    times.iter().map(drawn).collect()
}

const SECOND: i64 = 1_000_000_000;

#[test]
fn timeouts_split_only_beyond_themselves_and_fin_splits_nothing() {
    let count = |times: &[i64]| assemble(&at(times), &options()).len();
    assert_eq!(count(&[0, 10 * SECOND]), 1);
    assert_eq!(count(&[0, 10 * SECOND + 1]), 2);
    let steady: Vec<i64> = (0..=10).map(|step| step * 5 * SECOND).collect();
    assert_eq!(count(&steady), 1);
    assert_eq!(count(&[&steady[..], &[50 * SECOND + 1]].concat()), 2);
}

#[test]
fn packets_out_of_order_arrive_together_with_the_latest() {
    let flows = assemble(&at(&[0, 4 * SECOND, SECOND, 6 * SECOND]), &options());
    assert_eq!(flows.len(), 1);
    assert_eq!(statistic(&flows[0], "duration"), 6.0);
    assert_eq!(statistic(&flows[0], "flow_interarrival_min"), 0.0);
    assert_eq!(statistic(&flows[0], "forward_interarrival_total"), 6.0);
}

#[test]
fn a_sweep_keeps_memory_to_what_is_recent() {
    let mut assembler = Assembler::new(&options()).unwrap();
    let (mut complete, mut most_active) = (0, 0);
    for number in 0..100_000u32 {
        // A new conversation every 10 ms.
        let drawn = Drawn {
            source: 1,
            destination: 2,
            udp: true,
            timestamp: i64::from(number) * 10_000_000,
            payload: 0,
            flags: 0,
        };
        let mut packet = packet(&drawn, number as usize);
        packet.source = SocketAddr::new(Ipv4Addr::from_bits(number).into(), 5);
        assembler.push(&packet, &mut |_| complete += 1);
        most_active = most_active.max(assembler.active_flows());
    }
    assert!(most_active <= 1000 + 2 * 63 + 2, "{most_active} flows at once, of 1000 per idle timeout");
    assembler.finish(&mut |_| complete += 1);
    assert_eq!(complete, 100_000);
}
