//! The kernel rows of one two-class problem that are in memory: computed in batches by matrix products when
//! they are needed, the least recently used leaving when the limit is reached.
//!
//! The columns of all rows that are kept lie together in blocks, so that a task computes and reads its own block and
//! no other.

use rayon::prelude::*;

use super::kernel::{Columns, Kernel, PairRows, Wanted};
use crate::model::deep::fast::cpu::simd::{Level, vectorised};

/// Rows that are kept, memory allowing, of a problem of few rows.
const FEWEST_KEPT: usize = 1024;

/// Kernel rows in memory, of some rows of a problem with themselves: rows and columns are numbered by their place
/// among these.
pub(super) struct RowCache<'a> {
    kernel: Kernel,
    rows: &'a PairRows<'a>,
    bytes: usize,
    /// The problem's rows that are rows and columns here, ascending.
    members: Vec<u32>,
    capacity: usize,
    clock: u64,
    /// Per row, its slot, if it is kept.
    slots: Vec<Option<u32>>,
    /// Per slot.
    kept: Vec<Kept>,
    /// Columns of a block.
    width: usize,
    blocks: Vec<Block>,
}

#[derive(Clone, Copy)]
struct Kept {
    row: u32,
    used: u64,
}

/// The values of some columns that follow each other, shape `[slots, columns]`.
struct Block {
    columns: usize,
    values: Vec<f32>,
}

impl<'a> RowCache<'a> {
    /// Keeps at most `bytes` of rows, and never fewer than four rows. Of all rows of a large problem at most half are
    /// kept: most are asked for once or twice, and batches are quick to compute again. Of rows that were narrowed down
    /// all may be.
    pub fn new(kernel: Kernel, rows: &'a PairRows<'a>, bytes: usize) -> Self {
        let width = Columns::width(rows.first.depth());
        let mut cache = Self {
            kernel,
            rows,
            bytes,
            members: Vec::new(),
            capacity: 0,
            clock: 0,
            slots: Vec::new(),
            kept: Vec::new(),
            width,
            blocks: Vec::new(),
        };
        cache.restart((0..rows.len() as u32).collect());
        cache
    }

    /// Forgets every row; from now on rows and columns are these rows of the problem, ascending.
    pub fn restart(&mut self, members: Vec<u32>) {
        self.slots = vec![None; members.len()];
        self.kept = Vec::new();
        self.blocks = members.chunks(self.width).map(|columns| Block::new(columns.len())).collect();
        self.members = members;
        self.measure();
    }

    /// How many rows may be kept. Those that are kept already may stay: their columns have only become fewer.
    fn measure(&mut self) {
        let (size, all) = (self.members.len(), self.rows.len());
        let most = if size < all { size } else { (all / 2).max(FEWEST_KEPT.min(all)) };
        let room = self.bytes / (size_of::<f32>() * size.max(1));
        self.capacity = room.clamp(4, most.max(4)).max(self.kept.len());
    }

    /// How many rows can be in memory together.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Leaves out all rows and columns but these, ascending.
    pub fn narrow(&mut self, staying: &[u32]) {
        let mut places = vec![None; self.members.len()];
        for (place, &row) in staying.iter().enumerate() {
            places[row as usize] = Some(place as u32);
        }
        self.members = staying.iter().map(|&row| self.members[row as usize]).collect();
        self.slots = vec![None; staying.len()];
        let old_slots: Vec<usize> =
            (0..self.kept.len()).filter(|&slot| places[self.kept[slot].row as usize].is_some()).collect();
        let kept = old_slots.iter().map(|&slot| self.kept[slot]);
        self.kept = kept.filter_map(|Kept { row, used }| Some(Kept { row: places[row as usize]?, used })).collect();
        for (slot, kept) in self.kept.iter().enumerate() {
            self.slots[kept.row as usize] = Some(slot as u32);
        }
        let mut old = std::mem::take(&mut self.blocks);
        for columns in staying.chunks(self.width) {
            // What lies before this block is not read again.
            for block in &mut old[..columns[0] as usize / self.width] {
                block.values = Vec::new();
            }
            let sources: Vec<(usize, usize)> =
                columns.iter().map(|&column| (column as usize / self.width, column as usize % self.width)).collect();
            let mut block = Block::new(columns.len());
            block.values.reserve_exact(old_slots.len() * columns.len());
            for &slot in &old_slots {
                let value = |&(from, column): &(usize, usize)| old[from].values[slot * old[from].columns + column];
                block.values.extend(sources.iter().map(value));
            }
            self.blocks.push(block);
        }
        self.measure();
    }

