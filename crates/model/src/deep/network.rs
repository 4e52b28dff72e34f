//! Description of a network: branches of layers, each over some columns of a flow, whose concatenated outputs pass
//! through the layers of a trunk. Both engines build the network from this description, which also determines names,
//! shapes and initial values of the parameters. Names and shapes match a PyTorch state dict, so that the weights load
//! there unchanged.

use super::parameters::{
    ParameterSet, Specification, convolution, convolution2d, initial, layer_norm, linear, norm, token,
};

/// A layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Layer {
    /// A convolution over steps, with a bias.
    Convolution {
        /// Prefix of its parameters' names.
        name: String,
        /// Output channels.
        outputs: usize,
        /// Steps that each output reads.
        kernel: usize,
        /// Distance in steps between the inputs of two outputs.
        stride: usize,
        /// Zero padding before and after the sequence, in steps.
        padding: [usize; 2],
    },
    /// A 2D convolution over a picture whose pixels are the steps in row-major order; with a bias, without padding.
    Convolution2d {
        /// Prefix of its parameters' names.
        name: String,
        /// Output channels.
        outputs: usize,
        /// Side of the square kernel in pixels.
        kernel: usize,
        /// Height and width of the input.
        size: [usize; 2],
    },
    /// A linear layer over all values of a flow, in PyTorch's order: all steps of the first channel first.
    Linear {
        /// Prefix of its parameters' names.
        name: String,
        /// Number of output values.
        outputs: usize,
    },
    /// Batch normalisation of each channel over steps and flows.
    Norm {
        /// Prefix of the names of its parameters and running statistics.
        name: String,
    },
    /// `max(x, 0)`.
    Relu,
    /// `x` if positive, else `e^x - 1`.
    Elu,
    /// Max pooling over windows of steps.
    MaxPool {
        /// Steps per window.
        size: usize,
        /// Distance in steps between two windows.
        stride: usize,
        /// Steps before and after the sequence that windows may extend into.
        padding: [usize; 2],
    },
    /// Max pooling over adjacent, non-overlapping squares of a picture.
    MaxPool2d {
        /// Side of a square in pixels.
        pool: usize,
        /// Height and width of the input.
        size: [usize; 2],
    },
    /// The generalised mean over all steps, with a learned exponent.
    GeneralisedMean {
        /// Prefix of the exponent's name.
        name: String,
    },
    /// A linear layer applied to each step.
    StepLinear {
        /// Prefix of its parameters' names.
        name: String,
        /// Output values per step.
        outputs: usize,
    },
    /// Layer normalisation: each step by its own mean and variance.
    StepNorm {
        /// Prefix of its parameters' names.
        name: String,
    },
    /// The Gaussian error linear unit.
    Gelu,
    /// Multi-head attention among the present steps. Queries, keys and values are each a third of the input's channels.
    Heads {
        /// Number of heads, which share the channels equally.
        heads: usize,
    },
    /// Adds a learned row to each step.
    Positions {
        /// Name of the table.
        name: String,
    },
    /// Replaces hidden steps by a learned row.
    Hide {
        /// Name of the row.
        name: String,
    },
    /// The mean of the present steps.
    PresentMean,
    /// Saves its input for the next [`Layer::Join`]. The layer that follows must write to a new buffer.
    Fork,
    /// Adds the saved input to the output of the layers in between, the last of which is a linear layer or dropout: a
    /// residual connection.
    Join,
    /// Dropout in training.
    Dropout {
        /// Index among the network's dropout layers, from 0.
        number: u32,
        /// Dropout rate.
        rate: f32,
    },
    /// Dropout of whole channels of a flow in training.
    ChannelDropout {
        /// Index among the network's dropout layers, from 0.
        number: u32,
        /// Dropout rate.
        rate: f32,
    },
}

/// Steps and channels of a flow between two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Steps; 1 if there is no sequence.
    pub steps: usize,
    /// Values per step.
    pub channels: usize,
}

impl Size {
    /// Returns the number of values of a flow.
    pub(crate) fn values(self) -> usize {
        self.steps * self.channels
    }
}

/// A sequence of layers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Branch {
    /// The size of its input.
    pub input: Size,
    /// The layers.
    pub layers: Vec<Layer>,
    /// Number of marks per step that follow the values in a row: 0; 1 for a mark that is 1 if the step is present and 0
    /// if not; 2 with a second mark that is 1 if the step is hidden.
    pub marks: usize,
}

/// A network. Its input is the branches' columns one after the other, each `[steps, channels]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Network {
    /// One or more branches.
    pub branches: Vec<Branch>,
    /// Layers after the branches; the last layer outputs one logit per class.
    pub trunk: Vec<Layer>,
    /// Number of classes.
    pub classes: usize,
}

impl Layer {
    /// Whether the fast engine overwrites the layer's input; every other layer has a buffer for its output.
    pub(crate) fn is_in_place(&self) -> bool {
        matches!(
            self,
            Self::Relu
                | Self::Elu
                | Self::Dropout { .. }
                | Self::ChannelDropout { .. }
                | Self::Positions { .. }
                | Self::Hide { .. }
                | Self::Fork
                | Self::Join
        )
    }

