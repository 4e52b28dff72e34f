//! Gradient-boosted trees.
//!
//! `fast` uses the crate `hessboost` with histogram splits, as XGBoost with `tree_method = "hist"`: one tree per class
//! and round on the softmax cross-entropy (`multi:softprob`), or for two classes one tree per round on the logistic
//! loss (`binary:logistic`), as `XGBClassifier` also chooses. The bins are computed here (`bins.rs`). If no column has
//! more distinct values than bins, predictions match XGBoost's; otherwise XGBoost's bins differ, and a few percent of
//! the predictions differ at the same accuracy (measured in `tests/classical.rs`).
//!
//! `reference` fits one boosted regressor of `smartcore` per class against the rest, to 0 and 1 by squared error; the
//! probabilities are the softmax of the regressors' outputs. The loss differs, so accuracies are comparable but
//! probabilities are not. It does not support `l1`, `column_sample`, `maximum_bins` and `early_stopping_rounds`, and
//! its `minimum_child_weight` counts rows.

mod bins;
mod flat;
#[cfg(feature = "reference")]
mod reference;
#[cfg(not(feature = "reference"))]
#[path = "reference_left_out.rs"]
mod reference;

use std::num::NonZeroUsize;
use std::sync::Arc;

use hessboost::config::{TrainingParams, TreeMethod};
use hessboost::data::{BinnedMatrix, DMatrix};
use hessboost::metric::EvalMetric;
use hessboost::model::{BoostedModel, ImportanceType, ModelFormat};
use hessboost::objective::{Multiclass, Objective, RegLoss};
use hessboost::training::Trainer;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use self::bins::{Bins, Numbers};
use self::flat::FlatTrees;
use self::reference::OneAgainstRest;
use super::classical::{Algorithm, AlgorithmMemory, Classical, MatrixSize, ReferenceLimit, Rows};
use super::input::{InputOptions, data};
use super::memory::{ROWS, TOKENS, matrix};
use super::{
    AgreementBound, EpochRecord, ExpectedMemory, FitContext, FitReport, Implementation, Input, ModelArchive,
    ModelEntry, ModelError, stored,
};
use etcbench_storage::progress::Progress;
use etcbench_storage::seed;

/// Gradient-boosted trees as a [`Classical`] model.
type GradientBoosting = Classical<Boosted>;

/// The model's entry in the table of models.
pub(super) static ENTRY: ModelEntry = ModelEntry {
    version: 7,
    usual: true,
    agreement: Some(AgreementBound {
        agreement: 0.85,
        macro_f1: 0.08,
        reason: "a different loss: squared error of one class against the rest",
    }),
    ..GradientBoosting::entry("Gradient-boosted trees with the softmax objective.")
};

/// `[model.gradient_boosting]`. Defaults are XGBoost's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BoostingParameters {
    /// Boosting rounds; default 100.
    pub rounds: usize,
    /// Maximum depth of a tree; default 6.
    pub depth: usize,
    /// Factor applied to every tree's output; default 0.3.
    pub learning_rate: f64,
    /// Share of the rows that each tree sees; default 1.
    pub subsample: f64,
    /// Share of the columns that each tree sees; default 1.
    pub column_sample: f64,
    /// L1 penalty on leaf values; default 0.
    pub l1: f64,
    /// L2 penalty on leaf values; default 1.
    pub l2: f64,
    /// Minimum sum of second derivatives in a leaf; default 1.
    pub minimum_child_weight: f64,
    /// Minimum gain of a split; default 0.
    pub minimum_split_loss: f64,
    /// Maximum histogram bins per column; default 256. A column with no more distinct values than that is split
    /// exactly.
    pub maximum_bins: usize,
    /// Stop after this many rounds without a lower validation loss and keep the best round; unset by default, which
    /// keeps all rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping_rounds: Option<usize>,
}

impl Default for BoostingParameters {
    fn default() -> Self {
        Self {
            rounds: 100,
            depth: 6,
            learning_rate: 0.3,
            subsample: 1.0,
            column_sample: 1.0,
            l1: 0.0,
            l2: 1.0,
            minimum_child_weight: 1.0,
            minimum_split_loss: 0.0,
            maximum_bins: 256,
            early_stopping_rounds: None,
        }
    }
}

