//! The keys of `[model.attention_lstm]`: sizes of the layers, and how they are trained.

use serde::{Deserialize, Serialize};

use crate::ModelError;
use crate::class_weights::ClassWeights;
use crate::deep::pooling::{Pooling, PoolingKind};
use crate::deep::training::TrainingOptions;
use etcbench_storage::declarative::first_repeated;

/// The model's name in files and errors.
pub const MODEL: &str = "attention_lstm";

/// The embedded language model over packet bytes (Peters et al. 2018).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ElmoOptions {
    /// Size of a byte's embedding; equal to `hidden`, since the layer mix adds the two.
    pub embedding: usize,
    /// Size of one direction's state.
    pub hidden: usize,
    /// LSTM layers of each direction.
    pub layers: usize,
    /// Whether a byte's position in its packet has an embedding of its own, added to that of the byte.
    pub positions: bool,
    /// Passes over the training packets.
    pub epochs: usize,
    /// Packets per step.
    pub batch: usize,
    /// Adam's learning rate.
    pub learning_rate: f32,
    /// The largest global norm of a gradient.
    pub clip_norm: f32,
    /// Share of each layer's states that are dropped while pre-training.
    pub dropout: f32,
    /// Datasets that it is pre-trained on beside the training part.
    pub corpus: Vec<String>,
    /// The most packets that are drawn of them and the training part together.
    pub corpus_packets: usize,
    /// The file of a pre-trained ELMo, relative to the project's folder; empty where one is to be pre-trained.
    pub pretrained: String,
    /// Whether that one may have seen test and validation flows.
    pub accept_seen: bool,
}

impl Default for ElmoOptions {
    fn default() -> Self {
        Self {
            embedding: 128,
            hidden: 128,
            layers: 2,
            positions: false,
            epochs: 2,
            batch: 64,
            learning_rate: 0.001,
            clip_norm: 5.0,
            dropout: 0.0,
            corpus: Vec::new(),
            corpus_packets: 200_000,
            pretrained: String::new(),
            accept_seen: false,
        }
    }
}

impl ElmoOptions {
    /// Whether an ELMo can be trained with these.
    ///
    /// # Errors
    /// The first key with a value that is out of its range.
    pub fn validate(&self) -> Result<(), ModelError> {
        AttentionLstmOptions { elmo: self.clone(), ..AttentionLstmOptions::default() }.validate()
    }

    /// These without where its packets come from, which are known by themselves.
    pub fn without_source(&self) -> Self {
        let Self { corpus, corpus_packets, pretrained, accept_seen, .. } = Self::default();
        Self { corpus, corpus_packets, pretrained, accept_seen, ..self.clone() }
    }

    /// Checks the keys that say where its packets come from.
    fn validate_source(&self) -> Result<(), ModelError> {
        if !self.corpus.is_empty() && !self.pretrained.is_empty() {
            let text = "elmo.corpus and elmo.pretrained exclude each other: an ELMo is pre-trained on a corpus, or \
                        comes pre-trained";
            return Err(problem(text.to_owned()));
        }
        if let Some(name) = first_repeated(&self.corpus) {
            return Err(problem(format!("elmo.corpus names {name} twice; name it once")));
        }
        Ok(())
    }
}

/// Activation of the classifier's LSTM cell: it takes the place of both hyperbolic tangents, of the candidate
/// and of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Activation {
    /// `max(x, 0)`, the paper's.
    Relu,
    /// The standard cell's.
    Tanh,
}

/// How the learning rate moves over the epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LearningRateSchedule {
    /// It stays.
    Constant,
    /// Half a cosine from the full rate towards 0, per epoch (Loshchilov and Hutter 2017, without restarts).
    Cosine,
    /// Up to the full rate over the first 30 % of all steps, then down almost to 0 (Smith and Topin 2018).
    OneCycle,
}

/// Which weights validate and predict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WeightAveraging {
    /// Those of the last step.
    None,
    /// The exponential average of those after each step (Polyak and Juditsky 1992; the bias correction is Adam's).
    Exponential,
}

/// What the classifier reads a packet's bytes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encoder {
    /// The pre-trained ELMo, unchanged while the classifier trains.
    Frozen,
    /// The pre-trained ELMo, trained on together with the classifier.
    FineTuned,
    /// No pre-training: the ELMo is trained together with the classifier from its initial values.
    FromScratch,
    /// No training at all: an ELMo as it is initialised, also unchanged, that is fixed random features.
    #[serde(rename = "none")]
    Untrained,
}

