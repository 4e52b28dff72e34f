//! Windows over the steps of a sequence, and squares over a picture: what each of them reads, its maximum, and its
//! product with a weight.

use dfdx::prelude::*;

use super::super::graph::{Graph, Matrix, Node};
use crate::ModelError;
use crate::deep::network::Size;

/// A window of steps.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub size: usize,
    pub stride: usize,
    pub before: usize,
}

impl Window {
    /// Returns the step that the window of an output step reads at `offset`, or `None` outside the sequence.
    fn step(self, output: usize, offset: usize, steps: usize) -> Option<usize> {
        (output * self.stride + offset).checked_sub(self.before).filter(|&step| step < steps)
    }

    /// Returns the input of each output step, `[flows * outputs, size * channels]`; 0 outside the sequence.
    pub(super) fn rows(self, graph: &Graph<'_, Cpu>, x: Matrix<Cpu>, size: Size, outputs: usize) -> Matrix<Cpu> {
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
    pub(super) fn largest(self, values: &[f32], size: Size, flows: usize, outputs: usize) -> Vec<usize> {
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
pub(super) struct Squares {
    /// Height and width of the picture.
    pub sides: [usize; 2],
    pub square: usize,
    pub stride: usize,
}

impl Squares {
    /// Returns the steps of each square of every flow in row-major order.
    pub(super) fn places(self, flows: usize) -> Vec<usize> {
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
    pub(super) fn largest(self, values: &[f32], flows: usize, channels: usize) -> Vec<usize> {
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
pub(super) fn affine(
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
