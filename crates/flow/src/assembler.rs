//! Assembles packets into flows, one packet at a time.

use etcbench_capture::Packet;

use super::active::Limits;
use super::fragment::Fragments;
use super::options::FlowOptionsError;
use super::shard::{Shard, SweepClock};
use super::types::{Flow, FlowOptions};

/// A completed flow and its number.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberedFlow {
    /// Number of the flow, from 0, in order of first packets.
    pub number: u64,
    /// The flow.
    pub flow: Flow,
}

/// Groups packets by five-tuple and splits the groups by time only.
///
/// A packet more than `idle_timeout` after its flow's latest packet, or more than `active_timeout` after the first,
/// starts a new flow, whose direction is that packet's. FIN and RST do not end a flow, nor does a SYN start one: the
/// packets after them (the last acknowledgements, retransmissions) would become flows of one or two packets, which no
/// classifier has to handle. A port reused within the idle timeout therefore continues its flow.
///
/// Packets are expected approximately in order of time. Flows that are an idle timeout and a sixteenth behind the
/// current packet are complete, so a packet that is late by more than a sixteenth of the idle timeout may be split from
/// its flow. A packet earlier than its flow's latest never ends a flow.
///
/// Fragments follow the first fragment of their datagram, which has the ports. Earlier ones wait for it, for 30 s of
/// capture time and in limited number.
pub struct Assembler {
    shard: Shard,
    clock: SweepClock,
    fragments: Fragments,
    next_number: u64,
}

impl Assembler {
    /// Creates an assembler without flows.
    ///
    /// # Errors
    /// An option is invalid ([`FlowOptions::validate`]).
    pub fn new(options: &FlowOptions) -> Result<Assembler, FlowOptionsError> {
        options.validate()?;
        let limits = Limits::new(options);
        Ok(Assembler {
            shard: Shard::new(limits),
            clock: SweepClock::new(&limits),
            fragments: Fragments::new(options.direction, options.kept_bytes),
            next_number: 0,
        })
    }

    /// Adds a packet. Flows that are complete at its time are passed to `sink`, in order of completion (flows that
    /// complete at the same time are ordered by number).
    pub fn push(&mut self, packet: &Packet<'_>, sink: &mut dyn FnMut(NumberedFlow)) {
        let Assembler { shard, clock, fragments, next_number } = self;
        fragments.place(packet, &mut |facts, bytes| {
            if clock.is_due(facts.timestamp) {
                shard.sweep(facts.timestamp);
            }
            *next_number += u64::from(shard.push(*next_number, facts, bytes, None).is_some());
            shard.emit(sink);
        });
    }

    /// Adds a packet as [`Assembler::push`] does. If this packet is the one with which its flow reaches `packets` kept
    /// packets, passes the flow's current state to `watch`: a consumer that needs only these packets need not wait for
    /// the flow's end.
    pub fn push_watched(
        &mut self,
        packet: &Packet<'_>,
        packets: usize,
        watch: &mut dyn FnMut(NumberedFlow),
        sink: &mut dyn FnMut(NumberedFlow),
    ) {
        let Assembler { shard, clock, fragments, next_number } = self;
        fragments.place(packet, &mut |facts, bytes| {
            if clock.is_due(facts.timestamp) {
                shard.sweep(facts.timestamp);
            }
            let before = shard.kept_of(&facts.key);
            *next_number += u64::from(shard.push(*next_number, facts, bytes, None).is_some());
            shard.emit(sink);
            let after = shard.kept_of(&facts.key);
            if after != before && after.is_some_and(|(_, kept)| kept == packets) {
                shard.so_far(&facts.key).into_iter().for_each(&mut *watch);
            }
        });
    }

    /// Completes the flows that no packet after this time can continue, in order of number, as a packet of that time
    /// would: for live captures in which no packet has arrived for a while.
    pub fn advance(&mut self, now: i64, sink: &mut dyn FnMut(NumberedFlow)) {
        if self.clock.is_due(now) {
            self.shard.sweep(now);
            self.shard.emit(sink);
        }
    }

    /// Completes all flows, in order of number.
    pub fn finish(mut self, sink: &mut dyn FnMut(NumberedFlow)) {
        let mut active = self.shard.end();
        active.sort_unstable();
        active.into_iter().filter_map(|(_, position)| self.shard.flow(position)).for_each(sink);
    }

    /// Returns the number of flows still in progress.
    pub fn active_flows(&self) -> usize {
        self.shard.active_flows()
    }

    /// Returns the number of fragments without a flow, because the fragment with the ports has not arrived.
    pub fn fragments_without_ports(&self) -> u64 {
        self.fragments.without_ports()
    }
}
