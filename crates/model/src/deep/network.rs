//! The description of a network: branches of layers, each over some columns of a flow, whose outputs side by
//! side go through the layers of a trunk. Both engines build what it says, and names, shapes and initial values of parameters
//! follow from it. Names and shapes are those of a PyTorch state dict, so that weights open there as they are.

use super::parameters::{
    ParameterSet, Specification, convolution, initial, layer_norm, linear, norm, picture_convolution, token,
};

/// A layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Layer {
    /// A convolution over steps, with a bias.
    Convolution {
        /// Of its parameters.
        name: String,
        /// Channels of its output.
        outputs: usize,
        /// Steps that one output reads.
        kernel: usize,
        /// Steps between two of them.
        stride: usize,
        /// Steps of 0 before and after the sequence.
        padding: [usize; 2],
    },
    /// A convolution over the rows and columns of a picture, whose pixels are the steps, row by row; with a bias, without padding.
    PictureConvolution {
        /// Of its parameters.
        name: String,
        /// Channels of its output.
        outputs: usize,
        /// Rows and columns that one output reads.
        kernel: usize,
        /// Rows and columns of its input.
        size: [usize; 2],
    },
    /// A linear layer over all values of a flow, in PyTorch's order: the steps of the first channel first.
    Linear {
        /// Of its parameters.
        name: String,
        /// Values of its output.
        outputs: usize,
    },
    /// Batch normalisation of each channel over steps and flows.
    Norm {
        /// Of its parameters and running statistics.
        name: String,
    },
    /// `max(x, 0)`.
    Relu,
    /// `x` where positive, else `e^x - 1`.
    Elu,
    /// The largest of so many steps.
    MaximumPool {
        /// Steps that are pooled into one.
        size: usize,
        /// Steps between two of them.
        stride: usize,
        /// Steps before and after the sequence that windows may reach into.
        padding: [usize; 2],
    },
    /// The largest of each square of a picture; squares lie side by side.
    SquarePool {
        /// Rows and columns of a square.
        pool: usize,
        /// Rows and columns of its input.
        size: [usize; 2],
    },
    /// The generalised mean over all steps, whose exponent is learned.
    GeneralisedMean {
        /// Of the exponent.
        name: String,
    },
    /// A linear layer over the values of each step.
    StepLinear {
        /// Of its parameters.
        name: String,
        /// Values of a step of its output.
        outputs: usize,
    },
    /// Normalisation of each step by its own mean and variance.
    StepNorm {
        /// Of its parameters.
        name: String,
    },
    /// The Gaussian error linear unit.
    Gelu,
    /// Attention among the steps that are there, by several heads: of queries, keys and values, each a third of the input's channels.
    Heads {
        /// Of which each takes as many channels.
        heads: usize,
    },
    /// Adds a learned row to each step.
    Positions {
        /// Of the table.
        name: String,
    },
    /// Puts a learned row in the place of hidden steps.
    Hide {
        /// Of the row.
        name: String,
    },
    /// The mean of the steps that are there.
    PresentMean,
    /// Keeps what comes in for the next [`Layer::Join`]; a layer with an output of its own follows.
    Fork,
    /// Adds it to what the layers between gave, of which the last is a linear one or dropout: a residual connection.
    Join,
    /// Drops values in training.
    Dropout {
        /// Which of the network's it is, from 0.
        number: u32,
        /// The share dropped.
        rate: f32,
    },
    /// Drops whole channels of a flow in training.
    ChannelDropout {
        /// Which of the network's it is, from 0.
        number: u32,
        /// The share dropped.
        rate: f32,
    },
}

/// Steps and channels of a flow between two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Steps; 1 where there is no sequence.
    pub steps: usize,
    /// Values of a step.
    pub channels: usize,
}

impl Size {
    /// Values of a flow.
    pub(crate) fn values(self) -> usize {
        self.steps * self.channels
    }
}

/// Layers one after the other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Branch {
    /// What they read of a flow.
    pub input: Size,
    /// The layers.
    pub layers: Vec<Layer>,
    /// How many marks of each step follow its values in a row: none; 1 where it is there and 0 where not; that, and 1 where it
    /// is hidden.
    pub marks: usize,
}

/// A network. Of a flow it reads the branches' columns one after the other, each `[steps, channels]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Network {
    /// One or more.
    pub branches: Vec<Branch>,
    /// What comes after them; the last layer gives a logit for each class.
    pub trunk: Vec<Layer>,
    /// Number of classes.
    pub classes: usize,
}

impl Layer {
    /// A convolution that moves step by step.
    pub(crate) fn convolution(name: impl Into<String>, outputs: usize, kernel: usize, padding: [usize; 2]) -> Self {
        Self::Convolution { name: name.into(), outputs, kernel, stride: 1, padding }
    }

    /// A linear layer.
    pub(crate) fn linear(name: impl Into<String>, outputs: usize) -> Self {
        Self::Linear { name: name.into(), outputs }
    }

