//! The classifier over a flow's encoded packets, alone or together with its ELMo: steps of training, probabilities and
//! encodings.

mod forward;

use std::collections::BTreeMap;

use dfdx::prelude::*;

use super::graph::{Graph, NamedGradients};
use super::layers::update_running;
use super::loss::{mean_loss, probabilities};
use super::optimiser::{Adam, first_not_finite};
use super::stacks::Stacks;
use crate::ModelError;
use crate::deep::engine::{
    BatchLoss, ByteBatch, JointClassifier, NORM_MOMENTUM, NOT_FINITE, OptimiserState, PacketBatch, PacketEncoder,
    Resumable, SequenceClassifier, TRAINING, diverged, statistics_share,
};
use crate::deep::loss::Loss;
use crate::deep::parameters::{
    AttentionLstmOptions, MODEL, ParameterSet, classifier_specifications, encoder_specifications, rate_factors,
};
use crate::deep::pooling::{Pooling, PoolingKind};
use etcbench_storage::seed;
use forward::{Packets, Statistics};

/// Creates the classifier with a copy of `parameters`; a GPU requires the Cargo feature `dfdx-cuda`.
///
/// # Errors
/// The parameters' shapes do not match `options`, or the device is not available.
pub(crate) fn classifier(
    options: &AttentionLstmOptions,
    parameters: &ParameterSet,
    seed: u64,
    device: crate::Device,
) -> Result<Box<dyn SequenceClassifier>, ModelError> {
    on_device!(device, |on| Reference::new(on, options, parameters, seed))
}

/// Creates the classifier with its ELMo, to be trained together; `parameters` are those of both.
///
/// # Errors
/// Same as [`classifier`].
pub(crate) fn joint_classifier(
    options: &AttentionLstmOptions,
    parameters: &ParameterSet,
    seed: u64,
    device: crate::Device,
) -> Result<Box<dyn JointClassifier>, ModelError> {
    on_device!(device, |on| Reference::joint(on, options, parameters, seed))
}

/// Returns the gradients of a batch's mean loss by name.
#[cfg(test)]
pub(crate) fn gradients(
    options: &AttentionLstmOptions,
    parameters: &ParameterSet,
    batch: &PacketBatch<'_>,
    labels: &[u32],
    class_weights: &[f32],
) -> Result<NamedGradients, ModelError> {
    let mut model = Reference::new(Cpu::default(), options, parameters, 0)?;
    model.weigh(class_weights)?;
    Ok(model.gradients(&Packets::Encoded(batch), labels)?.1)
}

/// Returns the gradients of classifier and ELMo.
#[cfg(test)]
pub(crate) fn joint_gradients(
    options: &AttentionLstmOptions,
    parameters: &ParameterSet,
    batch: &ByteBatch<'_>,
    labels: &[u32],
) -> Result<NamedGradients, ModelError> {
    let model = Reference::joint(Cpu::default(), options, parameters, 0)?;
    Ok(model.gradients(&Packets::Bytes(batch), labels)?.1)
}

struct Reference<D> {
    device: D,
    options: AttentionLstmOptions,
    /// The stacks of the ELMo if it is trained too.
    stacks: Option<Stacks>,
    /// Factors for the learning rates of the ELMo's parameters.
    rates: BTreeMap<String, f32>,
    classes: usize,
    loss: Loss,
    parameters: ParameterSet,
    optimiser: Adam,
    dropout_seed: u64,
    dead: Vec<&'static str>,
}

fn invalid<T>(problem: String) -> Result<T, ModelError> {
    Err(ModelError::Data { model: MODEL.to_owned(), problem })
}

impl<D: Device<f32>> Reference<D> {
    fn new(
        device: D,
        options: &AttentionLstmOptions,
        parameters: &ParameterSet,
        seed: u64,
    ) -> Result<Self, ModelError> {
        let classes = parameters.shape("classifier.output.bias")?[0];
        parameters.check(&classifier_specifications(options, classes))?;
        Ok(Self {
            device,
            options: options.clone(),
            stacks: None,
            rates: BTreeMap::new(),
            classes,
            loss: Loss::unweighted(classes, options.label_smoothing),
            parameters: parameters.clone(),
            optimiser: Adam::new(options.clip_norm, options.weight_decay, options.averaging()),
            dropout_seed: seed::derive(seed, "dropout"),
            dead: Vec::new(),
        })
    }

    /// Creates the classifier with an ELMo; `parameters` are those of both.
    fn joint(
        device: D,
        options: &AttentionLstmOptions,
        parameters: &ParameterSet,
        seed: u64,
    ) -> Result<Self, ModelError> {
        let stacks = Stacks::new(&options.elmo, parameters, seed)?;
        let encoder = encoder_specifications(&options.elmo, stacks.vocabulary, stacks.positions);
        parameters.check(&encoder)?;
        let rates = rate_factors(options, &encoder);
        Ok(Self { stacks: Some(stacks), rates, ..Self::new(device, options, parameters, seed)? })
    }

