//! Inner products of all pairs of rows, the one matrix product that the SVM and k-nearest neighbours need.

use std::cell::RefCell;

use super::deep::fast::cpu::matmul::{Layout, Panels, Update, multiply};
use super::deep::fast::cpu::simd::Level;

/// Number of values of `b` that are multiplied at a time, and the minimum and maximum number of its rows.
const PACKED: usize = 1 << 17;
const MINIMUM_COLUMNS: usize = 64;
const MAXIMUM_COLUMNS: usize = 1024;

thread_local! {
    /// The packed part of `b`, and the partial product if `b` is processed in blocks.
    static WORKING: RefCell<(Panels, Vec<f32>)> = RefCell::default();
}

/// Computes `out[i, j] = a_i . b_j` for row-major `a` of shape `[rows, depth]`, `b` of shape `[columns, depth]` and
/// `out` of shape `[rows, columns]`. Runs on the calling thread. Every product is summed in the same order, so its bits
/// do not depend on the other rows.
///
/// The product is computed in blocks of columns: a copy of all rows of `b` on every thread would use as much memory as
/// the data.
pub(super) fn inner_products(a: &[f32], b: &[f32], depth: usize, out: &mut [f32]) {
    if depth == 0 {
        out.fill(0.0);
        return;
    }
    let (level, rows, columns) = (Level::detect(), a.len() / depth, b.len() / depth);
    let width = (PACKED / depth).clamp(MINIMUM_COLUMNS, MAXIMUM_COLUMNS);
    WORKING.with_borrow_mut(|(right, part)| {
        if columns <= width {
            right.pack(b, depth, columns, Layout::Transposed);
            multiply(level, rows, a, depth, right, out, Update::Replace);
            return;
        }
        part.resize(rows * width, 0.0);
        for (block, b) in b.chunks(width * depth).enumerate() {
            let (first, count) = (block * width, b.len() / depth);
            right.pack(b, depth, count, Layout::Transposed);
            let part = &mut part[..rows * count];
            multiply(level, rows, a, depth, right, part, Update::Replace);
            for (part, out) in part.chunks_exact(count).zip(out.chunks_exact_mut(columns)) {
                out[first..first + count].copy_from_slice(part);
            }
        }
    });
}

/// Returns the sum of squares of every row of a row-major matrix, in 64 bits.
pub(super) fn squared_norms(rows: &[f32], depth: usize) -> Vec<f64> {
    rows.chunks_exact(depth.max(1))
        .map(|row| row.iter().map(|&value| f64::from(value) * f64::from(value)).sum())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_in_blocks_equals_a_whole_one() {
        for (rows, columns, depth) in [(3, 9000, 5), (70, 150, 37), (1, 1, 1), (2, 700, 800), (0, 4, 3)] {
            let a: Vec<f32> = (0..rows * depth).map(|index| (index % 17) as f32).collect();
            let b: Vec<f32> = (0..columns * depth).map(|index| (index % 13) as f32).collect();
            let mut out = vec![f32::NAN; rows * columns];
            inner_products(&a, &b, depth, &mut out);
            for (at, &found) in out.iter().enumerate() {
                let (a, b) = (&a[at / columns * depth..][..depth], &b[at % columns * depth..][..depth]);
                let wanted: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                assert!((f64::from(found) - wanted).abs() <= 1e-6 * wanted, "{found} {wanted}");
            }
        }
    }
}
