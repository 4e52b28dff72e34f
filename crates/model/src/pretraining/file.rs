//! A self-contained pre-trained model: a safetensors file with its parameters, and a card that documents what it was
//! trained on and how, so that an experiment can check whether it is compatible and whether it has seen the flows to be
//! tested. Samples are stored as hashes, 64 bits of SHA-256 each. A file that was damaged or modified is rejected.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::source::{CorpusPart, Excluded};
use super::{ParameterSet, Pretrainable};
use crate::stored::broken;
use crate::{EpochRecord, Implementation, ModelArchive, ModelError, Tensor, TensorData};
use etcbench_feature::TokenOptions;
use etcbench_flow::FlowOptions;

/// Version of the card's format. In version 1 `settings` was called `elmo`.
const FORMAT: u32 = 2;
/// Key of the kind of model in the file's metadata.
const KIND: &str = "model";
const CARD: &str = "card";
const CHECKSUM: &str = "sha256";
/// Names of the tensors of hashes.
const RECORDED: &str = "seen.recorded";
const READ: &str = "seen.read";
/// Size of the largest file that is read.
const MAXIMUM_BYTES: u64 = 16 << 30;

/// A capture that samples were drawn from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenCapture {
    /// Name of the dataset.
    pub dataset: String,
    /// Path of the capture in the dataset's folder.
    pub capture: String,
    /// SHA-256 of the capture, without archive and compression.
    pub sha256: String,
    /// Number of drawn flows, or of flows with a drawn packet.
    pub flows: u64,
    /// Number of drawn packets, or of packets in the drawn flows.
    pub packets: u64,
}

/// The split whose test and validation flows were excluded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutSplit {
    /// Name of the experiment.
    pub experiment: String,
    /// Its datasets.
    pub datasets: Vec<String>,
    /// Its size.
    pub size: String,
    /// Its variant.
    pub variant: String,
    /// Seed of the split.
    pub seed: u64,
    /// Fold, counted from 0.
    pub fold: usize,
    /// What was excluded.
    pub excluded: Excluded,
}

/// Documents a pre-trained model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainingCard {
    /// Version of this card's format.
    pub format: u32,
    /// Version of etcbench.
    pub version: String,
    /// The project's git commit; `None` outside a repository.
    pub commit: Option<String>,
    /// Seed of the draw, the initial values and the order of samples.
    pub seed: u64,
    /// The implementation that trained it.
    pub implementation: Implementation,
    /// The device it was trained on.
    pub device: String,
    /// The split it was made for; `None` if nothing was excluded.
    pub held_out: Option<HeldOutSplit>,
    /// What was drawn from each dataset.
    pub parts: Vec<CorpusPart>,
    /// The captures that samples were drawn from.
    pub captures: Vec<SeenCapture>,
    /// How flows were built.
    pub flow: FlowOptions,
    /// Which packets and bytes were read, and how they were masked.
    pub tokens: TokenOptions,
    /// Sizes and settings, with the keys of an experiment file.
    #[serde(alias = "elmo")]
    pub settings: serde_json::Value,
    /// The training curve.
    pub epochs: Vec<EpochRecord>,
}

impl PretrainingCard {
    /// The format version that this build writes.
    pub const FORMAT: u32 = FORMAT;

    fn validate(&self) -> Result<(), ModelError> {
        if !(1..=FORMAT).contains(&self.format) {
            let Self { format, version, .. } = self;
            return Err(broken(format!(
                "written by etcbench {version} in format {format}; this version reads formats up to {FORMAT}; \
                 pre-train it again"
            )));
        }
        let problem = |error: &dyn std::fmt::Display| broken(format!("card: {error}"));
        self.flow.validate().map_err(|error| problem(&error))?;
        self.tokens.validate(&self.flow).map_err(|error| problem(&error))
    }
}

/// Hashes of the drawn samples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenSamples {
    /// Hashes of their first bytes from the IP header on, as recorded.
    pub recorded: BTreeSet<u64>,
    /// Hashes of their tokens, as read.
    pub read: BTreeSet<u64>,
}

