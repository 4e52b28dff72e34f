//! Random forest (Breiman, "Random forests", Machine Learning 45, 2001), as defined by scikit-learn: every tree is
//! grown on a bootstrap sample of the rows, a node considers a random subset of the columns, and the forest's
//! probabilities are the mean of the class shares in the leaves that a row reaches.
//!
//! `fast` is this project's implementation; every tree has its own seed, so the number of threads does not affect the
//! result. `reference` is the forest of `smartcore`.

mod columns;
mod permutation;
#[cfg(feature = "reference")]
mod reference;
#[cfg(not(feature = "reference"))]
#[path = "reference_left_out.rs"]
mod reference;
pub(super) mod tree;

use ndarray::Array2;
use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::columns::columns;
use self::permutation::permutation_importances;
use self::reference::SmartcoreForest;
use self::tree::{Ground, LEAF, Limits, Node, Tree, grow};
use super::class_weights::ClassWeights;
use super::classical::{Algorithm, AlgorithmMemory, Classical, MatrixSize, ReferenceLimit, Rows};
use super::input::InputOptions;
use super::memory::{ROWS, TOKENS, matrix};
use super::{
    AgreementBound, ExpectedMemory, FitContext, FitReport, Implementation, Input, ModelArchive, ModelEntry, ModelError,
    stored,
};
use etcbench_storage::progress::Progress;
use etcbench_storage::seed;

/// A random forest as a [`Classical`] model.
type RandomForest = Classical<Forest>;

/// The model's entry in the table of models.
pub(super) static ENTRY: ModelEntry = ModelEntry {
    version: 6,
    usual: true,
    agreement: Some(AgreementBound {
        agreement: 0.85,
        macro_f1: 0.06,
        reason: "the same algorithm with different random numbers",
    }),
    ..RandomForest::entry("Random forest.")
};

/// How many columns a node considers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "it must be an integer, a share of the columns, \"sqrt\" or \"log2\"")]
pub(super) enum MaximumFeatures {
    /// This many.
    Count(usize),
    /// This share of the columns.
    Fraction(f64),
    /// `sqrt` or `log2` of their number.
    Named(String),
}

/// `[model.random_forest]`. Defaults are scikit-learn's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ForestParameters {
    /// Number of trees; default 100.
    pub trees: usize,
    /// Maximum depth of a tree; unlimited by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_depth: Option<usize>,
    /// Minimum number of distinct rows to split a node; default 2.
    pub minimum_samples_split: usize,
    /// Minimum number of distinct rows in a leaf; default 1.
    pub minimum_samples_leaf: usize,
    /// Columns that a node considers: `"sqrt"` (default), `"log2"`, a share (a number with a decimal point, above 0 and
    /// at most 1.0) or a count (an integer).
    pub maximum_features: MaximumFeatures,
    /// `none` (default), `balanced` or a table of weights by class name.
    pub class_weights: ClassWeights,
    /// Whether to report the accuracy on the rows that each tree did not see; default false.
    pub out_of_bag: bool,
    /// How often every column is shuffled for its permutation importance; default 0, which skips it.
    pub permutation_repeats: usize,
}

impl Default for ForestParameters {
    fn default() -> Self {
        Self {
            trees: 100,
            maximum_depth: None,
            minimum_samples_split: 2,
            minimum_samples_leaf: 1,
            maximum_features: MaximumFeatures::Named("sqrt".to_owned()),
            class_weights: ClassWeights::default(),
            out_of_bag: false,
            permutation_repeats: 0,
        }
    }
}

impl ForestParameters {
    /// Returns how many of `columns` columns a node considers; at least 1.
    fn candidates(&self, columns: usize) -> usize {
        let count = match &self.maximum_features {
            MaximumFeatures::Count(count) => *count,
            MaximumFeatures::Fraction(fraction) => (fraction * columns as f64) as usize,
            MaximumFeatures::Named(name) if name == "log2" => columns.max(1).ilog2() as usize,
            MaximumFeatures::Named(_) => columns.isqrt(),
        };
        count.clamp(1, columns.max(1))
    }
}

/// Fitted trees and their column importances.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trees {
    pub trees: Vec<Tree>,
    pub classes: usize,
    /// Mean decrease of impurity per column, normalised to sum 1 (all 0 if no tree splits).
    pub importances: Vec<f64>,
    /// Mean drop of accuracy per column when it is shuffled; empty if not requested.
    pub permutation_importances: Vec<f64>,
}

