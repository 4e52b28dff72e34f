//! A network as described by [`crate::deep::network`], with a few tensor operations per layer. A batch of sequences of
//! `steps` steps is one matrix `[flows * steps, channels]`, with all rows of the first flow first.

use std::collections::BTreeMap;

use dfdx::prelude::*;

use super::graph::{Graph, Matrix, NamedGradients, Node};
use super::layers::{BatchStatistics, Mask, batch_norm, cross_entropy, linear, running_norm, weighted_cross_entropy};
use super::optimiser::{Adam, first_not_finite};
use super::transformer::{attention_of_heads, layer_norm};
use crate::ModelError;
use crate::deep::NetworkOptions;
use crate::deep::engine::{
    BatchLoss, DropoutPlace, MASKED_PRETRAINING, MaskedModel, NORM_MOMENTUM, NOT_FINITE, NetworkClassifier,
    OptimiserState, Resumable, TRAINING, diverged, dropout_factor,
};
use crate::deep::loss::Loss;
use crate::deep::network::{Branch, Layer, Network, Size};
use crate::deep::parameters::{MODEL, ParameterSet};
use etcbench_storage::seed;

/// Smaller values are raised to this in a generalised mean.
const SMALLEST: f64 = 1e-6;

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

/// Results of a training pass in addition to the logits.
#[derive(Default)]
struct PassRecord {
    /// Statistics by name of the normalisation, with their number of rows.
    statistics: Vec<(String, BatchStatistics, usize)>,
    /// Layers whose rectifier output only 0.
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

    fn logits(
        &self,
        graph: &mut Graph<'_, Cpu>,
        rows: &[f32],
        mut record: Option<&mut PassRecord>,
    ) -> Result<Matrix<Cpu>, ModelError> {
        let columns = self.network.columns();
        let flows = rows.len() / columns;
        if flows == 0 || flows * columns != rows.len() {
            return invalid(format!("{} values are not rows of {columns}", rows.len()));
        }
        let chains = self.network.chains().unwrap_or_default();
        let Some((trunk, branches)) = chains.split_last() else {
            return invalid("the network has too few steps for its layers".to_owned());
        };
        if branches.is_empty() {
            let size = trunk.input;
            let values = rows.chunks_exact(columns).flat_map(|row| &row[..size.values()]).copied().collect();
            let x = graph.constant(values, (flows * size.steps, size.channels));
            let marks = Marks::of(trunk, rows.chunks_exact(columns));
            return self.branch(graph, trunk, flows, (x, &marks), record);
        }
        let joined = (flows, trunk.input.channels);
        let mut input = graph.constant(vec![0.0; joined.0 * joined.1], joined);
        let (mut first, mut place) = (0, 0);
        for branch in branches {
            let size = branch.input;
            let read = first..first + branch.columns();
            first += branch.columns();
            let of_branch = rows.chunks_exact(columns).map(|row| &row[read.clone()]);
            let values = of_branch.clone().flat_map(|row| &row[..size.values()]).copied().collect();
            let x = graph.constant(values, (flows * size.steps, size.channels));
            let marks = Marks::of(branch, of_branch);
            let y = self.branch(graph, branch, flows, (x, &marks), record.as_deref_mut())?;
            // Concatenation by a product with a matrix of ones and zeros.
            let (_, width) = *y.shape();
            let mut ones = vec![0.0; width * joined.1];
            (0..width).for_each(|column| ones[column * joined.1 + place + column] = 1.0);
            place += width;
            input = input + y.matmul(graph.constant(ones, (width, joined.1)));
        }
        self.branch(graph, trunk, flows, (input, &Marks::default()), record)
    }

