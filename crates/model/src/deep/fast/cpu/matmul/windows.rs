//! Products whose left factor consists of overlapping windows, as in a convolution.

use rayon::prelude::*;

use super::super::grow;
use super::super::simd::Level;
use super::kernel::{Target, packed_tile};
use super::tiles::{pack_rows, pack_windows, tiles};
use super::{DEPTH, PACKED_COLUMNS, Panels, TASK_ROWS, TILE, Update, WIDTH, WORKING, multiply};

/// A left factor whose rows are windows over the steps of flows, which may overlap: row `flow * steps + step` contains
/// the values from `flow * flow_stride + step * step_stride` on.
#[derive(Clone, Copy)]
pub(crate) struct Windows<'a> {
    pub values: &'a [f32],
    pub flows: usize,
    /// Windows per flow.
    pub steps: usize,
    pub flow_stride: usize,
    pub step_stride: usize,
}

impl Windows<'_> {
    #[inline]
    pub(super) fn start(&self, row: usize) -> usize {
        row / self.steps * self.flow_stride + row % self.steps * self.step_stride
    }
}

/// `result (+)= windows * right`, in this thread: [`multiply`] for the windows of few flows.
pub(crate) fn multiply_windows(
    level: Level,
    windows: Windows<'_>,
    right: &Panels,
    result: &mut [f32],
    update: Update<'_>,
) {
    let Windows { values, flows, steps, flow_stride, step_stride } = windows;
    let columns = right.columns;
    if columns < PACKED_COLUMNS {
        for (flow, result) in result.chunks_exact_mut(steps * columns).enumerate().take(flows) {
            multiply(level, steps, &values[flow * flow_stride..], step_stride, right, result, update);
        }
        return;
    }
    WORKING.with_borrow_mut(|(packed, _)| {
        let rows = flows * steps;
        grow(packed, rows * DEPTH);
        // The rows of a tile belong to one flow.
        let tiles = || (0..flows).flat_map(|flow| tiles(steps).map(move |(step, count)| (flow, step, count)));
        for (start, depth, panels) in right.blocks() {
            let update = if start == 0 { update } else { Update::Add };
            for (flow, step, count) in tiles() {
                let row = flow * steps + step;
                let source = &values[flow * flow_stride + step * step_stride + start..];
                pack_rows(count, source, step_stride, depth, &mut packed[row * depth..(row + count) * depth]);
            }
            for (column, panel) in (0..columns).step_by(WIDTH).zip(panels.chunks_exact(depth * WIDTH)) {
                for (flow, step, count) in tiles() {
                    let row = flow * steps + step;
                    let left = &packed[row * depth..(row + count) * depth];
                    let result = &mut result[row * columns..(row + count) * columns];
                    packed_tile(level, count, left, panel, Target { result, columns, column, update });
                }
            }
        }
    });
}

/// `result += windows^T * right`: with `rows` values per window, `result` is `[rows, right.columns]`. Rows of the
/// result are distributed over threads.
pub(crate) fn multiply_windows_transposed(
    level: Level,
    windows: Windows<'_>,
    rows: usize,
    right: &Panels,
    result: &mut [f32],
) {
    let columns = right.columns;
    // Tasks of nearly equal size that consist of whole tiles.
    let task = rows.div_ceil(rows.div_ceil(TASK_ROWS)).next_multiple_of(TILE);
    result[..rows * columns].par_chunks_mut(task * columns).enumerate().for_each(|(index, result)| {
        let (first, rows) = (index * task, result.len() / columns);
        WORKING.with_borrow_mut(|(packed, _)| {
            grow(packed, rows * DEPTH);
            for (start, depth, panels) in right.blocks() {
                pack_windows(windows, [start, depth], first, rows, &mut packed[..rows * depth]);
                for (column, panel) in (0..columns).step_by(WIDTH).zip(panels.chunks_exact(depth * WIDTH)) {
                    for (row, count) in tiles(rows) {
                        let left = &packed[row * depth..(row + count) * depth];
                        let result = &mut result[row * columns..(row + count) * columns];
                        packed_tile(level, count, left, panel, Target { result, columns, column, update: Update::Add });
                    }
                }
            }
        });
    });
}
