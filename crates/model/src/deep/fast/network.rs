//! A convolutional network over the layers of a device: forward, backward and training steps of what
//! [`crate::deep::network`] describes. Buffers are sized by the largest batch and stay; a step allocates nothing on the device.

use super::device::{ColumnsAt, Device, Dropout, Smoothing};
use super::layers::{ConvolutionShape, Kernel, LayerDevice, PictureShape, Pooled, SquareShape, WindowShape};
use super::weights::{Norm, Optimiser, Statistics, Weight, is_finite};
use crate::ModelError;
use crate::deep::engine::{
    BatchLoss, DropoutPlace, NORM_MOMENTUM, NOT_FINITE, NetworkClassifier, OptimiserState, Resumable, TRAINING,
    diverged,
};
use crate::deep::loss::Loss;
use crate::deep::network::{Branch, Layer, Network as Description, Size};
use crate::deep::parameters::{MODEL, ParameterSet};
use crate::deep::{NetworkOptions, OptimiserKind};
use etcbench_storage::seed;

/// A layer with its parameters on the device.
enum Node<D: Device> {
    /// A convolution, or a linear layer: one whose kernel is all of a flow.
    Convolution {
        shape: ConvolutionShape,
        weight: Weight<D>,
        bias: Weight<D>,
    },
    PictureConvolution {
        shape: PictureShape,
        weight: Weight<D>,
        bias: Weight<D>,
    },
    Norm(Norm<D>),
    Relu,
    Elu,
    MaximumPool {
        shape: WindowShape,
        chosen: D::Indices,
    },
    SquarePool {
        shape: SquareShape,
        chosen: D::Indices,
    },
    GeneralisedMean {
        shape: WindowShape,
        exponent: Weight<D>,
    },
    Dropout {
        number: u32,
        rate: f32,
    },
    /// With the number of its flow for every row, so that all of a flow's steps drop the same channels.
    ChannelDropout {
        number: u32,
        rate: f32,
        flows: D::Indices,
        rows: usize,
    },
}

/// A layer of a chain, the buffer that it reads, and the one that it writes, which may be the same.
struct Placed<D: Device> {
    name: String,
    node: Node<D>,
    from: usize,
    to: usize,
    /// Steps and channels of a flow after it.
    output: Size,
}

/// Layers one after the other, and their values.
struct Chain<D: Device> {
    nodes: Vec<Placed<D>>,
    /// The input first, `[flows * steps, channels]`.
    values: Vec<D::Values>,
    sizes: Vec<Size>,
}

/// What a pass over a batch goes by.
#[derive(Clone, Copy)]
struct Pass {
    flows: usize,
    by: Statistics,
    /// Seed and step of the dropout, where there is one.
    dropping: Option<(u64, u64)>,
}

impl Pass {
    fn dropout(self, number: u32, rate: f32) -> Option<Dropout> {
        let (seed, step) = self.dropping.filter(|_| rate > 0.0)?;
        Some(Dropout { seed, step, place: DropoutPlace::Layer(number), rate })
    }
}

/// The gradient of what a layer gave, and room for that of what it read.
#[derive(Default)]
struct Gradients<V> {
    current: V,
    next: V,
}

impl<D: LayerDevice> Chain<D> {
    fn new(device: &mut D, set: &ParameterSet, branch: &Branch) -> Result<Self, ModelError> {
        let problem = || invalid("the network has too few steps for its layers".to_owned());
        let sizes = branch.sizes().ok_or_else(problem)?;
        let (mut nodes, mut last, mut buffers) = (Vec::new(), String::new(), vec![branch.input]);
        for (layer, pair) in branch.layers.iter().zip(sizes.windows(2)) {
            let (input, output) = (pair[0], pair[1]);
            let node = Node::new(device, set, layer, input)?;
            if let Layer::Convolution { name, .. }
            | Layer::PictureConvolution { name, .. }
            | Layer::Linear { name, .. } = layer
            {
                last.clone_from(name);
            }
            let from = buffers.len() - 1;
            if !node.is_in_place() {
                buffers.push(output);
            }
            nodes.push(Placed { name: last.clone(), node, from, to: buffers.len() - 1, output });
        }
        let values = buffers.iter().map(|_| D::Values::default()).collect();
        Ok(Self { nodes, values, sizes: buffers })
    }

