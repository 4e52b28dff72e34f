//! The one-dimensional convolutional network over bytes of Wang et al., "End-to-end encrypted traffic classification
//! with one-dimensional convolution neural networks", ISI 2017, as in `encrypt_traffic_cnn_1d.py` of the authors'
//! DeepTraffic: two convolutions of 25 bytes with 32 and 64 channels, each followed by max pooling over 3, then dense
//! layers. It reads a flow's N x M bytes as one sequence; the original reads the first 784 bytes of a session.
//!
//! The original pads short sessions with 0x00, which is indistinguishable from a zero byte. Here a byte b is encoded as
//! (b + 1) / 256 and an absent byte as 0: the two are distinct, the network has no more parameters than the original,
//! and the convolutions' padding beyond the ends of the sequence equals an absent byte.

use ndarray::{Array2, ArrayView1};
use serde::{Deserialize, Serialize};

use super::class_weights::ClassWeights;
use super::classical::Classical;
use super::deep::OptimiserKind;
use super::deep::network::{Branch, Layer, Network, Size};
use super::deep::parameters::LearningRateSchedule;
use super::input::InputOptions;
use super::network_model::{Columns, Fitted, NetworkModel, Training, check_shares, check_sizes, same, training_of};
use super::{AgreementBound, Input, ModelEntry};
use etcbench_feature::PAD;

/// Bump whenever a code change alters what a fit computes.
const VERSION: u32 = 1;

/// The model's entry in the table of models.
pub(super) static ENTRY: ModelEntry = ModelEntry {
    version: VERSION,
    inputs: &[Input::Bytes],
    agreement: Some(AgreementBound {
        agreement: 0.85,
        macro_f1: 0.05,
        reason: "same initial weights; sums in another order diverge over epochs",
    }),
    ..Classical::<Fitted<ByteCnn>>::entry("One-dimensional convolutions over a flow's bytes (Wang et al. 2017).")
};

/// `[model.byte_cnn]`; default sizes are those of Wang et al. 2017.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ByteCnnParameters {
    /// Channels of the two convolutions; default 32 and 64.
    pub channels: [usize; 2],
    /// Kernel size in bytes or steps; default 25.
    pub kernel: usize,
    /// Size of the pooling window in steps; default 3.
    pub pool: usize,
    /// Size of the dense layer; default 1024.
    pub dense: usize,
    /// Share dropped after the dense layer; default 0.5.
    pub dropout: f32,
    /// Maximum passes over the training flows; default 40.
    pub epochs: usize,
    /// Flows per step; default 50.
    pub batch: usize,
    /// Epochs without a better validation macro F1 before training stops; default 10.
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

impl Default for ByteCnnParameters {
    fn default() -> Self {
        Self {
            channels: [32, 64],
            kernel: 25,
            pool: 3,
            dense: 1024,
            dropout: 0.5,
            epochs: 40,
            batch: 50,
            patience: 10,
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
pub(super) struct ByteCnn;

impl NetworkModel for ByteCnn {
    type Parameters = ByteCnnParameters;
    const NAME: &'static str = "byte_cnn";
    const VERSION: u32 = VERSION;
    const TOO_SHORT: &'static str = "the features contain no bytes; raise feature.packets or feature.bytes";
    const SIZES: &'static str = "model.byte_cnn.channels or dense";
    const BATCH: &'static str = "model.byte_cnn.batch";

    fn check(parameters: &ByteCnnParameters) -> Result<(), String> {
        let ByteCnnParameters { channels: [first, second], kernel, pool, dense, dropout, .. } = *parameters;
        check_sizes(&[
            ("channels", first),
            ("channels", second),
            ("kernel", kernel),
            ("pool", pool),
            ("dense", dense),
        ])?;
        check_shares(&[("dropout", dropout)])
    }

    fn training(parameters: &ByteCnnParameters) -> Training<'_> {
        training_of!(parameters)
    }

    fn input(input: Input) -> InputOptions {
        InputOptions::plain(input)
    }

    fn network(parameters: &ByteCnnParameters, columns: Columns, classes: usize) -> Network {
        let ByteCnnParameters { channels: [first, second], kernel, pool, dense, dropout, .. } = *parameters;
        let bytes = columns.others;
        let pooled = bytes.div_ceil(pool);
        let branch = Branch::new(
            Size { steps: bytes, channels: 1 },
            vec![
                Layer::convolution("conv1", first, kernel, same(bytes, kernel, 1)),
                Layer::Relu,
                Layer::MaxPool { size: pool, stride: pool, padding: same(bytes, pool, pool) },
                Layer::convolution("conv2", second, kernel, same(pooled, kernel, 1)),
                Layer::Relu,
                Layer::MaxPool { size: pool, stride: pool, padding: same(pooled, pool, pool) },
                Layer::linear("fc1", dense),
                Layer::Relu,
                Layer::Dropout { number: 0, rate: dropout },
            ],
        );
        Network { branches: vec![branch], trunk: vec![Layer::linear("fc2", classes)], classes }
    }

    fn scaling(_: &ByteCnnParameters, _: &Array2<f32>, _: Columns) -> Vec<f64> {
        Vec::new()
    }

    fn scaling_size(_: Columns) -> usize {
        0
    }

    fn scale(_: &[f64], _: Columns, _: &Network, row: ArrayView1<'_, f32>, scaled: &mut [f32]) {
        for (scaled, &token) in scaled.iter_mut().zip(row) {
            *scaled = if token == f32::from(PAD) { 0.0 } else { (token + 1.0) / 256.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr1;

    #[test]
    fn parameters_are_as_many_as_in_the_original() {
        let network = ByteCnn::network(&ByteCnnParameters::default(), Columns { sequences: 0, others: 784 }, 12);
        let known = network.specifications().unwrap();
        // w_conv1, b_conv1, w_conv2, b_conv2, w_fc1, b_fc1, w_fc2, b_fc2 of encrypt_traffic_cnn_1d.py.
        let expected = 25 * 32 + 32 + 25 * 32 * 64 + 64 + 88 * 64 * 1024 + 1024 + 1024 * 12 + 12;
        assert_eq!(known.iter().map(|known| known.count()).sum::<usize>(), expected);
        let steps: Vec<usize> = network.chains().unwrap()[0].sizes().unwrap().iter().map(|size| size.steps).collect();
        assert_eq!(steps[..7], [784, 784, 784, 262, 262, 262, 88]);
    }

    #[test]
    fn absent_bytes_differ_from_zero_bytes() {
        let mut scaled = [9.0; 3];
        let columns = Columns { sequences: 0, others: 3 };
        let network = ByteCnn::network(&ByteCnnParameters::default(), columns, 2);
        ByteCnn::scale(&[], columns, &network, arr1(&[0.0, 255.0, 256.0]).view(), &mut scaled);
        assert_eq!(scaled, [1.0 / 256.0, 1.0, 0.0]);
    }
}
