//! ELMo as a language model: each state of the uppermost layers predicts the byte that its direction reads next,
//! through a shared head.

use super::backend::{Backend, LinearShape};
use super::stacks::Stacks;
use super::weights::{Linear, Optimiser, Weight};
use crate::ModelError;
use crate::deep::engine::{
    BatchLoss, LanguageModel, NOT_FINITE, OptimiserState, PRETRAINING, PacketEncoder, Resumable, diverged,
};
use crate::deep::parameters::{ElmoOptions, ParameterSet};
use crate::deep::pooling::Pooling;

/// ELMo on a device.
pub(super) struct Elmo<B: Backend> {
    device: B,
    options: ElmoOptions,
    stacks: Stacks<B>,
    head: Linear<B>,
    optimiser: Optimiser,
    /// By direction: the token that each state predicts.
    targets: [B::Indices; 2],
    /// Number of targets of both directions.
    target_count: u64,
    logits: B::Values,
    encodings: B::Values,
}

impl<B: Backend> Elmo<B> {
    pub(super) fn new(mut device: B, options: &ElmoOptions, set: &ParameterSet, seed: u64) -> Result<Self, ModelError> {
        let stacks = Stacks::new(&mut device, options, set, seed, false)?;
        let head = Linear::new(&mut device, set, "elmo.head", stacks.vocabulary(), options.hidden)?;
        device.check()?;
        Ok(Self {
            device,
            options: options.clone(),
            stacks,
            head,
            optimiser: Optimiser { clip_norm: options.clip_norm, weight_decay: 0.0, averaging: None, steps: 0 },
            targets: Default::default(),
            target_count: 0,
            logits: B::Values::default(),
            encodings: B::Values::default(),
        })
    }

    fn visit(&mut self, visit: &mut dyn FnMut(&mut B, &mut Weight<B>)) {
        let Self { device, stacks, head, .. } = self;
        let visit = &mut |weight: &mut Weight<B>| visit(device, weight);
        stacks.visit(visit);
        head.visit(visit);
    }

    /// Checks and packs a batch, and counts its targets.
    fn prepare(&mut self, tokens: &[u16], packets: usize) -> Result<(), ModelError> {
        let Self { device, stacks, .. } = self;
        stacks.prepare(device, tokens, packets)?;
        self.target_count = stacks.lengths().iter().map(|&length| 2 * (u64::from(length) - 1)).sum();
        Ok(())
    }

    fn head_shape(&self) -> LinearShape {
        LinearShape { rows: self.stacks.states(), inputs: self.options.hidden, outputs: self.stacks.vocabulary() }
    }

    /// Computes the loss of a direction after its forward pass, and replaces the logits by their gradient. The targets
    /// are prepared only here, while a GPU is still busy with the forward pass.
    fn cross_entropy(&mut self, tokens: &[u16], direction: usize, dropping: Option<u64>) -> f64 {
        let shape = self.head_shape();
        let Self { device, stacks, head, logits, targets, .. } = self;
        stacks.upload_tokens(device, tokens, direction, 1, &mut targets[direction]);
        device.reserve(logits, shape.output().values());
        let (top, _) = stacks.top(device, direction, dropping);
        device.linear(shape, top, head.values(), logits);
        let scale = 1.0 / self.target_count as f32;
        device.cross_entropy(shape.output(), logits, &targets[direction], scale)
    }

    /// Computes the gradients of the head and of the states below it, after the loss of a direction.
    fn head_backward(&mut self, direction: usize, dropping: Option<u64>) {
        let shape = self.head_shape();
        let Self { device, stacks, head, logits, .. } = self;
        let (top, gradient) = stacks.top(device, direction, dropping);
        device.linear_backward(shape, top, logits, head.trained(), gradient, false);
    }

    #[cfg(test)]
    pub(super) fn device_mut(&mut self) -> &mut B {
        &mut self.device
    }

