//! What is trained: a classifier with its training and validation flows, and its results for all flows, batch by batch.

use crate::ModelError;
use crate::deep::engine::{BatchLoss, PacketBatch, Resumable, SequenceClassifier};
use crate::deep::packets::EncodedFlows;

/// Flows per batch for prediction.
pub(crate) const PREDICTION_BATCH: usize = 256;

/// A classifier together with its training and validation flows.
pub(crate) trait Learner {
    /// Takes one optimiser step on these training flows; returns the loss before the step.
    fn train_step(&mut self, flows: &[usize], labels: &[u32], learning_rate: f32) -> Result<BatchLoss, ModelError>;

    /// Returns the class probabilities of all validation flows, shape `[flows, classes]`.
    fn validate(&mut self) -> Result<Vec<f32>, ModelError>;

    /// Recomputes the running statistics of the normalisations over all training flows with the current weights;
    /// `order` contains each flow once, in an order that mixes the classes. Called only if weights are averaged.
    fn recompute_statistics(&mut self, _order: &[usize]) -> Result<(), ModelError> {
        Ok(())
    }

    /// Same as [`SequenceClassifier::dead_layers`].
    fn dead_layers(&mut self) -> Vec<String>;

    /// Returns the state that checkpoints store.
    fn state(&mut self) -> &mut dyn Resumable;
}

/// A classifier that trains on flows encoded beforehand.
pub(crate) struct OnEncodings<'a> {
    /// The classifier.
    pub model: &'a mut dyn SequenceClassifier,
    /// The training flows.
    pub training: &'a EncodedFlows,
    /// The validation flows.
    pub validation: &'a EncodedFlows,
    /// Number of classes.
    pub classes: usize,
}

impl Learner for OnEncodings<'_> {
    fn train_step(&mut self, flows: &[usize], labels: &[u32], learning_rate: f32) -> Result<BatchLoss, ModelError> {
        self.training.with_batch(flows, |batch| self.model.train_step(batch, labels, learning_rate))
    }

    fn validate(&mut self) -> Result<Vec<f32>, ModelError> {
        let Self { model, validation, classes, .. } = self;
        predict(&mut |batch, output| model.probabilities(batch, output), validation, *classes, &mut |_| ())
    }

    fn recompute_statistics(&mut self, order: &[usize]) -> Result<(), ModelError> {
        collect_statistics(&mut |batch, before| self.model.collect_statistics(batch, before), self.training, order)
    }

    fn dead_layers(&mut self) -> Vec<String> {
        self.model.dead_layers().into_iter().map(str::to_owned).collect()
    }

    fn state(&mut self) -> &mut dyn Resumable {
        &mut *self.model
    }
}

/// Writes the class probabilities of a batch's flows.
type BatchProbabilities<'a> = dyn FnMut(&PacketBatch<'_>, &mut [f32]) -> Result<(), ModelError> + 'a;

/// Returns the class probabilities of all flows, shape `[flows, classes]`, using `probabilities` for each batch; calls
/// `advance` after every batch.
pub(crate) fn predict(
    probabilities: &mut BatchProbabilities<'_>,
    flows: &EncodedFlows,
    classes: usize,
    advance: &mut dyn FnMut(u64),
) -> Result<Vec<f32>, ModelError> {
    let all = (0..flows.len()).collect::<Vec<_>>();
    let mut found = vec![0.0; all.len() * classes];
    for (chosen, output) in all.chunks(PREDICTION_BATCH).zip(found.chunks_mut(PREDICTION_BATCH * classes)) {
        flows.with_batch(chosen, |batch| probabilities(batch, output))?;
        advance(1);
    }
    Ok(found)
}

/// Collects the statistics of one batch, given the number of rows before it; returns its number of rows.
type BatchStatistics<'a> = dyn FnMut(&PacketBatch<'_>, u64) -> Result<u64, ModelError> + 'a;

/// Collects the statistics of all flows in `order`, batch by batch.
pub(crate) fn collect_statistics(
    of_batch: &mut BatchStatistics<'_>,
    flows: &EncodedFlows,
    order: &[usize],
) -> Result<(), ModelError> {
    let mut rows = 0;
    for chosen in order.chunks(PREDICTION_BATCH) {
        rows += flows.with_batch(chosen, |batch| of_batch(batch, rows))?;
    }
    Ok(())
}

/// Returns the number of batches for which [`predict`] calls `advance`.
pub(crate) fn prediction_batches(flows: usize) -> u64 {
    flows.div_ceil(PREDICTION_BATCH) as u64
}
