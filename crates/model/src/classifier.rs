//! The trait that all models implement, and its input and output types.

use std::path::PathBuf;
use std::time::Duration;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::external::{Failure, Gpu, Usage};
use super::pretraining::PretrainingSource;
use super::{ExpectedMemory, FitSize, ModelArchive, ModelKind, Pretraining};
use etcbench_feature::{FeatureSet, SequenceOptions};
use etcbench_storage::progress::Progress;
use etcbench_storage::{Claim, Turn};

/// One of a model's two implementations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Implementation {
    /// This project's own code, or the fastest crate that was measured.
    #[default]
    Fast,
    /// Short and built on a published crate: defines what is computed.
    Reference,
}

impl Implementation {
    /// Returns the name in files, records and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Reference => "reference",
        }
    }

    /// Used instead of the name for a model that is an external program.
    pub const EXTERNAL: &'static str = "external";

    /// Used instead of the name for predictions that were made elsewhere and only scored here.
    pub const IMPORTED: &'static str = "imported";

    /// Returns whether this is the name of the default implementation.
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
    /// Both, concatenated.
    BytesAndStatistics,
    /// Signed lengths and inter-arrival times of the first K packets.
    Sequences,
    /// The flow statistics and the packet sequences, concatenated.
    SequencesAndStatistics,
    /// Bytes and sequences, concatenated.
    BytesAndSequences,
    /// FlowPics.
    Flowpic,
    /// Bytes, statistics and sequences.
    All,
    /// Whatever the other models of the run read.
    Members,
}

impl Input {
    /// The inputs of the classical models.
    pub const CLASSICAL: [Self; 6] = [
        Self::Bytes,
        Self::Statistics,
        Self::BytesAndStatistics,
        Self::Sequences,
        Self::SequencesAndStatistics,
        Self::Flowpic,
    ];

    /// Returns the name in files, records and tables.
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

    /// Returns a model's default input: bytes, if it can read them.
    pub fn default_of(kind: ModelKind) -> Self {
        let inputs = kind.entry().inputs;
        if inputs.contains(&Self::Bytes) { Self::Bytes } else { inputs[0] }
    }

    /// Returns whether the bytes of packets are read.
    pub fn reads_bytes(self) -> bool {
        matches!(self, Self::Bytes | Self::BytesAndStatistics | Self::BytesAndSequences | Self::All)
    }

    /// Returns whether the flow statistics are read.
    pub fn reads_statistics(self) -> bool {
        matches!(self, Self::Statistics | Self::BytesAndStatistics | Self::SequencesAndStatistics | Self::All)
    }

    /// Returns whether FlowPics are read.
    pub fn reads_flowpic(self) -> bool {
        self == Self::Flowpic
    }

    /// Returns whether packet sequences are read.
    pub fn reads_sequences(self) -> bool {
        matches!(self, Self::Sequences | Self::BytesAndSequences | Self::SequencesAndStatistics | Self::All)
    }
}

/// Where a deep model trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The CPU.
    #[default]
    Cpu,
    /// A CUDA device.
    Cuda(CudaDevice),
}

/// A CUDA device and the precision of its matrix products. Displayed as the number, followed by the precision if that
/// is not the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CudaDevice {
    /// Number of the GPU, counted from 0 as the driver does.
    pub number: usize,
    /// Precision of matrix products.
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

/// Precision of the matrix products on a CUDA device; values in memory and all sums are in single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Single precision, as in published results.
    #[default]
    F32,
    /// Factors rounded to 10 bits of mantissa (NVIDIA's TF32).
    Tf32,
    /// Factors rounded to 7 bits of mantissa (bfloat16).
    Bf16,
}

impl Precision {
    /// All precisions, in increasing order of error.
    pub const ALL: [Self; 3] = [Self::F32, Self::Tf32, Self::Bf16];

    /// Returns the name on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}

/// A model as specified in an experiment file.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// Which model.
    pub kind: ModelKind,
    /// Its input.
    pub input: Input,
    /// Its implementation.
    pub implementation: Implementation,
    /// The model's own keys; each model rejects unknown keys, and every key is optional.
    pub parameters: toml::Table,
}

/// The key of [`ModelSpec::parameters`] that lists what a deep model reads of each packet in addition to its bytes.
pub const PACKET_METADATA: &str = "packet_metadata";

