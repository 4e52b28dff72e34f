//! A sequence of layers as described by [`crate::deep::network`], over the operations of a device: their parameters,
//! buffers, and forward and backward passes.

use super::backend::{Backend, ColumnsAt, Dropout, MatrixShape, NormWeights};
use super::layers::{Convolution2dShape, ConvolutionShape, Kernel, LayerBackend, Pool2dShape, Pooled, WindowShape};
use super::transformer::{HeadsShape, Projected, StepsShape};
use super::weights::{Norm, Statistics, Weight};
use crate::ModelError;
use crate::deep::engine::DropoutPlace;
use crate::deep::network::{Branch, Layer, Size};
use crate::deep::parameters::{MODEL, ParameterSet};

/// Indices of the marks for present and hidden steps.
const PRESENT: usize = 0;
const HIDDEN: usize = 1;

fn steps_of(flows: usize, Size { steps, channels }: Size) -> StepsShape {
    StepsShape { flows, steps, channels }
}

/// A layer with its parameters on the device.
enum Node<B: Backend> {
    /// A convolution. A linear layer is a convolution whose kernel covers the whole flow.
    Convolution {
        shape: ConvolutionShape,
        weight: Weight<B>,
        bias: Weight<B>,
    },
    Convolution2d {
        shape: Convolution2dShape,
        weight: Weight<B>,
        bias: Weight<B>,
    },
    Norm(Norm<B>),
    Relu,
    Elu,
    MaxPool {
        shape: WindowShape,
        chosen: B::Indices,
    },
    MaxPool2d {
        shape: Pool2dShape,
        chosen: B::Indices,
    },
    GeneralisedMean {
        shape: WindowShape,
        exponent: Weight<B>,
    },
    Dropout {
        number: u32,
        rate: f32,
    },
    LayerNorm {
        weight: Weight<B>,
        bias: Weight<B>,
        moments: B::Values,
    },
    Gelu,
    Heads {
        shape: HeadsShape,
        shares: B::Values,
    },
    Positions {
        table: Weight<B>,
    },
    Hide {
        token: Weight<B>,
    },
    PresentMean,
    Fork,
    /// Adds the buffer saved by the preceding fork.
    Join {
        of: usize,
    },
    /// Contains the flow of every row, so that the same channels are dropped at all steps of a flow.
    ChannelDropout {
        number: u32,
        rate: f32,
        flows: B::Indices,
        rows: usize,
    },
}

/// A layer of a chain with the buffers it reads and writes, which may be the same.
struct Placed<B: Backend> {
    name: String,
    node: Node<B>,
    from: usize,
    to: usize,
    /// Steps and channels of a flow after the layer.
    output: Size,
}

/// A sequence of layers and their values.
pub(super) struct Chain<B: Backend> {
    nodes: Vec<Placed<B>>,
    /// Buffers of values, starting with the input, `[flows * steps, channels]`.
    pub values: Vec<B::Values>,
    /// Size of each buffer.
    pub sizes: Vec<Size>,
    /// Marks of present and hidden input steps, `[flows * steps]`; as many as the branch has.
    pub marks: Vec<B::Values>,
}

/// Settings of a pass over a batch.
#[derive(Clone, Copy)]
pub(super) struct Pass {
    pub flows: usize,
    pub by: Statistics,
    /// Seed and step of dropout; `None` without dropout.
    pub dropping: Option<(u64, u64)>,
}

impl Pass {
    fn dropout(self, number: u32, rate: f32) -> Option<Dropout> {
        let (seed, step) = self.dropping.filter(|_| rate > 0.0)?;
        Some(Dropout { seed, step, place: DropoutPlace::Layer(number), rate })
    }
}

/// The gradient of a layer's output, a buffer for that of its input, and the gradient that bypasses the layers between
/// a fork and a join.
#[derive(Default)]
pub(super) struct Gradients<V> {
    pub current: V,
    next: V,
    around: V,
}

fn invalid(problem: &str) -> ModelError {
    ModelError::Data { model: MODEL.to_owned(), problem: problem.to_owned() }
}