/// A pre-trained model with its card.
#[derive(Debug, Clone)]
pub struct PretrainedFile {
    /// The model.
    pub model: Pretrainable,
    /// Its card.
    pub card: PretrainingCard,
    /// Its parameters.
    pub parameters: ParameterSet,
    /// The samples it has seen.
    pub seen: SeenSamples,
}

/// Returns the SHA-256 of the bytes truncated to 64 bits, used to compare samples.
pub fn content_hash(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    u64::from_le_bytes(digest[..8].try_into().expect("SHA-256 has 32 bytes"))
}

impl PretrainedFile {
    /// Serializes the file; the same model always produces the same bytes.
    ///
    /// # Errors
    /// Parameters that do not match their shapes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        let mut archive = ModelArchive::default();
        let card = serde_json::to_string(&self.card).map_err(|error| broken(error.to_string()))?;
        archive.metadata.insert(KIND.to_owned(), self.model.1.kind.to_owned());
        archive.metadata.insert(CARD.to_owned(), card);
        self.parameters.store(&mut archive);
        for (name, hashes) in [(RECORDED, &self.seen.recorded), (READ, &self.seen.read)] {
            let bytes = hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
            archive.tensors.insert(name.to_owned(), Tensor::u8(bytes));
        }
        let checksum = hex::encode(Sha256::digest(archive.to_bytes()?));
        archive.metadata.insert(CHECKSUM.to_owned(), checksum);
        archive.to_bytes()
    }

    /// Reads a file, and returns its SHA-256 too.
    ///
    /// # Errors
    /// A file that cannot be read, is not a pre-trained model, is damaged or is inconsistent; the error names the file.
    pub fn read(path: &Path) -> Result<(Self, String), ModelError> {
        let read = || {
            let problem = |error: std::io::Error| broken(error.to_string());
            let size = std::fs::metadata(path).map_err(problem)?.len();
            if size > MAXIMUM_BYTES {
                return Err(broken(format!("the file has {size} bytes, more than any pre-trained model")));
            }
            let bytes = std::fs::read(path).map_err(problem)?;
            Ok((Self::from_bytes(&bytes)?, hex::encode(Sha256::digest(&bytes))))
        };
        read().map_err(|error| match error {
            ModelError::File { path: None, problem } => ModelError::File { path: Some(path.to_owned()), problem },
            other => other,
        })
    }

    /// Parses a file's bytes.
    ///
    /// # Errors
    /// See [`Self::read`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let mut archive = ModelArchive::from_bytes(bytes)?;
        let model = archive.metadata.get(KIND).and_then(|kind| Pretrainable::of_file(kind));
        let model = model.ok_or_else(|| broken("not a pre-trained model; `etcbench pretrain` writes one"))?;
        let expected = archive.metadata.remove(CHECKSUM);
        if expected != Some(hex::encode(Sha256::digest(archive.to_bytes()?))) {
            return Err(broken("checksum mismatch: the file was damaged or modified; copy it again"));
        }
        let card = archive.metadata.get(CARD).ok_or_else(|| broken("it has no card; pre-train it again"))?;
        let card: PretrainingCard = serde_json::from_str(card).map_err(|error| broken(format!("card: {error}")))?;
        card.validate()?;
        let hashes = |name: &str| match archive.tensors.get(name) {
            Some(Tensor { data: TensorData::U8(bytes), .. }) if bytes.len().is_multiple_of(8) => {
                let hash = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
                Ok(bytes.chunks_exact(8).map(hash).collect())
            }
            _ => Err(broken(format!("tensor {name} is missing or is not a list of hashes"))),
        };
        let seen = SeenSamples { recorded: hashes(RECORDED)?, read: hashes(READ)? };
        let specifications = (model.1.specifications)(&card.settings, &card.tokens)?;
        let parameters = ParameterSet::load(&archive, &specifications)?;
        if let Some(name) = parameters.first_non_finite() {
            return Err(broken(format!("parameter {name} contains a number that is not finite")));
        }
        Ok(Self { model, card, parameters, seen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelKind;

    /// Returns a file of every model that is pre-trained, in its smallest size.
    fn files() -> Vec<PretrainedFile> {
        let file = |model: Pretrainable| {
            let mut settings = model.settings(&toml::Table::new()).unwrap();
            for (key, small) in [("embedding", 2), ("hidden", 2), ("layers", 1), ("heads", 1), ("patch", 2)] {
                if let Some(value) = settings.get_mut(key) {
                    *value = small.into();
                }
            }
            let tokens = TokenOptions { packets: 2, bytes: 8, ..TokenOptions::default() };
            let part = CorpusPart { name: "a".to_owned(), captures: 1, flows: 1, packets: 2, left_over: 0 };
            let mut parameters = ParameterSet::default();
            for known in (model.1.specifications)(&settings, &tokens).unwrap() {
                let values = (0..known.count()).map(|place| place as f32).collect();
                parameters.insert(&known.name, &known.shape, values);
            }
            let card = PretrainingCard {
                format: FORMAT,
                version: "0".to_owned(),
                commit: None,
                seed: 3,
                implementation: Implementation::Fast,
                device: "cpu".to_owned(),
                held_out: None,
                parts: vec![part],
                captures: Vec::new(),
                flow: FlowOptions::default(),
                tokens,
                settings,
                epochs: Vec::new(),
            };
            let seen = SeenSamples { recorded: [7, u64::MAX].into(), read: [1].into() };
            PretrainedFile { model, card, parameters, seen }
        };
        Pretrainable::all().map(file).collect()
    }

    #[test]
    fn files_survive_the_round_trip_and_damage_is_refused() {
        let files = files();
        assert!(files.len() > 1 && files.iter().any(|file| file.model.kind() == ModelKind::proposed()));
        for file in files {
            let bytes = file.to_bytes().unwrap();
            assert_eq!(bytes, file.to_bytes().unwrap());
            let read = PretrainedFile::from_bytes(&bytes).unwrap();
            assert_eq!((&read.card, &read.parameters, &read.seen), (&file.card, &file.parameters, &file.seen));
            assert_eq!(read.model.kind(), file.model.kind());
            for place in (0..bytes.len()).step_by(97) {
                assert!(PretrainedFile::from_bytes(&bytes[..place]).is_err());
                let mut damaged = bytes.clone();
                damaged[place] ^= 1;
                assert!(PretrainedFile::from_bytes(&damaged).is_err(), "byte {place}");
            }
        }
    }

    #[test]
    fn other_files_and_forms_are_refused() {
        for file in files() {
            let mut other = file.clone();
            other.card.format = 9;
            let error = PretrainedFile::from_bytes(&other.to_bytes().unwrap()).unwrap_err().to_string();
            assert!(error.contains("in format 9"), "{error}");
            let mut unknown = file.clone();
            unknown.card.settings["smv"] = 1.into();
            let error = PretrainedFile::from_bytes(&unknown.to_bytes().unwrap()).unwrap_err().to_string();
            assert!(error.contains("smv"), "{error}");
            let mut infinite = file.clone();
            let name = infinite.parameters.iter().next().unwrap().0.to_owned();
            infinite.parameters.values_mut(&name).unwrap()[0] = f32::NAN;
            assert!(PretrainedFile::from_bytes(&infinite.to_bytes().unwrap()).is_err());
        }
        let error = PretrainedFile::from_bytes(&ModelArchive::default().to_bytes().unwrap()).unwrap_err().to_string();
        assert!(error.contains("etcbench pretrain"), "{error}");
    }

    #[test]
    fn a_card_of_the_first_format_is_read() {
        for file in files().into_iter().filter(|file| file.model.kind() == ModelKind::proposed()) {
            let mut card = serde_json::to_value(&file.card).unwrap();
            card["format"] = 1.into();
            card["elmo"] = card.as_object_mut().unwrap().remove("settings").unwrap();
            let read: PretrainingCard = serde_json::from_value(card).unwrap();
            read.validate().unwrap();
            assert_eq!(read.settings, file.card.settings);
        }
    }
}
