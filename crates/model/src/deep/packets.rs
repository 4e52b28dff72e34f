//! What the loops feed the engines: batches of packets as tokens, and flows as encoded packets.

use std::sync::atomic::{AtomicU64, Ordering};

use super::engine::{PacketBatch, Picked};
use super::parameters::PacketMetadata;
use etcbench_feature::{FeatureSet, PAD, TokenArray};

/// Some packets of a token array, by number: packet `p` of row `r` is `r * packets + p`. None is empty.
pub(crate) struct PacketList<'a> {
    tokens: &'a TokenArray,
    /// The packets' numbers.
    pub numbers: Vec<usize>,
}

impl<'a> PacketList<'a> {
    /// All packets of these rows that have at least one byte, as they occur.
    pub(crate) fn of_rows(tokens: &'a TokenArray, rows: &[usize]) -> Self {
        let numbers = rows.iter().flat_map(|row| row * tokens.packets..(row + 1) * tokens.packets);
        let numbers = numbers.filter(|&number| !bytes(tokens, number).is_empty()).collect();
        Self { tokens, numbers }
    }

    /// The true bytes of packet `number`.
    pub(crate) fn bytes(&self, number: usize) -> &'a [u16] {
        bytes(self.tokens, number)
    }

    /// The tokens of some packets by number, shape `[numbers, M]`, where M is the longest packet's length:
    /// the positions beyond are padding for all of them and change no result.
    pub(crate) fn batch(&self, numbers: &[usize]) -> Vec<u16> {
        let longest = numbers.iter().map(|&number| self.bytes(number).len()).max().unwrap_or(0);
        let mut batch = vec![PAD; numbers.len() * longest];
        for (row, &number) in batch.chunks_exact_mut(longest.max(1)).zip(numbers) {
            let bytes = self.bytes(number);
            row[..bytes.len()].copy_from_slice(bytes);
        }
        batch
    }
}

fn bytes(tokens: &TokenArray, number: usize) -> &[u16] {
    let packet = &tokens.values[number * tokens.bytes..(number + 1) * tokens.bytes];
    &packet[..packet.iter().position(|&token| token == PAD).unwrap_or(packet.len())]
}

/// What stands beside the vectors of some flows' packets.
#[derive(Default)]
pub(crate) struct Metadata {
    /// Values of a flow: N times those of a packet.
    size: usize,
    /// Shape `[flows, N, columns]`; those of packets with bytes first, in their order, then 0.
    values: Vec<f32>,
}

impl Metadata {
    /// That of these rows, out of their packet sequences: signed logarithms of lengths and times by packet, of which
    /// there are at least as many as packets of bytes.
    pub(crate) fn of_rows(features: &FeatureSet, rows: &[usize], columns: &[PacketMetadata]) -> Self {
        if columns.is_empty() {
            return Self::default();
        }
        let tokens = &features.tokens;
        let size = tokens.packets * columns.len();
        let mut values = Vec::with_capacity(rows.len() * size);
        for &row in rows {
            let sequence = features.sequences.row(row);
            let start = values.len();
            for packet in 0..tokens.packets {
                if bytes(tokens, row * tokens.packets + packet).is_empty() {
                    continue;
                }
                let (length, time) = (sequence[2 * packet], sequence[2 * packet + 1]);
                values.extend(columns.iter().map(|column| match column {
                    PacketMetadata::Length => length.abs(),
                    PacketMetadata::Direction => length.signum(),
                    PacketMetadata::Time => time,
                }));
            }
            values.resize(start + size, 0.0);
        }
        Self { size, values }
    }

    /// That of some flows.
    fn batch(&self, flows: &[usize]) -> Vec<f32> {
        flows.iter().flat_map(|flow| &self.values[flow * self.size..(flow + 1) * self.size]).copied().collect()
    }
}

