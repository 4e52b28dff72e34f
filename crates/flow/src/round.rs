//! Processes the packets of a capture in rounds: one thread decodes a round while others assign the packets of the
//! previous one to their flows.
//!
//! A round's packets are divided among a fixed number of shards by a hash that is the same for both directions, so each
//! flow belongs to one shard, and a shard's packets stay in order. Results do not depend on which thread processes a
//! shard.

use rayon::prelude::*;

use etcbench_capture::{CaptureError, CaptureReader};

use super::active::Limits;
use super::assembler::NumberedFlow;
use super::facts::PacketFacts;
use super::fragment::Fragments;
use super::kept::KeptStore;
use super::shard::{Shard, SweepClock};
use super::types::FlowOptions;

/// Number of shards: several per thread, to balance uneven ones.
pub(super) const SHARDS: usize = 16;
/// Packets of a round: enough that distributing the shards costs nothing, few enough to stay in the cache.
const ROUND_PACKETS: usize = 4096;
/// Number of bytes of packets at which a round is full.
const ROUND_BYTES: usize = 1 << 22;

/// Number of packets whose flows are brought into the cache together before the packets are added one by one: about as
/// many reads as a CPU core can have in flight.
const LOOK_AHEAD: usize = 16;

/// A packet, its position in the round, and the range of its bytes in the round.
struct RoundPacket {
    facts: PacketFacts,
    position: u32,
    start: u32,
    length: u32,
}

/// Decoded packets waiting to be assigned to their flows.
pub(super) struct Round {
    /// Number of the first packet.
    first: u64,
    /// Number of packets.
    count: u32,
    /// The packets of each shard.
    packets: [Vec<RoundPacket>; SHARDS],
    bytes: Vec<u8>,
    /// Positions before which all shards are swept, with the time.
    sweeps: Vec<(u32, i64)>,
}

