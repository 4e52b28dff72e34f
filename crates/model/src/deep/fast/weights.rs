//! Parameters on the device by name, with their gradients and Adam's moments.

use super::backend::{AdamStep, Backend, LinearWeights, LstmWeights, MatrixShape, NormState, NormWeights, Trained};
use crate::ModelError;
use crate::deep::engine::{CLIP_EPSILON, GRADIENT_NOT_FINITE, OptimiserState, average_share, diverged};
use crate::deep::parameters::ParameterSet;

/// A parameter.
pub(super) struct Weight<B: Backend> {
    name: String,
    shape: Vec<usize>,
    /// Factor of the learning rate.
    rate: f32,
    /// Sizes of the axes in the set, if the device stores them in reverse order.
    reversed: Option<[usize; 3]>,
    pub trained: Trained<B::Values>,
}

/// Reverses the axes of an array with three axes.
fn reverse(values: &[f32], [first, second, third]: [usize; 3]) -> Vec<f32> {
    let mut reversed = Vec::with_capacity(values.len());
    for last in 0..third {
        for middle in 0..second {
            reversed.extend((0..first).map(|index| values[(index * second + middle) * third + last]));
        }
    }
    reversed
}

impl<B: Backend> Weight<B> {
    /// Creates a weight with a parameter's values; gradient and moments are 0.
    pub(super) fn new(device: &mut B, set: &ParameterSet, name: String, shape: &[usize]) -> Result<Self, ModelError> {
        let zeros = vec![0.0; shape.iter().product()];
        let mut weight = Self { name, shape: shape.to_vec(), rate: 1.0, reversed: None, trained: Trained::default() };
        weight.load(device, set)?;
        let Trained { gradient, first, second, .. } = &mut weight.trained;
        for buffer in [gradient, first, second] {
            device.upload(&zeros, buffer);
        }
        Ok(weight)
    }

    /// Creates a weight whose `axes` the device stores in reverse order.
    pub(super) fn reversed(
        device: &mut B,
        set: &ParameterSet,
        name: String,
        shape: &[usize],
        axes: [usize; 3],
    ) -> Result<Self, ModelError> {
        let mut weight = Self::new(device, set, name, shape)?;
        weight.reversed = Some(axes);
        weight.load(device, set)?;
        Ok(weight)
    }

    /// Downloads a buffer's values in the order of the set.
    fn downloaded(&self, device: &B, buffer: &B::Values) -> Vec<f32> {
        let mut values = vec![0.0; self.length()];
        device.download(buffer, &mut values);
        match self.reversed {
            Some([first, second, third]) => reverse(&values, [third, second, first]),
            None => values,
        }
    }

    /// Copies this parameter of a set to a buffer.
    fn upload(&self, device: &mut B, set: &ParameterSet, buffer: &mut B::Values) -> Result<(), ModelError> {
        let values = set.get(&self.name, &self.shape)?;
        match self.reversed {
            Some(axes) => device.upload(&reverse(values, axes), buffer),
            None => device.upload(values, buffer),
        }
        Ok(())
    }

    /// Sets the factor of the learning rate to `factor` of the weight's name.
    pub(super) fn set_rate(&mut self, factor: impl FnOnce(&str) -> f32) {
        self.rate = factor(&self.name);
    }

    pub(super) fn value(&self) -> &B::Values {
        &self.trained.value
    }

    fn length(&self) -> usize {
        self.shape.iter().product()
    }

    /// Copies the values to a set.
    pub(super) fn store(&self, device: &B, set: &mut ParameterSet) {
        set.insert(self.name.clone(), &self.shape, self.downloaded(device, &self.trained.value));
    }

    /// Replaces the values; gradient and moments are unchanged.
    pub(super) fn load(&mut self, device: &mut B, set: &ParameterSet) -> Result<(), ModelError> {
        let mut value = std::mem::take(&mut self.trained.value);
        let result = self.upload(device, set, &mut value);
        self.trained.value = value;
        result
    }

    /// Copies both moments to the sets, and the average if weights are averaged.
    fn store_state(&self, device: &B, state: &mut OptimiserState, averages: bool) {
        let Trained { first, second, average, .. } = &self.trained;
        let average = averages.then_some((average, &mut state.average));
        for (buffer, set) in [(first, &mut state.first), (second, &mut state.second)].into_iter().chain(average) {
            set.insert(self.name.clone(), &self.shape, self.downloaded(device, buffer));
        }
    }

    /// Replaces the moments, and the average if weights are averaged.
    fn load_state(&mut self, device: &mut B, state: &OptimiserState, averages: bool) -> Result<(), ModelError> {
        let mut trained = std::mem::take(&mut self.trained);
        let mut result = self.upload(device, &state.first, &mut trained.first);
        result = result.and_then(|()| self.upload(device, &state.second, &mut trained.second));
        if averages {
            result = result.and_then(|()| self.upload(device, &state.average, &mut trained.average));
        }
        self.trained = trained;
        result
    }

    /// Returns the name and the gradient.
    pub(super) fn gradient(&self, device: &B) -> (String, Vec<f32>) {
        (self.name.clone(), self.downloaded(device, &self.trained.gradient))
    }
}

