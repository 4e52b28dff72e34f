//! A flow that is still receiving packets.

use super::facts::PacketFacts;
use super::key::FlowKey;
use super::statistics::FlowStatistics;
use super::types::{FiveTuple, Flow, FlowOptions, FlowPacket, PacketDirection};

/// Room for packets that a new flow asks for at most; longer ones grow.
const FIRST_PACKETS: usize = 8;

/// The times and sizes of [`FlowOptions`] as they are needed per packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Nanoseconds.
    pub(super) idle_timeout: i64,
    /// Nanoseconds.
    pub(super) active_timeout: i64,
    /// Nanoseconds.
    pub(super) activity_timeout: u64,
    pub(super) kept_packets: usize,
    pub(super) kept_bytes: usize,
}

/// Nanoseconds of a checked number of seconds.
fn nanoseconds(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

impl Limits {
    /// Those of options that [`FlowOptions::validate`] has let pass.
    pub(super) fn new(options: &FlowOptions) -> Limits {
        Limits {
            idle_timeout: nanoseconds(options.idle_timeout),
            active_timeout: nanoseconds(options.active_timeout),
            activity_timeout: nanoseconds(options.activity_timeout).cast_unsigned(),
            kept_packets: options.kept_packets,
            kept_bytes: options.kept_bytes,
        }
    }
}

/// The flow so far.
pub(super) struct ActiveFlow {
    /// Place in order of first packets.
    pub(super) number: u64,
    pub(super) key: FlowKey,
    /// The first packet's sender is the key's second endpoint.
    reversed: bool,
    packets: Vec<FlowPacket>,
    statistics: FlowStatistics,
}

impl ActiveFlow {
    /// A flow of one packet.
    pub(super) fn new(number: u64, packet: &PacketFacts, bytes: &[u8], limits: &Limits) -> ActiveFlow {
        let mut flow = ActiveFlow {
            number,
            key: packet.key,
            reversed: packet.reversed,
            packets: Vec::with_capacity(limits.kept_packets.min(FIRST_PACKETS)),
            statistics: FlowStatistics::new(packet),
        };
        flow.add(packet, bytes, limits);
        flow
    }

    /// Whether a packet at this time comes too late to belong to the flow.
    pub(super) fn is_over_at(&self, timestamp: i64, limits: &Limits) -> bool {
        timestamp.saturating_sub(self.statistics.latest()) > limits.idle_timeout
            || timestamp.saturating_sub(self.statistics.start()) > limits.active_timeout
    }

    /// The latest time of any packet.
    pub(super) fn latest(&self) -> i64 {
        self.statistics.latest()
    }

    pub(super) fn add(&mut self, packet: &PacketFacts, bytes: &[u8], limits: &Limits) {
        let direction =
            if packet.reversed == self.reversed { PacketDirection::Forward } else { PacketDirection::Backward };
        self.statistics.add(packet, direction, limits.activity_timeout);
        if self.packets.len() < limits.kept_packets {
            self.packets.push(FlowPacket {
                direction,
                timestamp: packet.timestamp,
                wire_length: packet.wire_length,
                bytes: bytes[..bytes.len().min(limits.kept_bytes)].to_vec(),
                layout: packet.layout,
            });
        }
    }

    pub(super) fn finish(self) -> Flow {
        let ActiveFlow { key, reversed, packets, statistics, .. } = self;
        let (first, second) = key.endpoints();
        let (source, destination) = if reversed { (second, first) } else { (first, second) };
        Flow {
            five_tuple: FiveTuple { source, destination, transport: statistics.transport() },
            start: statistics.start(),
            end: statistics.latest(),
            packets,
            statistics: statistics.finish(),
        }
    }
}
