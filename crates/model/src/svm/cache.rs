//! The kernel rows of one two-class problem that are in memory: computed in batches by matrix products when needed,
//! with least-recently-used eviction when the limit is reached.
//!
//! The columns of all cached rows are grouped in blocks, so that a task computes and reads only its own block. All
//! blocks are in one allocation that is made once, so that memory use equals the limit.

use rayon::prelude::*;

use super::kernel::{Columns, Kernel, PairRows, Wanted};
use crate::deep::fast::cpu::simd::{Level, vectorised};

/// Number of rows to keep for a small problem, memory permitting.
const SMALL_PROBLEM_ROWS: usize = 512;
/// Number of rows to keep whatever the limit.
const MINIMUM_ROWS: usize = 4;

/// Returns how many kernel rows to keep for a problem of `rows` rows, memory permitting.
pub(super) fn most_kept(rows: usize) -> usize {
    (rows / 8).max(SMALL_PROBLEM_ROWS.min(rows))
}

/// Cached kernel values between a subset of a problem's rows: rows and columns are indexed within the subset.
pub(super) struct RowCache<'a> {
    kernel: Kernel,
    rows: &'a PairRows<'a>,
    /// The problem's rows that are rows and columns here, ascending.
    members: Vec<u32>,
    capacity: usize,
    clock: u64,
    /// The slot of each row, if it is cached.
    slots: Vec<Option<u32>>,
    /// What each slot contains.
    kept: Vec<Kept>,
    /// Columns of a block; the last block may have fewer.
    width: usize,
    /// Shape `[blocks, capacity, columns of the block]`; a block begins at a multiple of `capacity * width`. Longer
    /// than that after rows and columns were removed.
    values: Vec<f32>,
}

#[derive(Clone, Copy)]
struct Kept {
    row: u32,
    used: u64,
}

impl<'a> RowCache<'a> {
    /// Creates a cache of at most `bytes`, but never fewer than four rows. For a large problem, it keeps at most an
    /// eighth of all rows: most are needed once or twice, and recomputing a batch is fast. When rows are removed, more
    /// of the others fit in the same memory.
    pub(super) fn new(kernel: Kernel, rows: &'a PairRows<'a>, bytes: usize) -> Self {
        Self::with_width(kernel, rows, bytes, Columns::width(rows.first.depth()))
    }

    fn with_width(kernel: Kernel, rows: &'a PairRows<'a>, bytes: usize, width: usize) -> Self {
        let all = rows.len();
        let width = width.min(all.max(1));
        let most = most_kept(all).max(MINIMUM_ROWS);
        let columns = all.div_ceil(width) * width;
        let capacity = (bytes / (size_of::<f32>() * columns.max(1))).clamp(MINIMUM_ROWS, most);
        // Zeroed memory is not allocated until it is written.
        let values = vec![0.0; capacity * columns];
        let members = (0..all as u32).collect();
        let mut cache =
            Self { kernel, rows, members, capacity, clock: 0, slots: Vec::new(), kept: Vec::new(), width, values };
        cache.slots = vec![None; all];
        cache
    }

    /// Clears the cache; rows and columns are now these rows of the problem, ascending.
    pub(super) fn restart(&mut self, members: Vec<u32>) {
        self.slots = vec![None; members.len()];
        self.kept.clear();
        self.members = members;
        self.measure();
    }

    /// Computes how many rows fit in the allocated memory.
    fn measure(&mut self) {
        let size = self.members.len();
        let columns = size.div_ceil(self.width) * self.width;
        self.capacity = (self.values.len() / columns.max(1)).min(size.max(MINIMUM_ROWS));
    }

    /// Returns where a block begins.
    fn start(&self, block: usize) -> usize {
        block * self.capacity * self.width
    }

    /// Returns the number of columns of a block.
    fn columns(&self, block: usize) -> usize {
        self.width.min(self.members.len() - block * self.width)
    }

