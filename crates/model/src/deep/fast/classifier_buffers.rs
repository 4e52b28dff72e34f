//! The buffers of the classifier, with their lengths: a step reserves them, and the memory that a fit is expected to need
//! is their sum.

use super::backend::{Attended, LstmState};
use super::reading;
use crate::deep::parameters::AttentionLstmOptions;
use crate::deep::pooling::PoolingKind;

/// The values of one batch with `S` steps in total.
#[derive(Default)]
pub(super) struct Buffers<V> {
    pub lstm: LstmState<V>,
    /// `[S, lstm]`.
    pub normalised: V,
    pub attended: V,
    pub attended_normalised: V,
    /// The running gradient, `[S, lstm]`.
    pub gradient: V,
    /// Squared maximum length per flow.
    pub scores: V,
    /// `[flows, lstm]`.
    pub pooled: V,
    pub pooled_gradient: V,
    /// `[flows, dense]`.
    pub features: V,
    pub features_gradient: V,
    /// `[flows, classes]`; their gradient after the loss.
    pub logits: V,
}

/// Query, key and value, `[S, lstm]`.
pub(super) struct Projections<V> {
    pub values: Attended<V>,
    pub gradients: Attended<V>,
}

/// What determines the lengths of a batch's buffers.
#[derive(Clone, Copy)]
pub(super) struct BatchSize {
    pub flows: usize,
    /// Steps of all flows, and of the longest.
    pub steps: usize,
    pub longest: usize,
}

impl<V> Buffers<V> {
    /// Pairs each buffer with its length.
    pub(super) fn sized(
        &mut self,
        options: &AttentionLstmOptions,
        classes: usize,
        size: BatchSize,
    ) -> [(&mut V, usize); 13] {
        let BatchSize { flows, steps, longest } = size;
        let AttentionLstmOptions { lstm: hidden, dense, attention, .. } = *options;
        let attended_length = if attention { steps * hidden } else { 0 };
        let Self {
            lstm,
            normalised,
            attended,
            attended_normalised,
            gradient,
            scores,
            pooled,
            pooled_gradient,
            features,
            features_gradient,
            logits,
        } = self;
        let [gates, cells, outputs] = lstm.sized(steps, hidden);
        [
            gates,
            cells,
            outputs,
            (normalised, steps * hidden),
            (attended, attended_length),
            (attended_normalised, attended_length),
            (gradient, steps * hidden),
            (scores, if attention { flows * longest * longest } else { 0 }),
            (pooled, flows * hidden),
            (pooled_gradient, flows * hidden),
            (features, flows * dense),
            (features_gradient, flows * dense),
            (logits, flows * classes),
        ]
    }
}

impl<V: Default> Default for Projections<V> {
    fn default() -> Self {
        let none = || Attended { query: V::default(), key: V::default(), value: V::default() };
        Self { values: none(), gradients: none() }
    }
}

impl<V> Projections<V> {
    /// Pairs each buffer with its length.
    pub(super) fn sized(&mut self, options: &AttentionLstmOptions, steps: usize) -> [(&mut V, usize); 6] {
        let length = if options.attention { steps * options.lstm } else { 0 };
        let Self { values, gradients } = self;
        [
            &mut values.query,
            &mut values.key,
            &mut values.value,
            &mut gradients.query,
            &mut gradients.key,
            &mut gradients.value,
        ]
        .map(|buffer| (buffer, length))
    }
}

/// Returns the number of values that a training step holds for a flow of this many packets, each with all its slots,
/// besides the encodings of the packets.
pub(super) fn values_of_flow(options: &AttentionLstmOptions, classes: usize, packets: usize) -> usize {
    let steps = if options.pooling == PoolingKind::States { packets * options.slots() } else { packets };
    let size = BatchSize { flows: 1, steps, longest: steps };
    let buffers: usize = Buffers::<()>::default().sized(options, classes, size).iter().map(|(_, length)| length).sum();
    let projections: usize = Projections::<()>::default().sized(options, steps).iter().map(|(_, length)| length).sum();
    buffers + projections + reading::values(options, packets, steps)
}
