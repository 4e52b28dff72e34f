//! The layers of a chain: their shapes, parameters and buffers on a device.

use super::super::backend::Backend;
use super::super::layers::{Convolution2dShape, ConvolutionShape, LayerBackend, Pool2dShape, WindowShape};
use super::super::transformer::{HeadsShape, StepsShape};
use super::super::weights::{Norm, Weight};
use crate::ModelError;
use crate::deep::network::{Layer, Size};
use crate::deep::parameters::ParameterSet;

/// A layer with its parameters on the device.
pub(super) enum Node<B: Backend> {
    /// A convolution. A linear layer is a convolution whose kernel covers the whole flow.
    Convolution {
        shape: ConvolutionShape,
        weight: Weight<B>,
        bias: Weight<B>,
    },
    Convolution2d {
        shape: Convolution2dShape,
        weight: Weight<B>,
        bias: Weight<B>,
    },
    Norm(Norm<B>),
    Relu,
    Elu,
    MaxPool {
        shape: WindowShape,
        chosen: B::Indices,
    },
    MaxPool2d {
        shape: Pool2dShape,
        chosen: B::Indices,
    },
    GeneralisedMean {
        shape: WindowShape,
        exponent: Weight<B>,
    },
    Dropout {
        number: u32,
        rate: f32,
    },
    LayerNorm {
        weight: Weight<B>,
        bias: Weight<B>,
        moments: B::Values,
    },
    Gelu,
    Heads {
        shape: HeadsShape,
        shares: B::Values,
    },
    Positions {
        table: Weight<B>,
    },
    Hide {
        token: Weight<B>,
    },
    PresentMean,
    Fork,
    /// Adds the buffer saved by the preceding fork.
    Join {
        of: usize,
    },
    /// Contains the flow of every row, so that the same channels are dropped at all steps of a flow.
    ChannelDropout {
        number: u32,
        rate: f32,
        flows: B::Indices,
        rows: usize,
    },
}