    fn branch(
        &self,
        graph: &mut Graph<'_, Cpu>,
        branch: &Branch,
        flows: usize,
        (mut x, marks): (Matrix<Cpu>, &Marks),
        mut record: Option<&mut PassRecord>,
    ) -> Result<Matrix<Cpu>, ModelError> {
        let (mut size, mut last, mut around) = (branch.input, "", None);
        for layer in &branch.layers {
            let Some(output) = layer.output(size) else {
                return invalid("the network has too few steps for its layers".to_owned());
            };
            let rows = (flows * output.steps, output.channels);
            x = match layer {
                Layer::Convolution { name, kernel, stride, padding, .. } => {
                    last = name;
                    let read = Window { size: *kernel, stride: *stride, before: padding[0] };
                    let shape = (output.channels, size.channels, *kernel);
                    let weight = graph.parameter(&format!("{name}.weight"), shape)?;
                    affine(graph, name, read.rows(graph, x, size, output.steps), weight)?
                }
                Layer::Convolution2d { name, kernel, size: sides, .. } => {
                    last = name;
                    let shape = (output.channels, size.channels, *kernel, *kernel);
                    let weight: Node<(usize, usize, usize, usize), Cpu> =
                        graph.parameter(&format!("{name}.weight"), shape)?;
                    let weight = weight.reshape_like(&(output.channels, size.channels, kernel * kernel));
                    let squares = Squares { sides: *sides, square: *kernel, stride: 1 };
                    let read = graph.indices(squares.places(flows));
                    let windows: Matrix<Cpu> = x.gather(read);
                    let windows = windows.reshape_like(&(rows.0, kernel * kernel * size.channels));
                    affine(graph, name, windows, weight)?
                }
                Layer::MaxPool2d { pool, size: sides } => {
                    let squares = Squares { sides: *sides, square: *pool, stride: *pool };
                    let chosen = squares.largest(&x.as_vec(), flows, size.channels);
                    let values = x.reshape_like(&(flows * size.values(),));
                    let picked: Node<(usize,), Cpu> = values.gather(graph.indices(chosen));
                    picked.reshape_like(&rows)
                }
                Layer::Linear { name, .. } => {
                    last = name;
                    let shape = (output.channels, size.values());
                    let weight = graph.parameter(&format!("{name}.weight"), shape)?;
                    let weight = weight.reshape_like(&(output.channels, size.channels, size.steps));
                    affine(graph, name, x.reshape_like(&(flows, size.values())), weight)?
                }
                Layer::StepLinear { name, .. } => {
                    last = name;
                    linear(graph, name, x, output.channels)?
                }
                Layer::StepNorm { name } => layer_norm(graph, name, x)?,
                Layer::Gelu => x.fast_gelu(),
                Layer::Heads { heads } => attention_of_heads(graph, x, output, *heads, &marks.present),
                Layer::Positions { name } => {
                    let table: Matrix<Cpu> = graph.parameter(name, (size.steps, size.channels))?;
                    let steps = (0..rows.0).map(|row| row % size.steps).collect();
                    let added: Matrix<Cpu> = table.gather(graph.indices(steps));
                    x + added
                }
                Layer::Hide { name } => {
                    let token = graph.parameter(name, (size.channels,))?.broadcast_like::<_, Axis<0>>(&rows);
                    let hidden = graph.constant(marks.hidden.clone(), (rows.0,)).broadcast_like::<_, Axis<1>>(&rows);
                    x.clone() + hidden * (token - x)
                }
                Layer::PresentMean => {
                    let flow_shares = marks.present.chunks_exact(size.steps).flat_map(|marks| {
                        let count = marks.iter().sum::<f32>().max(1.0);
                        marks.iter().map(move |mark| mark / count)
                    });
                    let shape = (flows * size.steps, size.channels);
                    let shares = graph.constant(flow_shares.collect(), (shape.0,)).broadcast_like::<_, Axis<1>>(&shape);
                    (x * shares).reshape_like(&(flows, size.steps, size.channels)).sum::<_, Axis<1>>()
                }
                Layer::Fork => {
                    around = Some(x.clone());
                    x
                }
                Layer::Join => match around.take() {
                    Some(around) => x + around,
                    None => return invalid("a join without a fork".to_owned()),
                },
                Layer::Norm { name } => {
                    let mask = Mask { steps: 1, lengths: vec![1; rows.0] };
                    match &mut record {
                        Some(record) => {
                            let (y, statistics) = batch_norm(graph, name, x, &mask)?;
                            record.statistics.push((name.clone(), statistics, rows.0));
                            y
                        }
                        None => running_norm(graph, name, x, &mask)?,
                    }
                }
                Layer::Relu => {
                    let y = x.relu();
                    if let Some(record) = &mut record
                        && y.as_vec().iter().all(|&value| value == 0.0)
                    {
                        record.dead.push(last.to_owned());
                    }
                    y
                }
                Layer::Elu => {
                    // For positive inputs the exponential is 1.
                    let below = -(-x.clone()).relu();
                    x.relu() + below.exp() - 1.0
                }
                Layer::MaxPool { size: width, stride, padding } => {
                    let window = Window { size: *width, stride: *stride, before: padding[0] };
                    let chosen = window.largest(&x.as_vec(), size, flows, output.steps);
                    let values = x.reshape_like(&(flows * size.values(),));
                    let picked: Node<(usize,), Cpu> = values.gather(graph.indices(chosen));
                    picked.reshape_like(&rows)
                }
                Layer::GeneralisedMean { name } => {
                    let all = *x.shape();
                    let exponent = graph.parameter(&format!("{name}.p"), (1,))?.reshape_like(&());
                    let powers =
                        (x.clamp(SMALLEST, f64::from(f32::MAX)).ln() * exponent.clone().broadcast_like(&all)).exp();
                    let by_flow = powers.reshape_like(&(flows, size.steps, size.channels));
                    let mean = by_flow.sum::<_, Axis<1>>() / size.steps as f32;
                    (mean.ln() / exponent.broadcast_like(&rows)).exp()
                }
                Layer::Dropout { number, rate } if record.is_some() => {
                    let (seed, step, place) = (self.dropout_seed, self.optimiser.steps, DropoutPlace::Layer(*number));
                    let factor = |index| dropout_factor(seed, step, place, index as u64, *rate);
                    x * graph.constant((0..rows.0 * rows.1).map(factor).collect(), rows)
                }
                Layer::ChannelDropout { number, rate } if record.is_some() => {
                    let (seed, step, place) = (self.dropout_seed, self.optimiser.steps, DropoutPlace::Layer(*number));
                    let factor = |index: usize| {
                        let (row, channel) = (index / rows.1, index % rows.1);
                        let of_flow = row / output.steps * rows.1 + channel;
                        dropout_factor(seed, step, place, of_flow as u64, *rate)
                    };
                    x * graph.constant((0..rows.0 * rows.1).map(factor).collect(), rows)
                }
                Layer::Dropout { .. } | Layer::ChannelDropout { .. } => x,
            };
            size = output;
        }
        Ok(x.reshape_like(&(flows, size.values())))
    }

