//! Kernels between rows: from inner products by matrix multiplication, in 32-bit floats as libsvm keeps
//! them, with 64-bit norms.

use rayon::prelude::*;

use crate::model::product::{inner_products, squared_norms};

/// A kernel with its numbers settled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kernel {
    /// `exp(-gamma |x - y|^2)`.
    Rbf { gamma: f64 },
    /// `(gamma x.y + coef0)^degree`.
    Polynomial { gamma: f64, coef0: f64, degree: i32 },
    /// `x.y`.
    Linear,
}

/// Rows with what a kernel needs to know of each.
pub(super) struct KernelRows<'a> {
    values: &'a [f32],
    depth: usize,
    norms: Vec<f64>,
}

/// How many rows one task of a kernel block holds; fixed, so that bits do not depend on the threads.
const BLOCK: usize = 64;

impl<'a> KernelRows<'a> {
    /// Row-major rows of `depth` values.
    pub fn new(values: &'a [f32], depth: usize) -> Self {
        Self { values, depth, norms: squared_norms(values, depth) }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.norms.len()
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.depth..(row + 1) * self.depth]
    }
}

impl Kernel {
    fn of(self, product: f64, norm_a: f64, norm_b: f64) -> f64 {
        match self {
            Self::Rbf { gamma } => (-gamma * (norm_a + norm_b - 2.0 * product).max(0.0)).exp(),
            Self::Polynomial { gamma, coef0, degree } => (gamma * product + coef0).powi(degree),
            Self::Linear => product,
        }
    }

    /// `out[i, j]` = kernel of row i of `a` and row j of `b`, row-major; blocks of rows in parallel.
    pub fn block(self, a: &KernelRows<'_>, b: &KernelRows<'_>, out: &mut [f32]) {
        if b.len() == 0 {
            return;
        }
        out.par_chunks_mut(BLOCK * b.len()).enumerate().for_each(|(block, out)| {
            let first = block * BLOCK;
            let rows = out.len() / b.len();
            let values = &a.values[first * a.depth..(first + rows) * a.depth];
            inner_products(values, b.values, a.depth, out);
            for (row, out) in out.chunks_exact_mut(b.len()).enumerate() {
                let norm = a.norms[first + row];
                for (value, &other) in out.iter_mut().zip(&b.norms) {
                    *value = self.of(f64::from(*value), norm, other) as f32;
                }
            }
        });
    }

    /// The kernel of all pairs of rows, row-major; only `out[i, j]` with `j <= i` are filled.
    pub fn lower_triangle(self, rows: &KernelRows<'_>, out: &mut [f32]) {
        let size = rows.len();
        out.par_chunks_mut((BLOCK * size).max(1)).enumerate().for_each(|(block, out)| {
            let first = block * BLOCK;
            let end = first + out.len() / size;
            let depth = rows.depth;
            let mut products = vec![0.0; (end - first) * end];
            inner_products(&rows.values[first * depth..end * depth], &rows.values[..end * depth], depth, &mut products);
            for (row, (out, products)) in out.chunks_exact_mut(size).zip(products.chunks_exact(end)).enumerate() {
                let norm = rows.norms[first + row];
                let filled = out.iter_mut().zip(products).zip(&rows.norms).take(first + row + 1);
                for ((value, &product), &other) in filled {
                    *value = self.of(f64::from(product), norm, other) as f32;
                }
            }
        });
    }

    /// The kernel of one row with each of `others`, all rows of `rows`.
    pub fn row(self, rows: &KernelRows<'_>, row: usize, others: &[usize], out: &mut [f32]) {
        let a = rows.row(row);
        for (value, &other) in out.iter_mut().zip(others) {
            let product = dot(a, rows.row(other));
            *value = self.of(product, rows.norms[row], rows.norms[other]) as f32;
        }
    }

    /// The kernel of every row with itself.
    pub fn diagonal(self, rows: &KernelRows<'_>, which: &[usize]) -> Vec<f64> {
        which.iter().map(|&row| self.of(rows.norms[row], rows.norms[row], rows.norms[row])).collect()
    }
}

/// Inner product in eight lanes of 64 bits, summed in a fixed order.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; 8];
    let (heads, tails) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = heads.remainder().iter().zip(tails.remainder()).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
    for (x, y) in heads.zip(tails) {
        for (lane, (&x, &y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += f64::from(x) * f64::from(y);
        }
    }
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_single_rows_agree() {
        let (rows, depth) = (150, 37);
        let values: Vec<f32> = (0..rows * depth).map(|i| ((i * 7919 % 1013) as f32 / 500.0) - 1.0).collect();
        let rows_of = KernelRows::new(&values, depth);
        let all: Vec<usize> = (0..rows).collect();
        let kernels =
            [Kernel::Rbf { gamma: 0.03 }, Kernel::Polynomial { gamma: 0.1, coef0: 1.0, degree: 3 }, Kernel::Linear];
        for kernel in kernels {
            let mut block = vec![0.0; rows * rows];
            kernel.block(&rows_of, &rows_of, &mut block);
            let mut triangle = vec![0.0; rows * rows];
            kernel.lower_triangle(&rows_of, &mut triangle);
            for (i, j) in [(0, 0), (70, 3), (70, 70), (149, 120)] {
                let (a, b) = (triangle[i * rows + j], block[i * rows + j]);
                assert!((a - b).abs() <= 1e-4 * (1.0 + b.abs()), "{a} {b}");
            }
            let mut single = vec![0.0; rows];
            for row in [0, 63, 64, 149] {
                kernel.row(&rows_of, row, &all, &mut single);
                for (a, b) in block[row * rows..(row + 1) * rows].iter().zip(&single) {
                    assert!((a - b).abs() <= 1e-4 * (1.0 + b.abs()), "{a} {b}");
                }
            }
        }
    }
}
