//! A flow that is still receiving packets.

use crate::capture::Packet;

use super::key::FlowKey;
use super::statistics::FlowStatistics;
use super::types::{FiveTuple, Flow, FlowPacket, PacketDirection};

/// The times and sizes of [`super::FlowOptions`] as they are needed per packet.
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

/// The flow so far.
pub(super) struct ActiveFlow {
    /// Number in order of first packets.
    pub(super) number: u64,
    pub(super) key: FlowKey,
    five_tuple: FiveTuple,
    packets: Vec<FlowPacket>,
    statistics: FlowStatistics,
}

impl ActiveFlow {
    /// A flow of one packet.
    pub(super) fn new(number: u64, key: FlowKey, packet: &Packet<'_>, limits: &Limits) -> ActiveFlow {
        let mut flow = ActiveFlow {
            number,
            key,
            five_tuple: FiveTuple {
                source: packet.source,
                destination: packet.destination,
                transport: packet.layout.transport,
            },
            packets: Vec::new(),
            statistics: FlowStatistics::new(packet),
        };
        flow.add(packet, limits);
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

    pub(super) fn add(&mut self, packet: &Packet<'_>, limits: &Limits) {
        let direction = if packet.source == self.five_tuple.source && packet.destination == self.five_tuple.destination
        {
            PacketDirection::Forward
        } else {
            PacketDirection::Backward
        };
        self.statistics.add(packet, direction, limits.activity_timeout);
        if self.packets.len() < limits.kept_packets {
            let length = packet.bytes.len().min(limits.kept_bytes);
            self.packets.push(FlowPacket {
                direction,
                timestamp: packet.timestamp,
                wire_length: packet.wire_length,
                bytes: packet.bytes[..length].to_vec(),
                layout: packet.layout,
            });
        }
    }

    pub(super) fn finish(self) -> Flow {
        Flow {
            five_tuple: self.five_tuple,
            start: self.statistics.start(),
            end: self.statistics.latest(),
            packets: self.packets,
            statistics: self.statistics.finish(),
        }
    }
}
