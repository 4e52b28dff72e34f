//! Training of classifiers, shared by both engines: batches in a seeded order, validation after each epoch, and early
//! stopping.

mod divergence;
mod learner;
mod schedule;

use ndarray::ArrayView2;
use rand::seq::SliceRandom;

use super::checkpoint::{Best, Checkpoints, EngineState, Position};
use super::engine::{TRAINING, diverged};
use super::pace::Pace;
use super::parameters::{LearningRateSchedule, ParameterSet};
use crate::{EpochRecord, ModelError};
use divergence::{Step, check_alive};
use etcbench_evaluate::{ConfusionMatrix, argmax};
use etcbench_storage::progress::Progress;
use etcbench_storage::seed;
use schedule::learning_rate;

pub(crate) use divergence::{after_epoch, in_epoch, require_finite};
pub(crate) use learner::{Learner, OnEncodings, PREDICTION_BATCH, collect_statistics, predict, prediction_batches};

/// Arguments of the training and pre-training loops in addition to model and data.
pub(crate) struct TrainingContext<'a, 'b> {
    /// The run's seed.
    pub seed: u64,
    /// Checkpoints from which an interrupted training resumes.
    pub checkpoints: &'a mut Checkpoints<'b>,
    /// Receives every batch and epoch.
    pub progress: &'a dyn Progress,
}

pub(super) fn report_resumed(position: &Position, batches: usize, progress: &dyn Progress) {
    progress.advance((position.epochs.len() * batches + position.batches) as u64);
    let epoch = position.epochs.len() + 1;
    progress.warn(&format!("continuing from epoch {epoch}, {} of {batches} batches done", position.batches));
}

/// Settings of a classifier's training, for any classifier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TrainingOptions {
    /// Maximum number of passes over the training flows.
    pub epochs: usize,
    /// Flows per step.
    pub batch: usize,
    /// Epochs without a better validation macro F1 after which training stops.
    pub patience: usize,
    /// The learning rate at which the schedule starts, or its maximum.
    pub learning_rate: f32,
    /// The learning-rate schedule.
    pub schedule: LearningRateSchedule,
    /// Steps over which the learning rate rises to the schedule's value.
    pub warm_up_steps: usize,
    /// Whether validation and prediction use the averaged weights.
    pub averages: bool,
}

