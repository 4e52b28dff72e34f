//! Kernels between rows: from inner products by matrix multiplication, in 32-bit floats as libsvm keeps
//! them, with 64-bit norms. The exponential is the vectorised one of the deep model's engine.

use crate::model::deep::fast::cpu::activation::exp;
use crate::model::deep::fast::cpu::simd::{Level, vectorised};
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

impl<'a> KernelRows<'a> {
    /// Row-major rows of `depth` values.
    pub fn new(values: &'a [f32], depth: usize) -> Self {
        Self { values, depth, norms: squared_norms(values, depth) }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.norms.len()
    }

    /// Values of each row.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// One row.
    pub fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.depth..(row + 1) * self.depth]
    }

    /// Some rows that follow each other.
    fn slice(&self, start: usize, end: usize) -> &'a [f32] {
        &self.values[start * self.depth..end * self.depth]
    }
}

vectorised! {
    /// `exp(-gamma (norm + norms - 2 products))` in place of the products.
    fn rbf(gamma: f64, norm: f64, norms: &[f64], values: &mut [f32]) {
        for (value, &other) in values.iter_mut().zip(norms) {
            let squared = norm + other - 2.0 * f64::from(*value);
            let squared = if squared > 0.0 { squared } else { 0.0 };
            *value = exp::<FUSED>((-gamma * squared) as f32);
        }
    }
}

impl Kernel {
    /// The kernel in place of the inner products of one row of squared norm `norm` with others.
    fn finish(self, level: Level, norm: f64, norms: &[f64], products: &mut [f32]) {
        match self {
            Self::Rbf { gamma } => rbf(level, gamma, norm, norms, products),
            Self::Polynomial { gamma, coef0, degree } => {
                for value in products {
                    *value = (gamma * f64::from(*value) + coef0).powi(degree) as f32;
                }
            }
            Self::Linear => {}
        }
    }

    /// `out[i, j]` = kernel of row i of `a` and row j of `b`, row-major, on the calling thread.
    pub fn block(self, a: &KernelRows<'_>, b: &KernelRows<'_>, out: &mut [f32]) {
        if a.len() == 0 || b.len() == 0 {
            return;
        }
        let level = Level::detect();
        inner_products(a.values, b.values, a.depth, out);
        for (row, out) in out.chunks_exact_mut(b.len()).enumerate() {
            self.finish(level, a.norms[row], &b.norms, out);
        }
    }

    /// The kernel of some rows (row-major in `wanted`) with every row of `rows`: one row of `out` each, from
    /// its element `start` on. `scratch` is used for the products. Runs on the calling thread, in blocks that
    /// stay in its cache.
    pub fn rows(
        self,
        wanted: &KernelRows<'_>,
        rows: &KernelRows<'_>,
        start: usize,
        scratch: &mut Vec<f32>,
        out: &mut [(usize, Vec<f32>)],
    ) {
        let level = Level::detect();
        let width = ((1 << 16) / rows.depth.max(1)).clamp(64, 1024);
        for first in (0..rows.len()).step_by(width) {
            let end = rows.len().min(first + width);
            scratch.clear();
            scratch.resize(wanted.len() * (end - first), 0.0);
            inner_products(wanted.values, rows.slice(first, end), rows.depth, scratch);
            for ((products, (_, out)), &norm) in
                scratch.chunks_exact_mut(end - first).zip(out.iter_mut()).zip(&wanted.norms)
            {
                self.finish(level, norm, &rows.norms[first..end], products);
                out[start + first..start + end].copy_from_slice(products);
            }
        }
    }

    /// The kernel of every row with itself.
    pub fn diagonal(self, rows: &KernelRows<'_>) -> Vec<f64> {
        rows.norms
            .iter()
            .map(|&norm| match self {
                Self::Rbf { .. } => 1.0,
                Self::Polynomial { gamma, coef0, degree } => (gamma * norm + coef0).powi(degree),
                Self::Linear => norm,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_rows_are_the_definition() {
        let (count, depth) = (150, 37);
        let values: Vec<f32> = (0..count * depth).map(|i| ((i * 7919 % 1013) as f32 / 500.0) - 1.0).collect();
        let rows = KernelRows::new(&values, depth);
        let kernels =
            [Kernel::Rbf { gamma: 0.03 }, Kernel::Polynomial { gamma: 0.1, coef0: 1.0, degree: 3 }, Kernel::Linear];
        for kernel in kernels {
            let exact = |i: usize, j: usize| {
                let pair = rows.row(i).iter().zip(rows.row(j)).map(|(&x, &y)| (f64::from(x), f64::from(y)));
                let (product, squared) =
                    pair.fold((0.0, 0.0), |(product, squared), (x, y)| (product + x * y, squared + (x - y) * (x - y)));
                match kernel {
                    Kernel::Rbf { gamma } => (-gamma * squared).exp(),
                    Kernel::Polynomial { gamma, coef0, degree } => (gamma * product + coef0).powi(degree),
                    Kernel::Linear => product,
                }
            };
            let near = |a: f32, b: f64| assert!((f64::from(a) - b).abs() <= 1e-4 * (1.0 + b.abs()), "{a} {b}");
            let mut block = vec![0.0; count * count];
            kernel.block(&rows, &rows, &mut block);
            let wanted = [0, 63, 64, 149];
            let gathered: Vec<f32> = wanted.iter().flat_map(|&row| rows.row(row)).copied().collect();
            let mut found: Vec<(usize, Vec<f32>)> = wanted.iter().map(|&row| (row, vec![0.0; count + 3])).collect();
            kernel.rows(&KernelRows::new(&gathered, depth), &rows, 3, &mut Vec::new(), &mut found);
            for (row, found) in &found {
                for other in 0..count {
                    near(block[row * count + other], exact(*row, other));
                    near(found[3 + other], exact(*row, other));
                }
            }
            for (row, &value) in kernel.diagonal(&rows).iter().enumerate() {
                near(value as f32, exact(row, row));
            }
        }
    }
}
