//! A batch's packed layout on the device, and the order in which rows with the same index are summed.

use super::core::Core;
use super::launcher::{Buffer, Grid, Kernel};
use crate::deep::fast::packing::Packing;

/// The packed layout on the device, uploaded only if it has changed.
#[derive(Default)]
pub(super) struct Layout {
    host: Vec<u32>,
    before: Vec<u32>,
    all: Buffer,
    /// Offsets of the parts in `all`, in words.
    parts: [usize; 4],
    /// For each state, its sequence in sorted order.
    pub sequence: Buffer,
    /// For each state, the previous state of its sequence.
    pub previous: Buffer,
    /// Number of chunks.
    pub chunks: usize,
    /// Rows per chunk, except the last one.
    pub chunk_rows: usize,
}

impl Layout {
    /// Ensures that the device has this layout.
    pub(super) fn set(&mut self, core: &mut Core, packing: &Packing) {
        std::mem::swap(&mut self.host, &mut self.before);
        self.host.clear();
        for chunk in &packing.chunks {
            let numbers = [chunk.first_row, chunk.rows, chunk.start, chunk.states, chunk.first_step, chunk.steps];
            self.host.extend(numbers.map(|number| number as u32));
        }
        let mut parts = [0; 4];
        for (part, values) in [&packing.active, &packing.offsets, &packing.lengths].into_iter().enumerate() {
            parts[part + 1] = self.host.len();
            self.host.extend_from_slice(values);
        }
        if self.host == self.before && self.parts == parts {
            return;
        }
        self.parts = parts;
        self.chunks = packing.chunks.len();
        self.chunk_rows = packing.chunks.first().map_or(1, |chunk| chunk.rows);
        core.upload(&self.host, &mut self.all);
        core.reserve(&mut self.sequence, packing.states);
        core.reserve(&mut self.previous, packing.states);
        let arguments = [
            self.chunk_table().into(),
            self.active().into(),
            self.offsets().into(),
            (&self.sequence).into(),
            (&self.previous).into(),
        ];
        core.launch(Kernel::DescribeStates, Grid::blocks([self.chunks, 1, 1], 0), &arguments);
    }

    fn part(&self, part: usize) -> Address {
        Address(self.all.address + 4 * self.parts[part] as u64)
    }

    /// Returns the address of the chunk table, with six numbers per chunk.
    pub(super) fn chunk_table(&self) -> Address {
        self.part(0)
    }

    /// Returns the address of the number of active sequences at each step of each chunk.
    pub(super) fn active(&self) -> Address {
        self.part(1)
    }

    /// Returns the address of the first state of each step of each chunk.
    pub(super) fn offsets(&self) -> Address {
        self.part(2)
    }

    /// Returns the address of the lengths in sorted order.
    pub(super) fn lengths(&self) -> Address {
        self.part(3)
    }
}

/// An address on the device.
#[derive(Clone, Copy)]
pub(super) struct Address(pub u64);

impl From<Address> for super::launcher::Argument {
    fn from(address: Address) -> Self {
        Self::Address(address.0)
    }
}

/// Maximum number of rows per segment, so that a frequent index does not occupy one block for long.
const SEGMENT_ROWS: usize = 256;

/// Indices on the device, and on the host, where they are sorted while the device computes.
#[derive(Default)]
pub(crate) struct Indices {
    pub(super) buffer: Buffer,
    pub(super) host: Vec<u32>,
}

/// Sums the rows of a matrix by index, in an order that depends only on the indices.
#[derive(Default)]
pub(super) struct Scatter {
    host: Vec<u32>,
    starts: Vec<usize>,
    plan: Buffer,
    sums: Buffer,
}

impl Scatter {
    /// Sets row `r` of `table` `[rows, columns]` to the sum of the rows of `x` with index `r`, in order.
    pub(super) fn sum(&mut self, core: &mut Core, columns: usize, x: u64, indices: &[u32], rows: usize, table: u64) {
        // Three parts: the first segment of each row, the start of each segment, and the sorted places.
        self.starts.clear();
        self.starts.resize(rows + 1, 0);
        for &index in indices {
            self.starts[index as usize + 1] += 1;
        }
        for row in 0..rows {
            self.starts[row + 1] += self.starts[row];
        }
        self.host.clear();
        let mut segments = 0;
        for row in 0..=rows {
            self.host.push(segments as u32);
            if row < rows {
                segments += (self.starts[row + 1] - self.starts[row]).div_ceil(SEGMENT_ROWS);
            }
        }
        for row in 0..rows {
            let begins = (self.starts[row]..self.starts[row + 1]).step_by(SEGMENT_ROWS);
            self.host.extend(begins.map(|begin| begin as u32));
        }
        self.host.push(indices.len() as u32);
        let order = self.host.len();
        self.host.resize(order + indices.len(), 0);
        for (place, &index) in indices.iter().enumerate() {
            let next = &mut self.starts[index as usize];
            self.host[order + *next] = place as u32;
            *next += 1;
        }
        core.upload(&self.host, &mut self.plan);
        core.reserve(&mut self.sums, segments * columns);
        let tiles = columns.div_ceil(super::launcher::THREADS);
        let (begins, order) = (Address(self.plan.at(rows + 1)), Address(self.plan.at(order)));
        let arguments = [columns.into(), Address(x).into(), order.into(), begins.into(), (&self.sums).into()];
        core.launch(Kernel::SegmentSums, Grid::blocks([segments, tiles, 1], 0), &arguments);
        let arguments = [columns.into(), (&self.sums).into(), (&self.plan).into(), Address(table).into()];
        core.launch(Kernel::SegmentTotals, Grid::blocks([rows, tiles, 1], 0), &arguments);
    }
}
