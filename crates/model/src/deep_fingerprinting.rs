//! Deep fingerprinting (DF: Sirinam et al., "Deep fingerprinting: undermining website fingerprinting defenses with deep
//! learning", CCS 2018), as in `Model_NoDef.py` of the authors' df: four blocks of two convolutions, max pooling over
//! eight steps and dropout, then two dense layers, over the directions of a flow's packets: 1 from the sender of the
//! first packet, -1 towards it, 0 for an absent packet. The original reads 5,000 packets; any number works here.
//!
//! Normalisation uses the settings of this crate's other networks (epsilon 1e-5, running statistics updated by a
//! tenth), where Keras uses 1e-3 and a hundredth; weights are initialised as in PyTorch.

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

/// Bump whenever a code change alters what a fit computes.
const VERSION: u32 = 1;

/// The model's entry in the table of models.
pub(super) static ENTRY: ModelEntry = ModelEntry {
    version: VERSION,
    inputs: &[Input::Sequences],
    agreement: Some(AgreementBound {
        agreement: 0.6,
        macro_f1: 0.1,
        reason: "losses and gradients agree step by step, but training diverges after about fifty steps, cause unknown",
    }),
    ..Classical::<Fitted<DeepFingerprinting>>::entry(
        "Convolutions over the directions of packets (DF, Sirinam et al. 2018).",
    )
};

/// What the network reads of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reads {
    /// 1 or -1.
    Directions,
    /// The signed length, divided by its root mean square in the training rows.
    SignedLengths,
}

/// `[model.deep_fingerprinting]`; defaults for sizes and training are those of Sirinam et al. 2018.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DeepFingerprintingParameters {
    /// `directions` (default) or `signed_lengths`.
    pub reads: Reads,
    /// Channels of the blocks; default 32, 64, 128 and 256.
    pub channels: [usize; 4],
    /// Kernel size in steps; default 8.
    pub kernel: usize,
    /// Size of the pooling window in steps; default 8.
    pub pool: usize,
    /// Steps between two pooling windows; default 4.
    pub pool_stride: usize,
    /// Size of each dense layer; default 512.
    pub dense: usize,
    /// Share dropped after each block; default 0.1.
    pub dropout: f32,
    /// Shares dropped after the two dense layers; default 0.7 and 0.5.
    pub dense_dropout: [f32; 2],
    /// Maximum passes over the training flows; default 30.
    pub epochs: usize,
    /// Flows per step; default 128.
    pub batch: usize,
    /// Epochs without a better validation macro F1 before training stops; default 30, which never stops it early.
    pub patience: usize,
    /// `adamax` (default) or `adamw`.
    pub optimiser: OptimiserKind,
    /// Learning rate; default 0.002.
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

impl Default for DeepFingerprintingParameters {
    fn default() -> Self {
        Self {
            reads: Reads::Directions,
            channels: [32, 64, 128, 256],
            kernel: 8,
            pool: 8,
            pool_stride: 4,
            dense: 512,
            dropout: 0.1,
            dense_dropout: [0.7, 0.5],
            epochs: 30,
            batch: 128,
            patience: 30,
            optimiser: OptimiserKind::Adamax,
            learning_rate: 0.002,
            learning_rate_schedule: LearningRateSchedule::Constant,
            weight_decay: 0.0,
            label_smoothing: 0.0,
            class_weights: ClassWeights::default(),
        }
    }
}

/// The network.
pub(super) struct DeepFingerprinting;

impl NetworkModel for DeepFingerprinting {
    type Parameters = DeepFingerprintingParameters;
    const NAME: &'static str = "deep_fingerprinting";
    const VERSION: u32 = VERSION;
    const TOO_SHORT: &'static str = "the flows have no packet sequences; raise feature.sequences.packets";
    const SIZES: &'static str = "model.deep_fingerprinting.channels or dense";
    const BATCH: &'static str = "model.deep_fingerprinting.batch or feature.sequences.packets";

    fn check(parameters: &DeepFingerprintingParameters) -> Result<(), String> {
        let DeepFingerprintingParameters { kernel, pool, pool_stride, dense, dropout, dense_dropout, .. } = *parameters;
        for channels in parameters.channels {
            check_sizes(&[("channels", channels)])?;
        }
        check_sizes(&[("kernel", kernel), ("pool", pool), ("pool_stride", pool_stride), ("dense", dense)])?;
        if pool_stride > pool {
            return Err(format!("pool_stride = {pool_stride} must be at most pool = {pool}"));
        }
        let [first, second] = dense_dropout;
        check_shares(&[("dropout", dropout), ("dense_dropout", first), ("dense_dropout", second)])
    }

