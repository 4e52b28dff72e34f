//! The k nearest training rows of every query by brute force: a block of queries against a block of rows at a
//! time. Of every query only the rows that may still be among the nearest are remembered, so memory is that of two
//! blocks, and what a block's product leaves is read while it is in the cache.

use rayon::prelude::*;

use super::distance::{Distance, DistanceRows, Scores};
use crate::deep::fast::cpu::simd::{Level, vectorised};

/// A training row and the rank of its distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Neighbour {
    /// What neighbours are ordered by; see [`Distance::rank`].
    pub rank: f64,
    /// The training row.
    pub row: usize,
}

/// Most queries that one thread takes at once.
const BLOCK_QUERIES: usize = 128;
/// Rows that they are compared with at once.
const BLOCK_ROWS: usize = 256;
/// Rows whose scores are looked at together.
const GROUP: usize = 16;

/// Calls `each` with the `k` nearest rows of every query, nearest first, equal distances by lower row;
/// results in the order of the queries. Needs `1 <= k <= rows`.
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
    // Few queries still make work for every thread; what is found does not depend on the blocks.
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

/// Shows every row to every query's candidates, block by block.
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

/// Whether a score is above the bound; one that is not a number may stand for anything, and is not.
#[inline(always)]
fn surely_above(score: f32, bound: f32) -> bool {
    score > bound
}

vectorised! {
    /// How many values, in whole groups, are above the bound before the first group with one that is not.
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
    /// Rows whose score is above it cannot be nearer than `k` of those that were seen.
    bound: f32,
    /// Scores and rows.
    rows: Vec<(f32, u32)>,
    /// So many rows are narrowed down to those within the bound.
    room: usize,
}

impl Candidates {
    fn new(k: usize) -> Self {
        let room = k.saturating_mul(4).max(64);
        Self { k, bound: f32::INFINITY, rows: Vec::new(), room }
    }

    /// Leaves the rows that may be among the k nearest of those seen so far: no score is further from the exact
    /// one than `error` of the k-th score, so a row above that by twice the error cannot be nearer.
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
        // Many rows within the bound, such as equal ones, must not be sorted out again at every further one.
        self.room = self.room.max(2 * self.rows.len());
    }
}