/// Maximum boosting rounds: above it the trees alone fill the memory.
const MAXIMUM_ROUNDS: usize = 100_000;

/// Fitted trees.
#[allow(clippy::large_enum_variant, reason = "there is one of these per fitted model")]
pub(super) enum Boosted {
    /// hessboost's model.
    Softmax(SoftmaxTrees),
    /// smartcore's regressors.
    OneAgainstRest(OneAgainstRest),
}

/// hessboost's model on bin numbers, the bins, its trees laid out for prediction, and the importances of its columns.
pub(super) struct SoftmaxTrees {
    /// For two classes it has one output, the second class's.
    model: BoostedModel,
    bins: Bins,
    flat: FlatTrees,
    /// Each column's share of the total gain of all splits.
    importances: Vec<f64>,
}

impl SoftmaxTrees {
    fn new(model: BoostedModel, bins: Bins) -> Result<Self, String> {
        let flat = FlatTrees::new(&model, &bins)?;
        let mut importances = vec![0.0; model.n_features()];
        for (column, gain) in model.feature_importance(ImportanceType::TotalGain) {
            importances[column] = gain;
        }
        let total: f64 = importances.iter().sum();
        if total > 0.0 {
            importances.iter_mut().for_each(|gain| *gain /= total);
        }
        Ok(Self { model, bins, flat, importances })
    }
}

impl Algorithm for Boosted {
    type Parameters = BoostingParameters;
    const NAME: &'static str = "gradient_boosting";
    const REFERENCE_LIMIT: Option<ReferenceLimit> = Some(ReferenceLimit {
        library: "smartcore",
        rows: 20_000,
        of_two_classes: false,
        reason: "it sorts every column again at every node",
    });

