//! How far flows are from the training flows: the distance to the k-th nearest training row, in the columns that k-nearest
//! neighbours read by default (Sun et al., 2022, "Out-of-distribution detection with deep nearest neighbors", there in
//! the columns of a network's last layer).

use super::distance::{Distance, DistanceRows};
use super::search;
use super::{KnnParameters, Neighbours};
use crate::classical::Algorithm;
use crate::input::InputTransform;
use crate::{Examples, Input, ModelError};

/// Returns the Euclidean distance of every row of `queries` to its `k`-th nearest training row, or to the farthest of
/// fewer training rows. Columns are those of `input`, scaled like the training rows; standardised unless only bytes are
/// read.
///
/// # Errors
/// No training rows, no columns, features of different shapes, or a statistic that is not finite.
pub fn neighbour_distances(
    input: Input,
    training: Examples<'_>,
    queries: &[Examples<'_>],
    k: usize,
) -> Result<Vec<Vec<f64>>, ModelError> {
    const NAME: &str = "distances to training flows";
    let options = Neighbours::input(&KnnParameters::default(), input);
    let (transform, matrix) = InputTransform::fit(NAME, options, training)?;
    let depth = matrix.ncols();
    let rows = DistanceRows::new(matrix.as_slice().expect("row-major"), depth);
    let k = k.clamp(1, matrix.nrows());
    let distances_of = |query: &Examples<'_>| {
        let query = transform.apply(NAME, *query)?;
        let farthest = |found: &[search::Neighbour]| {
            found.last().map_or(f64::INFINITY, |neighbour| Distance::Euclidean.of_rank(neighbour.rank))
        };
        let query = query.as_slice().expect("row-major");
        Ok(search::nearest(Distance::Euclidean, query, &rows, depth, k, farthest, |_| ()))
    };
    queries.iter().map(distances_of).collect()
}

#[cfg(test)]
mod tests {
    use etcbench_feature::{FeatureSet, TokenArray};
    use ndarray::Array2;

    use super::*;

    /// Features of flows with one byte each.
    fn bytes(values: &[u16]) -> FeatureSet {
        let rows = values.len();
        FeatureSet {
            tokens: TokenArray { packets: 1, bytes: 1, values: values.to_vec() },
            statistics: Array2::zeros((rows, 0)),
            statistic_names: Vec::new(),
            sequences: Array2::zeros((rows, 0)),
            flowpics: Array2::zeros((rows, 0)),
            labels: vec![0; rows],
            class_names: vec!["a".to_owned()],
            provenance: Vec::new(),
        }
    }

    #[test]
    fn a_distance_is_that_to_the_kth_training_row() {
        // Bytes are scaled to [0, 1]: the row of 204 is not a training row.
        let (training, queries) = (bytes(&[0, 51, 102, 204]), bytes(&[0, 255]));
        let training = Examples { features: &training, rows: &[0, 1, 2] };
        let queries = Examples { features: &queries, rows: &[0, 1] };
        for (k, expected) in [(1, [0.0, 0.6]), (2, [0.2, 0.8]), (99, [0.4, 1.0])] {
            let found = neighbour_distances(Input::Bytes, training, &[queries, training], k).unwrap();
            assert_eq!((found.len(), found[1].len()), (2, 3));
            for (found, expected) in found[0].iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "k = {k}: {found}, expected {expected}");
            }
        }
    }
}
