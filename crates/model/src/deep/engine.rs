//! The interface between the training loops, which both engines share, and the two engines `reference` and `fast`. An
//! engine owns its parameters and its optimiser's state. It makes no decision that a reader of results would need to
//! know: batches, their order, learning rates and when to stop come from the loops; initial values and dropout masks
//! come from functions that both engines share.

use super::parameters::{MODEL, ParameterSet};
use super::pooling::Pooling;
use crate::ModelError;

/// Stage name of ELMo's pre-training in records and errors.
pub(crate) const PRETRAINING: &str = "elmo_pretraining";
/// Stage name of the classifier's training in records and errors.
pub(crate) const TRAINING: &str = "classifier_training";

/// Stage name of a byte transformer's pre-training in records and errors.
pub(crate) const MASKED_PRETRAINING: &str = "masked_pretraining";

/// Description of a place whose output makes the loss non-finite.
pub(crate) const NOT_FINITE: &str = "produces a loss that is not finite";

/// Description of a parameter whose gradient is not finite.
pub(crate) const GRADIENT_NOT_FINITE: &str = "has a gradient that is not finite";

/// What to do if a training of the paper's model diverges.
const REMEDY: &str = "lower the learning rate or clip_norm, or use activation = \"tanh\"";

/// Builds the error for a training that produced a non-finite number in the current step; `place` is a layer or
/// parameter and `what` describes its problem.
pub(crate) fn diverged(stage: &str, place: &str, what: &str) -> ModelError {
    ModelError::Diverged {
        model: MODEL.to_owned(),
        stage: stage.to_owned(),
        place: place.to_owned(),
        problem: format!("it {what}; {REMEDY}"),
    }
}

/// Rewrites the error for another model, which has neither gradient clipping nor a choice of activation.
pub(crate) fn of_model(error: ModelError, name: &str) -> ModelError {
    match error {
        ModelError::Diverged { stage, place, problem, .. } => {
            let problem = problem.replace(REMEDY, "lower learning_rate");
            ModelError::Diverged { model: name.to_owned(), stage, place, problem }
        }
        ModelError::Data { problem, .. } => ModelError::Data { model: name.to_owned(), problem },
        other => other,
    }
}

/// State of an optimiser in addition to the parameters, by their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct OptimiserState {
    /// Steps taken.
    pub steps: u64,
    /// Running mean of gradients.
    pub first: ParameterSet,
    /// Running mean of squared gradients.
    pub second: ParameterSet,
    /// The averaged parameters after at least one step; empty if weights are not averaged.
    pub average: ParameterSet,
}

/// A summed loss and the number of targets in the sum.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct BatchLoss {
    /// Sum of the cross-entropies in nats; for the classifier, its loss times the number of targets.
    pub sum: f64,
    /// Number of targets.
    pub targets: u64,
}

impl BatchLoss {
    /// Returns the mean loss per target, or NaN without targets.
    pub(crate) fn mean(&self) -> f64 {
        self.sum / self.targets as f64
    }

    /// Adds the loss of another batch.
    pub(crate) fn add(&mut self, other: Self) {
        self.sum += other.sum;
        self.targets += other.targets;
    }
}

/// State that can be saved in the middle of a training and restored later.
pub(crate) trait Resumable {
    /// Returns the current parameters and running statistics.
    fn parameters(&self) -> ParameterSet;

    /// Restores parameters and running statistics; the optimiser's state is unchanged.
    fn set_parameters(&mut self, parameters: &ParameterSet) -> Result<(), ModelError>;

    /// Returns the state needed to continue training in addition to parameters and running statistics.
    fn optimiser_state(&mut self) -> OptimiserState;

    /// Restores the optimiser's state.
    fn set_optimiser_state(&mut self, state: &OptimiserState) -> Result<(), ModelError>;
}

/// Encodes packets as vectors.
pub(crate) trait PacketEncoder {
    /// Writes the pooled vectors of `tokens`, shape `[packets, M]`, to `output`, shape `[packets, layers + 1, 2, slots,
    /// hidden]`; without dropout.
    fn encode(
        &mut self,
        tokens: &[u16],
        packets: usize,
        pooling: Pooling,
        output: &mut [f32],
    ) -> Result<(), ModelError>;
}

