//! A network as described by [`crate::deep::network`], over the layers of a device: forward pass, backward pass and
//! training steps. Buffers grow to the largest batch and are kept; a step allocates nothing on the device.

use super::backend::{ColumnsAt, MatrixShape, Smoothing};
use super::chain::{Chain, Gradients, Pass};
use super::layers::LayerBackend;
use super::transformer::StepsShape;
use super::weights::{Optimiser, Statistics, Weight, is_finite};
use crate::ModelError;
use crate::deep::engine::{
    BatchLoss, MASKED_PRETRAINING, MaskedModel, NORM_MOMENTUM, NOT_FINITE, NetworkClassifier, OptimiserState,
    Resumable, TRAINING, diverged,
};
use crate::deep::loss::Loss;
use crate::deep::network::{Network as Description, Size};
use crate::deep::parameters::{MODEL, ParameterSet};
use crate::deep::{NetworkOptions, OptimiserKind};
use etcbench_storage::seed;

/// The network on a device.
pub(super) struct Network<B: LayerBackend> {
    device: B,
    classes: usize,
    columns: usize,
    /// Branches, followed by the trunk if there are several.
    chains: Vec<Chain<B>>,
    loss: Loss,
    class_weights: B::Values,
    dropout_seed: u64,
    optimiser: Optimiser,
    kind: OptimiserKind,
    flows: usize,
    input: B::Values,
    /// The gradient of the trunk's input.
    joined: B::Values,
    gradients: Gradients<B::Values>,
    labels: B::Indices,
    /// The index of every row.
    places: B::Indices,
    rows: Vec<u32>,
    host: Vec<f32>,
}

fn invalid(problem: String) -> ModelError {
    ModelError::Data { model: MODEL.to_owned(), problem }
}

impl<B: LayerBackend> Network<B> {
    pub(super) fn new(
        mut device: B,
        description: &Description,
        set: &ParameterSet,
        options: NetworkOptions,
    ) -> Result<Self, ModelError> {
        let problem = || invalid("the network has too few steps for its layers".to_owned());
        let chains = description.chains().ok_or_else(problem)?;
        let chains = chains.iter().map(|chain| Chain::new(&mut device, set, chain)).collect::<Result<Vec<_>, _>>()?;
        let classes = description.classes;
        let mut class_weights = B::Values::default();
        device.upload(&vec![1.0; classes], &mut class_weights);
        device.check()?;
        let NetworkOptions { seed, optimiser: kind, weight_decay, label_smoothing } = options;
        Ok(Self {
            device,
            classes,
            columns: description.columns(),
            chains,
            loss: Loss::unweighted(classes, label_smoothing),
            class_weights,
            dropout_seed: seed::derive(seed, "dropout"),
            optimiser: Optimiser { clip_norm: f32::INFINITY, weight_decay, averaging: None, steps: 0 },
            kind,
            flows: 0,
            input: B::Values::default(),
            joined: B::Values::default(),
            gradients: Gradients::default(),
            labels: B::Indices::default(),
            places: B::Indices::default(),
            rows: Vec::new(),
            host: Vec::new(),
        })
    }

    /// Copies a batch to the device and reserves buffers for its values.
    fn prepare(&mut self, rows: &[f32]) -> Result<(), ModelError> {
        let Self { device, chains, .. } = self;
        self.flows = rows.len() / self.columns;
        if rows.is_empty() || self.flows * self.columns != rows.len() {
            return Err(invalid(format!("{} values are not rows of {}", rows.len(), self.columns)));
        }
        let steps = chains.iter().flat_map(|chain| &chain.sizes).map(|size| size.steps).max().unwrap_or(1);
        let all = self.flows * steps;
        if self.rows.len() < all {
            self.rows = (0..all as u32).collect();
            device.upload_indices(&self.rows, &mut self.places);
        }
        let flows = self.flows;
        chains.iter_mut().for_each(|chain| chain.reserve(device, flows));
        if let [only] = chains.as_mut_slice()
            && only.marks.is_empty()
        {
            device.upload(rows, &mut only.values[0]);
            return Ok(());
        }
        device.upload(rows, &mut self.input);
        let mut first = 0;
        let branches = chains.len().saturating_sub(1).max(1);
        for chain in &mut chains[..branches] {
            let Size { steps, channels } = chain.sizes[0];
            let parts = std::iter::once((&mut chain.values[0], steps * channels));
            for (buffer, columns) in parts.chain(chain.marks.iter_mut().map(|marks| (marks, steps))) {
                let shape = MatrixShape { rows: flows, columns };
                device.reserve(buffer, shape.values());
                device.take_columns(shape, &self.input, ColumnsAt { total: self.columns, first }, buffer);
                first += columns;
            }
        }
        Ok(())
    }

    fn forward(&mut self, pass: Pass) {
        let Self { device, chains, places, .. } = self;
        let Some((trunk, branches)) = chains.split_last_mut() else { return };
        let total = trunk.sizes[0].values();
        let mut first = 0;
        for chain in branches {
            chain.forward(device, pass, places);
            let (output, size) = chain.output();
            let shape = MatrixShape { rows: pass.flows, columns: size.values() };
            device.put_columns(shape, output, ColumnsAt { total, first }, &mut trunk.values[0]);
            first += size.values();
        }
        trunk.forward(device, pass, places);
    }

