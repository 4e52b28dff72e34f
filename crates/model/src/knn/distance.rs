//! Distances between rows: exact ones in 64 bits, and scores computed by a matrix product that order rows the same way
//! up to a bounded error, so that only rows that may be among the nearest are measured exactly.

use serde::{Deserialize, Serialize};

use crate::deep::fast::cpu::simd::{Level, vectorised};
use crate::product::{inner_products, squared_norms};

/// A distance between two rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Distance {
    /// Root of the sum of squared differences.
    Euclidean,
    /// Sum of absolute differences.
    Manhattan,
    /// 1 - x.y / (|x| |y|); 1 if a row is all zeros.
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
    /// Creates rows from row-major values, `depth` per row.
    pub(super) fn new(values: &'a [f32], depth: usize) -> Self {
        Self { values, depth, norms: squared_norms(values, depth) }
    }

    /// Returns the number of rows.
    pub(super) fn len(&self) -> usize {
        self.norms.len()
    }

    /// Returns one row.
    pub(super) fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.depth..(row + 1) * self.depth]
    }
}

/// Unit roundoff of 32-bit floats.
const ROUNDOFF: f64 = 1.0 / (1_u64 << 24) as f64;

impl Distance {
    /// Returns the value that neighbours are ordered by: the distance in 64 bits, without the root for Euclidean
    /// distances.
    pub(crate) fn rank(self, a: &[f32], b: &[f32]) -> f64 {
        match self {
            Self::Euclidean => lanes(a, b, |x, y| (x - y) * (x - y)),
            Self::Manhattan => lanes(a, b, |x, y| (x - y).abs()),
            Self::Cosine => {
                let norms = lanes(a, a, |x, y| x * y) * lanes(b, b, |x, y| x * y);
                if norms == 0.0 { 1.0 } else { (1.0 - lanes(a, b, |x, y| x * y) / norms.sqrt()).clamp(0.0, 2.0) }
            }
        }
    }

    /// Converts a rank to the distance.
    pub(crate) fn of_rank(self, rank: f64) -> f64 {
        if self == Self::Euclidean { rank.sqrt() } else { rank }
    }
}

/// Estimates of the ranks of one query's distances to the rows: scores that order the rows as their ranks do, up to
/// rounding. A score is `add + scale * p`, where `p` is the inner product and the other two depend on the row alone;
/// for Manhattan distances it is the sum of absolute differences itself.
pub(super) struct Scores<'a> {
    distance: Distance,
    rows: &'a DistanceRows<'a>,
    add: Vec<f32>,
    scale: Vec<f32>,
    largest_norm: f64,
    /// The smallest norm that is not 0.
    smallest_norm: f64,
}

impl<'a> Scores<'a> {
    /// Prepares the scores. For Euclidean distances, the score is the rank without the query's norm; for cosine
    /// distances, it is the negated cosine times the query's norm, and 0 for a row of zeros, between the two
    /// directions.
    pub(super) fn new(distance: Distance, rows: &'a DistanceRows<'a>) -> Self {
        let largest_norm = rows.norms.iter().copied().fold(0.0, f64::max);
        let smallest_norm = rows.norms.iter().copied().filter(|&norm| norm > 0.0).fold(f64::INFINITY, f64::min);
        let inverse = |&norm: &f64| if norm > 0.0 { (-1.0 / norm.sqrt()) as f32 } else { 0.0 };
        let (add, scale) = match distance {
            Distance::Euclidean => (rows.norms.iter().map(|&norm| norm as f32).collect(), Vec::new()),
            Distance::Manhattan => (Vec::new(), Vec::new()),
            Distance::Cosine => (Vec::new(), rows.norms.iter().map(inverse).collect()),
        };
        Self { distance, rows, add, scale, largest_norm, smallest_norm }
    }

