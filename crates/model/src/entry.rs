//! What is known of a model, said once: its [`ModelEntry`], which stands beside the model in its own file. The table of
//! entries is [`MODELS`]; names, the order of tables, versions, limits, bounds and help all come from it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::elmo::{ElmoOptions, ElmoSource};
use super::external::{self, Package};
use super::{Classifier, Implementation, Input, MODELS, ModelArchive, ModelError, ModelSpec};
use etcbench_feature::SequenceOptions;

/// What the two implementations of a model must share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AgreementBound {
    /// Least share of test flows with the same prediction.
    pub agreement: f64,
    /// Largest difference of the two macro F1 values.
    pub macro_f1: f64,
    /// Why not more.
    pub reason: &'static str,
}

/// What is known of a model.
#[derive(Debug)]
pub struct ModelEntry {
    /// The name in files, records and tables.
    pub name: &'static str,
    /// What it is, in a line.
    pub summary: &'static str,
    /// Raised whenever a change to the code changes what a fit of this model computes, so that no older one is reused.
    pub version: u32,
    /// What it can read of a flow.
    pub inputs: &'static [Input],
    /// Whether a fit depends on what is read; not where only classes are counted.
    pub reads_input: bool,
    /// Whether it trains on a graphics card where there is one.
    pub deep: bool,
    /// Whether this is the model that the paper proposes, whose classes its tables list.
    pub proposed: bool,
    /// Whether an experiment that names no models has it.
    pub usual: bool,
    /// How far the implementations must agree on the task of `experiments/verify-models.toml`; none where both are the
    /// same code, and for sanity rows. Where the algorithm draws random numbers or has another loss, agreement on
    /// harder tasks is lower, as it is between two seeds of one implementation.
    pub agreement: Option<AgreementBound>,
    /// Training rows above which the reference implementation refuses to fit; of the support vector machine the rows of
    /// any two classes together. None where the implementations are one or the reference has no such size.
    pub reference_row_limit: Option<usize>,
    /// Refuses packet sequences that a model with these keys cannot read.
    pub(crate) sequences: fn(&toml::Table, &SequenceOptions) -> Result<(), ModelError>,
    /// How it takes an ELMo; none where it has none.
    pub(crate) elmo: Option<ElmoEntry>,
    /// The folder of an external model; none of a model of the table.
    pub external: Option<&'static Package>,
    /// A model as an experiment file asks for it, not fitted yet.
    pub(crate) build: fn(&ModelSpec) -> Built,
    /// A fitted model from its file.
    pub(crate) load: fn(Implementation, &ModelArchive) -> Built,
}

/// A model, or why there is none.
type Built = Result<Box<dyn Classifier>, ModelError>;

/// How a model takes an ELMo.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ElmoEntry {
    /// How the ELMo of a model's table is to be pre-trained; none where its encoder has no pre-training.
    pub options: fn(&toml::Table) -> Result<Option<ElmoOptions>, ModelError>,
    /// As [`ModelEntry::build`], with the ELMo from elsewhere than the training part alone.
    pub build: fn(&ModelSpec, ElmoSource) -> Built,
}

/// A model of the table; by its name in files.
#[derive(Clone, Copy)]
pub struct ModelKind(&'static ModelEntry);

impl ModelKind {
    /// All models, in the order of tables: the paper's first.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        MODELS.iter().map(|entry| Self(entry))
    }

    /// The model of this name in the table.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name() == name)
    }

    /// The model of this name: of the table, or else the external one in `models/`.
    ///
    /// # Errors
    /// An external model whose folder cannot be used, and a folder that has the name of a model of the table.
    pub fn find(name: &str) -> Result<Option<Self>, ModelError> {
        let external = external::named(name)?;
        Ok(Self::named(name).or(external))
    }

    /// The external model in the folder `path`, relative to the project's, under this name.
    ///
    /// # Errors
    /// A folder that is no model, or a name that is one of the table.
    pub fn at(name: &str, path: &str) -> Result<Self, ModelError> {
        external::at(name, path)
    }

    /// The model of an entry.
    pub(crate) fn of(entry: &'static ModelEntry) -> Self {
        Self(entry)
    }

    /// The names of all: of the table, then of the external ones in `models/`.
    pub fn names() -> Vec<String> {
        Self::all().map(|kind| kind.name().to_owned()).chain(external::names()).collect()
    }

    /// The model that the paper proposes.
    pub fn proposed() -> Self {
        Self::all().find(|kind| kind.entry().proposed).expect("the table has the paper's model")
    }

    /// The models of an experiment that names none.
    pub fn usual() -> impl Iterator<Item = Self> {
        Self::all().filter(|kind| kind.entry().usual)
    }

    /// Where the rows of a model stand in tables; models that are not in the table come after the others.
    pub fn rank(name: &str) -> usize {
        Self::all().position(|kind| kind.name() == name).unwrap_or(MODELS.len())
    }

    /// The name in files, records and tables.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// All that is known of it.
    pub fn entry(self) -> &'static ModelEntry {
        self.0
    }
}

impl PartialEq for ModelKind {
    fn eq(&self, other: &Self) -> bool {
        // Two contents of an external model are two models.
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
            // The words of serde's derived enums, which the readers of declarative files know.
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
    fn the_paper_proposes_one_model_and_it_has_an_elmo() {
        let proposed: Vec<ModelKind> = ModelKind::all().filter(|kind| kind.entry().proposed).collect();
        let usual: Vec<&str> = ModelKind::usual().map(ModelKind::name).collect();
        assert_eq!(usual, ["random_forest", "gradient_boosting", "majority"]);
        assert_eq!(proposed.len(), 1);
        assert!(proposed[0].entry().deep && proposed[0].entry().elmo.is_some());
    }
}