    fn check(parameters: &BoostingParameters, implementation: Implementation) -> Result<(), String> {
        for (name, value, most) in [("rounds", parameters.rounds, MAXIMUM_ROUNDS), ("depth", parameters.depth, 64)] {
            if value == 0 || value > most {
                return Err(format!("`{name}` is {value}; it must be 1 to {most}"));
            }
        }
        if parameters.maximum_bins < 2 || parameters.maximum_bins > 1 << 16 {
            return Err(format!("`maximum_bins` is {}; it must be 2 to 65536", parameters.maximum_bins));
        }
        for (name, value) in [("subsample", parameters.subsample), ("column_sample", parameters.column_sample)] {
            if !(value > 0.0 && value <= 1.0) {
                return Err(format!("`{name}` is {value}; it must be above 0 and at most 1"));
            }
        }
        if !(parameters.learning_rate > 0.0 && parameters.learning_rate.is_finite()) {
            return Err(format!("`learning_rate` is {}; it must be > 0", parameters.learning_rate));
        }
        for (name, value) in [
            ("l1", parameters.l1),
            ("l2", parameters.l2),
            ("minimum_child_weight", parameters.minimum_child_weight),
            ("minimum_split_loss", parameters.minimum_split_loss),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(format!("`{name}` is {value}; it must be 0 or more"));
            }
        }
        if parameters.early_stopping_rounds == Some(0) {
            return Err("`early_stopping_rounds` is 0; remove it to keep all rounds".to_owned());
        }
        if implementation == Implementation::Reference {
            let defaults = BoostingParameters::default();
            let absent = "not supported by the reference implementation (smartcore); use `fast` or remove it";
            if parameters.l1 != defaults.l1 {
                return Err(format!("`l1`: {absent}"));
            }
            if parameters.maximum_bins != defaults.maximum_bins {
                return Err(format!("`maximum_bins`: {absent}"));
            }
            if parameters.column_sample != defaults.column_sample {
                return Err(format!("`column_sample`: {absent}"));
            }
            if parameters.early_stopping_rounds.is_some() {
                return Err(format!("`early_stopping_rounds`: {absent}"));
            }
            if parameters.minimum_child_weight.fract() != 0.0 {
                return Err("`minimum_child_weight` must be an integer for the reference implementation".to_owned());
            }
        }
        Ok(())
    }

    fn input(_: &BoostingParameters, input: Input) -> InputOptions {
        InputOptions::plain(input)
    }

    fn uses_validation(_: &BoostingParameters) -> bool {
        true
    }

    fn fit(
        parameters: &BoostingParameters,
        implementation: Implementation,
        training: Rows,
        validation: Option<Rows>,
        context: &FitContext<'_>,
        report: &mut FitReport,
    ) -> Result<Self, ModelError> {
        match implementation {
            Implementation::Fast => {
                let (model, bins) = softmax_trees(parameters, training, validation, context, report)?;
                SoftmaxTrees::new(model, bins).map(Self::Softmax).map_err(|problem| data(Self::NAME, problem))
            }
            Implementation::Reference => OneAgainstRest::fit(parameters, training, context).map(Self::OneAgainstRest),
        }
    }

    fn memory(parameters: &BoostingParameters, implementation: Implementation, size: &MatrixSize) -> AlgorithmMemory {
        let outputs = outputs(size.class_counts.len().max(2));
        let trees = parameters.rounds as f64 * outputs as f64;
        let nodes = 2_f64.powi(parameters.depth as i32 + 1).min(size.rows as f64);
        let fitted = ExpectedMemory::default().and("model.gradient_boosting.rounds or depth", trees * nodes * 96.0);
        let fitting = match implementation {
            Implementation::Fast => {
                // The bin number of every value, at most two bytes each: by rows, by columns, and for the losses; two
                // 64-bit sums for every bin of the nodes that are open at once.
                let bins = size.columns as f64 * parameters.maximum_bins.min(size.rows) as f64;
                let histograms = bins * 16.0 * (parameters.depth as f64 + 6.0);
                let rows = matrix(size.rows.saturating_add(size.validation), outputs, 24);
                fitted
                    .clone()
                    .and(TOKENS, size.matrix(6))
                    .and("model.gradient_boosting.maximum_bins or depth", histograms)
                    .and(ROWS, rows)
            }
            // The matrix in 64 bits, and each tree's order of every column.
            Implementation::Reference => fitted.clone().and(TOKENS, 2.0 * size.matrix(8)),
        };
        AlgorithmMemory { fitting, fitted }
    }

    fn predict(&self, matrix: &Array2<f32>, _: &dyn Progress) -> Result<Array2<f32>, ModelError> {
        match self {
            Self::Softmax(trees) => {
                let margins = trees.flat.margins(matrix);
                let values = margins.as_slice().expect("matrices are row-major");
                let mut outputs = Array2::zeros(margins.dim());
                let target = outputs.as_slice_mut().expect("matrices are row-major");
                trees.model.transform_margins_into(values, target).map_err(|error| failed(&error))?;
                if outputs.ncols() > 1 {
                    return Ok(outputs);
                }
                let second = |row: usize| outputs[(row, 0)];
                Ok(Array2::from_shape_fn((outputs.nrows(), 2), |(row, class)| match class {
                    0 => 1.0 - second(row),
                    _ => second(row),
                }))
            }
            Self::OneAgainstRest(model) => model.predict(matrix),
        }
    }

    fn store(&self, archive: &mut ModelArchive) -> Result<(), ModelError> {
        match self {
            Self::Softmax(trees) => {
                let bytes = trees.model.encode(ModelFormat::Binary).map_err(|error| failed(&error))?;
                archive.tensors.insert("hessboost".to_owned(), super::Tensor::u8(bytes));
                trees.bins.store(archive);
                Ok(())
            }
            Self::OneAgainstRest(model) => {
                model.store(archive);
                Ok(())
            }
        }
    }

    fn restore(
        parameters: &BoostingParameters,
        implementation: Implementation,
        archive: &ModelArchive,
        columns: usize,
        classes: usize,
    ) -> Result<Self, ModelError> {
        if implementation == Implementation::Reference {
            return OneAgainstRest::restore(parameters, archive, columns, classes).map(Self::OneAgainstRest);
        }
        let bytes = stored::bytes(archive, "hessboost")?;
        let model = BoostedModel::decode(bytes, ModelFormat::Binary)
            .map_err(|error| stored::broken(format!("tensor hessboost: {error}")))?;
        if model.n_features() != columns || model.prediction_width() != outputs(classes) {
            return Err(stored::broken("the trees have a different number of columns or classes than the file"));
        }
        let bins = Bins::restore(archive, columns)?;
        let trees =
            SoftmaxTrees::new(model, bins).map_err(|problem| stored::broken(format!("tensor hessboost: {problem}")))?;
        Ok(Self::Softmax(trees))
    }

    fn importances(&self) -> Vec<(&'static str, &[f64])> {
        match self {
            Self::Softmax(trees) => vec![("importances (share of the total gain)", &trees.importances)],
            Self::OneAgainstRest(_) => Vec::new(),
        }
    }
}

