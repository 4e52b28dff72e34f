//! Operations of a device for the fast engine: whole layers, forward and backward, over buffers owned by the device.
//! The models are implemented once over this trait. Each operation is large enough that a CPU can keep a chunk of
//! sequences in its cache and a GPU launches few kernels.
//!
//! All matrices are row-major; "rows" are packed states or sequences ([`Packing`]). A buffer may be longer than an
//! operation needs. Gradients of parameters are added; everything else is overwritten unless stated otherwise.

mod arguments;

use super::packing::Packing;
use crate::ModelError;

pub(crate) use arguments::{
    AdamStep, Attended, ColumnsAt, Dropout, LinearShape, LinearWeights, Lookup, LstmGradients, LstmInput,
    LstmPairGradients, LstmShape, LstmState, LstmWeights, MatrixShape, MixShape, MixWeights, NO_TARGET, NormState,
    NormWeights, PairGradient, PoolInput, PoolShape, RowsAt, SlotShape, Slots, Smoothing, Trained,
};

/// A device and its operations.
pub(crate) trait Backend: Send + Sized {
    /// 32-bit floats on the device.
    type Values: Default + Send;
    /// 32-bit unsigned integers on the device.
    type Indices: Default + Send;

    /// Checks that all operations so far have succeeded. After a failure nothing more is executed, and values are NaN.
    ///
    /// # Errors
    /// The first failure, such as exhausted memory.
    fn check(&self) -> Result<(), ModelError> {
        Ok(())
    }

    /// Returns the number of sequences per chunk for a batch of `rows`; see [`Packing`].
    fn rows_per_chunk(&self, hidden: usize, rows: usize) -> usize;

    /// Whether it is better to keep this many values on the device than to copy parts of them as needed.
    fn prefers_resident(&self, _length: usize) -> bool {
        false
    }

    /// Makes a buffer at least this long; its values are then unspecified.
    fn reserve(&mut self, values: &mut Self::Values, length: usize);
    /// Copies to the device, growing the buffer if needed.
    fn upload(&mut self, from: &[f32], to: &mut Self::Values);
    /// Copies to the device, growing the buffer if needed.
    fn upload_indices(&mut self, from: &[u32], to: &mut Self::Indices);
    /// Copies `to.len()` values from the device.
    fn download(&self, from: &Self::Values, to: &mut [f32]);

    /// `y = x W^T + b`.
    fn linear(
        &mut self,
        shape: LinearShape,
        x: &Self::Values,
        weights: LinearWeights<&Self::Values>,
        y: &mut Self::Values,
    );
    /// Computes, from the gradient of y, those of W and b (added), and of x, which is overwritten or, with
    /// `accumulate`, added.
    fn linear_backward(
        &mut self,
        shape: LinearShape,
        x: &Self::Values,
        dy: &Self::Values,
        weights: LinearWeights<&mut Trained<Self::Values>>,
        dx: &mut Self::Values,
        accumulate: bool,
    );

    /// Runs a whole LSTM layer over packed sequences, starting with zero states.
    fn lstm(
        &mut self,
        shape: LstmShape,
        packing: &Packing,
        input: LstmInput<'_, Self>,
        weights: LstmWeights<&Self::Values>,
        state: &mut LstmState<Self::Values>,
    );
    /// Backward pass of [`Backend::lstm`].
    fn lstm_backward(
        &mut self,
        shape: LstmShape,
        packing: &Packing,
        input: LstmInput<'_, Self>,
        weights: LstmWeights<&mut Trained<Self::Values>>,
        state: &mut LstmState<Self::Values>,
        gradients: LstmGradients<'_, Self::Values>,
    );

