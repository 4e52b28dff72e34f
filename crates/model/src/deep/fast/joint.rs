//! Classifier and ELMo, trained together on the classifier's loss: the encodings stay on the device, and their gradient
//! continues into the ELMo's stacks.

use super::backend::{Backend, MixShape};
use super::classifier::AttentionLstm;
use super::reading::Flows;
use super::stacks::{PooledGradient, Stacks};
use super::weights::{Weight, is_finite};
use crate::ModelError;
use crate::deep::engine::{
    BatchLoss, ByteBatch, JointClassifier, NOT_FINITE, OptimiserState, PacketBatch, PacketEncoder, Resumable,
    SequenceClassifier, TRAINING, diverged,
};
use crate::deep::parameters::{AttentionLstmOptions, MODEL, ParameterSet, encoder_specifications, rate_factors};
use crate::deep::pooling::Pooling;

/// Classifier and ELMo on a device.
pub(super) struct Joint<B: Backend> {
    options: AttentionLstmOptions,
    classifier: AttentionLstm<B>,
    stacks: Stacks<B>,
    /// The gradient of the encodings, `[packets, layers + 1, 2, slots, hidden]`, and the encodings outside training.
    gradient: B::Values,
    encodings: B::Values,
    /// The row of the mix for each packet.
    states: B::Indices,
    starts: Vec<usize>,
    lengths: Vec<u32>,
    host: Vec<u32>,
    zeros: Vec<f32>,
}

impl<B: Backend> Joint<B> {
    /// Creates both from one set with the classifier's and the encoder's parameters.
    pub(super) fn new(
        device: B,
        options: &AttentionLstmOptions,
        set: &ParameterSet,
        seed: u64,
    ) -> Result<Self, ModelError> {
        let mut classifier = AttentionLstm::new(device, options, set, seed)?;
        let mut stacks = Stacks::new(&mut classifier.device, &options.elmo, set, seed, true)?;
        let encoder = encoder_specifications(&options.elmo, stacks.vocabulary(), stacks.positions());
        let factors = rate_factors(options, &encoder);
        stacks.visit(&mut |weight| weight.set_rate(|name| factors[name]));
        classifier.device.check()?;
        Ok(Self {
            options: options.clone(),
            classifier,
            stacks,
            gradient: B::Values::default(),
            encodings: B::Values::default(),
            states: B::Indices::default(),
            starts: Vec::new(),
            lengths: Vec::new(),
            host: Vec::new(),
            zeros: Vec::new(),
        })
    }

    /// Returns the number of layers of a packet and the size of each.
    fn sizes(&self) -> (usize, usize) {
        (self.options.elmo.layers + 1, self.options.encoded_size())
    }

    fn visit(&mut self, visit: &mut dyn FnMut(&mut B, &mut Weight<B>)) {
        let Self { classifier: AttentionLstm { device, weights, .. }, stacks, .. } = self;
        let visit = &mut |weight: &mut Weight<B>| visit(device, weight);
        weights.visit(visit);
        stacks.visit(visit);
    }

    /// Checks and packs a batch, and reserves buffers for its encodings.
    fn prepare(&mut self, batch: &ByteBatch<'_>) -> Result<(), ModelError> {
        let packets = batch.packets();
        let invalid = |problem: String| Err(ModelError::Data { model: MODEL.to_owned(), problem });
        if batch.counts.is_empty() || u32::try_from(batch.counts.len() * batch.most).is_err() {
            return invalid(format!("a batch of {} flows is empty or too large", batch.counts.len()));
        }
        if let Some(count) = batch.counts.iter().find(|&&count| count as usize > batch.most) {
            return invalid(format!("a flow has {count} packets, but the batch has room for {}", batch.most));
        }
        let (layers, size) = self.sizes();
        let Self { classifier, stacks, starts, lengths, host, states, zeros, gradient, .. } = self;
        if packets > 0 {
            stacks.prepare(&mut classifier.device, batch.tokens, packets)?;
        }
        lengths.clear();
        lengths.extend(batch.counts.iter().map(|&count| count.max(1)));
        starts.clear();
        starts.extend(batch.counts.iter().scan(0, |next, &count| {
            let start = *next;
            *next += count as usize;
            Some(start)
        }));
        // The first encoding is 0, for flows without packets.
        let source = |flow: usize, packet: usize| match batch.counts[flow] {
            0 => 0,
            _ => 1 + starts[flow] + packet,
        };
        let slots = |flow: usize, packet: usize| match batch.counts[flow] {
            0 => 1,
            _ => batch.pooling.filled(stacks.lengths()[starts[flow] + packet] as usize) as usize,
        };
        let most = batch.most.max(1);
        classifier.pack(&Flows { counts: lengths, most, metadata: batch.metadata, source: &source, slots: &slots })?;
        host.clear();
        host.resize(packets, 0);
        for (row, &(flow, packet)) in classifier.reading.rows.iter().enumerate() {
            if batch.counts[flow] > 0 {
                host[starts[flow] + packet] = row as u32;
            }
        }
        let device = &mut classifier.device;
        device.upload_indices(host, states);
        device.reserve(&mut classifier.reading.layers, (1 + packets) * layers * size);
        device.reserve(gradient, packets * layers * size);
        zeros.resize(layers * size, 0.0);
        device.upload(zeros, &mut classifier.reading.layers);
        Ok(())
    }