/// ELMo's pre-training.
pub(crate) trait LanguageModel: Resumable + PacketEncoder {
    /// Takes one optimiser step on `tokens`, shape `[packets, M]`: padding only at the end of a row, and at least one
    /// byte per row. M may be less than the model's and may differ between calls. A batch without targets (all packets
    /// are one byte long) changes nothing, and its loss has no targets.
    fn train_step(&mut self, tokens: &[u16], packets: usize, learning_rate: f32) -> Result<BatchLoss, ModelError>;

    /// Computes the loss of `tokens`, shape `[packets, M]`, without training and without dropout.
    fn loss(&mut self, tokens: &[u16], packets: usize) -> Result<BatchLoss, ModelError>;
}

/// The encoded packets of some flows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PacketBatch<'a> {
    /// Encoded packets, shape `[packets, layers + 1, 2 * slots * hidden]`.
    pub layers: &'a [f32],
    /// Selects the flows' packets from `layers`; `None` if `layers` is already `[flows, N, layers + 1, 2 * slots *
    /// hidden]`.
    pub picked: Option<Picked<'a>>,
    /// Packets of each flow, 1 to N. They come first; anything after them is padding and is not read.
    pub counts: &'a [u32],
    /// Packet metadata, shape `[flows, N, columns]`; empty if the model uses none.
    pub metadata: &'a [f32],
    /// Slots of each encoded packet that contain bytes, at least one; empty if the pooling kind produces no slots for
    /// the classifier.
    pub slots: &'a [u32],
}

/// Selection of a batch's packets from those of all flows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Picked<'a> {
    /// The index of each packet in `layers`, shape `[flows, N]`.
    pub places: &'a [u32],
    /// Identifies the table of encodings. A copy on a device with the same identifier is still valid.
    pub table: u64,
}

impl<'a> PacketBatch<'a> {
    /// Creates a batch of flows whose packets are `layers`, shape `[flows, N, layers + 1, 2 * slots * hidden]`.
    #[cfg(test)]
    pub(crate) fn whole(layers: &'a [f32], counts: &'a [u32]) -> Self {
        Self { layers, picked: None, counts, metadata: &[], slots: &[] }
    }

    /// Returns N if a packet has `size` values.
    ///
    /// # Errors
    /// The packets do not fill the batch, or an index is out of range.
    pub(crate) fn most(&self, size: usize) -> Result<usize, ModelError> {
        let flows = self.counts.len();
        let packets = self.layers.len() / size.max(1);
        let places = self.picked.map_or(packets, |picked| picked.places.len());
        let most = places / flows.max(1);
        let filled = flows > 0 && packets * size == self.layers.len() && most * flows == places;
        let counted = |(flow, &count): (usize, &u32)| {
            (1..=most).contains(&(count as usize))
                && (0..count as usize).all(|packet| self.place(most, flow, packet) < packets)
        };
        if filled && u32::try_from(places).is_ok() && self.counts.iter().enumerate().all(counted) {
            return Ok(most);
        }
        let problem = format!("the packets do not fill a batch of {flows} flows");
        Err(ModelError::Data { model: MODEL.to_owned(), problem })
    }

    /// Returns the index of a flow's packet in `layers`; `most` is N.
    pub(crate) fn place(&self, most: usize, flow: usize, packet: usize) -> usize {
        let place = flow * most + packet;
        self.picked.map_or(place, |picked| picked.places[place] as usize)
    }
}

/// The packets of some flows, as bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByteBatch<'a> {
    /// The packets of all flows, one flow after the other, shape `[packets, M]`; same format as in
    /// [`LanguageModel::train_step`].
    pub tokens: &'a [u16],
    /// Packets of each flow, at most N. A flow without packets counts as one packet whose vector is 0.
    pub counts: &'a [u32],
    /// Same as [`PacketBatch::metadata`].
    pub metadata: &'a [f32],
    /// N, the number of packets per flow.
    pub most: usize,
    /// How packets are pooled.
    pub pooling: Pooling,
}

impl ByteBatch<'_> {
    /// Returns the number of packets of all flows.
    pub(crate) fn packets(&self) -> usize {
        self.counts.iter().map(|&count| count as usize).sum()
    }
}

/// Pre-training by reconstruction of hidden steps. Rows are the input of a network whose branch has both marks and
/// whose last layer predicts the first layer's input.
pub(crate) trait MaskedModel: Resumable {
    /// Takes one optimiser step; the loss is the sum of squared errors of the hidden values before the step. A batch
    /// without hidden values changes nothing.
    fn train_step(&mut self, rows: &[f32], learning_rate: f32) -> Result<BatchLoss, ModelError>;

