//! Layer normalisation (Ba et al. 2016) in PyTorch's form: every row by its own mean and variance. Tasks process rows;
//! the gradients of weight and bias are summed per column over the rows in order.

use rayon::prelude::*;

use super::simd::{Level, fused, vectorised};
use crate::deep::engine::NORM_EPSILON;

/// Columns that one task sums.
const BLOCK: usize = 32;
/// Rows that one task processes.
const TASK_ROWS: usize = 64;

/// Sums a row in eight lanes.
#[inline(always)]
fn sum(row: &[f32], value: impl Fn(usize, f32) -> f32) -> f32 {
    let (chunks, rest) = row.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for (index, chunk) in chunks.iter().enumerate() {
        for lane in 0..8 {
            lanes[lane] += value(index * 8 + lane, chunk[lane]);
        }
    }
    let first = row.len() - rest.len();
    lanes.iter().sum::<f32>() + rest.iter().enumerate().map(|(index, &x)| value(first + index, x)).sum::<f32>()
}

vectorised! {
    fn forward_rows(columns: usize, x: &[f32], weight: &[f32], bias: &[f32], moments: &mut [f32], y: &mut [f32]) {
        let rows = x.chunks_exact(columns).zip(y.chunks_exact_mut(columns));
        for ((x, y), moments) in rows.zip(moments.chunks_exact_mut(2)) {
            let mean = sum(x, |_, value| value) / columns as f32;
            let variance = sum(x, |_, value| (value - mean) * (value - mean)) / columns as f32;
            let scale = 1.0 / (variance + NORM_EPSILON).sqrt();
            (moments[0], moments[1]) = (mean, scale);
            for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                *y = fused::<FUSED>((x - mean) * scale, *weight, *bias);
            }
        }
    }
}

/// See [`crate::deep::fast::transformer::TransformerBackend::layer_norm`].
pub(super) fn forward(
    level: Level,
    columns: usize,
    x: &[f32],
    [weight, bias]: [&[f32]; 2],
    moments: &mut [f32],
    y: &mut [f32],
) {
    let outputs = y.par_chunks_mut(columns * TASK_ROWS).zip(moments.par_chunks_mut(2 * TASK_ROWS));
    outputs.zip(x.par_chunks(columns * TASK_ROWS)).for_each(|((y, moments), x)| {
        forward_rows(level, columns, x, weight, bias, moments, y);
    });
}

/// The rows of x, their means and scales, and the gradients of y.
struct Rows<'a> {
    x: &'a [f32],
    moments: &'a [f32],
    gradient: &'a [f32],
}

vectorised! {
    /// Sums, over rows, the gradient and the gradient times the normalised input, for the columns from `first` on.
    fn sums(columns: usize, first: usize, rows: Rows<'_>, of_weight: &mut [f32], of_bias: &mut [f32]) {
        let Rows { x, moments, gradient } = rows;
        let width = of_weight.len();
        let (mut products, mut totals) = ([0.0_f64; BLOCK], [0.0_f64; BLOCK]);
        let rows = x.chunks_exact(columns).zip(gradient.chunks_exact(columns));
        for ((x, gradient), moments) in rows.zip(moments.chunks_exact(2)) {
            let (x, gradient) = (&x[first..first + width], &gradient[first..first + width]);
            for column in 0..width {
                totals[column] += f64::from(gradient[column]);
                products[column] += f64::from(gradient[column] * ((x[column] - moments[0]) * moments[1]));
            }
        }
        for column in 0..width {
            of_weight[column] += products[column] as f32;
            of_bias[column] += totals[column] as f32;
        }
    }
}

vectorised! {
    fn backward_rows(columns: usize, x: &[f32], weight: &[f32], moments: &[f32], gradient: &mut [f32]) {
        let rows = x.chunks_exact(columns).zip(gradient.chunks_exact_mut(columns));
        for ((x, gradient), moments) in rows.zip(moments.chunks_exact(2)) {
            let (mean, scale) = (moments[0], moments[1]);
            let total = sum(gradient, |column, value| value * weight[column]) / columns as f32;
            let product = sum(gradient, |column, value| value * weight[column] * ((x[column] - mean) * scale)) / columns as f32;
            for ((gradient, x), weight) in gradient.iter_mut().zip(x).zip(weight) {
                let normalised = (x - mean) * scale;
                *gradient = scale * (*gradient * weight - total - normalised * product);
            }
        }
    }
}

/// See [`crate::deep::fast::transformer::TransformerBackend::layer_norm_backward`].
pub(super) fn backward(
    level: Level,
    weight: &[f32],
    [x, moments]: [&[f32]; 2],
    [of_weight, of_bias]: [&mut [f32]; 2],
    gradient: &mut [f32],
) {
    let columns = weight.len();
    let blocks = of_weight.par_chunks_mut(BLOCK).zip(of_bias.par_chunks_mut(BLOCK)).enumerate();
    blocks.for_each(|(block, (of_weight, of_bias))| {
        sums(level, columns, block * BLOCK, Rows { x, moments, gradient }, of_weight, of_bias);
    });
    let rows = gradient.par_chunks_mut(columns * TASK_ROWS).zip(x.par_chunks(columns * TASK_ROWS));
    rows.zip(moments.par_chunks(2 * TASK_ROWS)).for_each(|((gradient, x), moments)| {
        backward_rows(level, columns, x, weight, moments, gradient);
    });
}
