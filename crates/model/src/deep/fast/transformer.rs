//! Operations of a device in addition to [`Backend`] for transformers (Vaswani et al. 2017). As in convolutional
//! networks, the steps of each flow are rows of one matrix `[flows * steps, channels]`. Marks `[flows * steps]` are 1
//! or 0. They indicate which steps are present, so that attention and means ignore the others, and which are hidden
//! from the network in pre-training.

use super::backend::{Backend, MatrixShape, NormWeights, Trained};

/// Sizes of a matrix of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StepsShape {
    /// Flows.
    pub flows: usize,
    /// Steps per flow.
    pub steps: usize,
    /// Values per step.
    pub channels: usize,
}

impl StepsShape {
    /// Returns the number of steps of all flows.
    pub(crate) fn rows(&self) -> usize {
        self.flows * self.steps
    }

    /// Returns the number of values of a flow.
    pub(crate) fn of_flow(&self) -> usize {
        self.steps * self.channels
    }

    /// Returns the number of values of all flows.
    pub(crate) fn values(&self) -> usize {
        self.rows() * self.channels
    }
}

/// Sizes of multi-head attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadsShape {
    /// Size of the output; the input has three times the channels: queries, keys and values of all heads, one after the
    /// other.
    pub output: StepsShape,
    /// Number of heads, which share the channels equally.
    pub heads: usize,
}

impl HeadsShape {
    /// Returns the number of channels per head.
    pub(crate) fn of_head(&self) -> usize {
        self.output.channels / self.heads
    }

    /// Returns the number of attention weights kept per flow: `[heads, steps, steps]`.
    pub(crate) fn shares(&self) -> usize {
        self.heads * self.output.steps * self.output.steps
    }
}

/// Input of attention.
pub(crate) struct Projected<'a, T> {
    /// `[flows * steps, 3 * channels]`.
    pub x: &'a T,
    /// Marks of the present steps, `[flows * steps]`.
    pub present: &'a T,
}

/// A device that also supports the layers of transformers.
pub(crate) trait TransformerBackend: Backend {
    /// Normalises each row of x `[rows, columns]` by its own mean and variance (Ba et al. 2016, in PyTorch's form) into
    /// y, and stores mean and scale of the rows in `moments` `[rows, 2]`.
    fn layer_norm(
        &mut self,
        shape: MatrixShape,
        x: &Self::Values,
        weights: NormWeights<&Self::Values>,
        moments: &mut Self::Values,
        y: &mut Self::Values,
    );
    /// Backward pass of [`layer_norm`](Self::layer_norm): replaces the `gradient` of y by that of x.
    fn layer_norm_backward(
        &mut self,
        shape: MatrixShape,
        x: &Self::Values,
        weights: NormWeights<&mut Trained<Self::Values>>,
        moments: &Self::Values,
        gradient: &mut Self::Values,
    );

    /// Gaussian error linear unit in its tanh approximation (Hendrycks and Gimpel 2016, section 2; PyTorch's
    /// `approximate="tanh"`).
    fn gelu(&mut self, count: usize, x: &Self::Values, y: &mut Self::Values);
    /// Multiplies the gradient by the slope at x.
    fn gelu_backward(&mut self, count: usize, x: &Self::Values, dy: &mut Self::Values);

    /// Computes `softmax(Q K^T / sqrt(channels of a head)) V` of each head over the present steps of a flow, y `[flows
    /// * steps, channels]`; 0 at absent steps. Stores the softmax in `shares`, which it resizes as needed.
    fn heads(
        &mut self,
        shape: HeadsShape,
        input: Projected<'_, Self::Values>,
        shares: &mut Self::Values,
        y: &mut Self::Values,
    );
    /// Backward pass of [`heads`](Self::heads): dx is overwritten.
    fn heads_backward(
        &mut self,
        shape: HeadsShape,
        input: Projected<'_, Self::Values>,
        shares: &Self::Values,
        dy: &Self::Values,
        dx: &mut Self::Values,
    );

    /// `y += x`.
    fn add(&mut self, count: usize, x: &Self::Values, y: &mut Self::Values);

    /// Adds the table `[steps, channels]` to each flow.
    fn add_positions(&mut self, shape: StepsShape, table: &Self::Values, x: &mut Self::Values);
    /// Adds the gradient of the table.
    fn add_positions_backward(&mut self, shape: StepsShape, gradient: &Self::Values, table: &mut Trained<Self::Values>);

    /// Replaces hidden steps by the token `[channels]`.
    fn hide(&mut self, shape: StepsShape, hidden: &Self::Values, token: &Self::Values, x: &mut Self::Values);
    /// Adds the gradients of hidden steps to the token's, and sets them to 0.
    fn hide_backward(
        &mut self,
        shape: StepsShape,
        hidden: &Self::Values,
        token: &mut Trained<Self::Values>,
        gradient: &mut Self::Values,
    );

    /// Computes the mean of the present steps of a flow, y `[flows, channels]`; 0 if there are none.
    fn present_mean(&mut self, shape: StepsShape, x: &Self::Values, present: &Self::Values, y: &mut Self::Values);
    /// Backward pass of [`present_mean`](Self::present_mean): dx is overwritten.
    fn present_mean_backward(
        &mut self,
        shape: StepsShape,
        present: &Self::Values,
        dy: &Self::Values,
        dx: &mut Self::Values,
    );

    /// Returns the sum of squared errors of the chosen steps; replaces the prediction by the gradient of `scale` times
    /// that sum.
    fn squared_error(
        &mut self,
        shape: StepsShape,
        chosen: &Self::Values,
        target: &Self::Values,
        predicted: &mut Self::Values,
        scale: f32,
    ) -> f64;
}