    /// Computes the loss without training and without dropout.
    fn loss(&mut self, rows: &[f32]) -> Result<BatchLoss, ModelError>;
}

/// The classifier over a flow's encoded packets.
pub(crate) trait SequenceClassifier: Resumable {
    /// Sets the weight of each class in the loss; all weights are 1 by default.
    ///
    /// # Errors
    /// The number of weights is not the number of classes.
    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError>;

    /// Takes one optimiser step; `labels` contains one class per flow. Returns the loss before the step; see
    /// [`super::loss::Loss`].
    fn train_step(
        &mut self,
        batch: &PacketBatch<'_>,
        labels: &[u32],
        learning_rate: f32,
    ) -> Result<BatchLoss, ModelError>;

    /// Writes class probabilities to `output`, shape `[flows, classes]`: normalised by running statistics, without
    /// dropout.
    fn probabilities(&mut self, batch: &PacketBatch<'_>, output: &mut [f32]) -> Result<(), ModelError>;

    /// Updates the running statistics to those of this batch and all batches before it, which had `before` rows in
    /// total, with the current weights and without dropout: averages of each batch's mean and unbiased variance,
    /// weighted by rows. Returns the number of rows of this batch: packets, or LSTM steps if a packet has several.
    fn collect_statistics(&mut self, batch: &PacketBatch<'_>, before: u64) -> Result<u64, ModelError>;

    /// Returns the layers whose rectifier output only 0 in the last training step, so that no gradient passes through
    /// them.
    fn dead_layers(&mut self) -> Vec<&'static str>;
}

/// The classifier and its ELMo, trained together. The parameters are those of both, without the language model's head.
pub(crate) trait JointClassifier: Resumable + PacketEncoder {
    /// Same as [`SequenceClassifier::set_class_weights`].
    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError>;

    /// Same as [`SequenceClassifier::train_step`], but from the packets' bytes. Layers of the ELMo have their own
    /// learning rates ([`super::parameters::rate_factors`]), and the gradient is clipped as a whole.
    fn train_step(
        &mut self,
        batch: &ByteBatch<'_>,
        labels: &[u32],
        learning_rate: f32,
    ) -> Result<BatchLoss, ModelError>;

    /// Same as [`SequenceClassifier::probabilities`], for packets encoded by [`PacketEncoder::encode`].
    fn probabilities(&mut self, batch: &PacketBatch<'_>, output: &mut [f32]) -> Result<(), ModelError>;

    /// Same as [`SequenceClassifier::collect_statistics`], for packets encoded by [`PacketEncoder::encode`].
    fn collect_statistics(&mut self, batch: &PacketBatch<'_>, before: u64) -> Result<u64, ModelError>;

    /// Same as [`SequenceClassifier::dead_layers`].
    fn dead_layers(&mut self) -> Vec<&'static str>;
}

/// A network over rows of numbers.
pub(crate) trait NetworkClassifier: Resumable {
    /// Sets the factors of the learning rate by parameter name; 1 for all at first.
    fn set_rate_factors(&mut self, factor: &dyn Fn(&str) -> f32);

    /// Same as [`SequenceClassifier::set_class_weights`].
    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError>;

    /// Same as [`SequenceClassifier::train_step`]; `rows` contains the columns of each flow, one flow after the other.
    fn train_step(&mut self, rows: &[f32], labels: &[u32], learning_rate: f32) -> Result<BatchLoss, ModelError>;

    /// Same as [`SequenceClassifier::probabilities`].
    fn probabilities(&mut self, rows: &[f32], output: &mut [f32]) -> Result<(), ModelError>;

    /// Same as [`SequenceClassifier::dead_layers`].
    fn dead_layers(&mut self) -> Vec<String>;
}

/// Decay of Adam's first moment (Kingma and Ba 2015; all constants here are PyTorch's defaults). Double precision,
/// because PyTorch computes `1 - decay` in double precision and then rounds: in single precision `1 - 0.999` is off by
/// 5e-5.
pub(crate) const ADAM_BETA_1: f64 = 0.9;
/// Decay of Adam's second moment.
pub(crate) const ADAM_BETA_2: f64 = 0.999;
/// Added to the square root of Adam's second moment.
pub(crate) const ADAM_EPSILON: f64 = 1e-8;
/// Added to the gradient norm when clipping, as in `torch.nn.utils.clip_grad_norm_`: gradients are multiplied by
/// `min(1, clip / (norm + epsilon))`.
pub(crate) const CLIP_EPSILON: f32 = 1e-6;
/// Added to a variance before its square root.
pub(crate) const NORM_EPSILON: f32 = 1e-5;
/// Weight of a new batch in the running mean and variance. The running variance uses the unbiased variance, `biased *
/// rows / max(rows - 1, 1)`, which is 0 for a single row, where PyTorch raises an error.
pub(crate) const NORM_MOMENTUM: f32 = 0.1;

/// Returns the share by which an exponential average moves towards the weights of step `steps`: `(1 - decay) / (1 -
/// decay^steps)`. The denominator corrects the bias towards the average's initial value, as Adam does for its moments;
/// after the first step the average equals the weights.
pub(crate) fn average_share(decay: f32, steps: u64) -> f32 {
    let decay = f64::from(decay);
    ((1.0 - decay) / (1.0 - decay.powf(steps as f64))) as f32
}

/// Returns the share of a batch of `rows` in statistics over it and `before` earlier rows.
pub(crate) fn statistics_share(rows: u64, before: u64) -> f32 {
    (rows as f64 / (before + rows) as f64) as f32
}

/// Where dropout is applied; an input of the random mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DropoutPlace {
    /// ELMo: the states of a direction and layer, as read by the next layer or the head; index over `[packets, M of the
    /// batch, hidden]`.
    Elmo {
        /// 0 forward, 1 backward.
        direction: u32,
        /// The layer, from 0.
        layer: u32,
    },
    /// Classifier: the mixed packet vectors; index over `[flows, N, 2 * slots * hidden + metadata]`.
    Packets,
    /// Classifier: the dense layer after its activation; index over `[flows, dense]`.
    Dense,
    /// A network: the dropout layer with this index, from 0; index over `[flows, steps, channels]`.
    Layer(u32),
}

/// Returns the factor of an activation under dropout: 0, or `1 / (1 - rate)`. It depends on the arguments only
/// (SplitMix64's finaliser over a counter), so both engines drop the same values at any number of threads.
///
/// `seed` is the run's seed for the purpose "dropout", `step` counts the calls of `train_step` from 0, and `index` is
/// the row-major index in the tensor that `place` identifies.
pub(crate) fn dropout_factor(seed: u64, step: u64, place: DropoutPlace, index: u64, rate: f32) -> f32 {
    if rate <= 0.0 {
        return 1.0;
    }
    let stream = dropout_stream(seed, step, place);
    let bits = mix(stream.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    // The upper 24 bits as a number in [0, 1), exact in f32.
    let uniform = (bits >> 40) as f32 / 16_777_216.0;
    if uniform < rate { 0.0 } else { 1.0 / (1.0 - rate) }
}

/// Computes the part of [`dropout_factor`] that does not depend on the index.
pub(crate) fn dropout_stream(seed: u64, step: u64, place: DropoutPlace) -> u64 {
    let place = match place {
        DropoutPlace::Elmo { direction, layer } => 16 + u64::from(layer) * 2 + u64::from(direction),
        DropoutPlace::Packets => 0,
        DropoutPlace::Dense => 1,
        DropoutPlace::Layer(number) => (1 << 16) + u64::from(number),
    };
    mix(mix(seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15)) ^ place)
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropout_keeps_the_mean_and_depends_on_every_argument() {
        let factor = |step, place, index| dropout_factor(7, step, place, index, 0.25);
        let mean = (0..100_000).map(|index| f64::from(factor(0, DropoutPlace::Packets, index))).sum::<f64>() / 1e5;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        let row = |step, place| (0..64).map(|index| factor(step, place, index)).collect::<Vec<_>>();
        let base = row(0, DropoutPlace::Packets);
        assert_ne!(base, row(1, DropoutPlace::Packets));
        assert_ne!(base, row(0, DropoutPlace::Dense));
        assert_ne!(
            row(0, DropoutPlace::Elmo { direction: 0, layer: 0 }),
            row(0, DropoutPlace::Elmo { direction: 1, layer: 0 })
        );
        assert_eq!(dropout_factor(7, 0, DropoutPlace::Dense, 3, 0.0), 1.0);
    }
}