    /// Computes the gradients of all weights from the gradient of the logits, which has replaced the logits.
    fn backward(&mut self, pass: Pass) {
        let Self { device, chains, places, gradients, joined, .. } = self;
        let Some((trunk, branches)) = chains.split_last_mut() else { return };
        // The next pass recomputes the logits, so their buffer may be swapped with any other.
        let last = trunk.values.len() - 1;
        std::mem::swap(&mut gradients.current, &mut trunk.values[last]);
        trunk.backward(device, pass, places, gradients, !branches.is_empty());
        let total = trunk.sizes[0].values();
        std::mem::swap(&mut gradients.current, joined);
        let mut first = 0;
        for chain in branches {
            let columns = chain.output().1.values();
            let shape = MatrixShape { rows: pass.flows, columns };
            device.reserve(&mut gradients.current, shape.values());
            let at = ColumnsAt { total, first };
            device.take_columns(shape, joined, at, &mut gradients.current);
            first += columns;
            chain.backward(device, pass, places, gradients, false);
        }
    }

    /// Computes the loss of a batch and adds its gradients to those of the weights.
    pub(super) fn loss_and_gradients(&mut self, rows: &[f32], labels: &[u32]) -> Result<BatchLoss, ModelError> {
        self.prepare(rows)?;
        let flows = self.flows;
        if labels.len() != flows || labels.iter().any(|&label| label as usize >= self.classes) {
            return Err(invalid(format!("{flows} flows need as many labels of {} classes", self.classes)));
        }
        let pass = Pass {
            flows,
            by: Statistics::Batch { share: NORM_MOMENTUM },
            dropping: Some((self.dropout_seed, self.optimiser.steps)),
        };
        self.forward(pass);
        let Self { device, chains, classes, loss, class_weights, labels: targets, .. } = self;
        device.upload_indices(labels, targets);
        let Some(logits) = chains.last_mut().and_then(|trunk| trunk.values.last_mut()) else {
            return Err(invalid("the network has no layers".to_owned()));
        };
        let shape = MatrixShape { rows: flows, columns: *classes };
        let sum = if loss.is_plain() {
            device.cross_entropy(shape, logits, targets, 1.0 / flows as f32)
        } else {
            let total = loss.total(labels);
            let smoothing = Smoothing { kept: loss.kept(), spread: loss.spread() };
            let scale = (1.0 / total) as f32;
            let sum = device.weighted_cross_entropy(shape, logits, targets, class_weights, smoothing, scale);
            sum * flows as f64 / total
        };
        self.backward(pass);
        self.device.check()?;
        Ok(BatchLoss { sum, targets: flows as u64 })
    }

    /// Reconstructs the hidden steps of a batch. Returns their squared errors and, if `training`, adds the gradients of
    /// their mean to those of the weights.
    pub(super) fn reconstruct(&mut self, rows: &[f32], training: bool) -> Result<BatchLoss, ModelError> {
        self.prepare(rows)?;
        let flows = self.flows;
        let dropping = training.then_some((self.dropout_seed, self.optimiser.steps));
        let pass = Pass { flows, by: Statistics::Batch { share: NORM_MOMENTUM }, dropping };
        let [chain] = self.chains.as_slice() else {
            return Err(invalid("only a network with one branch can reconstruct its input".to_owned()));
        };
        let (input, output) = (chain.sizes[0], chain.output().1);
        if input != output || chain.marks.len() != 2 {
            return Err(invalid("the network's output does not have the size of its input".to_owned()));
        }
        let marks = rows.chunks_exact(self.columns).flat_map(|row| &row[self.columns - input.steps..]);
        let targets = marks.filter(|mark| **mark > 0.0).count() * input.channels;
        if targets == 0 {
            return Ok(BatchLoss::default());
        }
        self.forward(pass);
        let shape = StepsShape { flows, steps: input.steps, channels: input.channels };
        let Self { device, chains, .. } = self;
        let Chain { values, marks, .. } = &mut chains[0];
        let Some((predicted, values)) = values.split_last_mut() else { return Ok(BatchLoss::default()) };
        let sum = device.squared_error(shape, &marks[1], &values[0], predicted, 1.0 / targets as f32);
        if training {
            self.backward(pass);
        }
        self.device.check()?;
        Ok(BatchLoss { sum, targets: targets as u64 })
    }

    /// Takes one step of the optimiser.
    fn step(&mut self, stage: &str, learning_rate: f32) -> Result<(), ModelError> {
        let Self { device, chains, optimiser, kind, .. } = self;
        let operation = match kind {
            OptimiserKind::Adamw => B::adam,
            OptimiserKind::Adamax => B::adamax,
        };
        optimiser.step_by(operation, stage, device, learning_rate, |visit| {
            chains.iter_mut().for_each(|chain| chain.visit(visit));
        })
    }

