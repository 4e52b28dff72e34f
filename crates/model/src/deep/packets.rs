//! Input of the engines: batches of packets as tokens, and flows as encoded packets.

use std::sync::atomic::{AtomicU64, Ordering};

use super::engine::{PacketBatch, Picked};
use super::parameters::PacketMetadata;
use etcbench_feature::{FeatureSet, PAD, TokenArray};

/// Packets of a token array by number: packet `p` of row `r` is number `r * packets + p`. No packet is empty.
pub(crate) struct PacketList<'a> {
    tokens: &'a TokenArray,
    /// The packets' numbers.
    pub numbers: Vec<usize>,
}

impl<'a> PacketList<'a> {
    /// Lists all packets of these rows that have at least one byte, in order.
    pub(crate) fn of_rows(tokens: &'a TokenArray, rows: &[usize]) -> Self {
        let numbers = rows.iter().flat_map(|row| row * tokens.packets..(row + 1) * tokens.packets);
        let numbers = numbers.filter(|&number| !bytes(tokens, number).is_empty()).collect();
        Self { tokens, numbers }
    }

    /// Returns the bytes of packet `number`, without padding.
    pub(crate) fn bytes(&self, number: usize) -> &'a [u16] {
        bytes(self.tokens, number)
    }

    /// Returns the tokens of packets by number, shape `[numbers, M]`, where M is the length of the longest packet:
    /// positions beyond it are padding in every packet and do not affect results.
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

/// Packet metadata of flows.
#[derive(Default)]
pub(crate) struct Metadata {
    /// Values per flow: N times those per packet.
    size: usize,
    /// Shape `[flows, N, columns]`; packets with bytes first, in order, then 0.
    values: Vec<f32>,
}

impl Metadata {
    /// Reads the metadata of these rows from their packet sequences: signed logarithms of lengths and times by packet.
    /// A sequence has at least as many packets as the row has packets with bytes.
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

    /// Returns the metadata of the given flows.
    fn batch(&self, flows: &[usize]) -> Vec<f32> {
        flows.iter().flat_map(|flow| &self.values[flow * self.size..(flow + 1) * self.size]).copied().collect()
    }
}

/// Flows as the bytes of their packets.
pub(crate) struct ByteFlows<'a> {
    list: PacketList<'a>,
    /// The index of each flow's first packet in the list, followed by the total.
    starts: Vec<usize>,
    metadata: Metadata,
}

impl<'a> ByteFlows<'a> {
    /// Collects the packets of these rows that have at least one byte; flow `i` is `rows[i]`.
    pub(crate) fn of_rows(tokens: &'a TokenArray, rows: &[usize], metadata: Metadata) -> Self {
        let mut all = PacketList { tokens, numbers: Vec::new() };
        let mut starts = vec![0];
        for &row in rows {
            all.numbers.extend(PacketList::of_rows(tokens, &[row]).numbers);
            starts.push(all.numbers.len());
        }
        Self { list: all, starts, metadata }
    }

    /// Returns the tokens of the flows' packets, one flow after the other, the number of packets of each flow, which
    /// may be 0, and the packet metadata.
    pub(crate) fn batch(&self, flows: &[usize]) -> (Vec<u16>, Vec<u32>, Vec<f32>) {
        let of_flow = |&flow: &usize| &self.list.numbers[self.starts[flow]..self.starts[flow + 1]];
        let counts = flows.iter().map(|flow| of_flow(flow).len() as u32).collect();
        let numbers = flows.iter().flat_map(of_flow).copied().collect::<Vec<_>>();
        (self.list.batch(&numbers), counts, self.metadata.batch(flows))
    }
}

/// Identifier of the next [`EncodedFlows`].
static TABLES: AtomicU64 = AtomicU64::new(0);

/// Flows as sequences of encoded packets; packets with identical bytes share one vector.
pub(crate) struct EncodedFlows {
    /// N, the number of packets per flow.
    packets: usize,
    /// Same as [`Picked::table`].
    table: u64,
    /// One vector for each distinct packet, plus a vector of 0 if some flow has no bytes.
    vectors: Vec<f32>,
    /// The vectors of each flow's packets, shape `[flows, N]`: packets with bytes first, in order; the remaining
    /// entries are arbitrary.
    index: Vec<u32>,
    /// Packets with bytes of each flow. A flow without bytes counts as one packet whose vector is 0, since it needs a
    /// prediction too.
    counts: Vec<u32>,
    metadata: Metadata,
    /// Same as [`PacketBatch::slots`].
    slots: Vec<u32>,
}

impl EncodedFlows {
    /// Creates flows of `packets` packets; `vector_of` contains the index of each packet's vector, shape `[flows,
    /// packets]`, or `None` if the packet has no bytes.
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

    /// Adds the number of slots with bytes of each vector; the vector of flows without bytes has one slot.
    pub(crate) fn with_slots(self, mut slots: Vec<u32>, size: usize) -> Self {
        slots.resize(self.vectors.len() / size, 1);
        Self { slots, ..self }
    }

    /// Adds packet metadata.
    pub(crate) fn with_metadata(self, metadata: Metadata) -> Self {
        Self { metadata, ..self }
    }

    /// Returns the number of flows.
    pub(crate) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Calls `task` with the batch of the given flows and returns its result.
    pub(crate) fn with_batch<R>(&self, flows: &[usize], task: impl FnOnce(&PacketBatch<'_>) -> R) -> R {
        let of_flow = |&flow: &usize| &self.index[flow * self.packets..(flow + 1) * self.packets];
        let places = flows.iter().flat_map(of_flow).copied().collect::<Vec<_>>();
        let counts = flows.iter().map(|&flow| self.counts[flow]).collect::<Vec<_>>();
        let picked = Picked { places: &places, table: self.table };
        let metadata = self.metadata.batch(flows);
        let (layers, slots) = (&self.vectors, &self.slots);
        task(&PacketBatch { layers, picked: Some(picked), counts: &counts, metadata: &metadata, slots })
    }

    /// Returns the vectors of flows, shape `[flows, N, layers + 1, 2 * hidden]`, 0 where there is no packet, and their
    /// packet counts.
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
    fn packets_without_bytes_are_left_out() {
        let vectors = vec![1.0, 2.0, 3.0, 4.0];
        let vector_of = [None, Some(1), Some(0), None, None, None, Some(0), Some(0), None];
        let flows = EncodedFlows::new(3, 2, vectors, &vector_of);
        assert_eq!(flows.len(), 3);
        let (layers, counts) = flows.vectors(&[0, 1, 2], 2);
        assert_eq!(counts, [2, 1, 2]);
        assert_eq!(layers, [3., 4., 1., 2., 0., 0., 0., 0., 0., 0., 0., 0., 1., 2., 1., 2., 0., 0.]);
    }
}