    /// Returns how many rows can be in memory at once.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Removes all rows and columns except these, ascending.
    pub(super) fn narrow(&mut self, staying: &[u32]) {
        let mut places = vec![None; self.members.len()];
        for (place, &row) in staying.iter().enumerate() {
            places[row as usize] = Some(place as u32);
        }
        let old_slots: Vec<usize> =
            (0..self.kept.len()).filter(|&slot| places[self.kept[slot].row as usize].is_some()).collect();
        // Move the blocks to the front one after another. This overwrites only what was already read: columns and slots
        // only ever move towards the front.
        let mut moved = Vec::new();
        for (block, columns) in staying.chunks(self.width).enumerate() {
            let sources: Vec<(usize, usize)> = columns
                .iter()
                .map(|&column| {
                    let from = column as usize / self.width;
                    (self.start(from) + column as usize % self.width, self.columns(from))
                })
                .collect();
            moved.clear();
            for &slot in &old_slots {
                moved.extend(sources.iter().map(|&(start, columns)| self.values[start + slot * columns]));
            }
            let start = block * old_slots.len() * self.width;
            self.values[start..start + moved.len()].copy_from_slice(&moved);
        }
        let kept = old_slots.iter().map(|&slot| self.kept[slot]);
        self.kept = kept.filter_map(|Kept { row, used }| Some(Kept { row: places[row as usize]?, used })).collect();
        self.slots = vec![None; staying.len()];
        for (slot, kept) in self.kept.iter().enumerate() {
            self.slots[kept.row as usize] = Some(slot as u32);
        }
        self.members = staying.iter().map(|&row| self.members[row as usize]).collect();
        self.measure();
        // Then move the blocks, last one first, to their final places, where each has more room.
        for block in (0..self.members.len().div_ceil(self.width)).rev() {
            let from = block * self.kept.len() * self.width;
            let (length, start) = (self.kept.len() * self.columns(block), self.start(block));
            self.values.copy_within(from..from + length, start);
        }
    }

    /// Loads these rows into memory, at most [`RowCache::capacity`] different ones.
    pub(super) fn load(&mut self, level: Level, wanted: &[usize]) {
        self.clock += 1;
        let mut missing = Vec::new();
        for &row in wanted {
            match self.slots[row] {
                Some(slot) => self.kept[slot as usize].used = self.clock,
                None => missing.push(row as u32),
            }
        }
        if missing.is_empty() {
            return;
        }
        let free = self.capacity - self.kept.len();
        let mut slots: Vec<u32> = (0..missing.len().min(free)).map(|new| (self.kept.len() + new) as u32).collect();
        let leaving = missing.len() - slots.len();
        if leaving > 0 {
            // Rows used in the same round have the same timestamp; among those, the lowest slot is evicted first.
            let mut oldest: Vec<(u64, u32)> =
                self.kept.iter().enumerate().map(|(slot, kept)| (kept.used, slot as u32)).collect();
            oldest.select_nth_unstable(leaving - 1);
            oldest.truncate(leaving);
            oldest.sort_unstable();
            slots.extend(oldest.iter().map(|&(_, slot)| slot));
        }
        for (&row, &slot) in missing.iter().zip(&slots) {
            let new = Kept { row, used: self.clock };
            match self.kept.get_mut(slot as usize) {
                Some(kept) => {
                    self.slots[kept.row as usize] = None;
                    *kept = new;
                }
                None => self.kept.push(new),
            }
            self.slots[row as usize] = Some(slot);
        }
        let numbers: Vec<u32> = missing.iter().map(|&row| self.members[row as usize]).collect();
        let wanted = Wanted::new(self.rows, &numbers);
        let (kernel, rows) = (self.kernel, self.rows);
        let blocks = self.values.par_chunks_mut(self.capacity * self.width);
        blocks.zip(self.members.par_chunks(self.width)).for_each_init(Columns::default, |columns, (block, members)| {
            columns.take(rows, members);
            kernel.rows(level, &wanted, columns, |row, values| {
                let start = slots[row] as usize * members.len();
                block[start..start + members.len()].copy_from_slice(values);
            });
        });
    }

    /// Returns the kernel values of all pairs of rows that the last [`RowCache::load`] loaded, row-major.
    pub(super) fn pairs(&self, rows: &[usize]) -> Vec<f32> {
        let mut values = vec![0.0; rows.len() * rows.len()];
        let slots: Vec<usize> = rows.iter().map(|&row| self.slot(row)).collect();
        for (at, &column) in rows.iter().enumerate() {
            let block = column / self.width;
            let (start, columns) = (self.start(block) + column % self.width, self.columns(block));
            for (row, &slot) in slots.iter().enumerate() {
                values[row * rows.len() + at] = self.values[start + slot * columns];
            }
        }
        values
    }