    fn visit(&mut self, visit: &mut dyn FnMut(&mut B, &mut Weight<B>)) {
        let Self { device, chains, .. } = self;
        chains.iter_mut().for_each(|chain| chain.visit(&mut |weight| visit(device, weight)));
    }

    /// Returns the current gradients by name.
    #[cfg(test)]
    pub(super) fn named_gradients(&mut self) -> Vec<(String, Vec<f32>)> {
        let mut found = Vec::new();
        self.visit(&mut |device, weight| found.push(weight.gradient(device)));
        found
    }

    /// Returns the first layer of the last forward pass that output a non-finite number.
    fn first_not_finite(&self) -> String {
        let mut given = self.chains.iter().flat_map(Chain::given);
        let found = given.find(|(_, values, size)| !is_finite(&self.device, values, self.flows * size));
        found.map_or("the last layer", |(name, ..)| name).to_owned()
    }
}

impl<B: LayerBackend> NetworkClassifier for Network<B> {
    fn set_rate_factors(&mut self, factor: &dyn Fn(&str) -> f32) {
        self.chains.iter_mut().for_each(|chain| chain.visit(&mut |weight| weight.set_rate(factor)));
    }

    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError> {
        if weights.len() != self.classes {
            return Err(invalid(format!("{} weights for {} classes", weights.len(), self.classes)));
        }
        self.loss.weights = weights.to_vec();
        self.device.upload(weights, &mut self.class_weights);
        self.device.check()
    }

    fn train_step(&mut self, rows: &[f32], labels: &[u32], learning_rate: f32) -> Result<BatchLoss, ModelError> {
        let loss = self.loss_and_gradients(rows, labels)?;
        if !loss.sum.is_finite() {
            return Err(diverged(TRAINING, &self.first_not_finite(), NOT_FINITE));
        }
        self.step(TRAINING, learning_rate)?;
        Ok(loss)
    }

    fn probabilities(&mut self, rows: &[f32], output: &mut [f32]) -> Result<(), ModelError> {
        self.prepare(rows)?;
        if output.len() != self.flows * self.classes {
            return Err(invalid(format!("a buffer of {} values does not fit {} flows", output.len(), self.flows)));
        }
        self.forward(Pass { flows: self.flows, by: Statistics::Running, dropping: None });
        let Self { device, chains, .. } = self;
        if let Some(logits) = chains.last_mut().and_then(|trunk| trunk.values.last_mut()) {
            device.softmax(MatrixShape { rows: self.flows, columns: self.classes }, logits);
            device.download(logits, output);
        }
        device.check()
    }

    fn dead_layers(&mut self) -> Vec<String> {
        let Self { device, chains, flows, host, .. } = self;
        let mut zero = |values: &B::Values, length: usize| {
            host.resize(length, 0.0);
            device.download(values, host);
            host.iter().all(|&value| value == 0.0)
        };
        // Called after every step: for a layer that is not dead, its first values are usually enough.
        let mut dead = |values: &B::Values, length: usize| zero(values, length.min(1024)) && zero(values, length);
        let mut found = Vec::new();
        for chain in chains {
            let dead = chain.rectified().filter(|(_, values, size)| dead(values, *flows * size));
            found.extend(dead.map(|(name, ..)| name.to_owned()));
        }
        found
    }
}

impl<B: LayerBackend> MaskedModel for Network<B> {
    fn train_step(&mut self, rows: &[f32], learning_rate: f32) -> Result<BatchLoss, ModelError> {
        let loss = self.reconstruct(rows, true)?;
        if loss.targets == 0 {
            return Ok(loss);
        }
        if !loss.sum.is_finite() {
            return Err(diverged(MASKED_PRETRAINING, &self.first_not_finite(), NOT_FINITE));
        }
        self.step(MASKED_PRETRAINING, learning_rate)?;
        Ok(loss)
    }

    fn loss(&mut self, rows: &[f32]) -> Result<BatchLoss, ModelError> {
        self.reconstruct(rows, false)
    }
}

impl<B: LayerBackend> Resumable for Network<B> {
    fn parameters(&self) -> ParameterSet {
        let mut set = ParameterSet::default();
        self.chains.iter().for_each(|chain| chain.store(&self.device, &mut set));
        set
    }

    fn set_parameters(&mut self, parameters: &ParameterSet) -> Result<(), ModelError> {
        let mut result = Ok(());
        self.visit(&mut |device, weight| {
            if result.is_ok() {
                result = weight.load(device, parameters);
            }
        });
        result?;
        let Self { device, chains, .. } = self;
        chains.iter_mut().try_for_each(|chain| chain.load_statistics(device, parameters))?;
        device.check()
    }

    fn optimiser_state(&mut self) -> OptimiserState {
        let Self { device, chains, optimiser, .. } = self;
        optimiser.state(device, |visit| chains.iter_mut().for_each(|chain| chain.visit(visit)))
    }

    fn set_optimiser_state(&mut self, state: &OptimiserState) -> Result<(), ModelError> {
        let Self { device, chains, optimiser, .. } = self;
        optimiser.set_state(device, state, |visit| chains.iter_mut().for_each(|chain| chain.visit(visit)))
    }
}
