//! The facts about a model, stated once: its [`ModelEntry`], defined in the model's own file. [`MODELS`] lists all
//! entries; names, table order, versions, limits, bounds and help texts all come from it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::external::{self, Package};
use super::pretraining::PretrainingEntry;
use super::{Classifier, Implementation, Input, MODELS, ModelArchive, ModelError, ModelSpec};
use etcbench_feature::SequenceOptions;

/// How closely the two implementations of a model must agree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AgreementBound {
    /// Minimum share of test flows with the same prediction.
    pub agreement: f64,
    /// Maximum difference between the two macro F1 values.
    pub macro_f1: f64,
    /// Why the bound is not tighter.
    pub reason: &'static str,
}

/// The facts about a model.
#[derive(Debug)]
pub struct ModelEntry {
    /// Name in files, records and tables.
    pub name: &'static str,
    /// One-line description.
    pub summary: &'static str,
    /// Bump whenever a code change alters what a fit of this model computes, so that stale fits are not reused.
    pub version: u32,
    /// The inputs it supports.
    pub inputs: &'static [Input],
    /// Whether a fit depends on the input; false if the model only counts classes.
    pub reads_input: bool,
    /// Whether it trains on a GPU if one is available.
    pub deep: bool,
    /// Whether this is the model that the paper proposes; the tables of classes show this model.
    pub proposed: bool,
    /// Whether an experiment that lists no models includes it.
    pub usual: bool,
    /// How closely the implementations must agree on the task of `experiments/verify-models.toml`; `None` if both run
    /// the same code, and for sanity baselines. If the algorithm draws random numbers or has another loss, agreement on
    /// harder tasks is lower, as it is between two seeds of one implementation.
    pub agreement: Option<AgreementBound>,
    /// Number of training rows above which the reference implementation refuses to fit; for the support vector machine,
    /// the rows of any two classes together. `None` if both implementations are the same or the reference has no such
    /// limit.
    pub reference_row_limit: Option<usize>,
    /// Rejects packet sequences that a model with these keys cannot read.
    pub(crate) sequences: fn(&toml::Table, &SequenceOptions) -> Result<(), ModelError>,
    /// How the model is pre-trained without labels; `None` if it is not.
    pub(crate) pretraining: Option<PretrainingEntry>,
    /// Folder of an external model; `None` for a built-in model.
    pub external: Option<&'static Package>,
    /// Builds an unfitted model from its specification in an experiment file.
    pub(crate) build: fn(&ModelSpec) -> Built,
    /// Loads a fitted model from its file.
    pub(crate) load: fn(Implementation, &ModelArchive) -> Built,
}

/// A model, or why it could not be built.
type Built = Result<Box<dyn Classifier>, ModelError>;

/// A model, identified by its name in files.
#[derive(Clone, Copy)]
pub struct ModelKind(&'static ModelEntry);

impl ModelKind {
    /// Returns all built-in models in table order, the paper's first.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        MODELS.iter().map(|entry| Self(entry))
    }

    /// Returns the built-in model with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name() == name)
    }

    /// Returns the model with this name: a built-in one, or else the external one in `models/`.
    ///
    /// # Errors
    /// An external model whose folder cannot be used, or a folder with the name of a built-in model.
    pub fn find(name: &str) -> Result<Option<Self>, ModelError> {
        let external = external::named(name)?;
        Ok(Self::named(name).or(external))
    }

    /// Returns the external model in the folder `path`, relative to the project's folder, under this name.
    ///
    /// # Errors
    /// A folder that does not contain a model, or a name that belongs to a built-in model.
    pub fn at(name: &str, path: &str) -> Result<Self, ModelError> {
        external::at(name, path)
    }

    /// Wraps an entry.
    pub(crate) fn of(entry: &'static ModelEntry) -> Self {
        Self(entry)
    }

    /// Returns all names: the built-in models, then the external ones in `models/`.
    pub fn names() -> Vec<String> {
        Self::all().map(|kind| kind.name().to_owned()).chain(external::names()).collect()
    }

    /// Returns the model that the paper proposes.
    pub fn proposed() -> Self {
        Self::all().find(|kind| kind.entry().proposed).expect("the table has the paper's model")
    }

    /// Returns the models of an experiment that lists none.
    pub fn usual() -> impl Iterator<Item = Self> {
        Self::all().filter(|kind| kind.entry().usual)
    }

    /// Returns the position of a model's rows in tables; models that are not built in come after the others.
    pub fn rank(name: &str) -> usize {
        Self::all().position(|kind| kind.name() == name).unwrap_or(MODELS.len())
    }

    /// Returns the name in files, records and tables.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Returns the facts about this model.
    pub fn entry(self) -> &'static ModelEntry {
        self.0
    }
}

impl PartialEq for ModelKind {
    fn eq(&self, other: &Self) -> bool {
        // Two different contents of an external model's folder are two different models.
        self.name() == other.name() && self.0.external == other.0.external
    }
}

impl Eq for ModelKind {}

impl fmt::Debug for ModelKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Serialize for ModelKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ModelKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let external = || external::known(&name).map_or_else(|| external::named(&name), |kind| Ok(Some(kind)));
        let found = Self::named(&name).map_or_else(external, |kind| Ok(Some(kind)));
        found.map_err(serde::de::Error::custom)?.ok_or_else(|| {
            let known: Vec<String> = Self::names().iter().map(|name| format!("`{name}`")).collect();
            // The wording of serde's derived enums, which the readers of declarative files recognize.
            serde::de::Error::custom(format!("unknown variant `{name}`, expected one of {}", known.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_no_two_are_the_same() {
        for (place, kind) in ModelKind::all().enumerate() {
            assert_eq!(ModelKind::rank(kind.name()), place);
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{}\"", kind.name()));
            assert_eq!(serde_json::from_str::<ModelKind>(&json).unwrap(), kind);
            assert!(!kind.entry().inputs.is_empty() && kind.entry().version > 0 && kind.entry().summary.ends_with('.'));
        }
        assert_eq!(ModelKind::rank("smv"), ModelKind::all().len());
        let error = serde_json::from_str::<ModelKind>("\"smv\"").unwrap_err().to_string();
        assert!(error.starts_with("unknown variant `smv`, expected one of `svm`, `random_forest`, "), "{error}");
    }

    #[test]
    fn the_paper_proposes_one_model_and_it_is_pre_trained() {
        let proposed: Vec<ModelKind> = ModelKind::all().filter(|kind| kind.entry().proposed).collect();
        let usual: Vec<&str> = ModelKind::usual().map(ModelKind::name).collect();
        assert_eq!(usual, ["random_forest", "gradient_boosting", "majority"]);
        assert_eq!(proposed.len(), 1);
        assert!(proposed[0].entry().deep && proposed[0].entry().pretraining.is_some());
    }
}