/// A fitted forest.
#[allow(clippy::large_enum_variant, reason = "there is one of these per fitted model")]
pub(super) enum Forest {
    /// This project's.
    Own(Trees),
    /// smartcore's.
    Smartcore(SmartcoreForest),
}

/// Maximum number of shuffles per column; each one runs every tree on every row that it did not see.
const MAXIMUM_REPEATS: usize = 1000;

/// Number of values in the rows that one thread predicts at once, tree after tree: these and a tree stay in the CPU
/// cache.
const BLOCK_VALUES: usize = 1 << 14;
const MINIMUM_ROWS: usize = 64;
const ROW_MAJOR: &str = "matrices are row-major";
/// Number of blocks that rows are divided into, if there are enough rows: enough for the threads of a large machine.
const BLOCKS: usize = 64;

impl Algorithm for Forest {
    type Parameters = ForestParameters;
    const NAME: &'static str = "random_forest";
    const REFERENCE_LIMIT: Option<ReferenceLimit> = Some(ReferenceLimit {
        library: "smartcore",
        rows: 20_000,
        of_two_classes: false,
        reason: "it grows its trees one after the other and sorts every column again for each",
    });

    fn check(parameters: &ForestParameters, implementation: Implementation) -> Result<(), String> {
        if parameters.trees == 0 || parameters.trees > usize::from(u16::MAX) {
            return Err(format!("`trees` is {}; it must be 1 to {}", parameters.trees, u16::MAX));
        }
        if parameters.maximum_depth == Some(0) {
            return Err("`maximum_depth` is 0, which allows no split; it must be at least 1".to_owned());
        }
        if parameters.permutation_repeats > MAXIMUM_REPEATS {
            let repeats = parameters.permutation_repeats;
            return Err(format!("`permutation_repeats` is {repeats}; it must be at most {MAXIMUM_REPEATS}"));
        }
        if parameters.minimum_samples_split < 2 {
            return Err("`minimum_samples_split` must be at least 2".to_owned());
        }
        if parameters.minimum_samples_leaf < 1 {
            return Err("`minimum_samples_leaf` must be at least 1".to_owned());
        }
        parameters.class_weights.check()?;
        match &parameters.maximum_features {
            MaximumFeatures::Count(0) => return Err("`maximum_features` must be at least 1".to_owned()),
            MaximumFeatures::Fraction(share) if !(*share > 0.0 && *share <= 1.0) => {
                return Err(format!("`maximum_features` is {share}; a share must be above 0 and at most 1.0"));
            }
            MaximumFeatures::Named(name) if name != "sqrt" && name != "log2" => {
                return Err(format!("`maximum_features` is \"{name}\"; it must be \"sqrt\", \"log2\" or a number"));
            }
            _ => {}
        }
        if implementation == Implementation::Reference {
            let absent = "not supported by the reference implementation (smartcore); use `fast` or remove it";
            if !parameters.class_weights.is_none() {
                return Err(format!("`class_weights`: {absent}"));
            }
            if parameters.out_of_bag {
                return Err(format!("`out_of_bag`: {absent}"));
            }
            if parameters.permutation_repeats > 0 {
                return Err(format!("`permutation_repeats`: {absent}"));
            }
            if parameters.maximum_depth.is_some_and(|depth| depth > usize::from(u16::MAX)) {
                return Err(format!("`maximum_depth` must be at most {} for the reference implementation", u16::MAX));
            }
        }
        Ok(())
    }

    fn input(_: &ForestParameters, input: Input) -> InputOptions {
        InputOptions::plain(input)
    }

    fn fit(
        parameters: &ForestParameters,
        implementation: Implementation,
        training: Rows,
        _: Option<Rows>,
        context: &FitContext<'_>,
        report: &mut FitReport,
    ) -> Result<Self, ModelError> {
        let seed = seed::derive(context.seed, "random_forest");
        match implementation {
            Implementation::Reference => SmartcoreForest::fit(parameters, training, seed).map(Self::Smartcore),
            Implementation::Fast => own_forest(parameters, training, seed, context, report).map(Self::Own),
        }
    }

