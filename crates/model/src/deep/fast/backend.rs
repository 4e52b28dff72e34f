//! Operations of a device for the fast engine: whole layers, forward and backward, over buffers owned by the device.
//! The models are implemented once over this trait. Each operation is large enough that a CPU can keep a chunk of
//! sequences in its cache and a GPU launches few kernels.
//!
//! All matrices are row-major; "rows" are packed states or sequences ([`Packing`]). A buffer may be longer than an
//! operation needs. Gradients of parameters are added; everything else is overwritten unless stated otherwise.

use super::packing::Packing;
use crate::ModelError;
use crate::deep::engine::DropoutPlace;
use crate::deep::parameters::Activation;
use crate::deep::pooling::Pooling;

/// Sizes of a linear layer `y = x W^T + b`: x `[rows, inputs]`, W `[outputs, inputs]`, y `[rows, outputs]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinearShape {
    /// Rows of x and y.
    pub rows: usize,
    /// Columns of x.
    pub inputs: usize,
    /// Columns of y.
    pub outputs: usize,
}

/// Sizes and activation of an LSTM.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LstmShape {
    /// Size of an input row.
    pub inputs: usize,
    /// Size of a state.
    pub hidden: usize,
    /// Activation of candidate and output.
    pub activation: Activation,
}

/// Input of an LSTM.
pub(crate) enum LstmInput<'a, B: Backend> {
    /// One row per packed state, `[states, inputs]`.
    Rows(&'a B::Values),
    /// The index of each packed state in an embedding `[vocabulary, inputs]`. As there are few distinct rows, the input
    /// product is computed once per row of the embedding and then looked up.
    Embedded {
        /// `[vocabulary, inputs]`.
        embedding: &'a B::Values,
        /// Rows of the embedding.
        vocabulary: usize,
        /// `[states]`.
        ids: &'a B::Indices,
    },
}

/// An LSTM's parameters, or their gradients: gates in the order input, forget, candidate, output.
pub(crate) struct LstmWeights<T> {
    /// `[4 * hidden, inputs]`.
    pub input: T,
    /// `[4 * hidden, hidden]`.
    pub hidden: T,
    /// `[4 * hidden]`.
    pub bias: T,
}

/// Destination of the gradients of the inputs of two LSTMs.
pub(crate) enum PairGradient<'a, T> {
    /// Separate buffers, for [`LstmInput::Rows`].
    Each([&'a mut T; 2]),
    /// One buffer for a shared embedding.
    Shared(&'a mut T),
}

/// Values that an LSTM's forward pass stores for the backward pass.
#[derive(Debug, Default)]
pub(crate) struct LstmState<T> {
    /// Activated gates, `[states, 4 * hidden]`; after the backward pass, their gradients before activation.
    pub gates: T,
    /// Cells, `[states, hidden]`.
    pub cells: T,
    /// The output, `[states, hidden]`.
    pub hidden: T,
}

/// One application of dropout: the arguments of [`crate::deep::engine::dropout_factor`] except the index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    /// The run's seed for the purpose "dropout".
    pub seed: u64,
    /// The training step.
    pub step: u64,
    /// The place in the model.
    pub place: DropoutPlace,
    /// Dropout rate.
    pub rate: f32,
}

/// A batch normalisation's parameters or their gradients.
pub(crate) struct NormWeights<T> {
    /// `[columns]`.
    pub weight: T,
    /// `[columns]`.
    pub bias: T,
}

/// State of a batch normalisation: statistics of the batch in training, and running statistics for prediction.
#[derive(Debug, Default)]
pub(crate) struct NormState<T> {
    /// Mean of the batch, `[columns]`.
    pub mean: T,
    /// `1 / sqrt(variance + epsilon)` of the batch, `[columns]`.
    pub scale: T,
    /// Running mean, `[columns]`.
    pub running_mean: T,
    /// Running unbiased variance, `[columns]`.
    pub running_variance: T,
}

/// Query, key and value rows, or their gradients: each `[states, columns]`.
pub(crate) struct Attended<T> {
    /// Queries.
    pub query: T,
    /// Keys, which the queries are compared with.
    pub key: T,
    /// Values, which are averaged.
    pub value: T,
}

/// Columns of the pooled states, and the kind of pooling.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolShape {
    /// Columns of a state.
    pub columns: usize,
    /// The states of each slot, and how they are combined.
    pub pooling: Pooling,
    /// Whether sequences read their packets from the end.
    pub reversed: bool,
}

