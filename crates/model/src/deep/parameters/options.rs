//! The keys of `[model.attention_lstm]`: layer sizes and training settings.

use crate::pretraining::PretrainingKeys;
use serde::{Deserialize, Serialize};

use crate::ModelError;
use crate::class_weights::ClassWeights;
use crate::deep::pooling::{Pooling, PoolingKind};
use crate::deep::training::TrainingOptions;
use etcbench_storage::declarative::first_repeated;

/// The model's name in files and errors.
pub(crate) const MODEL: &str = "attention_lstm";

/// The embedded language model over packet bytes (Peters et al. 2018).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ElmoOptions {
    /// Size of a byte's embedding; equal to `hidden`, because the layer mix adds the two.
    pub embedding: usize,
    /// Size of one direction's state.
    pub hidden: usize,
    /// LSTM layers per direction.
    pub layers: usize,
    /// Whether the embedding of a byte's position in its packet is added to that of the byte.
    pub positions: bool,
    /// Passes over the training packets.
    pub epochs: usize,
    /// Packets per step.
    pub batch: usize,
    /// Adam's learning rate.
    pub learning_rate: f32,
    /// Maximum global norm of a gradient.
    pub clip_norm: f32,
    /// Dropout rate of each layer's states during pre-training.
    pub dropout: f32,
    /// Datasets used for pre-training in addition to the training part.
    pub corpus: Vec<String>,
    /// Maximum number of packets drawn from them and the training part together.
    pub corpus_packets: usize,
    /// Whether the training flows that the experiment leaves out by `training_flows_per_class` are used too.
    pub unlabelled: bool,
    /// File of a pre-trained ELMo, relative to the project's folder; empty to pre-train one.
    pub pretrained: String,
    /// Whether the pre-trained ELMo may have seen test and validation flows.
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
            unlabelled: false,
            pretrained: String::new(),
            accept_seen: false,
        }
    }
}

impl ElmoOptions {
    /// Checks whether an ELMo can be trained with these options.
    ///
    /// # Errors
    /// A value is out of range; reports the first such key.
    pub(crate) fn validate(&self) -> Result<(), ModelError> {
        AttentionLstmOptions { elmo: self.clone(), ..AttentionLstmOptions::default() }.validate()
    }

    /// Returns these options without the source of the packets, which callers identify by other means.
    pub(crate) fn without_source(&self) -> Self {
        let Self { corpus, corpus_packets, unlabelled, pretrained, accept_seen, .. } = Self::default();
        Self { corpus, corpus_packets, unlabelled, pretrained, accept_seen, ..self.clone() }
    }

    /// Returns the keys that define where the packets come from.
    pub(crate) fn source(&self) -> PretrainingKeys {
        let Self { corpus, corpus_packets, unlabelled, pretrained, accept_seen, .. } = self.clone();
        PretrainingKeys { corpus, samples: corpus_packets, unlabelled, pretrained, accept_seen }
    }
}

/// Activation of the classifier's LSTM cell. It replaces both hyperbolic tangents, that of the candidate and that of
/// the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Activation {
    /// `max(x, 0)`, as in the paper.
    Relu,
    /// As in the standard cell.
    Tanh,
}

/// Learning-rate schedule over the epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LearningRateSchedule {
    /// Constant.
    Constant,
    /// Half a cosine from the full rate to 0, updated per epoch (Loshchilov and Hutter 2017, without restarts).
    Cosine,
    /// Up to the full rate over the first 30 % of all steps, then down almost to 0 (Smith and Topin 2018).
    OneCycle,
}

/// Weights used for validation and prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WeightAveraging {
    /// The weights of the last step.
    None,
    /// The exponential average of the weights after each step (Polyak and Juditsky 1992; the bias correction is
    /// Adam's).
    Exponential,
}

/// Encoder of a packet's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encoder {
    /// The pre-trained ELMo, unchanged while the classifier trains.
    Frozen,
    /// The pre-trained ELMo, trained further together with the classifier.
    FineTuned,
    /// An ELMo without pre-training, trained together with the classifier from its initial values.
    FromScratch,
    /// An ELMo with its initial values, never trained: fixed random features.
    #[serde(rename = "none")]
    Untrained,
}

impl Encoder {
    /// Whether the ELMo is trained together with the classifier.
    pub(crate) fn trains(self) -> bool {
        matches!(self, Self::FineTuned | Self::FromScratch)
    }

    /// Whether the ELMo is pre-trained.
    pub(crate) fn is_pretrained(self) -> bool {
        matches!(self, Self::Frozen | Self::FineTuned)
    }
}

/// Normalisation of the packet vectors before the LSTM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Normalisation {
    /// No normalisation.
    None,
    /// Batch normalisation over all packets of a batch (Ioffe and Szegedy 2015), after the mix of the layers.
    Batch,
}