impl ModelSpec {
    /// Returns the implementation's name in records: `fast`, `reference` or `external`.
    pub fn implementation_name(&self) -> &'static str {
        if self.kind.entry().external.is_some() { Implementation::EXTERNAL } else { self.implementation.name() }
    }

    /// Returns whether the model, or one of its members, reads the bytes of packets.
    pub fn reads_bytes(&self) -> bool {
        self.input.reads_bytes() || self.members().iter().any(Self::reads_bytes)
    }

    /// Returns whether the model, or one of its members, reads the flow statistics.
    pub fn reads_statistics(&self) -> bool {
        self.input.reads_statistics() || self.members().iter().any(Self::reads_statistics)
    }

    /// Returns whether the model, or one of its members, reads packet sequences: as its input, or in addition to the
    /// bytes of packets.
    pub fn reads_sequences(&self) -> bool {
        self.input.reads_sequences() || self.reads_metadata() || self.members().iter().any(Self::reads_sequences)
    }

    /// Returns whether the model, or one of its members, reads FlowPics.
    pub fn reads_flowpic(&self) -> bool {
        self.input.reads_flowpic() || self.members().iter().any(Self::reads_flowpic)
    }

    /// Returns whether the model, or one of its members, uses a GPU if one is available.
    pub fn can_use_gpu(&self) -> bool {
        let entry = self.kind.entry();
        let external = entry.external.is_some_and(|package| package.manifest.needs.gpu != Gpu::None);
        entry.deep || external || self.members().iter().any(Self::can_use_gpu)
    }

    /// Rejects packet sequences that the model, or one of its members, cannot read.
    ///
    /// # Errors
    /// Too few packets, or a different transformation than its keys require.
    pub fn check_sequences(&self, sequences: &SequenceOptions) -> Result<(), ModelError> {
        if self.input.reads_sequences() {
            (self.kind.entry().sequences)(&self.parameters, sequences)?;
        }
        self.members().iter().try_for_each(|member| member.check_sequences(sequences))
    }

    /// Returns whether the model reads lengths, directions or times in addition to the bytes of packets.
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
    /// The selected rows, in this order.
    pub rows: &'a [usize],
}

impl Examples<'_> {
    /// Returns the class of each row, in order.
    pub fn labels(&self) -> Vec<u32> {
        self.rows.iter().map(|&row| self.features.labels[row]).collect()
    }
}

/// Stores expensive intermediate results (such as a pre-trained ELMo) between fits. The caller's key must include everything
/// that determines the bytes.
pub trait ArtifactStore: Send + Sync {
    /// Returns the bytes stored under `key`, if any.
    fn get(&self, key: &str) -> Option<Vec<u8>>;
    /// Stores `bytes` under `key`; failing to store them does not fail the fit.
    fn put(&self, key: &str, bytes: &[u8]);
    /// Returns the bytes stored under `key`, or the right to compute them as the output of `stage`, which lasts until
    /// the claim is dropped. If the store is shared, waits while another process computes the same artifact.
    fn look_up(&self, _stage: &str, key: &str, _progress: &dyn Progress) -> Turn<Vec<u8>> {
        self.get(key).map_or_else(|| Turn::Ours(Claim::nothing()), Turn::Ready)
    }
    /// Removes what is stored under `key`, if anything, once the fit is stored; failing to remove it does not fail the
    /// fit.
    fn remove(&self, _key: &str) {}
    /// Returns how often a long training saves a checkpoint here, from which the same fit can resume after it was
    /// killed; `None` if the store does not accept checkpoints.
    fn checkpoint_interval(&self) -> Option<Duration> {
        None
    }
    /// Returns the key of the fit that the store is used by, which covers everything that determines it; `None` if
    /// there is no such key.
    fn fit_key(&self) -> Option<&str> {
        None
    }
}

/// A store that keeps nothing.
pub struct NoArtifacts;

impl ArtifactStore for NoArtifacts {
    fn get(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
    fn put(&self, _: &str, _: &[u8]) {}
}

/// The context of a fit, in addition to the examples.
pub struct FitContext<'a> {
    /// Seed of the run; models derive their own seeds by purpose with [`etcbench_storage::seed`].
    pub seed: u64,
    /// Where deep models train.
    pub device: Device,
    /// Notified of every stage and epoch.
    pub progress: &'a dyn Progress,
    /// Stores expensive intermediate results between fits.
    pub artifacts: &'a dyn ArtifactStore,
    /// What the model is pre-trained on, if that is not the training part alone.
    pub pretraining: Option<&'a PretrainingSource>,
}

/// Wall time of one part of a fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// The part, such as `elmo_pretraining`.
    pub stage: String,
    /// Wall time in seconds; if an artifact was reused, that of the original computation.
    pub wall_seconds: f64,
    /// Number of samples processed (packets or flows, times epochs).
    pub samples: u64,
}

