//! Matrix products on the CPU in the three forms that training needs: `A B^T` (a linear layer), `A B` (the gradient of
//! its input) and `A^T B` (the gradient of its weight).
//!
//! The right factor is repacked into panels of [`WIDTH`] columns, at most [`DEPTH`] rows deep (Goto and van de Geijn
//! 2008); a weight is repacked once and then used for all steps of a sequence, which general matrix libraries do not
//! support. The left factor is repacked into tiles of [`TILE`] rows if there are enough panels: otherwise, rows at a
//! distance of a power of two would evict the panel from the first-level cache. The order of the sum over the inner
//! dimension does not depend on the number of threads: only rows of the result are distributed.

use std::cell::RefCell;

use rayon::prelude::*;

use super::simd::{Level, with_avx2};

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
/// Rows of the inner dimension that are repacked together for a transposed left factor: the number of lines in a set of
/// the first-level cache, because such rows are often at a distance of a power of two.
const PACKED_ROWS: usize = 8;

thread_local! {
    /// A task's repacked left factor, and the right factor if no other task shares it.
    static WORKING: RefCell<(Vec<f32>, Panels)> = RefCell::default();
}

/// Memory layout of a factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As used by the product: row-major `[inner, columns]`.
    Plain,
    /// Transposed: row-major `[columns, inner]`.
    Transposed,
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

/// A right factor in panels; its buffer is reused.
#[derive(Debug, Default)]
pub(crate) struct Panels {
    values: Vec<f32>,
    inner: usize,
    columns: usize,
}

impl Panels {
    /// Repacks `source` (`inner * columns` values).
    pub(crate) fn pack(&mut self, source: &[f32], inner: usize, columns: usize, layout: Layout) {
        self.resize(inner, columns);
        let padded = columns.next_multiple_of(WIDTH);
        for (block, values) in self.values[..inner * padded].chunks_mut(DEPTH * padded).enumerate() {
            let depth = values.len() / padded;
            for (panel, values) in values.chunks_exact_mut(depth * WIDTH).enumerate() {
                pack_panel(source, [inner, columns], [block * DEPTH, panel * WIDTH], layout, values);
            }
        }
    }

    /// Same as [`Panels::pack`], with the panels distributed over threads.
    pub(crate) fn pack_parallel(&mut self, source: &[f32], inner: usize, columns: usize, layout: Layout) {
        self.resize(inner, columns);
        let padded = columns.next_multiple_of(WIDTH);
        let blocks = self.values[..inner * padded].par_chunks_mut(DEPTH * padded).enumerate();
        blocks.for_each(|(block, values)| {
            let depth = values.len() / padded;
            values.par_chunks_mut(depth * WIDTH).enumerate().for_each(|(panel, values)| {
                pack_panel(source, [inner, columns], [block * DEPTH, panel * WIDTH], layout, values);
            });
        });
    }

    fn resize(&mut self, inner: usize, columns: usize) {
        (self.inner, self.columns) = (inner, columns);
        let length = inner * columns.next_multiple_of(WIDTH);
        if self.values.len() < length {
            self.values.resize(length, 0.0);
        }
    }

    /// Iterates over blocks of depth: first inner row, depth, and values of the panels.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize, &[f32])> {
        let padded = self.columns.next_multiple_of(WIDTH);
        (0..self.inner).step_by(DEPTH).map(move |start| {
            let depth = DEPTH.min(self.inner - start);
            (start, depth, &self.values[start * padded..(start + depth) * padded])
        })
    }
}