    /// Subtracts every change times its kernel row from the values of all columns; the last [`RowCache::load`] must
    /// have loaded the rows.
    pub(super) fn subtract(&self, level: Level, changes: &[(f64, usize)], values: &mut [f64]) {
        let changes: Vec<(f64, usize)> = changes.iter().map(|&(change, row)| (change, self.slot(row))).collect();
        let blocks = self.values.par_chunks(self.capacity * self.width);
        values.par_chunks_mut(self.width).zip(blocks).for_each(|(values, block)| {
            subtract(level, &changes, block, values);
        });
    }

    fn slot(&self, row: usize) -> usize {
        self.slots[row].expect("the row was loaded") as usize
    }
}

vectorised! {
    /// Subtracts every change times its row of a block from the values.
    fn subtract(changes: &[(f64, usize)], block: &[f32], values: &mut [f64]) {
        let width = values.len();
        let row = |slot: usize| &block[slot * width..(slot + 1) * width];
        let mut fours = changes.chunks_exact(4);
        for four in &mut fours {
            let (a, b, c, d) = (row(four[0].1), row(four[1].1), row(four[2].1), row(four[3].1));
            for ((value, (&a, &b)), (&c, &d)) in values.iter_mut().zip(a.iter().zip(b)).zip(c.iter().zip(d)) {
                *value -= (four[0].0 * f64::from(a) + four[1].0 * f64::from(b))
                    + (four[2].0 * f64::from(c) + four[3].0 * f64::from(d));
            }
        }
        for &(change, slot) in fours.remainder() {
            for (value, &kernel) in values.iter_mut().zip(row(slot)) {
                *value -= change * f64::from(kernel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::KernelRows;
    use super::*;

    #[test]
    fn evicted_rows_return_unchanged_and_the_limit_holds() {
        let (depth, first, second) = (5, 30, 41);
        let values: Vec<f32> = (0..(first + second) * depth).map(|i| (i * 7919 % 1013) as f32 / 500.0 - 1.0).collect();
        let (a, b) = values.split_at(first * depth);
        let (a, b) = (KernelRows::new(a, depth), KernelRows::new(b, depth));
        let rows = PairRows { first: &a, second: &b };
        let kernel = Kernel::Rbf { gamma: 0.2 };
        let level = Level::detect();
        let mut whole = RowCache::new(kernel, &rows, 1 << 20);
        // Blocks of a few columns, with fewer in the last one.
        let mut small = RowCache::with_width(kernel, &rows, 6 * 4 * 80, 16);
        assert_eq!((whole.capacity(), small.capacity()), (71, 6));
        let mut all: Vec<usize> = (0..rows.len()).collect();
        whole.load(level, &all);
        let mut members = all.clone();
        for round in 0..600 {
            if round == 200 || round == 300 {
                let staying: Vec<u32> = (0..all.len() as u32).filter(|row| row % 3 != 1).collect();
                members = staying.iter().map(|&row| members[row as usize]).collect();
                all = (0..members.len()).collect();
                small.narrow(&staying);
            } else if round == 400 {
                members = (0..rows.len()).collect();
                all = members.clone();
                small.restart((0..71).collect());
            }
            assert!(small.capacity() * members.len() <= 6 * 80);
            assert_eq!(small.values.len(), 6 * 80);
            let count = 1 + round % small.capacity();
            let wanted: Vec<usize> = (0..count).map(|index| (round * 13 + index * 7) % members.len()).collect();
            small.load(level, &wanted);
            assert!(small.kept.len() <= small.capacity());
            let numbers: Vec<usize> = wanted.iter().map(|&row| members[row]).collect();
            assert_eq!(small.pairs(&wanted), whole.pairs(&numbers));
            let changes: Vec<(f64, usize)> = wanted.iter().map(|&row| (row as f64 - 9.5, row)).collect();
            let mut values = vec![1.0; members.len()];
            small.subtract(level, &changes, &mut values);
            let whole_changes: Vec<(f64, usize)> =
                changes.iter().map(|&(change, row)| (change, members[row])).collect();
            let mut expected = vec![1.0; rows.len()];
            whole.subtract(level, &whole_changes, &mut expected);
            assert!(values.iter().zip(&members).all(|(value, &row)| *value == expected[row]));
        }
    }
}
