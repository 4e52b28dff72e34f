//! Processes the packets of a capture in rounds: one thread decodes a round while others assign the packets of the
//! previous one to their flows.
//!
//! A round's packets are divided among a fixed number of shards by a hash that is the same for both directions, so each
//! flow belongs to one shard, and a shard's packets stay in order. Results do not depend on which thread processes a
//! shard.

use rayon::prelude::*;

use etcbench_capture::{CaptureError, CaptureReader};

use super::active::Limits;
use super::facts::PacketFacts;
use super::fragment::Fragments;
use super::shard::{CompleteFlow, Shard, SweepClock};
use super::types::FlowOptions;

/// Number of shards: several per thread, to balance uneven ones.
pub(super) const SHARDS: usize = 16;
/// Packets of a round: enough that distributing the shards costs nothing, few enough to stay in the cache.
const ROUND_PACKETS: usize = 8192;
/// Number of bytes of packets at which a round is full.
const ROUND_BYTES: usize = 1 << 22;

/// Number of packets whose flows are prefetched together before the packets are added one by one: about as many reads
/// as a CPU core can have in flight.
const LOOK_AHEAD: usize = 16;

/// A packet, and the range of its bytes in the round.
struct RoundPacket {
    facts: PacketFacts,
    start: u32,
    length: u32,
}

/// Decoded packets waiting to be assigned to their flows.
pub(super) struct Round {
    /// Number of the first packet.
    first: u64,
    packets: Vec<RoundPacket>,
    bytes: Vec<u8>,
    /// Positions of each shard's packets.
    members: [Vec<u32>; SHARDS],
    /// Positions before which all shards are swept, with the time.
    sweeps: Vec<(u32, i64)>,
}