    /// Layers around which what they read is added to what they give.
    pub(crate) fn residual(layers: impl IntoIterator<Item = Self>) -> impl Iterator<Item = Self> {
        std::iter::once(Self::Fork).chain(layers).chain(std::iter::once(Self::Join))
    }

    /// A linear layer over steps.
    pub(crate) fn step_linear(name: impl Into<String>, outputs: usize) -> Self {
        Self::StepLinear { name: name.into(), outputs }
    }

    /// A normalisation of steps.
    pub(crate) fn step_norm(name: impl Into<String>) -> Self {
        Self::StepNorm { name: name.into() }
    }

    /// A normalisation.
    pub(crate) fn norm(name: impl Into<String>) -> Self {
        Self::Norm { name: name.into() }
    }

    /// What a flow is after it; none where its steps are too few.
    pub(crate) fn output(&self, input: Size) -> Option<Size> {
        let steps = |size: usize, stride: usize, padding: [usize; 2]| {
            Some((input.steps + padding[0] + padding[1]).checked_sub(size)? / stride + 1)
        };
        Some(match *self {
            Self::Convolution { outputs, kernel, stride, padding, .. } => {
                Size { steps: steps(kernel, stride, padding)?, channels: outputs }
            }
            Self::PictureConvolution { outputs, kernel, size, .. } => {
                let [height, width] = picture(input, size)?.map(|size| (size + 1).checked_sub(kernel));
                Size { steps: height? * width?, channels: outputs }
            }
            Self::SquarePool { pool, size } => {
                let [height, width] = picture(input, size)?.map(|size| size / pool);
                Size { steps: height * width, ..input }
            }
            Self::Linear { outputs, .. } => Size { steps: 1, channels: outputs },
            Self::MaximumPool { size, stride, padding } => Size { steps: steps(size, stride, padding)?, ..input },
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

    /// Its parameters and running statistics.
    fn specifications(&self, input: Size) -> Vec<Specification> {
        match self {
            Self::Convolution { name, outputs, kernel, .. } => {
                convolution(name, input.channels, *outputs, *kernel).into()
            }
            Self::PictureConvolution { name, outputs, kernel, .. } => {
                picture_convolution(name, input.channels, *outputs, *kernel).into()
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
            | Self::MaximumPool { .. }
            | Self::SquarePool { .. }
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

/// Rows and columns of a picture, where the input is one.
fn picture(input: Size, size: [usize; 2]) -> Option<[usize; 2]> {
    (size[0] * size[1] == input.steps).then_some(size)
}

impl Branch {
    /// Layers over an input all of whose steps are there.
    pub(crate) fn new(input: Size, layers: Vec<Layer>) -> Self {
        Self { input, layers, marks: 0 }
    }

    /// Columns of a row: values and marks.
    pub(crate) fn columns(&self) -> usize {
        self.input.values() + self.marks * self.input.steps
    }

    /// What a flow is before each layer, and after the last; none where there are too few steps for some layer.
    pub(crate) fn sizes(&self) -> Option<Vec<Size>> {
        let mut sizes = vec![self.input];
        for layer in &self.layers {
            sizes.push(layer.output(*sizes.last()?)?);
        }
        Some(sizes)
    }
}

impl Network {
    /// Values of a flow.
    pub(crate) fn columns(&self) -> usize {
        self.branches.iter().map(Branch::columns).sum()
    }

    /// The trunk as a branch of its own, over the outputs of the others; none where one has too few steps.
    fn joined(&self) -> Option<Branch> {
        let outputs = self.branches.iter().map(|branch| Some(branch.sizes()?.last()?.values()));
        let channels = outputs.sum::<Option<usize>>()?;
        Some(Branch::new(Size { steps: 1, channels }, self.trunk.clone()))
    }

    /// The branches, and the trunk last; of a single branch the trunk is the end.
    pub(crate) fn chains(&self) -> Option<Vec<Branch>> {
        if let [only] = self.branches.as_slice() {
            let layers = only.layers.iter().chain(&self.trunk).cloned().collect();
            return Some(vec![Branch { layers, ..*only }]);
        }
        let mut chains = self.branches.clone();
        chains.push(self.joined()?);
        Some(chains)
    }

    /// Its parameters and running statistics in their order; none where a branch has too few steps.
    pub(crate) fn specifications(&self) -> Option<Vec<Specification>> {
        let mut all = Vec::new();
        for chain in self.chains()? {
            let sizes = chain.sizes()?;
            all.extend(chain.layers.iter().zip(sizes).flat_map(|(layer, size)| layer.specifications(size)));
        }
        Some(all)
    }

    /// Its initial parameters: PyTorch's distributions for these layers, He's for convolutions of pictures; none where a branch has too few steps.
    pub(crate) fn initial(&self, seed: u64) -> Option<ParameterSet> {
        Some(initial(&self.specifications()?, seed))
    }

    /// Values of all layers of one flow, of which a training step keeps about two copies.
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
                        Layer::MaximumPool { size: 2, stride: 2, padding: [0, 1] },
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
