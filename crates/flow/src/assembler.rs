//! Assembles packets into flows, one packet at a time.

use etcbench_capture::Packet;

use super::active::Limits;
use super::fragment::Fragments;
use super::options::FlowOptionsError;
use super::shard::{CompleteFlow, Shard, SweepClock};
use super::types::{Flow, FlowOptions};

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
/// first, begins a new flow, whose direction is that packet's. FIN and RST end no flow, nor does a SYN begin one:
/// what follows them (the last acknowledgements, retransmissions) would become flows of a packet or two, which no
/// classifier is asked about. A port that is used again within the idle timeout therefore continues its flow.
///
/// Packets are expected in about the order of their times. Flows that are an idle timeout and a sixteenth behind the
/// current packet are complete, so a packet that is late by more than a sixteenth of the idle timeout may be
/// split from its flow. A packet earlier than its flow's latest never ends a flow.
///
/// Fragments follow the first fragment of their datagram, which has the ports; those that come before it wait
/// for it, for 30 s of capture time and in a bounded number.
pub struct Assembler {
    shard: Shard,
    clock: SweepClock,
    fragments: Fragments,
    next_number: u64,
}

impl Assembler {
    /// An assembler without flows.
    ///
    /// # Errors
    /// An option makes no sense ([`FlowOptions::validate`]).
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

    /// Takes in a packet. Flows that are complete by it go to `sink`, in order of completion
    /// (of several at once, in order of their numbers).
    pub fn push(&mut self, packet: &Packet<'_>, sink: &mut dyn FnMut(NumberedFlow)) {
        let Assembler { shard, clock, fragments, next_number } = self;
        fragments.place(packet, &mut |facts, bytes| {
            let mut sink = |flow: CompleteFlow| sink(flow.finish());
            if clock.is_due(facts.timestamp) {
                shard.sweep(facts.timestamp, &mut sink);
            }
            *next_number += u64::from(shard.push(*next_number, facts, bytes, &mut sink).is_some());
        });
    }

    /// Takes in a packet as [`Assembler::push`] does. Where it is the one by which its flow has so many kept packets, `watch` is given
    /// that flow as it is then: what reads no more than these packets need not wait for its end.
    pub fn push_watched(
        &mut self,
        packet: &Packet<'_>,
        packets: usize,
        watch: &mut dyn FnMut(NumberedFlow),
        sink: &mut dyn FnMut(NumberedFlow),
    ) {
        let Assembler { shard, clock, fragments, next_number } = self;
        fragments.place(packet, &mut |facts, bytes| {
            let mut sink = |flow: CompleteFlow| sink(flow.finish());
            if clock.is_due(facts.timestamp) {
                shard.sweep(facts.timestamp, &mut sink);
            }
            let before = shard.kept_of(&facts.key);
            *next_number += u64::from(shard.push(*next_number, facts, bytes, &mut sink).is_some());
            let after = shard.kept_of(&facts.key);
            if after != before && after.is_some_and(|(_, kept)| kept == packets) {
                shard.so_far(&facts.key).into_iter().for_each(|flow| watch(flow.finish()));
            }
        });
    }

    /// Completes what no packet after a time can continue, in order of numbers, as a packet of that time would: where packets come
    /// as they are recorded and none has come for a while.
    pub fn advance(&mut self, now: i64, sink: &mut dyn FnMut(NumberedFlow)) {
        if self.clock.is_due(now) {
            self.shard.sweep(now, &mut |flow| sink(flow.finish()));
        }
    }

    /// Completes all flows, in order of their numbers.
    pub fn finish(mut self, sink: &mut dyn FnMut(NumberedFlow)) {
        let mut active = self.shard.end();
        active.sort_unstable();
        active.into_iter().filter_map(|(_, position)| self.shard.take(position)).for_each(|flow| sink(flow.finish()));
    }

    /// Flows that have not been completed.
    pub fn active_flows(&self) -> usize {
        self.shard.active_flows()
    }

    /// Fragments that are of no flow, because the fragment with the ports has not come.
    pub fn fragments_without_ports(&self) -> u64 {
        self.fragments.without_ports()
    }
}