/// Whether the first `length` values are all finite.
pub(super) fn is_finite<B: Backend>(device: &B, values: &B::Values, length: usize) -> bool {
    let mut host = vec![0.0; length];
    device.download(values, &mut host);
    host.iter().all(|value| value.is_finite())
}

/// A weight `[outputs, inputs]` and a bias `[outputs]`.
pub(super) struct Linear<B: Backend> {
    pub weight: Weight<B>,
    pub bias: Weight<B>,
}

impl<B: Backend> Linear<B> {
    pub(super) fn new(
        device: &mut B,
        set: &ParameterSet,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            weight: Weight::new(device, set, format!("{name}.weight"), &[outputs, inputs])?,
            bias: Weight::new(device, set, format!("{name}.bias"), &[outputs])?,
        })
    }

    pub(super) fn values(&self) -> LinearWeights<&B::Values> {
        LinearWeights { weight: self.weight.value(), bias: self.bias.value() }
    }

    pub(super) fn trained(&mut self) -> LinearWeights<&mut Trained<B::Values>> {
        LinearWeights { weight: &mut self.weight.trained, bias: &mut self.bias.trained }
    }

    pub(super) fn visit(&mut self, visit: &mut dyn FnMut(&mut Weight<B>)) {
        visit(&mut self.weight);
        visit(&mut self.bias);
    }
}

/// An LSTM's weights.
pub(super) struct Lstm<B: Backend> {
    pub input: Weight<B>,
    pub hidden: Weight<B>,
    pub bias: Weight<B>,
}

impl<B: Backend> Lstm<B> {
    pub(super) fn new(
        device: &mut B,
        set: &ParameterSet,
        name: &str,
        inputs: usize,
        hidden: usize,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            input: Weight::new(device, set, format!("{name}.weight_ih"), &[4 * hidden, inputs])?,
            hidden: Weight::new(device, set, format!("{name}.weight_hh"), &[4 * hidden, hidden])?,
            bias: Weight::new(device, set, format!("{name}.bias"), &[4 * hidden])?,
        })
    }

    pub(super) fn values(&self) -> LstmWeights<&B::Values> {
        LstmWeights { input: self.input.value(), hidden: self.hidden.value(), bias: self.bias.value() }
    }

    pub(super) fn trained(&mut self) -> LstmWeights<&mut Trained<B::Values>> {
        LstmWeights { input: &mut self.input.trained, hidden: &mut self.hidden.trained, bias: &mut self.bias.trained }
    }

    pub(super) fn visit(&mut self, visit: &mut dyn FnMut(&mut Weight<B>)) {
        visit(&mut self.input);
        visit(&mut self.hidden);
        visit(&mut self.bias);
    }
}

/// Statistics used by a batch normalisation.
#[derive(Clone, Copy)]
pub(super) enum Statistics {
    /// Those of the current rows; the running ones move towards them by `share` of the difference.
    Batch { share: f32 },
    /// The running statistics.
    Running,
}

/// A batch normalisation's weights and running statistics.
pub(super) struct Norm<B: Backend> {
    name: String,
    size: usize,
    pub weight: Weight<B>,
    pub bias: Weight<B>,
    pub state: NormState<B::Values>,
}

impl<B: Backend> Norm<B> {
    pub(super) fn new(device: &mut B, set: &ParameterSet, name: &str, size: usize) -> Result<Self, ModelError> {
        let weight = Weight::new(device, set, format!("{name}.weight"), &[size])?;
        let bias = Weight::new(device, set, format!("{name}.bias"), &[size])?;
        let mut norm = Self { name: name.to_owned(), size, weight, bias, state: NormState::default() };
        norm.load_statistics(device, set)?;
        Ok(norm)
    }

    pub(super) fn visit(&mut self, visit: &mut dyn FnMut(&mut Weight<B>)) {
        visit(&mut self.weight);
        visit(&mut self.bias);
    }

    /// Normalises the rows of x `[rows, size]` into y.
    pub(super) fn forward(&mut self, device: &mut B, rows: usize, x: &B::Values, y: &mut B::Values, by: Statistics) {
        let Self { size, weight, bias, state, .. } = self;
        let shape = MatrixShape { rows, columns: *size };
        let values = NormWeights { weight: weight.value(), bias: bias.value() };
        match by {
            Statistics::Batch { share } => device.batch_norm(shape, x, values, share, state, y),
            Statistics::Running => device.batch_norm_fixed(shape, x, values, state, y),
        }
    }

    /// Runs the backward pass of training: replaces the gradient of y by that of x.
    pub(super) fn backward(&mut self, device: &mut B, rows: usize, x: &B::Values, gradient: &mut B::Values) {
        let Self { size, weight, bias, state, .. } = self;
        let trained = NormWeights { weight: &mut weight.trained, bias: &mut bias.trained };
        device.batch_norm_backward(MatrixShape { rows, columns: *size }, x, trained, state, gradient);
    }

