//! The classifier over a flow's encoded packets, whose input [`Reading`] prepares, over the operations of a device:
//! LSTM, normalisation, self-attention, normalisation, mean, two linear layers.

use super::backend::{
    Attended, Backend, Dropout, LinearShape, LstmGradients, LstmInput, LstmShape, MatrixShape, PoolInput, PoolShape,
    Smoothing,
};
use super::classifier_buffers::{BatchSize, Buffers, Projections};
use super::classifier_weights::{AttentionWeights, Weights};
use super::packing::Packing;
use super::reading::{Flows, Reading};
use super::weights::{Linear, Optimiser, Statistics, is_finite};
use crate::ModelError;
use crate::deep::engine::{
    BatchLoss, DropoutPlace, NORM_MOMENTUM, NOT_FINITE, OptimiserState, PacketBatch, Resumable, SequenceClassifier,
    TRAINING, diverged, statistics_share,
};
use crate::deep::loss::Loss;
use crate::deep::parameters::{Activation, AttentionLstmOptions, MODEL, ParameterSet};
use etcbench_storage::seed;

/// The classifier on a device.
pub(super) struct AttentionLstm<B: Backend> {
    pub device: B,
    options: AttentionLstmOptions,
    classes: usize,
    loss: Loss,
    /// Class weights, used if the loss is not plain cross-entropy.
    class_weights: B::Values,
    dropout_seed: u64,
    pub weights: Weights<B>,
    pub optimiser: Optimiser,
    pub packing: Packing,
    pub reading: Reading<B>,
    indices: Vec<u32>,
    /// Index of each flow in the batch.
    order: B::Indices,
    labels: B::Indices,
    buffers: Buffers<B::Values>,
    projections: Projections<B::Values>,
    host: Vec<f32>,
}

fn invalid(problem: String) -> ModelError {
    ModelError::Data { model: MODEL.to_owned(), problem }
}

fn shared<V>(attended: &Attended<V>) -> Attended<&V> {
    Attended { query: &attended.query, key: &attended.key, value: &attended.value }
}

impl<B: Backend> AttentionLstm<B> {
    pub(super) fn new(
        mut device: B,
        options: &AttentionLstmOptions,
        set: &ParameterSet,
        seed: u64,
    ) -> Result<Self, ModelError> {
        let classes = set.shape("classifier.output.bias")?.first().copied().unwrap_or(0);
        let weights = Weights::new(&mut device, options, classes, set)?;
        let mut class_weights = B::Values::default();
        device.upload(&vec![1.0; classes], &mut class_weights);
        device.check()?;
        let optimiser = Optimiser {
            clip_norm: options.clip_norm,
            weight_decay: options.weight_decay,
            averaging: options.averaging(),
            steps: 0,
        };
        Ok(Self {
            device,
            options: options.clone(),
            classes,
            loss: Loss::unweighted(classes, options.label_smoothing),
            class_weights,
            dropout_seed: seed::derive(seed, "dropout"),
            weights,
            optimiser,
            packing: Packing::default(),
            reading: Reading::new(options),
            indices: Vec::new(),
            order: B::Indices::default(),
            labels: B::Indices::default(),
            buffers: Buffers::default(),
            projections: Projections::default(),
            host: Vec::new(),
        })
    }

    fn lstm_shape(&self) -> LstmShape {
        LstmShape { inputs: self.options.step_size(), hidden: self.options.lstm, activation: self.options.activation }
    }

    fn linear_shape(rows: usize, linear: (usize, usize)) -> LinearShape {
        LinearShape { rows, inputs: linear.0, outputs: linear.1 }
    }

    fn dropout(&self, place: DropoutPlace) -> Option<Dropout> {
        let rate = self.options.dropout;
        (rate > 0.0).then_some(Dropout { seed: self.dropout_seed, step: self.optimiser.steps, place, rate })
    }

    /// Checks and packs a batch, and reserves buffers for it.
    fn prepare(&mut self, batch: &PacketBatch<'_>) -> Result<(), ModelError> {
        self.reading.prepare(&mut self.device, &mut self.packing, batch)?;
        self.reserve();
        Ok(())
    }

