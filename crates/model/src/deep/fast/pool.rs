//! Runs an engine's calls on a thread of the pool. Otherwise every parallel operation would wake a worker and wait for
//! it, which costs more than the smaller operations themselves.

use crate::ModelError;
use crate::deep::engine::{
    BatchLoss, ByteBatch, JointClassifier, LanguageModel, MaskedModel, NetworkClassifier, OptimiserState, PacketBatch,
    PacketEncoder, Resumable, SequenceClassifier,
};
use crate::deep::parameters::ParameterSet;
use crate::deep::pooling::Pooling;

/// An engine whose calls run on the pool.
pub(super) struct OnPool<M>(pub M);

/// Runs `task` on a thread of the pool: the current thread, if it belongs to the pool.
fn on_pool<R: Send>(task: impl FnOnce() -> R + Send) -> R {
    rayon::join(task, || ()).0
}

impl<M: LanguageModel + Send> LanguageModel for OnPool<M> {
    fn train_step(&mut self, tokens: &[u16], packets: usize, learning_rate: f32) -> Result<BatchLoss, ModelError> {
        on_pool(|| self.0.train_step(tokens, packets, learning_rate))
    }
    fn loss(&mut self, tokens: &[u16], packets: usize) -> Result<BatchLoss, ModelError> {
        on_pool(|| self.0.loss(tokens, packets))
    }
}

impl<M: MaskedModel + Send> MaskedModel for OnPool<M> {
    fn train_step(&mut self, rows: &[f32], learning_rate: f32) -> Result<BatchLoss, ModelError> {
        on_pool(|| self.0.train_step(rows, learning_rate))
    }
    fn loss(&mut self, rows: &[f32]) -> Result<BatchLoss, ModelError> {
        on_pool(|| self.0.loss(rows))
    }
}

impl<M: SequenceClassifier + Send> SequenceClassifier for OnPool<M> {
    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError> {
        self.0.set_class_weights(weights)
    }
    fn train_step(&mut self, batch: &PacketBatch<'_>, labels: &[u32], rate: f32) -> Result<BatchLoss, ModelError> {
        on_pool(|| self.0.train_step(batch, labels, rate))
    }
    fn probabilities(&mut self, batch: &PacketBatch<'_>, output: &mut [f32]) -> Result<(), ModelError> {
        on_pool(|| self.0.probabilities(batch, output))
    }
    fn collect_statistics(&mut self, batch: &PacketBatch<'_>, before: u64) -> Result<u64, ModelError> {
        on_pool(|| self.0.collect_statistics(batch, before))
    }
    fn dead_layers(&mut self) -> Vec<&'static str> {
        self.0.dead_layers()
    }
}

impl<M: JointClassifier + Send> JointClassifier for OnPool<M> {
    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError> {
        self.0.set_class_weights(weights)
    }
    fn train_step(&mut self, batch: &ByteBatch<'_>, labels: &[u32], rate: f32) -> Result<BatchLoss, ModelError> {
        on_pool(|| self.0.train_step(batch, labels, rate))
    }
    fn probabilities(&mut self, batch: &PacketBatch<'_>, output: &mut [f32]) -> Result<(), ModelError> {
        on_pool(|| self.0.probabilities(batch, output))
    }
    fn collect_statistics(&mut self, batch: &PacketBatch<'_>, before: u64) -> Result<u64, ModelError> {
        on_pool(|| self.0.collect_statistics(batch, before))
    }
    fn dead_layers(&mut self) -> Vec<&'static str> {
        self.0.dead_layers()
    }
}

impl<M: NetworkClassifier + Send> NetworkClassifier for OnPool<M> {
    fn set_rate_factors(&mut self, factor: &dyn Fn(&str) -> f32) {
        self.0.set_rate_factors(factor);
    }
    fn set_class_weights(&mut self, weights: &[f32]) -> Result<(), ModelError> {
        self.0.set_class_weights(weights)
    }
    fn train_step(&mut self, rows: &[f32], labels: &[u32], rate: f32) -> Result<BatchLoss, ModelError> {
        on_pool(|| self.0.train_step(rows, labels, rate))
    }
    fn probabilities(&mut self, rows: &[f32], output: &mut [f32]) -> Result<(), ModelError> {
        on_pool(|| self.0.probabilities(rows, output))
    }
    fn dead_layers(&mut self) -> Vec<String> {
        self.0.dead_layers()
    }
}

impl<M: PacketEncoder + Send> PacketEncoder for OnPool<M> {
    fn encode(
        &mut self,
        tokens: &[u16],
        packets: usize,
        pooling: Pooling,
        output: &mut [f32],
    ) -> Result<(), ModelError> {
        on_pool(|| self.0.encode(tokens, packets, pooling, output))
    }
}

impl<M: Resumable> Resumable for OnPool<M> {
    fn parameters(&self) -> ParameterSet {
        self.0.parameters()
    }
    fn set_parameters(&mut self, parameters: &ParameterSet) -> Result<(), ModelError> {
        self.0.set_parameters(parameters)
    }
    fn optimiser_state(&mut self) -> OptimiserState {
        self.0.optimiser_state()
    }
    fn set_optimiser_state(&mut self, state: &OptimiserState) -> Result<(), ModelError> {
        self.0.set_optimiser_state(state)
    }
}