/// Fills one panel from `source` of size `[inner, columns]`; `first` is the panel's first row and column.
fn pack_panel(source: &[f32], size: [usize; 2], first: [usize; 2], layout: Layout, panel: &mut [f32]) {
    let ([inner, columns], [row, column]) = (size, first);
    let width = WIDTH.min(columns - column);
    let (panel, _) = panel.as_chunks_mut::<WIDTH>();
    if width < WIDTH {
        panel.fill([0.0; WIDTH]);
    }
    match layout {
        Layout::Plain => {
            for (panel, source) in panel.iter_mut().zip(source[row * columns..].chunks(columns)) {
                if width == WIDTH {
                    // A copy of constant length; a copy of variable length would be a function call.
                    panel.copy_from_slice(&source[column..column + WIDTH]);
                } else {
                    panel[..width].copy_from_slice(&source[column..column + width]);
                }
            }
        }
        Layout::Transposed => {
            let depth = panel.len();
            for (lane, source) in source[column * inner..].chunks(inner).take(width).enumerate() {
                for (panel, &value) in panel.iter_mut().zip(&source[row..row + depth]) {
                    panel[lane] = value;
                }
            }
        }
    }
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
        if packed.len() < rows * DEPTH {
            packed.resize(rows * DEPTH, 0.0);
        }
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
        if packed.len() < rows * DEPTH {
            packed.resize(rows * DEPTH, 0.0);
        }
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
    fn start(&self, row: usize) -> usize {
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
        if packed.len() < rows * DEPTH {
            packed.resize(rows * DEPTH, 0.0);
        }
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
            if packed.len() < rows * DEPTH {
                packed.resize(rows * DEPTH, 0.0);
            }
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

/// Copies `rows` columns of a block of windows (index of the first, and number), from column `first` on, to tiles.
fn pack_windows(windows: Windows<'_>, block: [usize; 2], first: usize, rows: usize, packed: &mut [f32]) {
    let [start, depth] = block;
    for index in (0..depth).step_by(PACKED_ROWS) {
        let together = PACKED_ROWS.min(depth - index);
        let sources: [&[f32]; PACKED_ROWS] = std::array::from_fn(|offset| {
            let row = start + index + offset.min(together - 1);
            &windows.values[windows.start(row) + first..][..rows]
        });
        for (row, count) in tiles(rows) {
            let packed = &mut packed[row * depth + index * count..][..together * count];
            match count {
                1 => pack_sources::<1>(&sources, row, packed),
                2 => pack_sources::<2>(&sources, row, packed),
                3 => pack_sources::<3>(&sources, row, packed),
                4 => pack_sources::<4>(&sources, row, packed),
                5 => pack_sources::<5>(&sources, row, packed),
                _ => pack_sources::<6>(&sources, row, packed),
            }
        }
    }
}

fn pack_sources<const R: usize>(sources: &[&[f32]], column: usize, packed: &mut [f32]) {
    let (packed, _) = packed.as_chunks_mut::<R>();
    for (packed, source) in packed.iter_mut().zip(sources) {
        packed.copy_from_slice(&source[column..column + R]);
    }
}

/// Copies `rows` columns of `source`, from `first` on, to tiles.
fn pack_columns(source: &[f32], stride: usize, first: usize, rows: usize, packed: &mut [f32]) {
    let depth = source.len() / stride;
    for (block, source) in source.chunks(PACKED_ROWS * stride).enumerate() {
        let start = block * PACKED_ROWS;
        for (row, count) in tiles(rows) {
            let packed = &mut packed[row * depth + start * count..(row + count) * depth];
            let column = first + row;
            match count {
                1 => pack_tile::<1>(source, stride, column, packed),
                2 => pack_tile::<2>(source, stride, column, packed),
                3 => pack_tile::<3>(source, stride, column, packed),
                4 => pack_tile::<4>(source, stride, column, packed),
                5 => pack_tile::<5>(source, stride, column, packed),
                _ => pack_tile::<6>(source, stride, column, packed),
            }
        }
    }
}

fn pack_tile<const R: usize>(source: &[f32], stride: usize, column: usize, packed: &mut [f32]) {
    let (packed, _) = packed.as_chunks_mut::<R>();
    for (packed, source) in packed.iter_mut().zip(source.chunks_exact(stride)) {
        packed.copy_from_slice(&source[column..column + R]);
    }
}

/// Copies `count` rows of `source` with `depth` values each to a tile.
fn pack_rows(count: usize, source: &[f32], stride: usize, depth: usize, packed: &mut [f32]) {
    match count {
        1 => pack_rows_of::<1>(source, stride, depth, packed),
        2 => pack_rows_of::<2>(source, stride, depth, packed),
        3 => pack_rows_of::<3>(source, stride, depth, packed),
        4 => pack_rows_of::<4>(source, stride, depth, packed),
        5 => pack_rows_of::<5>(source, stride, depth, packed),
        _ => pack_rows_of::<6>(source, stride, depth, packed),
    }
}

#[inline(always)]
fn pack_rows_of<const R: usize>(source: &[f32], stride: usize, depth: usize, packed: &mut [f32]) {
    let (packed, _) = packed.as_chunks_mut::<R>();
    let packed = &mut packed[..depth];
    let rows: [&[f32]; R] = std::array::from_fn(|row| &source[row * stride..][..depth]);
    for (index, packed) in packed.iter_mut().enumerate() {
        for row in 0..R {
            packed[row] = rows[row][index];
        }
    }
}

/// Splits rows into tiles of nearly equal height; returns first row and height of each.
fn tiles(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(TILE);
    let (height, taller) = (rows / count.max(1), rows % count.max(1));
    (0..count).map(move |tile| (tile * height + tile.min(taller), height + usize::from(tile < taller)))
}

/// Destination of a tile's sums.
struct Target<'a> {
    result: &'a mut [f32],
    columns: usize,
    column: usize,
    update: Update<'a>,
}

impl Target<'_> {
    /// Writes one row of sums.
    #[inline(always)]
    fn write(&mut self, row: usize, sums: [f32; WIDTH]) {
        let start = row * self.columns + self.column;
        if self.column + WIDTH <= self.columns {
            let place: &mut [f32; WIDTH] =
                (&mut self.result[start..start + WIDTH]).try_into().expect("the slice has this width");
            match self.update {
                Update::Replace => *place = sums,
                Update::Add => {
                    for lane in 0..WIDTH {
                        place[lane] += sums[lane];
                    }
                }
                Update::Bias(bias) => {
                    let bias: &[f32; WIDTH] =
                        bias[self.column..self.column + WIDTH].try_into().expect("the slice has this width");
                    for lane in 0..WIDTH {
                        place[lane] = sums[lane] + bias[lane];
                    }
                }
            }
        } else {
            let width = self.columns - self.column;
            let place = self.result[start..start + width].iter_mut().zip(&sums);
            match self.update {
                Update::Replace => place.for_each(|(place, sum)| *place = *sum),
                Update::Add => place.for_each(|(place, sum)| *place += sum),
                Update::Bias(bias) => {
                    place.zip(&bias[self.column..]).for_each(|((place, sum), bias)| *place = sum + bias);
                }
            }
        }
    }
}