    /// Whether two LSTMs over the same packing should be passed together, to [`Backend::lstm_pair`].
    fn runs_pairs(&self) -> bool {
        false
    }
    /// Runs two LSTM layers of the same shape, like two calls of [`Backend::lstm`].
    fn lstm_pair(
        &mut self,
        shape: LstmShape,
        packing: &Packing,
        inputs: [LstmInput<'_, Self>; 2],
        weights: [LstmWeights<&Self::Values>; 2],
        states: [&mut LstmState<Self::Values>; 2],
    ) {
        for ((input, weights), state) in inputs.into_iter().zip(weights).zip(states) {
            self.lstm(shape, packing, input, weights, state);
        }
    }
    /// Runs their backward passes, like two calls of [`Backend::lstm_backward`].
    fn lstm_pair_backward(
        &mut self,
        shape: LstmShape,
        packing: &Packing,
        inputs: [LstmInput<'_, Self>; 2],
        weights: [LstmWeights<&mut Trained<Self::Values>>; 2],
        states: [&mut LstmState<Self::Values>; 2],
        gradients: LstmPairGradients<'_, Self::Values>,
    ) {
        let LstmPairGradients { outputs, inputs: mut to } = gradients;
        let layers = inputs.into_iter().zip(weights).zip(states).zip(outputs);
        for (index, (((input, weights), state), output)) in layers.enumerate() {
            let to = match &mut to {
                PairGradient::Each(each) => &mut *each[index],
                PairGradient::Shared(both) => &mut **both,
            };
            self.lstm_backward(shape, packing, input, weights, state, LstmGradients { output, input: to });
        }
    }

    /// Softmax cross-entropy by class index over `logits` `[rows, classes]`: returns the sum over the rows that have a
    /// target (not [`NO_TARGET`]), and replaces the logits by the gradient of `scale` times that sum.
    fn cross_entropy(
        &mut self,
        shape: MatrixShape,
        logits: &mut Self::Values,
        targets: &Self::Indices,
        scale: f32,
    ) -> f64;
    /// Same as [`Backend::cross_entropy`] for the loss [`crate::deep::loss::Loss`] with `weights` `[classes]`; returns
    /// the sum before division by the total weight of the targets. Every row has a target.
    fn weighted_cross_entropy(
        &mut self,
        shape: MatrixShape,
        logits: &mut Self::Values,
        targets: &Self::Indices,
        weights: &Self::Values,
        smoothing: Smoothing,
        scale: f32,
    ) -> f64;
    /// Replaces logits `[rows, classes]` by probabilities.
    fn softmax(&mut self, shape: MatrixShape, logits: &mut Self::Values);

    /// `y = x * factor`, where row `r` of width `columns` uses the factors from index `places[r] * columns` on.
    fn dropout(
        &mut self,
        shape: MatrixShape,
        dropout: Dropout,
        places: &Self::Indices,
        x: &Self::Values,
        y: &mut Self::Values,
    );
    /// Same as [`Backend::dropout`], in place; also its backward pass.
    fn dropout_in_place(&mut self, shape: MatrixShape, dropout: Dropout, places: &Self::Indices, x: &mut Self::Values);

    /// `max(x, 0)` in place.
    fn relu(&mut self, count: usize, x: &mut Self::Values);
    /// Zeroes the gradient where the rectifier's output `y` is 0.
    fn relu_backward(&mut self, count: usize, y: &Self::Values, dy: &mut Self::Values);

    /// Normalises columns of x `[rows, columns]` into y by the batch's statistics, and moves the running ones towards
    /// them by `share` of the difference.
    fn batch_norm(
        &mut self,
        shape: MatrixShape,
        x: &Self::Values,
        weights: NormWeights<&Self::Values>,
        share: f32,
        state: &mut NormState<Self::Values>,
        y: &mut Self::Values,
    );
    /// Normalises by the running statistics.
    fn batch_norm_fixed(
        &mut self,
        shape: MatrixShape,
        x: &Self::Values,
        weights: NormWeights<&Self::Values>,
        state: &NormState<Self::Values>,
        y: &mut Self::Values,
    );
    /// Backward pass of [`Backend::batch_norm`]: replaces the `gradient` of y by that of x.
    fn batch_norm_backward(
        &mut self,
        shape: MatrixShape,
        x: &Self::Values,
        weights: NormWeights<&mut Trained<Self::Values>>,
        state: &NormState<Self::Values>,
        gradient: &mut Self::Values,
    );

    /// Computes `y = softmax(Q K^T / sqrt(columns)) V` within each sequence; stores the softmax in `attention`, which
    /// it resizes as needed.
    fn attention(
        &mut self,
        packing: &Packing,
        columns: usize,
        input: Attended<&Self::Values>,
        attention: &mut Self::Values,
        y: &mut Self::Values,
    );
    /// Backward pass of [`Backend::attention`].
    fn attention_backward(
        &mut self,
        packing: &Packing,
        columns: usize,
        input: Attended<&Self::Values>,
        attention: &Self::Values,
        dy: &Self::Values,
        gradient: Attended<&mut Self::Values>,
    );

    /// Pools the states of each sequence into y `[sequences, slots, columns]`, in sorted order; a slot without steps is
    /// 0.
    fn pool(&mut self, packing: &Packing, shape: PoolShape, x: PoolInput<'_, Self>, y: &mut Self::Values);
    /// Backward pass of [`Backend::pool`]: dx `[states, columns]` is overwritten or, with `accumulate`, added. If
    /// several states have the maximum, the first one receives the gradient.
    fn pool_backward(
        &mut self,
        packing: &Packing,
        shape: PoolShape,
        x: PoolInput<'_, Self>,
        dy: &Self::Values,
        dx: &mut Self::Values,
        accumulate: bool,
    );

    /// Attention over the used slots of each row: scores are products
    /// with `weight` `[2, columns]`, `shares` `[rows, slots]` their softmax, and y `[rows, 2, columns]` the weighted
    /// sums.
    fn slot_attention(
        &mut self,
        shape: SlotShape,
        slots: Slots<'_, Self>,
        weight: &Self::Values,
        shares: &mut Self::Values,
        y: &mut Self::Values,
    );
    /// Backward pass of [`Backend::slot_attention`]; dx is overwritten, with 0 for unused slots.
    fn slot_attention_backward(
        &mut self,
        shape: SlotShape,
        slots: Slots<'_, Self>,
        weight: &mut Trained<Self::Values>,
        shares: &Self::Values,
        dy: &Self::Values,
        dx: &mut Self::Values,
    );

    /// Zeroes the first `count` values.
    fn zero(&mut self, count: usize, x: &mut Self::Values);

    /// Adds each row of x `[rows, columns]` to the row of `table` `[table_rows, columns]` given by its index.
    fn scatter_add(
        &mut self,
        shape: MatrixShape,
        x: &Self::Values,
        ids: &Self::Indices,
        table_rows: usize,
        table: &mut Self::Values,
    );
    /// Sets each row of y `[rows, columns]` to the sum of the rows that it looks up.
    fn add_looked_up(&mut self, shape: MatrixShape, lookups: [Lookup<'_, Self>; 2], y: &mut Self::Values);
    /// Copies row `r` of x `[rows, columns]` to row `at.of(r)` of y; the target rows must be distinct.
    fn put_rows(&mut self, shape: MatrixShape, x: &Self::Values, at: RowsAt<'_, Self::Indices>, y: &mut Self::Values);
    /// Copies row `at.of(r)` of x to row `r` of y `[rows, columns]`.
    fn take_rows(&mut self, shape: MatrixShape, x: &Self::Values, at: RowsAt<'_, Self::Indices>, y: &mut Self::Values);

    /// Copies x `[rows, columns]` to the columns of y `[rows, at.total]` from `at.first` on.
    fn put_columns(&mut self, shape: MatrixShape, x: &Self::Values, at: ColumnsAt, y: &mut Self::Values);
    /// Copies these columns of x `[rows, at.total]` to y `[rows, columns]`.
    fn take_columns(&mut self, shape: MatrixShape, x: &Self::Values, at: ColumnsAt, y: &mut Self::Values);

    /// Weighted sum of layers: row `r` of y `[rows, columns]` is `gamma * sum_j softmax(weight)_j * layer_j` with the
    /// layers `[layers, columns]` at `places[r]` of x.
    fn mix(
        &mut self,
        shape: MixShape,
        x: &Self::Values,
        places: &Self::Indices,
        weights: MixWeights<&Self::Values>,
        y: &mut Self::Values,
    );
    /// Adds the gradients of the mix's parameters.
    fn mix_backward(
        &mut self,
        shape: MixShape,
        x: &Self::Values,
        places: &Self::Indices,
        weights: MixWeights<&mut Trained<Self::Values>>,
        dy: &Self::Values,
    );

    /// Computes the gradient of the mix's layers: the layers `[layers, columns]` of row `r` of dx `[rows, layers,
    /// columns]` are row `sums[r]` of dy, weighted.
    fn mix_layers_backward(
        &mut self,
        shape: MixShape,
        sums: &Self::Indices,
        weights: MixWeights<&Self::Values>,
        dy: &Self::Values,
        dx: &mut Self::Values,
    );

    /// Adds the squares of a gradient to the sum returned by [`Backend::take_squared_norm`].
    fn add_squared_norm(&mut self, trained: &Trained<Self::Values>, length: usize);
    /// Returns the sum of the squares added since the last call.
    fn take_squared_norm(&mut self) -> f64;
    /// Takes one Adam step and zeroes the gradient.
    fn adam(&mut self, trained: &mut Trained<Self::Values>, length: usize, step: AdamStep);
    /// Moves the average of the values towards them by `share` of the difference.
    fn average(&mut self, trained: &mut Trained<Self::Values>, length: usize, share: f32);
}