    /// Returns the loss, the gradients of its mean over flows, and the other results of a training pass.
    fn gradients(&self, rows: &[f32], labels: &[u32]) -> Result<(BatchLoss, NamedGradients, PassRecord), ModelError> {
        let targets = labels.iter().map(|&label| label as usize).collect::<Vec<_>>();
        let flows = targets.len();
        if flows * self.network.columns() != rows.len() || targets.iter().any(|&label| label >= self.network.classes) {
            return invalid(format!("{flows} labels do not fit the rows or {} classes", self.network.classes));
        }
        let mut record = PassRecord::default();
        let mut graph = Graph::recording(&self.device, &self.parameters);
        let logits = self.logits(&mut graph, rows, Some(&mut record))?;
        let summed = |losses: &Node<(usize,), Cpu>| losses.as_vec().iter().map(|&value| f64::from(value)).sum::<f64>();
        let (sum, mean) = if self.loss.is_plain() {
            let losses = cross_entropy(&graph, logits, targets);
            (summed(&losses), losses.sum() / flows as f32)
        } else {
            let total = self.loss.total(labels);
            let losses = weighted_cross_entropy(&graph, logits, &targets, &self.loss);
            (summed(&losses) * flows as f64 / total, losses.sum() / total as f32)
        };
        Ok((BatchLoss { sum, targets: flows as u64 }, graph.backward(mean), record))
    }
}

/// The marks of a batch's steps, flow by flow.
#[derive(Default)]
struct Marks {
    present: Vec<f32>,
    hidden: Vec<f32>,
}

impl Marks {
    fn of<'a>(branch: &Branch, rows: impl Iterator<Item = &'a [f32]>) -> Self {
        let mut marks = Self::default();
        let steps = branch.input.steps;
        for row in rows {
            let mut of_row = row[branch.input.values()..].chunks_exact(steps);
            marks.present.extend(of_row.next().into_iter().flatten());
            marks.hidden.extend(of_row.next().into_iter().flatten());
        }
        marks
    }
}

/// A window of steps.
#[derive(Clone, Copy)]
struct Window {
    size: usize,
    stride: usize,
    before: usize,
}

impl Window {
    /// Returns the step that the window of an output step reads at `offset`, or `None` outside the sequence.
    fn step(self, output: usize, offset: usize, steps: usize) -> Option<usize> {
        (output * self.stride + offset).checked_sub(self.before).filter(|&step| step < steps)
    }

    /// Returns the input of each output step, `[flows * outputs, size * channels]`; 0 outside the sequence.
    fn rows(self, graph: &Graph<'_, Cpu>, x: Matrix<Cpu>, size: Size, outputs: usize) -> Matrix<Cpu> {
        let (rows, channels) = *x.shape();
        let flows = rows / size.steps;
        let places = (0..flows).flat_map(|flow| (0..outputs).map(move |output| (flow, output)));
        let read = places.flat_map(|(flow, output)| {
            (0..self.size).map(move |offset| self.step(output, offset, size.steps).map(|step| flow * size.steps + step))
        });
        let read = read.collect::<Vec<_>>();
        let count = read.len();
        let mask = read.iter().map(|step| if step.is_some() { 1.0 } else { 0.0 }).collect();
        let gathered: Matrix<Cpu> = x.gather(graph.indices(read.into_iter().map(Option::unwrap_or_default).collect()));
        let mask = graph.constant(mask, (count,)).broadcast_like::<_, Axis<1>>(&(count, channels));
        (gathered * mask).reshape_like(&(flows * outputs, self.size * channels))
    }