fn rows_tile(level: Level, count: usize, left: &[f32], stride: usize, depth: usize, panel: &[f32], target: Target<'_>) {
    match count {
        1 => rows_tile_of::<1>(level, left, stride, depth, panel, target),
        2 => rows_tile_of::<2>(level, left, stride, depth, panel, target),
        3 => rows_tile_of::<3>(level, left, stride, depth, panel, target),
        4 => rows_tile_of::<4>(level, left, stride, depth, panel, target),
        5 => rows_tile_of::<5>(level, left, stride, depth, panel, target),
        _ => rows_tile_of::<6>(level, left, stride, depth, panel, target),
    }
}

#[inline(always)]
fn rows_tile_of<const R: usize>(
    level: Level,
    left: &[f32],
    stride: usize,
    depth: usize,
    panel: &[f32],
    target: Target<'_>,
) {
    let (panel, _) = panel.as_chunks::<WIDTH>();
    let panel = &panel[..depth];
    with_avx2!(level, avx2::rows::<R>(left, stride, panel, target), portable_rows::<R>(left, stride, panel, target));
}

fn packed_tile(level: Level, count: usize, left: &[f32], panel: &[f32], target: Target<'_>) {
    match count {
        1 => packed_tile_of::<1>(level, left, panel, target),
        2 => packed_tile_of::<2>(level, left, panel, target),
        3 => packed_tile_of::<3>(level, left, panel, target),
        4 => packed_tile_of::<4>(level, left, panel, target),
        5 => packed_tile_of::<5>(level, left, panel, target),
        _ => packed_tile_of::<6>(level, left, panel, target),
    }
}

