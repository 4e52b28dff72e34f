//! The boundary between the training loops, which are written once, and the two engines that compute:
//! `reference` and `fast`. An engine owns its parameters and its optimiser's state. It decides nothing
//! that a reader of results would have to know: batches, their order, learning rates and when to stop
//! come from the loops, initial values and dropout masks from functions that both engines share.

use super::parameters::{MODEL, ParameterSet};
use super::pooling::Pooling;
use crate::ModelError;

/// The stage of ELMo's training, in records and errors.
pub(crate) const PRETRAINING: &str = "elmo_pretraining";
/// The stage of the classifier's training.
pub(crate) const TRAINING: &str = "classifier_training";

/// The stage of a byte transformer's pre-training.
pub(crate) const MASKED_PRETRAINING: &str = "masked_pretraining";

/// What is wrong with the place where a loss stops being finite.
pub(crate) const NOT_FINITE: &str = "makes a loss that is not finite";

/// What is wrong with a parameter whose gradient stops being finite.
pub(crate) const GRADIENT_NOT_FINITE: &str = "has a gradient that is not finite";

/// What to do about a training of the paper's model that diverged.
const REMEDY: &str = "lower the learning rate or clip_norm, or use activation = \"tanh\"";

/// Training left the finite numbers in the step at hand: `place`, a layer or parameter, `what` is wrong with it.
pub(crate) fn diverged(stage: &str, place: &str, what: &str) -> ModelError {
    ModelError::Diverged {
        model: MODEL.to_owned(),
        stage: stage.to_owned(),
        place: place.to_owned(),
        problem: format!("it {what}; {REMEDY}"),
    }
}

/// The same error of another model, which has neither clipping nor a choice of activation.
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

/// What an optimiser knows beside the parameters, by their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct OptimiserState {
    /// Steps taken.
    pub steps: u64,
    /// Running mean of gradients.
    pub first: ParameterSet,
    /// Running mean of squared gradients.
    pub second: ParameterSet,
    /// The averaged parameters after at least one step; empty where weights are not averaged.
    pub average: ParameterSet,
}

/// A summed loss and the number of targets that it is over.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct BatchLoss {
    /// Sum of the cross-entropies, in nats; of the classifier, its loss times the targets.
    pub sum: f64,
    /// Number of targets.
    pub targets: u64,
}

impl BatchLoss {
    /// Mean loss per target; not a number where there is no target.
    pub(crate) fn mean(&self) -> f64 {
        self.sum / self.targets as f64
    }

    /// Adds the targets of another batch.
    pub(crate) fn add(&mut self, other: Self) {
        self.sum += other.sum;
        self.targets += other.targets;
    }
}

/// What can be put aside in the middle of a training, and taken up again.
pub(crate) trait Resumable {
    /// The parameters and running statistics as they are now.
    fn parameters(&self) -> ParameterSet;

    /// Puts parameters and running statistics back; the optimiser's state stays.
    fn set_parameters(&mut self, parameters: &ParameterSet) -> Result<(), ModelError>;

    /// What training continues from, beside parameters and running statistics.
    fn optimiser_state(&mut self) -> OptimiserState;

    /// Continues from there.
    fn set_optimiser_state(&mut self, state: &OptimiserState) -> Result<(), ModelError>;
}

/// Turns packets into vectors.
pub(crate) trait PacketEncoder {
    /// The pooled vectors of `tokens`, shape `[packets, M]`, without dropout, into `output`, shape
    /// `[packets, layers + 1, 2, slots, hidden]`.
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
    /// One optimiser step on `tokens`, shape `[packets, M]`: padding at the end of a row only, every row has
    /// at least one byte. M may be less than the model's, and differ from call to call. A batch without a
    /// single target (all packets are one byte long) changes nothing, and its loss is over no targets.
    fn train_step(&mut self, tokens: &[u16], packets: usize, learning_rate: f32) -> Result<BatchLoss, ModelError>;

    /// The loss of `tokens`, shape `[packets, M]`, without training and without dropout.
    fn loss(&mut self, tokens: &[u16], packets: usize) -> Result<BatchLoss, ModelError>;
}

/// The encoded packets of some flows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PacketBatch<'a> {
    /// Encoded packets, shape `[packets, layers + 1, 2 * slots * hidden]`.
    pub layers: &'a [f32],
    /// Which of them the flows have; none where `layers` is `[flows, N, layers + 1, 2 * slots * hidden]` itself.
    pub picked: Option<Picked<'a>>,
    /// True packets of each flow, 1 to N; they come first, and nothing behind them is read.
    pub counts: &'a [u32],
    /// What stands beside the packets' vectors, shape `[flows, N, columns]`; empty where nothing does.
    pub metadata: &'a [f32],
    /// Slots of each encoded packet that have bytes, at least one; empty where pooling leaves no slots.
    pub slots: &'a [u32],
}

