//! Convolutions over pictures as matrix products. The values that each output reads are copied to a separate row
//! (im2col), for a task's flows at a time; pooling takes the maximum of each square. A task processes a flow, or some
//! rows of the weight's gradient; the order of sums does not depend on the number of threads.

use std::cell::RefCell;

use rayon::prelude::*;

use super::convolution::Working;
use super::grow;
use super::matmul::{Layout, Update, multiply, multiply_transposed};
use super::rows;
use super::simd::{Level, vectorised};
use crate::deep::fast::layers::{Convolution2dShape, Pool2dShape};

/// Flows whose windows are in memory at once for the weight's gradient.
const FLOWS_AT_ONCE: usize = 64;

thread_local! {
    /// A flow's windows.
    static WINDOWS: RefCell<Vec<f32>> = RefCell::default();
}

impl Convolution2dShape {
    fn input(&self) -> usize {
        self.size[0] * self.size[1] * self.inputs
    }

    /// Copies the values that each output of a flow reads, row by row of the square.
    fn unroll(&self, x: &[f32], windows: &mut [f32]) {
        let [height, width] = self.output_size();
        let (row, span) = (self.size[1] * self.inputs, self.kernel * self.inputs);
        let places = (0..height).flat_map(|down| (0..width).map(move |across| (down, across)));
        for (window, (down, across)) in windows.chunks_exact_mut(self.window()).zip(places) {
            for (offset, part) in window.chunks_exact_mut(span).enumerate() {
                part.copy_from_slice(&x[(down + offset) * row + across * self.inputs..][..span]);
            }
        }
    }

    /// Adds the gradients of a flow's windows to those of its input.
    fn roll(&self, windows: &[f32], dx: &mut [f32]) {
        let [height, width] = self.output_size();
        let (row, span) = (self.size[1] * self.inputs, self.kernel * self.inputs);
        dx.fill(0.0);
        let places = (0..height).flat_map(|down| (0..width).map(move |across| (down, across)));
        for (window, (down, across)) in windows.chunks_exact(self.window()).zip(places) {
            for (offset, part) in window.chunks_exact(span).enumerate() {
                let sums = &mut dx[(down + offset) * row + across * self.inputs..][..span];
                sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
            }
        }
    }
}

/// See [`crate::deep::fast::layers::LayerBackend::convolution2d`].
pub(super) fn forward(
    working: Working<'_>,
    shape: Convolution2dShape,
    x: &[f32],
    (weight, bias): (&[f32], &[f32]),
    y: &mut [f32],
) {
    let Working { level, panels, .. } = working;
    let (window, steps) = (shape.window(), shape.output_steps());
    panels.pack_parallel(weight, window, shape.outputs, Layout::Plain);
    let panels = &*panels;
    let flows = y.par_chunks_mut(steps * shape.outputs).zip(x.par_chunks(shape.input())).take(shape.flows);
    flows.for_each(|(y, x)| {
        WINDOWS.with_borrow_mut(|windows| {
            grow(windows, steps * window);
            let windows = &mut windows[..steps * window];
            shape.unroll(x, windows);
            multiply(level, steps, windows, window, panels, y, Update::Bias(bias));
        });
    });
}

/// Computes the gradients of weight and bias, which are added.
pub(super) fn kernel_gradient(
    working: Working<'_>,
    shape: Convolution2dShape,
    x: &[f32],
    dy: &[f32],
    (weight, bias): (&mut [f32], &mut [f32]),
) {
    let Working { level, padded: windows, .. } = working;
    let (window, steps) = (shape.window(), shape.output_steps());
    rows::column_sums(level, shape.outputs, dy, bias);
    let flows = x.chunks(FLOWS_AT_ONCE * shape.input()).zip(dy.chunks(FLOWS_AT_ONCE * steps * shape.outputs));
    for (x, dy) in flows {
        let rows = x.len() / shape.input() * steps;
        grow(windows, rows * window);
        let of_flows = windows.par_chunks_mut(steps * window).zip(x.par_chunks(shape.input()));
        of_flows.for_each(|(windows, x)| shape.unroll(x, windows));
        multiply_transposed(level, rows, window, shape.outputs, windows, dy, weight);
    }
}

/// Computes the gradient of the input.
pub(super) fn input_gradient(
    working: Working<'_>,
    shape: Convolution2dShape,
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
) {
    let Working { level, panels, .. } = working;
    let (window, steps) = (shape.window(), shape.output_steps());
    panels.pack_parallel(weight, shape.outputs, window, Layout::Transposed);
    let panels = &*panels;
    let flows = dx.par_chunks_mut(shape.input()).zip(dy.par_chunks(steps * shape.outputs)).take(shape.flows);
    flows.for_each(|(dx, dy)| {
        WINDOWS.with_borrow_mut(|windows| {
            grow(windows, steps * window);
            let windows = &mut windows[..steps * window];
            multiply(level, steps, dy, shape.outputs, panels, windows, Update::Replace);
            shape.roll(windows, dx);
        });
    });
}

vectorised! {
    fn largest_of_flow(shape: Pool2dShape, x: &[f32], y: &mut [f32], chosen: &mut [u32]) {
        let (channels, [_, width]) = (shape.channels, shape.output_size());
        let outputs = y.chunks_exact_mut(channels).zip(chosen.chunks_exact_mut(channels));
        for (step, (y, chosen)) in outputs.enumerate() {
            let corner = step / width * shape.pool * shape.size[1] + step % width * shape.pool;
            y.copy_from_slice(&x[corner * channels..][..channels]);
            chosen.fill(corner as u32);
            for place in 1..shape.pool * shape.pool {
                let step = corner + place / shape.pool * shape.size[1] + place % shape.pool;
                let row = &x[step * channels..][..channels];
                for ((y, chosen), &value) in y.iter_mut().zip(chosen.iter_mut()).zip(row) {
                    // NaN counts as larger, so that a diverging training is detected.
                    let larger = value > *y || value.is_nan();
                    *chosen = if larger { step as u32 } else { *chosen };
                    *y = if larger { value } else { *y };
                }
            }
        }
    }
}

/// See [`crate::deep::fast::layers::LayerBackend::max_pool2d`].
pub(super) fn maximum(level: Level, shape: Pool2dShape, x: &[f32], y: &mut [f32], chosen: &mut [u32]) {
    let output = shape.output_steps() * shape.channels;
    let outputs = y.par_chunks_mut(output).zip(chosen.par_chunks_mut(output)).take(shape.flows);
    let inputs = x.par_chunks(shape.size[0] * shape.size[1] * shape.channels);
    outputs.zip(inputs).for_each(|((y, chosen), x)| largest_of_flow(level, shape, x, y, chosen));
}