impl<B: LayerBackend> Chain<B> {
    pub(super) fn new(device: &mut B, set: &ParameterSet, branch: &Branch) -> Result<Self, ModelError> {
        let problem = || invalid("the network has too few steps for its layers");
        let sizes = branch.sizes().ok_or_else(problem)?;
        let (mut nodes, mut last, mut buffers, mut fork) = (Vec::new(), String::new(), vec![branch.input], 0);
        for (layer, pair) in branch.layers.iter().zip(sizes.windows(2)) {
            let (input, output) = (pair[0], pair[1]);
            let mut node = Node::new(device, set, layer, input)?;
            if let Layer::Convolution { name, .. }
            | Layer::Convolution2d { name, .. }
            | Layer::StepLinear { name, .. }
            | Layer::Linear { name, .. } = layer
            {
                last.clone_from(name);
            }
            let from = buffers.len() - 1;
            match &mut node {
                Node::Fork => fork = from,
                Node::Join { of } => *of = fork,
                _ => {}
            }
            if !node.is_in_place() {
                buffers.push(output);
            }
            nodes.push(Placed { name: last.clone(), node, from, to: buffers.len() - 1, output });
        }
        let values = buffers.iter().map(|_| B::Values::default()).collect();
        let marks = (0..branch.marks).map(|_| B::Values::default()).collect();
        Ok(Self { nodes, values, sizes: buffers, marks })
    }

    pub(super) fn reserve(&mut self, device: &mut B, flows: usize) {
        for (values, size) in self.values.iter_mut().zip(&self.sizes) {
            device.reserve(values, flows * size.values());
        }
        for placed in &mut self.nodes {
            match &mut placed.node {
                Node::Convolution { shape, .. } => shape.flows = flows,
                Node::Convolution2d { shape, .. } => shape.flows = flows,
                Node::MaxPool2d { shape, .. } => shape.flows = flows,
                Node::Heads { shape, .. } => shape.output.flows = flows,
                Node::ChannelDropout { flows: of_rows, rows, .. } if *rows < flows * placed.output.steps => {
                    let steps = placed.output.steps;
                    *rows = flows * steps;
                    let numbers: Vec<u32> = (0..*rows).map(|row| (row / steps) as u32).collect();
                    device.upload_indices(&numbers, of_rows);
                }
                Node::MaxPool { shape, .. } | Node::GeneralisedMean { shape, .. } => shape.flows = flows,
                _ => {}
            }
        }
    }

    pub(super) fn visit(&mut self, visit: &mut dyn FnMut(&mut Weight<B>)) {
        self.nodes.iter_mut().for_each(|placed| placed.node.visit(visit));
    }

    /// Stores parameters and running statistics in a set.
    pub(super) fn store(&self, device: &B, set: &mut ParameterSet) {
        self.nodes.iter().for_each(|placed| placed.node.store(device, set));
    }

    pub(super) fn load_statistics(&mut self, device: &mut B, set: &ParameterSet) -> Result<(), ModelError> {
        for placed in &mut self.nodes {
            if let Node::Norm(norm) = &mut placed.node {
                norm.load_statistics(device, set)?;
            }
        }
        Ok(())
    }

    pub(super) fn output(&self) -> (&B::Values, Size) {
        (&self.values[self.values.len() - 1], self.sizes[self.sizes.len() - 1])
    }

    /// Iterates over all layers except the last: name, output, and number of output values per flow.
    pub(super) fn given(&self) -> impl Iterator<Item = (&str, &B::Values, usize)> {
        let placed = self.nodes.iter().filter(|placed| placed.to + 1 < self.values.len());
        placed.map(|placed| (placed.name.as_str(), &self.values[placed.to], self.sizes[placed.to].values()))
    }

    /// Iterates over all rectifiers: name of the layer before, output, and number of output values per flow.
    pub(super) fn rectified(&self) -> impl Iterator<Item = (&str, &B::Values, usize)> {
        let placed = self.nodes.iter().filter(|placed| matches!(placed.node, Node::Relu));
        placed.map(|placed| (placed.name.as_str(), &self.values[placed.to], placed.output.values()))
    }

