//! The reference: neighbours from an index of the crate `linfa-nn`, in 64-bit floats.
//!
//! `linfa-nn` does not define the order of equal distances, so this queries the distance of the k-th neighbour and then
//! everything within it, and sorts the results by exact distance and row.

use linfa_nn::distance::{Distance as IndexDistance, L1Dist, L2Dist};
use linfa_nn::{LinearSearch, NearestNeighbour};
use ndarray::{Array1, Array2, ArrayView1, Axis, s};

use super::distance::{Distance, DistanceRows};
use super::search::Neighbour;

/// Calls `each` with the `k` nearest rows of every query, like [`super::search::nearest`].
///
/// # Errors
/// The errors of `linfa-nn`.
pub(super) fn nearest<T>(
    distance: Distance,
    queries: &Array2<f32>,
    rows: &Array2<f32>,
    k: usize,
    each: impl Fn(&[Neighbour]) -> T,
) -> Result<Vec<T>, String> {
    let plain = |row: ArrayView1<'_, f32>, _: bool| row.mapv(f64::from);
    match distance {
        Distance::Euclidean => search(L2Dist, distance, queries, rows, k, each, plain),
        Distance::Manhattan => search(L1Dist, distance, queries, rows, k, each, plain),
        // Between points of length 1, Euclidean and cosine distances have the same order. A row of zeros becomes a
        // separate dimension, so that it is orthogonal to everything, as defined.
        Distance::Cosine => search(L2Dist, distance, queries, rows, k, each, |row, is_query| {
            let row = row.mapv(f64::from);
            let norm = row.dot(&row).sqrt();
            let mut point = Array1::zeros(row.len() + 2);
            if norm == 0.0 {
                point[row.len() + usize::from(is_query)] = 1.0;
            } else {
                point.slice_mut(s![..row.len()]).assign(&(row / norm));
            }
            point
        }),
    }
}

fn search<D: IndexDistance<f64>, T>(
    index_distance: D,
    distance: Distance,
    queries: &Array2<f32>,
    rows: &Array2<f32>,
    k: usize,
    each: impl Fn(&[Neighbour]) -> T,
    prepare: impl Fn(ArrayView1<'_, f32>, bool) -> Array1<f64>,
) -> Result<Vec<T>, String> {
    let prepared: Vec<Array1<f64>> = rows.outer_iter().map(|row| prepare(row, false)).collect();
    let views: Vec<ArrayView1<'_, f64>> = prepared.iter().map(|point| point.view()).collect();
    let points = ndarray::stack(Axis(0), &views).map_err(|error| error.to_string())?;
    let index = LinearSearch.from_batch(&points, index_distance.clone()).map_err(|error| error.to_string())?;
    let measured = DistanceRows::new(rows.as_slice().expect("matrices are row-major"), rows.ncols());
    let mut results = Vec::with_capacity(queries.nrows());
    for query in queries.outer_iter() {
        let point = prepare(query, true);
        let found = index.k_nearest(point.view(), k).map_err(|error| error.to_string())?;
        let furthest =
            found.iter().map(|(row, _)| index_distance.distance(point.view(), row.view())).fold(0.0, f64::max);
        // Everything as near as the k-th, with a margin for rounding.
        let range = furthest * (1.0 + 1e-9) + 1e-9;
        let within = index.within_range(point.view(), range).map_err(|error| error.to_string())?;
        let query = query.as_slice().expect("matrices are row-major");
        let mut candidates: Vec<Neighbour> =
            within.iter().map(|&(_, row)| Neighbour { rank: distance.rank(query, measured.row(row)), row }).collect();
        candidates.sort_unstable_by(|a, b| a.rank.total_cmp(&b.rank).then(a.row.cmp(&b.row)));
        candidates.truncate(k);
        results.push(each(&candidates));
    }
    Ok(results)
}
