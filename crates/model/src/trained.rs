//! A self-contained trained model: the fitted model's file plus everything needed to classify flows of any capture. It
//! is the safetensors file of [`ModelArchive`] with two more metadata entries: `description`, how flows and features
//! are built and which classes exist, and `sha256`, a checksum of everything else. A file that was damaged, or edited
//! by hand, is rejected.

use std::collections::BTreeSet;
use std::path::Path;

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    Classifier, Examples, Implementation, Input, ModelArchive, ModelError, ModelKind, factory, stored, stored::broken,
};
use etcbench_dataset::LabelledFlow;
use etcbench_feature::{FlowpicOptions, PacketColumns, SequenceOptions, TokenOptions, Unusable, unlabelled_features};
use etcbench_flow::{FlowOptions, STATISTIC_NAMES};
use etcbench_storage::progress::Progress;

/// Version of the description's format.
const FORMAT: u32 = 1;
const DESCRIPTION: &str = "description";
const CHECKSUM: &str = "sha256";

/// Size of the largest file that is read.
const MAXIMUM_BYTES: u64 = 16 << 30;

/// Maximum number of tokens per prediction batch, whatever the number of flows.
const TOKENS_AT_A_TIME: usize = 1 << 20;

/// Maximum number of flows per prediction batch.
const FLOWS_AT_A_TIME: usize = 1024;

/// Where a trained model came from, and how to build the flows it reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelDescription {
    /// Version of this description's format.
    pub format: u32,
    /// Version of etcbench.
    pub version: String,
    /// The project's git commit; `None` outside a repository.
    pub commit: Option<String>,
    /// The experiment that trained the model.
    pub experiment: String,
    /// The dataset it was trained on.
    pub dataset: String,
    /// Size of the experiment.
    pub size: String,
    /// Variant of the experiment.
    pub variant: String,
    /// Which model.
    pub model: ModelKind,
    /// Its input.
    pub input: Input,
    /// Its implementation.
    pub implementation: Implementation,
    /// Seed of the run.
    pub seed: u64,
    /// Fold, counted from 0.
    pub fold: usize,
    /// Number of training rows.
    pub training_flows: usize,
    /// The classes, in the order of the model's probabilities.
    pub classes: Vec<String>,
    /// Flows with fewer packets are not classified.
    pub minimum_packets: u64,
    /// How flows are delimited, and what is kept of them.
    pub flow: FlowOptions,
    /// Which bytes are read, and how they are masked.
    pub tokens: TokenOptions,
    /// The packet sequences; `None` if the model reads none.
    pub sequences: Option<SequenceOptions>,
    /// The FlowPics; `None` if the model reads none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flowpic: Option<FlowpicOptions>,
    /// Names of the statistics, in order.
    pub statistic_names: Vec<String>,
}

impl ModelDescription {
    /// The format version that this build writes.
    pub const FORMAT: u32 = FORMAT;

    /// Checks that flows can be built as described.
    fn validate(&self) -> Result<(), ModelError> {
        if self.format != FORMAT {
            let Self { format, version, .. } = self;
            return Err(broken(format!(
                "written by etcbench {version} in format {format}; this version reads format {FORMAT}; train it again"
            )));
        }
        let problem = |error: &dyn std::fmt::Display| broken(format!("description: {error}"));
        self.flow.validate().map_err(|error| problem(&error))?;
        self.tokens.validate(&self.flow).map_err(|error| problem(&error))?;
        if let Some(sequences) = &self.sequences {
            sequences.validate(&self.flow).map_err(|error| problem(&error))?;
        }
        if let Some(flowpic) = &self.flowpic {
            flowpic.validate(&self.flow).map_err(|error| problem(&error))?;
        }
        if self.classes.is_empty() || self.classes.iter().collect::<BTreeSet<_>>().len() < self.classes.len() {
            return Err(broken("description: the list of classes is empty or has a duplicate"));
        }
        if self.statistic_names != STATISTIC_NAMES {
            return Err(broken(format!(
                "its flow statistics are not those of this version (it was trained {}); train it again on captures",
                if self.statistic_names.len() == STATISTIC_NAMES.len() {
                    format!("by etcbench {}", self.version)
                } else {
                    "on a table of features, or by another version".to_owned()
                }
            )));
        }
        Ok(())
    }
}

/// How a model classified one flow.
#[derive(Debug, Clone, PartialEq)]
pub enum Classification {
    /// Probabilities of the classes, in the order of [`ModelDescription::classes`]; they sum to 1.
    Probabilities(Vec<f32>),
    /// Not classified, because there is nothing to read.
    Unusable(Unusable),
}

/// A trained model, ready to classify flows.
pub struct TrainedModel {
    description: ModelDescription,
    classifier: Box<dyn Classifier>,
}

/// Builds the file of a trained model from the model's own file and its description.
///
/// # Errors
/// Bytes that are not a model file.
pub fn trained_model_bytes(model: &[u8], description: &ModelDescription) -> Result<Vec<u8>, ModelError> {
    let mut archive = ModelArchive::from_bytes(model)?;
    let text = serde_json::to_string(description).map_err(|error| broken(error.to_string()))?;
    archive.metadata.insert(DESCRIPTION.to_owned(), text);
    let checksum = hex::encode(Sha256::digest(archive.to_bytes()?));
    archive.metadata.insert(CHECKSUM.to_owned(), checksum);
    archive.to_bytes()
}