    /// Returns the index of the maximum of each window and channel; the first one if several are equal.
    fn largest(self, values: &[f32], size: Size, flows: usize, outputs: usize) -> Vec<usize> {
        let mut chosen = Vec::with_capacity(flows * outputs * size.channels);
        for flow in 0..flows {
            for output in 0..outputs {
                for channel in 0..size.channels {
                    let steps = (0..self.size).filter_map(|offset| self.step(output, offset, size.steps));
                    let places = steps.map(|step| (flow * size.steps + step) * size.channels + channel);
                    let best = places.reduce(|best, place| if values[place] > values[best] { place } else { best });
                    chosen.push(best.expect("a window reaches into the sequence"));
                }
            }
        }
        chosen
    }
}

/// Square windows over a picture.
#[derive(Clone, Copy)]
struct Squares {
    /// Height and width of the picture.
    sides: [usize; 2],
    square: usize,
    stride: usize,
}

impl Squares {
    /// Returns the steps of each square of every flow in row-major order.
    fn places(self, flows: usize) -> Vec<usize> {
        let Self { sides: [height, width], square, stride } = self;
        let corners = |side: usize| (0..=side - square).step_by(stride);
        let mut places = Vec::new();
        for flow in 0..flows {
            for (down, across) in corners(height).flat_map(|down| corners(width).map(move |across| (down, across))) {
                let of_square = (0..square * square).map(|place| (down + place / square, across + place % square));
                places.extend(of_square.map(|(row, column)| flow * height * width + row * width + column));
            }
        }
        places
    }

    /// Returns the index of the maximum of each square and channel; the first one if several are equal.
    fn largest(self, values: &[f32], flows: usize, channels: usize) -> Vec<usize> {
        let places = self.places(flows);
        let squares = places.chunks_exact(self.square * self.square);
        let best = |square: &[usize], channel: usize| {
            let places = square.iter().map(|step| step * channels + channel);
            places.reduce(|best, place| if values[place] > values[best] { place } else { best })
        };
        squares
            .flat_map(|square| (0..channels).map(move |channel| best(square, channel).expect("squares have pixels")))
            .collect()
    }
}

/// Multiplies rows `[rows, kernel * inputs]` by a weight `[outputs, inputs, kernel]` and adds the bias `name.bias`.
fn affine(
    graph: &mut Graph<'_, Cpu>,
    name: &str,
    rows: Matrix<Cpu>,
    weight: Node<(usize, usize, usize), Cpu>,
) -> Result<Matrix<Cpu>, ModelError> {
    let (outputs, inputs, kernel) = *weight.shape();
    let bias = graph.parameter(&format!("{name}.bias"), (outputs,))?;
    let weight = weight.permute::<_, Axes3<2, 1, 0>>().reshape_like(&(kernel * inputs, outputs));
    let (count, _) = *rows.shape();
    Ok(rows.matmul(weight) + bias.broadcast_like::<_, Axis<0>>(&(count, outputs)))
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
        for (name, BatchStatistics { mean, variance }, rows) in statistics {
            let unbiased = rows as f32 / (rows.max(2) - 1) as f32;
            for (part, new, factor) in [("running_mean", mean, 1.0), ("running_var", variance, unbiased)] {
                let values = self.parameters.values_mut(&format!("{name}.{part}")).expect("checked when built");
                for (value, new) in values.iter_mut().zip(new) {
                    *value = (1.0 - NORM_MOMENTUM) * *value + NORM_MOMENTUM * new * factor;
                }
            }
        }
        Ok(loss)
    }

    fn probabilities(&mut self, rows: &[f32], output: &mut [f32]) -> Result<(), ModelError> {
        let mut graph = Graph::inference(&self.device, &self.parameters);
        let logits = self.logits(&mut graph, rows, None)?.as_vec();
        let classes = self.network.classes;
        if logits.len() != output.len() {
            return invalid(format!("a buffer of {} values does not fit {} probabilities", output.len(), logits.len()));
        }
        for (row, logits) in output.chunks_exact_mut(classes).zip(logits.chunks_exact(classes)) {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exponentials = logits.iter().map(|logit| (logit - largest).exp()).collect::<Vec<_>>();
            let sum = exponentials.iter().sum::<f32>();
            row.iter_mut().zip(exponentials).for_each(|(value, exponential)| *value = exponential / sum);
        }
        Ok(())
    }

    fn dead_layers(&mut self) -> Vec<String> {
        self.dead.clone()
    }
}

impl Reference {
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
