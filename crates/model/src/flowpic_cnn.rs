//! The small LeNet over FlowPics of `LeNet5FlowpicIMC22_Mini` in tcbench (Horowicz et al., "A few shots traffic
//! classification with mini-FlowPic augmentations", IMC 2022): two convolutions of 5 x 5 with 2 x 2 max pooling, then
//! three dense layers. A pixel is its count divided by 255.
//!
//! As in tcbench, dropout after the second convolution drops whole channels. Dropout before the classifier drops single
//! values; tcbench's `Dropout1d`, given rows of 84 values, drops all of them in half of the flows. Convolutions are
//! initialised as in tcbench (He et al. 2015, biases of 0), dense layers as in PyTorch.

use ndarray::{Array2, ArrayView1};
use serde::{Deserialize, Serialize};

use super::class_weights::ClassWeights;
use super::classical::Classical;
use super::deep::OptimiserKind;
use super::deep::network::{Branch, Layer, Network, Size};
use super::deep::parameters::LearningRateSchedule;
use super::input::InputOptions;
use super::network_model::{Columns, Fitted, NetworkModel, Training, check_shares, check_sizes, training_of};
use super::{AgreementBound, Input, ModelEntry};

/// Bump whenever a code change alters what a fit computes.
const VERSION: u32 = 1;

/// The model's entry in the table of models.
pub(super) static ENTRY: ModelEntry = ModelEntry {
    version: VERSION,
    inputs: &[Input::Flowpic],
    agreement: Some(AgreementBound {
        agreement: 0.85,
        macro_f1: 0.05,
        reason: "same initial weights; sums in another order diverge over epochs",
    }),
    ..Classical::<Fitted<Flowpic>>::entry("A small LeNet over FlowPics (Horowicz et al. 2022).")
};

/// `[model.flowpic_cnn]`; defaults for sizes and training are those of tcbench.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FlowpicParameters {
    /// Channels of the two convolutions; default 6 and 16.
    pub channels: [usize; 2],
    /// Kernel height and width; default 5.
    pub kernel: usize,
    /// Height and width of the pooling window; default 2.
    pub pool: usize,
    /// Sizes of the two dense layers; default 120 and 84.
    pub dense: [usize; 2],
    /// Share of the channels dropped after the second convolution; default 0.25.
    pub channel_dropout: f32,
    /// Share dropped before the classifier; default 0.5.
    pub dropout: f32,
    /// Maximum passes over the training flows; default 50.
    pub epochs: usize,
    /// Flows per step; default 32.
    pub batch: usize,
    /// Epochs without a better validation macro F1 before training stops; default 5.
    pub patience: usize,
    /// `adamw` (default) or `adamax`.
    pub optimiser: OptimiserKind,
    /// Learning rate; default 0.001.
    pub learning_rate: f32,
    /// `constant` (default), `cosine` or `one_cycle`.
    pub learning_rate_schedule: LearningRateSchedule,
    /// Decoupled weight decay; default 0.
    pub weight_decay: f32,
    /// Share of each target that is spread over all classes; default 0.
    pub label_smoothing: f32,
    /// `none` (default), `balanced` or a table of numbers by class name.
    pub class_weights: ClassWeights,
}

impl Default for FlowpicParameters {
    fn default() -> Self {
        Self {
            channels: [6, 16],
            kernel: 5,
            pool: 2,
            dense: [120, 84],
            channel_dropout: 0.25,
            dropout: 0.5,
            epochs: 50,
            batch: 32,
            patience: 5,
            optimiser: OptimiserKind::Adamw,
            learning_rate: 0.001,
            learning_rate_schedule: LearningRateSchedule::Constant,
            weight_decay: 0.0,
            label_smoothing: 0.0,
            class_weights: ClassWeights::default(),
        }
    }
}

/// The network.
pub(super) struct Flowpic;

impl NetworkModel for Flowpic {
    type Parameters = FlowpicParameters;
    const NAME: &'static str = "flowpic_cnn";
    const VERSION: u32 = VERSION;
    const TOO_SHORT: &'static str =
        "the pictures are too small for the layers; raise feature.flowpic.resolution (16 or more by default)";
    const SIZES: &'static str = "model.flowpic_cnn.channels or dense";
    const BATCH: &'static str = "model.flowpic_cnn.batch or feature.flowpic.resolution";

    fn check(parameters: &FlowpicParameters) -> Result<(), String> {
        let FlowpicParameters { channels, kernel, pool, dense, channel_dropout, dropout, .. } = *parameters;
        check_sizes(&[
            ("channels", channels[0]),
            ("channels", channels[1]),
            ("kernel", kernel),
            ("pool", pool),
            ("dense", dense[0]),
            ("dense", dense[1]),
        ])?;
        check_shares(&[("channel_dropout", channel_dropout), ("dropout", dropout)])
    }

    fn training(parameters: &FlowpicParameters) -> Training<'_> {
        training_of!(parameters)
    }

    fn input(input: Input) -> InputOptions {
        InputOptions::plain(input)
    }

    /// The layer names are those of tcbench's state dict.
    fn network(parameters: &FlowpicParameters, columns: Columns, classes: usize) -> Network {
        let FlowpicParameters { channels, kernel, pool, dense, channel_dropout, dropout, .. } = *parameters;
        let pixels = columns.others;
        let (mut side, mut layers) = (pixels.isqrt(), Vec::new());
        for (number, outputs) in channels.into_iter().enumerate() {
            let name = format!("features.conv{}.0", number + 1);
            layers.push(Layer::Convolution2d { name, outputs, kernel, size: [side, side] });
            layers.push(Layer::Relu);
            if number == 1 {
                layers.push(Layer::ChannelDropout { number: 0, rate: channel_dropout });
            }
            // If the picture runs out here, the layers report that it is too small.
            side = (side + 1).saturating_sub(kernel);
            layers.push(Layer::MaxPool2d { pool, size: [side, side] });
            side /= pool;
        }
        let trunk = vec![
            Layer::linear("features.fullyconnected.1", dense[0]),
            Layer::Relu,
            Layer::linear("features.fullyconnected.3", dense[1]),
            Layer::Relu,
            Layer::Dropout { number: 1, rate: dropout },
            Layer::linear("classifier", classes),
        ];
        Network { branches: vec![Branch::new(Size { steps: pixels, channels: 1 }, layers)], trunk, classes }
    }

    fn scaling(_: &FlowpicParameters, _: &Array2<f32>, _: Columns) -> Vec<f64> {
        Vec::new()
    }

    fn scaling_size(_: Columns) -> usize {
        0
    }

    fn scale(_: &[f64], _: Columns, _: &Network, row: ArrayView1<'_, f32>, scaled: &mut [f32]) {
        scaled.iter_mut().zip(row).for_each(|(scaled, &count)| *scaled = count / 255.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_as_many_as_in_the_original() {
        let network = |pixels: usize| {
            Flowpic::network(&FlowpicParameters::default(), Columns { sequences: 0, others: pixels }, 5)
        };
        let known = network(1024).specifications().unwrap();
        // The total that tcbench's documentation shows for the network with five classes.
        assert_eq!(known.iter().map(|known| known.count()).sum::<usize>(), 61_281);
        assert_eq!(
            (known[2].name.as_str(), known[2].shape.as_slice()),
            ("features.conv2.0.weight", &[16, 6, 5, 5][..])
        );
        // 16 rows and columns are the minimum that leaves a pixel.
        assert!(network(256).specifications().is_some());
        for side in 1..16 {
            assert!(network(side * side).specifications().is_none(), "{side}");
        }
    }
}