impl Encoder {
    /// Whether the ELMo is trained together with the classifier.
    pub(crate) fn trains(self) -> bool {
        matches!(self, Self::FineTuned | Self::FromScratch)
    }
}

/// What becomes of packet vectors before the LSTM reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Normalisation {
    /// They are read as they are.
    None,
    /// Batch normalisation over all packets of a batch (Ioffe and Szegedy 2015), after the mix of the layers.
    Batch,
}

/// What the LSTM reads of a packet beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PacketMetadata {
    /// `ln(1 + bytes)` of the length that the IP header declares.
    Length,
    /// 1 from the sender of the flow's first packet, -1 towards it.
    Direction,
    /// `ln(1 + microseconds)` since the packet before.
    Time,
}

/// The keys of `[model.attention_lstm]`; defaults are the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AttentionLstmOptions {
    /// Size of the LSTM's state, and of the attention.
    pub lstm: usize,
    /// Whether self-attention (and the normalisation after it) follows the LSTM.
    pub attention: bool,
    /// Size of the fully connected layer.
    pub dense: usize,
    /// Of the LSTM cell.
    pub activation: Activation,
    /// The most passes over the training flows.
    pub epochs: usize,
    /// Flows per step.
    pub batch: usize,
    /// Adam's learning rate at the start.
    pub learning_rate: f32,
    /// Decoupled weight decay (AdamW); 0 for Adam.
    pub weight_decay: f32,
    /// The largest global norm of a gradient.
    pub clip_norm: f32,
    /// Share dropped of the packet vectors, and before the output layer.
    pub dropout: f32,
    /// Epochs without a better validation macro F1 before training stops.
    pub patience: usize,
    /// How the learning rate moves over the epochs.
    pub learning_rate_schedule: LearningRateSchedule,
    /// Steps over which the learning rate rises to what the schedule says.
    pub warm_up_steps: usize,
    /// What the flows of each class count in the loss.
    pub class_weights: ClassWeights,
    /// Share of each target that is spread over all classes.
    pub label_smoothing: f32,
    /// Which weights validate and predict.
    pub weight_averaging: WeightAveraging,
    /// What is left of a weight in their average after one more step.
    pub weight_averaging_decay: f32,
    /// What packets are read through.
    pub encoder: Encoder,
    /// How the states of a packet's bytes become its vector.
    pub pooling: PoolingKind,
    /// Parts of a packet with a mean of their own, where pooling has such.
    pub segments: usize,
    /// What becomes of packet vectors before the LSTM.
    pub normalisation: Normalisation,
    /// What stands beside a packet's vector, in this order.
    pub packet_metadata: Vec<PacketMetadata>,
    /// Fine-tuning: each layer of the ELMo learns this many times slower than the one above it, the uppermost than the
    /// classifier (Howard and Ruder 2018, section 3.2, who suggest 2.6).
    pub layer_rate_divisor: f32,
    /// The language model.
    pub elmo: ElmoOptions,
}

impl Default for AttentionLstmOptions {
    fn default() -> Self {
        Self {
            lstm: 256,
            attention: true,
            dense: 64,
            activation: Activation::Relu,
            epochs: 20,
            batch: 64,
            learning_rate: 0.001,
            weight_decay: 0.0,
            clip_norm: 5.0,
            dropout: 0.0,
            patience: 5,
            learning_rate_schedule: LearningRateSchedule::Constant,
            warm_up_steps: 0,
            class_weights: ClassWeights::default(),
            label_smoothing: 0.0,
            weight_averaging: WeightAveraging::None,
            weight_averaging_decay: 0.99,
            encoder: Encoder::Frozen,
            pooling: PoolingKind::Mean,
            segments: 8,
            normalisation: Normalisation::None,
            packet_metadata: Vec::new(),
            layer_rate_divisor: 2.6,
            elmo: ElmoOptions::default(),
        }
    }
}

/// The largest size of a layer, so that a mistyped number is an error and not an exhausted memory.
const LARGEST_LAYER: usize = 8192;

/// The most steps of a warm-up: more than any training takes.
const LARGEST_WARM_UP: usize = 1_000_000_000;

impl AttentionLstmOptions {
    /// How packets of at most `bytes` bytes are pooled.
    pub(crate) fn pooling_of(&self, bytes: usize) -> Pooling {
        Pooling::new(self.pooling, self.segments, bytes)
    }

    /// Slots of a packet's encoding.
    pub(crate) fn slots(&self) -> usize {
        self.pooling_of(0).slots
    }

    /// Values of a packet's encoding in one layer: both directions, all slots.
    pub(crate) fn encoded_size(&self) -> usize {
        2 * self.elmo.hidden * self.slots()
    }

