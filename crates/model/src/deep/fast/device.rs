//! What a device computes for the fast engine: whole layers, forward and backward, over buffers that the device
//! owns. The models above are written once over this trait; an operation is large enough that a processor
//! keeps a chunk of sequences in its cache and a graphics card launches few kernels.
//!
//! All matrices are row-major; "rows" are packed states or sequences ([`Packing`]). A buffer may be longer than
//! what an operation needs of it. Gradients of parameters are added to, all else is overwritten unless it
//! says otherwise.

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
    /// Of candidate and output.
    pub activation: Activation,
}

/// What an LSTM reads.
pub(crate) enum LstmInput<'a, D: Device> {
    /// One row per packed state, `[states, inputs]`.
    Rows(&'a D::Values),
    /// Per packed state, which row of an embedding `[vocabulary, inputs]` it is. As there are few
    /// different rows, the input product is taken once per row of the embedding and looked up.
    Embedded {
        /// `[vocabulary, inputs]`.
        embedding: &'a D::Values,
        /// Rows of the embedding.
        vocabulary: usize,
        /// `[states]`.
        ids: &'a D::Indices,
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

/// Where the gradients of the inputs of two LSTMs go.
pub(crate) enum PairGradient<'a, T> {
    /// Each has one of its own, for [`LstmInput::Rows`].
    Each([&'a mut T; 2]),
    /// Both read one embedding.
    Shared(&'a mut T),
}

/// What an LSTM's forward pass keeps for the backward pass.
#[derive(Debug, Default)]
pub(crate) struct LstmState<T> {
    /// Activated gates, `[states, 4 * hidden]`; their gradients before activation after the backward pass.
    pub gates: T,
    /// Cells, `[states, hidden]`.
    pub cells: T,
    /// The output, `[states, hidden]`.
    pub hidden: T,
}

/// One draw of dropout: what [`crate::deep::engine::dropout_factor`] needs besides the index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    /// The run's seed for the purpose "dropout".
    pub seed: u64,
    /// The training step.
    pub step: u64,
    /// The place in the model.
    pub place: DropoutPlace,
    /// The share dropped.
    pub rate: f32,
}

/// A batch normalisation's parameters or their gradients.
pub(crate) struct NormWeights<T> {
    /// `[columns]`.
    pub weight: T,
    /// `[columns]`.
    pub bias: T,
}

/// What batch normalisation keeps: of the batch in training, and over batches for prediction.
#[derive(Debug, Default)]
pub(crate) struct NormState<T> {
    /// Mean of the batch, `[columns]`.
    pub mean: T,
    /// One over the root of the batch's variance plus epsilon, `[columns]`.
    pub scale: T,
    /// Running mean, `[columns]`.
    pub running_mean: T,
    /// Running unbiased variance, `[columns]`.
    pub running_variance: T,
}

/// Query, key and value rows, or their gradients: each `[states, columns]`.
pub(crate) struct Attended<T> {
    /// What is looked for.
    pub query: T,
    /// What it is compared with.
    pub key: T,
    /// What is taken.
    pub value: T,
}

/// Columns of the states that are pooled, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolShape {
    /// Columns of a state.
    pub columns: usize,
    /// Which states make which slot.
    pub pooling: Pooling,
    /// Whether sequences read their packets from the end.
    pub reversed: bool,
}

impl PoolShape {
    /// The mean over each whole sequence.
    pub(crate) fn mean(columns: usize) -> Self {
        Self { columns, pooling: Pooling::MEAN, reversed: false }
    }
}

/// Sizes of rows with slots: `[rows, 2, slots, columns]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotShape {
    /// Rows.
    pub rows: usize,
    /// Slots of a row in either direction.
    pub slots: usize,
    /// Columns of a slot.
    pub columns: usize,
}

/// What is pooled.
pub(crate) enum PoolInput<'a, D: Device> {
    /// One row per packed state, `[states, columns]`.
    Rows(&'a D::Values),
    /// Per packed state, which row of an embedding `[vocabulary, columns]` it is.
    Embedded {
        /// `[vocabulary, columns]`.
        embedding: &'a D::Values,
        /// `[states]`.
        ids: &'a D::Indices,
    },
}

/// The learned weighting of a packet's layers.
pub(crate) struct MixWeights<T> {
    /// `[layers]`, before the softmax.
    pub weight: T,
    /// `[1]`.
    pub gamma: T,
}

/// Where the rows of a matrix stand in a larger one: row `r` is there row `places[r] * stride + offset`.
pub(crate) struct RowsAt<'a, I> {
    /// One for each row.
    pub places: &'a I,
    /// Rows of the larger matrix for each place.
    pub stride: usize,
    /// Which of these, or further on.
    pub offset: usize,
}

