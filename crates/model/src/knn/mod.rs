//! k-nearest neighbours: the nearest training rows vote, uniformly or by the inverse of their distance. Tied votes go
//! to the lowest class, equal distances to the lower training row.
//!
//! A probability is a share of the votes. With `weights = "distance"`, neighbours at distance 0 outvote all others, as
//! in scikit-learn.
//!
//! `fast` searches by blocked matrix products and measures candidates exactly; `reference` queries an index of
//! `linfa-nn`. The same code counts the votes.

mod distance;
mod distances;
#[cfg(feature = "reference")]
mod reference;
#[cfg(not(feature = "reference"))]
#[path = "reference_left_out.rs"]
mod reference;
mod search;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use self::distance::{Distance, DistanceRows};
pub use self::distances::neighbour_distances;
use self::search::Neighbour;
use super::classical::{Algorithm, AlgorithmMemory, Classical, MatrixSize, ReferenceLimit, Rows};
use super::input::{Encoding, InputOptions, data};
use super::memory::{ROWS, TOKENS, matrix};
use super::sequence_scaling::SequenceScaling;
use super::{
    AgreementBound, ExpectedMemory, FitContext, FitReport, Implementation, Input, ModelArchive, ModelEntry, ModelError,
    parameters, stored,
};
use etcbench_storage::progress::Progress;

/// k-nearest neighbours as a [`Classical`] model.
type Knn = Classical<Neighbours>;

/// The model's entry in the table of models.
pub(super) static ENTRY: ModelEntry = ModelEntry {
    version: 6,
    agreement: Some(AgreementBound {
        agreement: 0.99,
        macro_f1: 0.01,
        reason: "the same neighbours except at equal distances",
    }),
    sequences: |table, sequences| {
        let parameters: KnnParameters = parameters::parse(Neighbours::NAME, table)?;
        let scaling = parameters.sequence_scaling();
        scaling.check(sequences).map_err(|problem| parameters::refused(Neighbours::NAME, problem))
    },
    ..Knn::entry("k-nearest neighbours.")
};

/// A scale that replaces standardising the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scaling {
    /// For packet sequences: see [`SequenceScaling::TransferLearning`].
    TransferLearning,
}

/// The weight of a neighbour's vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Weights {
    /// 1.
    Uniform,
    /// 1 / distance.
    Distance,
}

/// `[model.knn]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct KnnParameters {
    /// Number of neighbours; default 5.
    pub k: usize,
    /// `uniform` (default) or `distance`.
    pub weights: Weights,
    /// `euclidean` (default), `manhattan` or `cosine`.
    pub distance: Distance,
    /// Whether columns are standardised on the training rows. By default, they are unless only bytes are read: bytes
    /// already share one scale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standardise: Option<bool>,
    /// Whether statistics are transformed by the signed logarithm first; default true.
    pub log_scale: bool,
    /// `transfer_learning` for the scale of that study, if only packet sequences are read; unset by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
}

impl KnnParameters {
    fn sequence_scaling(&self) -> SequenceScaling {
        match self.scaling {
            Some(Scaling::TransferLearning) => SequenceScaling::TransferLearning,
            None => SequenceScaling::AsMade,
        }
    }
}

impl Default for KnnParameters {
    fn default() -> Self {
        Self {
            k: 5,
            weights: Weights::Uniform,
            distance: Distance::Euclidean,
            standardise: None,
            log_scale: true,
            scaling: None,
        }
    }
}

/// The stored training rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Neighbours {
    parameters: KnnParameters,
    implementation: Implementation,
    matrix: Array2<f32>,
    targets: Vec<u32>,
    classes: usize,
}

impl Algorithm for Neighbours {
    type Parameters = KnnParameters;
    const NAME: &'static str = "knn";
    const REFERENCE_LIMIT: Option<ReferenceLimit> = Some(ReferenceLimit {
        library: "linfa-nn",
        rows: 50_000,
        of_two_classes: false,
        reason: "it visits every row twice for each query, on one thread",
    });

    fn check(parameters: &KnnParameters, _: Implementation) -> Result<(), String> {
        if parameters.k == 0 { Err("`k` is 0; it must be at least 1".to_owned()) } else { Ok(()) }
    }

