//! A flow that is still receiving packets, as small as it can be: a busy capture has hundreds of thousands at once,
//! and the memory that they take decides both how many fit and how fast packets reach them.

use super::facts::PacketFacts;
use super::kept::{CompletePackets, KeptPackets, KeptStore};
use super::key::FlowKey;
use super::statistics::FlowStatistics;
use super::types::{FiveTuple, Flow, FlowOptions, PacketDirection};

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
    pub(super) statistics: bool,
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
            statistics: options.statistics,
        }
    }
}

/// The flow so far, without its statistics and its packets' bytes, which lie elsewhere.
#[derive(Clone)]
pub(super) struct ActiveFlow {
    /// Place in order of first packets.
    pub(super) number: u64,
    pub(super) key: FlowKey,
    /// Time of the first packet.
    start: i64,
    /// The latest time of any packet.
    latest: i64,
    pub(super) kept: KeptPackets,
    /// The first packet's sender is the key's second endpoint.
    reversed: bool,
}

impl ActiveFlow {
    /// A flow that a packet begins, which is to be added to it next.
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

    /// Whether a packet at this time comes too late to belong to the flow.
    pub(super) fn is_over_at(&self, timestamp: i64, limits: &Limits) -> bool {
        timestamp.saturating_sub(self.latest) > limits.idle_timeout
            || timestamp.saturating_sub(self.start) > limits.active_timeout
    }

    /// The latest time of any packet.
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
        let direction =
            if packet.reversed == self.reversed { PacketDirection::Forward } else { PacketDirection::Backward };
        let timestamp = packet.timestamp.max(self.latest);
        if let Some(statistics) = statistics {
            statistics.add(packet, direction, self.latest, timestamp, limits.activity_timeout);
        }
        self.latest = timestamp;
        if self.kept.count() < limits.kept_packets {
            store.push(&mut self.kept, direction, packet, &bytes[..bytes.len().min(limits.kept_bytes)]);
        }
    }

    /// The flow as others see it.
    pub(super) fn finish(&self, packets: &CompletePackets, statistics: Option<FlowStatistics>) -> Flow {
        let (first, second) = self.key.endpoints();
        let (source, destination) = if self.reversed { (second, first) } else { (first, second) };
        let transport = self.key.transport();
        let finished = |statistics: FlowStatistics| statistics.finish(self.start, self.latest, transport);
        Flow {
            five_tuple: FiveTuple { source, destination, transport },
            start: self.start,
            end: self.latest,
            packets: packets.packets(transport),
            statistics: statistics.map(finished).unwrap_or_default(),
        }
    }
}