/// Trains the classifier until the macro F1 on the validation flows has not improved for `patience` epochs, then
/// restores the parameters of the best epoch; without validation flows, trains for all epochs. If weights are averaged,
/// the averages are used for validation and for the result, with running statistics recomputed over the training flows.
/// Resumes from `checkpoints` if the same training was interrupted. The labels are those of the learner's training and
/// validation flows.
///
/// # Errors
/// The training diverged, or the rectifiers of a layer are all dead.
pub(crate) fn fit_classifier(
    learner: &mut dyn Learner,
    options: &TrainingOptions,
    training: &[u32],
    validation: &[u32],
    classes: usize,
    context: TrainingContext<'_, '_>,
) -> Result<Vec<EpochRecord>, ModelError> {
    let TrainingContext { seed, checkpoints, progress } = context;
    let mut order = (0..training.len()).collect::<Vec<_>>();
    let mut shuffle = seed::generator(seed, &format!("shuffle {TRAINING}"));
    let batches = order.len().div_ceil(options.batch);
    progress.begin(TRAINING, (options.epochs * batches) as u64);
    let mut position = match checkpoints.load() {
        Some((position, engine)) => {
            learner.state().set_parameters(&engine.parameters)?;
            learner.state().set_optimiser_state(&engine.optimiser)?;
            report_resumed(&position, batches, progress);
            position
        }
        None => Position::default(),
    };
    let mut pace = Pace::new(options.epochs, order.len(), "flows", &position, options.batch);
    let mut statistics = order.clone();
    statistics.shuffle(&mut seed::generator(seed, &format!("statistics {TRAINING}")));
    let averages = options.averages;
    for epoch in 1..=options.epochs {
        order.shuffle(&mut shuffle);
        if epoch <= position.epochs.len() {
            continue;
        }
        for flows in order.chunks(options.batch).skip(position.batches) {
            let labels = flows.iter().map(|&flow| training[flow]).collect::<Vec<_>>();
            let learning_rate = learning_rate(options, epoch, position.batches, batches);
            let loss = in_epoch(learner.train_step(flows, &labels, learning_rate), TRAINING, epoch)?;
            position.trained.add(loss);
            position.batches += 1;
            let step = Step { epoch, number: position.batches, flows: flows.len(), all_flows: order.len() };
            check_alive(&learner.dead_layers(), &mut position.dead, step)?;
            progress.advance(1);
            pace.advance(flows.len(), epoch, position.trained, progress);
            checkpoints.save_if_due(&position, || {
                let state = learner.state();
                EngineState { parameters: state.parameters(), optimiser: state.optimiser_state() }
            })?;
        }
        require_finite(&learner.state().parameters(), TRAINING, epoch)?;
        let trained = std::mem::take(&mut position.trained);
        position.batches = 0;
        let mut record = EpochRecord {
            stage: TRAINING.to_owned(),
            epoch,
            training_loss: trained.mean(),
            validation_loss: None,
            validation_macro_f1: None,
        };
        if validation.is_empty() {
            progress.note(&format!("epoch {epoch}: loss {:.4}", record.training_loss));
            position.epochs.push(record);
            continue;
        }
        let to_continue = if averages { Some(use_averages(learner, &statistics)?) } else { None };
        let probabilities = learner.validate()?;
        if !probabilities.iter().all(|value| value.is_finite()) {
            let place = "the output for the validation flows";
            return in_epoch(Err(diverged(TRAINING, place, "contains numbers that are not finite")), TRAINING, epoch)
                .map(|_| Vec::new());
        }
        let loss = cross_entropy(&probabilities, validation, classes);
        let macro_f1 = macro_f1(&probabilities, validation, classes);
        record.validation_loss = Some(loss);
        record.validation_macro_f1 = Some(macro_f1);
        progress.note(&format!(
            "epoch {epoch}: loss {:.4}, validation {loss:.4}, macro F1 {macro_f1:.4}",
            record.training_loss
        ));
        position.epochs.push(record);
        if position.best.as_ref().is_none_or(|best| macro_f1 > best.score) {
            position.best = Some(Best { score: macro_f1, epoch, parameters: learner.state().parameters() });
        } else if position.best.as_ref().is_some_and(|best| epoch - best.epoch >= options.patience) {
            break;
        }
        if let Some(parameters) = to_continue {
            learner.state().set_parameters(&parameters)?;
        }
    }
    match position.best {
        Some(best) => learner.state().set_parameters(&best.parameters)?,
        None if averages => drop(use_averages(learner, &statistics)?),
        None => {}
    }
    progress.end();
    Ok(position.epochs)
}

/// Replaces the weights by their average and recomputes the running statistics: those from training belong to the
/// individual weights, and averaging statistics does not yield the statistics of averaged weights (Izmailov et al. 2018
/// recompute them too). Returns the parameters from which training continues.
fn use_averages(learner: &mut dyn Learner, order: &[usize]) -> Result<ParameterSet, ModelError> {
    let parameters = learner.state().parameters();
    let mut averaged = parameters.clone();
    averaged.extend(&learner.state().optimiser_state().average);
    learner.state().set_parameters(&averaged)?;
    learner.recompute_statistics(order)?;
    Ok(parameters)
}

/// Returns a warning if the training used all its epochs while the validation macro F1 was still rising: its mean over
/// the last tenth of the epochs exceeds that over the tenth before by more than [`RISE`].
pub(crate) fn still_rising(model: &str, epochs: &[EpochRecord], most: usize) -> Option<String> {
    let scores = epochs.iter().map(|epoch| epoch.validation_macro_f1).collect::<Option<Vec<_>>>()?;
    let width = (most / 10).max(1);
    if scores.len() < most.max(2 * width) {
        return None;
    }
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / width as f64;
    let (before, last) = scores[scores.len() - 2 * width..].split_at(width);
    let (before, last) = (mean(before), mean(last));
    (last > before + RISE).then(|| {
        format!(
            "the validation macro F1 was still rising after all {most} epochs (from a mean of {before:.3} over \
             {width} epochs to {last:.3} over the last {width}); raise model.{model}.epochs"
        )
    })
}

