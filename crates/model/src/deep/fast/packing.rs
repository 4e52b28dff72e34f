//! Memory layout of sequences of different lengths in which padding costs nothing.
//!
//! The sequences of a batch are sorted by descending length and split into chunks of a fixed number of sequences.
//! Within a chunk, the states of step 0 come first, then those of step 1 of the sequences that have one, and so on: at
//! every step the active sequences are a prefix of those of the step before. A chunk's states are contiguous, so a CPU
//! core processes it from start to end without waiting for another. Chunks depend only on the batch, never on the
//! number of threads.

/// Sequences that are processed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// First sequence, in sorted order.
    pub first_row: usize,
    /// Number of sequences.
    pub rows: usize,
    /// First packed state.
    pub start: usize,
    /// Number of packed states.
    pub states: usize,
    /// Index of its first step in [`Packing::active`].
    pub first_step: usize,
    /// Length of the longest sequence.
    pub steps: usize,
}

/// The packed layout of one batch; buffers are reused between batches.
#[derive(Debug, Default)]
pub(crate) struct Packing {
    /// For each sequence in sorted order, its index in the batch.
    pub order: Vec<u32>,
    /// Lengths in sorted order.
    pub lengths: Vec<u32>,
    /// The chunks, in order of their states.
    pub chunks: Vec<Chunk>,
    /// For each step of each chunk, the number of sequences with that step.
    pub active: Vec<u32>,
    /// For each step of each chunk, its first packed state.
    pub offsets: Vec<u32>,
    /// Total number of packed states: the sum of the lengths.
    pub states: usize,
}

impl Packing {
    /// Lays out sequences of these lengths (each at least 1), with `rows_per_chunk` sequences per chunk.
    pub(crate) fn build(&mut self, lengths: &[u32], rows_per_chunk: usize) {
        self.order.clear();
        self.order.extend(0..lengths.len() as u32);
        self.order.sort_unstable_by_key(|&row| (std::cmp::Reverse(lengths[row as usize]), row));
        self.lengths.clear();
        self.lengths.extend(self.order.iter().map(|&row| lengths[row as usize]));
        self.chunks.clear();
        self.active.clear();
        self.offsets.clear();
        self.states = 0;
        for first_row in (0..lengths.len()).step_by(rows_per_chunk) {
            let of_chunk = &self.lengths[first_row..lengths.len().min(first_row + rows_per_chunk)];
            let first_step = self.active.len();
            let steps = of_chunk[0] as usize;
            let mut active = of_chunk.len();
            let mut states = 0;
            for step in 0..steps {
                while of_chunk[active - 1] as usize <= step {
                    active -= 1;
                }
                self.active.push(active as u32);
                self.offsets.push((self.states + states) as u32);
                states += active;
            }
            let start = self.states;
            self.states += states;
            self.chunks.push(Chunk { first_row, rows: of_chunk.len(), start, states, first_step, steps });
        }
    }

    /// Returns the number of active sequences at each step of a chunk.
    pub(crate) fn active(&self, chunk: &Chunk) -> &[u32] {
        &self.active[chunk.first_step..chunk.first_step + chunk.steps]
    }

    /// Returns the first packed state of each step of a chunk.
    pub(crate) fn offsets(&self, chunk: &Chunk) -> &[u32] {
        &self.offsets[chunk.first_step..chunk.first_step + chunk.steps]
    }

    /// Calls `visit` with every packed state's sequence (its index in the batch), length and step, in order.
    pub(crate) fn for_each_state(&self, mut visit: impl FnMut(usize, usize, usize)) {
        for chunk in &self.chunks {
            for (step, &active) in self.active(chunk).iter().enumerate() {
                for row in chunk.first_row..chunk.first_row + active as usize {
                    visit(self.order[row] as usize, self.lengths[row] as usize, step);
                }
            }
        }
    }

    /// Returns the number of sequences in the batch.
    pub(crate) fn rows(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_state_has_one_place(lengths in prop::collection::vec(1u32..9, 1..40), rows_per_chunk in 1usize..9) {
            let mut packing = Packing::default();
            packing.build(&[3, 1, 2], 2);
            packing.build(&lengths, rows_per_chunk);
            let mut seen = std::collections::BTreeSet::new();
            let mut visited = 0;
            packing.for_each_state(|row, length, step| {
                assert_eq!(lengths[row] as usize, length);
                assert!(step < length && seen.insert((row, step)));
                visited += 1;
            });
            prop_assert_eq!(visited, packing.states);
            prop_assert_eq!(visited, lengths.iter().map(|&length| length as usize).sum::<usize>());
            let last = packing.chunks.last().unwrap();
            prop_assert_eq!(last.start + last.states, packing.states);
            prop_assert_eq!(last.first_row + last.rows, packing.rows());
        }
    }
}
