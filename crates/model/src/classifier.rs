//! The one trait that all models meet, and what passes through it.

use std::path::PathBuf;
use std::time::Duration;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::external::{Failure, Usage};
use super::{ExpectedMemory, FitSize, ModelArchive, ModelKind, Pretraining};
use etcbench_feature::{FeatureSet, SequenceOptions};
use etcbench_storage::progress::Progress;
use etcbench_storage::{Claim, Turn};

/// Which of a model's two implementations runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Implementation {
    /// This project's own, or the fastest crate that was measured.
    #[default]
    Fast,
    /// Short and on a published crate: the definition of what is computed.
    Reference,
}

impl Implementation {
    /// The name in files, records and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Reference => "reference",
        }
    }

    /// What stands in the place of the name for a model that is a program outside.
    pub const EXTERNAL: &'static str = "external";

    /// What stands in the place of the name for predictions that were made elsewhere, and only scored here.
    pub const IMPORTED: &'static str = "imported";

    /// Whether this is the name of the one that runs unless an experiment says otherwise.
    pub fn is_default(name: &str) -> bool {
        name == Self::default().name()
    }
}

/// What a model reads of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The first M bytes of the first N packets.
    Bytes,
    /// The flow statistics.
    Statistics,
    /// Both, side by side.
    BytesAndStatistics,
    /// Signed lengths and inter-arrival times of the first K packets.
    Sequences,
    /// The flow statistics and the packet sequences, side by side.
    SequencesAndStatistics,
    /// Bytes and sequences, side by side.
    BytesAndSequences,
    /// FlowPics.
    Flowpic,
    /// All of bytes, statistics and sequences.
    All,
    /// What other models of the run read.
    Members,
}

impl Input {
    /// Those that models on columns read.
    pub const CLASSICAL: [Self; 6] = [
        Self::Bytes,
        Self::Statistics,
        Self::BytesAndStatistics,
        Self::Sequences,
        Self::SequencesAndStatistics,
        Self::Flowpic,
    ];

    /// The name in files, records and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Statistics => "statistics",
            Self::BytesAndStatistics => "bytes_and_statistics",
            Self::Sequences => "sequences",
            Self::SequencesAndStatistics => "sequences_and_statistics",
            Self::BytesAndSequences => "bytes_and_sequences",
            Self::Flowpic => "flowpic",
            Self::All => "all",
            Self::Members => "members",
        }
    }

    /// What a model reads unless an experiment says otherwise: bytes, where it can.
    pub fn default_of(kind: ModelKind) -> Self {
        let inputs = kind.entry().inputs;
        if inputs.contains(&Self::Bytes) { Self::Bytes } else { inputs[0] }
    }

    /// Whether the bytes of packets are read.
    pub fn reads_bytes(self) -> bool {
        matches!(self, Self::Bytes | Self::BytesAndStatistics | Self::BytesAndSequences | Self::All)
    }

    /// Whether the flow statistics are read.
    pub fn reads_statistics(self) -> bool {
        matches!(self, Self::Statistics | Self::BytesAndStatistics | Self::SequencesAndStatistics | Self::All)
    }

    /// Whether FlowPics are read.
    pub fn reads_flowpic(self) -> bool {
        self == Self::Flowpic
    }

    /// Whether packet sequences are read.
    pub fn reads_sequences(self) -> bool {
        matches!(self, Self::Sequences | Self::BytesAndSequences | Self::SequencesAndStatistics | Self::All)
    }
}

/// Where the deep model trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// A CUDA device.
    Cuda(CudaDevice),
}

/// A CUDA device and how it takes matrix products. Printed as the number, with the precision behind it unless that is
/// the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CudaDevice {
    /// The card, counted from 0 as the driver does.
    pub number: usize,
    /// Of matrix products.
    pub precision: Precision,
}

impl std::fmt::Display for CudaDevice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.precision {
            Precision::F32 => write!(formatter, "{}", self.number),
            precision => write!(formatter, "{} {}", self.number, precision.name()),
        }
    }
}

/// How a CUDA device takes matrix products; values in memory and all sums are in single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// In single precision; that of published results.
    #[default]
    F32,
    /// Factors rounded to 10 bits of mantissa (NVIDIA's TF32).
    Tf32,
    /// Factors rounded to 7 bits of mantissa (bfloat16).
    Bf16,
}

