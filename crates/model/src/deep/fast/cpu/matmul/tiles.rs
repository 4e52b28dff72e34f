//! The left factor of a product, repacked into tiles of a few rows.

use super::{TILE, Windows};

/// Rows of the inner dimension that are repacked together for a transposed left factor: the number of lines in a set of
/// the first-level cache, because such rows are often at a distance of a power of two.
const PACKED_ROWS: usize = 8;

/// Calls a function with the height of a tile, from 1 to [`TILE`], as its constant argument.
macro_rules! of_height {
    ($height:expr, $function:ident($($argument:expr),*)) => {
        match $height {
            1 => $function::<1>($($argument),*),
            2 => $function::<2>($($argument),*),
            3 => $function::<3>($($argument),*),
            4 => $function::<4>($($argument),*),
            5 => $function::<5>($($argument),*),
            _ => $function::<6>($($argument),*),
        }
    };
}
pub(super) use of_height;

/// Splits rows into tiles of nearly equal height; returns first row and height of each.
#[inline]
pub(super) fn tiles(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(TILE);
    let (height, taller) = (rows / count.max(1), rows % count.max(1));
    (0..count).map(move |tile| (tile * height + tile.min(taller), height + usize::from(tile < taller)))
}

/// Copies `rows` columns of a block of windows (index of the first, and number), from column `first` on, to tiles.
#[inline]
pub(super) fn pack_windows(windows: Windows<'_>, block: [usize; 2], first: usize, rows: usize, packed: &mut [f32]) {
    let [start, depth] = block;
    for index in (0..depth).step_by(PACKED_ROWS) {
        let together = PACKED_ROWS.min(depth - index);
        let sources: [&[f32]; PACKED_ROWS] = std::array::from_fn(|offset| {
            let row = start + index + offset.min(together - 1);
            &windows.values[windows.start(row) + first..][..rows]
        });
        for (row, count) in tiles(rows) {
            let packed = &mut packed[row * depth + index * count..][..together * count];
            of_height!(count, pack_sources(&sources, row, packed))
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
#[inline]
pub(super) fn pack_columns(source: &[f32], stride: usize, first: usize, rows: usize, packed: &mut [f32]) {
    let depth = source.len() / stride;
    for (block, source) in source.chunks(PACKED_ROWS * stride).enumerate() {
        let start = block * PACKED_ROWS;
        for (row, count) in tiles(rows) {
            let packed = &mut packed[row * depth + start * count..(row + count) * depth];
            let column = first + row;
            of_height!(count, pack_tile(source, stride, column, packed))
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
#[inline]
pub(super) fn pack_rows(count: usize, source: &[f32], stride: usize, depth: usize, packed: &mut [f32]) {
    of_height!(count, pack_rows_of(source, stride, depth, packed))
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