    fn reserve(&mut self, device: &mut D, flows: usize) {
        for (values, size) in self.values.iter_mut().zip(&self.sizes) {
            device.reserve(values, flows * size.values());
        }
        for placed in &mut self.nodes {
            match &mut placed.node {
                Node::Convolution { shape, .. } => shape.flows = flows,
                Node::PictureConvolution { shape, .. } => shape.flows = flows,
                Node::SquarePool { shape, .. } => shape.flows = flows,
                Node::ChannelDropout { flows: of_rows, rows, .. } if *rows < flows * placed.output.steps => {
                    let steps = placed.output.steps;
                    *rows = flows * steps;
                    let numbers: Vec<u32> = (0..*rows).map(|row| (row / steps) as u32).collect();
                    device.upload_indices(&numbers, of_rows);
                }
                Node::MaximumPool { shape, .. } | Node::GeneralisedMean { shape, .. } => shape.flows = flows,
                _ => {}
            }
        }
    }

    fn visit(&mut self, visit: &mut dyn FnMut(&mut Weight<D>)) {
        for placed in &mut self.nodes {
            match &mut placed.node {
                Node::Convolution { weight, bias, .. } | Node::PictureConvolution { weight, bias, .. } => {
                    visit(weight);
                    visit(bias);
                }
                Node::Norm(norm) => norm.visit(visit),
                Node::GeneralisedMean { exponent, .. } => visit(exponent),
                Node::Relu
                | Node::Elu
                | Node::MaximumPool { .. }
                | Node::SquarePool { .. }
                | Node::Dropout { .. }
                | Node::ChannelDropout { .. } => {}
            }
        }
    }

    fn output(&self) -> (&D::Values, Size) {
        (&self.values[self.values.len() - 1], self.sizes[self.sizes.len() - 1])
    }

    fn forward(&mut self, device: &mut D, pass: Pass, places: &D::Indices) {
        for Placed { node, from, to, output, .. } in &mut self.nodes {
            let rows = pass.flows * output.steps;
            let (before, after) = self.values.split_at_mut(*to);
            let y = &mut after[0];
            let x = || &before[*from];
            match node {
                Node::Convolution { shape, weight, bias } => {
                    device.convolution(*shape, x(), Kernel { weight: weight.value(), bias: bias.value() }, y);
                }
                Node::PictureConvolution { shape, weight, bias } => {
                    let kernel = Kernel { weight: weight.value(), bias: bias.value() };
                    device.picture_convolution(*shape, x(), kernel, y);
                }
                Node::SquarePool { shape, chosen } => device.square_pool(*shape, x(), y, chosen),
                Node::ChannelDropout { number, rate, flows, .. } => {
                    if let Some(dropout) = pass.dropout(*number, *rate) {
                        device.dropout_in_place(rows, output.channels, dropout, flows, y);
                    }
                }
                Node::Norm(norm) => norm.forward(device, rows, x(), y, pass.by),
                Node::Relu => device.relu(rows * output.channels, y),
                Node::Elu => device.elu(rows * output.channels, y),
                Node::MaximumPool { shape, chosen } => device.maximum_pool(*shape, x(), y, chosen),
                Node::GeneralisedMean { shape, exponent } => {
                    device.generalised_mean(*shape, x(), exponent.value(), y);
                }
                Node::Dropout { number, rate } => {
                    if let Some(dropout) = pass.dropout(*number, *rate) {
                        device.dropout_in_place(rows, output.channels, dropout, places, y);
                    }
                }
            }
        }
    }

