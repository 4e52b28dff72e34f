//! Trees of `hessboost` on bin numbers: their fit, and what a fitted model keeps of them.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::Boosted;
use super::bins::{Bins, Numbers};
use super::flat::FlatTrees;
use super::parameters::BoostingParameters;
use crate::classical::{Algorithm, Rows};
use crate::input::data;
use crate::{EpochRecord, FitContext, FitReport, ModelError};
use etcbench_storage::seed;
use hessboost::config::{TrainingParams, TreeMethod};
use hessboost::data::{BinnedMatrix, DMatrix};
use hessboost::metric::EvalMetric;
use hessboost::model::{BoostedModel, ImportanceType};
use hessboost::objective::{Multiclass, Objective, RegLoss};
use hessboost::training::Trainer;

/// hessboost's model on bin numbers, the bins, its trees laid out for prediction, and the importances of its columns.
pub(crate) struct SoftmaxTrees {
    /// For two classes it has one output, the second class's.
    pub(super) model: BoostedModel,
    pub(super) bins: Bins,
    pub(super) flat: FlatTrees,
    /// Each column's share of the total gain of all splits.
    pub(super) importances: Vec<f64>,
}

impl SoftmaxTrees {
    pub(super) fn new(model: BoostedModel, bins: Bins) -> Result<Self, String> {
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

pub(super) fn failed(error: &hessboost::error::HessboostError) -> ModelError {
    data(Boosted::NAME, format!("hessboost: {error}"))
}

/// Returns the number of outputs of the trees for this many classes.
pub(super) fn outputs(classes: usize) -> usize {
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
pub(super) fn softmax_trees(
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
    use ndarray::Array2;

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
        let context =
            FitContext { seed: 3, device: Device::Cpu, progress: &Silent, artifacts: &NoArtifacts, pretraining: None };
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
        let context =
            FitContext { seed: 3, device: Device::Cpu, progress: &Silent, artifacts: &NoArtifacts, pretraining: None };
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
            let context = FitContext {
                seed: 3,
                device: Device::Cpu,
                progress: &Silent,
                artifacts: &NoArtifacts,
                pretraining: None,
            };
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