    /// Packs flows whose encodings will be in the reading's layers, and reserves buffers for them.
    pub(super) fn pack(&mut self, flows: &Flows<'_>) -> Result<(), ModelError> {
        self.reading.read_layers();
        self.reading.pack(&mut self.device, &mut self.packing, flows)?;
        self.reserve();
        Ok(())
    }

    fn reserve(&mut self) {
        let Self { device, options, classes, packing, order, buffers, projections, .. } = self;
        device.upload_indices(&packing.order, order);
        let longest = packing.lengths.first().map_or(0, |&length| length as usize);
        let size = BatchSize { flows: packing.rows(), steps: packing.states, longest };
        for (buffer, length) in
            buffers.sized(options, *classes, size).into_iter().chain(projections.sized(options, packing.states))
        {
            device.reserve(buffer, length);
        }
    }

    /// Computes the logits of the prepared batch; `dropping` enables dropout.
    fn forward(&mut self, by: Statistics, dropping: bool) {
        let (lstm, dense) = (self.options.lstm, self.options.dense);
        let (flows, states) = (self.packing.rows(), self.packing.states);
        let lstm_shape = self.lstm_shape();
        let packets = self.dropout(DropoutPlace::Packets).filter(|_| dropping);
        let features = self.dropout(DropoutPlace::Dense).filter(|_| dropping);
        let Self { device, weights, packing, reading, buffers, projections, .. } = self;

        reading.forward(device, states, weights, by, packets);
        let input = LstmInput::Rows(reading.output());
        device.lstm(lstm_shape, packing, input, weights.lstm.values(), &mut buffers.lstm);
        weights.norm.forward(device, states, &buffers.lstm.hidden, &mut buffers.normalised, by);
        let mut last = &buffers.normalised;
        if let Some(AttentionWeights { query, key, value, norm }) = &mut weights.attention {
            let values = &mut projections.values;
            let square = Self::linear_shape(states, (lstm, lstm));
            for (linear, y) in [(query, &mut values.query), (key, &mut values.key), (value, &mut values.value)] {
                device.linear(square, last, linear.values(), y);
            }
            device.attention(packing, lstm, shared(values), &mut buffers.scores, &mut buffers.attended);
            norm.forward(device, states, &buffers.attended, &mut buffers.attended_normalised, by);
            last = &buffers.attended_normalised;
        }
        device.pool(packing, PoolShape::mean(lstm), PoolInput::Rows(last), &mut buffers.pooled);
        let shape = Self::linear_shape(flows, (lstm, dense));
        device.linear(shape, &buffers.pooled, weights.dense.values(), &mut buffers.features);
        device.relu(shape.output().values(), &mut buffers.features);
        if let Some(dropout) = features {
            device.dropout_in_place(shape.output(), dropout, &self.order, &mut buffers.features);
        }
        let shape = Self::linear_shape(flows, (dense, self.classes));
        device.linear(shape, &buffers.features, weights.output.values(), &mut buffers.logits);
    }

