//! A network as described by [`crate::deep::network`]: steps of training, of classification and of the reconstruction of
//! hidden parts, and probabilities.

mod forward;
mod windows;

use std::collections::BTreeMap;

use dfdx::prelude::*;

use super::graph::{Graph, NamedGradients};
use super::layers::update_running;
use super::loss::{mean_loss, probabilities};
use super::optimiser::{Adam, first_not_finite};
use crate::ModelError;
use crate::deep::NetworkOptions;
use crate::deep::engine::{
    BatchLoss, MASKED_PRETRAINING, MaskedModel, NORM_MOMENTUM, NOT_FINITE, NetworkClassifier, OptimiserState,
    Resumable, TRAINING, diverged,
};
use crate::deep::loss::Loss;
use crate::deep::network::Network;
use crate::deep::parameters::{MODEL, ParameterSet};
use etcbench_storage::seed;
use forward::{Marks, PassRecord};

/// Creates a network on the CPU with a copy of `parameters`.
///
/// # Errors
/// The parameters' shapes do not match the network.
pub(crate) fn network(
    network: &Network,
    parameters: &ParameterSet,
    options: NetworkOptions,
) -> Result<Box<dyn NetworkClassifier>, ModelError> {
    Ok(Box::new(Reference::new(network, parameters, options)?))
}

/// Creates a network that reconstructs hidden parts of its input, on the CPU, with a copy of `parameters`.
///
/// # Errors
/// Same as [`network`].
pub(crate) fn masked_model(
    network: &Network,
    parameters: &ParameterSet,
    options: NetworkOptions,
) -> Result<Box<dyn MaskedModel>, ModelError> {
    Ok(Box::new(Reference::new(network, parameters, options)?))
}

struct Reference {
    device: Cpu,
    network: Network,
    loss: Loss,
    parameters: ParameterSet,
    optimiser: Adam,
    /// Factors of the learning rate by parameter name, where they are not 1.
    rates: BTreeMap<String, f32>,
    dropout_seed: u64,
    dead: Vec<String>,
}

fn invalid<T>(problem: String) -> Result<T, ModelError> {
    Err(ModelError::Data { model: MODEL.to_owned(), problem })
}

impl Reference {
    fn new(network: &Network, parameters: &ParameterSet, options: NetworkOptions) -> Result<Self, ModelError> {
        let Some(known) = network.specifications() else {
            return invalid("the network has too few steps for its layers".to_owned());
        };
        parameters.check(&known)?;
        let NetworkOptions { seed, optimiser, weight_decay, label_smoothing } = options;
        Ok(Self {
            device: Cpu::default(),
            network: network.clone(),
            loss: Loss::unweighted(network.classes, label_smoothing),
            parameters: parameters.clone(),
            optimiser: Adam::of_network(optimiser, weight_decay),
            rates: BTreeMap::new(),
            dropout_seed: seed::derive(seed, "dropout"),
            dead: Vec::new(),
        })
    }

    /// Returns the loss, the gradients of its mean over flows, and the other results of a training pass.
    fn gradients(&self, rows: &[f32], labels: &[u32]) -> Result<(BatchLoss, NamedGradients, PassRecord), ModelError> {
        let flows = labels.len();
        let is_class = |&label: &u32| (label as usize) < self.network.classes;
        if flows * self.network.columns() != rows.len() || !labels.iter().all(is_class) {
            return invalid(format!("{flows} labels do not fit the rows or {} classes", self.network.classes));
        }
        let mut record = PassRecord::default();
        let mut graph = Graph::recording(&self.device, &self.parameters);
        let logits = self.logits(&mut graph, rows, Some(&mut record))?;
        let (loss, mean) = mean_loss(&graph, logits, labels, &self.loss);
        Ok((loss, graph.backward(mean), record))
    }

    /// Returns the squared errors of hidden steps and the gradients of their mean.
    fn reconstruction(&self, rows: &[f32], training: bool) -> Result<(BatchLoss, NamedGradients), ModelError> {
        let [branch] = self.network.branches.as_slice() else {
            return invalid("only a network with one branch can reconstruct its input".to_owned());
        };
        let (columns, size) = (self.network.columns(), branch.input);
        let marks = Marks::of(branch, rows.chunks_exact(columns));
        let targets = marks.hidden.iter().filter(|mark| **mark > 0.0).count() * size.channels;
        if targets == 0 {
            return Ok((BatchLoss::default(), NamedGradients::new()));
        }
        let mut graph = if training {
            Graph::recording(&self.device, &self.parameters)
        } else {
            Graph::inference(&self.device, &self.parameters)
        };
        let mut record = PassRecord::default();
        let predicted = self.logits(&mut graph, rows, training.then_some(&mut record))?;
        let shape = *predicted.shape();
        let target = rows.chunks_exact(columns).flat_map(|row| &row[..size.values()]).copied().collect();
        let chosen = marks.hidden.iter().flat_map(|mark| std::iter::repeat_n(*mark, size.channels)).collect();
        let errors = (predicted - graph.constant(target, shape)) * graph.constant(chosen, shape);
        let sum = errors.as_vec().iter().map(|&error| f64::from(error).powi(2)).sum();
        let loss = BatchLoss { sum, targets: targets as u64 };
        if !training {
            return Ok((loss, NamedGradients::new()));
        }
        let mean = errors.square().sum::<(), Axes2<0, 1>>() / targets as f32;
        Ok((loss, graph.backward(mean)))
    }
}

