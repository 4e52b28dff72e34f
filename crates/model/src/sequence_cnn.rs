//! CESNET's multimodal network over packet sequences (mm-CESNET v2: Luxemburk and Hynek, "Encrypted traffic
//! classification: the QUIC case", TMA 2023), as in `cesnet_models/architectures/multimodal_cesnet.py` of
//! CESNET/cesnet-models: seven convolutions over times, directions and lengths and a generalised mean over the
//! remaining steps, and, if statistics are read too, a parallel branch of dense layers over these. Tensor names are
//! those of its state dict.
//!
//! Times and lengths are read as `[feature.sequences]` builds them (logarithms by default), standardised over the
//! packets of the training rows. Absent packets stay 0 in every channel, as in the original, whose convolutions read
//! them and whose mean counts them. The original clips instead of taking logarithms.

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
    inputs: &[Input::Sequences, Input::SequencesAndStatistics],
    agreement: Some(AgreementBound {
        agreement: 0.85,
        macro_f1: 0.05,
        reason: "same initial weights; sums in another order diverge over epochs",
    }),
    ..Classical::<Fitted<SequenceCnn>>::entry(
        "Convolutions over lengths, directions and times of packets, optionally with statistics (mm-CESNET v2).",
    )
};

/// `[model.sequence_cnn]`; default sizes, optimiser and schedule are those of mm-CESNET v2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SequenceCnnParameters {
    /// Channels of the first four convolutions, of the next two, and of the last; default 200, 300, 300.
    pub channels: [usize; 3],
    /// Number of convolutions after the first that preserve the length; default 3.
    pub blocks: usize,
    /// Size of the layers over the statistics; default 225.
    pub statistics: usize,
    /// Number of such layers between the first and the last; default 2.
    pub statistics_layers: usize,
    /// Size of the layer over both branches; default 600.
    pub shared: usize,
    /// Share dropped after the mean over steps; default 0.1.
    pub dropout: f32,
    /// Share dropped after the layers over the statistics; default 0.1.
    pub statistics_dropout: f32,
    /// Share dropped after the layer over both branches; default 0.2.
    pub shared_dropout: f32,
    /// Maximum passes over the training flows; default 30.
    pub epochs: usize,
    /// Flows per step; default 64.
    pub batch: usize,
    /// Epochs without a better validation macro F1 before training stops; default 30, which never stops it early:
    /// `one_cycle` ends with its smallest steps.
    pub patience: usize,
    /// `adamw` (default) or `adamax`.
    pub optimiser: OptimiserKind,
    /// Learning rate, the largest of `one_cycle`; default 0.001.
    pub learning_rate: f32,
    /// `one_cycle` (default), `cosine` or `constant`.
    pub learning_rate_schedule: LearningRateSchedule,
    /// Decoupled weight decay; default 0.01.
    pub weight_decay: f32,
    /// Share of each target that is spread over all classes; default 0.
    pub label_smoothing: f32,
    /// `none` (default), `balanced` or a table of numbers by class name.
    pub class_weights: ClassWeights,
}

impl Default for SequenceCnnParameters {
    fn default() -> Self {
        Self {
            channels: [200, 300, 300],
            blocks: 3,
            statistics: 225,
            statistics_layers: 2,
            shared: 600,
            dropout: 0.1,
            statistics_dropout: 0.1,
            shared_dropout: 0.2,
            epochs: 30,
            batch: 64,
            patience: 30,
            optimiser: OptimiserKind::Adamw,
            learning_rate: 0.001,
            learning_rate_schedule: LearningRateSchedule::OneCycle,
            weight_decay: 0.01,
            label_smoothing: 0.0,
            class_weights: ClassWeights::default(),
        }
    }
}

/// The network.
pub(super) struct SequenceCnn;

/// Time, direction and length.
const CHANNELS: usize = 3;

/// Appends a convolution or linear layer, its rectifier and its normalisation.
fn normalised(layers: &mut Vec<Layer>, layer: Layer, norm: String) {
    layers.extend([layer, Layer::Relu, Layer::norm(norm)]);
}

