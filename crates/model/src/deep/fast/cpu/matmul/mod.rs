//! Matrix products on the CPU in the three forms that training needs: `A B^T` (a linear layer), `A B` (the gradient of
//! its input) and `A^T B` (the gradient of its weight).
//!
//! The right factor is repacked into panels of [`WIDTH`] columns, at most [`DEPTH`] rows deep (Goto and van de Geijn
//! 2008); a weight is repacked once and then used for all steps of a sequence, which general matrix libraries do not
//! support. The left factor is repacked into tiles of [`TILE`] rows if there are enough panels: otherwise, rows at a
//! distance of a power of two would evict the panel from the first-level cache. The order of the sum over the inner
//! dimension does not depend on the number of threads: only rows of the result are distributed.

mod kernel;
mod panels;
mod tiles;
mod windows;

use std::cell::RefCell;

use super::grow;
use super::simd::Level;
use kernel::{Target, packed_tile, rows_tile};
use tiles::{pack_columns, pack_rows, tiles};

pub(crate) use panels::{Layout, Panels};
pub(crate) use windows::{Windows, multiply_windows, multiply_windows_transposed};

/// Columns per panel: two AVX2 registers.
const WIDTH: usize = 16;
/// Rows per panel, so that it stays in the first-level cache.
const DEPTH: usize = 256;
/// Maximum rows per tile: 12 accumulators, which together with two registers for the panel and one for a broadcast fit
/// into 16 registers.
const TILE: usize = 6;
/// Rows of the result that one task computes.
const TASK_ROWS: usize = 128;
/// Number of columns from which repacking the left factor pays off.
const PACKED_COLUMNS: usize = 4 * WIDTH;

thread_local! {
    /// A task's repacked left factor, and the right factor if no other task shares it.
    static WORKING: RefCell<(Vec<f32>, Panels)> = RefCell::default();
}

/// How a product updates the result.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Update<'a> {
    /// Overwrites the result.
    Replace,
    /// Adds to the result.
    Add,
    /// Overwrites the result with the product plus this row.
    Bias(&'a [f32]),
}

/// `result (+)= left * right`, in this thread. `left` is `[rows, right.inner]` with a row stride of `left_stride`;
/// `result` is `[rows, right.columns]`, contiguous.
pub(crate) fn multiply(
    level: Level,
    rows: usize,
    left: &[f32],
    left_stride: usize,
    right: &Panels,
    result: &mut [f32],
    update: Update<'_>,
) {
    if rows == 0 {
        return;
    }
    let columns = right.columns;
    if columns < PACKED_COLUMNS {
        for (start, depth, values) in right.blocks() {
            let update = if start == 0 { update } else { Update::Add };
            for (column, panel) in (0..columns).step_by(WIDTH).zip(values.chunks_exact(depth * WIDTH)) {
                for (row, count) in tiles(rows) {
                    let left = &left[row * left_stride + start..];
                    let result = &mut result[row * columns..(row + count) * columns];
                    rows_tile(
                        level,
                        count,
                        left,
                        left_stride,
                        depth,
                        panel,
                        Target { result, columns, column, update },
                    );
                }
            }
        }
        return;
    }
    WORKING.with_borrow_mut(|(packed, _)| {
        grow(packed, rows * DEPTH);
        for (start, depth, values) in right.blocks() {
            let update = if start == 0 { update } else { Update::Add };
            for (row, count) in tiles(rows) {
                let packed = &mut packed[row * depth..(row + count) * depth];
                pack_rows(count, &left[row * left_stride + start..], left_stride, depth, packed);
            }
            for (column, panel) in (0..columns).step_by(WIDTH).zip(values.chunks_exact(depth * WIDTH)) {
                for (row, count) in tiles(rows) {
                    let left = &packed[row * depth..(row + count) * depth];
                    let result = &mut result[row * columns..(row + count) * columns];
                    packed_tile(level, count, left, panel, Target { result, columns, column, update });
                }
            }
        }
    });
}

/// Same as [`multiply`], with the rows distributed over threads.
pub(crate) fn multiply_parallel(
    level: Level,
    rows: usize,
    left: &[f32],
    right: &Panels,
    result: &mut [f32],
    update: Update<'_>,
) {
    let (inner, columns) = (right.inner, right.columns);
    if rows <= TASK_ROWS {
        multiply(level, rows, left, inner, right, &mut result[..rows * columns], update);
        return;
    }
    let half = (rows / 2).next_multiple_of(TASK_ROWS);
    let (first, second) = result.split_at_mut(half * columns);
    rayon::join(
        || multiply_parallel(level, half, left, right, first, update),
        || multiply_parallel(level, rows - half, &left[half * inner..], right, second, update),
    );
}

