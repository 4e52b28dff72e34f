//! What a device computes beyond [`Device`](super::device::Device) for convolutional networks. A sequence of `steps` rows of channels for each flow
//! is one matrix `[flows * steps, channels]`, the rows of the first flow first, so that normalisation, rectifier and dropout
//! are those of rows, and the values that a convolution reads for one step lie side by side.

use super::device::{AdamStep, Trained};
use super::transformer::TransformerDevice;

/// Sizes of a convolution over steps (a cross-correlation, as every framework has it).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConvolutionShape {
    /// Flows.
    pub flows: usize,
    /// Steps of a flow's input.
    pub steps: usize,
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Steps that one output reads.
    pub kernel: usize,
    /// Steps between what two outputs read.
    pub stride: usize,
    /// Steps of 0 before and after a flow's input.
    pub padding: [usize; 2],
}

impl ConvolutionShape {
    /// Steps of a flow with its padding.
    pub(crate) fn padded(&self) -> usize {
        self.steps + self.padding[0] + self.padding[1]
    }

    /// Steps of a flow's output.
    pub(crate) fn output_steps(&self) -> usize {
        (self.padded() - self.kernel) / self.stride + 1
    }

    /// Values that one output reads.
    pub(crate) fn window(&self) -> usize {
        self.kernel * self.inputs
    }

    /// Rows of the output.
    pub(crate) fn rows(&self) -> usize {
        self.flows * self.output_steps()
    }
}

/// Sizes of a pooling over steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowShape {
    /// Flows.
    pub flows: usize,
    /// Steps of a flow's input.
    pub steps: usize,
    /// Channels.
    pub channels: usize,
    /// Steps that are pooled into one.
    pub size: usize,
    /// Steps between two of them.
    pub stride: usize,
    /// Steps before the input that the first of them begins, and steps of a flow's output; what lies outside the input is not
    /// looked at.
    pub before: usize,
    /// Steps of a flow's output.
    pub output_steps: usize,
}

/// Sizes of a convolution over a picture, without padding. A step is a pixel, the rows of a picture one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PictureShape {
    /// Flows.
    pub flows: usize,
    /// Rows and columns of a flow's input.
    pub size: [usize; 2],
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Rows and columns that one output reads.
    pub kernel: usize,
}

impl PictureShape {
    /// Rows and columns of a flow's output.
    pub(crate) fn output_size(&self) -> [usize; 2] {
        self.size.map(|size| size + 1 - self.kernel)
    }

    /// Steps of a flow's output.
    pub(crate) fn output_steps(&self) -> usize {
        let [height, width] = self.output_size();
        height * width
    }

    /// Values that one output reads.
    pub(crate) fn window(&self) -> usize {
        self.kernel * self.kernel * self.inputs
    }
}

/// Sizes of a pooling over squares of a picture that lie side by side; rows and columns that fill none are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SquareShape {
    /// Flows.
    pub flows: usize,
    /// Rows and columns of a flow's input.
    pub size: [usize; 2],
    /// Channels.
    pub channels: usize,
    /// Rows and columns of a square.
    pub pool: usize,
}

impl SquareShape {
    /// Rows and columns of a flow's output.
    pub(crate) fn output_size(&self) -> [usize; 2] {
        self.size.map(|size| size / self.pool)
    }

    /// Steps of a flow's output.
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

/// Input and output of a pooling, which its backward pass reads.
pub(crate) struct Pooled<'a, T> {
    /// `[flows * steps, channels]`.
    pub x: &'a T,
    /// `[flows, channels]`.
    pub y: &'a T,
}

/// Below this a value counts as this in a generalised mean.
pub(crate) const SMALLEST: f32 = 1e-6;

/// A device that has the layers of convolutional networks too.
pub(crate) trait LayerDevice: TransformerDevice {
    /// `y[f, t] = b + sum_j W[j] x[f, t * stride + j - padding]`: x `[flows * steps, inputs]`, y `[rows, outputs]`.
    fn convolution(
        &mut self,
        shape: ConvolutionShape,
        x: &Self::Values,
        kernel: Kernel<&Self::Values>,
        y: &mut Self::Values,
    );
    /// From the gradient of y, those of the kernel (added), and of x where it is wanted (overwritten).
    fn convolution_backward(
        &mut self,
        shape: ConvolutionShape,
        x: &Self::Values,
        dy: &Self::Values,
        kernel: Kernel<&mut Trained<Self::Values>>,
        dx: Option<&mut Self::Values>,
    );

    /// The convolution of pictures: x `[flows * pixels, inputs]`, y `[flows * output_steps, outputs]`, and a weight
    /// `[kernel * kernel * inputs, outputs]`.
    fn picture_convolution(
        &mut self,
        shape: PictureShape,
        x: &Self::Values,
        kernel: Kernel<&Self::Values>,
        y: &mut Self::Values,
    );
    /// As [`convolution_backward`](Self::convolution_backward).
    fn picture_convolution_backward(
        &mut self,
        shape: PictureShape,
        x: &Self::Values,
        dy: &Self::Values,
        kernel: Kernel<&mut Trained<Self::Values>>,
        dx: Option<&mut Self::Values>,
    );

    /// The largest of each square and channel, and the step that it is from, of equal ones the first.
    fn square_pool(&mut self, shape: SquareShape, x: &Self::Values, y: &mut Self::Values, chosen: &mut Self::Indices);
    /// Its backward pass: dx is overwritten.
    fn square_pool_backward(
        &mut self,
        shape: SquareShape,
        chosen: &Self::Indices,
        dy: &Self::Values,
        dx: &mut Self::Values,
    );

    /// `x` where positive, else `e^x - 1` (Clevert et al. 2016), in place.
    fn elu(&mut self, count: usize, x: &mut Self::Values);
    /// Multiplies the gradient by the slope where it gave `y`.
    fn elu_backward(&mut self, count: usize, y: &Self::Values, dy: &mut Self::Values);

    /// The largest of each window and channel, y `[flows * output_steps, channels]`, and the step that it is from, of equal
    /// ones the first.
    fn maximum_pool(&mut self, shape: WindowShape, x: &Self::Values, y: &mut Self::Values, chosen: &mut Self::Indices);
    /// Its backward pass: dx is overwritten.
    fn maximum_pool_backward(
        &mut self,
        shape: WindowShape,
        chosen: &Self::Indices,
        dy: &Self::Values,
        dx: &mut Self::Values,
    );

    /// The generalised mean over each flow's steps (Radenović et al. 2019), `y = (mean_t max(x, SMALLEST)^p)^(1/p)`, with the
    /// one exponent p of `exponent`: y `[flows, channels]`.
    fn generalised_mean(&mut self, shape: WindowShape, x: &Self::Values, exponent: &Self::Values, y: &mut Self::Values);
    /// Its backward pass: dx is overwritten.
    fn generalised_mean_backward(
        &mut self,
        shape: WindowShape,
        pooled: Pooled<'_, Self::Values>,
        exponent: &mut Trained<Self::Values>,
        dy: &Self::Values,
        dx: &mut Self::Values,
    );

    /// One Adamax step (Kingma and Ba 2015, section 7.1, in PyTorch's form), after which the gradient is zero; the second
    /// moment is the largest gradient, which decays.
    fn adamax(&mut self, trained: &mut Trained<Self::Values>, length: usize, step: AdamStep);
}