fn failed(error: &hessboost::error::HessboostError) -> ModelError {
    data(Boosted::NAME, format!("hessboost: {error}"))
}

/// Returns the number of outputs of the trees for this many classes.
fn outputs(classes: usize) -> usize {
    if classes == 2 { 1 } else { classes }
}

fn labels(rows: &Rows) -> Vec<f32> {
    rows.targets.iter().map(|&target| target as f32).collect()
}

/// Takes the values of a matrix and returns them with its numbers of rows and columns: a copy would be the largest
/// allocation.
fn whole(rows: Rows) -> (Vec<f32>, usize, usize) {
    let (count, columns) = rows.matrix.dim();
    let (values, start) = rows.matrix.into_raw_vec_and_offset();
    assert!(start.unwrap_or(0) == 0 && values.len() == count * columns, "matrices are row-major and whole");
    (values, count, columns)
}

fn labelled(rows: Rows) -> Result<DMatrix, ModelError> {
    let labels = labels(&rows);
    let (values, count, columns) = whole(rows);
    DMatrix::from_dense_vec(values, count, columns)
        .and_then(|matrix| matrix.with_labels(&labels))
        .map_err(|error| failed(&error))
}

/// Returns hessboost's bins of the numbers in a matrix, and the numbers. The matrix is dropped as soon as hessboost has
/// its bins, and the numbers are only built then: the three together would be the peak of a fit's memory.
fn binned(rows: Rows, most: usize) -> Result<(BinnedMatrix, Numbers), ModelError> {
    let labels = labels(&rows);
    let (values, count, columns) = whole(rows);
    let values = Arc::new(values);
    let bins = DMatrix::from_dense_shared(values.clone(), count, columns, f32::NAN)
        .and_then(|matrix| matrix.with_labels(&labels))
        .and_then(|matrix| BinnedMatrix::new(&matrix, most))
        .map_err(|error| failed(&error))?;
    Ok((bins, Numbers::taking(Arc::unwrap_or_clone(values), most)))
}