    pub(super) fn forward(&mut self, device: &mut B, pass: Pass, places: &B::Indices) {
        let Self { nodes, values, marks, sizes } = self;
        for Placed { node, from, to, output, .. } in nodes {
            let rows = pass.flows * output.steps;
            let size = MatrixShape { rows, columns: output.channels };
            let before_size = sizes[*from];
            let (before, after) = values.split_at_mut(*to);
            let y = &mut after[0];
            let x = || &before[*from];
            let steps = steps_of(pass.flows, *output);
            match node {
                Node::Convolution { shape, weight, bias } => {
                    device.convolution(*shape, x(), Kernel { weight: weight.value(), bias: bias.value() }, y);
                }
                Node::Convolution2d { shape, weight, bias } => {
                    let kernel = Kernel { weight: weight.value(), bias: bias.value() };
                    device.convolution2d(*shape, x(), kernel, y);
                }
                Node::MaxPool2d { shape, chosen } => device.max_pool2d(*shape, x(), y, chosen),
                Node::ChannelDropout { number, rate, flows, .. } => {
                    if let Some(dropout) = pass.dropout(*number, *rate) {
                        device.dropout_in_place(size, dropout, flows, y);
                    }
                }
                Node::LayerNorm { weight, bias, moments } => {
                    let weights = NormWeights { weight: weight.value(), bias: bias.value() };
                    device.layer_norm(size, x(), weights, moments, y);
                }
                Node::Gelu => device.gelu(size.values(), x(), y),
                Node::Heads { shape, shares } => {
                    device.heads(*shape, Projected { x: x(), present: &marks[PRESENT] }, shares, y);
                }
                Node::Positions { table } => device.add_positions(steps, table.value(), y),
                Node::Hide { token } => device.hide(steps, &marks[HIDDEN], token.value(), y),
                Node::PresentMean => device.present_mean(steps_of(pass.flows, before_size), x(), &marks[PRESENT], y),
                Node::Fork => {}
                Node::Join { of } => device.add(size.values(), &before[*of], y),
                Node::Norm(norm) => norm.forward(device, rows, x(), y, pass.by),
                Node::Relu => device.relu(size.values(), y),
                Node::Elu => device.elu(size.values(), y),
                Node::MaxPool { shape, chosen } => device.max_pool(*shape, x(), y, chosen),
                Node::GeneralisedMean { shape, exponent } => {
                    device.generalised_mean(*shape, x(), exponent.value(), y);
                }
                Node::Dropout { number, rate } => {
                    if let Some(dropout) = pass.dropout(*number, *rate) {
                        device.dropout_in_place(size, dropout, places, y);
                    }
                }
            }
        }
    }

    /// Computes, from the gradient of the output, the gradients of all weights, and of the input if it is `wanted`.
    pub(super) fn backward(
        &mut self,
        device: &mut B,
        pass: Pass,
        places: &B::Indices,
        gradients: &mut Gradients<B::Values>,
        wanted: bool,
    ) {
        for (index, Placed { node, from, to, output, .. }) in self.nodes.iter_mut().enumerate().rev() {
            let rows = pass.flows * output.steps;
            let size = MatrixShape { rows, columns: output.channels };
            let (x, y) = (&self.values[*from], &self.values[*to]);
            let input = pass.flows * self.sizes[*from].values();
            let Gradients { current, next, around } = gradients;
            let count = size.values();
            let steps = steps_of(pass.flows, *output);
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
                Node::Convolution2d { shape, weight, bias } => {
                    let kernel = Kernel { weight: &mut weight.trained, bias: &mut bias.trained };
                    let wanted = wanted || index > 0;
                    if wanted {
                        device.reserve(next, input);
                    }
                    device.convolution2d_backward(*shape, x, current, kernel, wanted.then_some(&mut *next));
                    std::mem::swap(current, next);
                }
                Node::MaxPool2d { shape, chosen } => {
                    device.reserve(next, input);
                    device.max_pool2d_backward(*shape, chosen, current, next);
                    std::mem::swap(current, next);
                }
                Node::ChannelDropout { number, rate, flows, .. } => {
                    if let Some(dropout) = pass.dropout(*number, *rate) {
                        device.dropout_in_place(size, dropout, flows, current);
                    }
                }
                Node::LayerNorm { weight, bias, moments } => {
                    let weights = NormWeights { weight: &mut weight.trained, bias: &mut bias.trained };
                    device.layer_norm_backward(size, x, weights, moments, current);
                }
                Node::Gelu => device.gelu_backward(count, x, current),
                Node::Heads { shape, shares } => {
                    device.reserve(next, input);
                    let read = Projected { x, present: &self.marks[PRESENT] };
                    device.heads_backward(*shape, read, shares, current, next);
                    std::mem::swap(current, next);
                }
                Node::Positions { table } => device.add_positions_backward(steps, current, &mut table.trained),
                Node::Hide { token } => {
                    device.hide_backward(steps, &self.marks[HIDDEN], &mut token.trained, current);
                }
                Node::PresentMean => {
                    device.reserve(next, input);
                    let shape = steps_of(pass.flows, self.sizes[*from]);
                    device.present_mean_backward(shape, &self.marks[PRESENT], current, next);
                    std::mem::swap(current, next);
                }
                Node::Join { .. } => {
                    device.reserve(around, count);
                    let all = ColumnsAt { total: output.channels, first: 0 };
                    device.put_columns(size, current, all, around);
                }
                Node::Fork => device.add(count, around, current),
                Node::Norm(norm) => norm.backward(device, rows, x, current),
                Node::Relu => device.relu_backward(size.values(), y, current),
                Node::Elu => device.elu_backward(size.values(), y, current),
                Node::MaxPool { shape, chosen } => {
                    device.reserve(next, input);
                    device.max_pool_backward(*shape, chosen, current, next);
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
                        device.dropout_in_place(size, dropout, places, current);
                    }
                }
            }
        }
    }
}