/// Smallest rise of the validation macro F1 that is not considered noise.
const RISE: f64 = 0.005;

/// Returns the mean cross-entropy in nats; a probability rounded to 0 counts as the smallest positive number.
fn cross_entropy(probabilities: &[f32], labels: &[u32], classes: usize) -> f64 {
    let rows = probabilities.chunks_exact(classes).zip(labels);
    let sum = rows.map(|(row, &label)| -f64::from(row[label as usize].max(f32::MIN_POSITIVE)).ln()).sum::<f64>();
    sum / labels.len() as f64
}

/// Returns the unweighted mean of F1 over the classes that occur in labels or predictions.
fn macro_f1(probabilities: &[f32], labels: &[u32], classes: usize) -> f64 {
    let rows = ArrayView2::from_shape((labels.len(), classes), probabilities).expect("a row for each label");
    let confusion = ConfusionMatrix::new(labels, &argmax(rows), classes).expect("labels are classes");
    let scores: Vec<f64> = (0..classes).filter_map(|class| confusion.class_scores(class).f1).collect();
    scores.iter().sum::<f64>() / scores.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoArtifacts;
    use crate::deep::engine::{BatchLoss, OptimiserState, PacketBatch, Resumable, SequenceClassifier};
    use crate::deep::packets::EncodedFlows;
    use etcbench_storage::progress::Silent;

    /// Options with a constant rate of 0.5.
    pub(super) fn training(epochs: usize) -> TrainingOptions {
        let schedule = LearningRateSchedule::Constant;
        let (batch, patience) = (64, 5);
        TrainingOptions { epochs, batch, patience, learning_rate: 0.5, schedule, warm_up_steps: 0, averages: false }
    }

    #[test]
    fn macro_f1_is_that_of_scikit_learn() {
        // sklearn.metrics.f1_score([0, 0, 1, 1, 2], [0, 1, 1, 1, 0], average="macro"), with four known classes
        let predictions: [usize; 5] = [0, 1, 1, 1, 0];
        let probabilities = predictions
            .iter()
            .flat_map(|&class| (0..4).map(move |index| if index == class { 0.7 } else { 0.1 }).collect::<Vec<f32>>());
        let score = macro_f1(&probabilities.collect::<Vec<_>>(), &[0, 0, 1, 1, 2], 4);
        assert!((score - 0.433_333_333).abs() < 1e-8, "{score}");
    }

    #[test]
    fn a_training_that_ends_while_it_still_learns_is_reported() {
        let warning = |scores: &[f64], most| {
            let epoch = |(index, &score): (usize, &f64)| EpochRecord {
                stage: TRAINING.to_owned(),
                epoch: index + 1,
                training_loss: 1.0,
                validation_loss: Some(1.0),
                validation_macro_f1: Some(score),
            };
            still_rising(
                crate::deep::parameters::MODEL,
                &scores.iter().enumerate().map(epoch).collect::<Vec<_>>(),
                most,
            )
        };
        let rising: Vec<f64> = (0..20).map(|epoch| f64::from(epoch) / 20.0).collect();
        assert!(
            warning(&rising, 20).unwrap().contains("(from a mean of 0.825 over 2 epochs to 0.925 over the last 2)")
        );
        assert_eq!(warning(&rising, 21), None, "training stopped early");
        let level = [0.1, 0.5, 0.7, 0.71, 0.70, 0.71, 0.70, 0.705, 0.70, 0.704];
        assert_eq!(warning(&level, 10), None);
        assert_eq!(warning(&[0.5], 1), None);
    }

    /// Predicts correctly as often as the script specifies, and records its current state.
    struct Scripted {
        /// Share of the flows that are predicted correctly, by epoch.
        script: Vec<f32>,
        epoch: usize,
        loss: f64,
        dead_from: usize,
    }

    impl SequenceClassifier for Scripted {
        fn set_class_weights(&mut self, _: &[f32]) -> Result<(), ModelError> {
            unreachable!("the loops do not weigh classes")
        }
        fn train_step(&mut self, batch: &PacketBatch<'_>, _: &[u32], _: f32) -> Result<BatchLoss, ModelError> {
            self.epoch += 1;
            Ok(BatchLoss { sum: self.loss, targets: batch.counts.len() as u64 })
        }
        fn probabilities(&mut self, batch: &PacketBatch<'_>, output: &mut [f32]) -> Result<(), ModelError> {
            let right = self.script[self.epoch - 1] * batch.counts.len() as f32;
            for (flow, row) in output.chunks_exact_mut(2).enumerate() {
                let hit = flow as f32 + 0.5 < right;
                let label = flow % 2;
                row[label] = if hit { 0.9 } else { 0.1 };
                row[1 - label] = 1.0 - row[label];
            }
            Ok(())
        }
        fn collect_statistics(&mut self, _: &PacketBatch<'_>, _: u64) -> Result<u64, ModelError> {
            unreachable!("weights are not averaged")
        }
        fn dead_layers(&mut self) -> Vec<&'static str> {
            if self.dead_from <= self.epoch { vec!["classifier.dense"] } else { Vec::new() }
        }
    }

    impl Resumable for Scripted {
        fn parameters(&self) -> ParameterSet {
            let mut set = ParameterSet::default();
            set.insert("epoch", &[1], vec![self.epoch as f32]);
            set
        }
        fn optimiser_state(&mut self) -> OptimiserState {
            OptimiserState::default()
        }
        fn set_optimiser_state(&mut self, _: &OptimiserState) -> Result<(), ModelError> {
            Ok(())
        }
        fn set_parameters(&mut self, parameters: &ParameterSet) -> Result<(), ModelError> {
            self.epoch = parameters.get("epoch", &[1])?[0] as usize;
            Ok(())
        }
    }

    fn run_from(
        script: &[f32],
        patience: usize,
        mut model: Scripted,
    ) -> (Scripted, Result<Vec<EpochRecord>, ModelError>) {
        let flows = EncodedFlows::new(1, 1, vec![1.0], &[Some(0); 10]);
        let labels = (0..10).map(|flow| flow % 2).collect::<Vec<_>>();
        let options = TrainingOptions { patience, batch: 64, ..training(script.len()) };
        let context =
            TrainingContext { seed: 0, checkpoints: &mut Checkpoints::new(&NoArtifacts, ""), progress: &Silent };
        let mut learner = OnEncodings { model: &mut model, training: &flows, validation: &flows, classes: 2 };
        let epochs = fit_classifier(&mut learner, &options, &labels, &labels, 2, context);
        (model, epochs)
    }

    fn run(script: &[f32], patience: usize, loss: f64) -> (Scripted, Result<Vec<EpochRecord>, ModelError>) {
        run_from(script, patience, Scripted { script: script.to_vec(), epoch: 0, loss, dead_from: usize::MAX })
    }

    #[test]
    fn training_stops_early_and_keeps_the_best_epoch() {
        let (model, epochs) = run(&[0.4, 0.8, 0.8, 0.6, 1.0], 2, 1.0);
        assert_eq!(epochs.unwrap().len(), 4);
        assert_eq!(model.epoch, 2);
        let (model, epochs) = run(&[0.4, 0.8, 0.8, 0.6, 1.0], 3, 1.0);
        let epochs = epochs.unwrap();
        assert_eq!((epochs.len(), model.epoch), (5, 5));
        assert_eq!(epochs[4].validation_macro_f1, Some(1.0));
        assert!(epochs[4].validation_loss.unwrap() < epochs[0].validation_loss.unwrap());
    }

    #[test]
    fn divergence_and_dead_rectifiers_are_reported_with_their_epoch() {
        for loss in [f64::NAN, f64::INFINITY] {
            let error = run(&[0.4], 2, loss).1.unwrap_err().to_string();
            assert!(error.contains("classifier_training diverged in the loss: in a step of epoch 1"), "{error}");
        }
        let script = [0.4, 0.8, 0.8, 0.6];
        let dead_from = |epoch| Scripted { script: script.to_vec(), epoch: 0, loss: 1.0, dead_from: epoch };
        assert!(run_from(&script, 9, dead_from(4)).1.is_ok());
        let error = run_from(&script, 9, dead_from(2)).1.unwrap_err().to_string();
        assert!(
            error.contains("classifier.dense") && error.contains("nothing but 0 since step 1 of epoch 2"),
            "{error}"
        );
        assert!(error.contains("in a step of epoch 3") && error.contains("lower the learning rate"), "{error}");
    }
}
