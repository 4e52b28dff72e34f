//! Operations of a device in addition to [`Backend`](super::backend::Backend) for convolutional networks. A batch of
//! sequences with `steps` rows of channels each is one matrix `[flows * steps, channels]`, with all rows of the first
//! flow first. Normalisation, rectifier and dropout therefore operate on rows, and the values that a convolution reads
//! for one step are contiguous.

use super::backend::{AdamStep, Trained};
use super::transformer::TransformerBackend;

/// Sizes of a convolution over steps (a cross-correlation, as in all common frameworks).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConvolutionShape {
    /// Flows.
    pub flows: usize,
    /// Input steps per flow.
    pub steps: usize,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Steps that each output reads.
    pub kernel: usize,
    /// Distance in steps between the inputs of two outputs.
    pub stride: usize,
    /// Zero padding before and after a flow's input, in steps.
    pub padding: [usize; 2],
}

impl ConvolutionShape {
    /// Returns the steps of a flow including padding.
    pub(crate) fn padded(&self) -> usize {
        self.steps + self.padding[0] + self.padding[1]
    }

    /// Returns the output steps per flow.
    pub(crate) fn output_steps(&self) -> usize {
        (self.padded() - self.kernel) / self.stride + 1
    }

    /// Returns the number of values that each output reads.
    pub(crate) fn window(&self) -> usize {
        self.kernel * self.inputs
    }

    /// Returns the number of output rows.
    pub(crate) fn rows(&self) -> usize {
        self.flows * self.output_steps()
    }
}

/// Sizes of a pooling over steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowShape {
    /// Flows.
    pub flows: usize,
    /// Input steps per flow.
    pub steps: usize,
    /// Channels.
    pub channels: usize,
    /// Steps per window.
    pub size: usize,
    /// Distance in steps between two windows.
    pub stride: usize,
    /// Steps before the input at which the first window starts; steps outside the input are ignored.
    pub before: usize,
    /// Output steps per flow.
    pub output_steps: usize,
}

/// Sizes of a convolution over a picture, without padding. A step is a pixel, in row-major order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Convolution2dShape {
    /// Flows.
    pub flows: usize,
    /// Height and width of a flow's input.
    pub size: [usize; 2],
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Side of the square kernel in pixels.
    pub kernel: usize,
}

impl Convolution2dShape {
    /// Returns the height and width of a flow's output.
    pub(crate) fn output_size(&self) -> [usize; 2] {
        self.size.map(|size| size + 1 - self.kernel)
    }

    /// Returns the output steps per flow.
    pub(crate) fn output_steps(&self) -> usize {
        let [height, width] = self.output_size();
        height * width
    }

    /// Returns the number of values that each output reads.
    pub(crate) fn window(&self) -> usize {
        self.kernel * self.kernel * self.inputs
    }
}

/// Sizes of a pooling over adjacent, non-overlapping squares of a picture; remaining rows and columns are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pool2dShape {
    /// Flows.
    pub flows: usize,
    /// Height and width of a flow's input.
    pub size: [usize; 2],
    /// Channels.
    pub channels: usize,
    /// Side of a square in pixels.
    pub pool: usize,
}

impl Pool2dShape {
    /// Returns the height and width of a flow's output.
    pub(crate) fn output_size(&self) -> [usize; 2] {
        self.size.map(|size| size / self.pool)
    }

    /// Returns the output steps per flow.
    pub(crate) fn output_steps(&self) -> usize {
        let [height, width] = self.output_size();
        height * width
    }
}

/// Weight `[kernel * inputs, outputs]` and bias `[outputs]` of a convolution.
pub(crate) struct Kernel<T> {
    /// `[kernel * inputs, outputs]`.
    pub weight: T,
    /// `[outputs]`.
    pub bias: T,
}

/// Input and output of a pooling, as needed by its backward pass.
pub(crate) struct Pooled<'a, T> {
    /// `[flows * steps, channels]`.
    pub x: &'a T,
    /// `[flows, channels]`.
    pub y: &'a T,
}

