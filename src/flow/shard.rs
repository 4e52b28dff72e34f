//! The active flows of a part of all five-tuples.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::active::{ActiveFlow, Limits};
use super::assembler::NumberedFlow;
use super::facts::PacketFacts;
use super::key::{BuildKeyHasher, FlowKey};

/// Takes packets to their flows. A flow's number is that of its first packet, whatever the caller counts.
pub(super) struct Shard {
    limits: Limits,
    /// Position of a key's active flow in `slots`.
    positions: HashMap<FlowKey, u32, BuildKeyHasher>,
    /// Boxed: a flow is most of a kilobyte, which a growing vector would hold twice.
    slots: Vec<Option<Box<ActiveFlow>>>,
    /// Positions in `slots` that are empty.
    free: Vec<u32>,
}

impl Shard {
    pub(super) fn new(limits: Limits) -> Shard {
        Shard { limits, positions: HashMap::default(), slots: Vec::new(), free: Vec::new() }
    }

    /// Takes in packet `number`; says whether it began a flow. The flow that it ended, if any, goes to `sink`.
    pub(super) fn push(
        &mut self,
        number: u64,
        packet: &PacketFacts,
        bytes: &[u8],
        sink: &mut dyn FnMut(NumberedFlow),
    ) -> bool {
        match self.positions.entry(packet.key) {
            Entry::Occupied(position) => {
                // A key's position always leads to its flow; an empty slot would begin a flow like a new key.
                let slot = &mut self.slots[*position.get() as usize];
                match slot {
                    Some(flow) if !flow.is_over_at(packet.timestamp, &self.limits) => {
                        flow.add(packet, bytes, &self.limits);
                        return false;
                    }
                    _ => {}
                }
                let complete = slot.replace(Box::new(ActiveFlow::new(number, packet, bytes, &self.limits)));
                complete.map(numbered).into_iter().for_each(sink);
            }
            Entry::Vacant(vacant) => {
                let flow = Some(Box::new(ActiveFlow::new(number, packet, bytes, &self.limits)));
                let position = match self.free.pop() {
                    Some(position) => {
                        self.slots[position as usize] = flow;
                        position
                    }
                    None => {
                        let position = u32::try_from(self.slots.len()).expect("fewer active flows than addresses");
                        self.slots.push(flow);
                        position
                    }
                };
                vacant.insert(position);
            }
        }
        true
    }

    /// Completes what no packet after a time can continue, in order of numbers.
    pub(super) fn sweep(&mut self, now: i64, sink: &mut dyn FnMut(NumberedFlow)) {
        let too_old = now.saturating_sub(self.limits.idle_timeout).saturating_sub(slack(&self.limits));
        let mut complete = Vec::new();
        for (position, slot) in self.slots.iter_mut().enumerate() {
            if let Some(flow) = slot.take_if(|flow| flow.latest() < too_old) {
                self.positions.remove(&flow.key);
                self.free.push(position as u32);
                complete.push(numbered(flow));
            }
        }
        complete.sort_unstable_by_key(|flow| flow.number);
        complete.into_iter().for_each(sink);
    }

    /// Completes all flows, in order of their numbers.
    pub(super) fn finish(&mut self, sink: &mut dyn FnMut(NumberedFlow)) {
        self.positions.clear();
        self.free.clear();
        let mut flows: Vec<Box<ActiveFlow>> = self.slots.drain(..).flatten().collect();
        flows.sort_unstable_by_key(|flow| flow.number);
        flows.into_iter().map(numbered).for_each(sink);
    }

    /// Flows that have not been completed.
    pub(super) fn active_flows(&self) -> usize {
        self.positions.len()
    }
}

fn numbered(flow: Box<ActiveFlow>) -> NumberedFlow {
    NumberedFlow { number: flow.number, flow: flow.finish() }
}

/// By how much a packet may be late without a sweep coming before it, and how much time passes between sweeps.
fn slack(limits: &Limits) -> i64 {
    limits.idle_timeout / SLACK
}

/// Part of the idle timeout.
const SLACK: i64 = 16;

/// Decides when shards are swept: sixteen times per idle timeout of capture time, so that every flow is looked at
/// some twenty times in all, and memory holds the flows of the last 1.125 idle timeouts.
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
            // Time that ran backwards (captures one after another in a file) starts the wait anew.
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
