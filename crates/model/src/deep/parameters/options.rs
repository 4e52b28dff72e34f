//! The keys of `[model.attention_lstm]`: sizes of the layers, and how they are trained.

use serde::{Deserialize, Serialize};

use crate::ModelError;
use crate::class_weights::ClassWeights;
<<<<<<< HEAD:crates/model/src/deep/parameters.rs
use crate::{ModelArchive, ModelError, Tensor};
use etcbench_storage::declarative::first_repeated;
use etcbench_storage::seed;
=======
use crate::deep::pooling::{Pooling, PoolingKind};
>>>>>>> model-training:crates/model/src/deep/parameters/options.rs

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

<<<<<<< HEAD:crates/model/src/deep/parameters.rs
/// The values of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameter {
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Row-major, as many as the product of `shape`.
    pub values: Vec<f32>,
}

/// Named parameters in a fixed order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParameterSet {
    entries: IndexMap<String, Parameter>,
}

impl ParameterSet {
    /// Gives every name, shape and value to what hashes them.
    pub(crate) fn add_to(&self, add: &mut dyn FnMut(&[u8])) {
        for (name, parameter) in self.iter() {
            add(name.as_bytes());
            add(format!("{:?}", parameter.shape).as_bytes());
            add(bytemuck::cast_slice::<f32, u8>(&parameter.values));
        }
    }

    /// Adds a parameter, or replaces the one of this name.
    pub(crate) fn insert(&mut self, name: impl Into<String>, shape: &[usize], values: Vec<f32>) {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "values fill the shape");
        self.entries.insert(name.into(), Parameter { shape: shape.to_vec(), values });
    }

    /// A parameter's values, which must have this shape.
    ///
    /// # Errors
    /// A parameter that is missing or has another shape.
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<&[f32], ModelError> {
        match self.entries.get(name) {
            Some(found) if found.shape == shape => Ok(&found.values),
            Some(found) => Err(ModelError::File {
                path: None,
                problem: format!("parameter {name} has shape {:?}, expected {shape:?}", found.shape),
            }),
            None => Err(ModelError::File { path: None, problem: format!("parameter {name} is missing") }),
        }
    }

    /// A parameter's dimensions.
    ///
    /// # Errors
    /// A parameter that is missing.
    pub(crate) fn shape(&self, name: &str) -> Result<&[usize], ModelError> {
        let missing = || ModelError::File { path: None, problem: format!("parameter {name} is missing") };
        self.entries.get(name).map(|parameter| parameter.shape.as_slice()).ok_or_else(missing)
    }

    /// A parameter's values, to be changed in place.
    pub(crate) fn values_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        self.entries.get_mut(name).map(|parameter| parameter.values.as_mut_slice())
    }

    /// All parameters in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Parameter)> {
        self.entries.iter().map(|(name, parameter)| (name.as_str(), parameter))
    }

    /// The first parameter that holds a number that is not finite.
    pub(crate) fn first_non_finite(&self) -> Option<&str> {
        self.iter().find(|(_, parameter)| parameter.values.iter().any(|value| !value.is_finite())).map(|(name, _)| name)
    }

    /// Adds the parameters of another set, or replaces those of the same names.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.entries.extend(other.entries.iter().map(|(name, parameter)| (name.clone(), parameter.clone())));
    }

    /// The parameters of these names and shapes alone.
    ///
    /// # Errors
    /// A parameter that is missing or has another shape.
    pub(crate) fn only(&self, shapes: &[(String, Vec<usize>)]) -> Result<Self, ModelError> {
        let mut set = Self::default();
        for (name, shape) in shapes {
            set.insert(name.clone(), shape, self.get(name, shape)?.to_vec());
        }
        Ok(set)
    }

    /// Puts every parameter into a model file under its name.
    pub(crate) fn store(&self, archive: &mut ModelArchive) {
        for (name, parameter) in self.iter() {
            archive.tensors.insert(name.to_owned(), Tensor::f32(&parameter.shape, parameter.values.clone()));
        }
    }

    /// Reads the parameters of these names and shapes out of a model file.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape or type.
    pub(crate) fn load(archive: &ModelArchive, shapes: &[(String, Vec<usize>)]) -> Result<Self, ModelError> {
        let mut set = Self::default();
        for (name, shape) in shapes {
            set.insert(name.clone(), shape, archive.f32(name, shape)?.to_vec());
        }
        Ok(set)
    }
}

/// The name of the embedding of positions.
pub(crate) const POSITIONS: &str = "elmo.positions.weight";

/// Names and shapes of ELMo's parameters, in their order; `vocabulary` counts the padding token, `bytes` is M.
pub(crate) fn elmo_shapes(options: &ElmoOptions, vocabulary: usize, bytes: usize) -> Vec<(String, Vec<usize>)> {
    let mut shapes = encoder_shapes(options, vocabulary, bytes);
    linear_shapes(&mut shapes, "elmo.head", options.hidden, vocabulary);
    shapes
}

/// Those of them that encode a packet: all but the language model's head.
pub(crate) fn encoder_shapes(options: &ElmoOptions, vocabulary: usize, bytes: usize) -> Vec<(String, Vec<usize>)> {
    let (embedding, hidden) = (options.embedding, options.hidden);
    let mut shapes = vec![("elmo.embedding.weight".to_owned(), vec![vocabulary, embedding])];
    if options.positions {
        shapes.push((POSITIONS.to_owned(), vec![bytes, embedding]));
    }
    for direction in ["forward", "backward"] {
        for layer in 0..options.layers {
            let input = if layer == 0 { embedding } else { hidden };
            lstm_shapes(&mut shapes, &format!("elmo.{direction}.{layer}"), input, hidden);
        }
    }
    shapes
}