    /// Returns the loss, the gradients of its mean over flows, and the statistics of the normalisations.
    fn gradients(
        &self,
        packets: &Packets<'_>,
        labels: &[u32],
    ) -> Result<(BatchLoss, NamedGradients, Statistics), ModelError> {
        let flows = packets.counts().len();
        if labels.len() != flows || labels.iter().any(|&label| label as usize >= self.classes) {
            return invalid(format!("a batch of {flows} flows needs as many labels, each below {}", self.classes));
        }
        let mut statistics = Vec::new();
        let mut graph = Graph::recording(&self.device, &self.parameters);
        let logits = self.logits(&mut graph, packets, Some(&mut statistics), true)?;
        let (loss, mean) = mean_loss(&graph, logits, labels, &self.loss);
        let gradients = graph.backward(mean);
        Ok((loss, gradients, statistics))
    }

    /// Returns the number of rows that the normalisations cover.
    fn rows(&self, packets: &Packets<'_>) -> Result<usize, ModelError> {
        if self.options.pooling == PoolingKind::States {
            return Ok(self.slots(packets)?.into_iter().flatten().sum());
        }
        Ok(packets.counts().iter().map(|&count| count.max(1) as usize).sum())
    }

    fn update_running(&mut self, statistics: &Statistics, rows: usize, share: f32) {
        for (name, found) in statistics {
            update_running(&mut self.parameters, name, found, rows, share);
        }
    }

    fn step(&mut self, packets: &Packets<'_>, labels: &[u32], learning_rate: f32) -> Result<BatchLoss, ModelError> {
        let (loss, gradients, statistics) = self.gradients(packets, labels)?;
        let rows = self.rows(packets)?;
        if !loss.sum.is_finite() {
            return Err(diverged(TRAINING, first_not_finite(&self.parameters, "classifier.output"), NOT_FINITE));
        }
        // No gradient reaches the weights before a rectifier that outputs only 0.
        let dead = |layer: &str, weight: &str| {
            let name = format!("{layer}.{weight}");
            gradients.iter().any(|(found, values)| *found == name && values.iter().all(|&value| value == 0.0))
        };
        // Gradients are then 0 for all earlier layers too, and everywhere if every flow is classified with certainty.
        let layers = [("classifier.dense", "weight"), ("classifier.lstm", "weight_ih")];
        let nearest = layers.into_iter().find(|(layer, weight)| loss.sum > 0.0 && dead(layer, weight));
        self.dead = nearest.map(|(layer, _)| layer).into_iter().collect();
        let rate = |name: &str| learning_rate * self.rates.get(name).copied().unwrap_or(1.0);
        self.optimiser.update(TRAINING, &mut self.parameters, gradients, rate)?;
        self.update_running(&statistics, rows, NORM_MOMENTUM);
        self.optimiser.average(&self.parameters);
        Ok(loss)
    }

    fn weigh(&mut self, weights: &[f32]) -> Result<(), ModelError> {
        if weights.len() != self.classes {
            return invalid(format!("{} weights for {} classes", weights.len(), self.classes));
        }
        self.loss.weights = weights.to_vec();
        Ok(())
    }

    fn collect(&mut self, batch: &PacketBatch<'_>, before: u64) -> Result<u64, ModelError> {
        let packets = Packets::Encoded(batch);
        let rows = self.rows(&packets)?;
        let mut statistics = Vec::new();
        let mut graph = Graph::inference(&self.device, &self.parameters);
        self.logits(&mut graph, &packets, Some(&mut statistics), false)?;
        self.update_running(&statistics, rows, statistics_share(rows as u64, before));
        Ok(rows as u64)
    }

    fn probabilities_of(&self, batch: &PacketBatch<'_>, output: &mut [f32]) -> Result<(), ModelError> {
        let mut graph = Graph::inference(&self.device, &self.parameters);
        let logits = self.logits(&mut graph, &Packets::Encoded(batch), None, false)?;
        probabilities(&logits.as_vec(), self.classes, output);
        Ok(())
    }
}

impl<D: Device<f32>> SequenceClassifier for Reference<D> {
    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError> {
        self.weigh(weights)
    }

    fn train_step(&mut self, batch: &PacketBatch<'_>, labels: &[u32], rate: f32) -> Result<BatchLoss, ModelError> {
        self.step(&Packets::Encoded(batch), labels, rate)
    }

    fn probabilities(&mut self, batch: &PacketBatch<'_>, output: &mut [f32]) -> Result<(), ModelError> {
        self.probabilities_of(batch, output)
    }

    fn collect_statistics(&mut self, batch: &PacketBatch<'_>, before: u64) -> Result<u64, ModelError> {
        self.collect(batch, before)
    }

    fn dead_layers(&mut self) -> Vec<&'static str> {
        self.dead.clone()
    }
}

impl<D: Device<f32>> JointClassifier for Reference<D> {
    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError> {
        self.weigh(weights)
    }