    /// Computes the gradients of all weights from the gradient of the logits.
    fn backward(&mut self) {
        let (lstm, dense) = (self.options.lstm, self.options.dense);
        let (flows, states) = (self.packing.rows(), self.packing.states);
        let lstm_shape = self.lstm_shape();
        let packets = self.dropout(DropoutPlace::Packets);
        let features = self.dropout(DropoutPlace::Dense);
        let Self { device, weights, packing, reading, buffers, projections, .. } = self;
        let through = |device: &mut B,
                       linear: &mut Linear<B>,
                       shape: LinearShape,
                       x: &B::Values,
                       dy: &B::Values,
                       dx: &mut B::Values,
                       accumulate: bool| {
            device.linear_backward(shape, x, dy, linear.trained(), dx, accumulate);
        };

        let shape = Self::linear_shape(flows, (dense, self.classes));
        let gradient = &mut buffers.features_gradient;
        through(device, &mut weights.output, shape, &buffers.features, &buffers.logits, gradient, false);
        if let Some(dropout) = features {
            let features = MatrixShape { rows: flows, columns: dense };
            device.dropout_in_place(features, dropout, &self.order, gradient);
        }
        device.relu_backward(flows * dense, &buffers.features, gradient);
        let shape = Self::linear_shape(flows, (lstm, dense));
        let pooled = &mut buffers.pooled_gradient;
        through(device, &mut weights.dense, shape, &buffers.pooled, gradient, pooled, false);
        let gradient = &mut buffers.gradient;
        // The gradient of a mean does not depend on its inputs.
        device.pool_backward(
            packing,
            PoolShape::mean(lstm),
            PoolInput::Rows(&buffers.normalised),
            pooled,
            gradient,
            false,
        );
        if let Some(AttentionWeights { query, key, value, norm }) = &mut weights.attention {
            norm.backward(device, states, &buffers.attended, gradient);
            let Projections { values, gradients } = projections;
            let wanted = Attended { query: &mut gradients.query, key: &mut gradients.key, value: &mut gradients.value };
            device.attention_backward(packing, lstm, shared(values), &buffers.scores, gradient, wanted);
            let square = Self::linear_shape(states, (lstm, lstm));
            through(device, query, square, &buffers.normalised, &gradients.query, gradient, false);
            through(device, key, square, &buffers.normalised, &gradients.key, gradient, true);
            through(device, value, square, &buffers.normalised, &gradients.value, gradient, true);
        }
        weights.norm.backward(device, states, &buffers.lstm.hidden, gradient);
        let (read, read_gradient) = reading.output_and_gradient();
        let (input, trained) = (LstmInput::Rows(read), weights.lstm.trained());
        let gradients = LstmGradients { output: gradient, input: read_gradient };
        device.lstm_backward(lstm_shape, packing, input, trained, &mut buffers.lstm, gradients);
        reading.backward(device, states, weights, packets);
    }

    /// Returns the first layer of the last forward pass that contains a non-finite number.
    pub(super) fn first_not_finite(&self) -> String {
        let (states, flows) = (self.packing.states, self.packing.rows());
        let AttentionLstmOptions { lstm, dense, .. } = self.options;
        let buffers = &self.buffers;
        let layers = [
            ("classifier.lstm", &buffers.lstm.hidden, states * lstm),
            ("classifier.norm_1", &buffers.normalised, states * lstm),
            ("classifier.attention", &buffers.attended, states * lstm),
            ("classifier.norm_2", &buffers.attended_normalised, states * lstm),
            ("classifier.dense", &buffers.features, flows * dense),
        ];
        let attention = self.weights.attention.is_some();
        let absent = |name| !attention && ["classifier.attention", "classifier.norm_2"].contains(&name);
        let layers =
            self.reading.computed(states).into_iter().chain(layers.into_iter().filter(|layer| !absent(layer.0)));
        let found = layers.into_iter().find(|(_, values, length)| !is_finite(&self.device, values, *length));
        found.map_or("classifier.output", |(name, ..)| name).to_owned()
    }

    /// Returns the current gradients by name.
    pub(super) fn named_gradients(&mut self) -> Vec<(String, Vec<f32>)> {
        let Self { device, weights, .. } = self;
        let mut found = Vec::new();
        weights.visit(&mut |weight| found.push(weight.gradient(device)));
        found
    }

    /// Computes the loss of a batch and adds its gradients to those of the weights.
    pub(super) fn gradients(&mut self, batch: &PacketBatch<'_>, labels: &[u32]) -> Result<BatchLoss, ModelError> {
        self.check_labels(labels, batch.counts.len())?;
        self.prepare(batch)?;
        let loss = self.loss_and_gradients(labels);
        self.device.check()?;
        Ok(loss)
    }

    /// Checks the classes of a batch's flows.
    pub(super) fn check_labels(&self, labels: &[u32], flows: usize) -> Result<(), ModelError> {
        if labels.len() != flows {
            return Err(invalid(format!("{} labels for a batch of {flows} flows", labels.len())));
        }
        match labels.iter().find(|&&label| label as usize >= self.classes) {
            Some(label) => Err(invalid(format!("label {label} is out of range for {} classes", self.classes))),
            None => Ok(()),
        }
    }

    /// Computes the loss of the packed batch and adds its gradients to those of the weights; the gradient of the mixed
    /// layers remains in the reading.
    pub(super) fn loss_and_gradients(&mut self, labels: &[u32]) -> BatchLoss {
        let flows = labels.len();
        self.indices.clear();
        self.indices.extend(self.packing.order.iter().map(|&flow| labels[flow as usize]));
        self.device.upload_indices(&self.indices, &mut self.labels);
        self.forward(Statistics::Batch { share: NORM_MOMENTUM }, true);
        let Self { device, classes, loss, class_weights, labels: targets, buffers: Buffers { logits, .. }, .. } = self;
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
        self.backward();
        BatchLoss { sum, targets: flows as u64 }
    }
}