impl<B: LayerBackend> Node<B> {
    fn new(device: &mut B, set: &ParameterSet, layer: &Layer, input: Size) -> Result<Self, ModelError> {
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
            Layer::Convolution2d { name, outputs, kernel, size } => {
                let (shape, axes) = ([*outputs, channels, *kernel, *kernel], [*outputs, channels, kernel * kernel]);
                Self::Convolution2d {
                    shape: Convolution2dShape {
                        flows: 0,
                        size: *size,
                        inputs: channels,
                        outputs: *outputs,
                        kernel: *kernel,
                    },
                    weight: Weight::reversed(device, set, format!("{name}.weight"), &shape, axes)?,
                    bias: Weight::new(device, set, format!("{name}.bias"), &[*outputs])?,
                }
            }
            Layer::MaxPool2d { pool, size } => Self::MaxPool2d {
                shape: Pool2dShape { flows: 0, size: *size, channels, pool: *pool },
                chosen: B::Indices::default(),
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
            Layer::StepLinear { name, outputs } => {
                let axes = [*outputs, channels, 1];
                let (inputs, outputs, padding) = (channels, *outputs, [0, 0]);
                Self::Convolution {
                    shape: ConvolutionShape { flows: 0, steps, inputs, outputs, kernel: 1, stride: 1, padding },
                    weight: Weight::reversed(device, set, format!("{name}.weight"), &[outputs, channels], axes)?,
                    bias: Weight::new(device, set, format!("{name}.bias"), &[outputs])?,
                }
            }
            Layer::StepNorm { name } => Self::LayerNorm {
                weight: Weight::new(device, set, format!("{name}.weight"), &[channels])?,
                bias: Weight::new(device, set, format!("{name}.bias"), &[channels])?,
                moments: B::Values::default(),
            },
            Layer::Gelu => Self::Gelu,
            Layer::Heads { heads } => Self::Heads {
                shape: HeadsShape { output: StepsShape { flows: 0, steps, channels: channels / 3 }, heads: *heads },
                shares: B::Values::default(),
            },
            Layer::Positions { name } => {
                Self::Positions { table: Weight::new(device, set, name.clone(), &[steps, channels])? }
            }
            Layer::Hide { name } => Self::Hide { token: Weight::new(device, set, name.clone(), &[channels])? },
            Layer::PresentMean => Self::PresentMean,
            Layer::Fork => Self::Fork,
            Layer::Join => Self::Join { of: 0 },
            Layer::Norm { name } => Self::Norm(Norm::new(device, set, name, channels)?),
            Layer::Relu => Self::Relu,
            Layer::Elu => Self::Elu,
            Layer::MaxPool { size, stride, padding } => {
                let output = layer.output(input).map_or(0, |output| output.steps);
                Self::MaxPool { shape: window(*size, *stride, padding[0], output), chosen: B::Indices::default() }
            }
            Layer::GeneralisedMean { name } => Self::GeneralisedMean {
                shape: window(steps, 1, 0, 1),
                exponent: Weight::new(device, set, format!("{name}.p"), &[1])?,
            },
            Layer::Dropout { number, rate } => Self::Dropout { number: *number, rate: *rate },
            Layer::ChannelDropout { number, rate } => {
                Self::ChannelDropout { number: *number, rate: *rate, flows: B::Indices::default(), rows: 0 }
            }
        })
    }

    fn is_in_place(&self) -> bool {
        matches!(
            self,
            Self::Relu
                | Self::Elu
                | Self::Dropout { .. }
                | Self::ChannelDropout { .. }
                | Self::Positions { .. }
                | Self::Hide { .. }
                | Self::Fork
                | Self::Join { .. }
        )
    }

    fn visit(&mut self, visit: &mut dyn FnMut(&mut Weight<B>)) {
        match self {
            Self::Convolution { weight, bias, .. }
            | Self::Convolution2d { weight, bias, .. }
            | Self::LayerNorm { weight, bias, .. } => {
                visit(weight);
                visit(bias);
            }
            Self::Norm(norm) => norm.visit(visit),
            Self::GeneralisedMean { exponent: only, .. }
            | Self::Positions { table: only }
            | Self::Hide { token: only } => visit(only),
            _ => {}
        }
    }

    fn store(&self, device: &B, set: &mut ParameterSet) {
        match self {
            Self::Convolution { weight, bias, .. }
            | Self::Convolution2d { weight, bias, .. }
            | Self::LayerNorm { weight, bias, .. } => {
                weight.store(device, set);
                bias.store(device, set);
            }
            Self::Norm(norm) => norm.store(device, set),
            Self::GeneralisedMean { exponent: only, .. }
            | Self::Positions { table: only }
            | Self::Hide { token: only } => only.store(device, set),
            _ => {}
        }
    }
}