    fn memory(parameters: &ForestParameters, implementation: Implementation, size: &MatrixSize) -> AlgorithmMemory {
        let (columns, grown) = tree::memory(size, parameters.maximum_depth);
        let trees = parameters.trees as f64;
        let fitted = ExpectedMemory::default().and("model.random_forest.trees", grown * trees);
        let fitting = match implementation {
            Implementation::Fast => {
                let growing = matrix(size.rows, size.threads, 40) + trees * size.rows as f64 / 8.0;
                fitted.clone().and(TOKENS, columns).and(ROWS, growing)
            }
            // The matrix in 64 bits, and each tree's order of every column.
            Implementation::Reference => fitted.clone().and(TOKENS, 2.0 * size.matrix(8)),
        };
        AlgorithmMemory { fitting, fitted }
    }

    fn predict(&self, matrix: &Array2<f32>, _: &dyn Progress) -> Result<Array2<f32>, ModelError> {
        match self {
            Self::Own(trees) => Ok(trees.predict(matrix)),
            Self::Smartcore(forest) => forest.predict(matrix),
        }
    }

    fn store(&self, archive: &mut ModelArchive) -> Result<(), ModelError> {
        match self {
            Self::Own(trees) => trees.store(archive),
            Self::Smartcore(forest) => forest.store(archive),
        }
        Ok(())
    }

    fn restore(
        parameters: &ForestParameters,
        implementation: Implementation,
        archive: &ModelArchive,
        columns: usize,
        classes: usize,
    ) -> Result<Self, ModelError> {
        match implementation {
            Implementation::Fast => Trees::restore(archive, columns, classes).map(Self::Own),
            Implementation::Reference => {
                SmartcoreForest::restore(parameters, archive, columns, classes).map(Self::Smartcore)
            }
        }
    }

    fn importances(&self) -> Vec<(&'static str, &[f64])> {
        let Self::Own(trees) = self else { return Vec::new() };
        let mut all: Vec<(&'static str, &[f64])> = vec![("impurity importances", &trees.importances)];
        if !trees.permutation_importances.is_empty() {
            all.push(("permutation importances (drop of out-of-bag accuracy)", &trees.permutation_importances));
        }
        all
    }
}

fn own_forest(
    parameters: &ForestParameters,
    mut training: Rows,
    seed: u64,
    context: &FitContext<'_>,
    report: &mut FitReport,
) -> Result<Trees, ModelError> {
    let columns = columns(&training.matrix);
    if !parameters.out_of_bag && parameters.permutation_repeats == 0 {
        // Trees are grown on the columns alone.
        training.matrix = Array2::zeros((0, 0));
    }
    let ground = Ground { columns: &columns, targets: &training.targets, classes: training.classes };
    let limits = Limits {
        depth: parameters.maximum_depth.unwrap_or(usize::MAX),
        samples_split: parameters.minimum_samples_split,
        samples_leaf: parameters.minimum_samples_leaf,
        candidates: parameters.candidates(columns.len()),
    };
    let class_weights = parameters.class_weights.of(Forest::NAME, &training)?;
    let rows = training.targets.len();
    context.progress.begin(Forest::NAME, parameters.trees as u64);
    let grown: Vec<(Tree, Vec<f64>, Vec<u64>)> = (0..parameters.trees)
        .into_par_iter()
        .map(|number| {
            let mut generator = seed::generator(seed, &format!("tree {number}"));
            let mut weights = vec![0.0; rows];
            let mut seen = vec![0_u64; rows.div_ceil(64)];
            for _ in 0..rows {
                let row = generator.random_range(0..rows as u64) as usize;
                weights[row] += class_weights[training.targets[row] as usize];
                seen[row / 64] |= 1 << (row % 64);
            }
            let (tree, importances) = grow(&ground, &weights, limits, generator);
            context.progress.advance(1);
            (tree, importances, seen)
        })
        .collect();
    context.progress.end();
    let mut importances = vec![0.0; columns.len()];
    let (mut trees, mut bags) = (Vec::new(), Vec::new());
    for (tree, of_tree, seen) in grown {
        let sum: f64 = of_tree.iter().sum();
        if sum > 0.0 {
            importances.iter_mut().zip(&of_tree).for_each(|(importance, own)| *importance += own / sum);
        }
        trees.push(tree);
        bags.push(seen);
    }
    normalise(&mut importances);
    let mut forest = Trees { trees, classes: training.classes, importances, permutation_importances: Vec::new() };
    if parameters.permutation_repeats > 0 {
        forest.permutation_importances =
            permutation_importances(&forest.trees, &bags, &training, parameters.permutation_repeats, seed);
    }
    if parameters.out_of_bag {
        report.notes.push(forest.out_of_bag(&training, &bags));
    }
    Ok(forest)
}

fn normalise(values: &mut [f64]) {
    let sum: f64 = values.iter().sum();
    if sum > 0.0 {
        values.iter_mut().for_each(|value| *value /= sum);
    }
}

impl Trees {
    /// Returns the mean of the leaves' class shares, shape `[rows, classes]`.
    pub(crate) fn predict(&self, matrix: &Array2<f32>) -> Array2<f32> {
        let (count, columns) = matrix.dim();
        let block = (BLOCK_VALUES / columns.max(1)).min(count / BLOCKS).max(MINIMUM_ROWS);
        let order = self.neighbours(matrix);
        let of_block = |rows: &[usize]| {
            let values: Vec<f32> =
                rows.iter().flat_map(|&row| matrix.row(row).to_slice().expect(ROW_MAJOR)).copied().collect();
            let mut sums = vec![0.0_f64; rows.len() * self.classes];
            for tree in &self.trees {
                tree.add_shares(&values, columns, &mut sums, self.classes);
            }
            let trees = self.trees.len() as f64;
            sums.into_iter().map(|sum| (sum / trees) as f32).collect::<Vec<f32>>()
        };
        let blocks: Vec<Vec<f32>> = order.par_chunks(block).map(of_block).collect();
        let mut probabilities = Array2::zeros((count, self.classes));
        for (&row, means) in order.iter().zip(blocks.iter().flat_map(|block| block.chunks_exact(self.classes))) {
            probabilities.row_mut(row).as_slice_mut().expect(ROW_MAJOR).copy_from_slice(means);
        }
        probabilities
    }