impl<B: Backend> SequenceClassifier for AttentionLstm<B> {
    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError> {
        if weights.len() != self.classes {
            return Err(invalid(format!("{} weights for {} classes", weights.len(), self.classes)));
        }
        self.loss.weights = weights.to_vec();
        self.device.upload(weights, &mut self.class_weights);
        self.device.check()
    }

    fn train_step(
        &mut self,
        batch: &PacketBatch<'_>,
        labels: &[u32],
        learning_rate: f32,
    ) -> Result<BatchLoss, ModelError> {
        let loss = self.gradients(batch, labels)?;
        if !loss.sum.is_finite() {
            return Err(diverged(TRAINING, &self.first_not_finite(), NOT_FINITE));
        }
        let Self { device, weights, optimiser, .. } = self;
        optimiser.step(TRAINING, device, learning_rate, |visit| weights.visit(visit))?;
        optimiser.average(device, |visit| weights.visit(visit));
        Ok(loss)
    }

    fn probabilities(&mut self, batch: &PacketBatch<'_>, output: &mut [f32]) -> Result<(), ModelError> {
        let flows = batch.counts.len();
        if output.len() != flows * self.classes {
            return Err(invalid(format!("a buffer of {} values does not fit {flows} flows", output.len())));
        }
        self.prepare(batch)?;
        self.forward(Statistics::Running, false);
        let shape = MatrixShape { rows: flows, columns: self.classes };
        self.device.softmax(shape, &mut self.buffers.logits);
        self.host.resize(output.len(), 0.0);
        self.device.download(&self.buffers.logits, &mut self.host);
        self.device.check()?;
        for (&flow, row) in self.packing.order.iter().zip(self.host.chunks_exact(self.classes)) {
            output[flow as usize * self.classes..][..self.classes].copy_from_slice(row);
        }
        Ok(())
    }

    fn collect_statistics(&mut self, batch: &PacketBatch<'_>, before: u64) -> Result<u64, ModelError> {
        self.prepare(batch)?;
        let rows = self.packing.states as u64;
        self.forward(Statistics::Batch { share: statistics_share(rows, before) }, false);
        self.device.check()?;
        Ok(rows)
    }

    fn dead_layers(&mut self) -> Vec<&'static str> {
        let Self { device, buffers, packing, options, .. } = self;
        let mut layers = vec![("classifier.dense", &buffers.features, packing.rows() * options.dense)];
        if options.activation == Activation::Relu {
            layers.insert(0, ("classifier.lstm", &buffers.lstm.hidden, packing.states * options.lstm));
        }
        // Called after every step: for a layer that is not dead, its first values are usually enough.
        let mut host = Vec::new();
        let mut zero = |values: &B::Values, length: usize| {
            host.resize(length, 0.0);
            device.download(values, &mut host);
            host.iter().all(|&value| value == 0.0)
        };
        let mut dead = |values: &B::Values, length: usize| zero(values, length.min(1024)) && zero(values, length);
        layers.into_iter().filter(|(_, values, length)| dead(values, *length)).map(|(name, ..)| name).collect()
    }
}

impl<B: Backend> Resumable for AttentionLstm<B> {
    fn parameters(&self) -> ParameterSet {
        self.weights.store(&self.device)
    }

    fn optimiser_state(&mut self) -> OptimiserState {
        let Self { device, weights, optimiser, .. } = self;
        optimiser.state(device, |visit| weights.visit(visit))
    }

    fn set_optimiser_state(&mut self, state: &OptimiserState) -> Result<(), ModelError> {
        let Self { device, weights, optimiser, .. } = self;
        optimiser.set_state(device, state, |visit| weights.visit(visit))
    }

    fn set_parameters(&mut self, parameters: &ParameterSet) -> Result<(), ModelError> {
        let Self { device, weights, .. } = self;
        weights.load(device, parameters)?;
        device.check()
    }
}