    /// Computes the loss of a batch and adds its gradients to those of all weights.
    pub(super) fn gradients(&mut self, batch: &ByteBatch<'_>, labels: &[u32]) -> Result<BatchLoss, ModelError> {
        self.classifier.check_labels(labels, batch.counts.len())?;
        self.prepare(batch)?;
        let packets = batch.packets();
        let (layers, size) = self.sizes();
        let Self { classifier, stacks, states, gradient, .. } = self;
        let dropping = stacks.dropping(classifier.optimiser.steps);
        let turns = if packets > 0 { Stacks::turns(&classifier.device) } else { &[] };
        for turn in turns {
            stacks.forward(&mut classifier.device, turn.clone(), dropping);
            for direction in turn.clone() {
                let AttentionLstm { device, reading, .. } = &mut *classifier;
                stacks.pool(device, direction, dropping, batch.pooling, 1, &mut reading.layers);
            }
        }
        let loss = classifier.loss_and_gradients(labels);
        let AttentionLstm { device, weights, reading, .. } = classifier;
        let mixed = &reading.buffers.encoded_gradient;
        let shape = MixShape { rows: packets, layers, columns: size };
        device.mix_layers_backward(shape, states, weights.mix(), mixed, gradient);
        let gradient = PooledGradient { pooling: batch.pooling, encodings: gradient };
        for turn in turns {
            stacks.backward(device, turn.clone(), dropping, Some(&gradient));
        }
        device.check()?;
        Ok(loss)
    }

    /// Returns the current gradients by name.
    pub(super) fn named_gradients(&mut self) -> Vec<(String, Vec<f32>)> {
        let mut found = Vec::new();
        self.visit(&mut |device, weight| found.push(weight.gradient(device)));
        found
    }

    /// Returns the first place in the last forward pass with a non-finite number.
    fn first_not_finite(&self, packets: usize) -> String {
        let (layers, size) = self.sizes();
        let AttentionLstm { device, reading, .. } = &self.classifier;
        if is_finite(device, &reading.layers, (1 + packets) * layers * size) {
            return self.classifier.first_not_finite();
        }
        let mut set = ParameterSet::default();
        self.stacks.store(device, &mut set);
        set.first_non_finite().unwrap_or("elmo").to_owned()
    }
}

impl<B: Backend> JointClassifier for Joint<B> {
    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError> {
        self.classifier.set_class_weights(weights)
    }

    fn train_step(
        &mut self,
        batch: &ByteBatch<'_>,
        labels: &[u32],
        learning_rate: f32,
    ) -> Result<BatchLoss, ModelError> {
        let loss = self.gradients(batch, labels)?;
        if !loss.sum.is_finite() {
            return Err(diverged(TRAINING, &self.first_not_finite(batch.packets()), NOT_FINITE));
        }
        let Self { classifier: AttentionLstm { device, weights, optimiser, .. }, stacks, .. } = self;
        let encoded = batch.packets() > 0;
        optimiser.step(TRAINING, device, learning_rate, |visit| {
            weights.visit(visit);
            if encoded {
                stacks.visit(visit);
            }
        })?;
        optimiser.average(device, |visit| {
            weights.visit(visit);
            stacks.visit(visit);
        });
        Ok(loss)
    }

    fn probabilities(&mut self, batch: &PacketBatch<'_>, output: &mut [f32]) -> Result<(), ModelError> {
        self.classifier.probabilities(batch, output)
    }

    fn collect_statistics(&mut self, batch: &PacketBatch<'_>, before: u64) -> Result<u64, ModelError> {
        self.classifier.collect_statistics(batch, before)
    }

    fn dead_layers(&mut self) -> Vec<&'static str> {
        self.classifier.dead_layers()
    }
}

impl<B: Backend> PacketEncoder for Joint<B> {
    fn encode(
        &mut self,
        tokens: &[u16],
        packets: usize,
        pooling: Pooling,
        output: &mut [f32],
    ) -> Result<(), ModelError> {
        let Self { classifier, stacks, encodings, .. } = self;
        stacks.encode(&mut classifier.device, tokens, packets, pooling, encodings, output)
    }
}

impl<B: Backend> Resumable for Joint<B> {
    fn parameters(&self) -> ParameterSet {
        let mut set = self.classifier.parameters();
        self.stacks.store(&self.classifier.device, &mut set);
        set
    }

    fn set_parameters(&mut self, parameters: &ParameterSet) -> Result<(), ModelError> {
        self.classifier.set_parameters(parameters)?;
        let mut result = Ok(());
        let Self { classifier, stacks, .. } = self;
        stacks.visit(&mut |weight| {
            if result.is_ok() {
                result = weight.load(&mut classifier.device, parameters);
            }
        });
        result?;
        classifier.device.check()
    }

    fn optimiser_state(&mut self) -> OptimiserState {
        let Self { classifier: AttentionLstm { device, weights, optimiser, .. }, stacks, .. } = self;
        optimiser.state(device, |visit| {
            weights.visit(visit);
            stacks.visit(visit);
        })
    }

    fn set_optimiser_state(&mut self, state: &OptimiserState) -> Result<(), ModelError> {
        let Self { classifier: AttentionLstm { device, weights, optimiser, .. }, stacks, .. } = self;
        optimiser.set_state(device, state, |visit| {
            weights.visit(visit);
            stacks.visit(visit);
        })
    }
}
