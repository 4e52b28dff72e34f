//! Workloads of the fast engine for `benches/deep.rs`, which only has access to the public part of the crate. They can
//! be written to a safetensors file with weights, data and the engine's results (loss, gradients, outputs), which
//! `benches/peers/deep.py` compares with the same model in PyTorch.

use rand::RngExt;

use super::{classifier, cpu, joint, language_model};
use crate::byte_cnn::ByteCnn;
use crate::byte_transformer::ByteTransformer;
use crate::deep::engine::{
    ByteBatch, JointClassifier, LanguageModel, NetworkClassifier, PacketBatch, PacketEncoder, Picked,
    SequenceClassifier,
};
use crate::deep::parameters::{
    AttentionLstmOptions, ElmoOptions, Encoder, Normalisation, ParameterSet, encoder_specifications,
    initial_classifier, initial_elmo,
};
use crate::deep::pooling::{Pooling, PoolingKind};
use crate::deep::{NetworkOptions, OptimiserKind};
use crate::deep_fingerprinting::DeepFingerprinting;
use crate::network_model::{Columns, NetworkModel};
use crate::sequence_cnn::SequenceCnn;
use crate::{Device, ModelArchive, ModelError, Tensor};
use etcbench_storage::seed;

/// Number of classes of the classifier.
const CLASSES: usize = 12;
/// Rows of the fine-tuned ELMo's embedding.
const VOCABULARY: usize = 260;

/// Stores gradients in a file under `gradient.` and their parameters' names.
fn store_gradients(archive: &mut ModelArchive, initial: &ParameterSet, gradients: Vec<(String, Vec<f32>)>) {
    for (name, values) in gradients {
        let shape = initial.shape(&name).expect("a gradient is of a parameter");
        archive.tensors.insert(format!("gradient.{name}"), Tensor::f32(shape, values));
    }
}

/// ELMo on packets of random bytes, all of the same length.
pub struct Elmo {
    options: ElmoOptions,
    initial: ParameterSet,
    model: Box<dyn LanguageModel>,
    tokens: Vec<u16>,
    packets: usize,
    output: Vec<f32>,
}

impl Elmo {
    /// Creates a workload of `packets` packets with `length` bytes each; `hidden` is also the embedding's size.
    ///
    /// # Errors
    /// The model does not accept the sizes.
    pub fn new(
        packets: usize,
        length: usize,
        hidden: usize,
        layers: usize,
        vocabulary: usize,
        device: Device,
    ) -> Result<Self, ModelError> {
        let options = ElmoOptions { embedding: hidden, hidden, layers, ..ElmoOptions::default() };
        let initial = initial_elmo(&options, vocabulary, length, 0);
        let mut generator = seed::generator(0, "benchmark");
        let tokens = (0..packets * length).map(|_| generator.random_range(0..256u16)).collect();
        let model = super::language_model(&options, &initial, 0, device)?;
        Ok(Self { options, initial, model, tokens, packets, output: vec![0.0; packets * (layers + 1) * 2 * hidden] })
    }

    /// Takes one training step; returns the loss before it.
    ///
    /// # Errors
    /// None for this data.
    pub fn train_step(&mut self) -> Result<f64, ModelError> {
        Ok(self.model.train_step(&self.tokens, self.packets, 0.001)?.mean())
    }

    /// Encodes all packets; returns one of the values.
    ///
    /// # Errors
    /// None for this data.
    pub fn encode(&mut self) -> Result<f32, ModelError> {
        self.model.encode(&self.tokens, self.packets, Pooling::MEAN, &mut self.output)?;
        Ok(self.output[0])
    }