impl TrainedModel {
    /// Reads a trained model's file.
    ///
    /// # Errors
    /// A file that cannot be read or is over 16 GiB, and the errors of [`Self::from_bytes`], with the file's name.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        at(path, file_bytes(path).and_then(|bytes| Self::from_bytes(&bytes)))
    }

    /// Parses the bytes of a trained model's file.
    ///
    /// # Errors
    /// Bytes that are not a trained model's file, are damaged, or are inconsistent with themselves or with this
    /// version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let (archive, description) = described(bytes)?;
        description.validate()?;
        let (classes, named) = (stored::class_count(&archive)?, description.classes.len());
        if classes != named {
            return Err(broken(format!("the description lists {named} classes, but the model has {classes}")));
        }
        Ok(Self { description, classifier: factory::load(&archive)? })
    }

    /// Returns where the model came from and what it reads.
    pub fn description(&self) -> &ModelDescription {
        &self.description
    }

    /// Returns the best number of flows per call of [`Self::classify`].
    pub fn flows_at_a_time(&self) -> usize {
        let tokens = &self.description.tokens;
        (TOKENS_AT_A_TIME / (tokens.packets * tokens.bytes)).clamp(1, FLOWS_AT_A_TIME)
    }

    /// Classifies flows that were built with the description's flow options; their labels are ignored.
    ///
    /// # Errors
    /// A model that does not match its description.
    pub fn classify(&self, flows: &[LabelledFlow], progress: &dyn Progress) -> Result<Vec<Classification>, ModelError> {
        let ModelDescription { tokens, sequences, flowpic, minimum_packets, classes, .. } = &self.description;
        let columns = PacketColumns { sequences: sequences.as_ref(), flowpic: flowpic.as_ref() };
        let (features, left) = unlabelled_features(flows, tokens, columns, *minimum_packets, classes.clone())
            .map_err(|error| broken(error.to_string()))?;
        let rows: Vec<usize> = (0..features.len()).collect();
        let probabilities = if rows.is_empty() {
            Array2::zeros((0, classes.len()))
        } else {
            self.classifier.predict_probabilities(Examples { features: &features, rows: &rows }, progress)?
        };
        if probabilities.dim() != (rows.len(), classes.len()) {
            return Err(broken(format!(
                "the description lists {} classes, but the model has {}",
                classes.len(),
                probabilities.ncols()
            )));
        }
        let mut rows = probabilities.rows().into_iter();
        let answer = |left: Option<Unusable>| match left {
            Some(reason) => Classification::Unusable(reason),
            None => Classification::Probabilities(rows.next().map(|row| row.to_vec()).unwrap_or_default()),
        };
        Ok(left.into_iter().map(answer).collect())
    }
}

/// Returns the archive without its checksum, after verifying it, and the description.
fn described(bytes: &[u8]) -> Result<(ModelArchive, ModelDescription), ModelError> {
    let mut archive = ModelArchive::from_bytes(bytes)?;
    let Some(text) = archive.metadata.get(DESCRIPTION) else {
        return Err(broken("its description is missing; save models with `etcbench run ... --save-models`"));
    };
    // The description contains the model's name, which only parses if an external model is registered first.
    super::external::of_archive(&archive)?;
    let description: Result<ModelDescription, _> = serde_json::from_str(text);
    let expected = archive.metadata.remove(CHECKSUM);
    let found = hex::encode(Sha256::digest(archive.to_bytes()?));
    if expected.as_deref() != Some(found.as_str()) {
        return Err(broken("checksum mismatch: the file was damaged or modified; copy it again"));
    }
    Ok((archive, description.map_err(|error| broken(format!("description: {error}")))?))
}

/// Returns the description of a trained model's file after verifying its checksum, without building the model.
///
/// # Errors
/// See [`TrainedModel::read`].
pub fn model_description(path: &Path) -> Result<ModelDescription, ModelError> {
    at(path, file_bytes(path).and_then(|bytes| described(&bytes))).map(|(_, description)| description)
}

fn file_bytes(path: &Path) -> Result<Vec<u8>, ModelError> {
    let problem = |error: std::io::Error| broken(error.to_string());
    let size = std::fs::metadata(path).map_err(problem)?.len();
    if size > MAXIMUM_BYTES {
        return Err(broken(format!("the file has {size} bytes, more than any model of etcbench")));
    }
    std::fs::read(path).map_err(problem)
}

/// Adds the file's path to an error.
fn at<T>(path: &Path, result: Result<T, ModelError>) -> Result<T, ModelError> {
    result.map_err(|error| match error {
        ModelError::File { path: None, problem } => ModelError::File { path: Some(path.to_owned()), problem },
        other => other,
    })
}

#[cfg(test)]
#[path = "trained_tests.rs"]
mod tests;
