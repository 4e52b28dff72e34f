//! Assembles packets into flows.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::capture::Packet;

use super::active::{ActiveFlow, Limits};
use super::key::{BuildWordHasher, FlowKey};
use super::options::FlowOptionsError;
use super::types::{Flow, FlowOptions, Pairing};

/// A completed flow and its number.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberedFlow {
    /// Number of the flow, from 0, in order of first packets.
    pub number: u64,
    /// The flow.
    pub flow: Flow,
}

/// Groups packets by five-tuple and splits the groups by time, and by nothing else.
///
/// A packet more than `idle_timeout` after its flow's latest packet, or more than `active_timeout` after its
/// first, begins a new flow, whose direction is that packet's. FIN and RST end no flow: what follows them
/// (the last acknowledgements, retransmissions, a reused port) would become flows of a packet or two,
/// which no classifier is asked about.
///
/// Packets are expected in about the order of their times. Flows that a sweep finds two idle timeouts behind
/// the current packet are complete, so only packets later than an idle timeout out of order could be
/// split from their flow by it. A packet earlier than its flow's latest never ends a flow.
pub struct Assembler {
    limits: Limits,
    pairing: Pairing,
    /// Position of a key's active flow in `flows`.
    positions: HashMap<FlowKey, usize, BuildWordHasher>,
    /// Active flows, in no particular order.
    flows: Vec<ActiveFlow>,
    next_number: u64,
    /// Time of the last sweep.
    swept: Option<i64>,
}

/// Nanoseconds of a checked number of seconds.
fn nanoseconds(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

impl Assembler {
    /// An assembler without flows.
    ///
    /// # Errors
    /// An option makes no sense ([`FlowOptions::validate`]).
    pub fn new(options: &FlowOptions) -> Result<Assembler, FlowOptionsError> {
        options.validate()?;
        Ok(Assembler {
            limits: Limits {
                idle_timeout: nanoseconds(options.idle_timeout),
                active_timeout: nanoseconds(options.active_timeout),
                activity_timeout: nanoseconds(options.activity_timeout).cast_unsigned(),
                kept_packets: options.kept_packets,
                kept_bytes: options.kept_bytes,
            },
            pairing: options.direction,
            positions: HashMap::default(),
            flows: Vec::new(),
            next_number: 0,
            swept: None,
        })
    }

    /// Takes in a packet. Flows that are complete by it go to `sink`, in order of completion
    /// (of several at once, in order of their numbers).
    pub fn push(&mut self, packet: &Packet<'_>, sink: &mut dyn FnMut(NumberedFlow)) {
        self.sweep_if_due(packet.timestamp, sink);
        let key = FlowKey::new(packet, self.pairing);
        match self.positions.entry(key) {
            Entry::Occupied(position) => {
                let flow = &mut self.flows[*position.get()];
                if flow.is_over_at(packet.timestamp, &self.limits) {
                    let next = ActiveFlow::new(self.next_number, key, packet, &self.limits);
                    self.next_number += 1;
                    let complete = std::mem::replace(flow, next);
                    sink(numbered(complete));
                } else {
                    flow.add(packet, &self.limits);
                }
            }
            Entry::Vacant(position) => {
                position.insert(self.flows.len());
                self.flows.push(ActiveFlow::new(self.next_number, key, packet, &self.limits));
                self.next_number += 1;
            }
        }
    }

    /// Completes all flows, in order of their numbers.
    pub fn finish(mut self, sink: &mut dyn FnMut(NumberedFlow)) {
        self.flows.sort_unstable_by_key(|flow| flow.number);
        self.flows.into_iter().map(numbered).for_each(sink);
    }

    /// Flows that have not been completed.
    pub fn active_flows(&self) -> usize {
        self.flows.len()
    }

    /// Completes what is two idle timeouts old, once per idle timeout of capture time; so every flow is
    /// looked at a few times in all, and memory holds the flows of the last three idle timeouts.
    fn sweep_if_due(&mut self, now: i64, sink: &mut dyn FnMut(NumberedFlow)) {
        match self.swept {
            // Time that ran backwards (captures one after another in a file) starts the wait anew.
            Some(swept) if now >= swept && now - swept <= self.limits.idle_timeout => return,
            Some(swept) if now >= swept => {}
            _ => {
                self.swept = Some(now);
                return;
            }
        }
        self.swept = Some(now);
        let too_old = now.saturating_sub(self.limits.idle_timeout.saturating_mul(2));
        let mut complete = Vec::new();
        let mut position = 0;
        while position < self.flows.len() {
            if self.flows[position].latest() < too_old {
                let flow = self.flows.swap_remove(position);
                self.positions.remove(&flow.key);
                if let Some(moved) = self.flows.get(position) {
                    self.positions.insert(moved.key, position);
                }
                complete.push(flow);
            } else {
                position += 1;
            }
        }
        complete.sort_unstable_by_key(|flow| flow.number);
        complete.into_iter().map(numbered).for_each(sink);
    }
}

fn numbered(flow: ActiveFlow) -> NumberedFlow {
    NumberedFlow { number: flow.number, flow: flow.finish() }
}
