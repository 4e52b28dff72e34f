//! The k nearest training rows of every query by brute force, in blocks whose memory is bounded.

use rayon::prelude::*;

use super::distance::{Distance, DistanceRows};

/// A training row and the rank of its distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Neighbour {
    /// What neighbours are ordered by; see [`Distance::rank`].
    pub rank: f64,
    /// The training row.
    pub row: usize,
}

/// Approximate distances that one thread holds at once, and the most queries it takes.
const BLOCK_VALUES: usize = 1 << 24;
const BLOCK_QUERIES: usize = 128;

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
    let block = (BLOCK_VALUES / rows.len()).clamp(1, BLOCK_QUERIES);
    let largest_norm = Distance::largest_norm(rows);
    queries
        .par_chunks(block * depth)
        .flat_map_iter(|queries| {
            let queries = DistanceRows::new(queries, depth);
            let mut approximate = vec![0.0; queries.len() * rows.len()];
            distance.approximate(&queries, rows, &mut approximate);
            let mut ordered = Vec::with_capacity(rows.len());
            let results: Vec<T> = approximate
                .chunks_exact(rows.len())
                .enumerate()
                .map(|(query, approximate)| {
                    ordered.clear();
                    ordered.extend_from_slice(approximate);
                    let (_, &mut limit, _) = ordered.select_nth_unstable_by(k - 1, f32::total_cmp);
                    let limit = f64::from(limit);
                    // A row whose approximate rank is above the k-th by twice the error cannot be nearer.
                    // The error of a sum of absolute values grows with the sum itself.
                    let error = distance.error(query, &queries, largest_norm, limit);
                    let bound = limit + 2.0 * error + error * 1e-3;
                    let point = queries.row(query);
                    let mut candidates: Vec<Neighbour> = approximate
                        .iter()
                        .enumerate()
                        .filter(|(_, value)| f64::from(**value) <= bound)
                        .map(|(row, _)| Neighbour { rank: distance.rank(point, rows.row(row)), row })
                        .collect();
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