/// Which columns of a wider matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColumnsAt {
    /// Columns of the wider matrix.
    pub total: usize,
    /// The first of them.
    pub first: usize,
}

/// What label smoothing makes of a target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Smoothing {
    /// What is left of it.
    pub kept: f32,
    /// What each class gets of it.
    pub spread: f32,
}

/// One Adam step's numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamStep {
    /// Steps so far, this one included.
    pub step: i32,
    /// Learning rate.
    pub learning_rate: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// What gradients are multiplied by first (clipping).
    pub gradient_scale: f32,
}

/// A trained array: value, gradient, Adam's two moments, and the average of the values where there is one.
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
    /// Average of the values after each step; empty where there is none.
    pub average: T,
}

/// A device and its operations.
pub(crate) trait Device: Send + Sized {
    /// 32-bit floats on the device.
    type Values: Default + Send;
    /// 32-bit numbers on the device.
    type Indices: Default + Send;

    /// Whether all that was asked so far was done; after a failure nothing more is done, and values are not numbers.
    ///
    /// # Errors
    /// The first failure, such as memory that is used up.
    fn check(&self) -> Result<(), ModelError> {
        Ok(())
    }

    /// Sequences that run together, of a batch of `rows`; see [`Packing`].
    fn rows_per_chunk(&self, hidden: usize, rows: usize) -> usize;

    /// Whether so many values are better kept on the device than copied there in parts as they are needed.
    fn keeps(&self, _length: usize) -> bool {
        false
    }

    /// Makes a buffer at least this long; values are then unspecified.
    fn reserve(&mut self, values: &mut Self::Values, length: usize);
    /// Copies to the device, growing the buffer where needed.
    fn upload(&mut self, from: &[f32], to: &mut Self::Values);
    /// Copies to the device, growing the buffer where needed.
    fn upload_indices(&mut self, from: &[u32], to: &mut Self::Indices);
    /// Copies as many values from the device as `to` holds.
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
    /// From the gradient of y, those of W and b (added), and of x, which is overwritten, or added to with `accumulate`.
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

    /// A whole LSTM layer over packed sequences, from zero states.
    fn lstm(
        &mut self,
        shape: LstmShape,
        packing: &Packing,
        input: LstmInput<'_, Self>,
        weights: LstmWeights<&Self::Values>,
        state: &mut LstmState<Self::Values>,
    );
    /// Its backward pass. `dh` `[states, hidden]` is the gradient of the output and is used as working space.
    /// The gradient of the input is overwritten for [`LstmInput::Rows`], and added to for an embedding.
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

    /// Whether two LSTMs over the same packing are better given together, with [`Device::lstm_pair`].
    fn runs_pairs(&self) -> bool {
        false
    }
    /// Two LSTM layers of one shape, as two calls of [`Device::lstm`].
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
    /// Their backward passes, as two calls of [`Device::lstm_backward`].
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

    /// Softmax cross-entropy by index over `logits` `[rows, classes]`: returns the sum over the rows that
    /// have a target (not [`NO_TARGET`]), and replaces the logits by the gradient of `scale` times that sum.
    fn cross_entropy(
        &mut self,
        rows: usize,
        classes: usize,
        logits: &mut Self::Values,
        targets: &Self::Indices,
        scale: f32,
    ) -> f64;
    /// The same of [`crate::deep::loss::Loss`] with `weights` `[classes]`: the sum before it is divided by what the targets
    /// count. Every row has a target.
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

    /// `y = x * factor`, row `r` of width `columns` taking the factors from index `places[r] * columns` on.
    fn dropout(
        &mut self,
        rows: usize,
        columns: usize,
        dropout: Dropout,
        places: &Self::Indices,
        x: &Self::Values,
        y: &mut Self::Values,
    );
    /// The same in place, which is also the backward pass.
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
    /// Zeroes the gradient where the rectified `y` is zero.
    fn relu_backward(&mut self, count: usize, y: &Self::Values, dy: &mut Self::Values);

