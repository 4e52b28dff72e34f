//! A single decision tree, a sanity baseline.
//!
//! `fast` is one tree of this project's forest, grown on all rows without bootstrap and with every column considered at
//! every node. `reference` is `linfa-trees`: it counts classes in maps with a random order, so its choice between equal
//! splits may change from run to run; a model file contains the tree itself, so a loaded model's predictions are
//! bit-identical.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::class_weights::ClassWeights;
use super::classical::{Algorithm, AlgorithmMemory, Classical, MatrixSize, Rows};
use super::input::InputOptions;
use super::memory::{ROWS, TOKENS, matrix};
use super::random_forest::Trees;
use super::random_forest::tree::{self, Limits};
use super::{ExpectedMemory, FitContext, FitReport, Implementation, Input, ModelArchive, ModelEntry, ModelError};
use etcbench_storage::progress::Progress;
use etcbench_storage::seed;

#[cfg(feature = "reference")]
mod reference;
#[cfg(not(feature = "reference"))]
#[path = "decision_tree/reference_left_out.rs"]
mod reference;

/// The decision tree as a [`Classical`] model.
type DecisionTree = Classical<SingleTree>;

/// The model's entry in the table of models.
pub(super) static ENTRY: ModelEntry =
    ModelEntry { version: 6, ..DecisionTree::entry("A single decision tree, a sanity baseline.") };

/// `[model.decision_tree]`. Defaults are scikit-learn's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TreeParameters {
    /// Maximum depth; unlimited by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_depth: Option<usize>,
    /// Minimum number of rows to split a node; default 2.
    pub minimum_samples_split: usize,
    /// Minimum number of rows in a leaf; default 1.
    pub minimum_samples_leaf: usize,
    /// `none` (default), `balanced` or a table of weights by class name.
    pub class_weights: ClassWeights,
}

impl Default for TreeParameters {
    fn default() -> Self {
        Self {
            maximum_depth: None,
            minimum_samples_split: 2,
            minimum_samples_leaf: 1,
            class_weights: ClassWeights::default(),
        }
    }
}

/// A fitted tree.
pub(super) struct SingleTree(Trees);

impl Algorithm for SingleTree {
    type Parameters = TreeParameters;
    const NAME: &'static str = "decision_tree";

    fn check(parameters: &TreeParameters, implementation: Implementation) -> Result<(), String> {
        if parameters.maximum_depth == Some(0) {
            return Err("`maximum_depth` is 0, which allows no split; it must be at least 1".to_owned());
        }
        if parameters.minimum_samples_split < 2 {
            return Err("`minimum_samples_split` must be at least 2".to_owned());
        }
        if parameters.minimum_samples_leaf < 1 {
            return Err("`minimum_samples_leaf` must be at least 1".to_owned());
        }
        if implementation == Implementation::Reference && !parameters.class_weights.is_none() {
            return Err("`class_weights`: not supported by the reference implementation; use `fast`".to_owned());
        }
        parameters.class_weights.check()
    }

    fn input(_: &TreeParameters, input: Input) -> InputOptions {
        InputOptions::plain(input)
    }

    fn fit(
        parameters: &TreeParameters,
        implementation: Implementation,
        training: Rows,
        _: Option<Rows>,
        context: &FitContext<'_>,
        report: &mut FitReport,
    ) -> Result<Self, ModelError> {
        if implementation == Implementation::Reference {
            report.notes.push("linfa-trees may choose differently between equal splits in another run".to_owned());
            return reference::fit(parameters, &training).map(Self);
        }
        let limits = Limits {
            depth: parameters.maximum_depth.unwrap_or(usize::MAX),
            samples_split: parameters.minimum_samples_split,
            samples_leaf: parameters.minimum_samples_leaf,
            candidates: training.matrix.ncols(),
        };
        let weights = parameters.class_weights.of(Self::NAME, &training)?;
        Ok(Self(Trees::single(&training, limits, &weights, seed::derive(context.seed, Self::NAME))))
    }

    fn memory(parameters: &TreeParameters, implementation: Implementation, size: &MatrixSize) -> AlgorithmMemory {
        let (columns, grown) = tree::memory(size, parameters.maximum_depth);
        let fitted = ExpectedMemory::default().and(ROWS, grown);
        let fitting = match implementation {
            Implementation::Fast => fitted.clone().and(TOKENS, columns).and(ROWS, matrix(size.rows, 1, 40)),
            // The matrix in 64 bits, and the order of every column.
            Implementation::Reference => fitted.clone().and(TOKENS, 2.0 * size.matrix(8)),
        };
        AlgorithmMemory { fitting, fitted }
    }

    fn predict(&self, matrix: &Array2<f32>, _: &dyn Progress) -> Result<Array2<f32>, ModelError> {
        Ok(self.0.predict(matrix))
    }

    fn store(&self, archive: &mut ModelArchive) -> Result<(), ModelError> {
        self.0.store(archive);
        Ok(())
    }

    fn restore(
        _: &TreeParameters,
        _: Implementation,
        archive: &ModelArchive,
        columns: usize,
        classes: usize,
    ) -> Result<Self, ModelError> {
        Trees::restore(archive, columns, classes).map(Self)
    }

    fn importances(&self) -> Vec<(&'static str, &[f64])> {
        vec![("impurity importances", &self.0.importances)]
    }
}
