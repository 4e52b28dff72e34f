//! The active flows of a subset of all five-tuples.

use std::collections::BTreeMap;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::active::{ActiveFlow, Limits};
use super::assembler::NumberedFlow;
use super::facts::PacketFacts;
use super::kept::{CompletePackets, KeptStore};
use super::key::FlowKey;
use super::slab::Slab;
use super::statistics::FlowStatistics;
use super::types::FiveTuple;

/// Assigns packets to their flows. A flow's number is the one given with its first packet, unless renumbered.
pub(super) struct Shard {
    limits: Limits,
    /// Position of each key's active flow. The keys themselves are in the flows, which are accessed anyway.
    positions: HashTable<u32>,
    flows: Slab<ActiveFlow>,
    /// Statistics, if requested. Filled and freed together with `flows`, so a flow and its statistics have the same
    /// position.
    statistics: Option<Slab<FlowStatistics>>,
    kept: KeptStore,
    /// Positions of all flows by when they are next checked: in units of [`slack`], a time not after the flow's latest
    /// packet. Each flow is listed once.
    due: BTreeMap<i64, Vec<u32>>,
}

/// A flow to which no more packets will be added. It is only turned into a [`Flow`](super::Flow), which is several
/// times as large, when needed.
pub(super) struct CompleteFlow {
    flow: ActiveFlow,
    packets: CompletePackets,
    statistics: Option<Box<FlowStatistics>>,
}

impl CompleteFlow {
    /// Returns the flow's number.
    pub(super) fn number(&self) -> u64 {
        self.flow.number
    }

    pub(super) fn set_number(&mut self, number: u64) {
        self.flow.number = number;
    }

    pub(super) fn finish(self) -> NumberedFlow {
        let CompleteFlow { flow, packets, statistics } = self;
        NumberedFlow { number: flow.number, flow: flow.finish(&packets, statistics.map(|statistics| *statistics)) }
    }
}

impl Shard {
    pub(super) fn new(limits: Limits) -> Shard {
        Shard {
            limits,
            positions: HashTable::new(),
            flows: Slab::new(),
            statistics: limits.statistics.then(Slab::new),
            kept: KeptStore::new(),
            due: BTreeMap::new(),
        }
    }

    /// Adds packet `number`. Returns the position of the flow that it started, if any; passes the flow that it ended,
    /// if any, to `sink`.
    pub(super) fn push(
        &mut self,
        number: u64,
        packet: &PacketFacts,
        bytes: &[u8],
        sink: &mut dyn FnMut(CompleteFlow),
    ) -> Option<u32> {
        let Shard { limits, positions, flows, statistics, kept, due } = self;
        let is_its = |position: &u32| flows.get(*position).is_some_and(|flow| flow.key == packet.key);
        let hash_of = |position: &u32| flows.get(*position).map_or(0, |flow| flow.key.hash());
        let begin =
            |flows: &mut Slab<ActiveFlow>, statistics: &mut Option<Slab<FlowStatistics>>, kept: &mut KeptStore| {
                let mut flow = ActiveFlow::new(number, packet);
                let mut new = statistics.as_ref().map(|_| FlowStatistics::new(packet.timestamp));
                flow.add(packet, bytes, new.as_mut(), kept, limits);
                let position = flows.insert(flow);
                if let (Some(statistics), Some(new)) = (statistics, new) {
                    let same = statistics.insert(new);
                    debug_assert_eq!(position, same);
                }
                position
            };
        match positions.entry(packet.key.hash(), is_its, hash_of) {
            Entry::Occupied(entry) => {
                let position = *entry.get();
                if let Some(flow) = flows.get_mut(position)
                    && !flow.is_over_at(packet.timestamp, limits)
                {
                    let statistics = statistics.as_mut().and_then(|statistics| statistics.get_mut(position));
                    flow.add(packet, bytes, statistics, kept, limits);
                    return None;
                }
                // The new flow's latest packet is after the old one's, so its entry in `due` may stay. It also gets the
                // old flow's position, the last one freed.
                let complete = take(flows, statistics, kept, position);
                let same = begin(flows, statistics, kept);
                debug_assert_eq!(position, same);
                complete.into_iter().for_each(sink);
                Some(position)
            }
            Entry::Vacant(entry) => {
                let position = begin(flows, statistics, kept);
                entry.insert(position);
                due.entry(packet.timestamp.div_euclid(slack(limits))).or_default().push(position);
                Some(position)
            }
        }
    }

    /// Renumbers the flow at a position, if it still is the one that began with `number`.
    pub(super) fn renumber(&mut self, position: u32, number: u64, new: u64) {
        if let Some(flow) = self.flows.get_mut(position).filter(|flow| flow.number == number) {
            flow.number = new;
        }
    }

    /// Prefetches the memory that a packet of this key will change, so that consecutive packets do not wait for it one
    /// by one. The returned value is meaningless.
    pub(super) fn look_at(&self, key: &FlowKey) -> u64 {
        let is_its = |position: &u32| self.flows.get(*position).is_some_and(|flow| flow.key == *key);
        let Some(position) = self.positions.find(key.hash(), is_its) else { return 0 };
        let statistics = self.statistics.as_ref().and_then(|statistics| statistics.get(*position));
        statistics.map_or(0, FlowStatistics::packets)
    }

