//! Inner products of all pairs of rows, the one matrix product that the SVM and k-nearest neighbours need.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// Values of the right side that are multiplied at once.
const COPIED: usize = 1 << 18;

/// `out[i, j] = a_i . b_j` for row-major `a` of shape `[rows, depth]`, `b` of shape `[columns, depth]` and
/// `out` of shape `[rows, columns]`. Runs on the calling thread: callers split the rows among threads in
/// blocks whose size does not depend on the number of threads, so that neither do the bits.
///
/// The product is taken in blocks of columns: the library copies its right side into a layout of its own, and a
/// copy of all rows of `b` on every thread would take as much memory as the data.
pub(super) fn inner_products(a: &[f32], b: &[f32], depth: usize, out: &mut [f32]) {
    if depth == 0 {
        out.fill(0.0);
        return;
    }
    let (rows, columns) = (a.len() / depth, b.len() / depth);
    if rows == 0 {
        return;
    }
    let width = (COPIED / depth).clamp(64, 4096);
    for (block, b) in b.chunks(width * depth).enumerate() {
        let (first, count) = (block * width, b.len() / depth);
        // Some columns of a row-major matrix are the transpose of some rows of a column-major one.
        let target = MatMut::from_column_major_slice_with_stride_mut(&mut out[first..], count, rows, columns);
        matmul(
            target.transpose_mut(),
            Accum::Replace,
            MatRef::from_row_major_slice(a, rows, depth),
            MatRef::from_row_major_slice(b, count, depth).transpose(),
            1.0_f32,
            Par::Seq,
        );
    }
}

/// The sum of squares of every row of a row-major matrix, in 64 bits.
pub(super) fn squared_norms(rows: &[f32], depth: usize) -> Vec<f64> {
    rows.chunks_exact(depth.max(1))
        .map(|row| row.iter().map(|&value| f64::from(value) * f64::from(value)).sum())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_columns_join_without_a_seam() {
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
