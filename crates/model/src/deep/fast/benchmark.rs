//! Workloads of the fast engine for `benches/deep.rs`, which sees only the public part of the crate. They can be written
//! to a safetensors file, weights, data and what the engine makes of them (loss, gradients, outputs), with which
//! `benches/peers/deep.py` compares the same model in PyTorch.

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

/// Puts gradients into a file, under `gradient.` and their parameters' names.
fn store_gradients(archive: &mut ModelArchive, initial: &ParameterSet, gradients: Vec<(String, Vec<f32>)>) {
    for (name, values) in gradients {
        let shape = initial.shape(&name).expect("a gradient is of a parameter");
        archive.tensors.insert(format!("gradient.{name}"), Tensor::f32(shape, values));
    }
}

/// ELMo on packets of random bytes, all of full length.
pub struct Elmo {
    options: ElmoOptions,
    initial: ParameterSet,
    model: Box<dyn LanguageModel>,
    tokens: Vec<u16>,
    packets: usize,
    output: Vec<f32>,
}

impl Elmo {
    /// `packets` of `length` bytes each; `hidden` is also the embedding's size.
    ///
    /// # Errors
    /// Sizes that the model does not accept.
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

    /// One training step; the loss before it.
    ///
    /// # Errors
    /// None for these data.
    pub fn train_step(&mut self) -> Result<f64, ModelError> {
        Ok(self.model.train_step(&self.tokens, self.packets, 0.001)?.mean())
    }

    /// Encodes all packets; one of the values.
    ///
    /// # Errors
    /// None for these data.
    pub fn encode(&mut self) -> Result<f32, ModelError> {
        self.model.encode(&self.tokens, self.packets, Pooling::MEAN, &mut self.output)?;
        Ok(self.output[0])
    }

    /// Initial weights, tokens, and the loss on them, its gradients and the packets' vectors on the processor, as a
    /// file's content.
    ///
    /// # Errors
    /// None for these data.
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

/// How the classifier reads a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// By one mean, as it is.
    Mean,
    /// By the means of eight segments, normalised: as the tables do.
    Segments,
    /// By attention over them, normalised.
    Attention,
    /// By a step for each of them, normalised.
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
    /// Every packet in its order; named, so that a device may keep them.
    places: Vec<u32>,
    counts: Vec<u32>,
    /// Slots of each packet, all with bytes, where the reading leaves slots.
    slots: Vec<u32>,
    labels: Vec<u32>,
}

impl AttentionLstm {
    /// `flows` of `packets` encoded packets, each of three layers of twice `elmo_hidden` in each of the reading's slots;
    /// `lstm` is the size of the state.
    ///
    /// # Errors
    /// Sizes that the model does not accept.
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

    /// One training step; the loss before it.
    ///
    /// # Errors
    /// None for these data.
    pub fn train_step(&mut self) -> Result<f64, ModelError> {
        let Self { model, layers, places, counts, slots, labels, .. } = self;
        let batch = PacketBatch { layers, picked: Some(Picked { places, table: 0 }), counts, metadata: &[], slots };
        Ok(model.train_step(&batch, labels, 0.001)?.mean())
    }

    /// Initial weights, data, and the loss in training, its gradients and the probabilities by the initial running
    /// statistics on the processor, as a file's content.
    ///
    /// # Errors
    /// None for these data.
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
    /// `flows` of `packets` packets of `length` bytes each; `lstm` is the size of the classifier's state, `hidden` that
    /// of the ELMo's of two layers.
    ///
    /// # Errors
    /// Sizes that the model does not accept.
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

    /// One training step; the loss before it.
    ///
    /// # Errors
    /// None for these data.
    pub fn train_step(&mut self) -> Result<f64, ModelError> {
        let Self { model, tokens, counts, packets, labels, .. } = self;
        let batch = ByteBatch { tokens, counts, metadata: &[], most: *packets, pooling: Pooling::MEAN };
        Ok(model.train_step(&batch, labels, 0.001)?.mean())
    }

    /// Initial weights, data, and the loss in training and its gradients on the processor, as a file's content.
    ///
    /// # Errors
    /// None for these data.
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

/// A network at its published size, on rows of random numbers.
pub struct Network {
    model: Box<dyn NetworkClassifier>,
    rows: Vec<f32>,
    labels: Vec<u32>,
    output: Vec<f32>,
}

impl Network {
    /// The model of this name, as many columns as its source has, and so many flows; none of another name.
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
            // Every step is there.
            rows.chunks_exact_mut(network.columns()).for_each(|row| row[branch.input.values()..].fill(1.0));
        }
        let labels = (0..flows).map(|_| generator.random_range(0..CLASSES as u32)).collect();
        let initial = network.initial(0)?;
        let options =
            NetworkOptions { seed: 0, optimiser: OptimiserKind::Adamw, weight_decay: 0.01, label_smoothing: 0.0 };
        let model = super::network(&network, &initial, options);
        Some(model.map(|model| Self { model, rows, labels, output: vec![0.0; flows * CLASSES] }))
    }

    /// One training step; the loss before it.
    ///
    /// # Errors
    /// None for these data.
    pub fn train_step(&mut self) -> Result<f64, ModelError> {
        Ok(self.model.train_step(&self.rows, &self.labels, 0.001)?.mean())
    }

    /// Predicts all flows; one of the probabilities.
    ///
    /// # Errors
    /// None for these data.
    pub fn predict(&mut self) -> Result<f32, ModelError> {
        self.model.probabilities(&self.rows, &mut self.output)?;
        Ok(self.output[0])
    }
}
