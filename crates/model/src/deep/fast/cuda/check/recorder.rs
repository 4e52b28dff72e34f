//! Generated data on a device, and the results of operations on it, in the order of the batch.

use rand::RngExt;

use crate::deep::fast::backend::{Backend, Trained};
use crate::deep::fast::packing::Packing;
use etcbench_storage::seed;

/// Runs operations on a device and collects their results.
pub(super) struct Recorder<'a, B: Backend> {
    pub device: &'a mut B,
    pub packing: Packing,
    pub found: Vec<(String, Vec<f32>)>,
}

/// Generates numbers that are the same for every device.
pub(super) fn numbers(purpose: &str, count: usize) -> Vec<f32> {
    let mut generator = seed::generator(1, purpose);
    (0..count).map(|_| generator.random_range(-1.0..1.0f32)).collect()
}

impl<B: Backend> Recorder<'_, B> {
    pub(super) fn up(&mut self, values: &[f32]) -> B::Values {
        let mut to = B::Values::default();
        self.device.upload(values, &mut to);
        to
    }

    pub(super) fn room(&mut self, length: usize) -> B::Values {
        self.up(&vec![f32::NAN; length])
    }

    pub(super) fn trained(&mut self, purpose: &str, count: usize, scale: f32) -> Trained<B::Values> {
        let numbers_of = |part: &str| numbers(&format!("{purpose} {part}"), count);
        let scaled = |values: Vec<f32>| values.into_iter().map(|value| value * scale).collect::<Vec<_>>();
        let second: Vec<f32> = numbers_of("second").iter().map(|value| value * value).collect();
        let (value, gradient, first) = (scaled(numbers_of("value")), numbers_of("gradient"), numbers_of("first"));
        Trained {
            value: self.up(&value),
            gradient: self.up(&gradient),
            first: self.up(&first),
            second: self.up(&second),
            average: self.up(&numbers_of("average")),
        }
    }

    pub(super) fn indices(&mut self, values: &[u32]) -> B::Indices {
        let mut to = B::Indices::default();
        self.device.upload_indices(values, &mut to);
        to
    }

    pub(super) fn keep(&mut self, name: &str, values: &B::Values, count: usize) {
        let mut found = vec![0.0; count];
        self.device.download(values, &mut found);
        self.found.push((name.to_owned(), found));
    }

    pub(super) fn pack(&mut self, lengths: &[u32], hidden: usize) {
        let rows_per_chunk = self.device.rows_per_chunk(hidden, lengths.len());
        self.packing.build(lengths, rows_per_chunk);
    }

    /// Returns the index of each packed state if sequences follow one another in the batch's order.
    pub(super) fn places(&self) -> Vec<usize> {
        let mut starts = vec![0; self.packing.rows() + 1];
        for (&row, &length) in self.packing.order.iter().zip(&self.packing.lengths) {
            starts[row as usize + 1] = length as usize;
        }
        for row in 0..self.packing.rows() {
            starts[row + 1] += starts[row];
        }
        let mut places = Vec::new();
        self.packing.for_each_state(|row, _, step| places.push(starts[row] + step));
        places
    }

    /// Generates rows for all states, on the device in packed order.
    pub(super) fn state_rows(&mut self, purpose: &str, columns: usize) -> B::Values {
        let values = numbers(purpose, self.packing.states * columns);
        let packed: Vec<f32> =
            self.places().iter().flat_map(|&place| values[place * columns..][..columns].iter().copied()).collect();
        self.up(&packed)
    }

    /// Collects the rows of all states in the batch's order.
    pub(super) fn keep_states(&mut self, name: &str, values: &B::Values, columns: usize) {
        let mut packed = vec![0.0; self.packing.states * columns];
        self.device.download(values, &mut packed);
        let mut found = packed.clone();
        for (place, row) in self.places().into_iter().zip(packed.chunks_exact(columns.max(1))) {
            found[place * columns..][..columns].copy_from_slice(row);
        }
        self.found.push((name.to_owned(), found));
    }
}