    /// Normalises columns of x `[rows, columns]` into y by the batch's statistics, and moves the running ones by `share`
    /// of their distance to them.
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
    /// Backward of [`Device::batch_norm`]: `gradient` comes in as that of y and leaves as that of x.
    fn batch_norm_backward(
        &mut self,
        rows: usize,
        columns: usize,
        x: &Self::Values,
        weights: NormWeights<&mut Trained<Self::Values>>,
        state: &NormState<Self::Values>,
        gradient: &mut Self::Values,
    );

    /// Within each sequence, `y = softmax(Q K^T / sqrt(columns)) V`; keeps the softmax in `attention`, for which it
    /// reserves what it needs.
    fn attention(
        &mut self,
        packing: &Packing,
        columns: usize,
        input: Attended<&Self::Values>,
        attention: &mut Self::Values,
        y: &mut Self::Values,
    );
    /// Its backward pass.
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

    /// Pools the states of each sequence into y `[sequences, slots, columns]`, sorted order; a slot without a step
    /// is 0.
    fn pool(&mut self, packing: &Packing, shape: PoolShape, x: PoolInput<'_, Self>, y: &mut Self::Values);
    /// Its backward pass: dx `[states, columns]` is overwritten, or added to with `accumulate`. Of equal largest values
    /// the first has the gradient.
    fn pool_backward(
        &mut self,
        packing: &Packing,
        shape: PoolShape,
        x: PoolInput<'_, Self>,
        dy: &Self::Values,
        dx: &mut Self::Values,
        accumulate: bool,
    );

    /// Attention over the first `lengths[row]` slots of each row of x `[rows, 2, slots, columns]`: scores are products with
    /// `weight` `[2, columns]`, `shares` `[rows, slots]` their softmax, and y `[rows, 2, columns]` the weighted sums.
    fn slot_attention(
        &mut self,
        shape: SlotShape,
        x: &Self::Values,
        lengths: &Self::Indices,
        weight: &Self::Values,
        shares: &mut Self::Values,
        y: &mut Self::Values,
    );
    /// Its backward pass; dx is overwritten, 0 where a row has no slot.
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

    /// Adds each row of x `[rows, columns]` to the row of `table` `[table_rows, columns]` that its index names.
    fn scatter_add(
        &mut self,
        rows: usize,
        columns: usize,
        x: &Self::Values,
        ids: &Self::Indices,
        table_rows: usize,
        table: &mut Self::Values,
    );
    /// Row `r` of y `[rows, columns]` is the sum of row `ids[r]` of `table` and row `other_ids[r]` of `other`.
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
    /// Row `r` of x `[rows, columns]` becomes row `at.of(r)` of y; no two rows may become the same.
    fn put_rows(
        &mut self,
        rows: usize,
        columns: usize,
        x: &Self::Values,
        at: RowsAt<'_, Self::Indices>,
        y: &mut Self::Values,
    );
    /// Row `r` of y `[rows, columns]` becomes row `at.of(r)` of x.
    fn take_rows(
        &mut self,
        rows: usize,
        columns: usize,
        x: &Self::Values,
        at: RowsAt<'_, Self::Indices>,
        y: &mut Self::Values,
    );

    /// Copies x `[rows, columns]` into the columns of y `[rows, at.total]` from `at.first` on.
    fn put_columns(&mut self, rows: usize, columns: usize, x: &Self::Values, at: ColumnsAt, y: &mut Self::Values);
    /// Copies those columns of x `[rows, at.total]` to y `[rows, columns]`.
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
    /// The gradients of the mix's parameters.
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

    /// The gradient of the mix's layers: those `[layers, columns]` of row `r` of dx `[rows, layers, columns]` are the
    /// weighted row `sums[r]` of dy.
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

    /// Adds the squares of a gradient to the sum that [`Device::take_squared_norm`] gives.
    fn add_squared_norm(&mut self, trained: &Trained<Self::Values>, length: usize);
    /// The sum of the squares that were added since it was last taken.
    fn take_squared_norm(&mut self) -> f64;
    /// One Adam step, after which the gradient is zero.
    fn adam(&mut self, trained: &mut Trained<Self::Values>, length: usize, step: AdamStep);
    /// Moves the average of the values by `share` of its distance to them.
    fn average(&mut self, trained: &mut Trained<Self::Values>, length: usize, share: f32);
}

/// The index of a row that has no target.
pub(crate) const NO_TARGET: u32 = u32::MAX;
