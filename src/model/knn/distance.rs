//! Distances between rows: exactly in 64 bits, and quickly by matrix product with a bound on the error, so
//! that only the rows that may be among the nearest are measured exactly.

use serde::{Deserialize, Serialize};

use crate::model::product::{inner_products, squared_norms};

/// How far apart two rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::model) enum Distance {
    /// Root of the sum of squared differences.
    Euclidean,
    /// Sum of absolute differences.
    Manhattan,
    /// 1 - x.y / (|x| |y|); 1 where a row is all zeros.
    Cosine,
}

/// Rows with their norms.
pub(super) struct DistanceRows<'a> {
    values: &'a [f32],
    depth: usize,
    /// Sums of squares.
    norms: Vec<f64>,
}

impl<'a> DistanceRows<'a> {
    /// Row-major rows of `depth` values.
    pub fn new(values: &'a [f32], depth: usize) -> Self {
        Self { values, depth, norms: squared_norms(values, depth) }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.norms.len()
    }

    /// One row.
    pub fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.depth..(row + 1) * self.depth]
    }
}

/// Unit roundoff of 32-bit floats.
const ROUNDOFF: f64 = 1.0 / (1_u64 << 24) as f64;

impl Distance {
    /// The distance in 64 bits, without the root of the Euclidean one: what neighbours are ordered by.
    pub fn rank(self, a: &[f32], b: &[f32]) -> f64 {
        match self {
            Self::Euclidean => lanes(a, b, |x, y| (x - y) * (x - y)),
            Self::Manhattan => lanes(a, b, |x, y| (x - y).abs()),
            Self::Cosine => {
                let norms = lanes(a, a, |x, y| x * y) * lanes(b, b, |x, y| x * y);
                if norms == 0.0 { 1.0 } else { (1.0 - lanes(a, b, |x, y| x * y) / norms.sqrt()).clamp(0.0, 2.0) }
            }
        }
    }

    /// The distance from what neighbours are ordered by.
    pub fn of_rank(self, rank: f64) -> f64 {
        if self == Self::Euclidean { rank.sqrt() } else { rank }
    }

    /// Approximate ranks of all pairs, `out[i, j]` for row i of `queries` and row j of `rows`.
    pub(super) fn approximate(self, queries: &DistanceRows<'_>, rows: &DistanceRows<'_>, out: &mut [f32]) {
        if self == Self::Manhattan {
            for (query, out) in out.chunks_exact_mut(rows.len()).enumerate() {
                let query = queries.row(query);
                for (row, value) in out.iter_mut().enumerate() {
                    *value = manhattan(query, rows.row(row));
                }
            }
            return;
        }
        inner_products(queries.values, rows.values, rows.depth, out);
        for (query, out) in out.chunks_exact_mut(rows.len()).enumerate() {
            let norm = queries.norms[query];
            for (value, &other) in out.iter_mut().zip(&rows.norms) {
                let product = f64::from(*value);
                *value = match self {
                    Self::Cosine if norm * other == 0.0 => 1.0,
                    Self::Cosine => (1.0 - product / (norm * other).sqrt()) as f32,
                    _ => (norm + other - 2.0 * product) as f32,
                };
            }
        }
    }

    /// No approximate rank of this query is further from the exact one than this. A sum of n products
    /// in floating point, in any order, is off by at most `n u / (1 - n u)` times the sum of their absolute
    /// values (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1), which is at most the
    /// product of the norms; the norms themselves and the last rounding are covered by the factor 2.
    pub(super) fn error(self, query: usize, queries: &DistanceRows<'_>, largest_norm: f64, largest_rank: f64) -> f64 {
        let terms = (queries.depth + 8) as f64 * ROUNDOFF;
        match self {
            Self::Euclidean => {
                2.0 * (2.0 * terms * (queries.norms[query] * largest_norm).sqrt() + ROUNDOFF * largest_rank.abs())
            }
            Self::Cosine => 2.0 * (terms + 2.0 * ROUNDOFF),
            Self::Manhattan => 2.0 * terms * largest_rank,
        }
    }

    /// The largest squared norm of any row.
    pub(super) fn largest_norm(rows: &DistanceRows<'_>) -> f64 {
        rows.norms.iter().copied().fold(0.0, f64::max)
    }
}

/// Sums `term` over two rows in eight lanes of 64 bits, in a fixed order.
fn lanes(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let mut lanes = [0.0_f64; 8];
    let (heads, tails) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 =
        heads.remainder().iter().zip(tails.remainder()).map(|(&x, &y)| term(f64::from(x), f64::from(y))).sum();
    for (x, y) in heads.zip(tails) {
        for (lane, (&x, &y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += term(f64::from(x), f64::from(y));
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// Sum of absolute differences in sixteen lanes of 32 bits.
fn manhattan(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let (heads, tails) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = heads.remainder().iter().zip(tails.remainder()).map(|(x, y)| (x - y).abs()).sum();
    for (x, y) in heads.zip(tails) {
        for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += (x - y).abs();
        }
    }
    lanes.iter().sum::<f32>() + rest
}
