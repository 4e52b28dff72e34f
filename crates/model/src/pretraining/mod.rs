//! Pre-training on more than the training part, for every model that learns from flows without labels before it learns
//! classes: how a model states what it can be pre-trained on ([`Pretrainable`]), the corpus that an experiment draws
//! for it, and the file of one that was pre-trained earlier, with a card of what it has seen.

mod file;
mod source;

use super::deep::parameters::Specification;
use super::deep::pretrained::Pretrained;
use super::{FitContext, ModelEntry, ModelError, ModelKind, ModelSpec};
use etcbench_feature::{TokenArray, TokenOptions};
use etcbench_storage::declarative::first_repeated;

pub use super::deep::parameters::ParameterSet;
pub use file::{HeldOutSplit, PretrainedFile, PretrainingCard, SeenCapture, SeenSamples, content_hash};
pub use source::{Corpus, CorpusPart, Excluded, Pretraining, PretrainingSource, Seen, TRAINING_PART};

/// What one sample of a pre-training is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// The first M bytes of a packet.
    Packet,
    /// The first M bytes of each of a flow's first N packets.
    Flow,
}

impl Sample {
    /// Returns the packets of a sample, given those of a flow.
    pub fn packets(self, of_flow: usize) -> usize {
        match self {
            Self::Packet => 1,
            Self::Flow => of_flow,
        }
    }
}

/// The keys that state what a model is pre-trained on besides the training part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PretrainingKeys {
    /// Datasets whose samples are used in addition to those of the training part.
    pub corpus: Vec<String>,
    /// Maximum number of samples drawn from them and the training part together.
    pub samples: usize,
    /// Whether the training flows that the experiment leaves out by `training_flows_per_class` are used too.
    pub unlabelled: bool,
    /// File of one that was pre-trained earlier, relative to the project's folder; empty if there is none.
    pub pretrained: String,
    /// Whether that one may have seen test and validation flows.
    pub accept_seen: bool,
}

impl PretrainingKeys {
    /// Whether the flows that the model is fitted on are all there is.
    pub fn is_training_only(&self) -> bool {
        self.corpus.is_empty() && self.pretrained.is_empty() && !self.unlabelled
    }

    /// Rejects keys that contradict one another; `prefix` is that of the model's keys.
    ///
    /// # Errors
    /// Why.
    pub(crate) fn check(&self, prefix: &str) -> Result<(), String> {
        if !self.corpus.is_empty() && !self.pretrained.is_empty() {
            return Err(format!(
                "{prefix}corpus and {prefix}pretrained exclude each other: the model is either pre-trained on a corpus or \
                 loaded from a file"
            ));
        }
        if self.unlabelled && !self.pretrained.is_empty() {
            return Err(format!(
                "{prefix}unlabelled has no effect with {prefix}pretrained, whose pre-training is done"
            ));
        }
        match first_repeated(&self.corpus) {
            Some(name) => Err(format!("{prefix}corpus lists {name} twice; list it once")),
            None => Ok(()),
        }
    }
}

/// A key in which a file differs from what an experiment specifies, with both values.
pub type Difference = (String, String, String);

/// How a model is pre-trained.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PretrainingEntry {
    /// The kind of its files, as stated in their metadata.
    pub kind: &'static str,
    /// What it is pre-trained on.
    pub sample: Sample,
    /// What the names of its keys begin with.
    pub prefix: &'static str,
    /// Returns the keys in a model's table; `None` if these keys do not pre-train it.
    pub keys: fn(&toml::Table) -> Result<Option<PretrainingKeys>, ModelError>,
    /// Returns sizes and settings for the card, without the keys above.
    pub settings: fn(&toml::Table) -> Result<serde_json::Value, ModelError>,
    /// Returns the parameters of a file with these settings.
    pub specifications: fn(&serde_json::Value, &TokenOptions) -> Result<Vec<Specification>, ModelError>,
    /// Returns the keys that must be the same in an experiment and in the settings of a file, and are not.
    pub differences: fn(&toml::Table, &serde_json::Value) -> Result<Vec<Difference>, ModelError>,
    /// Pre-trains on the samples of the first part, or returns the stored artifact of the same pre-training; the second
    /// is only used to measure the loss.
    pub pretrain: fn(&ModelSpec, [TokenRows<'_>; 2], &FitContext<'_>) -> Result<Pretrained, ModelError>,
}

