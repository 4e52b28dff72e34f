//! Flows of packets that are known without a capture: turns a published sequence of lengths, directions and times into
//! the same [`Flow`] as a capture would, including statistics.

use etcbench_capture::{HeaderLayout, PacketView};

use super::active::Limits;
use super::facts::PacketFacts;
use super::key::FlowKey;
use super::statistics::FlowStatistics;
use super::types::{FiveTuple, Flow, FlowOptions, FlowPacket, PacketDirection, Pairing};

/// A packet of a published sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct SequencePacket {
    /// Direction: forward is defined by the publisher, or is that of the first packet.
    pub direction: PacketDirection,
    /// Nanoseconds since the Unix epoch or since the flow's first packet.
    pub timestamp: i64,
    /// Length in bytes of the packet or of its payload, as published.
    pub length: u32,
    /// TCP flags, from FIN (low bit) to CWR; 0 if unknown.
    pub flags: u8,
    /// The first bytes; empty if unknown.
    pub bytes: Vec<u8>,
    /// Where the transport header and the payload begin in `bytes`.
    pub offsets: (u16, u16),
}

/// Builds a flow from these packets: keeps the first `kept_packets` of them with `kept_bytes` each, and computes the
/// statistics of all. Timeouts do not split it, because its publisher defines it as one flow. Statistics of unknown
/// properties (payloads or whole packets, headers, windows, flags) are meaningless, and the caller must drop them.
pub fn flow_of_sequence(five_tuple: FiveTuple, packets: Vec<SequencePacket>, options: &FlowOptions) -> Flow {
    let limits = Limits::new(options);
    let start = packets.first().map_or(0, |packet| packet.timestamp);
    let (key, reversed) =
        FlowKey::new(five_tuple.source, five_tuple.destination, five_tuple.transport, Pairing::Bidirectional);
    let mut statistics = FlowStatistics::new(start);
    let mut latest = start;
    for packet in &packets {
        let timestamp = packet.timestamp.max(latest);
        let facts = PacketFacts {
            key,
            reversed,
            timestamp,
            wire_length: packet.length,
            network_length: packet.length,
            payload_length: packet.length,
            layout: layout(packet, five_tuple),
            tcp_flags: packet.flags,
            tcp_window: 0,
        };
        statistics.add(&facts, packet.direction, latest, timestamp, limits.activity_timeout);
        latest = timestamp;
    }
    let statistics = match limits.statistics {
        true => statistics.finish(start, latest, five_tuple.transport),
        false => Vec::new(),
    };
    let keep = |mut packet: SequencePacket| {
        packet.bytes.truncate(limits.kept_bytes);
        FlowPacket {
            direction: packet.direction,
            timestamp: packet.timestamp,
            wire_length: packet.length,
            layout: layout(&packet, five_tuple),
            bytes: packet.bytes,
        }
    };
    let packets = packets.into_iter().take(limits.kept_packets).map(keep).collect();
    Flow { five_tuple, start, end: latest, packets, statistics }
}

fn layout(packet: &SequencePacket, five_tuple: FiveTuple) -> HeaderLayout {
    let (transport_offset, payload_offset) = packet.offsets;
    HeaderLayout { transport_offset, payload_offset, transport: five_tuple.transport }
}

/// Returns the offsets of the transport header and the payload in bytes that begin with an IPv4 header, whose length is
/// read from it, and whose payload begins at `payload`.
pub fn ipv4_offsets(bytes: &[u8], payload: u16) -> (u16, u16) {
    let layout = HeaderLayout { transport_offset: 0, payload_offset: 0, transport: etcbench_capture::Transport::Tcp };
    let version = PacketView { bytes, layout }.ip_version();
    let header = bytes.first().map_or(0, |byte| u16::from(byte & 0x0f) * 4);
    let transport = if version == Some(4) && header >= 20 { header } else { 0 };
    (transport.min(payload), payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::STATISTIC_NAMES;
    use etcbench_capture::Transport;

    #[test]
    fn a_sequence_has_the_statistics_of_its_packets() {
        let end = "0.0.0.0:0".parse().unwrap();
        let five_tuple = FiveTuple { source: end, destination: end, transport: Transport::Tcp };
        let packet = |direction, timestamp, length| SequencePacket {
            direction,
            timestamp,
            length,
            flags: 0x08,
            bytes: vec![7; 9],
            offsets: (0, 0),
        };
        use PacketDirection::{Backward, Forward};
        // A time that goes backwards counts as no time having passed.
        let packets = vec![
            packet(Backward, 1_000_000_000, 10),
            packet(Forward, 2_000_000_000, 30),
            packet(Forward, 1_500_000_000, 20),
            packet(Backward, 4_000_000_000, 40),
        ];
        let options = FlowOptions { kept_packets: 2, kept_bytes: 4, ..FlowOptions::default() };
        let flow = flow_of_sequence(five_tuple, packets, &options);
        let value = |name: &str| flow.statistics[STATISTIC_NAMES.iter().position(|known| *known == name).unwrap()];
        assert_eq!((flow.start, flow.end, flow.packets.len()), (1_000_000_000, 4_000_000_000, 2));
        assert_eq!(flow.packets[1].bytes, [7; 4]);
        assert_eq!((value("duration"), value("packets"), value("bytes")), (3.0, 4.0, 100.0));
        assert_eq!((value("forward_packets"), value("backward_bytes")), (2.0, 50.0));
        assert_eq!((value("flow_interarrival_max"), value("flow_interarrival_min")), (2.0, 0.0));
        assert_eq!((value("backward_interarrival_total"), value("forward_psh")), (3.0, 2.0));
        assert_eq!(flow_of_sequence(five_tuple, Vec::new(), &options).packets, []);
        assert_eq!(ipv4_offsets(&[0x46, 0], 80), (24, 80));
        assert_eq!(ipv4_offsets(&[0x60, 0], 80), (0, 80));
    }
}
