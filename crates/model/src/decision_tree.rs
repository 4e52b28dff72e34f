//! A single decision tree, a sanity row.
//!
//! `fast` is one tree of this project's forest, grown on all rows without bootstrap with every column at
//! every node. `reference` is `linfa-trees`: it counts classes in maps with a random order, so between equal
//! splits its choice may change from run to run; a model file holds the tree itself, which predicts the
//! same bits.

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_trees::{DecisionTree as LinfaTree, TreeNode};
use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};

use super::class_weights::ClassWeights;
use super::classical::{Algorithm, AlgorithmMemory, Classical, MatrixSize, Rows};
use super::input::{Encoding, InputOptions, data};
use super::memory::{ROWS, TOKENS, matrix};
use super::random_forest::Trees;
use super::random_forest::tree::{self, Limits, Node, Tree};
use super::{ExpectedMemory, FitContext, FitReport, Implementation, Input, ModelArchive, ModelEntry, ModelError};
use etcbench_storage::progress::Progress;
use etcbench_storage::seed;

/// A decision tree behind the trait of all models.
type DecisionTree = Classical<SingleTree>;

/// The model in the table of models.
pub(super) static ENTRY: ModelEntry =
    ModelEntry { version: 6, ..DecisionTree::entry("A single decision tree, a sanity row.") };

/// `[model.decision_tree]`. Defaults are scikit-learn's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TreeParameters {
    /// Largest depth; by default without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_depth: Option<usize>,
    /// A node with fewer rows is not split; default 2.
    pub minimum_samples_split: usize,
    /// No leaf has fewer rows; default 1.
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
            return Err("`maximum_depth` is 0, which splits nothing; it must be at least 1".to_owned());
        }
        if parameters.minimum_samples_split < 2 {
            return Err("`minimum_samples_split` must be at least 2".to_owned());
        }
        if parameters.minimum_samples_leaf < 1 {
            return Err("`minimum_samples_leaf` must be at least 1".to_owned());
        }
        if implementation == Implementation::Reference && !parameters.class_weights.is_none() {
            return Err("`class_weights`: the reference implementation does not have it; use `fast`".to_owned());
        }
        parameters.class_weights.check()
    }

    fn input(_: &TreeParameters, input: Input) -> InputOptions {
        InputOptions { input, encoding: Encoding::Tokens, log_scale: false, standardise: false }
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
            return linfa_tree(parameters, &training).map(Self);
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

fn linfa_tree(parameters: &TreeParameters, training: &Rows) -> Result<Trees, ModelError> {
    let targets: Array1<usize> = training.targets.iter().map(|&target| target as usize).collect();
    let fitted = LinfaTree::<f32, usize>::params()
        .max_depth(parameters.maximum_depth)
        .min_weight_split(parameters.minimum_samples_split as f32)
        .min_weight_leaf(parameters.minimum_samples_leaf as f32)
        .fit(&Dataset::new(training.matrix.clone(), targets))
        .map_err(|error| data(SingleTree::NAME, format!("linfa-trees: {error}")))?;
    let mut tree = Tree::default();
    flatten(fitted.root_node(), training.classes, &mut tree);
    let mut importances = vec![0.0; training.matrix.ncols()];
    for (importance, decrease) in importances.iter_mut().zip(fitted.mean_impurity_decrease()) {
        *importance = f64::from(decrease);
    }
    Ok(Trees { trees: vec![tree], classes: training.classes, importances, permutation_importances: Vec::new() })
}

/// Appends a node and all below it, in preorder; a leaf's shares are 1 for its class.
fn flatten(node: &TreeNode<f32, usize>, classes: usize, tree: &mut Tree) {
    let index = tree.nodes.len();
    let mut children = node.children().into_iter().flatten();
    match (node.prediction(), children.next(), children.next()) {
        (None, Some(left), Some(right)) => {
            let (column, threshold, _) = node.split();
            tree.nodes.push(Node { column: column as u32, threshold, right: 0 });
            flatten(left, classes, tree);
            tree.nodes[index].right = tree.nodes.len() as u32;
            flatten(right, classes, tree);
        }
        (prediction, ..) => {
            tree.push_leaf(classes);
            let start = tree.shares.len();
            tree.shares.resize(start + classes, 0.0);
            tree.shares[start + prediction.unwrap_or(0)] = 1.0;
        }
    }
}