    fn train_step(&mut self, batch: &ByteBatch<'_>, labels: &[u32], rate: f32) -> Result<BatchLoss, ModelError> {
        self.step(&Packets::Bytes(batch), labels, rate)
    }

    fn probabilities(&mut self, batch: &PacketBatch<'_>, output: &mut [f32]) -> Result<(), ModelError> {
        self.probabilities_of(batch, output)
    }

    fn collect_statistics(&mut self, batch: &PacketBatch<'_>, before: u64) -> Result<u64, ModelError> {
        self.collect(batch, before)
    }

    fn dead_layers(&mut self) -> Vec<&'static str> {
        self.dead.clone()
    }
}

impl<D: Device<f32>> PacketEncoder for Reference<D> {
    fn encode(
        &mut self,
        tokens: &[u16],
        packets: usize,
        pooling: Pooling,
        output: &mut [f32],
    ) -> Result<(), ModelError> {
        let Some(stacks) = &self.stacks else {
            return invalid("a classifier without an ELMo cannot encode packets".to_owned());
        };
        let mask = stacks.mask(tokens, packets)?;
        let mut graph = Graph::inference(&self.device, &self.parameters);
        output.copy_from_slice(&stacks.encodings(&mut graph, tokens, &mask, pooling, None)?.as_vec());
        Ok(())
    }
}

impl<D: Device<f32>> Resumable for Reference<D> {
    fn parameters(&self) -> ParameterSet {
        self.parameters.clone()
    }

    fn optimiser_state(&mut self) -> OptimiserState {
        self.optimiser.state(&self.parameters)
    }

    fn set_optimiser_state(&mut self, state: &OptimiserState) -> Result<(), ModelError> {
        self.optimiser.set_state(&self.parameters, state)
    }

    fn set_parameters(&mut self, parameters: &ParameterSet) -> Result<(), ModelError> {
        parameters.check(&classifier_specifications(&self.options, self.classes))?;
        if let Some(Stacks { options, vocabulary, positions, .. }) = &self.stacks {
            parameters.check(&encoder_specifications(options, *vocabulary, *positions))?;
        }
        self.parameters = parameters.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deep::golden;

    #[test]
    fn losses_parameters_and_probabilities_are_those_of_pytorch() {
        golden::check_classifier(&|options, parameters, seed| {
            classifier(options, parameters, seed, crate::Device::Cpu)
        });
    }

    #[test]
    fn joint_training_equals_that_of_pytorch() {
        golden::check_joint(&|options, parameters, seed| {
            joint_classifier(options, parameters, seed, crate::Device::Cpu)
        });
        let golden = golden::Golden::read();
        for (case, options) in golden::joint_cases() {
            let (tokens, counts, labels) = golden.byte_flows(case, 0);
            let batch = ByteBatch {
                tokens: &tokens,
                counts: &counts,
                metadata: &[],
                most: 3,
                pooling: options.pooling_of(golden::BYTES),
            };
            let gradients = joint_gradients(&options, &golden.classifier_parameters(case), &batch, &labels).unwrap();
            golden.check_gradients(case, &gradients);
        }
    }

    #[test]
    fn gradients_are_those_of_pytorch() {
        let golden = golden::Golden::read();
        for (case, options) in golden::classifier_cases() {
            let parameters = golden.classifier_parameters(case);
            let mut model = Reference::new(Cpu::default(), &options, &parameters, 0).unwrap();
            if let Some(weights) = golden.class_weights(case) {
                model.weigh(weights).unwrap();
            }
            let (layers, counts, labels, metadata) = golden.flows(case, 0);
            let batch = PacketBatch { metadata: &metadata, ..PacketBatch::whole(&layers, &counts) };
            let (_, gradients, _) = model.gradients(&Packets::Encoded(&batch), &labels).unwrap();
            golden.check_gradients(case, &gradients);
        }
    }

    #[test]
    fn padded_packets_are_ignored_and_bad_batches_are_errors() {
        let golden = golden::Golden::read();
        let (case, options) = golden::classifier_cases().remove(0);
        let mut model = classifier(&options, &golden.classifier_parameters(case), 0, crate::Device::Cpu).unwrap();
        let (mut layers, counts, labels, _) = golden.flows(case, 0);
        let mut outputs = [vec![0.0; labels.len() * 3], vec![0.0; labels.len() * 3]];
        for output in &mut outputs {
            let batch = PacketBatch::whole(&layers, &counts);
            model.probabilities(&batch, output).unwrap();
            // The first flow has one packet: overwrite its second.
            layers[48..96].fill(7.0);
        }
        assert_eq!(outputs[0], outputs[1]);
        assert!(outputs[0].chunks_exact(3).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-6));
        let batch = PacketBatch::whole(&layers, &counts);
        assert!(model.train_step(&batch, &[0, 1, 3, 0], 0.1).is_err());
        let no_packets = vec![0; counts.len()];
        assert!(model.probabilities(&PacketBatch { counts: &no_packets, ..batch }, &mut outputs[0]).is_err());
    }
}
