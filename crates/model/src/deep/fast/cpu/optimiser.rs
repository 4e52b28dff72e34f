//! The gradient's norm and Adam's step (Kingma and Ba 2015, in PyTorch's form; decoupled weight decay of Loshchilov and
//! Hutter 2019) on the CPU.

use rayon::prelude::*;

use super::rows::tree_sum;
use super::simd::{Level, vectorised};
use crate::deep::engine::{ADAM_BETA_1, ADAM_BETA_2, ADAM_EPSILON};
use crate::deep::fast::backend::{AdamStep, Trained};

/// Values that one task processes.
const TASK: usize = 16_384;

vectorised! {
    fn squares(values: &[f32]) -> f64 {
        let (chunks, rest) = values.as_chunks::<8>();
        let mut lanes = [0.0; 8];
        for chunk in chunks {
            for lane in 0..8 {
                lanes[lane] += f64::from(chunk[lane]) * f64::from(chunk[lane]);
            }
        }
        lanes.iter().sum::<f64>() + rest.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>()
    }
}

/// Returns the sum of squares.
pub(super) fn squared_norm(level: Level, values: &[f32]) -> f64 {
    tree_sum(0, values.len(), TASK, &|start, count| squares(level, &values[start..start + count]))
}

/// The constants of a step, rounded to single precision as late as PyTorch does.
#[derive(Clone, Copy)]
struct Numbers {
    gradient_scale: f32,
    step_size: f32,
    correction: f32,
    decay: f32,
}

vectorised! {
    fn step(numbers: Numbers, value: &mut [f32], gradient: &mut [f32], first: &mut [f32], second: &mut [f32]) {
        let Numbers { gradient_scale, step_size, correction, decay } = numbers;
        let (new_first, new_second) = ((1.0 - ADAM_BETA_1) as f32, (1.0 - ADAM_BETA_2) as f32);
        for (((value, gradient), first), second) in value.iter_mut().zip(gradient).zip(first).zip(second) {
            let slope = *gradient * gradient_scale;
            *gradient = 0.0;
            *first += (slope - *first) * new_first;
            *second = *second * ADAM_BETA_2 as f32 + new_second * slope * slope;
            *value = *value * decay - step_size * *first / (second.sqrt() / correction + ADAM_EPSILON as f32);
        }
    }
}

/// Moves an average towards the values by `share` of the difference.
pub(super) fn average(values: &[f32], average: &mut [f32], share: f32) {
    average.par_chunks_mut(TASK).zip(values.par_chunks(TASK)).for_each(|(average, values)| {
        average.iter_mut().zip(values).for_each(|(average, value)| *average += share * (value - *average));
    });
}

/// Takes one step on `length` values.
pub(super) fn adam(level: Level, trained: &mut Trained<Vec<f32>>, length: usize, adam: AdamStep) {
    let numbers = Numbers {
        gradient_scale: adam.gradient_scale,
        step_size: (f64::from(adam.learning_rate) / (1.0 - ADAM_BETA_1.powi(adam.step))) as f32,
        correction: (1.0 - ADAM_BETA_2.powi(adam.step)).sqrt() as f32,
        decay: 1.0 - adam.learning_rate * adam.weight_decay,
    };
    let parts = trained.value[..length].par_chunks_mut(TASK).zip(trained.gradient[..length].par_chunks_mut(TASK));
    let parts = parts.zip(trained.first[..length].par_chunks_mut(TASK));
    parts.zip(trained.second[..length].par_chunks_mut(TASK)).for_each(|(((value, gradient), first), second)| {
        step(level, numbers, value, gradient, first, second);
    });
}

vectorised! {
    fn largest_step(numbers: Numbers, value: &mut [f32], gradient: &mut [f32], first: &mut [f32], second: &mut [f32]) {
        let Numbers { gradient_scale, step_size, decay, .. } = numbers;
        let new_first = (1.0 - ADAM_BETA_1) as f32;
        for (((value, gradient), first), second) in value.iter_mut().zip(gradient).zip(first).zip(second) {
            let slope = *gradient * gradient_scale;
            *gradient = 0.0;
            *first += (slope - *first) * new_first;
            let (decayed, size) = (*second * ADAM_BETA_2 as f32, slope.abs() + ADAM_EPSILON as f32);
            *second = if decayed > size { decayed } else { size };
            *value = *value * decay - step_size * *first / *second;
        }
    }
}

/// Takes one step of Adamax on `length` values.
pub(super) fn adamax(level: Level, trained: &mut Trained<Vec<f32>>, length: usize, step: AdamStep) {
    let numbers = Numbers {
        gradient_scale: step.gradient_scale,
        step_size: (f64::from(step.learning_rate) / (1.0 - ADAM_BETA_1.powi(step.step))) as f32,
        correction: 1.0,
        decay: 1.0 - step.learning_rate * step.weight_decay,
    };
    let parts = trained.value[..length].par_chunks_mut(TASK).zip(trained.gradient[..length].par_chunks_mut(TASK));
    let parts = parts.zip(trained.first[..length].par_chunks_mut(TASK));
    parts.zip(trained.second[..length].par_chunks_mut(TASK)).for_each(|(((value, gradient), first), second)| {
        largest_step(level, numbers, value, gradient, first, second);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adamax_is_that_of_pytorch() {
        // torch.optim.Adamax([torch.tensor([1.0, -2.0, 0.5])], lr=0.01)
        let mut trained = Trained { value: vec![1.0, -2.0, 0.5], ..Trained::default() };
        (trained.first, trained.second) = (vec![0.0; 3], vec![0.0; 3]);
        let steps = [
            ([0.5, -0.1, 0.0], [0.99, -1.99, 0.5]),
            ([-1.0, 0.2, 1e-3], [0.992_894_77, -1.992_894_8, 0.494_736_9]),
            ([0.1, 0.05, 2.0], [0.994_353_8, -1.995_646_6, 0.491_045_2]),
        ];
        for (step, (gradient, expected)) in (1..).zip(steps) {
            trained.gradient = gradient.to_vec();
            let step = AdamStep { step, learning_rate: 0.01, weight_decay: 0.0, gradient_scale: 1.0 };
            adamax(Level::detect(), &mut trained, 3, step);
            assert!(trained.value.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6));
            assert_eq!(trained.gradient, [0.0; 3]);
        }
    }
}