impl<B: LayerBackend> Node<B> {
    pub(super) fn new(device: &mut B, set: &ParameterSet, layer: &Layer, input: Size) -> Result<Self, ModelError> {
        let Size { steps, channels } = input;
        let window = |size, stride, before, output_steps| WindowShape {
            flows: 0,
            steps,
            channels,
            size,
            stride,
            before,
            output_steps,
        };
        Ok(match layer {
            Layer::Convolution { name, outputs, kernel, stride, padding } => {
                let axes = [*outputs, channels, *kernel];
                let shape = ConvolutionShape {
                    flows: 0,
                    steps,
                    inputs: channels,
                    outputs: *outputs,
                    kernel: *kernel,
                    stride: *stride,
                    padding: *padding,
                };
                Self::Convolution {
                    shape,
                    weight: Weight::reversed(device, set, format!("{name}.weight"), &axes, axes)?,
                    bias: Weight::new(device, set, format!("{name}.bias"), &[*outputs])?,
                }
            }
            Layer::Convolution2d { name, outputs, kernel, size } => {
                let (shape, axes) = ([*outputs, channels, *kernel, *kernel], [*outputs, channels, kernel * kernel]);
                Self::Convolution2d {
                    shape: Convolution2dShape {
                        flows: 0,
                        size: *size,
                        inputs: channels,
                        outputs: *outputs,
                        kernel: *kernel,
                    },
                    weight: Weight::reversed(device, set, format!("{name}.weight"), &shape, axes)?,
                    bias: Weight::new(device, set, format!("{name}.bias"), &[*outputs])?,
                }
            }
            Layer::MaxPool2d { pool, size } => Self::MaxPool2d {
                shape: Pool2dShape { flows: 0, size: *size, channels, pool: *pool },
                chosen: B::Indices::default(),
            },
            Layer::Linear { name, outputs } => {
                let axes = [*outputs, channels, steps];
                let (inputs, outputs) = (channels, *outputs);
                let padding = [0, 0];
                Self::Convolution {
                    shape: ConvolutionShape { flows: 0, steps, inputs, outputs, kernel: steps, stride: 1, padding },
                    weight: Weight::reversed(device, set, format!("{name}.weight"), &[outputs, input.values()], axes)?,
                    bias: Weight::new(device, set, format!("{name}.bias"), &[outputs])?,
                }
            }
            Layer::StepLinear { name, outputs } => {
                let axes = [*outputs, channels, 1];
                let (inputs, outputs, padding) = (channels, *outputs, [0, 0]);
                Self::Convolution {
                    shape: ConvolutionShape { flows: 0, steps, inputs, outputs, kernel: 1, stride: 1, padding },
                    weight: Weight::reversed(device, set, format!("{name}.weight"), &[outputs, channels], axes)?,
                    bias: Weight::new(device, set, format!("{name}.bias"), &[outputs])?,
                }
            }
            Layer::StepNorm { name } => Self::LayerNorm {
                weight: Weight::new(device, set, format!("{name}.weight"), &[channels])?,
                bias: Weight::new(device, set, format!("{name}.bias"), &[channels])?,
                moments: B::Values::default(),
            },
            Layer::Gelu => Self::Gelu,
            Layer::Heads { heads } => Self::Heads {
                shape: HeadsShape { output: StepsShape { flows: 0, steps, channels: channels / 3 }, heads: *heads },
                shares: B::Values::default(),
            },
            Layer::Positions { name } => {
                Self::Positions { table: Weight::new(device, set, name.clone(), &[steps, channels])? }
            }
            Layer::Hide { name } => Self::Hide { token: Weight::new(device, set, name.clone(), &[channels])? },
            Layer::PresentMean => Self::PresentMean,
            Layer::Fork => Self::Fork,
            Layer::Join => Self::Join { of: 0 },
            Layer::Norm { name } => Self::Norm(Norm::new(device, set, name, channels)?),
            Layer::Relu => Self::Relu,
            Layer::Elu => Self::Elu,
            Layer::MaxPool { size, stride, padding } => {
                let output = layer.output(input).map_or(0, |output| output.steps);
                Self::MaxPool { shape: window(*size, *stride, padding[0], output), chosen: B::Indices::default() }
            }
            Layer::GeneralisedMean { name } => Self::GeneralisedMean {
                shape: window(steps, 1, 0, 1),
                exponent: Weight::new(device, set, format!("{name}.p"), &[1])?,
            },
            Layer::Dropout { number, rate } => Self::Dropout { number: *number, rate: *rate },
            Layer::ChannelDropout { number, rate } => {
                Self::ChannelDropout { number: *number, rate: *rate, flows: B::Indices::default(), rows: 0 }
            }
        })
    }

    pub(super) fn visit(&mut self, visit: &mut dyn FnMut(&mut Weight<B>)) {
        match self {
            Self::Convolution { weight, bias, .. }
            | Self::Convolution2d { weight, bias, .. }
            | Self::LayerNorm { weight, bias, .. } => {
                visit(weight);
                visit(bias);
            }
            Self::Norm(norm) => norm.visit(visit),
            Self::GeneralisedMean { exponent: only, .. }
            | Self::Positions { table: only }
            | Self::Hide { token: only } => visit(only),
            _ => {}
        }
    }

    pub(super) fn store(&self, device: &B, set: &mut ParameterSet) {
        match self {
            Self::Convolution { weight, bias, .. }
            | Self::Convolution2d { weight, bias, .. }
            | Self::LayerNorm { weight, bias, .. } => {
                weight.store(device, set);
                bias.store(device, set);
            }
            Self::Norm(norm) => norm.store(device, set),
            Self::GeneralisedMean { exponent: only, .. }
            | Self::Positions { table: only }
            | Self::Hide { token: only } => only.store(device, set),
            _ => {}
        }
    }
}