    /// Values of a packet's vector, or of one of its steps where it has several.
    pub(crate) fn packet_size(&self) -> usize {
        if self.pooling.leaves_slots() { 2 * self.elmo.hidden } else { self.encoded_size() }
    }

    /// Whether the LSTM reads normalised values.
    pub(crate) fn is_normalised(&self) -> bool {
        self.normalisation == Normalisation::Batch
    }

    /// The decay of the average of the weights, where there is one.
    pub(crate) fn averaging(&self) -> Option<f32> {
        (self.weight_averaging == WeightAveraging::Exponential).then_some(self.weight_averaging_decay)
    }

    /// How the classifier is trained.
    pub(crate) fn training(&self) -> TrainingOptions {
        TrainingOptions {
            epochs: self.epochs,
            batch: self.batch,
            patience: self.patience,
            learning_rate: self.learning_rate,
            schedule: self.learning_rate_schedule,
            warm_up_steps: self.warm_up_steps,
            averages: self.averaging().is_some(),
        }
    }

    /// Values of a packet as the LSTM reads them: its vector and what stands beside it.
    pub(crate) fn step_size(&self) -> usize {
        self.packet_size() + self.packet_metadata.len()
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// A value out of range, with its key.
    pub(crate) fn validate(&self) -> Result<(), ModelError> {
        let elmo = &self.elmo;
        elmo.validate_source()?;
        if elmo.embedding != elmo.hidden {
            return Err(problem(format!(
                "elmo.embedding = {} and elmo.hidden = {} must be equal: the layer mix adds the two",
                elmo.embedding, elmo.hidden
            )));
        }
        for (key, value, largest) in [
            ("elmo.hidden", elmo.hidden, LARGEST_LAYER),
            ("elmo.layers", elmo.layers, 4),
            ("elmo.epochs", elmo.epochs, 1_000_000),
            ("elmo.batch", elmo.batch, 1 << 20),
            ("elmo.corpus_packets", elmo.corpus_packets, 1 << 31),
            ("lstm", self.lstm, LARGEST_LAYER),
            ("dense", self.dense, LARGEST_LAYER),
            ("epochs", self.epochs, 1_000_000),
            ("batch", self.batch, 1 << 20),
            ("patience", self.patience, usize::MAX),
            ("segments", self.segments, 256),
        ] {
            if value < 1 || value > largest {
                return Err(problem(format!("{key} = {value} must be between 1 and {largest}")));
            }
        }
        for (key, value) in [
            ("elmo.learning_rate", elmo.learning_rate),
            ("elmo.clip_norm", elmo.clip_norm),
            ("learning_rate", self.learning_rate),
            ("clip_norm", self.clip_norm),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(problem(format!("{key} = {value} must be a positive number")));
            }
        }
        if self.warm_up_steps > LARGEST_WARM_UP {
            return Err(problem(format!("warm_up_steps = {} must be at most {LARGEST_WARM_UP}", self.warm_up_steps)));
        }
        self.class_weights.check().map_err(problem)?;
        if first_repeated(&self.packet_metadata).is_some() {
            return Err(problem("packet_metadata names a value twice".to_owned()));
        }
        let divisor = self.layer_rate_divisor;
        if !(divisor >= 1.0 && divisor.is_finite()) {
            return Err(problem(format!("layer_rate_divisor = {divisor} must be a number of at least 1")));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return Err(problem(format!("weight_decay = {} must be 0 or a positive number", self.weight_decay)));
        }
        for (key, value) in [
            ("elmo.dropout", elmo.dropout),
            ("dropout", self.dropout),
            ("label_smoothing", self.label_smoothing),
            ("weight_averaging_decay", self.weight_averaging_decay),
        ] {
            if !(0.0..1.0).contains(&value) {
                return Err(problem(format!("{key} = {value} must be at least 0 and less than 1")));
            }
        }
        Ok(())
    }
}

fn problem(problem: String) -> ModelError {
    ModelError::Parameters { model: MODEL.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_name_their_key() {
        let mut options = AttentionLstmOptions::default();
        assert!(options.validate().is_ok());
        options.elmo.hidden = 64;
        assert!(options.validate().unwrap_err().to_string().contains("elmo.hidden = 64 must be equal"));
        options = AttentionLstmOptions { dropout: 1.0, ..AttentionLstmOptions::default() };
        assert!(options.validate().unwrap_err().to_string().contains("dropout = 1"));
        options = AttentionLstmOptions { learning_rate: f32::NAN, ..AttentionLstmOptions::default() };
        assert!(options.validate().unwrap_err().to_string().contains("learning_rate = NaN"));
    }
}