    /// From the gradient of the output to those of all weights, and of the input where it is `wanted`.
    fn backward(
        &mut self,
        device: &mut D,
        pass: Pass,
        places: &D::Indices,
        gradients: &mut Gradients<D::Values>,
        wanted: bool,
    ) {
        for (index, Placed { node, from, to, output, .. }) in self.nodes.iter_mut().enumerate().rev() {
            let rows = pass.flows * output.steps;
            let (x, y) = (&self.values[*from], &self.values[*to]);
            let input = pass.flows * self.sizes[*from].values();
            let Gradients { current, next } = gradients;
            match node {
                Node::Convolution { shape, weight, bias } => {
                    let kernel = Kernel { weight: &mut weight.trained, bias: &mut bias.trained };
                    let wanted = wanted || index > 0;
                    if wanted {
                        device.reserve(next, input);
                    }
                    device.convolution_backward(*shape, x, current, kernel, wanted.then_some(&mut *next));
                    std::mem::swap(current, next);
                }
                Node::PictureConvolution { shape, weight, bias } => {
                    let kernel = Kernel { weight: &mut weight.trained, bias: &mut bias.trained };
                    let wanted = wanted || index > 0;
                    if wanted {
                        device.reserve(next, input);
                    }
                    device.picture_convolution_backward(*shape, x, current, kernel, wanted.then_some(&mut *next));
                    std::mem::swap(current, next);
                }
                Node::SquarePool { shape, chosen } => {
                    device.reserve(next, input);
                    device.square_pool_backward(*shape, chosen, current, next);
                    std::mem::swap(current, next);
                }
                Node::ChannelDropout { number, rate, flows, .. } => {
                    if let Some(dropout) = pass.dropout(*number, *rate) {
                        device.dropout_in_place(rows, output.channels, dropout, flows, current);
                    }
                }
                Node::Norm(norm) => norm.backward(device, rows, x, current),
                Node::Relu => device.relu_backward(rows * output.channels, y, current),
                Node::Elu => device.elu_backward(rows * output.channels, y, current),
                Node::MaximumPool { shape, chosen } => {
                    device.reserve(next, input);
                    device.maximum_pool_backward(*shape, chosen, current, next);
                    std::mem::swap(current, next);
                }
                Node::GeneralisedMean { shape, exponent } => {
                    device.reserve(next, input);
                    let pooled = Pooled { x, y };
                    device.generalised_mean_backward(*shape, pooled, &mut exponent.trained, current, next);
                    std::mem::swap(current, next);
                }
                Node::Dropout { number, rate } => {
                    if let Some(dropout) = pass.dropout(*number, *rate) {
                        device.dropout_in_place(rows, output.channels, dropout, places, current);
                    }
                }
            }
        }
    }
}

impl<D: LayerDevice> Node<D> {
    fn new(device: &mut D, set: &ParameterSet, layer: &Layer, input: Size) -> Result<Self, ModelError> {
        let Size { steps, channels } = input;
        let window = |size, stride, before, output_steps| WindowShape {
            flows: 0,
            steps,
            channels,
            size,
            stride,
            before,
            output_steps,
        };
        Ok(match layer {
            Layer::Convolution { name, outputs, kernel, stride, padding } => {
                let axes = [*outputs, channels, *kernel];
                let shape = ConvolutionShape {
                    flows: 0,
                    steps,
                    inputs: channels,
                    outputs: *outputs,
                    kernel: *kernel,
                    stride: *stride,
                    padding: *padding,
                };
                Self::Convolution {
                    shape,
                    weight: Weight::reversed(device, set, format!("{name}.weight"), &axes, axes)?,
                    bias: Weight::new(device, set, format!("{name}.bias"), &[*outputs])?,
                }
            }
            Layer::PictureConvolution { name, outputs, kernel, size } => {
                let (shape, axes) = ([*outputs, channels, *kernel, *kernel], [*outputs, channels, kernel * kernel]);
                Self::PictureConvolution {
                    shape: PictureShape { flows: 0, size: *size, inputs: channels, outputs: *outputs, kernel: *kernel },
                    weight: Weight::reversed(device, set, format!("{name}.weight"), &shape, axes)?,
                    bias: Weight::new(device, set, format!("{name}.bias"), &[*outputs])?,
                }
            }
            Layer::SquarePool { pool, size } => Self::SquarePool {
                shape: SquareShape { flows: 0, size: *size, channels, pool: *pool },
                chosen: D::Indices::default(),
            },
            Layer::Linear { name, outputs } => {
                let axes = [*outputs, channels, steps];
                let (inputs, outputs) = (channels, *outputs);
                let padding = [0, 0];
                Self::Convolution {
                    shape: ConvolutionShape { flows: 0, steps, inputs, outputs, kernel: steps, stride: 1, padding },
                    weight: Weight::reversed(device, set, format!("{name}.weight"), &[outputs, input.values()], axes)?,
                    bias: Weight::new(device, set, format!("{name}.bias"), &[outputs])?,
                }
            }
            Layer::Norm { name } => Self::Norm(Norm::new(device, set, name, channels)?),
            Layer::Relu => Self::Relu,
            Layer::Elu => Self::Elu,
            Layer::MaximumPool { size, stride, padding } => {
                let output = layer.output(input).map_or(0, |output| output.steps);
                Self::MaximumPool { shape: window(*size, *stride, padding[0], output), chosen: D::Indices::default() }
            }
            Layer::GeneralisedMean { name } => Self::GeneralisedMean {
                shape: window(steps, 1, 0, 1),
                exponent: Weight::new(device, set, format!("{name}.p"), &[1])?,
            },
            Layer::Dropout { number, rate } => Self::Dropout { number: *number, rate: *rate },
            Layer::ChannelDropout { number, rate } => {
                Self::ChannelDropout { number: *number, rate: *rate, flows: D::Indices::default(), rows: 0 }
            }
        })
    }