impl PoolShape {
    /// Returns the mean over each whole sequence.
    pub(crate) fn mean(columns: usize) -> Self {
        Self { columns, pooling: Pooling::MEAN, reversed: false }
    }
}

/// Sizes of rows with slots: `[rows, 2, slots, columns]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotShape {
    /// Rows.
    pub rows: usize,
    /// Slots per row in each direction.
    pub slots: usize,
    /// Columns per slot.
    pub columns: usize,
}

/// Input of a pooling.
pub(crate) enum PoolInput<'a, B: Backend> {
    /// One row per packed state, `[states, columns]`.
    Rows(&'a B::Values),
    /// The index of each packed state in an embedding `[vocabulary, columns]`.
    Embedded {
        /// `[vocabulary, columns]`.
        embedding: &'a B::Values,
        /// `[states]`.
        ids: &'a B::Indices,
    },
}

/// The learned weighting of a packet's layers.
pub(crate) struct MixWeights<T> {
    /// `[layers]`, before the softmax.
    pub weight: T,
    /// `[1]`.
    pub gamma: T,
}

/// Places of the rows of a matrix in a larger one: row `r` is row `places[r] * stride + offset` of the larger matrix.
pub(crate) struct RowsAt<'a, I> {
    /// One place per row.
    pub places: &'a I,
    /// Rows of the larger matrix per place.
    pub stride: usize,
    /// Offset in rows of the larger matrix.
    pub offset: usize,
}

/// A range of columns of a wider matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColumnsAt {
    /// Columns of the wider matrix.
    pub total: usize,
    /// The first column of the range.
    pub first: usize,
}

/// The effect of label smoothing on a target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Smoothing {
    /// Share of the target that its own class keeps.
    pub kept: f32,
    /// Share of the target that each class receives.
    pub spread: f32,
}

/// Settings of one Adam step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamStep {
    /// Number of steps, including this one.
    pub step: i32,
    /// Learning rate.
    pub learning_rate: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Factor of the gradients, applied first (clipping).
    pub gradient_scale: f32,
}