    /// Stores weights and statistics, in the order of the specifications.
    pub(super) fn store(&self, device: &B, set: &mut ParameterSet) {
        self.weight.store(device, set);
        self.bias.store(device, set);
        for (part, buffer) in
            [("running_mean", &self.state.running_mean), ("running_var", &self.state.running_variance)]
        {
            let mut values = vec![0.0; self.size];
            device.download(buffer, &mut values);
            set.insert(format!("{}.{part}", self.name), &[self.size], values);
        }
    }

    pub(super) fn load_statistics(&mut self, device: &mut B, set: &ParameterSet) -> Result<(), ModelError> {
        let mean = set.get(&format!("{}.running_mean", self.name), &[self.size])?;
        let variance = set.get(&format!("{}.running_var", self.name), &[self.size])?;
        device.upload(mean, &mut self.state.running_mean);
        device.upload(variance, &mut self.state.running_variance);
        Ok(())
    }
}

/// Gradient clipping, Adam and averaging over all weights that `each` visits, always in the same order.
pub(super) struct Optimiser {
    pub clip_norm: f32,
    pub weight_decay: f32,
    /// The decay of the weights' average, if weights are averaged.
    pub averaging: Option<f32>,
    /// Steps taken.
    pub steps: u64,
}

impl Optimiser {
    /// Takes one step of Adam and zeroes all gradients.
    ///
    /// # Errors
    /// A gradient is not finite; the error contains its parameter. Nothing has been changed then.
    pub(super) fn step<B: Backend>(
        &mut self,
        stage: &str,
        device: &mut B,
        learning_rate: f32,
        each: impl FnMut(&mut dyn FnMut(&mut Weight<B>)),
    ) -> Result<(), ModelError> {
        self.step_by(B::adam, stage, device, learning_rate, each)
    }

    /// Takes one step with another operation of the device.
    ///
    /// # Errors
    /// Same as [`Optimiser::step`].
    pub(super) fn step_by<B: Backend>(
        &mut self,
        operation: impl Fn(&mut B, &mut Trained<B::Values>, usize, AdamStep),
        stage: &str,
        device: &mut B,
        learning_rate: f32,
        mut each: impl FnMut(&mut dyn FnMut(&mut Weight<B>)),
    ) -> Result<(), ModelError> {
        each(&mut |weight| device.add_squared_norm(&weight.trained, weight.length()));
        let norm = device.take_squared_norm().sqrt() as f32;
        device.check()?;
        if !norm.is_finite() {
            let (mut value, mut gradient) = (None, None);
            each(&mut |weight| {
                for (place, buffer) in [(&mut value, &weight.trained.value), (&mut gradient, &weight.trained.gradient)]
                {
                    if place.is_none() && !is_finite(device, buffer, weight.length()) {
                        *place = Some(weight.name.clone());
                    }
                }
            });
            let place = value.or(gradient);
            return Err(diverged(stage, place.as_deref().unwrap_or("the gradients' norm"), GRADIENT_NOT_FINITE));
        }
        self.steps += 1;
        let step = AdamStep {
            step: i32::try_from(self.steps).unwrap_or(i32::MAX),
            learning_rate,
            weight_decay: self.weight_decay,
            gradient_scale: (self.clip_norm / (norm + CLIP_EPSILON)).min(1.0),
        };
        each(&mut |weight| {
            let length = weight.length();
            let step = AdamStep { learning_rate: step.learning_rate * weight.rate, ..step };
            operation(device, &mut weight.trained, length, step);
        });
        Ok(())
    }

    /// Updates the average of the weights after a step. `each` must visit all weights, including those that the step
    /// did not change.
    pub(super) fn average<B: Backend>(&self, device: &mut B, mut each: impl FnMut(&mut dyn FnMut(&mut Weight<B>))) {
        let Some(decay) = self.averaging else { return };
        let share = average_share(decay, self.steps);
        each(&mut |weight| {
            let length = weight.length();
            if self.steps == 1 {
                device.reserve(&mut weight.trained.average, length);
                device.zero(length, &mut weight.trained.average);
            }
            device.average(&mut weight.trained, length, share);
        });
    }

    /// Whether an average exists yet.
    fn averages(&self) -> bool {
        self.averaging.is_some() && self.steps > 0
    }

    /// Returns steps, moments and average, to continue from.
    pub(super) fn state<B: Backend>(
        &self,
        device: &B,
        mut each: impl FnMut(&mut dyn FnMut(&mut Weight<B>)),
    ) -> OptimiserState {
        let mut state = OptimiserState { steps: self.steps, ..OptimiserState::default() };
        each(&mut |weight| weight.store_state(device, &mut state, self.averages()));
        state
    }

    /// Restores the state.
    ///
    /// # Errors
    /// A moment is missing or has another shape.
    pub(super) fn set_state<B: Backend>(
        &mut self,
        device: &mut B,
        state: &OptimiserState,
        mut each: impl FnMut(&mut dyn FnMut(&mut Weight<B>)),
    ) -> Result<(), ModelError> {
        self.steps = state.steps;
        let mut result = Ok(());
        each(&mut |weight| {
            if result.is_ok() {
                result = weight.load_state(device, state, self.averages());
            }
        });
        result
    }
}