    fn active(&self, key: &FlowKey) -> Option<(u32, &ActiveFlow)> {
        let is_its = |position: &u32| self.flows.get(*position).is_some_and(|flow| flow.key == *key);
        let position = *self.positions.find(key.hash(), is_its)?;
        Some((position, self.flows.get(position)?))
    }

    /// Returns the number and the five-tuple of this key's active flow.
    pub(super) fn flow_of(&self, key: &FlowKey) -> Option<(u64, FiveTuple)> {
        self.active(key).map(|(_, flow)| (flow.number, flow.five_tuple()))
    }

    /// Returns the number of this key's active flow, and how many of its packets are kept.
    pub(super) fn kept_of(&self, key: &FlowKey) -> Option<(u64, usize)> {
        self.active(key).map(|(_, flow)| (flow.number, flow.kept.count()))
    }

    /// Returns this key's active flow as if it were complete.
    pub(super) fn so_far(&self, key: &FlowKey) -> Option<CompleteFlow> {
        let (position, flow) = self.active(key)?;
        let statistics = self.statistics.as_ref().and_then(|statistics| statistics.get(position));
        let packets = self.kept.copy(flow.kept);
        Some(CompleteFlow { flow: flow.clone(), packets, statistics: statistics.cloned().map(Box::new) })
    }

    /// Completes the flows that no packet after this time can continue, in order of number.
    pub(super) fn sweep(&mut self, now: i64, sink: &mut dyn FnMut(CompleteFlow)) {
        let unit = slack(&self.limits);
        let too_old = now.saturating_sub(self.limits.idle_timeout).saturating_sub(unit);
        let last = too_old.div_euclid(unit);
        let mut complete = Vec::new();
        let mut later: Vec<(i64, u32)> = Vec::new();
        while let Some(entry) = self.due.first_entry().filter(|entry| *entry.key() <= last) {
            for position in entry.remove() {
                match self.flows.get(position) {
                    Some(flow) if flow.latest() < too_old => {
                        if let Ok(entry) = self.positions.find_entry(flow.key.hash(), |other| *other == position) {
                            entry.remove();
                        }
                        complete.extend(take(&mut self.flows, &mut self.statistics, &mut self.kept, position));
                    }
                    Some(flow) => later.push((flow.latest().div_euclid(unit), position)),
                    None => {}
                }
            }
        }
        for (unit, position) in later {
            self.due.entry(unit).or_default().push(position);
        }
        complete.sort_unstable_by_key(CompleteFlow::number);
        complete.into_iter().for_each(sink);
    }

    /// Ends all flows and returns their numbers and positions, each to be passed to [`Shard::take`]. No packet may
    /// follow.
    pub(super) fn end(&mut self) -> Vec<(u64, u32)> {
        self.due = BTreeMap::new();
        let positions = std::mem::take(&mut self.positions);
        positions.into_iter().filter_map(|position| Some((self.flows.get(position)?.number, position))).collect()
    }

    /// Removes the flow at a position.
    pub(super) fn take(&mut self, position: u32) -> Option<CompleteFlow> {
        take(&mut self.flows, &mut self.statistics, &mut self.kept, position)
    }

    /// Returns the number of flows still in progress.
    pub(super) fn active_flows(&self) -> usize {
        self.positions.len()
    }
}

/// Removes the flow at a position.
fn take(
    flows: &mut Slab<ActiveFlow>,
    statistics: &mut Option<Slab<FlowStatistics>>,
    kept: &mut KeptStore,
    position: u32,
) -> Option<CompleteFlow> {
    let statistics = statistics.as_mut().and_then(|statistics| statistics.take(position)).map(Box::new);
    flows.take(position).map(|flow| CompleteFlow { packets: kept.take(flow.kept), flow, statistics })
}

/// Returns how late a packet may be without being preceded by a sweep, which is also the time between sweeps.
fn slack(limits: &Limits) -> i64 {
    (limits.idle_timeout / SLACK).max(1)
}

/// Divisor of the idle timeout.
const SLACK: i64 = 16;

/// Decides when shards are swept: sixteen times per idle timeout of capture time, so that memory holds the flows of the
/// last 1.125 idle timeouts.
#[derive(Debug)]
pub(super) struct SweepClock {
    interval: i64,
    /// Time of the last sweep.
    swept: Option<i64>,
}

impl SweepClock {
    pub(super) fn new(limits: &Limits) -> SweepClock {
        SweepClock { interval: slack(limits), swept: None }
    }

    /// Whether to sweep before the packet of this time.
    pub(super) fn is_due(&mut self, now: i64) -> bool {
        match self.swept {
            // Time went backwards (concatenated captures): restart the interval.
            Some(swept) if now >= swept => {
                let due = now - swept > self.interval;
                if due {
                    self.swept = Some(now);
                }
                due
            }
            _ => {
                self.swept = Some(now);
                false
            }
        }
    }
}