/// What the learning rate of a parameter is multiplied by where classifier and ELMo are trained together. Only
/// fine-tuning slows the ELMo down: without pre-training there is nothing in it to be kept.
pub(crate) fn rate_factor(options: &AttentionLstmOptions, name: &str) -> f32 {
    let layers = options.elmo.layers;
    let depth = match name.strip_prefix("elmo.") {
        Some(rest) if options.encoder == Encoder::FineTuned => {
            // `forward.1.bias` is of layer 1; the embedding lies below layer 0.
            rest.split('.').nth(1).and_then(|layer| layer.parse::<usize>().ok()).map_or(layers + 1, |at| layers - at)
        }
        _ => 0,
    };
    (1.0 / f64::from(options.layer_rate_divisor).powi(depth as i32)) as f32
}

/// Names and shapes of the classifier's parameters and running statistics, in their order.
pub(crate) fn classifier_shapes(options: &AttentionLstmOptions, classes: usize) -> Vec<(String, Vec<usize>)> {
    let lstm = options.lstm;
    let mut shapes = vec![
        ("classifier.mix.weight".to_owned(), vec![options.elmo.layers + 1]),
        ("classifier.mix.gamma".to_owned(), vec![1]),
    ];
    if options.pooling == PoolingKind::Attention {
        shapes.push(("classifier.pooling.weight".to_owned(), vec![2 * options.elmo.hidden]));
    }
    if options.is_normalised() {
        norm_shapes(&mut shapes, "classifier.norm_0", options.step_size());
    }
    lstm_shapes(&mut shapes, "classifier.lstm", options.step_size(), lstm);
    norm_shapes(&mut shapes, "classifier.norm_1", lstm);
    if options.attention {
        for part in ["query", "key", "value"] {
            linear_shapes(&mut shapes, &format!("classifier.attention.{part}"), lstm, lstm);
        }
        norm_shapes(&mut shapes, "classifier.norm_2", lstm);
    }
    linear_shapes(&mut shapes, "classifier.dense", lstm, options.dense);
    linear_shapes(&mut shapes, "classifier.output", options.dense, classes);
    shapes
}

fn lstm_shapes(shapes: &mut Vec<(String, Vec<usize>)>, name: &str, input: usize, hidden: usize) {
    shapes.push((format!("{name}.weight_ih"), vec![4 * hidden, input]));
    shapes.push((format!("{name}.weight_hh"), vec![4 * hidden, hidden]));
    shapes.push((format!("{name}.bias"), vec![4 * hidden]));
}

fn linear_shapes(shapes: &mut Vec<(String, Vec<usize>)>, name: &str, input: usize, output: usize) {
    shapes.push((format!("{name}.weight"), vec![output, input]));
    shapes.push((format!("{name}.bias"), vec![output]));
}

fn norm_shapes(shapes: &mut Vec<(String, Vec<usize>)>, name: &str, size: usize) {
    for part in ["weight", "bias", "running_mean", "running_var"] {
        shapes.push((format!("{name}.{part}"), vec![size]));
    }
}

/// ELMo's initial parameters.
pub(crate) fn initial_elmo(options: &ElmoOptions, vocabulary: usize, bytes: usize, seed: u64) -> ParameterSet {
    initial(&elmo_shapes(options, vocabulary, bytes), seed)
}

/// The classifier's initial parameters.
pub(crate) fn initial_classifier(options: &AttentionLstmOptions, classes: usize, seed: u64) -> ParameterSet {
    initial(&classifier_shapes(options, classes), seed)
}

/// Every parameter has a random stream of its own, so adding one never changes another.
fn initial(shapes: &[(String, Vec<usize>)], seed: u64) -> ParameterSet {
    let mut set = ParameterSet::default();
    for (index, (name, shape)) in shapes.iter().enumerate() {
        let count = shape.iter().product::<usize>();
        let mut generator = seed::generator(seed, &format!("initialisation {name}"));
        let mut uniform = |fan: usize| {
            let bound = 1.0 / (fan as f32).sqrt();
            (0..count).map(|_| generator.random_range(-bound..bound)).collect::<Vec<f32>>()
        };
        let is_lstm =
            |name: &str| name == "classifier.lstm.bias" || name.starts_with("elmo.") && name != "elmo.head.bias";
        let values = if ["elmo.embedding.weight", POSITIONS].contains(&name.as_str()) {
            (0..count).map(|_| 0.1 * generator.sample::<f32, _>(StandardNormal)).collect()
        } else if ["classifier.mix.weight", "classifier.pooling.weight"].contains(&name.as_str())
            || name.ends_with(".running_mean")
        {
            vec![0.0; count]
        } else if name == "classifier.mix.gamma" || name.ends_with(".running_var") {
            vec![1.0; count]
        } else if name.starts_with("classifier.norm_") {
            vec![if name.ends_with(".weight") { 1.0 } else { 0.0 }; count]
        } else if name.ends_with("weight_ih") || name.ends_with("weight_hh") {
            uniform(shape[0] / 4)
        } else if name.ends_with(".bias") && is_lstm(name) {
            let hidden = shape[0] / 4;
            let mut values = uniform(hidden);
            values[hidden..2 * hidden].iter_mut().for_each(|value| *value += 1.0);
            values
        } else if name.ends_with(".bias") {
            // A linear layer's weight comes just before its bias; both are drawn by the number of inputs.
            uniform(shapes[index - 1].1[1])
        } else {
            uniform(shape[1])
        };
        set.insert(name.clone(), shape, values);
    }
    set
}

=======
>>>>>>> model-training:crates/model/src/deep/parameters/options.rs
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
