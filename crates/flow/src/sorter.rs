//! Sorts the packets of a capture by flow without keeping them: each is passed on as captured, with the flow that it
//! belongs to.

use etcbench_capture::Packet;

use super::active::Limits;
use super::fragment::Fragments;
use super::options::FlowOptionsError;
use super::shard::{Shard, SweepClock};
use super::types::{FiveTuple, FlowOptions};

/// A packet as captured, with its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortedPacket<'a> {
    /// Number of the flow, from 0, in order of first packets.
    pub flow: u64,
    /// Five-tuple of the flow, from the sender of its first packet.
    pub five_tuple: FiveTuple,
    /// Nanoseconds since the Unix epoch.
    pub timestamp: i64,
    /// Length of the frame on the wire in bytes.
    pub wire_length: u32,
    /// Link type of the frame.
    pub link_type: u32,
    /// The captured bytes, from the link layer on.
    pub frame: &'a [u8],
}

/// What a [`FlowSorter`] passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sorted<'a> {
    /// The next packet of a flow.
    Packet(SortedPacket<'a>),
    /// No packet of the flow with this number will follow.
    End(u64),
}

/// Assigns packets to flows. The flows have the same packets, in the same order, and the same numbers as those of an
/// [`Assembler`](super::Assembler) with the same options.
///
/// Memory holds the active flows without their packets, and fragments that wait for the first of their datagram.
pub struct FlowSorter {
    shard: Shard,
    clock: SweepClock,
    fragments: Fragments,
    next_number: u64,
    /// The current packet's link type and frame. A fragment that waits keeps both.
    whole: Vec<u8>,
}

impl FlowSorter {
    /// Creates a sorter without flows; of the options, it uses timeouts and direction.
    ///
    /// # Errors
    /// An option is invalid ([`FlowOptions::validate`]).
    pub fn new(options: &FlowOptions) -> Result<Self, FlowOptionsError> {
        options.validate()?;
        let limits = Limits { kept_packets: 0, kept_bytes: 0, statistics: false, ..Limits::new(options) };
        Ok(Self {
            shard: Shard::new(limits),
            clock: SweepClock::new(&limits),
            fragments: Fragments::new(options.direction, usize::MAX),
            next_number: 0,
            whole: Vec::new(),
        })
    }

    /// Passes on the packet, or the fragments that waited for it with it, each after the ends of the flows that are
    /// complete at its time.
    pub fn push(&mut self, packet: &Packet<'_>, sink: &mut dyn FnMut(Sorted<'_>)) {
        let Self { shard, clock, fragments, next_number, whole, .. } = self;
        whole.clear();
        whole.extend_from_slice(&packet.link_type.to_le_bytes());
        whole.extend_from_slice(packet.frame);
        fragments.place(&Packet { bytes: whole, ..*packet }, &mut |facts, whole| {
            if clock.is_due(facts.timestamp) {
                shard.sweep(facts.timestamp);
            }
            *next_number += u64::from(shard.push(*next_number, facts, &[], None).is_some());
            shard.emit(&mut |flow| sink(Sorted::End(flow.number)));
            let (Some((flow, five_tuple)), Some((link_type, frame))) =
                (shard.flow_of(&facts.key), whole.split_first_chunk())
            else {
                return;
            };
            sink(Sorted::Packet(SortedPacket {
                flow,
                five_tuple,
                timestamp: facts.timestamp,
                wire_length: facts.wire_length,
                link_type: u32::from_le_bytes(*link_type),
                frame,
            }));
        });
    }

    /// Ends all flows, in order of number.
    pub fn finish(mut self, sink: &mut dyn FnMut(Sorted<'_>)) {
        let mut active = self.shard.end();
        active.sort_unstable();
        active.into_iter().for_each(|(number, _)| sink(Sorted::End(number)));
    }

    /// Returns the number of fragments without a flow, because the fragment with the ports has not arrived.
    pub fn fragments_without_ports(&self) -> u64 {
        self.fragments.without_ports()
    }
}