    fn is_in_place(&self) -> bool {
        matches!(self, Self::Relu | Self::Elu | Self::Dropout { .. } | Self::ChannelDropout { .. })
    }
}

/// The network on a device.
pub(super) struct Network<D: LayerDevice> {
    device: D,
    classes: usize,
    columns: usize,
    /// Branches, and the trunk last where there are several.
    chains: Vec<Chain<D>>,
    loss: Loss,
    class_weights: D::Values,
    dropout_seed: u64,
    optimiser: Optimiser,
    kind: OptimiserKind,
    flows: usize,
    input: D::Values,
    /// The gradient of the trunk's input.
    joined: D::Values,
    gradients: Gradients<D::Values>,
    labels: D::Indices,
    /// The number of every row.
    places: D::Indices,
    rows: Vec<u32>,
    host: Vec<f32>,
}

fn invalid(problem: String) -> ModelError {
    ModelError::Data { model: MODEL.to_owned(), problem }
}

impl<D: LayerDevice> Network<D> {
    pub(super) fn new(
        mut device: D,
        description: &Description,
        set: &ParameterSet,
        options: NetworkOptions,
    ) -> Result<Self, ModelError> {
        let problem = || invalid("the network has too few steps for its layers".to_owned());
        let chains = description.chains().ok_or_else(problem)?;
        let chains = chains.iter().map(|chain| Chain::new(&mut device, set, chain)).collect::<Result<Vec<_>, _>>()?;
        let classes = description.classes;
        let mut class_weights = D::Values::default();
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
            input: D::Values::default(),
            joined: D::Values::default(),
            gradients: Gradients::default(),
            labels: D::Indices::default(),
            places: D::Indices::default(),
            rows: Vec::new(),
            host: Vec::new(),
        })
    }

    /// Copies a batch to the device and makes room for its values.
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
        if let [only] = chains.as_mut_slice() {
            device.upload(rows, &mut only.values[0]);
            return Ok(());
        }
        device.upload(rows, &mut self.input);
        let mut first = 0;
        let branches = chains.len() - 1;
        for chain in &mut chains[..branches] {
            let columns = chain.sizes[0].values();
            let at = ColumnsAt { total: self.columns, first };
            device.take_columns(flows, columns, &self.input, at, &mut chain.values[0]);
            first += columns;
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
            device.put_columns(pass.flows, size.values(), output, ColumnsAt { total, first }, &mut trunk.values[0]);
            first += size.values();
        }
        trunk.forward(device, pass, places);
    }

    /// From the gradient of the logits, which took their place, to those of all weights.
    fn backward(&mut self, pass: Pass) {
        let Self { device, chains, places, gradients, joined, .. } = self;
        let Some((trunk, branches)) = chains.split_last_mut() else { return };
        // The logits are computed anew in the next pass, so their buffer may be any.
        let last = trunk.values.len() - 1;
        std::mem::swap(&mut gradients.current, &mut trunk.values[last]);
        trunk.backward(device, pass, places, gradients, !branches.is_empty());
        let total = trunk.sizes[0].values();
        std::mem::swap(&mut gradients.current, joined);
        let mut first = 0;
        for chain in branches {
            let columns = chain.output().1.values();
            device.reserve(&mut gradients.current, pass.flows * columns);
            let at = ColumnsAt { total, first };
            device.take_columns(pass.flows, columns, joined, at, &mut gradients.current);
            first += columns;
            chain.backward(device, pass, places, gradients, false);
        }
    }

    /// The loss of a batch, and the gradients added to the weights'.
    pub(super) fn loss_and_gradients(&mut self, rows: &[f32], labels: &[u32]) -> Result<BatchLoss, ModelError> {
        self.prepare(rows)?;
        let flows = self.flows;
        if labels.len() != flows || labels.iter().any(|&label| label as usize >= self.classes) {
            return Err(invalid(format!("labels of {flows} flows are not as many of {} classes", self.classes)));
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
            return Err(invalid("a network without layers".to_owned()));
        };
        let sum = if loss.is_plain() {
            device.cross_entropy(flows, *classes, logits, targets, 1.0 / flows as f32)
        } else {
            let total = loss.total(labels);
            let smoothing = Smoothing { kept: loss.kept(), spread: loss.spread() };
            let scale = (1.0 / total) as f32;
            let sum = device.weighted_cross_entropy(flows, *classes, logits, targets, class_weights, smoothing, scale);
            sum * flows as f64 / total
        };
        self.backward(pass);
        self.device.check()?;
        Ok(BatchLoss { sum, targets: flows as u64 })
    }

    fn visit(&mut self, visit: &mut dyn FnMut(&mut D, &mut Weight<D>)) {
        let Self { device, chains, .. } = self;
        chains.iter_mut().for_each(|chain| chain.visit(&mut |weight| visit(device, weight)));
    }

    /// The gradients by name, as they are now.
    #[cfg(test)]
    pub(super) fn named_gradients(&mut self) -> Vec<(String, Vec<f32>)> {
        let mut found = Vec::new();
        self.visit(&mut |device, weight| found.push(weight.gradient(device)));
        found
    }

    /// The first layer of the last forward pass that gave a number that is not finite.
    fn first_not_finite(&self) -> String {
        let placed = self.chains.iter().flat_map(|chain| chain.nodes.iter().map(move |placed| (chain, placed)));
        let mut placed = placed.filter(|(chain, placed)| placed.to + 1 < chain.values.len());
        let found = placed.find(|(chain, placed)| {
            !is_finite(&self.device, &chain.values[placed.to], self.flows * chain.sizes[placed.to].values())
        });
        found.map_or("the logits", |(_, placed)| &placed.name).to_owned()
    }
}

