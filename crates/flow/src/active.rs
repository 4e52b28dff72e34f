//! A flow that is still receiving packets, as small as possible: a busy capture has hundreds of thousands at once, and
//! their memory determines both how many fit and how fast packets reach them.

use super::facts::PacketFacts;
use super::kept::{KeptPackets, KeptStore};
use super::key::FlowKey;
use super::statistics::FlowStatistics;
use super::types::{FiveTuple, Flow, FlowOptions, PacketDirection};

/// The times and sizes of [`FlowOptions`], in the form needed for each packet.
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
    pub(super) statistics: bool,
}

/// Converts a validated number of seconds to nanoseconds.
fn nanoseconds(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

impl Limits {
    /// Converts options that have passed [`FlowOptions::validate`].
    pub(super) fn new(options: &FlowOptions) -> Limits {
        Limits {
            idle_timeout: nanoseconds(options.idle_timeout),
            active_timeout: nanoseconds(options.active_timeout),
            activity_timeout: nanoseconds(options.activity_timeout).cast_unsigned(),
            kept_packets: options.kept_packets,
            kept_bytes: options.kept_bytes,
            statistics: options.statistics,
        }
    }
}

/// The flow so far, without its statistics and its packets' bytes, which are stored elsewhere.
pub(super) struct ActiveFlow {
    /// Rank by time of the first packet, from 0.
    pub(super) number: u64,
    pub(super) key: FlowKey,
    /// Time of the first packet.
    start: i64,
    /// The latest time of any packet.
    latest: i64,
    pub(super) kept: KeptPackets,
    /// Whether the first packet's sender is the key's second endpoint.
    reversed: bool,
}

impl ActiveFlow {
    /// Creates the flow that a packet starts; the packet must be added next.
    pub(super) fn new(number: u64, packet: &PacketFacts) -> ActiveFlow {
        ActiveFlow {
            number,
            key: packet.key,
            start: packet.timestamp,
            latest: packet.timestamp,
            kept: KeptPackets::new(),
            reversed: packet.reversed,
        }
    }

    /// Whether a packet at this time is too late to belong to the flow.
    pub(super) fn is_over_at(&self, timestamp: i64, limits: &Limits) -> bool {
        timestamp.saturating_sub(self.latest) > limits.idle_timeout
            || timestamp.saturating_sub(self.start) > limits.active_timeout
    }

    /// Reads the first and the last field; the returned value is meaningless.
    pub(super) fn touch(&self) -> u64 {
        self.number ^ u64::from(self.reversed)
    }

    /// Returns the direction of a packet within the flow.
    pub(super) fn direction(&self, packet: &PacketFacts) -> PacketDirection {
        if packet.reversed == self.reversed { PacketDirection::Forward } else { PacketDirection::Backward }
    }

    /// Returns the latest time of any packet.
    pub(super) fn latest(&self) -> i64 {
        self.latest
    }

    pub(super) fn add(
        &mut self,
        packet: &PacketFacts,
        bytes: &[u8],
        statistics: Option<&mut FlowStatistics>,
        store: &mut KeptStore,
        limits: &Limits,
    ) {
        let direction = self.direction(packet);
        let timestamp = packet.timestamp.max(self.latest);
        if let Some(statistics) = statistics {
            statistics.add(packet, direction, self.latest, timestamp, limits.activity_timeout);
        }
        self.latest = timestamp;
        if self.kept.count() < limits.kept_packets {
            store.push(&mut self.kept, direction, packet, &bytes[..bytes.len().min(limits.kept_bytes)]);
        }
    }

    /// Returns the five-tuple, from the sender of the first packet.
    pub(super) fn five_tuple(&self) -> FiveTuple {
        let (first, second) = self.key.endpoints();
        let (source, destination) = if self.reversed { (second, first) } else { (first, second) };
        FiveTuple { source, destination, transport: self.key.transport() }
    }

    /// Converts to the public type.
    pub(super) fn finish(&self, store: &KeptStore, statistics: Option<&FlowStatistics>) -> Flow {
        let five_tuple = self.five_tuple();
        let transport = five_tuple.transport;
        let finished = |statistics: &FlowStatistics| statistics.finish(self.start, self.latest, transport);
        Flow {
            five_tuple,
            start: self.start,
            end: self.latest,
            packets: store.packets(self.kept, transport),
            statistics: statistics.map(finished).unwrap_or_default(),
        }
    }
}
