//! Layers of transformers on the CPU.

use rayon::prelude::*;

use super::activation::tanh;
use super::simd::vectorised;
use super::{Cpu, TASK, grow, heads, layer_norm};
use crate::deep::fast::backend::{MatrixShape, NormWeights, Trained};
use crate::deep::fast::transformer::{HeadsShape, Projected, StepsShape, TransformerBackend};

/// Constants of the tanh approximation: `sqrt(2 / pi)`, and the factor of the cube.
const ROOT: f32 = 0.797_884_6;
const CUBE: f32 = 0.044_715;

vectorised! {
    fn gelu(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = 0.5 * x * (1.0 + tanh::<FUSED>(ROOT * (x + CUBE * x * x * x)));
        }
    }
}

vectorised! {
    fn gelu_backward(x: &[f32], dy: &mut [f32]) {
        for (dy, &x) in dy.iter_mut().zip(x) {
            let bent = tanh::<FUSED>(ROOT * (x + CUBE * x * x * x));
            let slope = ROOT * (1.0 + 3.0 * CUBE * x * x);
            *dy *= 0.5 * (1.0 + bent) + 0.5 * x * (1.0 - bent * bent) * slope;
        }
    }
}

impl TransformerBackend for Cpu {
    fn layer_norm(
        &mut self,
        shape: MatrixShape,
        x: &Vec<f32>,
        weights: NormWeights<&Vec<f32>>,
        moments: &mut Vec<f32>,
        y: &mut Vec<f32>,
    ) {
        let MatrixShape { rows, columns } = shape;
        grow(moments, 2 * rows);
        let weights = [weights.weight.as_slice(), weights.bias.as_slice()];
        let (x, y) = (&x[..rows * columns], &mut y[..rows * columns]);
        layer_norm::forward(self.level, columns, x, weights, &mut moments[..2 * rows], y);
    }

    fn layer_norm_backward(
        &mut self,
        shape: MatrixShape,
        x: &Vec<f32>,
        weights: NormWeights<&mut Trained<Vec<f32>>>,
        moments: &Vec<f32>,
        gradient: &mut Vec<f32>,
    ) {
        let MatrixShape { rows, columns } = shape;
        let NormWeights { weight, bias } = weights;
        let read = [&x[..rows * columns], &moments[..2 * rows]];
        let added = [&mut weight.gradient[..columns], &mut bias.gradient[..columns]];
        layer_norm::backward(self.level, &weight.value[..columns], read, added, &mut gradient[..rows * columns]);
    }

    fn gelu(&mut self, count: usize, x: &Vec<f32>, y: &mut Vec<f32>) {
        let level = self.level;
        y[..count].par_chunks_mut(TASK).zip(x[..count].par_chunks(TASK)).for_each(|(y, x)| gelu(level, x, y));
    }

    fn gelu_backward(&mut self, count: usize, x: &Vec<f32>, dy: &mut Vec<f32>) {
        let level = self.level;
        dy[..count]
            .par_chunks_mut(TASK)
            .zip(x[..count].par_chunks(TASK))
            .for_each(|(dy, x)| gelu_backward(level, x, dy));
    }

    fn heads(&mut self, shape: HeadsShape, input: Projected<'_, Vec<f32>>, shares: &mut Vec<f32>, y: &mut Vec<f32>) {
        grow(shares, shape.output.flows * shape.shares());
        heads::forward(self.level, shape, input.x, input.present, shares, y);
    }

    fn heads_backward(
        &mut self,
        shape: HeadsShape,
        input: Projected<'_, Vec<f32>>,
        shares: &Vec<f32>,
        dy: &Vec<f32>,
        dx: &mut Vec<f32>,
    ) {
        heads::backward(self.level, shape, [input.x, input.present, shares, dy], dx);
    }

    fn add(&mut self, count: usize, x: &Vec<f32>, y: &mut Vec<f32>) {
        y[..count].par_chunks_mut(TASK).zip(x[..count].par_chunks(TASK)).for_each(|(y, x)| {
            y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
        });
    }

