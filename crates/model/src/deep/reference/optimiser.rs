//! Adam (Kingma and Ba 2015) in PyTorch's form over named parameters, with decoupled weight decay (Loshchilov and
//! Hutter 2019) if it is not 0, and clipping by the global norm beforehand.

use indexmap::IndexMap;

use super::graph::NamedGradients;
use crate::ModelError;
use crate::deep::OptimiserKind;
use crate::deep::engine::{
    ADAM_BETA_1, ADAM_BETA_2, ADAM_EPSILON, CLIP_EPSILON, GRADIENT_NOT_FINITE, OptimiserState, average_share, diverged,
};
use crate::deep::parameters::ParameterSet;

/// The optimiser's settings and state.
pub(super) struct Adam {
    clip_norm: f32,
    weight_decay: f32,
    averaging: Option<f32>,
    /// Whether the second moment is the decaying maximum of absolute gradients (Adamax).
    by_largest: bool,
    /// The average of the parameters; empty before the first step, and if parameters are not averaged.
    average: ParameterSet,
    /// Steps taken.
    pub steps: u64,
    /// First and second moments by parameter.
    moments: IndexMap<String, (Vec<f32>, Vec<f32>)>,
}

impl Adam {
    /// Creates an optimiser; `averaging` is the decay of the parameters' average, if they are averaged.
    pub(super) fn new(clip_norm: f32, weight_decay: f32, averaging: Option<f32>) -> Self {
        let average = ParameterSet::default();
        Self { clip_norm, weight_decay, averaging, by_largest: false, average, steps: 0, moments: IndexMap::new() }
    }

    /// Creates the optimiser of a network: without clipping and averaging.
    pub(super) fn of_network(kind: OptimiserKind, weight_decay: f32) -> Self {
        Self { by_largest: kind == OptimiserKind::Adamax, ..Self::new(f32::INFINITY, weight_decay, None) }
    }

    /// Takes one step on every parameter that has a gradient, with the learning rate `rate(name)`.
    ///
    /// # Errors
    /// A gradient is not finite; the error contains its parameter. Nothing has been changed then.
    pub(super) fn update(
        &mut self,
        stage: &str,
        parameters: &mut ParameterSet,
        gradients: NamedGradients,
        rate: impl Fn(&str) -> f32,
    ) -> Result<(), ModelError> {
        let not_finite = gradients.iter().find(|(_, values)| values.iter().any(|value| !value.is_finite()));
        if let Some((name, _)) = not_finite {
            let place = first_not_finite(parameters, name);
            return Err(diverged(stage, place, GRADIENT_NOT_FINITE));
        }
        let squares = gradients.iter().flat_map(|(_, values)| values).map(|&value| f64::from(value).powi(2));
        let norm = squares.sum::<f64>().sqrt() as f32;
        let clip = (self.clip_norm / (norm + CLIP_EPSILON)).min(1.0);
        self.steps += 1;
        let power = self.steps as f64;
        let correction = (1.0 - ADAM_BETA_2.powf(power)).sqrt() as f32;
        let (new_1, new_2) = ((1.0 - ADAM_BETA_1) as f32, (1.0 - ADAM_BETA_2) as f32);
        for (name, gradient) in gradients {
            let values = parameters.values_mut(&name).expect("gradients are of parameters");
            let count = values.len();
            let learning_rate = rate(&name);
            let step_size = (f64::from(learning_rate) / (1.0 - ADAM_BETA_1.powf(power))) as f32;
            let (first, second) = self.moments.entry(name).or_insert_with(|| (vec![0.0; count], vec![0.0; count]));
            for (index, value) in values.iter_mut().enumerate() {
                let gradient = gradient[index] * clip;
                first[index] += (gradient - first[index]) * new_1;
                *value *= 1.0 - learning_rate * self.weight_decay;
                if self.by_largest {
                    second[index] = (second[index] * ADAM_BETA_2 as f32).max(gradient.abs() + ADAM_EPSILON as f32);
                    *value -= step_size * first[index] / second[index];
                    continue;
                }
                second[index] = second[index] * ADAM_BETA_2 as f32 + new_2 * gradient * gradient;
                *value -= step_size * first[index] / (second[index].sqrt() / correction + ADAM_EPSILON as f32);
            }
        }
        Ok(())
    }

    /// Updates the average of the parameters after a step.
    pub(super) fn average(&mut self, parameters: &ParameterSet) {
        let Some(decay) = self.averaging else { return };
        let share = average_share(decay, self.steps);
        for (name, parameter) in parameters.iter() {
            if self.steps == 1 {
                self.average.insert(name, &parameter.shape, vec![0.0; parameter.values.len()]);
            }
            let average = self.average.values_mut(name).expect("inserted after the first step");
            average
                .iter_mut()
                .zip(&parameter.values)
                .for_each(|(average, value)| *average += share * (value - *average));
        }
    }

    /// Returns steps, average and moments of `parameters`; the moments of a parameter that was never trained are 0.
    pub(super) fn state(&self, parameters: &ParameterSet) -> OptimiserState {
        let mut state =
            OptimiserState { steps: self.steps, average: self.average.clone(), ..OptimiserState::default() };
        for (name, parameter) in parameters.iter() {
            let zeros = || vec![0.0; parameter.values.len()];
            let (first, second) = self.moments.get(name).cloned().unwrap_or_else(|| (zeros(), zeros()));
            state.first.insert(name, &parameter.shape, first);
            state.second.insert(name, &parameter.shape, second);
        }
        state
    }

    /// Restores the state.
    pub(super) fn set_state(&mut self, parameters: &ParameterSet, state: &OptimiserState) -> Result<(), ModelError> {
        for (name, parameter) in parameters.iter() {
            let moment = |set: &ParameterSet| Ok::<_, ModelError>(set.get(name, &parameter.shape)?.to_vec());
            self.moments.insert(name.to_owned(), (moment(&state.first)?, moment(&state.second)?));
        }
        if self.averaging.is_some() && state.steps > 0 {
            for (name, parameter) in parameters.iter() {
                state.average.get(name, &parameter.shape)?;
            }
        }
        self.average = state.average.clone();
        self.steps = state.steps;
        Ok(())
    }
}

/// Returns the first parameter that is not finite, or else the layer `otherwise` where the loss overflows.
pub(super) fn first_not_finite<'a>(parameters: &'a ParameterSet, otherwise: &'a str) -> &'a str {
    parameters.first_non_finite().unwrap_or(otherwise)
}
