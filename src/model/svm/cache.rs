//! The kernel rows of one two-class problem that are in memory: computed in batches by matrix products when
//! they are needed, the least recently used leaving when the limit is reached.

use rayon::prelude::*;

use super::kernel::{Kernel, KernelRows};

/// The rows of a two-class problem: those of the first class, then those of the second.
pub(super) struct PairRows<'a> {
    /// Rows of the class that is +1.
    pub first: &'a KernelRows<'a>,
    /// Rows of the class that is -1.
    pub second: &'a KernelRows<'a>,
}

impl<'a> PairRows<'a> {
    /// Number of rows of both.
    pub fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }

    /// One row.
    pub fn row(&self, row: usize) -> &'a [f32] {
        match row.checked_sub(self.first.len()) {
            None => self.first.row(row),
            Some(row) => self.second.row(row),
        }
    }
}

/// Rows that one task computes together; fixed, so that bits do not depend on the threads.
const BATCH: usize = 64;

/// Rows that are kept, memory allowing, of a problem of few rows.
const FEWEST_KEPT: usize = 1024;

/// Kernel rows in memory.
pub(super) struct RowCache<'a> {
    kernel: Kernel,
    rows: &'a PairRows<'a>,
    capacity: usize,
    clock: u64,
    /// Per row of the problem, its place in `kept`, if it is there.
    places: Vec<Option<u32>>,
    kept: Vec<Kept>,
}

struct Kept {
    row: usize,
    used: u64,
    values: Vec<f32>,
}

impl<'a> RowCache<'a> {
    /// Keeps at most `bytes` of rows, and never fewer than four rows. Of a problem of many rows at most half are
    /// kept: most rows are asked for once or twice, and batches are quick to compute again.
    pub fn new(kernel: Kernel, rows: &'a PairRows<'a>, bytes: usize) -> Self {
        let most = (rows.len() / 2).max(FEWEST_KEPT.min(rows.len())).max(4);
        let capacity = (bytes / (size_of::<f32>() * rows.len().max(1))).clamp(4, most);
        Self { kernel, rows, capacity, clock: 0, places: vec![None; rows.len()], kept: Vec::new() }
    }

    /// How many rows can be in memory together.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Brings these rows into memory, at most [`RowCache::capacity`] different ones.
    pub fn load(&mut self, wanted: &[usize]) {
        self.clock += 1;
        let mut missing = Vec::new();
        for &row in wanted {
            match self.places[row] {
                Some(place) => self.kept[place as usize].used = self.clock,
                None => missing.push(row),
            }
        }
        if missing.is_empty() {
            return;
        }
        let free = self.capacity - self.kept.len();
        let mut places: Vec<u32> = (0..missing.len().min(free)).map(|new| (self.kept.len() + new) as u32).collect();
        let leaving = missing.len() - places.len();
        if leaving > 0 {
            // Rows used in the same round have the same time of use; of those the first place leaves.
            let mut oldest: Vec<(u64, u32)> =
                self.kept.iter().enumerate().map(|(place, kept)| (kept.used, place as u32)).collect();
            oldest.select_nth_unstable(leaving - 1);
            oldest.truncate(leaving);
            oldest.sort_unstable();
            places.extend(oldest.iter().map(|&(_, place)| place));
        }
        let size = self.rows.len();
        let mut computed: Vec<(usize, Vec<f32>)> = missing
            .iter()
            .zip(&places)
            .map(|(&row, &place)| match self.kept.get_mut(place as usize) {
                Some(kept) => {
                    self.places[kept.row] = None;
                    (row, std::mem::take(&mut kept.values))
                }
                None => (row, vec![0.0; size]),
            })
            .collect();
        let (kernel, rows) = (self.kernel, self.rows);
        computed.par_chunks_mut(BATCH).for_each(|batch| {
            let depth = rows.first.depth();
            let gathered: Vec<f32> = batch.iter().flat_map(|&(row, _)| rows.row(row)).copied().collect();
            let gathered = KernelRows::new(&gathered, depth);
            let mut scratch = Vec::new();
            kernel.rows(&gathered, rows.first, 0, &mut scratch, batch);
            kernel.rows(&gathered, rows.second, rows.first.len(), &mut scratch, batch);
        });
        for ((row, values), place) in computed.into_iter().zip(places) {
            self.places[row] = Some(place);
            let kept = Kept { row, used: self.clock, values };
            match self.kept.get_mut(place as usize) {
                Some(slot) => *slot = kept,
                None => self.kept.push(kept),
            }
        }
    }

    /// A row that the last [`RowCache::load`] brought in.
    pub fn row(&self, row: usize) -> &[f32] {
        let place = self.places[row].expect("the row was loaded");
        &self.kept[place as usize].values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_left_come_back_the_same_and_the_limit_holds() {
        let (depth, first, second) = (5, 30, 41);
        let values: Vec<f32> = (0..(first + second) * depth).map(|i| (i * 7919 % 1013) as f32 / 500.0 - 1.0).collect();
        let (a, b) = values.split_at(first * depth);
        let (a, b) = (KernelRows::new(a, depth), KernelRows::new(b, depth));
        let rows = PairRows { first: &a, second: &b };
        let kernel = Kernel::Rbf { gamma: 0.2 };
        let mut whole = RowCache::new(kernel, &rows, 1 << 20);
        let mut small = RowCache::new(kernel, &rows, 6 * 4 * rows.len());
        assert_eq!((whole.capacity(), small.capacity()), (71, 6));
        let all: Vec<usize> = (0..rows.len()).collect();
        whole.load(&all);
        for round in 0..200 {
            let wanted: Vec<usize> = (0..1 + round % 6).map(|index| (round * 13 + index * 7) % rows.len()).collect();
            small.load(&wanted);
            assert!(small.kept.len() <= 6);
            for &row in &wanted {
                for (x, y) in small.row(row).iter().zip(whole.row(row)) {
                    assert!((x - y).abs() < 1e-6);
                }
            }
        }
    }
}
