//! What a device computes beyond [`Device`] for transformers (Vaswani et al. 2017). As in the layers of convolutional networks,
//! the steps of each flow are rows of one matrix `[flows * steps, channels]`. Marks `[flows * steps]` say by 1 and 0 which
//! steps are there, so that attention and means leave the others out, and which are hidden from the network in pre-training.

use super::device::{Device, NormWeights, Trained};

/// Sizes of a matrix of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StepsShape {
    /// Flows.
    pub flows: usize,
    /// Steps of a flow.
    pub steps: usize,
    /// Values of a step.
    pub channels: usize,
}

impl StepsShape {
    /// Steps of all flows.
    pub(crate) fn rows(&self) -> usize {
        self.flows * self.steps
    }

    /// Values of a flow.
    pub(crate) fn of_flow(&self) -> usize {
        self.steps * self.channels
    }

    /// Values of all flows.
    pub(crate) fn values(&self) -> usize {
        self.rows() * self.channels
    }
}

/// Sizes of attention with several heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadsShape {
    /// Of the output; the input has three times the channels: queries, keys and values of all heads, one after the other.
    pub output: StepsShape,
    /// Heads, each over as many of the channels.
    pub heads: usize,
}

impl HeadsShape {
    /// Channels of a head.
    pub(crate) fn of_head(&self) -> usize {
        self.output.channels / self.heads
    }

    /// Shares that are kept of a flow: `[heads, steps, steps]`.
    pub(crate) fn shares(&self) -> usize {
        self.heads * self.output.steps * self.output.steps
    }
}

/// What attention reads.
pub(crate) struct Projected<'a, T> {
    /// `[flows * steps, 3 * channels]`.
    pub x: &'a T,
    /// Which steps are there, `[flows * steps]`.
    pub present: &'a T,
}

/// A device that has the layers of transformers.
pub(crate) trait TransformerDevice: Device {
    /// Normalises each row of x `[rows, columns]` by its own mean and variance (Ba et al. 2016, in PyTorch's form) into y, and
    /// keeps mean and scale of the rows in `moments` `[rows, 2]`.
    fn layer_norm(
        &mut self,
        size: [usize; 2],
        x: &Self::Values,
        weights: NormWeights<&Self::Values>,
        moments: &mut Self::Values,
        y: &mut Self::Values,
    );
    /// Its backward pass: `gradient` comes in as that of y and leaves as that of x.
    fn layer_norm_backward(
        &mut self,
        size: [usize; 2],
        x: &Self::Values,
        weights: NormWeights<&mut Trained<Self::Values>>,
        moments: &Self::Values,
        gradient: &mut Self::Values,
    );

    /// The Gaussian error linear unit by its hyperbolic tangent (Hendrycks and Gimpel 2016, section 2; PyTorch's
    /// `approximate="tanh"`).
    fn gelu(&mut self, count: usize, x: &Self::Values, y: &mut Self::Values);
    /// Multiplies the gradient by the slope at x.
    fn gelu_backward(&mut self, count: usize, x: &Self::Values, dy: &mut Self::Values);

    /// `softmax(Q K^T / sqrt(channels of a head)) V` of each head over the steps of a flow that are there, y
    /// `[flows * steps, channels]`; 0 where a step is not there. Keeps the softmax in `shares`, for which it reserves what it
    /// needs.
    fn heads(
        &mut self,
        shape: HeadsShape,
        input: Projected<'_, Self::Values>,
        shares: &mut Self::Values,
        y: &mut Self::Values,
    );
    /// Its backward pass: dx is overwritten.
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
    /// Adds to the table's gradient.
    fn add_positions_backward(&mut self, shape: StepsShape, gradient: &Self::Values, table: &mut Trained<Self::Values>);

    /// Puts the token `[channels]` in the place of hidden steps.
    fn hide(&mut self, shape: StepsShape, hidden: &Self::Values, token: &Self::Values, x: &mut Self::Values);
    /// Adds the gradients of hidden steps to the token's, and leaves 0 in their place.
    fn hide_backward(
        &mut self,
        shape: StepsShape,
        hidden: &Self::Values,
        token: &mut Trained<Self::Values>,
        gradient: &mut Self::Values,
    );

    /// The mean of the steps of a flow that are there, y `[flows, channels]`; 0 where there is none.
    fn present_mean(&mut self, shape: StepsShape, x: &Self::Values, present: &Self::Values, y: &mut Self::Values);
    /// Its backward pass: dx is overwritten.
    fn present_mean_backward(
        &mut self,
        shape: StepsShape,
        present: &Self::Values,
        dy: &Self::Values,
        dx: &mut Self::Values,
    );

    /// The squared errors of the chosen steps, summed; replaces the prediction by the gradient of `scale` times that sum.
    fn squared_error(
        &mut self,
        shape: StepsShape,
        chosen: &Self::Values,
        target: &Self::Values,
        predicted: &mut Self::Values,
        scale: f32,
    ) -> f64;
}