    /// Returns the number of rows.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Computes the scores of every query with the rows from `start` to `end`, row-major.
    pub(super) fn block(&self, level: Level, queries: &DistanceRows<'_>, start: usize, end: usize, out: &mut [f32]) {
        let depth = self.rows.depth;
        let rows = &self.rows.values[start * depth..end * depth];
        let width = end - start;
        if self.distance == Distance::Manhattan {
            for (query, out) in out.chunks_exact_mut(width).enumerate() {
                manhattan(level, queries.row(query), rows, out);
            }
            return;
        }
        inner_products(queries.values, rows, depth, out);
        for out in out.chunks_exact_mut(width) {
            if self.distance == Distance::Euclidean {
                euclidean(level, &self.add[start..end], out);
            } else {
                scaled(level, &self.scale[start..end], out);
            }
        }
    }

    /// Bounds the error of the scores of this query: a computed score that is at most `limit`, or whose exact value is
    /// at most `limit` plus this bound, differs from its exact value by at most this bound. A sum of n products in
    /// floating point, in any order, is off by at most `n u / (1 - n u)` times the sum of their absolute values
    /// (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1), which is at most the product of the
    /// norms; eight more terms cover the rounding of the norm and the final operations, and the factor 2 covers the
    /// denominator. Returns infinity if an intermediate value may leave the range of 32-bit floats; then every row is
    /// measured exactly.
    pub(super) fn error(&self, queries: &DistanceRows<'_>, query: usize, limit: f64) -> f64 {
        let norm = queries.norms[query];
        let products = [norm * self.smallest_norm, norm * self.largest_norm];
        let in_range = match self.distance {
            _ if norm == 0.0 && self.distance == Distance::Cosine => true,
            Distance::Cosine => self.smallest_norm > SMALLEST && products[0] > SMALLEST && products[1] < LARGEST,
            Distance::Euclidean => self.largest_norm.max(norm) < LARGEST,
            Distance::Manhattan => limit < LARGEST,
        };
        if !in_range {
            return f64::INFINITY;
        }
        let terms = 2.0 * (queries.depth + 8) as f64 * ROUNDOFF;
        match self.distance {
            Distance::Euclidean => {
                let up_to = |row_norm: f64| {
                    2.0 * terms * (norm * row_norm).sqrt() + 4.0 * ROUNDOFF * (row_norm + limit.abs()) + UNDERFLOW
                };
                // A row is at least as far away as the difference of the two lengths, so rows this near are at most
                // this long. Otherwise a single outlier among the rows would make everything uncertain.
                let reach = norm.sqrt() + (norm + limit + up_to(self.largest_norm)).max(0.0).sqrt();
                up_to((reach * reach * (1.0 + 1e-9)).min(self.largest_norm))
            }
            Distance::Cosine => terms * norm.sqrt(),
            Distance::Manhattan => terms * limit + UNDERFLOW,
        }
    }
}

/// Squared norms between these bounds keep sums, products and inverse roots within the range of 32-bit floats, and
/// products of single values below the range are negligible.
const LARGEST: f64 = 1e37;
const SMALLEST: f64 = 1e-60;
/// Upper bound on what a million products lose to underflow in 32-bit floats.
const UNDERFLOW: f64 = 1e-39;

vectorised! {
    /// Replaces the products with `norms - 2 products`.
    fn euclidean(norms: &[f32], products: &mut [f32]) {
        for (value, &norm) in products.iter_mut().zip(norms) {
            *value = norm - 2.0 * *value;
        }
    }
}

vectorised! {
    /// Multiplies every product by its row's factor.
    fn scaled(factors: &[f32], products: &mut [f32]) {
        for (value, &factor) in products.iter_mut().zip(factors) {
            *value *= factor;
        }
    }
}

/// Sums `term` over two rows in eight 64-bit lanes, in a fixed order.
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

vectorised! {
    /// Computes the sums of absolute differences between one query and rows, each in sixteen 32-bit lanes.
    fn manhattan(query: &[f32], rows: &[f32], out: &mut [f32]) {
        for (row, out) in rows.chunks_exact(query.len()).zip(out) {
            let mut lanes = [0.0_f32; 16];
            let (heads, tails) = (query.chunks_exact(16), row.chunks_exact(16));
            let rest: f32 = heads.remainder().iter().zip(tails.remainder()).map(|(x, y)| (x - y).abs()).sum();
            for (x, y) in heads.zip(tails) {
                for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
                    *lane += (x - y).abs();
                }
            }
            *out = lanes.iter().sum::<f32>() + rest;
        }
    }
}