    /// Creates a convolution with stride 1.
    pub(crate) fn convolution(name: impl Into<String>, outputs: usize, kernel: usize, padding: [usize; 2]) -> Self {
        Self::Convolution { name: name.into(), outputs, kernel, stride: 1, padding }
    }

    /// Creates a linear layer.
    pub(crate) fn linear(name: impl Into<String>, outputs: usize) -> Self {
        Self::Linear { name: name.into(), outputs }
    }

    /// Wraps layers in a residual connection: their input is added to their output.
    pub(crate) fn residual(layers: impl IntoIterator<Item = Self>) -> impl Iterator<Item = Self> {
        std::iter::once(Self::Fork).chain(layers).chain(std::iter::once(Self::Join))
    }

    /// Creates a linear layer applied to each step.
    pub(crate) fn step_linear(name: impl Into<String>, outputs: usize) -> Self {
        Self::StepLinear { name: name.into(), outputs }
    }

    /// Creates a layer normalisation.
    pub(crate) fn step_norm(name: impl Into<String>) -> Self {
        Self::StepNorm { name: name.into() }
    }

    /// Creates a batch normalisation.
    pub(crate) fn norm(name: impl Into<String>) -> Self {
        Self::Norm { name: name.into() }
    }

    /// Returns the size of a flow after this layer, or `None` if the input has too few steps.
    pub(crate) fn output(&self, input: Size) -> Option<Size> {
        let steps = |size: usize, stride: usize, padding: [usize; 2]| {
            Some((input.steps + padding[0] + padding[1]).checked_sub(size)? / stride + 1)
        };
        Some(match *self {
            Self::Convolution { outputs, kernel, stride, padding, .. } => {
                Size { steps: steps(kernel, stride, padding)?, channels: outputs }
            }
            Self::Convolution2d { outputs, kernel, size, .. } => {
                let [height, width] = picture(input, size)?.map(|size| (size + 1).checked_sub(kernel));
                Size { steps: height? * width?, channels: outputs }
            }
            Self::MaxPool2d { pool, size } => {
                let [height, width] = picture(input, size)?.map(|size| size / pool);
                Size { steps: height * width, ..input }
            }
            Self::Linear { outputs, .. } => Size { steps: 1, channels: outputs },
            Self::MaxPool { size, stride, padding } => Size { steps: steps(size, stride, padding)?, ..input },
            Self::GeneralisedMean { .. } | Self::PresentMean => Size { steps: 1, ..input },
            Self::StepLinear { outputs, .. } => Size { channels: outputs, ..input },
            Self::Heads { heads } => {
                let channels = input.channels / 3;
                (channels * 3 == input.channels && channels.is_multiple_of(heads))
                    .then_some(Size { channels, ..input })?
            }
            Self::Norm { .. }
            | Self::Relu
            | Self::Elu
            | Self::StepNorm { .. }
            | Self::Gelu
            | Self::Positions { .. }
            | Self::Hide { .. }
            | Self::Fork
            | Self::Join
            | Self::Dropout { .. }
            | Self::ChannelDropout { .. } => input,
        })
        .filter(|output| output.steps > 0)
    }

    /// Returns the specifications of its parameters and running statistics.
    fn specifications(&self, input: Size) -> Vec<Specification> {
        match self {
            Self::Convolution { name, outputs, kernel, .. } => {
                convolution(name, input.channels, *outputs, *kernel).into()
            }
            Self::Convolution2d { name, outputs, kernel, .. } => {
                convolution2d(name, input.channels, *outputs, *kernel).into()
            }
            Self::Linear { name, outputs } => linear(name, input.values(), *outputs).into(),
            Self::StepLinear { name, outputs } => linear(name, input.channels, *outputs).into(),
            Self::StepNorm { name } => layer_norm(name, input.channels).into(),
            Self::Positions { name } => vec![token(name, &[input.steps, input.channels])],
            Self::Hide { name } => vec![token(name, &[input.channels])],
            Self::Norm { name } => norm(name, input.channels).into(),
            Self::GeneralisedMean { name } => vec![Specification::constant(format!("{name}.p"), &[1], 3.0)],
            Self::Relu
            | Self::Elu
            | Self::MaxPool { .. }
            | Self::MaxPool2d { .. }
            | Self::Gelu
            | Self::Heads { .. }
            | Self::PresentMean
            | Self::Fork
            | Self::Join
            | Self::Dropout { .. }
            | Self::ChannelDropout { .. } => Vec::new(),
        }
    }
}

/// Returns `size` if the input has that many pixels.
fn picture(input: Size, size: [usize; 2]) -> Option<[usize; 2]> {
    (size[0] * size[1] == input.steps).then_some(size)
}