impl<D: LayerDevice> NetworkClassifier for Network<D> {
    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError> {
        if weights.len() != self.classes {
            return Err(invalid(format!("{} weights of {} classes", weights.len(), self.classes)));
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
        let Self { device, chains, optimiser, kind, .. } = self;
        let operation = match kind {
            OptimiserKind::Adamw => D::adam,
            OptimiserKind::Adamax => D::adamax,
        };
        optimiser.step_by(operation, TRAINING, device, learning_rate, |visit| {
            chains.iter_mut().for_each(|chain| chain.visit(visit));
        })?;
        Ok(loss)
    }

    fn probabilities(&mut self, rows: &[f32], output: &mut [f32]) -> Result<(), ModelError> {
        self.prepare(rows)?;
        if output.len() != self.flows * self.classes {
            return Err(invalid(format!("{} values do not hold {} flows' probabilities", output.len(), self.flows)));
        }
        self.forward(Pass { flows: self.flows, by: Statistics::Running, dropping: None });
        let Self { device, chains, .. } = self;
        if let Some(logits) = chains.last_mut().and_then(|trunk| trunk.values.last_mut()) {
            device.softmax(self.flows, self.classes, logits);
            device.download(logits, output);
        }
        device.check()
    }

    fn dead_layers(&mut self) -> Vec<String> {
        let Self { device, chains, flows, host, .. } = self;
        let mut zero = |values: &D::Values, length: usize| {
            host.resize(length, 0.0);
            device.download(values, host);
            host.iter().all(|&value| value == 0.0)
        };
        // Asked for after every step: a layer that lives shows it in its first values.
        let mut dead = |values: &D::Values, length: usize| zero(values, length.min(1024)) && zero(values, length);
        let mut found = Vec::new();
        for chain in chains {
            for Placed { name, node, to, output, .. } in &chain.nodes {
                if matches!(node, Node::Relu) && dead(&chain.values[*to], *flows * output.values()) {
                    found.push(name.clone());
                }
            }
        }
        found
    }
}

impl<D: LayerDevice> Resumable for Network<D> {
    fn parameters(&self) -> ParameterSet {
        let mut set = ParameterSet::default();
        for Placed { node, .. } in self.chains.iter().flat_map(|chain| &chain.nodes) {
            match node {
                Node::Convolution { weight, bias, .. } | Node::PictureConvolution { weight, bias, .. } => {
                    weight.store(&self.device, &mut set);
                    bias.store(&self.device, &mut set);
                }
                Node::Norm(norm) => norm.store(&self.device, &mut set),
                Node::GeneralisedMean { exponent, .. } => exponent.store(&self.device, &mut set),
                Node::Relu
                | Node::Elu
                | Node::MaximumPool { .. }
                | Node::SquarePool { .. }
                | Node::Dropout { .. }
                | Node::ChannelDropout { .. } => {}
            }
        }
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
        for placed in chains.iter_mut().flat_map(|chain| &mut chain.nodes) {
            if let Node::Norm(norm) = &mut placed.node {
                norm.load_statistics(device, parameters)?;
            }
        }
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
