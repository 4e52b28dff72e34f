//! Kernels between rows: computed from inner products by matrix multiplication, in 32-bit floats as in libsvm, with
//! 64-bit norms. The product and the exponential are the vectorised ones of the deep model's engine; the terms of a
//! product are summed in a fixed order, so a kernel value has the same bits whatever is computed alongside it.

use crate::deep::fast::cpu::activation::exp;
use crate::deep::fast::cpu::matmul::{Layout, Panels, Update, multiply};
use crate::deep::fast::cpu::simd::{Level, vectorised};
use crate::product::{inner_products, squared_norms};

/// A kernel with its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kernel {
    /// `exp(-gamma |x - y|^2)`.
    Rbf { gamma: f64 },
    /// `(gamma x.y + coef0)^degree`.
    Polynomial { gamma: f64, coef0: f64, degree: i32 },
    /// `x.y`.
    Linear,
}

/// Rows with the norms that a kernel needs.
pub(super) struct KernelRows<'a> {
    values: &'a [f32],
    depth: usize,
    norms: Vec<f64>,
}

impl<'a> KernelRows<'a> {
    /// Creates rows from row-major values, `depth` per row.
    pub(super) fn new(values: &'a [f32], depth: usize) -> Self {
        Self { values, depth, norms: squared_norms(values, depth) }
    }

    /// Returns the number of rows.
    pub(super) fn len(&self) -> usize {
        self.norms.len()
    }

    /// Returns the number of values per row.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Returns one row.
    pub(super) fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.depth..(row + 1) * self.depth]
    }

    /// Returns the sum of squares of one row.
    fn norm(&self, row: usize) -> f64 {
        self.norms[row]
    }
}

/// The rows of a two-class problem: those of the first class, then those of the second.
pub(super) struct PairRows<'a> {
    /// Rows of the class +1.
    pub first: &'a KernelRows<'a>,
    /// Rows of the class -1.
    pub second: &'a KernelRows<'a>,
}

impl PairRows<'_> {
    /// Returns the number of rows of both classes.
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }

    /// Replaces the contents of `values` and `norms` with the given rows and their squared norms.
    fn gather(&self, numbers: &[u32], values: &mut Vec<f32>, norms: &mut Vec<f64>) {
        values.clear();
        norms.clear();
        for &number in numbers {
            let number = number as usize;
            let (rows, row) = match number.checked_sub(self.first.len()) {
                None => (self.first, number),
                Some(row) => (self.second, row),
            };
            values.extend_from_slice(rows.row(row));
            norms.push(rows.norm(row));
        }
    }
}

/// Rows of a problem, gathered as the left operand of kernel values.
pub(super) struct Wanted {
    depth: usize,
    values: Vec<f32>,
    norms: Vec<f64>,
}

impl Wanted {
    /// Gathers these rows.
    pub(super) fn new(rows: &PairRows<'_>, numbers: &[u32]) -> Self {
        let mut wanted = Self { depth: rows.first.depth(), values: Vec::new(), norms: Vec::new() };
        rows.gather(numbers, &mut wanted.values, &mut wanted.norms);
        wanted
    }
}

/// Rows of a problem, packed as the right operand of kernel values; the buffers are reused.
#[derive(Default)]
pub(super) struct Columns {
    values: Vec<f32>,
    norms: Vec<f64>,
    panels: Panels,
    products: Vec<f32>,
}

impl Columns {
    /// Packs these rows.
    pub(super) fn take(&mut self, rows: &PairRows<'_>, numbers: &[u32]) {
        rows.gather(numbers, &mut self.values, &mut self.norms);
        self.panels.pack(&self.values, rows.first.depth(), numbers.len(), Layout::Transposed);
    }

    /// Returns how many rows of `depth` values to pack together, so that they stay in the CPU cache.
    pub(super) fn width(depth: usize) -> usize {
        (COLUMN_VALUES / depth.max(1)).clamp(MINIMUM_COLUMNS, MAXIMUM_COLUMNS)
    }
}

/// Number of values in columns that are packed together, and the minimum and maximum number of columns.
const COLUMN_VALUES: usize = 1 << 17;
const MINIMUM_COLUMNS: usize = 64;
const MAXIMUM_COLUMNS: usize = 1024;
/// Number of rows whose products with the columns are computed at once.
const BATCH: usize = 60;

vectorised! {
    /// Replaces the products with `exp(-gamma (norm + norms - 2 products))`.
    fn rbf(gamma: f64, norm: f64, norms: &[f64], values: &mut [f32]) {
        for (value, &other) in values.iter_mut().zip(norms) {
            let squared = norm + other - 2.0 * f64::from(*value);
            let squared = if squared > 0.0 { squared } else { 0.0 };
            *value = exp::<FUSED>((-gamma * squared) as f32);
        }
    }
}

impl Kernel {
    /// Replaces the inner products of one row of squared norm `norm` with kernel values.
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

    /// Computes `out[i, j]` = kernel of row i of `a` and row j of `b`, row-major, on the calling thread.
    pub(super) fn block(self, a: &KernelRows<'_>, b: &KernelRows<'_>, out: &mut [f32]) {
        if a.len() == 0 || b.len() == 0 {
            return;
        }
        let level = Level::detect();
        inner_products(a.values, b.values, a.depth, out);
        for (row, out) in out.chunks_exact_mut(b.len()).enumerate() {
            self.finish(level, a.norms[row], &b.norms, out);
        }
    }

    /// Calls `each` for every row of `wanted` in order, with its index and its kernel values with the columns. Runs on
    /// the calling thread.
    pub(super) fn rows(
        self,
        level: Level,
        wanted: &Wanted,
        columns: &mut Columns,
        mut each: impl FnMut(usize, &[f32]),
    ) {
        let (depth, width) = (wanted.depth, columns.norms.len());
        columns.products.resize(BATCH * width, 0.0);
        for (batch, norms) in wanted.norms.chunks(BATCH).enumerate() {
            let products = &mut columns.products[..norms.len() * width];
            let values = &wanted.values[batch * BATCH * depth..];
            multiply(level, norms.len(), values, depth, &columns.panels, products, Update::Replace);
            for (row, (products, &norm)) in products.chunks_exact_mut(width).zip(norms).enumerate() {
                self.finish(level, norm, &columns.norms, products);
                each(batch * BATCH + row, products);
            }
        }
    }

    /// Returns the kernel of every row with itself.
    pub(super) fn diagonal(self, rows: &KernelRows<'_>) -> Vec<f64> {
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
    fn blocks_and_rows_equal_the_definition() {
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
            let (first, second) = values.split_at(70 * depth);
            let (first, second) = (KernelRows::new(first, depth), KernelRows::new(second, depth));
            let pair = PairRows { first: &first, second: &second };
            let all: Vec<u32> = (0..count as u32).collect();
            let mut columns = Columns::default();
            columns.take(&pair, &all);
            let mut seen = 0;
            kernel.rows(Level::detect(), &Wanted::new(&pair, &wanted), &mut columns, |row, found| {
                assert_eq!((row, found.len()), (seen, count));
                seen += 1;
                for other in 0..count {
                    near(block[wanted[row] as usize * count + other], exact(wanted[row] as usize, other));
                    near(found[other], exact(wanted[row] as usize, other));
                }
            });
            assert_eq!(seen, wanted.len());
            for (row, &value) in kernel.diagonal(&rows).iter().enumerate() {
                near(value as f32, exact(row, row));
            }
        }
    }
}