/// The packets of a batch among those of all flows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Picked<'a> {
    /// The place of each packet, shape `[flows, N]`.
    pub places: &'a [u32],
    /// Names the table that they are picked from: what was copied to a device under this name is still the same.
    pub table: u64,
}

impl<'a> PacketBatch<'a> {
    /// Flows whose packets are `layers`, shape `[flows, N, layers + 1, 2 * slots * hidden]`.
    #[cfg(test)]
    pub(crate) fn whole(layers: &'a [f32], counts: &'a [u32]) -> Self {
        Self { layers, picked: None, counts, metadata: &[], slots: &[] }
    }

    /// N, where a packet has `size` values.
    ///
    /// # Errors
    /// Packets that do not fill the batch, or places that no packet has.
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
        let problem = format!("a batch of {flows} flows whose packets do not fill it");
        Err(ModelError::Data { model: MODEL.to_owned(), problem })
    }

    /// Where a flow's packet stands in `layers`; `most` is N.
    pub(crate) fn place(&self, most: usize, flow: usize, packet: usize) -> usize {
        let place = flow * most + packet;
        self.picked.map_or(place, |picked| picked.places[place] as usize)
    }
}

/// The packets of some flows, as bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByteBatch<'a> {
    /// The true packets of all flows, one flow after the other, shape `[packets, M]`; as of
    /// [`LanguageModel::train_step`].
    pub tokens: &'a [u16],
    /// True packets of each flow, at most N. A flow without any is read as one packet whose vector is 0.
    pub counts: &'a [u32],
    /// As of [`PacketBatch::metadata`].
    pub metadata: &'a [f32],
    /// N.
    pub most: usize,
    /// How packets are pooled.
    pub pooling: Pooling,
}

impl ByteBatch<'_> {
    /// Packets of all flows.
    pub(crate) fn packets(&self) -> usize {
        self.counts.iter().map(|&count| count as usize).sum()
    }
}

/// Pre-training by the reconstruction of what is hidden: rows of a network whose branch has both marks and whose last layer gives
/// what the first one reads.
pub(crate) trait MaskedModel: Resumable {
    /// One optimiser step; the loss is the squared errors of the hidden values before it. A batch without any changes nothing.
    fn train_step(&mut self, rows: &[f32], learning_rate: f32) -> Result<BatchLoss, ModelError>;

    /// The loss without training and without dropout.
    fn loss(&mut self, rows: &[f32]) -> Result<BatchLoss, ModelError>;
}

/// The classifier over a flow's encoded packets.
pub(crate) trait SequenceClassifier: Resumable {
    /// What the flows of each class count in the loss from now on; all count 1 until then.
    ///
    /// # Errors
    /// Not one weight for each class.
    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError>;

    /// One optimiser step; `labels` has one class per flow. The loss is that before the step, as of [`super::loss::Loss`].
    fn train_step(
        &mut self,
        batch: &PacketBatch<'_>,
        labels: &[u32],
        learning_rate: f32,
    ) -> Result<BatchLoss, ModelError>;

