//! Batch normalisation (Ioffe and Szegedy 2015) in PyTorch's form. Sums run over rows in order, in double precision, so
//! that their error does not grow with the batch.

use rayon::prelude::*;

use super::simd::{Level, vectorised};
use crate::deep::engine::NORM_EPSILON;
use crate::deep::fast::backend::{NormState, NormWeights};

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

/// Computes mean and scale of the columns of x, and moves the running statistics towards those of the batch by `share`
/// of the difference.
pub(super) fn statistics(level: Level, columns: usize, x: &[f32], share: f32, state: NormState<&mut [f32]>) {
    let NormState { mean, scale, running_mean, running_variance } = state;
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
            running_mean[column] += share * (mean[column] - running_mean[column]);
            running_variance[column] += share * (unbiased - running_variance[column]);
        }
    });
}

/// Per-column values of a normalisation: `y = (x - mean) * scale * weight + bias`.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    pub mean: &'a [f32],
    pub scale: &'a [f32],
    pub weight: &'a [f32],
}

/// Normalises the rows of x.
pub(super) fn apply(level: Level, size: usize, x: &[f32], columns: Columns<'_>, bias: &[f32], y: &mut [f32]) {
    y.par_chunks_mut(size * TASK_ROWS).zip(x.par_chunks(size * TASK_ROWS)).for_each(|(y, x)| {
        apply_rows(level, size, x, columns, bias, y);
    });
}

vectorised! {
    fn apply_rows(size: usize, x: &[f32], columns: Columns<'_>, bias: &[f32], y: &mut [f32]) {
        let Columns { mean, scale, weight } = columns;
        for (y, x) in y.chunks_exact_mut(size).zip(x.chunks_exact(size)) {
            for (((((y, x), mean), scale), weight), bias) in y.iter_mut().zip(x).zip(mean).zip(scale).zip(weight).zip(bias) {
                *y = (x - mean) * (scale * weight) + bias;
            }
        }
    }
}

/// The rows of x and of the gradient of y.
struct Rows<'a> {
    x: &'a [f32],
    gradient: &'a [f32],
}

vectorised! {
    /// Sums the gradient, and the gradient times the normalised input, for the columns from `first` on.
    fn gradient_sums(
        size: usize,
        first: usize,
        rows: Rows<'_>,
        columns: Columns<'_>,
        sums: &mut [f32],
        products: &mut [f32],
    ) {
        let Rows { x, gradient } = rows;
        let width = sums.len();
        let mut totals = [0.0; BLOCK];
        let mut total_products = [0.0; BLOCK];
        let mean = &columns.mean[first..first + width];
        let scale = &columns.scale[first..first + width];
        for (x, gradient) in x.chunks_exact(size).zip(gradient.chunks_exact(size)) {
            let x = &x[first..first + width];
            let gradient = &gradient[first..first + width];
            for column in 0..width {
                totals[column] += f64::from(gradient[column]);
                let normalised = (x[column] - mean[column]) * scale[column];
                total_products[column] += f64::from(gradient[column] * normalised);
            }
        }
        for column in 0..width {
            sums[column] = totals[column] as f32;
            products[column] = total_products[column] as f32;
        }
    }
}

/// Per-column sums over all rows, as computed by [`gradient_sums`].
#[derive(Clone, Copy)]
struct Totals<'a> {
    sums: &'a [f32],
    products: &'a [f32],
}

vectorised! {
    fn backward_rows(
        size: usize,
        rows: f32,
        x: &[f32],
        columns: Columns<'_>,
        totals: Totals<'_>,
        gradient: &mut [f32],
    ) {
        let Columns { mean, scale, weight } = columns;
        let Totals { sums, products } = totals;
        for (gradient, x) in gradient.chunks_exact_mut(size).zip(x.chunks_exact(size)) {
            let of_column = mean.iter().zip(scale).zip(weight).zip(sums).zip(products);
            for ((gradient, x), ((((mean, scale), weight), sum), product)) in gradient.iter_mut().zip(x).zip(of_column) {
                let normalised = (x - mean) * scale;
                *gradient = weight * scale * (*gradient - sum / rows - normalised * (product / rows));
            }
        }
    }
}

/// Replaces the gradient of the output by that of the input, and adds those of weight and bias; `working` has room for
/// two values per column.
pub(super) fn backward(
    level: Level,
    size: usize,
    x: &[f32],
    columns: Columns<'_>,
    added: NormWeights<&mut [f32]>,
    working: &mut [f32],
    gradient: &mut [f32],
) {
    let (sums, products) = working.split_at_mut(size);
    let blocks = sums.par_chunks_mut(BLOCK).zip(products.par_chunks_mut(BLOCK));
    blocks.enumerate().for_each(|(block, (sums, products))| {
        gradient_sums(level, size, block * BLOCK, Rows { x, gradient }, columns, sums, products);
    });
    added.bias.iter_mut().zip(&*sums).for_each(|(gradient, sum)| *gradient += sum);
    added.weight.iter_mut().zip(&*products).for_each(|(gradient, product)| *gradient += product);
    let rows = (x.len() / size) as f32;
    let totals = Totals { sums, products };
    gradient.par_chunks_mut(size * TASK_ROWS).zip(x.par_chunks(size * TASK_ROWS)).for_each(|(gradient, x)| {
        backward_rows(level, size, rows, x, columns, totals, gradient);
    });
}
