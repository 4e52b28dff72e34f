//! The forward and backward pass of a chain over a batch.

use super::super::backend::{ColumnsAt, Dropout, MatrixShape, NormWeights};
use super::super::layers::{Kernel, LayerBackend, Pooled};
use super::super::transformer::{Projected, StepsShape};
use super::super::weights::Statistics;
use super::node::Node;
use super::{Chain, Placed};
use crate::deep::engine::DropoutPlace;
use crate::deep::network::Size;

/// Indices of the marks for present and hidden steps.
const PRESENT: usize = 0;
const HIDDEN: usize = 1;

fn steps_of(flows: usize, Size { steps, channels }: Size) -> StepsShape {
    StepsShape { flows, steps, channels }
}

/// Settings of a pass over a batch.
#[derive(Clone, Copy)]
pub(crate) struct Pass {
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
pub(crate) struct Gradients<V> {
    pub current: V,
    next: V,
    around: V,
}

impl<B: LayerBackend> Chain<B> {
    pub(crate) fn forward(&mut self, device: &mut B, pass: Pass, places: &B::Indices) {
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
    pub(crate) fn backward(
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