    /// Returns the rows in the order of their leaves in the first tree: similar rows also visit much the same nodes of
    /// the other trees, which then stay in the CPU cache.
    fn neighbours(&self, matrix: &Array2<f32>) -> Vec<usize> {
        let leaf = |row: usize| {
            let values = matrix.row(row);
            self.trees.first().map_or(0, |tree| tree.leaf(|column| values[column as usize]))
        };
        let mut leaves: Vec<(u32, usize)> = (0..matrix.nrows()).into_par_iter().map(|row| (leaf(row), row)).collect();
        leaves.par_sort_unstable();
        leaves.into_iter().map(|(_, row)| row).collect()
    }

    /// Returns a note with the accuracy on the training rows, each predicted by the trees that did not see it.
    fn out_of_bag(&self, training: &Rows, bags: &[Vec<u64>]) -> String {
        let verdicts: Vec<Option<bool>> = (0..training.targets.len())
            .into_par_iter()
            .map(|row| {
                let values = training.matrix.row(row);
                let values = values.as_slice().expect(ROW_MAJOR);
                let mut sums = vec![0.0_f64; self.classes];
                let mut has_votes = false;
                for (tree, seen) in self.trees.iter().zip(bags) {
                    if seen[row / 64] >> (row % 64) & 1 == 0 {
                        has_votes = true;
                        let shares = tree.shares(values, self.classes);
                        sums.iter_mut().zip(shares).for_each(|(sum, &share)| *sum += f64::from(share));
                    }
                }
                let best = (0..self.classes).fold(0, |best, class| if sums[class] > sums[best] { class } else { best });
                has_votes.then_some(best == training.targets[row] as usize)
            })
            .collect();
        let judged = verdicts.iter().flatten().count();
        let right = verdicts.iter().flatten().filter(|right| **right).count();
        if judged == 0 {
            return "out-of-bag accuracy: every tree saw every row".to_owned();
        }
        format!("out-of-bag accuracy {:.6} on {judged} of {} rows", right as f64 / judged as f64, verdicts.len())
    }