/// `result += left^T * right`: `left` is `[inner, rows]`, `right` `[inner, columns]`, `result` `[rows, columns]`, all
/// contiguous. Rows of the result are distributed over threads.
pub(crate) fn multiply_transposed(
    level: Level,
    inner: usize,
    rows: usize,
    columns: usize,
    left: &[f32],
    right: &[f32],
    result: &mut [f32],
) {
    if inner > 0 && columns > 0 {
        let factors = Factors { left, right, inner, stride: rows, columns };
        transposed_rows(level, factors, 0, &mut result[..rows * columns]);
    }
}

/// The factors of [`multiply_transposed`].
#[derive(Clone, Copy)]
struct Factors<'a> {
    /// `[inner, stride]`.
    left: &'a [f32],
    /// `[inner, columns]`.
    right: &'a [f32],
    inner: usize,
    stride: usize,
    columns: usize,
}

/// Computes the rows of the result from `first` on.
fn transposed_rows(level: Level, factors: Factors<'_>, first: usize, result: &mut [f32]) {
    let Factors { left, right, inner, stride, columns } = factors;
    let rows = result.len() / columns;
    if rows > TASK_ROWS {
        let half = (rows / 2).next_multiple_of(TASK_ROWS);
        let (upper, lower) = result.split_at_mut(half * columns);
        rayon::join(
            || transposed_rows(level, factors, first, upper),
            || transposed_rows(level, factors, first + half, lower),
        );
        return;
    }
    WORKING.with_borrow_mut(|(packed, panels)| {
        grow(packed, rows * DEPTH);
        for start in (0..inner).step_by(DEPTH) {
            let depth = DEPTH.min(inner - start);
            panels.pack(&right[start * columns..(start + depth) * columns], depth, columns, Layout::Plain);
            let of_block = &left[start * stride..(start + depth) * stride];
            pack_columns(of_block, stride, first, rows, &mut packed[..rows * depth]);
            for (column, panel) in (0..columns).step_by(WIDTH).zip(panels.values[..].chunks_exact(depth * WIDTH)) {
                for (row, count) in tiles(rows) {
                    let left = &packed[row * depth..(row + count) * depth];
                    let result = &mut result[row * columns..(row + count) * columns];
                    packed_tile(level, count, left, panel, Target { result, columns, column, update: Update::Add });
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, salt: usize) -> Vec<f32> {
        (0..count).map(|index| ((index * 7919 + salt * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    #[test]
    fn products_are_those_of_the_definition() {
        for level in [Level::detect(), Level::portable()] {
            for (rows, inner, columns) in [(1, 1, 1), (7, 5, 3), (6, 256, 16), (13, 300, 33), (200, 70, 260)] {
                let (left, right) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
                let bias = numbers(columns, 3);
                let exact = |row: usize, column: usize| {
                    (0..inner)
                        .map(|k| f64::from(left[row * inner + k]) * f64::from(right[k * columns + column]))
                        .sum::<f64>()
                };
                let mut transposed = vec![0.0; right.len()];
                for k in 0..inner {
                    for column in 0..columns {
                        transposed[column * inner + k] = right[k * columns + column];
                    }
                }
                let mut panels = Panels::default();
                for (source, layout) in [(&right, Layout::Plain), (&transposed, Layout::Transposed)] {
                    panels.pack(source, inner, columns, layout);
                    let mut result = vec![7.0; rows * columns];
                    multiply_parallel(level, rows, &left, &panels, &mut result, Update::Bias(&bias));
                    multiply_parallel(level, rows, &left, &panels, &mut result, Update::Add);
                    for (index, &value) in result.iter().enumerate() {
                        let expected = 2.0 * exact(index / columns, index % columns) + f64::from(bias[index % columns]);
                        assert!((f64::from(value) - expected).abs() < 1e-4, "{rows} {inner} {columns}");
                    }
                }
                let mut by_column = vec![0.0; left.len()];
                for row in 0..rows {
                    for k in 0..inner {
                        by_column[k * rows + row] = left[row * inner + k];
                    }
                }
                let mut result = vec![1.0; rows * columns];
                multiply_transposed(level, inner, rows, columns, &by_column, &right, &mut result);
                for (index, &value) in result.iter().enumerate() {
                    let expected = 1.0 + exact(index / columns, index % columns);
                    assert!((f64::from(value) - expected).abs() < 1e-4, "{rows} {inner} {columns}");
                }
            }
        }
    }
}
