//! Brute-force search for the k nearest training rows of every query, a block of queries against a block of rows at a
//! time. Only rows that may still be among the nearest are remembered for each query, so two blocks determine the
//! memory use, and each block's product is read while it is in the cache.

use rayon::prelude::*;

use super::distance::{Distance, DistanceRows, Scores};
use crate::deep::fast::cpu::simd::{Level, vectorised};

/// A training row and the rank of its distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Neighbour {
    /// The value that neighbours are ordered by; see [`Distance::rank`].
    pub rank: f64,
    /// Index of the training row.
    pub row: usize,
}

/// Maximum number of queries per task.
const BLOCK_QUERIES: usize = 128;
/// Number of rows per block.
const BLOCK_ROWS: usize = 256;
/// Number of rows whose scores are tested together.
const GROUP: usize = 16;

/// Calls `each` with the `k` nearest rows of every query, nearest first and equal distances by lower row, and returns
/// the results in the order of the queries. Requires `1 <= k <= rows`.
pub(super) fn nearest<T: Send>(
    distance: Distance,
    queries: &[f32],
    rows: &DistanceRows<'_>,
    depth: usize,
    k: usize,
    each: impl Fn(&[Neighbour]) -> T + Sync,
    done: impl Fn(usize) + Sync,
) -> Vec<T> {
    let scores = Scores::new(distance, rows);
    // Smaller blocks keep every thread busy if there are few queries; the results do not depend on the blocks.
    let block = (queries.len() / depth.max(1)).div_ceil(8).clamp(1, BLOCK_QUERIES);
    queries
        .par_chunks(block * depth)
        .flat_map_iter(|queries| {
            let queries = DistanceRows::new(queries, depth);
            let mut found: Vec<Candidates> = (0..queries.len()).map(|_| Candidates::new(k)).collect();
            sweep(&scores, &queries, &mut found);
            let mut candidates = Vec::new();
            let results: Vec<T> = found
                .into_iter()
                .enumerate()
                .map(|(query, mut found)| {
                    found.narrow(|limit| scores.error(&queries, query, limit));
                    let point = queries.row(query);
                    candidates.clear();
                    candidates.extend(found.rows.iter().map(|&(_, row)| {
                        let row = row as usize;
                        Neighbour { rank: distance.rank(point, rows.row(row)), row }
                    }));
                    candidates.sort_unstable_by(|a, b| a.rank.total_cmp(&b.rank).then(a.row.cmp(&b.row)));
                    candidates.truncate(k);
                    each(&candidates)
                })
                .collect();
            done(queries.len());
            results
        })
        .collect()
}

/// Offers every row to every query's candidates, block by block.
fn sweep(scores: &Scores<'_>, queries: &DistanceRows<'_>, found: &mut [Candidates]) {
    let level = Level::detect();
    let mut block = vec![0.0; queries.len() * BLOCK_ROWS.min(scores.len())];
    for start in (0..scores.len()).step_by(BLOCK_ROWS) {
        let end = scores.len().min(start + BLOCK_ROWS);
        let block = &mut block[..queries.len() * (end - start)];
        scores.block(level, queries, start, end, block);
        for (query, (block, found)) in block.chunks_exact(end - start).zip(&mut *found).enumerate() {
            let mut seen = 0;
            while seen < block.len() {
                seen += ahead(level, found.bound, &block[seen..]);
                let group = &block[seen..block.len().min(seen + GROUP)];
                for (at, &score) in group.iter().enumerate() {
                    if surely_above(score, found.bound) {
                        continue;
                    }
                    found.rows.push((score, (start + seen + at) as u32));
                    if found.rows.len() >= found.room {
                        found.narrow(|limit| scores.error(queries, query, limit));
                    }
                }
                seen += group.len();
            }
        }
    }
}

/// Returns whether a score is above the bound; NaN may stand for any value, so it is not.
#[inline(always)]
fn surely_above(score: f32, bound: f32) -> bool {
    score > bound
}

vectorised! {
    /// Counts the values, in whole groups, before the first group that has a value not above the bound.
    fn ahead(bound: f32, values: &[f32]) -> usize {
        let groups = values.chunks_exact(GROUP);
        let rest = groups.remainder();
        for (group, values) in groups.enumerate() {
            if values.iter().fold(false, |any, &value| any | !surely_above(value, bound)) {
                return group * GROUP;
            }
        }
        if rest.iter().any(|&value| !surely_above(value, bound)) { values.len() - rest.len() } else { values.len() }
    }
}

/// The rows that may be among the nearest of one query.
struct Candidates {
    k: usize,
    /// Rows whose score is above it cannot be among the `k` nearest of those seen.
    bound: f32,
    /// Scores and rows.
    rows: Vec<(f32, u32)>,
    /// When this many rows are stored, they are narrowed down to those within the bound.
    room: usize,
}

impl Candidates {
    fn new(k: usize) -> Self {
        let room = k.saturating_mul(4).max(64);
        Self { k, bound: f32::INFINITY, rows: Vec::new(), room }
    }

    /// Keeps the rows that may be among the k nearest of those seen so far: no score differs from the exact one by more
    /// than `error` of the k-th score, so a row whose score exceeds that one by more than twice the error cannot be
    /// nearer.
    fn narrow(&mut self, error: impl Fn(f64) -> f64) {
        if self.rows.len() < self.k {
            return;
        }
        let (_, &mut (limit, _), _) = self.rows.select_nth_unstable_by(self.k - 1, |a, b| a.0.total_cmp(&b.0));
        let limit = f64::from(limit);
        let bound = limit + 2.0 * error(limit);
        self.bound = if bound.is_finite() { (bound as f32).next_up() } else { f32::INFINITY };
        let bound = self.bound;
        self.rows.retain(|&(score, _)| !surely_above(score, bound));
        // Many rows within the bound, such as equal ones, must not trigger narrowing for every further row.
        self.room = self.room.max(2 * self.rows.len());
    }
}
