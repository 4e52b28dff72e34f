//! Pooling over the steps of each flow: maximum and generalised mean. A task processes a flow.

use rayon::prelude::*;

use super::activation::{exp, ln};
use super::simd::{Level, vectorised};
use crate::deep::fast::layers::{SMALLEST, WindowShape};

impl WindowShape {
    /// Returns the input steps of an output step.
    fn window(&self, step: usize) -> std::ops::Range<usize> {
        let first = step * self.stride;
        first.saturating_sub(self.before)..(first + self.size - self.before).min(self.steps)
    }

    fn input(&self) -> usize {
        self.steps * self.channels
    }

    fn output(&self) -> usize {
        self.output_steps * self.channels
    }
}

vectorised! {
    fn largest_of_flow(shape: WindowShape, x: &[f32], y: &mut [f32], chosen: &mut [u32]) {
        let channels = shape.channels;
        let outputs = y.chunks_exact_mut(channels).zip(chosen.chunks_exact_mut(channels));
        for (step, (y, chosen)) in outputs.enumerate() {
            let window = shape.window(step);
            let first = window.start;
            y.copy_from_slice(&x[first * channels..][..channels]);
            chosen.fill(first as u32);
            for step in window.skip(1) {
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

/// See [`crate::deep::fast::layers::LayerBackend::max_pool`].
pub(super) fn maximum(level: Level, shape: WindowShape, x: &[f32], y: &mut [f32], chosen: &mut [u32]) {
    let outputs = y.par_chunks_mut(shape.output()).zip(chosen.par_chunks_mut(shape.output())).take(shape.flows);
    outputs.zip(x.par_chunks(shape.input())).for_each(|((y, chosen), x)| largest_of_flow(level, shape, x, y, chosen));
}

/// Input and output sizes of a pooling.
pub(super) struct Flows {
    pub flows: usize,
    pub channels: usize,
    /// Input steps per flow.
    pub steps: usize,
    /// Output steps per flow.
    pub outputs: usize,
}

/// Runs the backward pass of any pooling that selects maxima; each maximum comes from a step of the same channel.
pub(super) fn maximum_backward(shape: Flows, chosen: &[u32], dy: &[f32], dx: &mut [f32]) {
    let output = shape.outputs * shape.channels;
    let gradients = dy.par_chunks(output).zip(chosen.par_chunks(output)).take(shape.flows);
    dx.par_chunks_mut(shape.steps * shape.channels).zip(gradients).for_each(|(dx, (dy, chosen))| {
        dx.fill(0.0);
        for (dy, chosen) in dy.chunks_exact(shape.channels).zip(chosen.chunks_exact(shape.channels)) {
            for (channel, (dy, &step)) in dy.iter().zip(chosen).enumerate() {
                dx[step as usize * shape.channels + channel] += dy;
            }
        }
    });
}

vectorised! {
    fn mean_of_flow(channels: usize, x: &[f32], exponent: f32, y: &mut [f32]) {
        let count = (x.len() / channels) as f32;
        y.fill(0.0);
        for row in x.chunks_exact(channels) {
            for (y, &value) in y.iter_mut().zip(row) {
                *y += exp::<FUSED>(exponent * ln::<FUSED>(clamped(value)));
            }
        }
        y.iter_mut().for_each(|y| *y = exp::<FUSED>(ln::<FUSED>(*y / count) / exponent));
    }
}

/// Raises `value` to at least [`SMALLEST`]; NaN is propagated.
#[inline(always)]
fn clamped(value: f32) -> f32 {
    if value < SMALLEST { SMALLEST } else { value }
}

/// See [`crate::deep::fast::layers::LayerBackend::generalised_mean`].
pub(super) fn mean(level: Level, shape: WindowShape, x: &[f32], exponent: f32, y: &mut [f32]) {
    let flows = y.par_chunks_mut(shape.channels).zip(x.par_chunks(shape.input())).take(shape.flows);
    flows.for_each(|(y, x)| mean_of_flow(level, shape.channels, x, exponent, y));
}

/// Input and output of a generalised mean over one flow, and the gradient of the output.
struct Flow<'a> {
    x: &'a [f32],
    y: &'a [f32],
    dy: &'a [f32],
}

vectorised! {
    /// Computes the gradients of `y = (sum x^p / n)^(1/p)`: `dy/dx = y^(1-p) x^(p-1) / n`, and `dy/dp = y / p (sum x^p
    /// ln x / (n y^p) - ln y)`; `working` has room for two values per channel.
    fn backward_of_flow(
        channels: usize,
        flow: Flow<'_>,
        exponent: f32,
        dx: &mut [f32],
        working: &mut [f32],
    ) -> f64 {
        let Flow { x, y, dy } = flow;
        let count = (x.len() / channels) as f32;
        let (factors, weighted) = working.split_at_mut(channels);
        for ((factor, &y), &dy) in factors.iter_mut().zip(y).zip(dy) {
            *factor = dy * exp::<FUSED>((1.0 - exponent) * ln::<FUSED>(y)) / count;
        }
        weighted.fill(0.0);
        for (row, dx) in x.chunks_exact(channels).zip(dx.chunks_exact_mut(channels)) {
            for (((dx, &value), &factor), weighted) in dx.iter_mut().zip(row).zip(&*factors).zip(weighted.iter_mut()) {
                let kept = clamped(value);
                let logarithm = ln::<FUSED>(kept);
                let power = exp::<FUSED>((exponent - 1.0) * logarithm);
                *dx = if value < SMALLEST { 0.0 } else { factor * power };
                *weighted += power * kept * logarithm;
            }
        }
        let mut slope = 0.0;
        for (((&weighted, &factor), &y), &dy) in weighted.iter().zip(&*factors).zip(y).zip(dy) {
            // The factor already includes y^(1-p) / n.
            slope += f64::from(factor) * f64::from(weighted) - f64::from(dy) * f64::from(y) * f64::from(ln::<FUSED>(y));
        }
        slope / f64::from(exponent)
    }
}

/// See [`crate::deep::fast::layers::LayerBackend::generalised_mean_backward`]; returns the value to add to the gradient
/// of the exponent. `working` has room for `2 * channels + 2` values per flow.
pub(super) fn mean_backward(
    level: Level,
    shape: WindowShape,
    (x, exponent, y): (&[f32], f32, &[f32]),
    dy: &[f32],
    dx: &mut [f32],
    working: &mut [f32],
) -> f32 {
    let channels = shape.channels;
    let (working, slopes) = working.split_at_mut(shape.flows * 2 * channels);
    let slopes: &mut [[f32; 2]] = bytemuck::cast_slice_mut(&mut slopes[..2 * shape.flows]);
    let flows = x.par_chunks(shape.input()).zip(y.par_chunks(channels)).zip(dy.par_chunks(channels));
    let flows = flows.zip(dx.par_chunks_mut(shape.input())).zip(working.par_chunks_mut(2 * channels));
    flows.zip(slopes.par_iter_mut()).for_each(|(((((x, y), dy), dx), working), slope)| {
        let exact = backward_of_flow(level, channels, Flow { x, y, dy }, exponent, dx, working);
        // Stored in two parts, so that the sum over flows is computed in double precision.
        *slope = [exact as f32, (exact - f64::from(exact as f32)) as f32];
    });
    slopes.iter().map(|[high, low]| f64::from(*high) + f64::from(*low)).sum::<f64>() as f32
}