impl NetworkClassifier for Reference {
    fn set_rate_factors(&mut self, factor: &dyn Fn(&str) -> f32) {
        self.rates = self.parameters.iter().map(|(name, _)| (name.to_owned(), factor(name))).collect();
    }

    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError> {
        if weights.len() != self.network.classes {
            return invalid(format!("{} weights for {} classes", weights.len(), self.network.classes));
        }
        self.loss.weights = weights.to_vec();
        Ok(())
    }

    fn train_step(&mut self, rows: &[f32], labels: &[u32], learning_rate: f32) -> Result<BatchLoss, ModelError> {
        let (loss, gradients, PassRecord { statistics, dead }) = self.gradients(rows, labels)?;
        if !loss.sum.is_finite() {
            return Err(diverged(TRAINING, first_not_finite(&self.parameters, "the logits"), NOT_FINITE));
        }
        self.dead = dead;
        let rate = |name: &str| learning_rate * self.rates.get(name).copied().unwrap_or(1.0);
        self.optimiser.update(TRAINING, &mut self.parameters, gradients, rate)?;
        for (name, found, rows) in &statistics {
            update_running(&mut self.parameters, name, found, *rows, NORM_MOMENTUM);
        }
        Ok(loss)
    }

    fn probabilities(&mut self, rows: &[f32], output: &mut [f32]) -> Result<(), ModelError> {
        let mut graph = Graph::inference(&self.device, &self.parameters);
        let logits = self.logits(&mut graph, rows, None)?.as_vec();
        if logits.len() != output.len() {
            return invalid(format!("a buffer of {} values does not fit {} probabilities", output.len(), logits.len()));
        }
        probabilities(&logits, self.network.classes, output);
        Ok(())
    }

    fn dead_layers(&mut self) -> Vec<String> {
        self.dead.clone()
    }
}

impl MaskedModel for Reference {
    fn train_step(&mut self, rows: &[f32], learning_rate: f32) -> Result<BatchLoss, ModelError> {
        let (loss, gradients) = self.reconstruction(rows, true)?;
        if loss.targets == 0 {
            return Ok(loss);
        }
        if !loss.sum.is_finite() {
            let place = first_not_finite(&self.parameters, "the last layer");
            return Err(diverged(MASKED_PRETRAINING, place, NOT_FINITE));
        }
        self.optimiser.update(MASKED_PRETRAINING, &mut self.parameters, gradients, |_| learning_rate)?;
        Ok(loss)
    }

    fn loss(&mut self, rows: &[f32]) -> Result<BatchLoss, ModelError> {
        Ok(self.reconstruction(rows, false)?.0)
    }
}

impl Resumable for Reference {
    fn parameters(&self) -> ParameterSet {
        self.parameters.clone()
    }

    fn set_parameters(&mut self, parameters: &ParameterSet) -> Result<(), ModelError> {
        parameters.check(&self.network.specifications().unwrap_or_default())?;
        self.parameters = parameters.clone();
        Ok(())
    }

    fn optimiser_state(&mut self) -> OptimiserState {
        self.optimiser.state(&self.parameters)
    }

    fn set_optimiser_state(&mut self, state: &OptimiserState) -> Result<(), ModelError> {
        self.optimiser.set_state(&self.parameters, state)
    }
}

/// Returns the gradients of a batch's loss by name.
#[cfg(test)]
pub(crate) fn gradients(
    network: &Network,
    parameters: &ParameterSet,
    options: NetworkOptions,
    class_weights: Option<&[f32]>,
    (rows, labels): (&[f32], &[u32]),
) -> Result<NamedGradients, ModelError> {
    let mut model = Reference::new(network, parameters, options)?;
    if let Some(weights) = class_weights {
        model.set_class_weights(weights)?;
    }
    Ok(model.gradients(rows, labels)?.1)
}

/// Returns the gradients of a batch's reconstruction loss by name.
#[cfg(test)]
pub(crate) fn masked_gradients(
    network: &Network,
    parameters: &ParameterSet,
    options: NetworkOptions,
    rows: &[f32],
) -> Result<NamedGradients, ModelError> {
    Ok(Reference::new(network, parameters, options)?.reconstruction(rows, true)?.1)
}