    /// Returns a file with the initial weights, the tokens, and the loss, gradients and packet vectors computed on the
    /// CPU.
    ///
    /// # Errors
    /// None for this data.
    pub fn file(&self) -> Result<Vec<u8>, ModelError> {
        let mut model = language_model::Elmo::new(cpu::Cpu::new(), &self.options, &self.initial, 0)?;
        let loss = model.gradients(&self.tokens, self.packets)?.mean();
        let mut output = vec![0.0; self.output.len()];
        model.encode(&self.tokens, self.packets, Pooling::MEAN, &mut output)?;
        let mut archive = ModelArchive::default();
        self.initial.store(&mut archive);
        store_gradients(&mut archive, &self.initial, model.named_gradients());
        let shape = [self.packets, self.options.layers + 1, 2 * self.options.hidden];
        archive.tensors.insert("data.output".to_owned(), Tensor::f32(&shape, output));
        let tokens = self.tokens.iter().map(|&token| u32::from(token)).collect();
        archive
            .tensors
            .insert("data.tokens".to_owned(), Tensor::u32(&[self.packets, self.tokens.len() / self.packets], tokens));
        archive.tensors.insert("data.loss".to_owned(), Tensor::f64(&[1], vec![loss]));
        archive.to_bytes()
    }
}

/// Pooling and normalisation of the classifier's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The mean, without normalisation.
    Mean,
    /// The means of eight segments, normalised, as in the tables' experiments.
    Segments,
    /// Attention over eight segments, normalised.
    Attention,
    /// One LSTM step for each of eight segments, normalised.
    States,
}

impl Reading {
    fn options(self) -> AttentionLstmOptions {
        let (pooling, normalisation) = match self {
            Self::Mean => (PoolingKind::Mean, Normalisation::None),
            Self::Segments => (PoolingKind::Segments, Normalisation::Batch),
            Self::Attention => (PoolingKind::Attention, Normalisation::Batch),
            Self::States => (PoolingKind::States, Normalisation::Batch),
        };
        AttentionLstmOptions { pooling, normalisation, ..AttentionLstmOptions::default() }
    }
}

/// The classifier on flows of random vectors, all of full length.
pub struct AttentionLstm {
    options: AttentionLstmOptions,
    initial: ParameterSet,
    model: Box<dyn SequenceClassifier>,
    layers: Vec<f32>,
    shape: [usize; 4],
    /// All packets in order, as a selection with an identifier, so that a device may keep the encodings.
    places: Vec<u32>,
    counts: Vec<u32>,
    /// Slots of each packet, all with bytes, if the pooling leaves slots.
    slots: Vec<u32>,
    labels: Vec<u32>,
}

impl AttentionLstm {
    /// Creates a workload of `flows` flows with `packets` encoded packets each. A packet has three layers of `2 *
    /// elmo_hidden` values per slot; `lstm` is the size of the LSTM's state.
    ///
    /// # Errors
    /// The model does not accept the sizes.
    pub fn new(
        flows: usize,
        packets: usize,
        lstm: usize,
        elmo_hidden: usize,
        reading: Reading,
        device: Device,
    ) -> Result<Self, ModelError> {
        let elmo = ElmoOptions { embedding: elmo_hidden, hidden: elmo_hidden, layers: 2, ..ElmoOptions::default() };
        let options = AttentionLstmOptions { lstm, elmo, ..reading.options() };
        let initial = initial_classifier(&options, CLASSES, 0);
        let mut generator = seed::generator(0, "benchmark");
        let shape = [flows, packets, 3, options.encoded_size()];
        let layers = (0..shape.iter().product()).map(|_| generator.random_range(-1.0..1.0f32)).collect();
        let labels = (0..flows).map(|_| generator.random_range(0..CLASSES as u32)).collect();
        let model = super::classifier(&options, &initial, 0, device)?;
        let (places, counts) = ((0..(flows * packets) as u32).collect(), vec![packets as u32; flows]);
        let slots = match options.pooling.leaves_slots() {
            true => vec![options.slots() as u32; flows * packets],
            false => Vec::new(),
        };
        Ok(Self { options, initial, model, layers, shape, places, counts, slots, labels })
    }