    /// Class probabilities into `output`, shape `[flows, classes]`: running statistics in the
    /// normalisation, no dropout.
    fn probabilities(&mut self, batch: &PacketBatch<'_>, output: &mut [f32]) -> Result<(), ModelError>;

    /// Makes the running statistics those of this batch and of the batches before, of `before` rows in all, with the
    /// weights as they are and without dropout: means over rows of each batch's mean and unbiased variance. Gives the rows of
    /// this batch: packets, or the LSTM's steps where a packet has several.
    fn collect_statistics(&mut self, batch: &PacketBatch<'_>, before: u64) -> Result<u64, ModelError>;

    /// The layers with a rectifier that gave nothing but 0 in the last training step: no gradient passes them.
    fn dead_layers(&mut self) -> Vec<&'static str>;
}

/// The classifier and its ELMo, trained together. Parameters are those of both, without the language model's head.
pub(crate) trait JointClassifier: Resumable + PacketEncoder {
    /// As of [`SequenceClassifier::set_class_weights`].
    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError>;

    /// As of [`SequenceClassifier::train_step`], from the packets' bytes; layers of the ELMo learn at their
    /// own rates ([`super::parameters::rate_factors`]), and the gradient is clipped as a whole.
    fn train_step(
        &mut self,
        batch: &ByteBatch<'_>,
        labels: &[u32],
        learning_rate: f32,
    ) -> Result<BatchLoss, ModelError>;

    /// As of [`SequenceClassifier::probabilities`], of packets that [`PacketEncoder::encode`] encoded.
    fn probabilities(&mut self, batch: &PacketBatch<'_>, output: &mut [f32]) -> Result<(), ModelError>;

    /// As of [`SequenceClassifier::collect_statistics`], of packets that [`PacketEncoder::encode`] encoded.
    fn collect_statistics(&mut self, batch: &PacketBatch<'_>, before: u64) -> Result<u64, ModelError>;

    /// As of [`SequenceClassifier::dead_layers`].
    fn dead_layers(&mut self) -> Vec<&'static str>;
}

/// A network over rows of numbers.
pub(crate) trait NetworkClassifier: Resumable {
    /// As of [`SequenceClassifier::set_class_weights`].
    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError>;

    /// As of [`SequenceClassifier::train_step`]; `rows` has the columns of each flow, one flow after the other.
    fn train_step(&mut self, rows: &[f32], labels: &[u32], learning_rate: f32) -> Result<BatchLoss, ModelError>;

    /// As of [`SequenceClassifier::probabilities`].
    fn probabilities(&mut self, rows: &[f32], output: &mut [f32]) -> Result<(), ModelError>;

    /// As of [`SequenceClassifier::dead_layers`].
    fn dead_layers(&mut self) -> Vec<String>;
}

/// Decay of Adam's first moment (Kingma and Ba 2015; all constants here are PyTorch's defaults). Double
/// precision, because `1 - decay` is computed in it and then rounded, as PyTorch does: in single precision
/// `1 - 0.999` is off by 5e-5.
pub(crate) const ADAM_BETA_1: f64 = 0.9;
/// Decay of Adam's second moment.
pub(crate) const ADAM_BETA_2: f64 = 0.999;
/// Added to the root of Adam's second moment.
pub(crate) const ADAM_EPSILON: f64 = 1e-8;
/// Added to the norm that a gradient is clipped by, as `torch.nn.utils.clip_grad_norm_` does: gradients are
/// multiplied by `min(1, clip / (norm + epsilon))`.
pub(crate) const CLIP_EPSILON: f32 = 1e-6;
/// Added to a variance before its root.
pub(crate) const NORM_EPSILON: f32 = 1e-5;
/// Weight of a new batch in the running mean and variance. The running variance takes the unbiased variance,
/// `biased * rows / max(rows - 1, 1)`: of a single row it is 0, where PyTorch refuses.
pub(crate) const NORM_MOMENTUM: f32 = 0.1;

/// What the newest of `steps` weights counts in their exponential average, which is moved by this share of its distance
/// to them: `(1 - decay) / (1 - decay^steps)`. The denominator corrects the bias towards where the average began, as
/// Adam does for its moments; after the first step the average is the weights themselves.
pub(crate) fn average_share(decay: f32, steps: u64) -> f32 {
    let decay = f64::from(decay);
    ((1.0 - decay) / (1.0 - decay.powf(steps as f64))) as f32
}

/// What a batch of `rows` counts in statistics over it and `before` other rows.
pub(crate) fn statistics_share(rows: u64, before: u64) -> f32 {
    (rows as f64 / (before + rows) as f64) as f32
}

/// Where dropout is applied; part of what a mask is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DropoutPlace {
    /// ELMo: the states of this direction (0 forward, 1 backward) and layer, as the next layer or the head
    /// reads them; index over `[packets, M of the batch, hidden]`.
    Elmo {
        /// 0 forward, 1 backward.
        direction: u32,
        /// From 0.
        layer: u32,
    },
    /// Classifier: the mixed packet vectors; index over `[flows, N, 2 * slots * hidden + metadata]`.
    Packets,
    /// Classifier: the dense layer after its activation; index over `[flows, dense]`.
    Dense,
    /// A network: its dropout layer of this number, from 0; index over `[flows, steps, channels]`.
    Layer(u32),
}

/// What an activation is multiplied by under dropout: 0, or `1 / (1 - rate)`. A function of its arguments
/// alone (SplitMix64's finaliser over a counter), so both engines, at any number of threads, drop the same.
///
/// `seed` is the run's seed for the purpose "dropout", `step` counts the calls of `train_step` from 0,
/// `index` is the row-major position in the tensor that `place` names.
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

/// The part of [`dropout_factor`] that is the same at every index.
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
