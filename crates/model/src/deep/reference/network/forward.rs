//! The forward pass of a network, with a few tensor operations per layer. A batch of sequences of `steps` steps is one
//! matrix `[flows * steps, channels]`, with all rows of the first flow first.

use dfdx::prelude::*;

use super::super::graph::{Graph, Matrix, Node};
use super::super::layers::{BatchStatistics, Mask, batch_norm, linear, running_norm};
use super::super::transformer::{attention_of_heads, layer_norm};
use super::windows::{Squares, Window, affine};
use super::{Reference, invalid};
use crate::ModelError;
use crate::deep::engine::{DropoutPlace, dropout_factor};
use crate::deep::network::{Branch, Layer};

/// Smaller values are raised to this in a generalised mean.
const SMALLEST: f64 = 1e-6;

/// Results of a training pass in addition to the logits.
#[derive(Default)]
pub(super) struct PassRecord {
    /// Statistics by name of the normalisation, with their number of rows.
    pub statistics: Vec<(String, BatchStatistics, usize)>,
    /// Layers whose rectifier output only 0.
    pub dead: Vec<String>,
}

/// The marks of a batch's steps, flow by flow.
#[derive(Default)]
pub(super) struct Marks {
    pub present: Vec<f32>,
    pub hidden: Vec<f32>,
}

impl Marks {
    pub(super) fn of<'a>(branch: &Branch, rows: impl Iterator<Item = &'a [f32]>) -> Self {
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

impl Reference {
    pub(super) fn logits(
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
}