/// Smaller values are raised to this in a generalised mean.
pub(crate) const SMALLEST: f32 = 1e-6;

/// A device that also supports the layers of convolutional networks.
pub(crate) trait LayerBackend: TransformerBackend {
    /// `y[f, t] = b + sum_j W[j] x[f, t * stride + j - padding]`: x `[flows * steps, inputs]`, y `[rows, outputs]`.
    fn convolution(
        &mut self,
        shape: ConvolutionShape,
        x: &Self::Values,
        kernel: Kernel<&Self::Values>,
        y: &mut Self::Values,
    );
    /// Computes, from the gradient of y, the gradients of the kernel (added) and of x if requested (overwritten).
    fn convolution_backward(
        &mut self,
        shape: ConvolutionShape,
        x: &Self::Values,
        dy: &Self::Values,
        kernel: Kernel<&mut Trained<Self::Values>>,
        dx: Option<&mut Self::Values>,
    );

    /// Convolution of pictures: x `[flows * pixels, inputs]`, y `[flows * output_steps, outputs]`, and a weight
    /// `[kernel * kernel * inputs, outputs]`.
    fn convolution2d(
        &mut self,
        shape: Convolution2dShape,
        x: &Self::Values,
        kernel: Kernel<&Self::Values>,
        y: &mut Self::Values,
    );
    /// Same as [`convolution_backward`](Self::convolution_backward), for pictures.
    fn convolution2d_backward(
        &mut self,
        shape: Convolution2dShape,
        x: &Self::Values,
        dy: &Self::Values,
        kernel: Kernel<&mut Trained<Self::Values>>,
        dx: Option<&mut Self::Values>,
    );

    /// Computes the maximum of each square and channel, and the step it comes from; the first one if several are equal.
    fn max_pool2d(&mut self, shape: Pool2dShape, x: &Self::Values, y: &mut Self::Values, chosen: &mut Self::Indices);
    /// Backward pass of [`max_pool2d`](Self::max_pool2d): dx is overwritten.
    fn max_pool2d_backward(
        &mut self,
        shape: Pool2dShape,
        chosen: &Self::Indices,
        dy: &Self::Values,
        dx: &mut Self::Values,
    );

    /// `x` if positive, else `e^x - 1` (Clevert et al. 2016), in place.
    fn elu(&mut self, count: usize, x: &mut Self::Values);
    /// Multiplies the gradient by the slope of the unit at the output `y`.
    fn elu_backward(&mut self, count: usize, y: &Self::Values, dy: &mut Self::Values);

    /// Computes the maximum of each window and channel, y `[flows * output_steps, channels]`, and the step it comes
    /// from; the first one if several are equal.
    fn max_pool(&mut self, shape: WindowShape, x: &Self::Values, y: &mut Self::Values, chosen: &mut Self::Indices);
    /// Backward pass of [`max_pool`](Self::max_pool): dx is overwritten.
    fn max_pool_backward(
        &mut self,
        shape: WindowShape,
        chosen: &Self::Indices,
        dy: &Self::Values,
        dx: &mut Self::Values,
    );

    /// Computes the generalised mean over each flow's steps (Radenović et al. 2019), `y = (mean_t max(x,
    /// SMALLEST)^p)^(1/p)`, with a single exponent p in `exponent`: y `[flows, channels]`.
    fn generalised_mean(&mut self, shape: WindowShape, x: &Self::Values, exponent: &Self::Values, y: &mut Self::Values);
    /// Backward pass of [`generalised_mean`](Self::generalised_mean): dx is overwritten.
    fn generalised_mean_backward(
        &mut self,
        shape: WindowShape,
        pooled: Pooled<'_, Self::Values>,
        exponent: &mut Trained<Self::Values>,
        dy: &Self::Values,
        dx: &mut Self::Values,
    );

    /// Takes one Adamax step (Kingma and Ba 2015, section 7.1, in PyTorch's form) and zeroes the gradient; the second
    /// moment is the decaying maximum of absolute gradients.
    fn adamax(&mut self, trained: &mut Trained<Self::Values>, length: usize, step: AdamStep);
}