    /// Takes one training step; returns the loss before it.
    ///
    /// # Errors
    /// None for this data.
    pub fn train_step(&mut self) -> Result<f64, ModelError> {
        let Self { model, layers, places, counts, slots, labels, .. } = self;
        let batch = PacketBatch { layers, picked: Some(Picked { places, table: 0 }), counts, metadata: &[], slots };
        Ok(model.train_step(&batch, labels, 0.001)?.mean())
    }

    /// Returns a file with the initial weights, the data, the training loss and its gradients, and the probabilities
    /// with the initial running statistics, computed on the CPU.
    ///
    /// # Errors
    /// None for this data.
    pub fn file(&self) -> Result<Vec<u8>, ModelError> {
        let mut model = classifier::AttentionLstm::new(cpu::Cpu::new(), &self.options, &self.initial, 0)?;
        let flows = self.labels.len();
        let Self { layers, counts, slots, .. } = self;
        let batch = PacketBatch { layers, picked: None, counts, metadata: &[], slots };
        let mut output = vec![0.0; flows * CLASSES];
        model.probabilities(&batch, &mut output)?;
        let loss = model.gradients(&batch, &self.labels)?.mean();
        let mut archive = ModelArchive::default();
        self.initial.store(&mut archive);
        store_gradients(&mut archive, &self.initial, model.named_gradients());
        archive.tensors.insert("data.output".to_owned(), Tensor::f32(&[flows, CLASSES], output));
        archive.tensors.insert("data.layers".to_owned(), Tensor::f32(&self.shape, self.layers.clone()));
        archive.tensors.insert("data.labels".to_owned(), Tensor::u32(&[self.labels.len()], self.labels.clone()));
        archive.tensors.insert("data.loss".to_owned(), Tensor::f64(&[1], vec![loss]));
        archive.to_bytes()
    }
}

/// The classifier together with its ELMo, fine-tuned on flows of packets of random bytes, all of full length.
pub struct FineTuned {
    options: AttentionLstmOptions,
    initial: ParameterSet,
    model: Box<dyn JointClassifier>,
    tokens: Vec<u16>,
    packets: usize,
    counts: Vec<u32>,
    labels: Vec<u32>,
}

impl FineTuned {
    /// Creates a workload of `flows` flows with `packets` packets of `length` bytes each; `lstm` is the size of the
    /// classifier's state, `hidden` that of the ELMo, which has two layers.
    ///
    /// # Errors
    /// The model does not accept the sizes.
    pub fn new(
        flows: usize,
        packets: usize,
        length: usize,
        lstm: usize,
        hidden: usize,
        device: Device,
    ) -> Result<Self, ModelError> {
        let elmo = ElmoOptions { embedding: hidden, hidden, layers: 2, ..ElmoOptions::default() };
        let options =
            AttentionLstmOptions { lstm, elmo, encoder: Encoder::FineTuned, ..AttentionLstmOptions::default() };
        let mut initial = initial_classifier(&options, CLASSES, 0);
        let encoder = encoder_specifications(&options.elmo, VOCABULARY, length);
        initial.extend(&initial_elmo(&options.elmo, VOCABULARY, length, 0).only(&encoder)?);
        let mut generator = seed::generator(0, "benchmark");
        let tokens = (0..flows * packets * length).map(|_| generator.random_range(0..256u16)).collect();
        let labels = (0..flows).map(|_| generator.random_range(0..CLASSES as u32)).collect();
        let model = super::joint_classifier(&options, &initial, 0, device)?;
        Ok(Self { options, initial, model, tokens, packets, counts: vec![packets as u32; flows], labels })
    }

    /// Takes one training step; returns the loss before it.
    ///
    /// # Errors
    /// None for this data.
    pub fn train_step(&mut self) -> Result<f64, ModelError> {
        let Self { model, tokens, counts, packets, labels, .. } = self;
        let batch = ByteBatch { tokens, counts, metadata: &[], most: *packets, pooling: Pooling::MEAN };
        Ok(model.train_step(&batch, labels, 0.001)?.mean())
    }