impl Precision {
    /// All, in order of their error.
    pub const ALL: [Self; 3] = [Self::F32, Self::Tf32, Self::Bf16];

    /// The name on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}

/// A model as an experiment file asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// Which model.
    pub kind: ModelKind,
    /// What it reads.
    pub input: Input,
    /// Which implementation.
    pub implementation: Implementation,
    /// The model's own keys; each model parses them with unknown keys denied, every key optional.
    pub parameters: toml::Table,
}

/// The key of [`ModelSpec::parameters`] that names what a deep model reads of each packet beside its bytes.
pub const PACKET_METADATA: &str = "packet_metadata";

impl ModelSpec {
    /// What records say of its implementation: `fast`, `reference` or `external`.
    pub fn implementation_name(&self) -> &'static str {
        if self.kind.entry().external.is_some() { Implementation::EXTERNAL } else { self.implementation.name() }
    }

    /// Whether it, or one of its members, reads the bytes of packets.
    pub fn reads_bytes(&self) -> bool {
        self.input.reads_bytes() || self.members().iter().any(Self::reads_bytes)
    }

    /// Whether it, or one of its members, reads the flow statistics.
    pub fn reads_statistics(&self) -> bool {
        self.input.reads_statistics() || self.members().iter().any(Self::reads_statistics)
    }

    /// Whether it, or one of its members, reads packet sequences: as its input, or beside the bytes of packets.
    pub fn reads_sequences(&self) -> bool {
        self.input.reads_sequences() || self.reads_metadata() || self.members().iter().any(Self::reads_sequences)
    }

    /// Whether it, or one of its members, reads FlowPics.
    pub fn reads_flowpic(&self) -> bool {
        self.input.reads_flowpic() || self.members().iter().any(Self::reads_flowpic)
    }

    /// Refuses packet sequences that it, or one of its members, cannot read.
    ///
    /// # Errors
    /// Too few packets, or another transformation than its keys ask for.
    pub fn check_sequences(&self, sequences: &SequenceOptions) -> Result<(), ModelError> {
        if self.input.reads_sequences() {
            (self.kind.entry().sequences)(&self.parameters, sequences)?;
        }
        self.members().iter().try_for_each(|member| member.check_sequences(sequences))
    }

    /// Whether it reads lengths, directions or times beside the bytes of packets.
    pub fn reads_metadata(&self) -> bool {
        let named = self.parameters.get(PACKET_METADATA).and_then(toml::Value::as_array);
        named.is_some_and(|named| !named.is_empty())
    }
}

/// Some rows of a feature set.
#[derive(Clone, Copy)]
pub struct Examples<'a> {
    /// The features of all flows.
    pub features: &'a FeatureSet,
    /// The rows meant, in this order.
    pub rows: &'a [usize],
}

impl Examples<'_> {
    /// The classes of the rows, in their order.
    pub fn labels(&self) -> Vec<u32> {
        self.rows.iter().map(|&row| self.features.labels[row]).collect()
    }
}

/// Keeps costly intermediate results (a pre-trained ELMo) between fits. The caller's key must name
/// everything that determines the bytes.
pub trait ArtifactStore: Send + Sync {
    /// The bytes stored under `key`, if any.
    fn get(&self, key: &str) -> Option<Vec<u8>>;
    /// Stores `bytes` under `key`; failing to store is not an error of the fit.
    fn put(&self, key: &str, bytes: &[u8]);
    /// The bytes stored under `key`, or the right to compute them as the output of `stage`, which ends when the claim
    /// is dropped. Where the store is shared, waits for whoever is computing the same.
    fn look_up(&self, _stage: &str, key: &str, _progress: &dyn Progress) -> Turn<Vec<u8>> {
        self.get(key).map_or_else(|| Turn::Ours(Claim::nothing()), Turn::Ready)
    }
    /// Forgets what is stored under `key`, if anything, once the fit is stored; failing to is not an error of the fit.
    fn remove(&self, _key: &str) {}
    /// How often a long training leaves a checkpoint here, from which the same fit continues after it was killed;
    /// `None` for a store that does not want any.
    fn checkpoint_interval(&self) -> Option<Duration> {
        None
    }
}

/// Keeps nothing.
pub struct NoArtifacts;