    /// Brings these rows into memory, at most [`RowCache::capacity`] different ones.
    pub fn load(&mut self, level: Level, wanted: &[usize]) {
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
            // Rows used in the same round have the same time of use; of those the first slot leaves.
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
        let (kernel, rows, members) = (self.kernel, self.rows, &self.members);
        let (kept, capacity) = (self.kept.len(), self.capacity);
        self.blocks.par_iter_mut().zip(members.par_chunks(self.width)).for_each_init(
            Columns::default,
            |columns, (block, members)| {
                let width = members.len();
                if block.values.len() < kept * width {
                    // Address space for all that may come; memory is taken as it is filled.
                    block.values.reserve_exact(capacity * width - block.values.len());
                    block.values.resize(kept * width, 0.0);
                }
                columns.take(rows, members);
                kernel.rows(level, &wanted, columns, |row, values| {
                    let start = slots[row] as usize * width;
                    block.values[start..start + width].copy_from_slice(values);
                });
            },
        );
    }

    /// The kernel of all pairs of some rows that the last [`RowCache::load`] brought in, row-major.
    pub fn pairs(&self, rows: &[usize]) -> Vec<f32> {
        let mut values = vec![0.0; rows.len() * rows.len()];
        let slots: Vec<usize> = rows.iter().map(|&row| self.slot(row)).collect();
        for (at, &column) in rows.iter().enumerate() {
            let (block, column) = (&self.blocks[column / self.width], column % self.width);
            for (row, &slot) in slots.iter().enumerate() {
                values[row * rows.len() + at] = block.values[slot * block.columns + column];
            }
        }
        values
    }

    /// Subtracts every change times its kernel row from the values of all columns; the rows are some that the last
    /// [`RowCache::load`] brought in.
    pub fn subtract(&self, level: Level, changes: &[(f64, usize)], values: &mut [f64]) {
        let changes: Vec<(f64, usize)> = changes.iter().map(|&(change, row)| (change, self.slot(row))).collect();
        values.par_chunks_mut(self.width).zip(&self.blocks).for_each(|(values, block)| {
            subtract(level, &changes, &block.values, values);
        });
    }

    fn slot(&self, row: usize) -> usize {
        self.slots[row].expect("the row was loaded") as usize
    }
}

impl Block {
    fn new(columns: usize) -> Self {
        Self { columns, values: Vec::new() }
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
    fn rows_that_left_come_back_the_same_and_the_limit_holds() {
        let (depth, first, second) = (5, 30, 41);
        let values: Vec<f32> = (0..(first + second) * depth).map(|i| (i * 7919 % 1013) as f32 / 500.0 - 1.0).collect();
        let (a, b) = values.split_at(first * depth);
        let (a, b) = (KernelRows::new(a, depth), KernelRows::new(b, depth));
        let rows = PairRows { first: &a, second: &b };
        let kernel = Kernel::Rbf { gamma: 0.2 };
        let level = Level::detect();
        let mut whole = RowCache::new(kernel, &rows, 1 << 20);
        let mut small = RowCache::new(kernel, &rows, 6 * 4 * rows.len());
        // Blocks of a few columns, the last of fewer.
        small.width = 16;
        small.restart((0..71).collect());
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
            assert!(small.capacity() * members.len() <= 6 * 71);
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