    fn training(parameters: &DeepFingerprintingParameters) -> Training<'_> {
        training_of!(parameters)
    }

    fn input(input: Input) -> InputOptions {
        InputOptions::plain(input)
    }

    fn network(parameters: &DeepFingerprintingParameters, columns: Columns, classes: usize) -> Network {
        let DeepFingerprintingParameters { channels, kernel, pool, pool_stride: stride, dense, dropout, .. } =
            *parameters;
        let packets = columns.sequences / 2;
        let (mut steps, mut layers) = (packets, Vec::new());
        for (number, outputs) in channels.into_iter().enumerate() {
            let block = number + 1;
            for layer in 1..=2 {
                layers.extend([
                    Layer::convolution(format!("block{block}_conv{layer}"), outputs, kernel, same(steps, kernel, 1)),
                    Layer::norm(format!("block{block}_norm{layer}")),
                    if number == 0 { Layer::Elu } else { Layer::Relu },
                ]);
            }
            layers.push(Layer::MaxPool { size: pool, stride, padding: same(steps, pool, stride) });
            layers.push(Layer::Dropout { number: number as u32, rate: dropout });
            steps = steps.div_ceil(stride);
        }
        let mut trunk = Vec::new();
        for (name, (number, rate)) in ["fc1", "fc2"].into_iter().zip((4..).zip(parameters.dense_dropout)) {
            trunk.extend([
                Layer::linear(name, dense),
                Layer::norm(format!("{name}_norm")),
                Layer::Relu,
                Layer::Dropout { number, rate },
            ]);
        }
        trunk.push(Layer::linear("fc3", classes));
        Network { branches: vec![Branch::new(Size { steps: packets, channels: 1 }, layers)], trunk, classes }
    }

    /// Returns the divisor of packet values: the lengths' root mean square, or 0 for directions.
    fn scaling(parameters: &DeepFingerprintingParameters, training: &Array2<f32>, columns: Columns) -> Vec<f64> {
        if parameters.reads == Reads::Directions {
            return vec![0.0];
        }
        let lengths = || training.outer_iter().flat_map(move |row| lengths(row, columns).collect::<Vec<_>>());
        let packets = lengths().filter(|&length| length != 0.0);
        let (count, squares) =
            packets.fold((0.0, 0.0), |(count, sum), length| (count + 1.0, sum + f64::from(length).powi(2)));
        vec![if squares > 0.0 { (squares / f64::max(count, 1.0)).sqrt() } else { 1.0 }]
    }

    fn scaling_size(_: Columns) -> usize {
        1
    }

    fn scale(scaling: &[f64], columns: Columns, _: &Network, row: ArrayView1<'_, f32>, scaled: &mut [f32]) {
        for (scaled, length) in scaled.iter_mut().zip(lengths(row, columns)) {
            *scaled = match scaling[0] {
                0.0 if length == 0.0 => 0.0,
                0.0 => length.signum(),
                root => (f64::from(length) / root) as f32,
            };
        }
    }
}

/// Returns the signed lengths of a flow's packets, 0 for absent ones.
fn lengths<'a>(row: ArrayView1<'a, f32>, columns: Columns) -> impl Iterator<Item = f32> + 'a {
    (columns.others..columns.others + columns.sequences).step_by(2).map(move |column| row[column])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn parameters_are_as_many_as_in_the_original() {
        let columns = Columns { sequences: 10_000, others: 0 };
        let network = DeepFingerprinting::network(&DeepFingerprintingParameters::default(), columns, 95);
        let known = network.specifications().unwrap();
        let trained = known.iter().filter(|known| !known.name.contains("running"));
        // The Keras layers of `Model_NoDef.py`: convolutions, dense layers, two parameters per normalised channel.
        let convolutions = [(1, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)];
        let expected: usize =
            convolutions.iter().map(|(inputs, outputs)| (8 * inputs + 1) * outputs + 2 * outputs).sum();
        let dense = (20 * 256 + 1) * 512 + (512 + 1) * 512 + 2 * 2 * 512 + (512 + 1) * 95;
        assert_eq!(trained.map(|known| known.count()).sum::<usize>(), expected + dense);
        // A flow of few packets also produces a network.
        let short = Columns { sequences: 2, others: 0 };
        assert!(
            DeepFingerprinting::network(&DeepFingerprintingParameters::default(), short, 2).specifications().is_some()
        );
    }

    #[test]
    fn directions_are_signs_and_lengths_are_scaled() {
        let columns = Columns { sequences: 6, others: 0 };
        let rows = arr2(&[[3.0, 1.0, -4.0, 2.0, 0.0, 0.0]]);
        for (reads, expected) in [
            (Reads::Directions, [1.0, -1.0, 0.0]),
            (Reads::SignedLengths, [3.0 / 12.5_f32.sqrt(), -4.0 / 12.5_f32.sqrt(), 0.0]),
        ] {
            let parameters = DeepFingerprintingParameters { reads, ..Default::default() };
            let scaling = DeepFingerprinting::scaling(&parameters, &rows, columns);
            let mut scaled = [9.0; 3];
            let network = DeepFingerprinting::network(&parameters, columns, 2);
            DeepFingerprinting::scale(&scaling, columns, &network, rows.row(0), &mut scaled);
            assert!(scaled.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{scaled:?}");
        }
        assert!(
            DeepFingerprinting::check(&DeepFingerprintingParameters { pool_stride: 9, ..Default::default() }).is_err()
        );
    }
}