impl ArtifactStore for NoArtifacts {
    fn get(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
    fn put(&self, _: &str, _: &[u8]) {}
}

/// What a fit is given beside the examples.
pub struct FitContext<'a> {
    /// The run's seed; models split it by purpose with [`etcbench_storage::seed`].
    pub seed: u64,
    /// Where the deep model trains.
    pub device: Device,
    /// Told of every stage and epoch.
    pub progress: &'a dyn Progress,
    /// Keeps costly intermediate results between fits.
    pub artifacts: &'a dyn ArtifactStore,
}

/// Wall time of one part of a fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// The part, such as `elmo_pretraining`.
    pub stage: String,
    /// Wall time in seconds; of the original computation where an artifact was reused.
    pub wall_seconds: f64,
    /// How many samples went through (packets or flows, times epochs).
    pub samples: u64,
}

/// One epoch of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The part, such as `elmo_pretraining`.
    pub stage: String,
    /// From 1.
    pub epoch: usize,
    /// Mean training loss per target.
    pub training_loss: f64,
    /// Mean validation loss per target, where there is a validation split.
    pub validation_loss: Option<f64>,
    /// Macro F1 on the validation split, for classifiers.
    pub validation_macro_f1: Option<f64>,
}

/// What a fit tells beside the model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FitReport {
    /// Wall time of each part.
    pub stages: Vec<StageTime>,
    /// Training curves.
    pub epochs: Vec<EpochRecord>,
    /// Anything a reader of the results should know, such as a solver that stopped at its limit.
    pub notes: Vec<String>,
    /// What the ELMo was pre-trained on, where that is not the training part alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretraining: Option<Pretraining>,
}

/// Why a model could not be built, fitted, used or read.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A key of the model's table is unknown or its value cannot be used.
    #[error("[model.{model}]: {problem}")]
    Parameters {
        /// The model's name.
        model: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The data cannot be fitted.
    #[error("{model}: {problem}")]
    Data {
        /// The model's name.
        model: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Training left the finite numbers.
    #[error("{model}: {stage} diverged in {place}: {problem}")]
    Diverged {
        /// The model's name.
        model: String,
        /// The part of the fit.
        stage: String,
        /// The layer or parameter.
        place: String,
        /// What was seen and what to do.
        problem: String,
    },
    /// The device asked for is not there.
    #[error("device {device}: {problem}")]
    Device {
        /// As given on the command line.
        device: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An external model failed.
    #[error(transparent)]
    External(Box<Failure>),
    /// A stored model cannot be read.
    #[error("{}: {problem}", path.as_ref().map_or("model file".to_owned(), |path| path.display().to_string()))]
    File {
        /// The file, where known.
        path: Option<PathBuf>,
        /// What is wrong and what to do.
        problem: String,
    },
}

/// A model that can be fitted, asked for probabilities, and stored.
pub trait Classifier: Send {
    /// Fits to the training rows; the validation rows serve early stopping only. Test rows are never
    /// seen here.
    ///
    /// # Errors
    /// Data that cannot be fitted, training that diverged, a device that is missing.
    fn fit(
        &mut self,
        training: Examples<'_>,
        validation: Examples<'_>,
        context: &FitContext<'_>,
    ) -> Result<FitReport, ModelError>;

    /// How much memory [`fit`](Self::fit), predicting and saving are expected to take beside the features; nothing unless
    /// the model says otherwise.
    fn expected_memory(&self, _size: &FitSize) -> ExpectedMemory {
        ExpectedMemory::default()
    }

    /// Class probabilities, shape `[rows, classes]`; each row sums to 1.
    ///
    /// # Errors
    /// A model that was not fitted, or features of another shape than those it was fitted on.
    fn predict_probabilities(&self, examples: Examples<'_>, progress: &dyn Progress)
    -> Result<Array2<f32>, ModelError>;

    /// Holds what the model says of rows to what it says of the same rows asked otherwise; nothing for models of this
    /// program, which its tests hold. Called after predicting was timed.
    ///
    /// # Errors
    /// Answers that depend on how they are asked for.
    fn check_answers(&self, _examples: Examples<'_>, _progress: &dyn Progress) -> Result<(), ModelError> {
        Ok(())
    }

    /// What processes of its own have taken since they were started; none where there are none.
    fn used_outside(&self) -> Option<Usage> {
        None
    }

    /// The fitted model as a file's content; loading it predicts the same bits.
    ///
    /// # Errors
    /// A model that was not fitted.
    fn save(&self) -> Result<ModelArchive, ModelError>;
}