/// Returns seven convolutions (with three blocks), of which the last three shorten the sequence, and the mean over the
/// remaining steps.
fn convolutions(parameters: &SequenceCnnParameters, packets: usize) -> Branch {
    let [first, second, third] = parameters.channels;
    let (blocks, mut layers) = (parameters.blocks, Vec::new());
    normalised(&mut layers, Layer::convolution("cnn_ppi.0", first, 7, [3, 3]), "cnn_ppi.2".to_owned());
    for block in 3..3 + blocks {
        let convolution = Layer::convolution(format!("cnn_ppi.{block}.0"), first, 5, [2, 2]);
        normalised(&mut layers, convolution, format!("cnn_ppi.{block}.2"));
    }
    for next in [3 + blocks, 6 + blocks] {
        let convolution = Layer::convolution(format!("cnn_ppi.{next}"), second, 5, [0, 0]);
        normalised(&mut layers, convolution, format!("cnn_ppi.{}", next + 2));
    }
    let name = format!("cnn_ppi.{}", 9 + blocks);
    layers.extend([
        Layer::Convolution { name, outputs: third, kernel: 4, stride: 2, padding: [0, 0] },
        Layer::Relu,
        Layer::GeneralisedMean { name: "cnn_global_pooling.0".to_owned() },
        Layer::norm("cnn_global_pooling.2"),
        Layer::Dropout { number: 0, rate: parameters.dropout },
    ]);
    Branch::new(Size { steps: packets, channels: CHANNELS }, layers)
}

/// Returns the dense layers over the statistics.
fn dense(parameters: &SequenceCnnParameters, statistics: usize) -> Branch {
    let (size, between, mut layers) = (parameters.statistics, parameters.statistics_layers, Vec::new());
    normalised(&mut layers, Layer::linear("mlp_flowstats.0", size), "mlp_flowstats.2".to_owned());
    for layer in 3..3 + between {
        let linear = Layer::linear(format!("mlp_flowstats.{layer}.0"), size);
        normalised(&mut layers, linear, format!("mlp_flowstats.{layer}.2"));
    }
    let last = Layer::linear(format!("mlp_flowstats.{}", 3 + between), size);
    normalised(&mut layers, last, format!("mlp_flowstats.{}", 5 + between));
    layers.push(Layer::Dropout { number: 1, rate: parameters.statistics_dropout });
    Branch::new(Size { steps: 1, channels: statistics }, layers)
}

impl NetworkModel for SequenceCnn {
    type Parameters = SequenceCnnParameters;
    const NAME: &'static str = "sequence_cnn";
    const VERSION: u32 = VERSION;
    const TOO_SHORT: &'static str =
        "the convolutions need sequences of at least 12 packets; raise feature.sequences.packets (the original has 30)";
    const SIZES: &'static str = "model.sequence_cnn.channels, statistics or shared";
    const BATCH: &'static str = "model.sequence_cnn.batch";

    fn check(parameters: &SequenceCnnParameters) -> Result<(), String> {
        let SequenceCnnParameters { channels: [first, second, third], blocks, statistics_layers, .. } = *parameters;
        check_sizes(&[
            ("channels", first),
            ("channels", second),
            ("channels", third),
            ("statistics", parameters.statistics),
            ("shared", parameters.shared),
        ])?;
        for (key, value) in [("blocks", blocks), ("statistics_layers", statistics_layers)] {
            if value > 64 {
                return Err(format!("{key} = {value} must be at most 64"));
            }
        }
        check_shares(&[
            ("dropout", parameters.dropout),
            ("statistics_dropout", parameters.statistics_dropout),
            ("shared_dropout", parameters.shared_dropout),
        ])
    }

    fn training(parameters: &SequenceCnnParameters) -> Training<'_> {
        training_of!(parameters)
    }

    fn input(input: Input) -> InputOptions {
        InputOptions { log_scale: true, ..InputOptions::plain(input) }
    }

    fn network(parameters: &SequenceCnnParameters, columns: Columns, classes: usize) -> Network {
        let mut branches = vec![convolutions(parameters, columns.sequences / 2)];
        if columns.others > 0 {
            branches.push(dense(parameters, columns.others));
        }
        let mut trunk = Vec::new();
        normalised(&mut trunk, Layer::linear("mlp_shared.0", parameters.shared), "mlp_shared.2".to_owned());
        trunk.push(Layer::Dropout { number: 2, rate: parameters.shared_dropout });
        trunk.push(Layer::linear("classifier", classes));
        Network { branches, trunk, classes }
    }

    /// Returns mean and deviation of lengths and of times over all packets, and of each statistic over all rows.
    fn scaling(_: &SequenceCnnParameters, training: &Array2<f32>, columns: Columns) -> Vec<f64> {
        let packets = || training.outer_iter().flat_map(move |row| packets(row, columns).collect::<Vec<_>>());
        let mut scaling = Vec::with_capacity(Self::scaling_size(columns));
        scaling.extend(moments(|| packets().map(|(length, _)| length.abs())));
        scaling.extend(moments(|| packets().map(|(_, time)| time)));
        for statistic in 0..columns.others {
            scaling.extend(moments(|| training.column(statistic).into_iter().copied()));
        }
        scaling
    }

    fn scaling_size(columns: Columns) -> usize {
        2 * (2 + columns.others)
    }

    fn scale(scaling: &[f64], columns: Columns, _: &Network, row: ArrayView1<'_, f32>, scaled: &mut [f32]) {
        let (scaling, _) = scaling.as_chunks::<2>();
        let by = |value: f32, [mean, deviation]: [f64; 2]| ((f64::from(value) - mean) / deviation) as f32;
        scaled.fill(0.0);
        let (sequence, statistics) = scaled.split_at_mut(columns.sequences / 2 * CHANNELS);
        for ((length, time), packet) in packets(row, columns).zip(sequence.chunks_exact_mut(CHANNELS)) {
            packet.copy_from_slice(&[by(time, scaling[1]), length.signum(), by(length.abs(), scaling[0])]);
        }
        for ((scaled, &value), &by_moments) in statistics.iter_mut().zip(row).zip(&scaling[2..]) {
            *scaled = by(value, by_moments);
        }
    }
}

