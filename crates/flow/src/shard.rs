//! The active flows of a subset of all five-tuples.

use std::collections::BTreeMap;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::active::{ActiveFlow, Limits};
use super::assembler::NumberedFlow;
use super::facts::PacketFacts;
use super::kept::{KeptPackets, KeptStore};
use super::key::FlowKey;
use super::slab::Slab;
use super::statistics::FlowStatistics;
use super::types::FiveTuple;

/// Where the active flow of a key is. The part of the key's hash decides most comparisons without a look at the flow,
/// which is rarely in the CPU cache; the key itself is in the flow.
#[derive(Clone, Copy)]
struct Place {
    hash: u32,
    position: u32,
}

/// Returns the hash by which the table of places sorts: all of it is known from the stored part, so a table can grow
/// without a look at the flows.
fn table_hash(part: u32) -> u64 {
    u64::from(part) << 32 | u64::from(part)
}

/// Returns the part of a key's hash that is stored; shards are chosen by other bits.
fn stored_hash(key: &FlowKey) -> u32 {
    key.hash() as u32
}

/// Assigns packets to their flows. A flow's number is the one given with its first packet, unless renumbered.
///
/// A flow to which no more packets will be added keeps its position until it is freed, so that it is read where it is.
pub(super) struct Shard {
    limits: Limits,
    places: HashTable<Place>,
    flows: Slab<ActiveFlow>,
    /// Statistics, if requested. Filled and freed together with `flows`, so a flow and its statistics have the same
    /// position.
    statistics: Option<Slab<FlowStatistics>>,
    kept: KeptStore,
    /// Positions of all flows by when they are next checked: in units of [`slack`], a time not after the flow's latest
    /// packet. Each flow is listed once.
    due: BTreeMap<i64, Vec<u32>>,
    /// Positions of the flows that have ended, in order of completion, until they are taken over.
    ended: Vec<u32>,
}

impl Shard {
    pub(super) fn new(limits: Limits) -> Shard {
        Shard {
            limits,
            places: HashTable::new(),
            flows: Slab::new(),
            statistics: limits.statistics.then(Slab::new),
            kept: KeptStore::new(),
            due: BTreeMap::new(),
            ended: Vec::new(),
        }
    }

    /// Adds packet `number`. Returns the position of the flow that it started, if any. The flow that it ended, if any,
    /// is added to [`Shard::ended`]. `expected` is the result of [`Shard::expected`] since the last sweep.
    pub(super) fn push(
        &mut self,
        number: u64,
        packet: &PacketFacts,
        bytes: &[u8],
        expected: Option<u32>,
    ) -> Option<u32> {
        let Shard { limits, places, flows, statistics, kept, due, ended } = self;
        let is_its =
            |flows: &Slab<ActiveFlow>, position: u32| flows.get(position).is_some_and(|flow| flow.key == packet.key);
        let hash = stored_hash(&packet.key);
        let entry = match expected.filter(|position| is_its(flows, *position)) {
            Some(position) => Ok(position),
            None => {
                let same = |place: &Place| place.hash == hash && is_its(flows, place.position);
                match places.entry(table_hash(hash), same, |place| table_hash(place.hash)) {
                    Entry::Occupied(entry) => Ok(entry.get().position),
                    Entry::Vacant(entry) => Err(entry),
                }
            }
        };
        if let Ok(position) = entry
            && let Some(flow) = flows.get_mut(position)
            && !flow.is_over_at(packet.timestamp, limits)
        {
            let statistics = statistics.as_mut().and_then(|statistics| statistics.get_mut(position));
            flow.add(packet, bytes, statistics, kept, limits);
            return None;
        }
        let mut flow = ActiveFlow::new(number, packet);
        let mut new = statistics.as_ref().map(|_| FlowStatistics::new(packet.timestamp));
        flow.add(packet, bytes, new.as_mut(), kept, limits);
        let position = match entry {
            Ok(position) => {
                // The new flow's latest packet is after the old one's, so its entry in `due` may stay; the old flow
                // moves.
                ended.extend(flows.displace(position, flow));
                if let (Some(statistics), Some(new)) = (statistics, new) {
                    let same = statistics.displace(position, new);
                    debug_assert_eq!(ended.last().copied(), same);
                }
                position
            }
            Err(entry) => {
                let position = flows.insert(flow);
                if let (Some(statistics), Some(new)) = (statistics, new) {
                    let same = statistics.insert(new);
                    debug_assert_eq!(position, same);
                }
                entry.insert(Place { hash, position });
                due.entry(packet.timestamp.div_euclid(slack(limits))).or_default().push(position);
                position
            }
        };
        Some(position)
    }

    /// Renumbers the flow at a position, if it still is the one that began with `number`.
    pub(super) fn renumber(&mut self, position: u32, number: u64, new: u64) {
        if let Some(flow) = self.flows.get_mut(position).filter(|flow| flow.number == number) {
            flow.number = new;
        }
    }

    /// Renumbers the flow at a position.
    pub(super) fn set_number(&mut self, position: u32, new: u64) {
        self.flows.get_mut(position).into_iter().for_each(|flow| flow.number = new);
    }

