//! Inner products of all pairs of rows, the one matrix product that the SVM and k-nearest neighbours need.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// `out[i, j] = a_i . b_j` for row-major `a` of shape `[rows, depth]`, `b` of shape `[columns, depth]` and
/// `out` of shape `[rows, columns]`. Runs on the calling thread: callers split the rows among threads in
/// blocks whose size does not depend on the number of threads, so that neither do the bits.
pub(super) fn inner_products(a: &[f32], b: &[f32], depth: usize, out: &mut [f32]) {
    if depth == 0 {
        out.fill(0.0);
        return;
    }
    let (rows, columns) = (a.len() / depth, b.len() / depth);
    matmul(
        MatMut::from_row_major_slice_mut(out, rows, columns),
        Accum::Replace,
        MatRef::from_row_major_slice(a, rows, depth),
        MatRef::from_row_major_slice(b, columns, depth).transpose(),
        1.0_f32,
        Par::Seq,
    );
}

/// The sum of squares of every row of a row-major matrix, in 64 bits.
pub(super) fn squared_norms(rows: &[f32], depth: usize) -> Vec<f64> {
    rows.chunks_exact(depth.max(1))
        .map(|row| row.iter().map(|&value| f64::from(value) * f64::from(value)).sum())
        .collect()
}
