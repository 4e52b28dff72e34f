//! Adam (Kingma and Ba 2015), in PyTorch's form, over named parameters; with decoupled weight decay
//! (Loshchilov and Hutter 2019) where it is not 0, and clipping by the global norm before.

use indexmap::IndexMap;

use super::graph::NamedGradients;
use crate::model::deep::engine::{ADAM_BETA_1, ADAM_BETA_2, ADAM_EPSILON, CLIP_EPSILON};
use crate::model::deep::parameters::ParameterSet;

/// The optimiser's settings and state.
pub(super) struct Adam {
    clip_norm: f32,
    weight_decay: f32,
    /// Steps taken.
    pub steps: u64,
    /// First and second moment by parameter.
    moments: IndexMap<String, (Vec<f32>, Vec<f32>)>,
}

impl Adam {
    pub fn new(clip_norm: f32, weight_decay: f32) -> Self {
        Self { clip_norm, weight_decay, steps: 0, moments: IndexMap::new() }
    }

    /// One step on every parameter that has a gradient.
    pub fn update(&mut self, parameters: &mut ParameterSet, gradients: NamedGradients, learning_rate: f32) {
        let squares = gradients.iter().flat_map(|(_, values)| values).map(|&value| f64::from(value).powi(2));
        let norm = squares.sum::<f64>().sqrt() as f32;
        let clip = (self.clip_norm / (norm + CLIP_EPSILON)).min(1.0);
        self.steps += 1;
        let power = self.steps as f64;
        let step_size = (f64::from(learning_rate) / (1.0 - ADAM_BETA_1.powf(power))) as f32;
        let correction = (1.0 - ADAM_BETA_2.powf(power)).sqrt() as f32;
        let (new_1, new_2) = ((1.0 - ADAM_BETA_1) as f32, (1.0 - ADAM_BETA_2) as f32);
        for (name, gradient) in gradients {
            let values = parameters.values_mut(&name).expect("gradients are of parameters");
            let count = values.len();
            let (first, second) = self.moments.entry(name).or_insert_with(|| (vec![0.0; count], vec![0.0; count]));
            for (index, value) in values.iter_mut().enumerate() {
                let gradient = gradient[index] * clip;
                first[index] += (gradient - first[index]) * new_1;
                second[index] = second[index] * ADAM_BETA_2 as f32 + new_2 * gradient * gradient;
                *value *= 1.0 - learning_rate * self.weight_decay;
                *value -= step_size * first[index] / (second[index].sqrt() / correction + ADAM_EPSILON as f32);
            }
        }
    }
}