/// Some rows of a token array.
#[derive(Debug, Clone, Copy)]
pub struct TokenRows<'a> {
    /// The tokens.
    pub tokens: &'a TokenArray,
    /// The rows.
    pub rows: &'a [usize],
}

/// A model that is pre-trained before it learns classes.
#[derive(Debug, Clone, Copy)]
pub struct Pretrainable(&'static ModelEntry, PretrainingEntry);

impl Pretrainable {
    /// Returns the model as one that is pre-trained; `None` if no keys of it could.
    pub fn of(kind: ModelKind) -> Option<Self> {
        kind.entry().pretraining.map(|pretraining| Self(kind.entry(), pretraining))
    }

    /// Returns all built-in ones, in table order.
    pub fn all() -> impl Iterator<Item = Self> {
        ModelKind::all().filter_map(Self::of)
    }

    /// Returns the one whose files are of this kind.
    fn of_file(kind: &str) -> Option<Self> {
        Self::all().find(|known| known.1.kind == kind)
    }

    /// Returns the model.
    pub fn kind(self) -> ModelKind {
        ModelKind::of(self.0)
    }

    /// Returns what it is pre-trained on.
    pub fn sample(self) -> Sample {
        self.1.sample
    }

    /// Returns the full name of one of its keys, such as `model.NAME.pretrained`.
    pub fn key(self, name: &str) -> String {
        format!("model.{}.{}{name}", self.0.name, self.1.prefix)
    }

    /// Returns its sizes and settings for a card.
    ///
    /// # Errors
    /// Unknown keys and unusable values.
    pub fn settings(self, parameters: &toml::Table) -> Result<serde_json::Value, ModelError> {
        (self.1.settings)(parameters)
    }

    /// Returns the keys that must be the same in an experiment and in the settings of a file, and are not.
    ///
    /// # Errors
    /// Unknown keys and unusable values.
    pub fn differences(
        self,
        parameters: &toml::Table,
        settings: &serde_json::Value,
    ) -> Result<Vec<Difference>, ModelError> {
        (self.1.differences)(parameters, settings)
    }

    /// Pre-trains the model of `spec` on the first of the parts, or returns the stored artifact of the same
    /// pre-training; the second part is only used to measure the loss. Returns parameters and training curve.
    ///
    /// # Errors
    /// Samples that nothing can be learnt from, training that diverged, a missing device, or an unreadable artifact.
    pub fn pretrain(
        self,
        spec: &ModelSpec,
        parts: [TokenRows<'_>; 2],
        context: &FitContext<'_>,
    ) -> Result<(ParameterSet, Vec<super::EpochRecord>), ModelError> {
        let Pretrained { parameters, epochs, .. } = (self.1.pretrain)(spec, parts, context)?;
        Ok((parameters, epochs))
    }
}

/// Returns what a model's keys state about its pre-training; `None` if they do not pre-train it.
///
/// # Errors
/// Unknown keys and unusable values.
pub fn pretraining_keys(spec: &ModelSpec) -> Result<Option<PretrainingKeys>, ModelError> {
    spec.kind.entry().pretraining.map_or(Ok(None), |entry| (entry.keys)(&spec.parameters))
}

/// Returns the differences between two lists of values of the same keys.
pub(crate) fn differences_of<const N: usize>(
    names: [&str; N],
    prefix: &str,
    [requested, found]: [[String; N]; 2],
) -> Vec<Difference> {
    let all = names.into_iter().zip(requested).zip(found);
    all.filter(|((_, requested), found)| requested != found)
        .map(|((name, requested), found)| (format!("{prefix}{name}"), requested, found))
        .collect()
}