impl Round {
    pub(super) fn new() -> Round {
        Round {
            first: 0,
            count: 0,
            packets: std::array::from_fn(|_| Vec::new()),
            bytes: Vec::new(),
            sweeps: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn clear(&mut self, first: u64) {
        self.first = first;
        self.count = 0;
        self.packets.iter_mut().for_each(Vec::clear);
        self.bytes.clear();
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
        while (round.count as usize) < ROUND_PACKETS && round.bytes.len() < ROUND_BYTES {
            let Some(packet) = reader.next_packet()? else { break };
            fragments.place(&packet, &mut |facts, bytes| {
                let position = round.count;
                if clock.is_due(facts.timestamp) {
                    round.sweeps.push((position, facts.timestamp));
                }
                let start = round.bytes.len() as u32;
                let length = bytes.len().min(*kept_bytes);
                round.bytes.extend_from_slice(&bytes[..length]);
                round.packets[facts.key.shard(SHARDS)].push(RoundPacket {
                    facts: *facts,
                    position,
                    start,
                    length: length as u32,
                });
                round.count += 1;
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
    /// Flows that ended: when, and position in the shard.
    ended: Vec<(Moment, u32)>,
    /// Positions of flows that are no longer needed.
    unused: Vec<u32>,
}

/// When in a round a flow completed: twice the position of the packet, plus one if the packet has the same key. Sweeps
/// come before the packet.
type Moment = u32;

impl Worker {
    pub(super) fn new(limits: Limits) -> Worker {
        Worker { shard: Shard::new(limits), began: Vec::new(), ended: Vec::new(), unused: Vec::new() }
    }

    fn take(&mut self, round: &Round, packets: &[RoundPacket]) {
        let Worker { shard, began, ended, unused } = self;
        unused.drain(..).for_each(|position| shard.free(position));
        let mut sweeps = round.sweeps.iter().peekable();
        for together in packets.chunks(LOOK_AHEAD) {
            let mut expected = look_ahead(shard, together);
            for (packet, place) in together.iter().zip(0..) {
                let RoundPacket { facts, position, start, length } = packet;
                while let Some((before, now)) = sweeps.next_if(|(before, _)| before <= position) {
                    shard.sweep(*now);
                    ended.extend(shard.ended().map(|flow| (2 * before, flow)));
                    expected = [None; LOOK_AHEAD];
                }
                let bytes = &round.bytes[*start as usize..][..*length as usize];
                let number = round.first + u64::from(*position);
                let new = shard.push(number, facts, bytes, expected[place]);
                began.extend(new.map(|flow| (number, flow)));
                ended.extend(shard.ended().map(|flow| (2 * position + 1, flow)));
            }
        }
        for (before, now) in sweeps {
            shard.sweep(*now);
            ended.extend(shard.ended().map(|flow| (2 * before, flow)));
        }
    }
}

/// Returns where the flows of a few packets most likely are, and brings them into the CPU cache. Each step reads for
/// all packets what the next needs, so that the packets do not wait for memory one by one.
fn look_ahead(shard: &Shard, packets: &[RoundPacket]) -> [Option<u32>; LOOK_AHEAD] {
    let mut expected = [None; LOOK_AHEAD];
    for (expected, packet) in expected.iter_mut().zip(packets) {
        *expected = shard.expected(&packet.facts.key);
    }
    let flows = expected.iter().flatten().fold(0, |sum, &position| sum ^ shard.touch(position));
    let pairs = expected.iter().zip(packets).filter_map(|(position, packet)| Some(((*position)?, packet)));
    let rest = pairs.fold(0, |sum, (position, packet)| sum ^ shard.touch_rest(position, &packet.facts));
    std::hint::black_box(flows ^ rest);
    expected
}

/// Assigns a round's packets to their flows, with shards in parallel.
pub(super) fn take(workers: &mut [Worker], round: &Round) {
    if is_alone() {
        workers.iter_mut().zip(&round.packets).for_each(|(worker, packets)| worker.take(round, packets));
    } else {
        let shards = workers.par_iter_mut().zip(&round.packets).with_max_len(1);
        shards.for_each(|(worker, packets)| worker.take(round, packets));
    }
}

/// Whether the pool has only one thread: then nothing is handed over to it.
pub(super) fn is_alone() -> bool {
    rayon::current_num_threads() == 1
}

/// Where a flow is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    worker: u8,
    position: u32,
}

impl Stored {
    fn flow(self, workers: &[Worker]) -> Option<NumberedFlow> {
        workers[usize::from(self.worker)].shard.flow(self.position)
    }
}

/// Result of a round: how many flows began, and the numbers of those that ended, in order of completion (flows that
/// complete at the same time are ordered by number).
pub(super) struct Made {
    pub(super) began: usize,
    pub(super) ended: Vec<(u64, Stored)>,
}

/// Collects the workers' results of `round` and numbers the flows that began in it from `next` on, in order of their
/// first packets. Until now such a flow had its packet's number, which is higher than those of all earlier flows.
pub(super) fn collect(workers: &mut [Worker], round: &Round, next: u64) -> Made {
    let mut began: Vec<(u64, usize, u32)> = Vec::new();
    let mut ended: Vec<(Moment, u64, Stored)> = Vec::new();
    for (worker, Worker { shard, began: theirs, ended: completed, .. }) in workers.iter_mut().enumerate() {
        began.extend(theirs.drain(..).map(|(packet, position)| (packet, worker, position)));
        ended.extend(completed.drain(..).filter_map(|(moment, position)| {
            Some((moment, shard.number(position)?, Stored { worker: worker as u8, position }))
        }));
    }
    began.sort_unstable();
    for (number, (packet, worker, position)) in (next..).zip(&began) {
        workers[*worker].shard.renumber(*position, *packet, number);
    }
    // Those that both began and ended in this round may have moved.
    for (_, number, Stored { worker, position }) in ended.iter_mut().filter(|(_, number, _)| *number >= round.first) {
        *number = next + began.partition_point(|(packet, _, _)| packet < number) as u64;
        workers[usize::from(*worker)].shard.set_number(*position, *number);
    }
    ended.sort_unstable_by_key(|(moment, number, _)| (*moment, *number));
    Made { began: began.len(), ended: ended.into_iter().map(|(_, number, stored)| (number, stored)).collect() }
}

/// Ends all flows and returns them in order of number.
pub(super) fn end(workers: &mut [Worker]) -> Vec<(u64, Stored)> {
    let mut active: Vec<(u64, Stored)> = Vec::new();
    for (worker, Worker { shard, .. }) in (0..).zip(workers) {
        active.extend(shard.end().into_iter().map(|(number, position)| (number, Stored { worker, position })));
    }
    active.sort_unstable_by_key(|(number, _)| *number);
    active
}

/// Number of flows to convert in parallel: few, because they are held in both forms.
const FINISHED_TOGETHER: usize = 1024;

/// Converts flows, some in parallel, passes them to `sink` in order, and leaves them to be freed.
pub(super) fn finish(
    workers: &mut [Worker],
    mut flows: impl Iterator<Item = Stored>,
    sink: &mut dyn FnMut(NumberedFlow),
) {
    loop {
        let together: Vec<Stored> = flows.by_ref().take(FINISHED_TOGETHER).collect();
        if together.is_empty() {
            return;
        }
        if is_alone() {
            for few in together.chunks(LOOK_AHEAD) {
                read_ended(workers, few);
                few.iter().filter_map(|stored| stored.flow(workers)).for_each(&mut *sink);
            }
        } else {
            let theirs = &*workers;
            let read = |few: &[Stored]| -> Vec<Option<NumberedFlow>> {
                read_ended(theirs, few);
                few.iter().map(|stored| stored.flow(theirs)).collect()
            };
            let finished: Vec<_> = together.par_chunks(LOOK_AHEAD).with_min_len(4).map(read).collect();
            finished.into_iter().flatten().flatten().for_each(&mut *sink);
        }
        together.iter().for_each(|stored| workers[usize::from(stored.worker)].unused.push(stored.position));
    }
}

/// Brings a few flows into the CPU cache, in steps like [`look_ahead`].
fn read_ended(workers: &[Worker], flows: &[Stored]) {
    let shard = |stored: &Stored| &workers[usize::from(stored.worker)].shard;
    let mut sum = flows.iter().fold(0, |sum, stored| sum ^ shard(stored).touch(stored.position));
    let mut chains = Vec::with_capacity(LOOK_AHEAD);
    for (read, chain) in flows.iter().filter_map(|stored| shard(stored).touch_ended(stored.position)) {
        sum ^= read;
        chains.push(chain);
    }
    std::hint::black_box(sum ^ KeptStore::touch_all(&mut chains));
}