/// Flows as the bytes of their packets.
pub(crate) struct ByteFlows<'a> {
    list: PacketList<'a>,
    /// Where each flow's packets begin in the list, and where the last one's end.
    starts: Vec<usize>,
    metadata: Metadata,
}

impl<'a> ByteFlows<'a> {
    /// The packets of these rows that have at least one byte; flow `i` is `rows[i]`.
    pub(crate) fn of_rows(tokens: &'a TokenArray, rows: &[usize], metadata: Metadata) -> Self {
        let mut all = PacketList { tokens, numbers: Vec::new() };
        let mut starts = vec![0];
        for &row in rows {
            all.numbers.extend(PacketList::of_rows(tokens, &[row]).numbers);
            starts.push(all.numbers.len());
        }
        Self { list: all, starts, metadata }
    }

    /// The tokens of some flows' packets, one flow after the other, how many packets each has, which may be none, and
    /// what stands beside them.
    pub(crate) fn batch(&self, flows: &[usize]) -> (Vec<u16>, Vec<u32>, Vec<f32>) {
        let of_flow = |&flow: &usize| &self.list.numbers[self.starts[flow]..self.starts[flow + 1]];
        let counts = flows.iter().map(|flow| of_flow(flow).len() as u32).collect();
        let numbers = flows.iter().flat_map(of_flow).copied().collect::<Vec<_>>();
        (self.list.batch(&numbers), counts, self.metadata.batch(flows))
    }
}

/// The name of the next [`EncodedFlows`].
static TABLES: AtomicU64 = AtomicU64::new(0);

/// Flows as sequences of encoded packets; packets that are equal byte for byte share one vector.
pub(crate) struct EncodedFlows {
    /// N.
    packets: usize,
    /// As of [`Picked::table`].
    table: u64,
    /// One vector for each distinct packet, and one of 0 where a flow has no byte.
    vectors: Vec<f32>,
    /// The vectors of each flow's packets, shape `[flows, N]`: those with bytes first, in their order, then any.
    index: Vec<u32>,
    /// Packets with bytes of each flow. A flow without a byte counts as one packet whose vector is 0, since
    /// something must be predicted of it too.
    counts: Vec<u32>,
    metadata: Metadata,
    /// As of [`PacketBatch::slots`].
    slots: Vec<u32>,
}

impl EncodedFlows {
    /// Flows of `packets` packets; `vector_of` has the vector's number for each packet of each flow, shape
    /// `[flows, packets]`, `None` where a packet has no byte.
    pub(crate) fn new(packets: usize, size: usize, mut vectors: Vec<f32>, vector_of: &[Option<u32>]) -> Self {
        let mut index = Vec::with_capacity(vector_of.len());
        let mut counts = Vec::with_capacity(vector_of.len() / packets);
        let zero = (vectors.len() / size) as u32;
        for flow in vector_of.chunks_exact(packets) {
            let start = index.len();
            index.extend(flow.iter().flatten());
            counts.push((index.len() - start).max(1) as u32);
            index.resize(start + packets, zero);
        }
        if vector_of.chunks_exact(packets).any(|flow| flow.iter().all(Option::is_none)) {
            vectors.reserve_exact(size);
            vectors.resize(vectors.len() + size, 0.0);
        }
        let table = TABLES.fetch_add(1, Ordering::Relaxed);
        Self { packets, table, vectors, index, counts, metadata: Metadata::default(), slots: Vec::new() }
    }

    /// The same flows, where each vector has slots of which so many have bytes; one that is 0 for want of bytes has one.
    pub(crate) fn with_slots(self, mut slots: Vec<u32>, size: usize) -> Self {
        slots.resize(self.vectors.len() / size, 1);
        Self { slots, ..self }
    }

    /// The same flows with something beside their packets' vectors.
    pub(crate) fn with_metadata(self, metadata: Metadata) -> Self {
        Self { metadata, ..self }
    }

    /// Number of flows.
    pub(crate) fn len(&self) -> usize {
        self.counts.len()
    }