impl Branch {
    /// Creates a branch whose steps are always present.
    pub(crate) fn new(input: Size, layers: Vec<Layer>) -> Self {
        Self { input, layers, marks: 0 }
    }

    /// Returns the number of columns of a row: values and marks.
    pub(crate) fn columns(&self) -> usize {
        self.input.values() + self.marks * self.input.steps
    }

    /// Returns the size of a flow before each layer and after the last, or `None` if a layer has too few steps.
    pub(crate) fn sizes(&self) -> Option<Vec<Size>> {
        let mut sizes = vec![self.input];
        for layer in &self.layers {
            sizes.push(layer.output(*sizes.last()?)?);
        }
        Some(sizes)
    }
}

impl Network {
    /// Returns the number of columns of a row.
    pub(crate) fn columns(&self) -> usize {
        self.branches.iter().map(Branch::columns).sum()
    }

    /// Returns the trunk as a branch over the outputs of the others, or `None` if a branch has too few steps.
    fn joined(&self) -> Option<Branch> {
        let outputs = self.branches.iter().map(|branch| Some(branch.sizes()?.last()?.values()));
        let channels = outputs.sum::<Option<usize>>()?;
        Some(Branch::new(Size { steps: 1, channels }, self.trunk.clone()))
    }

    /// Returns the branches followed by the trunk. With a single branch, the trunk is appended to it.
    pub(crate) fn chains(&self) -> Option<Vec<Branch>> {
        if let [only] = self.branches.as_slice() {
            let layers = only.layers.iter().chain(&self.trunk).cloned().collect();
            return Some(vec![Branch { layers, ..*only }]);
        }
        let mut chains = self.branches.clone();
        chains.push(self.joined()?);
        Some(chains)
    }

    /// Returns the specifications of its parameters and running statistics in order, or `None` if a branch has too few
    /// steps.
    pub(crate) fn specifications(&self) -> Option<Vec<Specification>> {
        let mut all = Vec::new();
        for chain in self.chains()? {
            let sizes = chain.sizes()?;
            all.extend(chain.layers.iter().zip(sizes).flat_map(|(layer, size)| layer.specifications(size)));
        }
        Some(all)
    }

    /// Returns its initial parameters, or `None` if a branch has too few steps. Uses PyTorch's distributions for these
    /// layers, and He's for 2D convolutions.
    pub(crate) fn initial(&self, seed: u64) -> Option<ParameterSet> {
        Some(initial(&self.specifications()?, seed))
    }

    /// Returns the number of values of all layers for one flow.
    pub(crate) fn values(&self) -> usize {
        let chains = self.chains().unwrap_or_default();
        let shares = |branch: &Branch, sizes: &[Size]| -> usize {
            let layers = branch.layers.iter().zip(sizes);
            layers
                .map(
                    |(layer, size)| {
                        if let Layer::Heads { heads } = layer { heads * size.steps * size.steps } else { 0 }
                    },
                )
                .sum()
        };
        let of_chain = |branch: &Branch| {
            let sizes = branch.sizes()?;
            Some(sizes.iter().copied().map(Size::values).sum::<usize>() + shares(branch, &sizes))
        };
        chains.iter().filter_map(of_chain).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let name = |part: &str| part.to_owned();
        Network {
            branches: vec![
                Branch::new(
                    Size { steps: 9, channels: 2 },
                    vec![
                        Layer::convolution("c", 4, 3, [1, 1]),
                        Layer::MaxPool { size: 2, stride: 2, padding: [0, 1] },
                        Layer::GeneralisedMean { name: name("g") },
                    ],
                ),
                Branch::new(Size { steps: 1, channels: 3 }, vec![Layer::linear("s", 5), Layer::Relu]),
            ],
            trunk: vec![Layer::norm("n"), Layer::linear("o", 7)],
            classes: 7,
        }
    }

    #[test]
    fn sizes_and_parameters_follow_from_the_layers() {
        let network = network();
        let steps = |branch: &Branch| branch.sizes().unwrap().iter().map(|size| size.steps).collect::<Vec<_>>();
        assert_eq!(steps(&network.branches[0]), [9, 9, 5, 1]);
        assert_eq!(network.columns(), 21);
        let known = network.specifications().unwrap();
        let shapes = known.iter().map(|known| (known.name.as_str(), known.shape.as_slice())).collect::<Vec<_>>();
        assert_eq!(shapes[..3], [("c.weight", &[4, 2, 3][..]), ("c.bias", &[4]), ("g.p", &[1])]);
        assert_eq!(shapes[3..5], [("s.weight", &[5, 3][..]), ("s.bias", &[5])]);
        assert_eq!(shapes[5], ("n.weight", &[9][..]));
        assert_eq!(shapes.last(), Some(&("o.bias", &[7][..])));
        assert_eq!(network.initial(3).unwrap().get("g.p", &[1]).unwrap(), [3.0]);
    }

    #[test]
    fn too_few_steps_make_no_network() {
        let mut short = network();
        short.branches[0].input.steps = 0;
        assert_eq!(short.specifications(), None);
    }
}
