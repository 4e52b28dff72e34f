//! Flows whose keys share the part of the hash that the table of flows stores remain apart.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use etcbench_capture::{HeaderLayout, Transport};

use crate::active::Limits;
use crate::facts::PacketFacts;
use crate::key::FlowKey;
use crate::shard::Shard;
use crate::{FlowOptions, NumberedFlow, Pairing};

fn key(client: u32) -> FlowKey {
    let source = SocketAddr::new(Ipv4Addr::from_bits(0x0a00_0000 | client).into(), 40_000);
    let destination = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 443);
    FlowKey::new(source, destination, Transport::Tcp, Pairing::Bidirectional).0
}

fn packet(key: FlowKey, timestamp: i64) -> PacketFacts {
    PacketFacts {
        key,
        reversed: false,
        timestamp,
        wire_length: 54,
        network_length: 40,
        payload_length: 0,
        layout: HeaderLayout { transport_offset: 20, payload_offset: 40, transport: Transport::Tcp },
        tcp_flags: 2,
        tcp_window: 0,
    }
}

/// Returns two keys with the same low half of the hash. Among 400,000 keys about 19 pairs have it.
fn colliding() -> (FlowKey, FlowKey) {
    let mut seen = HashMap::new();
    (0..400_000)
        .find_map(|client| Some((seen.insert(key(client).hash() as u32, key(client))?, key(client))))
        .expect("two of so many hashes are equal")
}

#[test]
fn flows_with_equal_stored_hashes_remain_apart() {
    let (first, second) = colliding();
    assert!(first != second);
    let options = FlowOptions { idle_timeout: 10.0, active_timeout: 50.0, ..FlowOptions::default() };
    let mut shard = Shard::new(Limits::new(&options));
    for (number, key) in [first, second, first, second, second].into_iter().enumerate() {
        // The look-ahead may find the other flow, which must not get the packet.
        let expected = shard.expected(&key);
        shard.push(number as u64, &packet(key, number as i64), &[], expected);
    }
    assert_eq!(shard.active_flows(), 2);
    let (_, five_tuple) = shard.flow_of(&first).unwrap();
    assert_eq!(five_tuple.source, first.endpoints().0);
    // The first flow goes on beyond the idle timeout of the second, then begins anew.
    for (number, second_of_time) in (5..).zip([8, 16, 24, 40]) {
        shard.push(number, &packet(first, second_of_time * 1_000_000_000), &[], None);
        shard.sweep(second_of_time * 1_000_000_000);
    }
    let mut ended: Vec<NumberedFlow> = Vec::new();
    shard.emit(&mut |flow| ended.push(flow));
    let counts: Vec<(u64, usize)> = ended.iter().map(|flow| (flow.number, flow.flow.packets.len())).collect();
    assert_eq!(counts, [(1, 3), (0, 5)]);
    assert_eq!(shard.flow_of(&first).map(|(number, _)| number), Some(8));
    assert!(shard.flow_of(&second).is_none());
}