/// Packet metadata that the LSTM reads in addition to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PacketMetadata {
    /// `ln(1 + bytes)` with the length declared in the IP header.
    Length,
    /// 1 for packets from the sender of the flow's first packet, -1 for packets to it.
    Direction,
    /// `ln(1 + microseconds)` since the previous packet.
    Time,
}

/// The keys of `[model.attention_lstm]`; defaults follow the paper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AttentionLstmOptions {
    /// Size of the LSTM's state and of the attention.
    pub lstm: usize,
    /// Whether self-attention and another normalisation follow the LSTM.
    pub attention: bool,
    /// Size of the fully connected layer.
    pub dense: usize,
    /// Activation of the LSTM cell.
    pub activation: Activation,
    /// Maximum number of passes over the training flows.
    pub epochs: usize,
    /// Flows per step.
    pub batch: usize,
    /// Adam's initial learning rate.
    pub learning_rate: f32,
    /// Decoupled weight decay (AdamW); 0 for Adam.
    pub weight_decay: f32,
    /// Maximum global norm of a gradient.
    pub clip_norm: f32,
    /// Dropout rate of the packet vectors and before the output layer.
    pub dropout: f32,
    /// Epochs without a better validation macro F1 after which training stops.
    pub patience: usize,
    /// Learning-rate schedule over the epochs.
    pub learning_rate_schedule: LearningRateSchedule,
    /// Steps over which the learning rate rises to the schedule's value.
    pub warm_up_steps: usize,
    /// Weight of each class's flows in the loss.
    pub class_weights: ClassWeights,
    /// Share of each target that is spread over all classes.
    pub label_smoothing: f32,
    /// Weights used for validation and prediction.
    pub weight_averaging: WeightAveraging,
    /// Share of the average that is kept at each step.
    pub weight_averaging_decay: f32,
    /// Encoder of the packets.
    pub encoder: Encoder,
    /// Pooling of the states of a packet's bytes into its vector.
    pub pooling: PoolingKind,
    /// Segments of a packet that are averaged separately, if the pooling uses segments.
    pub segments: usize,
    /// Normalisation of the packet vectors before the LSTM.
    pub normalisation: Normalisation,
    /// Metadata appended to a packet's vector, in this order.
    pub packet_metadata: Vec<PacketMetadata>,
    /// Fine-tuning: the learning rate of each ELMo layer is that of the layer above divided by this; the uppermost
    /// one's is that of the classifier divided by this (Howard and Ruder 2018, section 3.2, who suggest 2.6).
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

/// Maximum size of a layer, so that a mistyped number is reported instead of exhausting the memory.
const LARGEST_LAYER: usize = 8192;

/// Maximum number of warm-up steps: more than any training has.
const LARGEST_WARM_UP: usize = 1_000_000_000;

impl AttentionLstmOptions {
    /// Returns the pooling of packets of at most `bytes` bytes.
    pub(crate) fn pooling_of(&self, bytes: usize) -> Pooling {
        Pooling::new(self.pooling, self.segments, bytes)
    }

    /// Returns the number of slots of a packet's encoding.
    pub(crate) fn slots(&self) -> usize {
        self.pooling_of(0).slots
    }

    /// Returns the number of values of a packet's encoding in one layer: both directions, all slots.
    pub(crate) fn encoded_size(&self) -> usize {
        2 * self.elmo.hidden * self.slots()
    }

    /// Returns the number of values of a packet's vector, or of one of its steps if it has several.
    pub(crate) fn packet_size(&self) -> usize {
        if self.pooling.leaves_slots() { 2 * self.elmo.hidden } else { self.encoded_size() }
    }

    /// Whether the LSTM's input is normalised.
    pub(crate) fn is_normalised(&self) -> bool {
        self.normalisation == Normalisation::Batch
    }

    /// Returns the decay of the weights' average, or `None` if weights are not averaged.
    pub(crate) fn averaging(&self) -> Option<f32> {
        (self.weight_averaging == WeightAveraging::Exponential).then_some(self.weight_averaging_decay)
    }

    /// Returns the settings of the classifier's training.
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

    /// Returns the number of values per LSTM step: the packet's vector and its metadata.
    pub(crate) fn step_size(&self) -> usize {
        self.packet_size() + self.packet_metadata.len()
    }

    /// Checks the constraints that the types do not express.
    ///
    /// # Errors
    /// A value is out of range; the message contains its key.
    pub(crate) fn validate(&self) -> Result<(), ModelError> {
        let elmo = &self.elmo;
        elmo.source().check("elmo.").map_err(problem)?;
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
            return Err(problem("packet_metadata lists a value twice; list it once".to_owned()));
        }
        check_rate_divisor(self.layer_rate_divisor).map_err(problem)?;
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

/// Rejects a `layer_rate_divisor` that would let lower layers learn faster.
pub(crate) fn check_rate_divisor(divisor: f32) -> Result<(), String> {
    if divisor >= 1.0 && divisor.is_finite() {
        return Ok(());
    }
    Err(format!("layer_rate_divisor = {divisor} must be a number of at least 1"))
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