/// Fits with the fast implementation.
fn softmax_trees(
    parameters: &BoostingParameters,
    mut training: Rows,
    mut validation: Option<Rows>,
    context: &FitContext<'_>,
    report: &mut FitReport,
) -> Result<(BoostedModel, Bins), ModelError> {
    let bins = Bins::new(&training.matrix, parameters.maximum_bins);
    bins.number(&mut training.matrix);
    if let Some(validation) = &mut validation {
        bins.number(&mut validation.matrix);
    }
    let (objective, metric) = if outputs(training.classes) == 1 {
        (Objective::BinaryLogistic(RegLoss::default()), EvalMetric::LogLoss)
    } else {
        let classes = Multiclass::new(training.classes).map_err(|error| failed(&error))?;
        (Objective::Softprob(classes), EvalMetric::MLogLoss)
    };
    let metric_name = metric.name();
    let settings = TrainingParams::builder()
        .objective(objective)
        .eval_metric(metric)
        .tree_method(TreeMethod::Hist)
        .seed(seed::derive(context.seed, "gradient_boosting"))
        .max_depth(parameters.depth)
        .eta(parameters.learning_rate)
        .subsample(parameters.subsample)
        .colsample_bytree(parameters.column_sample)
        .alpha(parameters.l1)
        .lambda(parameters.l2)
        .min_child_weight(parameters.minimum_child_weight)
        .gamma(parameters.minimum_split_loss)
        .max_bin(parameters.maximum_bins)
        .build()
        .map_err(|error| failed(&error))?;
    let targets = training.targets.clone();
    let (rows, numbers) = binned(training, parameters.maximum_bins)?;
    let held_out = validation.map(labelled).transpose()?;
    context.progress.begin(Boosted::NAME, parameters.rounds as u64);
    let progress = context.progress;
    let mut trainer = Trainer::new(&settings, &rows, parameters.rounds);
    if let Some(held_out) = &held_out {
        trainer = trainer.eval(held_out, "validation");
    }
    if let Some(rounds) = parameters.early_stopping_rounds {
        if held_out.is_none() {
            return Err(data(
                Boosted::NAME,
                "`early_stopping_rounds` needs validation rows, but there are none; give the split a validation \
                 share or remove the key",
            ));
        }
        trainer = trainer.early_stopping_rounds(NonZeroUsize::new(rounds).expect("checked to be at least 1"));
    }
    let result = trainer
        .on_round(|_| {
            progress.advance(1);
            std::ops::ControlFlow::Continue(())
        })
        .train()
        .map_err(|error| failed(&error))?;
    context.progress.end();
    let validation_losses = result.history.series("validation", &metric_name).map(Iterator::collect::<Vec<f64>>);
    let flat = FlatTrees::of_numbers(&result.model).map_err(|problem| data(Boosted::NAME, problem))?;
    let training_losses = flat.losses(&numbers, &targets);
    for (round, training_loss) in training_losses.into_iter().enumerate() {
        report.epochs.push(EpochRecord {
            stage: Boosted::NAME.to_owned(),
            epoch: round + 1,
            training_loss,
            validation_loss: validation_losses.as_ref().map(|losses| losses[round]),
            validation_macro_f1: None,
        });
    }
    if let (Some(_), Some(best)) = (parameters.early_stopping_rounds, result.model.best_iteration()) {
        report.notes.push(format!("predicts with the first {} of {} rounds", best + 1, report.epochs.len()));
    }
    Ok((result.model, bins))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, NoArtifacts};
    use etcbench_storage::progress::Silent;
    use hessboost::model::Iterations;

    #[test]
    fn a_tree_sees_its_share_of_rows_and_columns() {
        let (rows, columns) = (400, 10);
        let value = |i: usize| ((i * 7919 + i * i % 37) % 257) as f32;
        let matrix = Array2::from_shape_fn((rows, columns), |(row, column)| value(row * columns + column));
        let targets: Vec<u32> = matrix.outer_iter().map(|row| u32::from(row.sum() > 1280.0)).collect();
        let context = FitContext { seed: 3, device: Device::Cpu, progress: &Silent, artifacts: &NoArtifacts };
        for (subsample, column_sample) in [(1.0, 1.0), (0.4, 1.0), (1.0, 0.3), (0.4, 0.3)] {
            let training = Rows {
                matrix: matrix.clone(),
                targets: targets.clone(),
                classes: 2,
                names: Vec::new(),
                sequence_columns: 0,
            };
            let parameters = BoostingParameters { rounds: 12, subsample, column_sample, ..Default::default() };
            let (model, _) = softmax_trees(&parameters, training, None, &context, &mut FitReport::default()).unwrap();
            let mut all: Vec<u32> = Vec::new();
            for tree in model.trees() {
                let splits = tree.nodes().iter().filter(|node| !node.is_leaf());
                let mut used: Vec<u32> = splits.map(|node| node.split_feature).collect();
                used.sort_unstable();
                used.dedup();
                assert!(used.len() as f64 <= column_sample * columns as f64, "{used:?}");
                all.extend(used);
            }
            all.sort_unstable();
            all.dedup();
            // Every tree draws its own columns.
            assert!(all.len() > 6, "{all:?}");
            // Before the first round, the second derivative of every row is the same, at most 1/4.
            let whole = model.trees()[0].nodes()[0].sum_hess / rows as f32;
            assert!((f64::from(whole) / 0.25 - subsample).abs() < 0.1, "{whole}");
        }
    }

    #[test]
    fn trees_can_split_at_every_bin() {
        let (values, classes) = (256_usize, 5_u32);
        let matrix = Array2::from_shape_fn((values * 3, 1), |(row, _)| (row % values) as f32 - 7.5);
        let hash = |row: usize| ((row % values) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let targets: Vec<u32> = (0..matrix.nrows()).map(|row| (hash(row) % u64::from(classes)) as u32).collect();
        let parameters =
            BoostingParameters { rounds: 30, depth: 16, minimum_child_weight: 0.0, l2: 0.01, ..Default::default() };
        let context = FitContext { seed: 3, device: Device::Cpu, progress: &Silent, artifacts: &NoArtifacts };
        let training = Rows {
            matrix: matrix.clone(),
            targets: targets.clone(),
            classes: classes as usize,
            names: Vec::new(),
            sequence_columns: 0,
        };
        let (model, bins) = softmax_trees(&parameters, training, None, &context, &mut FitReport::default()).unwrap();
        let trees = Boosted::Softmax(SoftmaxTrees::new(model, bins).unwrap());
        for (row, &target) in trees.predict(&matrix, &Silent).unwrap().outer_iter().zip(&targets) {
            assert!(row[target as usize] > 0.5, "{row} {target}");
        }
    }

    #[test]
    fn flat_trees_predict_hessboosts_bits() {
        let (rows, columns) = (403, 9);
        let value = |i: usize| ((i * 7919 + i * i % 37) % 257) as f32 - 20.0;
        let matrix = Array2::from_shape_fn((rows, columns), |(row, column)| value(row * columns + column));
        let four: Vec<u32> =
            matrix.outer_iter().map(|row| ((row[2] > 100.0) as u32) * 2 + (row[5] * row[7] > 9000.0) as u32).collect();
        for (classes, rounds, early_stopping_rounds) in [(4, 1, None), (4, 25, None), (4, 60, Some(2)), (2, 25, None)] {
            let targets: Vec<u32> = four.iter().map(|&target| target % classes).collect();
            let classes = classes as usize;
            let part = |range: std::ops::Range<usize>| Rows {
                matrix: matrix.slice(ndarray::s![range.clone(), ..]).to_owned(),
                targets: targets[range].to_vec(),
                classes,
                names: Vec::new(),
                sequence_columns: 0,
            };
            let parameters = BoostingParameters { rounds, early_stopping_rounds, depth: 5, ..Default::default() };
            let context = FitContext { seed: 3, device: Device::Cpu, progress: &Silent, artifacts: &NoArtifacts };
            let mut report = FitReport::default();
            let (model, bins) =
                softmax_trees(&parameters, part(0..300), Some(part(300..rows)), &context, &mut report).unwrap();
            let mut numbers = matrix.clone();
            bins.number(&mut numbers);
            let dense = DMatrix::from_dense(numbers.as_slice().unwrap(), rows, columns).unwrap();
            let mut wanted = model.predict(&dense, Iterations::Best).unwrap().into_vec();
            if classes == 2 {
                wanted = wanted.into_iter().flat_map(|second| [1.0 - second, second]).collect();
            }
            let all = model.predict(&dense, ..).unwrap().into_vec();
            let right = |row: usize| match (classes, targets[row]) {
                (2, 0) => 1.0 - all[row],
                (2, _) => all[row],
                (_, target) => all[row * classes + target as usize],
            };
            let loss = (0..300).map(|row| -f64::from(right(row)).ln()).sum::<f64>() / 300.0;
            assert!((report.epochs.last().unwrap().training_loss - loss).abs() < 1e-6 * loss.max(1.0));
            let trees = Boosted::Softmax(SoftmaxTrees::new(model, bins).unwrap());
            let found = trees.predict(&matrix, &Silent).unwrap();
            assert_eq!(found.dim(), (rows, classes));
            assert!(found.iter().zip(&wanted).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}