    /// Returns where the flow of this key most likely is, from the table alone.
    pub(super) fn expected(&self, key: &FlowKey) -> Option<u32> {
        let hash = stored_hash(key);
        self.places.find(table_hash(hash), |place| place.hash == hash).map(|place| place.position)
    }

    /// Reads from the flow at a position, to bring it into the CPU cache; the returned value is meaningless.
    pub(super) fn touch(&self, position: u32) -> u64 {
        self.flows.get(position).map_or(0, ActiveFlow::touch)
    }

    /// Reads from the rest of the memory that a packet of the flow at this position changes. The flow should be in the
    /// cache already.
    pub(super) fn touch_rest(&self, position: u32, packet: &PacketFacts) -> u64 {
        let Some(flow) = self.flows.get(position) else { return 0 };
        let kept = if flow.kept.count() < self.limits.kept_packets { self.kept.touch(flow.kept) } else { 0 };
        let statistics = self.statistics.as_ref().and_then(|statistics| statistics.get(position));
        kept ^ statistics.map_or(0, |statistics| statistics.touch(flow.direction(packet)))
    }

    /// Reads from the statistics of the flow at a position, and returns where its packets are. The flow should be in the
    /// cache already.
    pub(super) fn touch_ended(&self, position: u32) -> Option<(u64, (&KeptStore, KeptPackets))> {
        let flow = self.flows.get(position)?;
        let statistics = self.statistics.as_ref().and_then(|statistics| statistics.get(position));
        Some((statistics.map_or(0, FlowStatistics::touch_all), (&self.kept, flow.kept)))
    }

    fn active(&self, key: &FlowKey) -> Option<(u32, &ActiveFlow)> {
        let hash = stored_hash(key);
        let same =
            |place: &Place| place.hash == hash && self.flows.get(place.position).is_some_and(|flow| flow.key == *key);
        let position = self.places.find(table_hash(hash), same)?.position;
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
    pub(super) fn so_far(&self, key: &FlowKey) -> Option<NumberedFlow> {
        self.active(key).and_then(|(position, _)| self.flow(position))
    }

    /// Completes the flows that no packet after this time can continue: adds them to [`Shard::ended`] in order of
    /// number.
    pub(super) fn sweep(&mut self, now: i64) {
        let unit = slack(&self.limits);
        let too_old = now.saturating_sub(self.limits.idle_timeout).saturating_sub(unit);
        let last = too_old.div_euclid(unit);
        let mut complete: Vec<(u64, u32)> = Vec::new();
        let mut later: Vec<(i64, u32)> = Vec::new();
        while let Some(entry) = self.due.first_entry().filter(|entry| *entry.key() <= last) {
            for position in entry.remove() {
                match self.flows.get(position) {
                    Some(flow) if flow.latest() < too_old => {
                        let same = |place: &Place| place.position == position;
                        if let Ok(entry) = self.places.find_entry(table_hash(stored_hash(&flow.key)), same) {
                            entry.remove();
                        }
                        complete.push((flow.number, position));
                    }
                    Some(flow) => later.push((flow.latest().div_euclid(unit), position)),
                    None => {}
                }
            }
        }
        for (unit, position) in later {
            self.due.entry(unit).or_default().push(position);
        }
        complete.sort_unstable();
        self.ended.extend(complete.into_iter().map(|(_, position)| position));
    }

    /// Takes over the positions of the flows that have ended, which must be freed.
    pub(super) fn ended(&mut self) -> std::vec::Drain<'_, u32> {
        self.ended.drain(..)
    }

    /// Passes the flows that have ended to `sink` and frees them.
    pub(super) fn emit(&mut self, sink: &mut dyn FnMut(NumberedFlow)) {
        for position in std::mem::take(&mut self.ended) {
            self.flow(position).into_iter().for_each(&mut *sink);
            self.free(position);
        }
    }

    /// Ends all flows and returns their numbers and positions. No packet may follow.
    pub(super) fn end(&mut self) -> Vec<(u64, u32)> {
        self.due = BTreeMap::new();
        let places = std::mem::take(&mut self.places);
        places.into_iter().filter_map(|place| Some((self.number(place.position)?, place.position))).collect()
    }

    /// Returns the number of the flow at a position.
    pub(super) fn number(&self, position: u32) -> Option<u64> {
        Some(self.flows.get(position)?.number)
    }

    /// Converts the flow at a position to the public type.
    pub(super) fn flow(&self, position: u32) -> Option<NumberedFlow> {
        let flow = self.flows.get(position)?;
        let statistics = self.statistics.as_ref().and_then(|statistics| statistics.get(position));
        Some(NumberedFlow { number: flow.number, flow: flow.finish(&self.kept, statistics) })
    }

    /// Frees the memory of the flow at a position.
    pub(super) fn free(&mut self, position: u32) {
        if let Some(flow) = self.flows.get(position) {
            self.kept.free(flow.kept);
        }
        let used = self.flows.free(position);
        if let Some(statistics) = &mut self.statistics {
            let same = statistics.free(position);
            debug_assert_eq!(used, same);
        }
    }

    /// Returns the number of flows still in progress.
    pub(super) fn active_flows(&self) -> usize {
        self.places.len()
    }
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