/// One epoch of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The part, such as `elmo_pretraining`.
    pub stage: String,
    /// Counted from 1.
    pub epoch: usize,
    /// Mean training loss per target.
    pub training_loss: f64,
    /// Mean validation loss per target, if there is a validation split.
    pub validation_loss: Option<f64>,
    /// Macro F1 on the validation split, for classifiers.
    pub validation_macro_f1: Option<f64>,
}

/// The results of a fit in addition to the model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FitReport {
    /// Wall time of each part.
    pub stages: Vec<StageTime>,
    /// Training curves.
    pub epochs: Vec<EpochRecord>,
    /// Anything a reader of the results should know, such as a solver that stopped at its limit.
    pub notes: Vec<String>,
    /// What the model was pre-trained on, if that is not the training part alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretraining: Option<Pretraining>,
    /// What the program of an external model says of its own speed.
    #[serde(default, skip_serializing_if = "Claims::are_none")]
    pub claims: Claims,
}

/// What the program of an external model says of its own speed, for comparison with what is measured from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// Seconds of the fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit_seconds: Option<f64>,
    /// Microseconds to predict one flow, one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub microseconds_per_flow: Option<f64>,
}

impl Claims {
    /// Returns whether there is none.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a model could not be built, fitted, used or read.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A key of the model's table is unknown or its value cannot be used.
    #[error("[model.{model}]: {problem}")]
    Parameters {
        /// The model's name.
        model: String,
        /// The problem and how to fix it.
        problem: String,
    },
    /// The data cannot be fitted.
    #[error("{model}: {problem}")]
    Data {
        /// The model's name.
        model: String,
        /// The problem and how to fix it.
        problem: String,
    },
    /// Training produced a value that is not finite.
    #[error("{model}: {stage} diverged in {place}: {problem}")]
    Diverged {
        /// The model's name.
        model: String,
        /// The part of the fit.
        stage: String,
        /// The layer or parameter.
        place: String,
        /// What was observed and how to fix it.
        problem: String,
    },
    /// The requested device is not available.
    #[error("device {device}: {problem}")]
    Device {
        /// As given on the command line.
        device: String,
        /// The problem and how to fix it.
        problem: String,
    },
    /// An external model failed.
    #[error(transparent)]
    External(Box<Failure>),
    /// A stored model cannot be read.
    #[error("{}: {problem}", path.as_ref().map_or("model file".to_owned(), |path| path.display().to_string()))]
    File {
        /// Path of the file, if known.
        path: Option<PathBuf>,
        /// The problem and how to fix it.
        problem: String,
    },
}

/// A model that can be fitted, predict probabilities, and be saved.
pub trait Classifier: Send {
    /// Fits to the training rows; the validation rows are used for early stopping only. Test rows are never passed
    /// here.
    ///
    /// # Errors
    /// Data that cannot be fitted, training that diverged, or a missing device.
    fn fit(
        &mut self,
        training: Examples<'_>,
        validation: Examples<'_>,
        context: &FitContext<'_>,
    ) -> Result<FitReport, ModelError>;

    /// Returns how much memory [`fit`](Self::fit), predicting and saving are expected to use in addition to the
    /// features; the default is none.
    fn expected_memory(&self, _size: &FitSize) -> ExpectedMemory {
        ExpectedMemory::default()
    }

    /// Returns class probabilities, shape `[rows, classes]`; each row sums to 1.
    ///
    /// # Errors
    /// A model that was not fitted, or features of another shape than those it was fitted on.
    fn predict_probabilities(&self, examples: Examples<'_>, progress: &dyn Progress)
    -> Result<Array2<f32>, ModelError>;

    /// Checks that the model predicts the same for the same rows when they are passed differently. Does nothing for
    /// built-in models, which are covered by tests. Called after the timed prediction.
    ///
    /// # Errors
    /// Predictions that depend on how the rows are passed.
    fn check_answers(&self, _examples: Examples<'_>, _progress: &dyn Progress) -> Result<(), ModelError> {
        Ok(())
    }

    /// Returns the resource usage of the model's own processes since they were started; `None` if it has none.
    fn used_outside(&self) -> Option<Usage> {
        None
    }

    /// Returns the fitted model as a file's content; the loaded model's predictions are bit-identical.
    ///
    /// # Errors
    /// A model that was not fitted.
    fn save(&self) -> Result<ModelArchive, ModelError>;
}