    /// Returns a file with the initial weights, the data, and the training loss and its gradients computed on the CPU.
    ///
    /// # Errors
    /// None for this data.
    pub fn file(&self) -> Result<Vec<u8>, ModelError> {
        let mut model = joint::Joint::new(cpu::Cpu::new(), &self.options, &self.initial, 0)?;
        let (tokens, counts, most) = (&self.tokens, &self.counts, self.packets);
        let batch = ByteBatch { tokens, counts, metadata: &[], most, pooling: Pooling::MEAN };
        let loss = model.gradients(&batch, &self.labels)?.mean();
        let mut archive = ModelArchive::default();
        self.initial.store(&mut archive);
        store_gradients(&mut archive, &self.initial, model.named_gradients());
        let tokens = self.tokens.iter().map(|&token| u32::from(token)).collect::<Vec<_>>();
        let flows = self.counts.len();
        let shape = [flows, self.packets, tokens.len() / (flows * self.packets)];
        archive.tensors.insert("data.tokens".to_owned(), Tensor::u32(&shape, tokens));
        archive.tensors.insert("data.labels".to_owned(), Tensor::u32(&[flows], self.labels.clone()));
        archive.tensors.insert("data.loss".to_owned(), Tensor::f64(&[1], vec![loss]));
        archive.to_bytes()
    }
}

/// A network of its published size, on rows of random numbers.
pub struct Network {
    model: Box<dyn NetworkClassifier>,
    rows: Vec<f32>,
    labels: Vec<u32>,
    output: Vec<f32>,
}

impl Network {
    /// Creates a workload of `flows` flows for the model `name` with the number of columns of its source, or `None` for
    /// an unknown name.
    ///
    /// # Errors
    /// None for these sizes.
    pub fn new(name: &str, flows: usize) -> Option<Result<Self, ModelError>> {
        let columns = |sequences, others| Columns { sequences, others };
        let network = match name {
            SequenceCnn::NAME => SequenceCnn::network(&Default::default(), columns(60, 43), CLASSES),
            ByteCnn::NAME => ByteCnn::network(&Default::default(), columns(0, 784), CLASSES),
            ByteTransformer::NAME => ByteTransformer::network(&Default::default(), columns(0, 768), CLASSES),
            DeepFingerprinting::NAME => DeepFingerprinting::network(&Default::default(), columns(10_000, 0), CLASSES),
            _ => return None,
        };
        let mut generator = seed::generator(0, "benchmark");
        let mut rows: Vec<f32> = (0..flows * network.columns()).map(|_| generator.random_range(-1.0..1.0f32)).collect();
        if let [branch] = network.branches.as_slice() {
            // Every step is present.
            rows.chunks_exact_mut(network.columns()).for_each(|row| row[branch.input.values()..].fill(1.0));
        }
        let labels = (0..flows).map(|_| generator.random_range(0..CLASSES as u32)).collect();
        let initial = network.initial(0)?;
        let options =
            NetworkOptions { seed: 0, optimiser: OptimiserKind::Adamw, weight_decay: 0.01, label_smoothing: 0.0 };
        let model = super::network(&network, &initial, options);
        Some(model.map(|model| Self { model, rows, labels, output: vec![0.0; flows * CLASSES] }))
    }

    /// Takes one training step; returns the loss before it.
    ///
    /// # Errors
    /// None for this data.
    pub fn train_step(&mut self) -> Result<f64, ModelError> {
        Ok(self.model.train_step(&self.rows, &self.labels, 0.001)?.mean())
    }

    /// Predicts all flows; returns one of the probabilities.
    ///
    /// # Errors
    /// None for this data.
    pub fn predict(&mut self) -> Result<f32, ModelError> {
        self.model.probabilities(&self.rows, &mut self.output)?;
        Ok(self.output[0])
    }
}