/// A trained array: value, gradient, Adam's two moments, and the average of the values if they are averaged.
#[derive(Debug, Default)]
pub(crate) struct Trained<T> {
    /// The parameter.
    pub value: T,
    /// Its gradient in the current step.
    pub gradient: T,
    /// Running mean of gradients.
    pub first: T,
    /// Running mean of squared gradients.
    pub second: T,
    /// Average of the values after each step; empty if they are not averaged.
    pub average: T,
}

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
        weight: &Self::Values,
        bias: &Self::Values,
        y: &mut Self::Values,
    );
    /// Computes, from the gradient of y, those of W and b (added), and of x, which is overwritten or, with
    /// `accumulate`, added.
    #[allow(clippy::too_many_arguments)]
    fn linear_backward(
        &mut self,
        shape: LinearShape,
        x: &Self::Values,
        dy: &Self::Values,
        weight: &mut Trained<Self::Values>,
        bias: &mut Trained<Self::Values>,
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
    /// Backward pass of [`Backend::lstm`]. `dh` `[states, hidden]` is the gradient of the output and is used as working
    /// memory. The gradient of the input is overwritten for [`LstmInput::Rows`], and added for an embedding.
    #[allow(clippy::too_many_arguments)]
    fn lstm_backward(
        &mut self,
        shape: LstmShape,
        packing: &Packing,
        input: LstmInput<'_, Self>,
        weights: LstmWeights<&mut Trained<Self::Values>>,
        state: &mut LstmState<Self::Values>,
        dh: &mut Self::Values,
        dx: &mut Self::Values,
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
    #[allow(clippy::too_many_arguments)]
    fn lstm_pair_backward(
        &mut self,
        shape: LstmShape,
        packing: &Packing,
        inputs: [LstmInput<'_, Self>; 2],
        weights: [LstmWeights<&mut Trained<Self::Values>>; 2],
        states: [&mut LstmState<Self::Values>; 2],
        dh: [&mut Self::Values; 2],
        mut dx: PairGradient<'_, Self::Values>,
    ) {
        for (index, (((input, weights), state), dh)) in inputs.into_iter().zip(weights).zip(states).zip(dh).enumerate()
        {
            let dx = match &mut dx {
                PairGradient::Each(each) => &mut *each[index],
                PairGradient::Shared(both) => &mut **both,
            };
            self.lstm_backward(shape, packing, input, weights, state, dh, dx);
        }
    }

    /// Softmax cross-entropy by class index over `logits` `[rows, classes]`: returns the sum over the rows that have a
    /// target (not [`NO_TARGET`]), and replaces the logits by the gradient of `scale` times that sum.
    fn cross_entropy(
        &mut self,
        rows: usize,
        classes: usize,
        logits: &mut Self::Values,
        targets: &Self::Indices,
        scale: f32,
    ) -> f64;
    /// Same as [`Backend::cross_entropy`] for the loss [`crate::deep::loss::Loss`] with `weights` `[classes]`; returns
    /// the sum before division by the total weight of the targets. Every row has a target.
    #[allow(clippy::too_many_arguments)]
    fn weighted_cross_entropy(
        &mut self,
        rows: usize,
        classes: usize,
        logits: &mut Self::Values,
        targets: &Self::Indices,
        weights: &Self::Values,
        smoothing: Smoothing,
        scale: f32,
    ) -> f64;
    /// Replaces logits `[rows, classes]` by probabilities.
    fn softmax(&mut self, rows: usize, classes: usize, logits: &mut Self::Values);

    /// `y = x * factor`, where row `r` of width `columns` uses the factors from index `places[r] * columns` on.
    fn dropout(
        &mut self,
        rows: usize,
        columns: usize,
        dropout: Dropout,
        places: &Self::Indices,
        x: &Self::Values,
        y: &mut Self::Values,
    );
    /// Same as [`Backend::dropout`], in place; also its backward pass.
    fn dropout_in_place(
        &mut self,
        rows: usize,
        columns: usize,
        dropout: Dropout,
        places: &Self::Indices,
        x: &mut Self::Values,
    );

    /// `max(x, 0)` in place.
    fn relu(&mut self, count: usize, x: &mut Self::Values);
    /// Zeroes the gradient where the rectifier's output `y` is 0.
    fn relu_backward(&mut self, count: usize, y: &Self::Values, dy: &mut Self::Values);

    /// Normalises columns of x `[rows, columns]` into y by the batch's statistics, and moves the running ones towards
    /// them by `share` of the difference.
    #[allow(clippy::too_many_arguments)]
    fn batch_norm(
        &mut self,
        rows: usize,
        columns: usize,
        x: &Self::Values,
        weights: NormWeights<&Self::Values>,
        share: f32,
        state: &mut NormState<Self::Values>,
        y: &mut Self::Values,
    );
    /// Normalises by the running statistics.
    fn batch_norm_fixed(
        &mut self,
        rows: usize,
        columns: usize,
        x: &Self::Values,
        weights: NormWeights<&Self::Values>,
        state: &NormState<Self::Values>,
        y: &mut Self::Values,
    );
    /// Backward pass of [`Backend::batch_norm`]: replaces the `gradient` of y by that of x.
    fn batch_norm_backward(
        &mut self,
        rows: usize,
        columns: usize,
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
    #[allow(clippy::too_many_arguments)]
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

    /// Attention over the first `lengths[row]` slots of each row of x `[rows, 2, slots, columns]`: scores are products
    /// with `weight` `[2, columns]`, `shares` `[rows, slots]` their softmax, and y `[rows, 2, columns]` the weighted
    /// sums.
    fn slot_attention(
        &mut self,
        shape: SlotShape,
        x: &Self::Values,
        lengths: &Self::Indices,
        weight: &Self::Values,
        shares: &mut Self::Values,
        y: &mut Self::Values,
    );
    /// Backward pass of [`Backend::slot_attention`]; dx is overwritten, with 0 for unused slots.
    #[allow(clippy::too_many_arguments)]
    fn slot_attention_backward(
        &mut self,
        shape: SlotShape,
        x: &Self::Values,
        lengths: &Self::Indices,
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
        rows: usize,
        columns: usize,
        x: &Self::Values,
        ids: &Self::Indices,
        table_rows: usize,
        table: &mut Self::Values,
    );
    /// Sets row `r` of y `[rows, columns]` to the sum of row `ids[r]` of `table` and row `other_ids[r]` of `other`.
    #[allow(clippy::too_many_arguments)]
    fn add_looked_up(
        &mut self,
        rows: usize,
        columns: usize,
        table: &Self::Values,
        ids: &Self::Indices,
        other: &Self::Values,
        other_ids: &Self::Indices,
        y: &mut Self::Values,
    );
    /// Copies row `r` of x `[rows, columns]` to row `at.of(r)` of y; the target rows must be distinct.
    fn put_rows(
        &mut self,
        rows: usize,
        columns: usize,
        x: &Self::Values,
        at: RowsAt<'_, Self::Indices>,
        y: &mut Self::Values,
    );
    /// Copies row `at.of(r)` of x to row `r` of y `[rows, columns]`.
    fn take_rows(
        &mut self,
        rows: usize,
        columns: usize,
        x: &Self::Values,
        at: RowsAt<'_, Self::Indices>,
        y: &mut Self::Values,
    );

    /// Copies x `[rows, columns]` to the columns of y `[rows, at.total]` from `at.first` on.
    fn put_columns(&mut self, rows: usize, columns: usize, x: &Self::Values, at: ColumnsAt, y: &mut Self::Values);
    /// Copies these columns of x `[rows, at.total]` to y `[rows, columns]`.
    fn take_columns(&mut self, rows: usize, columns: usize, x: &Self::Values, at: ColumnsAt, y: &mut Self::Values);

    /// Weighted sum of layers: row `r` of y `[rows, columns]` is `gamma * sum_j softmax(weight)_j * layer_j` with the
    /// layers `[layers, columns]` at `places[r]` of x.
    #[allow(clippy::too_many_arguments)]
    fn mix(
        &mut self,
        rows: usize,
        layers: usize,
        columns: usize,
        x: &Self::Values,
        places: &Self::Indices,
        weights: MixWeights<&Self::Values>,
        y: &mut Self::Values,
    );
    /// Adds the gradients of the mix's parameters.
    #[allow(clippy::too_many_arguments)]
    fn mix_backward(
        &mut self,
        rows: usize,
        layers: usize,
        columns: usize,
        x: &Self::Values,
        places: &Self::Indices,
        weights: MixWeights<&mut Trained<Self::Values>>,
        dy: &Self::Values,
    );

    /// Computes the gradient of the mix's layers: the layers `[layers, columns]` of row `r` of dx `[rows, layers,
    /// columns]` are row `sums[r]` of dy, weighted.
    #[allow(clippy::too_many_arguments)]
    fn mix_layers_backward(
        &mut self,
        rows: usize,
        layers: usize,
        columns: usize,
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

/// The index of a row that has no target.
pub(crate) const NO_TARGET: u32 = u32::MAX;