    fn add_positions(&mut self, shape: StepsShape, table: &Vec<f32>, x: &mut Vec<f32>) {
        x[..shape.values()].par_chunks_mut(shape.of_flow()).for_each(|x| {
            x.iter_mut().zip(table).for_each(|(x, place)| *x += place);
        });
    }

    fn add_positions_backward(&mut self, shape: StepsShape, gradient: &Vec<f32>, table: &mut Trained<Vec<f32>>) {
        let steps = table.gradient[..shape.of_flow()].par_chunks_mut(shape.channels).enumerate();
        steps.for_each(|(step, table)| {
            for of_flow in gradient[..shape.values()].chunks_exact(shape.of_flow()) {
                let row = &of_flow[step * shape.channels..][..shape.channels];
                table.iter_mut().zip(row).for_each(|(table, gradient)| *table += gradient);
            }
        });
    }

    fn hide(&mut self, shape: StepsShape, hidden: &Vec<f32>, token: &Vec<f32>, x: &mut Vec<f32>) {
        for (row, mark) in x[..shape.values()].chunks_exact_mut(shape.channels).zip(hidden) {
            if *mark > 0.0 {
                row.copy_from_slice(&token[..shape.channels]);
            }
        }
    }

    fn hide_backward(
        &mut self,
        shape: StepsShape,
        hidden: &Vec<f32>,
        token: &mut Trained<Vec<f32>>,
        gradient: &mut Vec<f32>,
    ) {
        for (row, mark) in gradient[..shape.values()].chunks_exact_mut(shape.channels).zip(hidden) {
            if *mark > 0.0 {
                token.gradient.iter_mut().zip(&*row).for_each(|(token, gradient)| *token += gradient);
                row.fill(0.0);
            }
        }
    }

    fn present_mean(&mut self, shape: StepsShape, x: &Vec<f32>, present: &Vec<f32>, y: &mut Vec<f32>) {
        let flows = y[..shape.flows * shape.channels].par_chunks_mut(shape.channels).zip(x.par_chunks(shape.of_flow()));
        flows.zip(present.par_chunks(shape.steps)).for_each(|((y, x), present)| {
            y.fill(0.0);
            let rows = x.chunks_exact(shape.channels).zip(present).filter(|(_, mark)| **mark > 0.0);
            let mut count = 0.0_f32;
            for (row, _) in rows {
                count += 1.0;
                y.iter_mut().zip(row).for_each(|(y, x)| *y += x);
            }
            y.iter_mut().for_each(|y| *y /= count.max(1.0));
        });
    }

    fn present_mean_backward(&mut self, shape: StepsShape, present: &Vec<f32>, dy: &Vec<f32>, dx: &mut Vec<f32>) {
        let flows = dx[..shape.values()].par_chunks_mut(shape.of_flow()).zip(dy.par_chunks(shape.channels));
        flows.zip(present.par_chunks(shape.steps)).for_each(|((dx, dy), present)| {
            let count = present.iter().filter(|mark| **mark > 0.0).count().max(1) as f32;
            for (row, mark) in dx.chunks_exact_mut(shape.channels).zip(present) {
                let share = if *mark > 0.0 { 1.0 / count } else { 0.0 };
                row.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = share * dy);
            }
        });
    }

    fn squared_error(
        &mut self,
        shape: StepsShape,
        chosen: &Vec<f32>,
        target: &Vec<f32>,
        predicted: &mut Vec<f32>,
        scale: f32,
    ) -> f64 {
        let mut sum = 0.0;
        let rows =
            predicted[..shape.values()].chunks_exact_mut(shape.channels).zip(target.chunks_exact(shape.channels));
        for ((predicted, target), mark) in rows.zip(chosen) {
            for (predicted, target) in predicted.iter_mut().zip(target) {
                let error = if *mark > 0.0 { *predicted - target } else { 0.0 };
                sum += f64::from(error) * f64::from(error);
                *predicted = 2.0 * scale * error;
            }
        }
        sum
    }
}