    /// Stores the trees for [`Trees::restore`].
    pub(crate) fn store(&self, archive: &mut ModelArchive) {
        let mut starts = vec![0_u32];
        let mut leaf_starts = vec![0_u32];
        let (mut columns, mut thresholds, mut right, mut shares) = (vec![], vec![], vec![], vec![]);
        for tree in &self.trees {
            columns.extend(tree.nodes.iter().map(|node| node.column));
            thresholds.extend(tree.nodes.iter().map(|node| node.threshold));
            right.extend(tree.nodes.iter().map(|node| node.right));
            shares.extend_from_slice(&tree.shares);
            starts.push(columns.len() as u32);
            leaf_starts.push((shares.len() / self.classes) as u32);
        }
        stored::put_u32s(archive, "tree_starts", &starts);
        stored::put_u32s(archive, "leaf_starts", &leaf_starts);
        stored::put_u32s(archive, "columns", &columns);
        stored::put_f32s(archive, "thresholds", &thresholds);
        stored::put_u32s(archive, "right", &right);
        stored::put_f32s(archive, "shares", &shares);
        stored::put_f64s(archive, "importances", &self.importances);
        stored::put_f64s(archive, "permutation_importances", &self.permutation_importances);
    }

    /// Restores trees and checks that every walk through them ends in a leaf.
    ///
    /// # Errors
    /// Missing or contradictory entries.
    pub(crate) fn restore(archive: &ModelArchive, columns: usize, classes: usize) -> Result<Self, ModelError> {
        let bad = || stored::broken("the arrays of the trees are inconsistent");
        let starts = stored::u32s(archive, "tree_starts")?;
        let leaf_starts = stored::u32s(archive, "leaf_starts")?;
        let node_columns = stored::u32s(archive, "columns")?;
        let thresholds = stored::f32s(archive, "thresholds")?;
        let right = stored::u32s(archive, "right")?;
        let shares = stored::f32s(archive, "shares")?;
        let importances = stored::f64s(archive, "importances")?.to_vec();
        let permutation_importances = stored::f64s(archive, "permutation_importances")?.to_vec();
        let nodes = node_columns.len();
        if !permutation_importances.is_empty() && permutation_importances.len() != columns {
            return Err(bad());
        }
        if starts.len() < 2 || starts.len() != leaf_starts.len() || importances.len() != columns {
            return Err(bad());
        }
        if thresholds.len() != nodes || right.len() != nodes {
            return Err(bad());
        }
        let mut trees = Vec::with_capacity(starts.len() - 1);
        for (bounds, leaf_bounds) in starts.windows(2).zip(leaf_starts.windows(2)) {
            let (from, to) = (bounds[0] as usize, bounds[1] as usize);
            let leaves = (leaf_bounds[0] as usize).checked_mul(classes).ok_or_else(bad)?
                ..(leaf_bounds[1] as usize).checked_mul(classes).ok_or_else(bad)?;
            if from > to || to > nodes {
                return Err(bad());
            }
            let node = |at: usize| Node { column: node_columns[at], threshold: thresholds[at], right: right[at] };
            let tree =
                Tree { nodes: (from..to).map(node).collect(), shares: shares.get(leaves).ok_or_else(bad)?.to_vec() };
            let size = tree.nodes.len();
            // Children come after their parent, so every walk ends.
            let sound = tree.nodes.iter().enumerate().all(|(place, node)| {
                let target = node.right as usize;
                if node.column == LEAF {
                    target < tree.shares.len() / classes
                } else {
                    (node.column as usize) < columns && place + 1 < size && target > place && target < size
                }
            });
            if size == 0 || !sound {
                return Err(bad());
            }
            trees.push(tree);
        }
        Ok(Self { trees, classes, importances, permutation_importances })
    }

    /// Grows a single tree on all rows without bootstrap.
    pub(crate) fn single(training: &Rows, limits: Limits, class_weights: &[f64], seed: u64) -> Self {
        let columns = columns(&training.matrix);
        let ground = Ground { columns: &columns, targets: &training.targets, classes: training.classes };
        let weights: Vec<f64> = training.targets.iter().map(|&target| class_weights[target as usize]).collect();
        let (tree, mut importances) = grow(&ground, &weights, limits, seed::generator(seed, "tree"));
        normalise(&mut importances);
        Self { trees: vec![tree], classes: training.classes, importances, permutation_importances: Vec::new() }
    }
}
