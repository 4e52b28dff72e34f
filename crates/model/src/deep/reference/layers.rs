//! Layers. A batch of `rows` sequences of `steps` steps is one matrix `[steps * rows, features]`, with all rows of the
//! first step first.
//!
//! dfdx 0.13 computes the gradient of `slice` by assignment, so every element may be sliced at most once, and a sliced
//! tensor must not be used otherwise. Therefore `slice` appears only where this holds (an LSTM's projections and
//! gates); everywhere else rows are selected with `gather`, which accumulates gradients.

use dfdx::prelude::*;

use super::graph::{Graph, Matrix, Node, detached};
use crate::ModelError;
use crate::deep::engine::NORM_EPSILON;
use crate::deep::parameters::{Activation, ParameterSet};

/// Marks the valid positions of a batch of sequences: those before each row's length.
pub(super) struct Mask {
    pub steps: usize,
    pub lengths: Vec<usize>,
}

impl Mask {
    pub(super) fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// Returns the number of valid positions of all rows.
    pub(super) fn total(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Returns a matrix `[steps * rows, features]` that is 1 at valid positions and 0 elsewhere.
    pub(super) fn matrix<D: Device<f32>>(&self, graph: &Graph<'_, D>, features: usize) -> Matrix<D> {
        let values = (0..self.steps).flat_map(|step| self.step(step)).collect();
        let count = self.steps * self.rows();
        graph.constant(values, (count,)).broadcast_like::<_, Axis<1>>(&(count, features))
    }

    fn step(&self, step: usize) -> impl Iterator<Item = f32> {
        self.lengths.iter().map(move |&length| if step < length { 1.0 } else { 0.0 })
    }
}

/// Applies a linear layer with the parameters `name.weight` and `name.bias` to `input`, shape `[rows, in]`.
pub(super) fn linear<D: Device<f32>>(
    graph: &mut Graph<'_, D>,
    name: &str,
    input: Matrix<D>,
    outputs: usize,
) -> Result<Matrix<D>, ModelError> {
    let (rows, inputs) = *input.shape();
    let weight = graph.parameter(&format!("{name}.weight"), (outputs, inputs))?;
    let bias = graph.parameter(&format!("{name}.bias"), (outputs,))?;
    Ok(input.matmul(weight.permute::<_, Axes2<1, 0>>()) + bias.broadcast_like::<_, Axis<0>>(&(rows, outputs)))
}

/// Computes the states of a long short-term memory (Hochreiter and Schmidhuber 1997, with forget gate), shape `[steps *
/// rows, hidden]`, from left to right or from right to left. States at padded positions are 0, so when reading from the
/// right each row starts with a zero state at its last valid position.
pub(super) fn lstm<D: Device<f32>>(
    graph: &mut Graph<'_, D>,
    name: &str,
    input: Matrix<D>,
    hidden: usize,
    mask: &Mask,
    from_the_right: bool,
    activation: Activation,
) -> Result<Matrix<D>, ModelError> {
    let rows = mask.rows();
    let (count, inputs) = *input.shape();
    let weight_ih = graph.parameter(&format!("{name}.weight_ih"), (4 * hidden, inputs))?;
    let weight_hh = graph.parameter(&format!("{name}.weight_hh"), (4 * hidden, hidden))?.permute::<_, Axes2<1, 0>>();
    let bias = graph.parameter(&format!("{name}.bias"), (4 * hidden,))?;
    let projected =
        input.matmul(weight_ih.permute::<_, Axes2<1, 0>>()) + bias.broadcast_like::<_, Axis<0>>(&(count, 4 * hidden));
    let activate = |node: Matrix<D>| match activation {
        Activation::Relu => node.relu(),
        Activation::Tanh => node.tanh(),
    };

    let mut state = graph.constant(vec![0.0; rows * hidden], (rows, hidden));
    let mut cell = state.clone();
    let mut states = Vec::with_capacity(mask.steps);
    for index in 0..mask.steps {
        let step = if from_the_right { mask.steps - 1 - index } else { index };
        let gates = projected.clone().slice((step * rows..(step + 1) * rows, ..)) + state.matmul(weight_hh.clone());
        let gate = |index: usize| gates.clone().slice((.., index * hidden..(index + 1) * hidden));
        let candidate = activate(gate(2));
        cell = gate(1).sigmoid() * cell + gate(0).sigmoid() * candidate;
        state = gate(3).sigmoid() * activate(cell.clone());
        if mask.lengths.iter().any(|&length| step >= length) {
            let factor = graph.constant(mask.step(step).collect(), (rows,));
            let factor = factor.broadcast_like::<_, Axis<1>>(&(rows, hidden));
            cell = cell * factor.clone();
            state = state * factor;
        }
        states.push(state.clone());
    }
    if from_the_right {
        states.reverse();
    }
    Ok(states.stack().reshape_like(&(count, hidden)))
}

/// Mean and biased variance of a batch, per feature.
pub(super) struct BatchStatistics {
    pub mean: Vec<f32>,
    pub variance: Vec<f32>,
}

/// Batch normalisation (Ioffe and Szegedy 2015) by the statistics of the valid positions of `input`, whose padded
/// positions are 0 and remain 0.
pub(super) fn batch_norm<D: Device<f32>>(
    graph: &mut Graph<'_, D>,
    name: &str,
    input: Matrix<D>,
    mask: &Mask,
) -> Result<(Matrix<D>, BatchStatistics), ModelError> {
    let shape = *input.shape();
    let count = mask.total() as f32;
    let mean = input.clone().sum::<_, Axis<0>>() / count;
    let centred = (input - mean.clone().broadcast_like::<_, Axis<0>>(&shape)) * mask.matrix(graph, shape.1);
    let variance = centred.clone().square().sum::<_, Axis<0>>() / count;
    let statistics = BatchStatistics { mean: mean.as_vec(), variance: variance.as_vec() };
    Ok((scale_and_shift(graph, name, centred, variance, mask)?, statistics))
}

/// Batch normalisation by the running statistics.
pub(super) fn running_norm<D: Device<f32>>(
    graph: &mut Graph<'_, D>,
    name: &str,
    input: Matrix<D>,
    mask: &Mask,
) -> Result<Matrix<D>, ModelError> {
    let shape = *input.shape();
    let mean = graph.buffer(&format!("{name}.running_mean"), shape.1)?;
    let variance = graph.buffer(&format!("{name}.running_var"), shape.1)?;
    let centred = input - mean.broadcast_like::<_, Axis<0>>(&shape);
    scale_and_shift(graph, name, centred, variance, mask)
}

/// Moves the running statistics of a normalisation towards those of a batch of `rows` rows by `share` of the difference.
pub(super) fn update_running(
    parameters: &mut ParameterSet,
    name: &str,
    found: &BatchStatistics,
    rows: usize,
    share: f32,
) {
    let unbiased = rows as f32 / (rows.max(2) - 1) as f32;
    for (part, new, factor) in [("running_mean", &found.mean, 1.0), ("running_var", &found.variance, unbiased)] {
        let values = parameters.values_mut(&format!("{name}.{part}")).expect("checked when built");
        for (value, new) in values.iter_mut().zip(new) {
            *value = (1.0 - share) * *value + share * new * factor;
        }
    }
}

fn scale_and_shift<D: Device<f32>>(
    graph: &mut Graph<'_, D>,
    name: &str,
    centred: Matrix<D>,
    variance: Node<(usize,), D>,
    mask: &Mask,
) -> Result<Matrix<D>, ModelError> {
    let shape = *centred.shape();
    let weight = graph.parameter(&format!("{name}.weight"), (shape.1,))?;
    let bias = graph.parameter(&format!("{name}.bias"), (shape.1,))?;
    let scale = weight / (variance + NORM_EPSILON).sqrt();
    let output = centred * scale.broadcast_like::<_, Axis<0>>(&shape) + bias.broadcast_like::<_, Axis<0>>(&shape);
    Ok(output * mask.matrix(graph, shape.1))
}

/// Scaled dot-product self-attention with one head (Vaswani et al. 2017) over the valid positions of each row; padded
/// positions of the result are 0. Input and output have the shape `[steps * rows, features]`.
pub(super) fn attention<D: Device<f32>>(
    graph: &mut Graph<'_, D>,
    name: &str,
    input: Matrix<D>,
    mask: &Mask,
) -> Result<Matrix<D>, ModelError> {
    let (rows, steps) = (mask.rows(), mask.steps);
    let (count, features) = *input.shape();
    let mut project = |part: &str| -> Result<Node<(usize, usize, usize), D>, ModelError> {
        let projected = linear(graph, &format!("{name}.{part}"), input.clone(), features)?;
        let by_step = projected.reshape_like(&(steps, rows, features));
        Ok(by_step.permute::<_, Axes3<1, 0, 2>>().reshape_like(&(rows, steps, features)))
    };
    let (query, key, value) = (project("query")?, project("key")?, project("value")?);
    let scores = query.matmul(key.permute::<_, Axes3<0, 2, 1>>()) / (features as f32).sqrt();
    let hide = (mask.lengths.iter())
        .flat_map(|&length| (0..steps).map(move |step| if step < length { 0.0 } else { f32::NEG_INFINITY }))
        .collect();
    let hide = graph.constant(hide, (rows, steps)).broadcast_like::<_, Axis<1>>(&(rows, steps, steps));
    let attended = softmax(scores + hide).matmul(value);
    let by_step = attended.permute::<_, Axes3<1, 0, 2>>().reshape_like(&(count, features));
    Ok(by_step * mask.matrix(graph, features))
}

/// Softmax over the last of three axes.
pub(super) fn softmax<D: Device<f32>>(scores: Node<(usize, usize, usize), D>) -> Node<(usize, usize, usize), D> {
    let shape = *scores.shape();
    let largest = detached(&scores).max::<_, Axis<2>>().broadcast_like::<_, Axis<2>>(&shape);
    let exponentials = (scores - largest).exp();
    let sums = exponentials.clone().sum::<_, Axis<2>>().broadcast_like::<_, Axis<2>>(&shape);
    exponentials / sums
}