/// Returns the signed length and the time of each packet of a flow; no packet has length 0.
fn packets<'a>(row: ArrayView1<'a, f32>, columns: Columns) -> impl Iterator<Item = (f32, f32)> + 'a {
    let pairs = (columns.others..columns.others + columns.sequences).step_by(2);
    pairs.map(move |column| (row[column], row[column + 1])).take_while(|(length, _)| *length != 0.0)
}

/// Returns mean and standard deviation; the deviation is 1 if all values are equal or there are none.
fn moments<I: Iterator<Item = f32>>(values: impl Fn() -> I) -> [f64; 2] {
    let count = (values().count() as f64).max(1.0);
    let mean = values().map(f64::from).sum::<f64>() / count;
    let variance = values().map(|value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
    let deviation = variance.sqrt();
    // Rounding of the mean leaves a tiny deviation in a constant column.
    [mean, if deviation > 1e-9 * mean.abs() && deviation > 0.0 { deviation } else { 1.0 }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn parameters_are_as_many_as_in_the_original() {
        let network =
            SequenceCnn::network(&SequenceCnnParameters::default(), Columns { sequences: 60, others: 43 }, 102);
        let known = network.specifications().unwrap();
        let trained = known.iter().filter(|known| !known.name.contains("running"));
        // `num_params` of `MM_CESNET_V2_Weights.CESNET_QUIC22_Week44`.
        assert_eq!(trained.map(|known| known.count()).sum::<usize>(), 2_261_653);
        let names = known.iter().map(|known| known.name.as_str()).collect::<Vec<_>>();
        assert!(
            ["cnn_ppi.0.weight", "cnn_ppi.5.2.running_var", "cnn_ppi.12.bias", "mlp_flowstats.7.weight"]
                .iter()
                .all(|name| names.contains(name)),
            "{names:?}"
        );
    }

    #[test]
    fn sequences_of_fewer_than_twelve_packets_are_too_short() {
        let network = |packets: usize| {
            let columns = Columns { sequences: 2 * packets, others: 0 };
            SequenceCnn::network(&SequenceCnnParameters::default(), columns, 3)
        };
        assert!(network(12).specifications().is_some());
        assert!(network(11).specifications().is_none());
    }

    #[test]
    fn packets_are_standardised_together_and_absent_ones_stay_zero() {
        let columns = Columns { sequences: 6, others: 1 };
        let rows = arr2(&[[5.0, 3.0, 0.0, -1.0, 2.0, 0.0, 0.0], [7.0, -5.0, 4.0, 0.0, 0.0, 0.0, 0.0]]);
        let scaling = SequenceCnn::scaling(&Default::default(), &rows, columns);
        assert_eq!(scaling.len(), SequenceCnn::scaling_size(columns));
        // Lengths 3, 1, 5 and times 0, 2, 4.
        let deviation = (8.0_f64 / 3.0).sqrt();
        assert_eq!(scaling, [3.0, deviation, 2.0, deviation, 6.0, 1.0]);
        let mut scaled = [9.0; 10];
        let network = SequenceCnn::network(&Default::default(), columns, 2);
        SequenceCnn::scale(&scaling, columns, &network, rows.row(0), &mut scaled);
        let unit = (2.0 / deviation) as f32;
        assert_eq!(scaled, [-unit, 1.0, 0.0, 0.0, -1.0, -unit, 0.0, 0.0, 0.0, -1.0]);
        let constant = arr2(&[[0.1_f32, 1.0, 1.0], [0.1, 1.0, 1.0], [0.1, 1.0, 1.0]]);
        assert_eq!(SequenceCnn::scaling(&Default::default(), &constant, Columns { sequences: 2, others: 1 })[5], 1.0);
    }
}
