//! Batch normalisation (Ioffe and Szegedy 2015) in PyTorch's form. Sums run over rows in order, in double
//! precision, so that their error does not grow with the batch.

use rayon::prelude::*;

use super::simd::{Level, vectorised};
use crate::model::deep::engine::{NORM_EPSILON, NORM_MOMENTUM};

/// Columns that one task sums.
const BLOCK: usize = 32;
/// Rows that one task normalises.
const TASK_ROWS: usize = 64;

vectorised! {
    fn sums(columns: usize, first: usize, width: usize, x: &[f32], centre: Option<&[f64; BLOCK]>) -> [f64; BLOCK] {
        let mut sums = [0.0; BLOCK];
        for row in x.chunks_exact(columns) {
            let row = sums[..width].iter_mut().zip(&row[first..first + width]);
            match centre {
                None => row.for_each(|(sum, value)| *sum += f64::from(*value)),
                Some(centre) => row.zip(centre).for_each(|((sum, value), centre)| {
                    let distance = f64::from(*value) - centre;
                    *sum += distance * distance;
                }),
            }
        }
        sums
    }
}

/// Mean and scale of the columns of x, and the running estimates moved.
pub(super) fn statistics(
    level: Level,
    columns: usize,
    x: &[f32],
    mean: &mut [f32],
    scale: &mut [f32],
    running_mean: &mut [f32],
    running_variance: &mut [f32],
) {
    let rows = (x.len() / columns) as f64;
    let outputs = mean.par_chunks_mut(BLOCK).zip(scale.par_chunks_mut(BLOCK));
    let outputs = outputs.zip(running_mean.par_chunks_mut(BLOCK)).zip(running_variance.par_chunks_mut(BLOCK));
    outputs.enumerate().for_each(|(block, (((mean, scale), running_mean), running_variance))| {
        let (first, width) = (block * BLOCK, mean.len());
        let centre = sums(level, columns, first, width, x, None).map(|sum| sum / rows);
        let squares = sums(level, columns, first, width, x, Some(&centre));
        for column in 0..width {
            let variance = squares[column] / rows;
            mean[column] = centre[column] as f32;
            scale[column] = (1.0 / (variance + f64::from(NORM_EPSILON)).sqrt()) as f32;
            let unbiased = (squares[column] / (rows - 1.0).max(1.0)) as f32;
            running_mean[column] += NORM_MOMENTUM * (mean[column] - running_mean[column]);
            running_variance[column] += NORM_MOMENTUM * (unbiased - running_variance[column]);
        }
    });
}

/// `y = (x - mean) * scale * weight + bias`, where `scale` is a function of a column.
pub(super) fn apply(
    columns: usize,
    x: &[f32],
    mean: &[f32],
    scale: &(impl Fn(usize) -> f32 + Sync),
    weight: &[f32],
    bias: &[f32],
    y: &mut [f32],
) {
    y.par_chunks_mut(columns * TASK_ROWS).zip(x.par_chunks(columns * TASK_ROWS)).for_each(|(y, x)| {
        for (y, x) in y.chunks_exact_mut(columns).zip(x.chunks_exact(columns)) {
            for (column, (y, x)) in y.iter_mut().zip(x).enumerate() {
                *y = (x - mean[column]) * (scale(column) * weight[column]) + bias[column];
            }
        }
    });
}

/// Sums of the gradient, and of the gradient times the normalised input.
fn gradient_sums(columns: usize, x: &[f32], mean: &[f32], scale: &[f32], gradient: &[f32], sums: &mut [[f64; 2]]) {
    sums.par_chunks_mut(BLOCK).enumerate().for_each(|(block, sums)| {
        let first = block * BLOCK;
        let width = sums.len();
        sums.fill([0.0; 2]);
        let columns_of = first..first + width;
        for (x, gradient) in x.chunks_exact(columns).zip(gradient.chunks_exact(columns)) {
            let values = x[columns_of.clone()].iter().zip(&gradient[columns_of.clone()]);
            let statistics = mean[columns_of.clone()].iter().zip(&scale[columns_of.clone()]);
            for ((sum, (x, gradient)), (mean, scale)) in sums.iter_mut().zip(values).zip(statistics) {
                sum[0] += f64::from(*gradient);
                sum[1] += f64::from(*gradient * ((x - mean) * scale));
            }
        }
    });
}

/// The buffers of a normalisation in the backward pass.
pub(super) struct BackwardBuffers<'a> {
    pub x: &'a [f32],
    pub mean: &'a [f32],
    pub scale: &'a [f32],
    pub weight: &'a [f32],
    pub weight_gradient: &'a mut [f32],
    pub bias_gradient: &'a mut [f32],
    pub sums: &'a mut [[f64; 2]],
}

/// Turns the gradient of the output into that of the input.
pub(super) fn backward(columns: usize, buffers: BackwardBuffers<'_>, gradient: &mut [f32]) {
    let BackwardBuffers { x, mean, scale, weight, weight_gradient, bias_gradient, sums } = buffers;
    gradient_sums(columns, x, mean, scale, gradient, sums);
    let rows = (x.len() / columns) as f32;
    for ((sum, weight), bias) in sums.iter().zip(weight_gradient).zip(bias_gradient) {
        *bias += sum[0] as f32;
        *weight += sum[1] as f32;
    }
    let sums = &*sums;
    gradient.par_chunks_mut(columns * TASK_ROWS).zip(x.par_chunks(columns * TASK_ROWS)).for_each(|(gradient, x)| {
        for (gradient, x) in gradient.chunks_exact_mut(columns).zip(x.chunks_exact(columns)) {
            for (column, (gradient, x)) in gradient.iter_mut().zip(x).enumerate() {
                let normalised = (x - mean[column]) * scale[column];
                let centred = *gradient - sums[column][0] as f32 / rows - normalised * (sums[column][1] as f32 / rows);
                *gradient = weight[column] * scale[column] * centred;
            }
        }
    });
}