    /// What `task` makes of the batch of some flows.
    pub(crate) fn with_batch<R>(&self, flows: &[usize], task: impl FnOnce(&PacketBatch<'_>) -> R) -> R {
        let of_flow = |&flow: &usize| &self.index[flow * self.packets..(flow + 1) * self.packets];
        let places = flows.iter().flat_map(of_flow).copied().collect::<Vec<_>>();
        let counts = flows.iter().map(|&flow| self.counts[flow]).collect::<Vec<_>>();
        let picked = Picked { places: &places, table: self.table };
        let metadata = self.metadata.batch(flows);
        let (layers, slots) = (&self.vectors, &self.slots);
        task(&PacketBatch { layers, picked: Some(picked), counts: &counts, metadata: &metadata, slots })
    }

    /// The vectors of some flows, shape `[flows, N, layers + 1, 2 * hidden]`, 0 where there is no packet, and their counts
    /// of packets.
    #[cfg(test)]
    pub(crate) fn vectors(&self, flows: &[usize], size: usize) -> (Vec<f32>, Vec<u32>) {
        self.with_batch(flows, |batch| {
            assert_eq!(batch.most(size).unwrap(), self.packets);
            let mut values = vec![0.0; flows.len() * self.packets * size];
            for (flow, &count) in batch.counts.iter().enumerate() {
                for packet in 0..count as usize {
                    let from = batch.place(self.packets, flow, packet) * size;
                    values[(flow * self.packets + packet) * size..][..size]
                        .copy_from_slice(&batch.layers[from..from + size]);
                }
            }
            (values, batch.counts.to_vec())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_as_wide_as_their_longest_packet() {
        let tokens = TokenArray {
            packets: 2,
            bytes: 4,
            values: vec![1, 2, PAD, PAD, 3, PAD, PAD, PAD, 9, 8, 7, 6, PAD, PAD, PAD, PAD],
        };
        let list = PacketList::of_rows(&tokens, &[1, 0]);
        assert_eq!(list.numbers, [2, 0, 1]);
        assert_eq!(list.batch(&[1, 0]), [3, PAD, 1, 2]);
        assert_eq!(list.batch(&[1, 2]), [3, PAD, PAD, PAD, 9, 8, 7, 6]);
    }

    #[test]
    fn flows_of_bytes_have_their_packets_one_after_the_other() {
        let tokens =
            TokenArray { packets: 2, bytes: 2, values: vec![1, 2, 3, PAD, PAD, PAD, PAD, PAD, PAD, PAD, 4, PAD] };
        let metadata = Metadata { size: 2, values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        let flows = ByteFlows::of_rows(&tokens, &[2, 0, 1], metadata);
        let beside = vec![3.0, 4.0, 1.0, 2.0, 5.0, 6.0];
        assert_eq!(flows.batch(&[1, 0, 2]), (vec![1, 2, 3, PAD, 4, PAD], vec![2, 1, 0], beside));
        assert_eq!(flows.batch(&[0]), (vec![4], vec![1], vec![1.0, 2.0]));
        assert_eq!(flows.batch(&[2]), (vec![], vec![0], vec![5.0, 6.0]));
    }

    #[test]
    fn packets_without_bytes_take_no_place() {
        let vectors = vec![1.0, 2.0, 3.0, 4.0];
        let vector_of = [None, Some(1), Some(0), None, None, None, Some(0), Some(0), None];
        let flows = EncodedFlows::new(3, 2, vectors, &vector_of);
        assert_eq!(flows.len(), 3);
        let (layers, counts) = flows.vectors(&[0, 1, 2], 2);
        assert_eq!(counts, [2, 1, 2]);
        assert_eq!(layers, [3., 4., 1., 2., 0., 0., 0., 0., 0., 0., 0., 0., 1., 2., 1., 2., 0., 0.]);
    }
}