impl Round {
    pub(super) fn new() -> Round {
        Round {
            first: 0,
            packets: Vec::new(),
            bytes: Vec::new(),
            members: std::array::from_fn(|_| Vec::new()),
            sweeps: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    fn clear(&mut self, first: u64) {
        self.first = first;
        self.packets.clear();
        self.bytes.clear();
        self.members.iter_mut().for_each(Vec::clear);
        self.sweeps.clear();
    }
}

/// The parts that must see all packets in order: the reader, fragments, and the sweep clock.
pub(super) struct Source {
    pub(super) reader: CaptureReader,
    fragments: Fragments,
    clock: SweepClock,
    kept_bytes: usize,
    /// Number of packets emitted so far.
    given: u64,
}

impl Source {
    pub(super) fn new(reader: CaptureReader, options: &FlowOptions, limits: &Limits) -> Source {
        Source {
            reader,
            fragments: Fragments::new(options.direction, options.kept_bytes),
            clock: SweepClock::new(limits),
            kept_bytes: options.kept_bytes,
            given: 0,
        }
    }

    /// Fills a round; it stays empty if the capture has ended.
    pub(super) fn fill(&mut self, round: &mut Round) -> Result<(), CaptureError> {
        round.clear(self.given);
        let Source { reader, fragments, clock, kept_bytes, given } = self;
        while round.packets.len() < ROUND_PACKETS && round.bytes.len() < ROUND_BYTES {
            let Some(packet) = reader.next_packet()? else { break };
            fragments.place(&packet, &mut |facts, bytes| {
                let position = round.packets.len() as u32;
                if clock.is_due(facts.timestamp) {
                    round.sweeps.push((position, facts.timestamp));
                }
                let start = round.bytes.len() as u32;
                let length = bytes.len().min(*kept_bytes);
                round.bytes.extend_from_slice(&bytes[..length]);
                round.members[facts.key.shard(SHARDS)].push(position);
                round.packets.push(RoundPacket { facts: *facts, start, length: length as u32 });
                *given += 1;
            });
        }
        Ok(())
    }

    /// Returns the number of fragments without a flow.
    pub(super) fn fragments_without_ports(&self) -> u64 {
        self.fragments.without_ports()
    }
}

/// A shard with the results of the last round.
pub(super) struct Worker {
    shard: Shard,
    /// Flows that began: number of the packet, and position in the shard.
    began: Vec<(u64, u32)>,
    /// Flows that completed, with their [`Moment`]; boxed, because they wait for others.
    complete: Vec<(Moment, Box<CompleteFlow>)>,
}

/// When in a round a flow completed: twice the position of the packet, plus one if the packet has the same key. Sweeps
/// come before the packet.
type Moment = u32;

impl Worker {
    pub(super) fn new(limits: Limits) -> Worker {
        Worker { shard: Shard::new(limits), began: Vec::new(), complete: Vec::new() }
    }

    fn take(&mut self, round: &Round, members: &[u32]) {
        let Worker { shard, began, complete } = self;
        let mut sweeps = round.sweeps.iter().peekable();
        for (place, &position) in members.iter().enumerate() {
            if place % LOOK_AHEAD == 0 {
                let ahead = members[place..].iter().take(LOOK_AHEAD);
                let seen = ahead.map(|position| shard.look_at(&round.packets[*position as usize].facts.key));
                std::hint::black_box(seen.fold(0, u64::wrapping_add));
            }
            while let Some((before, now)) = sweeps.next_if(|(before, _)| *before <= position) {
                shard.sweep(*now, &mut |flow| complete.push((2 * before, Box::new(flow))));
            }
            let RoundPacket { facts, start, length } = &round.packets[position as usize];
            let bytes = &round.bytes[*start as usize..][..*length as usize];
            let number = round.first + u64::from(position);
            let mut sink = |flow| complete.push((2 * position + 1, Box::new(flow)));
            began.extend(shard.push(number, facts, bytes, &mut sink).map(|position| (number, position)));
        }
        for (before, now) in sweeps {
            shard.sweep(*now, &mut |flow| complete.push((2 * before, Box::new(flow))));
        }
    }
}

/// Assigns a round's packets to their flows, with shards in parallel.
pub(super) fn take(workers: &mut [Worker], round: &Round) {
    workers
        .par_iter_mut()
        .zip(&round.members)
        .with_max_len(1)
        .for_each(|(worker, members)| worker.take(round, members));
}

/// Result of a round: how many flows began, and which completed, in order of completion (flows that complete at the
/// same time are ordered by number).
pub(super) struct Made {
    pub(super) began: usize,
    #[allow(clippy::vec_box, reason = "flows are large, and passed on boxed")]
    pub(super) complete: Vec<Box<CompleteFlow>>,
}

/// Collects the workers' results of `round` and numbers the flows that began in it from `next` on, in order of their
/// first packets. Until now such a flow had its packet's number, which is higher than those of all earlier flows.
pub(super) fn collect(workers: &mut [Worker], round: &Round, next: u64) -> Made {
    let mut began: Vec<(u64, usize, u32)> = Vec::new();
    let mut complete = Vec::new();
    for (worker, Worker { began: theirs, complete: completed, .. }) in workers.iter_mut().enumerate() {
        began.extend(theirs.drain(..).map(|(packet, position)| (packet, worker, position)));
        complete.append(completed);
    }
    began.sort_unstable();
    for (number, (packet, worker, position)) in (next..).zip(&began) {
        workers[*worker].shard.renumber(*position, *packet, number);
    }
    for (_, flow) in &mut complete {
        let packet = flow.number();
        if packet >= round.first {
            let place = began.partition_point(|(other, _, _)| *other < packet);
            flow.set_number(next + place as u64);
        }
    }
    complete.sort_unstable_by_key(|(moment, flow)| (*moment, flow.number()));
    Made { began: began.len(), complete: complete.into_iter().map(|(_, flow)| flow).collect() }
}

/// Ends all flows and returns them one by one, in order of number: collecting them all would double the memory.
pub(super) fn end(workers: &mut [Worker]) -> impl Iterator<Item = Box<CompleteFlow>> {
    let mut active: Vec<(u64, u8, u32)> = Vec::new();
    for (worker, number) in workers.iter_mut().zip(0..) {
        active.extend(worker.shard.end().into_iter().map(|(flow, position)| (flow, number, position)));
    }
    active.sort_unstable();
    active
        .into_iter()
        .filter_map(|(_, worker, position)| workers[usize::from(worker)].shard.take(position))
        .map(Box::new)
}