    /// Returns the current gradients by name.
    pub(super) fn named_gradients(&mut self) -> Vec<(String, Vec<f32>)> {
        let mut found = Vec::new();
        self.visit(&mut |device, weight| found.push(weight.gradient(device)));
        found
    }

    /// Computes the loss of a batch and adds its gradients to those of the weights.
    pub(super) fn gradients(&mut self, tokens: &[u16], packets: usize) -> Result<BatchLoss, ModelError> {
        self.prepare(tokens, packets)?;
        let mut loss = BatchLoss { sum: 0.0, targets: self.target_count };
        if loss.targets > 0 {
            let dropping = self.stacks.dropping(self.optimiser.steps);
            for directions in Stacks::turns(&self.device) {
                self.stacks.forward(&mut self.device, directions.clone(), dropping);
                for direction in directions.clone() {
                    loss.sum += self.cross_entropy(tokens, direction, dropping);
                    self.head_backward(direction, dropping);
                }
                self.stacks.backward(&mut self.device, directions.clone(), dropping, None);
            }
        }
        self.device.check()?;
        Ok(loss)
    }
}

impl<B: Backend> LanguageModel for Elmo<B> {
    fn train_step(&mut self, tokens: &[u16], packets: usize, learning_rate: f32) -> Result<BatchLoss, ModelError> {
        let loss = self.gradients(tokens, packets)?;
        if !loss.sum.is_finite() {
            let parameters = self.parameters();
            return Err(diverged(PRETRAINING, parameters.first_non_finite().unwrap_or("elmo.head"), NOT_FINITE));
        }
        if loss.targets > 0 {
            let Self { device, stacks, head, optimiser, .. } = self;
            optimiser.step(PRETRAINING, device, learning_rate, |visit| {
                stacks.visit(visit);
                head.visit(visit);
            })?;
        }
        Ok(loss)
    }

    fn loss(&mut self, tokens: &[u16], packets: usize) -> Result<BatchLoss, ModelError> {
        self.prepare(tokens, packets)?;
        let mut loss = BatchLoss { sum: 0.0, targets: self.target_count };
        if loss.targets > 0 {
            for directions in Stacks::turns(&self.device) {
                self.stacks.forward(&mut self.device, directions.clone(), None);
                for direction in directions.clone() {
                    loss.sum += self.cross_entropy(tokens, direction, None);
                }
            }
        }
        self.device.check()?;
        Ok(loss)
    }
}

impl<B: Backend> PacketEncoder for Elmo<B> {
    fn encode(
        &mut self,
        tokens: &[u16],
        packets: usize,
        pooling: Pooling,
        output: &mut [f32],
    ) -> Result<(), ModelError> {
        let Self { device, stacks, encodings, .. } = self;
        stacks.encode(device, tokens, packets, pooling, encodings, output)
    }
}

impl<B: Backend> Resumable for Elmo<B> {
    fn optimiser_state(&mut self) -> OptimiserState {
        let Self { device, stacks, head, optimiser, .. } = self;
        optimiser.state(device, |visit| {
            stacks.visit(visit);
            head.visit(visit);
        })
    }

    fn set_optimiser_state(&mut self, state: &OptimiserState) -> Result<(), ModelError> {
        let Self { device, stacks, head, optimiser, .. } = self;
        optimiser.set_state(device, state, |visit| {
            stacks.visit(visit);
            head.visit(visit);
        })
    }

    fn set_parameters(&mut self, parameters: &ParameterSet) -> Result<(), ModelError> {
        let mut result = Ok(());
        self.visit(&mut |device, weight| {
            if result.is_ok() {
                result = weight.load(device, parameters);
            }
        });
        result
    }

    fn parameters(&self) -> ParameterSet {
        let mut set = ParameterSet::default();
        self.stacks.store(&self.device, &mut set);
        self.head.weight.store(&self.device, &mut set);
        self.head.bias.store(&self.device, &mut set);
        set
    }
}
