//! Arguments of a device's operations: sizes, parameters, inputs and settings.

use super::Backend;
use crate::deep::engine::DropoutPlace;
use crate::deep::parameters::Activation;
use crate::deep::pooling::Pooling;

/// Sizes of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MatrixShape {
    /// Rows.
    pub rows: usize,
    /// Columns; for logits, the classes.
    pub columns: usize,
}

impl MatrixShape {
    /// Returns the number of values.
    pub(crate) fn values(&self) -> usize {
        self.rows * self.columns
    }
}

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

impl LinearShape {
    /// Returns the sizes of y.
    pub(crate) fn output(&self) -> MatrixShape {
        MatrixShape { rows: self.rows, columns: self.outputs }
    }
}

/// A linear layer's parameters.
pub(crate) struct LinearWeights<T> {
    /// `[outputs, inputs]`.
    pub weight: T,
    /// `[outputs]`.
    pub bias: T,
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

/// The gradients of an LSTM's output and input.
pub(crate) struct LstmGradients<'a, T> {
    /// The gradient of the output, `[states, hidden]`, which is used as working memory.
    pub output: &'a mut T,
    /// The gradient of the input: overwritten for [`LstmInput::Rows`], and added for an embedding.
    pub input: &'a mut T,
}

/// Same as [`LstmGradients`], for two LSTMs.
pub(crate) struct LstmPairGradients<'a, T> {
    /// The gradients of the outputs.
    pub outputs: [&'a mut T; 2],
    /// The gradients of the inputs.
    pub inputs: PairGradient<'a, T>,
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

impl<T> LstmState<T> {
    /// Pairs each buffer with its length.
    pub(crate) fn sized(&mut self, states: usize, hidden: usize) -> [(&mut T, usize); 3] {
        let Self { gates, cells, hidden: outputs } = self;
        [(gates, states * 4 * hidden), (cells, states * hidden), (outputs, states * hidden)]
    }
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

/// Rows with slots, and how many slots of each row are used.
pub(crate) struct Slots<'a, B: Backend> {
    /// `[rows, 2, slots, columns]`.
    pub x: &'a B::Values,
    /// `[rows]`.
    pub lengths: &'a B::Indices,
}

/// Rows of a table by their indices.
pub(crate) struct Lookup<'a, B: Backend> {
    /// `[table rows, columns]`.
    pub table: &'a B::Values,
    /// The row of the table for each row of the result.
    pub ids: &'a B::Indices,
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

/// Sizes of a weighted sum of layers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MixShape {
    /// Rows.
    pub rows: usize,
    /// Layers per row.
    pub layers: usize,
    /// Columns per layer.
    pub columns: usize,
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

/// The index of a row that has no target.
pub(crate) const NO_TARGET: u32 = u32::MAX;