#[inline(always)]
fn packed_tile_of<const R: usize>(level: Level, left: &[f32], panel: &[f32], target: Target<'_>) {
    let (left, _) = left.as_chunks::<R>();
    let (panel, _) = panel.as_chunks::<WIDTH>();
    with_avx2!(level, avx2::packed::<R>(left, panel, target), portable_packed::<R>(left, panel, target));
}

fn portable_rows<const R: usize>(left: &[f32], stride: usize, panel: &[[f32; WIDTH]], mut target: Target<'_>) {
    for row in 0..R {
        let mut sums = [0.0; WIDTH];
        for (&left, panel) in left[row * stride..].iter().zip(panel) {
            sums.iter_mut().zip(panel).for_each(|(sum, right)| *sum += left * right);
        }
        target.write(row, sums);
    }
}

fn portable_packed<const R: usize>(left: &[[f32; R]], panel: &[[f32; WIDTH]], mut target: Target<'_>) {
    for row in 0..R {
        let mut sums = [0.0; WIDTH];
        for (left, panel) in left.iter().zip(panel) {
            sums.iter_mut().zip(panel).for_each(|(sum, right)| *sum += left[row] * right);
        }
        target.write(row, sums);
    }
}

/// Tiles with AVX2 and FMA; loads and stores are casts of arrays, so nothing here is unsafe.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{__m256, _mm256_fmadd_ps, _mm256_set1_ps, _mm256_setzero_ps};

    use super::{Target, WIDTH};

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn rows<const R: usize>(left: &[f32], stride: usize, panel: &[[f32; WIDTH]], mut target: Target<'_>) {
        let depth = panel.len();
        // Slices of exactly the panel's length, so that the loop needs no bounds checks.
        let mut rows: [&[f32]; R] = [&[]; R];
        for row in 0..R {
            rows[row] = &left[row * stride..][..depth];
        }
        let mut sums = [[_mm256_setzero_ps(); 2]; R];
        for k in 0..depth {
            let right: [__m256; 2] = bytemuck::cast(panel[k]);
            for row in 0..R {
                let value = _mm256_set1_ps(rows[row][k]);
                sums[row][0] = _mm256_fmadd_ps(value, right[0], sums[row][0]);
                sums[row][1] = _mm256_fmadd_ps(value, right[1], sums[row][1]);
            }
        }
        for row in 0..R {
            target.write(row, bytemuck::cast(sums[row]));
        }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn packed<const R: usize>(left: &[[f32; R]], panel: &[[f32; WIDTH]], mut target: Target<'_>) {
        let mut sums = [[_mm256_setzero_ps(); 2]; R];
        for (left, panel) in left.iter().zip(panel) {
            let right: [__m256; 2] = bytemuck::cast(*panel);
            for row in 0..R {
                let value = _mm256_set1_ps(left[row]);
                sums[row][0] = _mm256_fmadd_ps(value, right[0], sums[row][0]);
                sums[row][1] = _mm256_fmadd_ps(value, right[1], sums[row][1]);
            }
        }
        for row in 0..R {
            target.write(row, bytemuck::cast(sums[row]));
        }
    }
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