    fn check_input(parameters: &KnnParameters, input: Input) -> Result<(), String> {
        let KnnParameters { scaling: Some(_), standardise, .. } = parameters else { return Ok(()) };
        match (input, standardise) {
            (Input::SequencesAndStatistics, _) => {
                Err("`scaling` = \"transfer_learning\" supports packet sequences alone; use \
                                                       input = \"sequences\""
                    .to_owned())
            }
            (Input::Sequences, Some(true)) => {
                Err("`scaling` and `standardise` exclude each other; remove one of them".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn input(parameters: &KnnParameters, input: Input) -> InputOptions {
        let scaled = input == Input::Sequences && parameters.scaling.is_some();
        InputOptions {
            encoding: Encoding::Scaled,
            log_scale: parameters.log_scale,
            standardise: !scaled && parameters.standardise.unwrap_or(input != Input::Bytes),
            sequence_scaling: if scaled { parameters.sequence_scaling() } else { SequenceScaling::AsMade },
            ..InputOptions::plain(input)
        }
    }

    fn fit(
        parameters: &KnnParameters,
        implementation: Implementation,
        training: Rows,
        _: Option<Rows>,
        _: &FitContext<'_>,
        _: &mut FitReport,
    ) -> Result<Self, ModelError> {
        if parameters.k > training.targets.len() {
            return Err(data(
                Self::NAME,
                format!(
                    "k = {} neighbours requested, but there are only {} training rows; lower `k`",
                    parameters.k,
                    training.targets.len()
                ),
            ));
        }
        Ok(Self {
            parameters: parameters.clone(),
            implementation,
            matrix: training.matrix,
            targets: training.targets,
            classes: training.classes,
        })
    }

    fn memory(_: &KnnParameters, implementation: Implementation, size: &MatrixSize) -> AlgorithmMemory {
        let fitted = ExpectedMemory::default().and(TOKENS, size.matrix(4)).and(ROWS, matrix(size.rows, 1, 16));
        let fitted = match implementation {
            Implementation::Fast => fitted.and(ROWS, (size.threads << 20) as f64),
            // The index stores the rows in 64 bits.
            Implementation::Reference => fitted.and(TOKENS, size.matrix(8)),
        };
        AlgorithmMemory { fitting: ExpectedMemory::default(), fitted }
    }

    fn predict(&self, matrix: &Array2<f32>, progress: &dyn Progress) -> Result<Array2<f32>, ModelError> {
        progress.begin("knn", matrix.nrows() as u64);
        let k = self.parameters.k;
        let vote = |neighbours: &[Neighbour]| self.vote(neighbours);
        let shares = match self.implementation {
            Implementation::Fast => {
                let rows = DistanceRows::new(self.matrix.as_slice().expect("row-major"), self.matrix.ncols());
                search::nearest(
                    self.parameters.distance,
                    matrix.as_slice().expect("row-major"),
                    &rows,
                    matrix.ncols(),
                    k,
                    vote,
                    |queries| progress.advance(queries as u64),
                )
            }
            Implementation::Reference => reference::nearest(self.parameters.distance, matrix, &self.matrix, k, vote)
                .map_err(|error| data(Self::NAME, format!("linfa-nn: {error}")))?,
        };
        progress.end();
        let mut probabilities = Array2::zeros((matrix.nrows(), self.classes));
        for (mut row, shares) in probabilities.outer_iter_mut().zip(shares) {
            row.iter_mut().zip(shares).for_each(|(probability, share)| *probability = share as f32);
        }
        Ok(probabilities)
    }

    fn store(&self, archive: &mut ModelArchive) -> Result<(), ModelError> {
        stored::put_matrix(archive, "training", &self.matrix);
        stored::put_u32s(archive, "training_classes", &self.targets);
        Ok(())
    }

    fn restore(
        parameters: &KnnParameters,
        implementation: Implementation,
        archive: &ModelArchive,
        columns: usize,
        classes: usize,
    ) -> Result<Self, ModelError> {
        let matrix = stored::matrix(archive, "training", columns)?;
        let targets = stored::u32s(archive, "training_classes")?.to_vec();
        if targets.len() != matrix.nrows() || targets.iter().any(|&target| target as usize >= classes) {
            return Err(stored::broken("tensor training_classes does not match the training rows"));
        }
        if parameters.k > targets.len() {
            return Err(stored::broken("there are fewer training rows than neighbours"));
        }
        if matrix.iter().any(|value| !value.is_finite()) {
            return Err(stored::broken("tensor training has a value that is not finite"));
        }
        Ok(Self { parameters: parameters.clone(), implementation, matrix, targets, classes })
    }
}

impl Neighbours {
    /// Returns each class's share of the votes.
    fn vote(&self, neighbours: &[Neighbour]) -> Vec<f64> {
        let mut votes = vec![0.0; self.classes];
        let any_at_zero = neighbours.iter().any(|neighbour| neighbour.rank == 0.0);
        for neighbour in neighbours {
            let weight = match self.parameters.weights {
                Weights::Uniform => 1.0,
                Weights::Distance if any_at_zero => f64::from(u8::from(neighbour.rank == 0.0)),
                Weights::Distance => 1.0 / self.parameters.distance.of_rank(neighbour.rank),
            };
            votes[self.targets[neighbour.row] as usize] += weight;
        }
        let total: f64 = votes.iter().sum();
        votes.iter().map(|vote| vote / total).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brute(distance: Distance, query: &[f32], rows: &[f32], depth: usize, k: usize) -> Vec<usize> {
        let mut all: Vec<(f64, usize)> =
            rows.chunks_exact(depth).enumerate().map(|(row, values)| (distance.rank(query, values), row)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        all.into_iter().take(k).map(|(_, row)| row).collect()
    }

    proptest! {
        // Few distinct values, so that equal distances are common.
        #[test]
        fn blocks_and_the_index_find_what_measuring_every_row_finds(
            rows in proptest::collection::vec(0_u8..4, 12..240),
            queries in proptest::collection::vec(0_u8..4, 3..30),
            k in 1_usize..4,
            exponent in prop_oneof![Just(0.0_f32), -3.0_f32..3.0, -25.0_f32..25.0],
        ) {
            let (depth, scale) = (3, 10.0_f32.powf(exponent));
            let values = |bytes: &[u8]| -> Vec<f32> {
                let whole = bytes.len() / depth * depth;
                bytes[..whole].iter().map(|&byte| f32::from(byte) / 3.0 * scale).collect()
            };
            let (rows, queries) = (values(&rows), values(&queries));
            for distance in [Distance::Euclidean, Distance::Manhattan, Distance::Cosine] {
                let expected: Vec<Vec<usize>> =
                    queries.chunks_exact(depth).map(|query| brute(distance, query, &rows, depth, k)).collect();
                let rows_of = |found: &[Neighbour]| found.iter().map(|n| n.row).collect::<Vec<_>>();
                let measured = DistanceRows::new(&rows, depth);
                let fast = search::nearest(distance, &queries, &measured, depth, k, rows_of, |_| ());
                prop_assert_eq!(&fast, &expected);
                let shape = |values: &[f32]| Array2::from_shape_vec((values.len() / depth, depth), values.to_vec());
                let (queries, rows) = (shape(&queries).unwrap(), shape(&rows).unwrap());
                let index = reference::nearest(distance, &queries, &rows, k, rows_of).unwrap();
                prop_assert_eq!(&index, &expected);
            }
        }
    }
    // More rows than fit in a block, columns that need several products, and duplicates across blocks.
    #[test]
    fn blocks_of_many_rows_find_what_measuring_every_row_finds() {
        let (count, depth, k) = (5000, 19, 7);
        let value = |i: usize| ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / 1e6;
        let mut rows: Vec<f32> = (0..count * depth).map(value).collect();
        for row in 0..count / 3 {
            let (from, to) = (row * depth, (count - 1 - 2 * row) * depth);
            rows.copy_within(from..from + depth, to);
        }
        let queries: Vec<f32> = (0..300 * depth).map(|i| if i % 2 == 0 { rows[i * 3] } else { value(i + 7) }).collect();
        let measured = DistanceRows::new(&rows, depth);
        for distance in [Distance::Euclidean, Distance::Manhattan, Distance::Cosine] {
            let rows_of = |found: &[Neighbour]| found.iter().map(|n| n.row).collect::<Vec<_>>();
            let found = search::nearest(distance, &queries, &measured, depth, k, rows_of, |_| ());
            for (found, query) in found.iter().zip(queries.chunks_exact(depth)) {
                assert_eq!(*found, brute(distance, query, &rows, depth, k));
            }
        }
    }
    // Far from the origin: rows that single precision cannot order, others that it can, and outliers far from all of
    // them, whose length must not loosen the smaller error bound of the near ones.
    #[test]
    fn rows_nearer_than_rounding_are_ordered_beside_outliers() {
        let (count, depth, k) = (3000, 19, 7);
        let value = |i: usize| ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / 1e7;
        let spread = |row: usize| [1e-4, 1e-2, 1.0, 1e5][if row % 500 == 7 { 3 } else { row % 3 }];
        let values: Vec<f32> = (0..count * depth).map(|i| 100.0 + spread(i / depth) * value(i)).collect();
        let (queries, rows) = values.split_at(100 * depth);
        let measured = DistanceRows::new(rows, depth);
        for distance in [Distance::Euclidean, Distance::Manhattan, Distance::Cosine] {
            let rows_of = |found: &[Neighbour]| found.iter().map(|n| n.row).collect::<Vec<_>>();
            let found = search::nearest(distance, queries, &measured, depth, k, rows_of, |_| ());
            for (found, query) in found.iter().zip(queries.chunks_exact(depth)) {
                assert_eq!(*found, brute(distance, query, rows, depth, k));
            }
        }
    }
}
