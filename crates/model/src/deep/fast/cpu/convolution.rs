//! Convolutions over steps as matrix products. Each output reads `kernel * inputs` contiguous values. The factor that
//! other implementations unroll into a separate matrix (im2col) is therefore the input itself, read row by row from
//! overlapping windows; flows are only copied if they are padded. The backward pass uses one product over the same
//! windows for the weight's gradient, and one for the gradient of the input, whose windows are summed where they
//! overlap.
//!
//! A task processes some flows, or some rows of the weight's gradient; the order of sums does not depend on the number
//! of threads.

use std::cell::RefCell;

use rayon::prelude::*;

use super::grow;
use super::matmul::{
    Layout, Panels, Update, Windows, multiply, multiply_parallel, multiply_transposed, multiply_windows,
    multiply_windows_transposed,
};
use super::rows;
use super::simd::Level;
use crate::deep::fast::layers::ConvolutionShape;

/// Approximate number of output rows per task.
const TASK_ROWS: usize = 128;

thread_local! {
    /// A task's padded flows, and the windows' gradients.
    static WORKING: RefCell<(Vec<f32>, Vec<f32>)> = RefCell::default();
}

/// Working memory of a call.
pub(super) struct Working<'a> {
    pub level: Level,
    pub panels: &'a mut Panels,
    /// The padded input.
    pub padded: &'a mut Vec<f32>,
}

impl ConvolutionShape {
    fn is_padded(&self) -> bool {
        self.padding != [0, 0]
    }

    /// Whether each flow has a single window that covers it: a linear layer over the flow's values.
    fn is_linear(&self) -> bool {
        !self.is_padded() && self.kernel == self.steps
    }

    /// Returns the number of flows per task.
    fn task_flows(&self) -> usize {
        (TASK_ROWS / self.output_steps()).max(1)
    }

    /// Returns the windows of the flows in x.
    fn windows<'a>(&self, x: &'a [f32], flows: usize) -> Windows<'a> {
        Windows {
            values: x,
            flows,
            steps: self.output_steps(),
            flow_stride: self.padded() * self.inputs,
            step_stride: self.stride * self.inputs,
        }
    }

    /// Copies flows and adds zero padding before and after each.
    fn pad(&self, x: &[f32], padded: &mut [f32]) {
        let (size, room) = (self.steps * self.inputs, self.padded() * self.inputs);
        let first = self.padding[0] * self.inputs;
        for (padded, x) in padded.chunks_exact_mut(room).zip(x.chunks_exact(size)) {
            padded[..first].fill(0.0);
            padded[first..first + size].copy_from_slice(x);
            padded[first + size..].fill(0.0);
        }
    }
}

/// See [`crate::deep::fast::layers::LayerBackend::convolution`].
pub(super) fn forward(
    working: Working<'_>,
    shape: ConvolutionShape,
    x: &[f32],
    (weight, bias): (&[f32], &[f32]),
    y: &mut [f32],
) {
    let Working { level, panels, .. } = working;
    panels.pack_parallel(weight, shape.window(), shape.outputs, Layout::Plain);
    let panels = &*panels;
    if shape.is_linear() {
        return multiply_parallel(level, shape.flows, x, panels, y, Update::Bias(bias));
    }
    let flows = shape.task_flows();
    let (input, output) = (shape.steps * shape.inputs, shape.output_steps() * shape.outputs);
    y.par_chunks_mut(flows * output).zip(x.par_chunks(flows * input)).for_each(|(y, x)| {
        let flows = x.len() / input;
        if !shape.is_padded() {
            return multiply_windows(level, shape.windows(x, flows), panels, y, Update::Bias(bias));
        }
        WORKING.with_borrow_mut(|(padded, _)| {
            let room = flows * shape.padded() * shape.inputs;
            grow(padded, room);
            shape.pad(x, &mut padded[..room]);
            multiply_windows(level, shape.windows(padded, flows), panels, y, Update::Bias(bias));
        });
    });
}

/// Computes the gradients of weight and bias, which are added.
pub(super) fn kernel_gradient(
    working: Working<'_>,
    shape: ConvolutionShape,
    x: &[f32],
    dy: &[f32],
    (weight, bias): (&mut [f32], &mut [f32]),
) {
    let Working { level, panels, padded } = working;
    let dy = &dy[..shape.rows() * shape.outputs];
    rows::column_sums(level, shape.outputs, dy, bias);
    if shape.is_linear() {
        return multiply_transposed(level, shape.flows, shape.window(), shape.outputs, x, dy, weight);
    }
    panels.pack_parallel(dy, shape.rows(), shape.outputs, Layout::Plain);
    let x = if shape.is_padded() {
        let room = shape.padded() * shape.inputs;
        grow(padded, shape.flows * room);
        let flows = padded.par_chunks_mut(room).zip(x.par_chunks(shape.steps * shape.inputs)).take(shape.flows);
        flows.for_each(|(padded, x)| shape.pad(x, padded));
        &*padded
    } else {
        x
    };
    multiply_windows_transposed(level, shape.windows(x, shape.flows), shape.window(), panels, weight);
}

/// Computes the gradient of the input.
pub(super) fn input_gradient(
    working: Working<'_>,
    shape: ConvolutionShape,
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
) {
    let Working { level, panels, .. } = working;
    let window = shape.window();
    panels.pack_parallel(weight, shape.outputs, window, Layout::Transposed);
    let panels = &*panels;
    if shape.is_linear() {
        return multiply_parallel(level, shape.flows, dy, panels, dx, Update::Replace);
    }
    let (input, steps) = (shape.steps * shape.inputs, shape.output_steps());
    let of_flow = dx.par_chunks_mut(input).zip(dy.par_chunks(steps * shape.outputs)).take(shape.flows);
    of_flow.for_each(|(dx, dy)| {
        WORKING.with_borrow_mut(|(padded, windows)| {
            grow(windows, steps * window);
            let windows = &mut windows[..steps * window];
            multiply(level, steps, dy, shape.outputs, panels, windows, Update::Replace);
            let room = shape.padded() * shape.inputs;
            grow(padded, room);
            padded[..room].fill(0.0);
            for (step, window) in windows.chunks_exact(window).enumerate() {
                let sums = &mut padded[step * shape.stride * shape.inputs..][..window.len()];
                sums.iter_mut().zip(window).for_each(|(sum, value)| *sum += value);
            }
            dx.copy_from_slice(&padded[shape.padding[0] * shape.inputs..][..input]);
        });
    });
}
