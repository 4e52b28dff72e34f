//! A self-contained pre-trained ELMo: a safetensors file with its parameters, and a card that documents what it was
//! trained on and how, so that an experiment can check whether it is compatible and whether it has seen the flows to be
//! tested. Packets are stored as hashes, 64 bits of SHA-256 each. A file that was damaged or modified is rejected.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::source::{CorpusPart, Excluded};
use crate::deep::parameters::{AttentionLstmOptions, ElmoOptions, ParameterSet, elmo_specifications};
use crate::stored::broken;
use crate::{EpochRecord, Implementation, ModelArchive, ModelError, Tensor, TensorData};
use etcbench_feature::{TokenOptions, VOCABULARY};
use etcbench_flow::FlowOptions;

/// Version of the card's format.
const FORMAT: u32 = 1;
/// The kind of model in the file's metadata.
const KIND: &str = "elmo";
const CARD: &str = "card";
const CHECKSUM: &str = "sha256";
/// Names of the tensors of hashes.
const RECORDED: &str = "seen.recorded";
const READ: &str = "seen.read";
/// Size of the largest file that is read.
const MAXIMUM_BYTES: u64 = 16 << 30;

/// A capture that packets were drawn from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenCapture {
    /// Name of the dataset.
    pub dataset: String,
    /// Path of the capture in the dataset's folder.
    pub capture: String,
    /// SHA-256 of the capture, without archive and compression.
    pub sha256: String,
    /// Number of flows with a drawn packet.
    pub flows: u64,
    /// Number of drawn packets.
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

/// Documents a pre-trained ELMo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElmoCard {
    /// Version of this card's format.
    pub format: u32,
    /// Version of etcbench.
    pub version: String,
    /// The project's git commit; `None` outside a repository.
    pub commit: Option<String>,
    /// Seed of the draw, the initial values and the order of packets.
    pub seed: u64,
    /// The implementation that trained it.
    pub implementation: Implementation,
    /// The device it was trained on.
    pub device: String,
    /// The split it was made for; `None` if nothing was excluded.
    pub held_out: Option<HeldOutSplit>,
    /// What was drawn from each dataset.
    pub parts: Vec<CorpusPart>,
    /// The captures that packets were drawn from.
    pub captures: Vec<SeenCapture>,
    /// How flows were built.
    pub flow: FlowOptions,
    /// Which packets and bytes were read, and how they were masked.
    pub tokens: TokenOptions,
    /// Sizes and settings.
    pub elmo: ElmoOptions,
    /// The training curve.
    pub epochs: Vec<EpochRecord>,
}

impl ElmoCard {
    /// The format version that this build writes.
    pub const FORMAT: u32 = FORMAT;

    fn validate(&self) -> Result<(), ModelError> {
        if self.format != FORMAT {
            let Self { format, version, .. } = self;
            return Err(broken(format!(
                "written by etcbench {version} in format {format}; this version reads format {FORMAT}; pre-train it \
                 again"
            )));
        }
        let problem = |error: &dyn std::fmt::Display| broken(format!("card: {error}"));
        AttentionLstmOptions { elmo: self.elmo.clone(), ..AttentionLstmOptions::default() }.validate()?;
        self.flow.validate().map_err(|error| problem(&error))?;
        self.tokens.validate(&self.flow).map_err(|error| problem(&error))
    }
}

/// Hashes of the drawn packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenPackets {
    /// Hashes of their first bytes from the IP header on, as recorded.
    pub recorded: BTreeSet<u64>,
    /// Hashes of their tokens, as read.
    pub read: BTreeSet<u64>,
}

/// A pre-trained ELMo with its card.
#[derive(Debug, Clone, PartialEq)]
pub struct ElmoFile {
    /// Its card.
    pub card: ElmoCard,
    /// Its parameters.
    pub parameters: ParameterSet,
    /// The packets it has seen.
    pub seen: SeenPackets,
}

/// Returns the SHA-256 of the bytes truncated to 64 bits, used to compare packets.
pub fn content_hash(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    u64::from_le_bytes(digest[..8].try_into().expect("SHA-256 has 32 bytes"))
}

impl ElmoFile {
    /// Serializes the file; the same ELMo always produces the same bytes.
    ///
    /// # Errors
    /// Parameters that do not match their shapes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        let mut archive = ModelArchive::default();
        let card = serde_json::to_string(&self.card).map_err(|error| broken(error.to_string()))?;
        archive.metadata.insert("model".to_owned(), KIND.to_owned());
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
    /// A file that cannot be read, is not a pre-trained ELMo, is damaged or is inconsistent; the error names the file.
    pub fn read(path: &Path) -> Result<(Self, String), ModelError> {
        let read = || {
            let problem = |error: std::io::Error| broken(error.to_string());
            let size = std::fs::metadata(path).map_err(problem)?.len();
            if size > MAXIMUM_BYTES {
                return Err(broken(format!("the file has {size} bytes, more than any pre-trained ELMo")));
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
        if archive.metadata.get("model").map(String::as_str) != Some(KIND) {
            return Err(broken("not a pre-trained ELMo; `etcbench pretrain` writes one"));
        }
        let expected = archive.metadata.remove(CHECKSUM);
        if expected != Some(hex::encode(Sha256::digest(archive.to_bytes()?))) {
            return Err(broken("checksum mismatch: the file was damaged or modified; copy it again"));
        }
        let card = archive.metadata.get(CARD).ok_or_else(|| broken("it has no card; pre-train it again"))?;
        let card: ElmoCard = serde_json::from_str(card).map_err(|error| broken(format!("card: {error}")))?;
        card.validate()?;
        let hashes = |name: &str| match archive.tensors.get(name) {
            Some(Tensor { data: TensorData::U8(bytes), .. }) if bytes.len().is_multiple_of(8) => {
                let hash = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
                Ok(bytes.chunks_exact(8).map(hash).collect())
            }
            _ => Err(broken(format!("tensor {name} is missing or is not a list of hashes"))),
        };
        let seen = SeenPackets { recorded: hashes(RECORDED)?, read: hashes(READ)? };
        let parameters = ParameterSet::load(&archive, &elmo_specifications(&card.elmo, VOCABULARY, card.tokens.bytes))?;
        if let Some(name) = parameters.first_non_finite() {
            return Err(broken(format!("parameter {name} contains a number that is not finite")));
        }
        Ok(Self { card, parameters, seen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deep::parameters::initial_elmo;

    fn file() -> ElmoFile {
        let elmo = ElmoOptions { embedding: 2, hidden: 2, layers: 1, ..ElmoOptions::default() };
        let part = CorpusPart { name: "a".to_owned(), captures: 1, flows: 1, packets: 2, left_over: 0 };
        let card = ElmoCard {
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
            tokens: TokenOptions::default(),
            elmo: elmo.clone(),
            epochs: Vec::new(),
        };
        let seen = SeenPackets { recorded: [7, u64::MAX].into(), read: [1].into() };
        ElmoFile { card, parameters: initial_elmo(&elmo, VOCABULARY, 8, 3), seen }
    }

    #[test]
    fn files_survive_the_round_trip_and_damage_is_refused() {
        let file = file();
        let bytes = file.to_bytes().unwrap();
        assert_eq!(bytes, file.to_bytes().unwrap());
        assert_eq!(ElmoFile::from_bytes(&bytes).unwrap(), file);
        for place in (0..bytes.len()).step_by(97) {
            assert!(ElmoFile::from_bytes(&bytes[..place]).is_err());
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            assert!(ElmoFile::from_bytes(&damaged).is_err(), "byte {place}");
        }
    }

    #[test]
    fn other_files_and_forms_are_refused() {
        let mut other = file();
        other.card.format = 9;
        let error = ElmoFile::from_bytes(&other.to_bytes().unwrap()).unwrap_err().to_string();
        assert!(error.contains("in format 9"), "{error}");
        let error = ElmoFile::from_bytes(&ModelArchive::default().to_bytes().unwrap()).unwrap_err().to_string();
        assert!(error.contains("etcbench pretrain"), "{error}");
        let mut broken = file();
        broken.parameters.values_mut("elmo.head.bias").unwrap()[0] = f32::NAN;
        assert!(ElmoFile::from_bytes(&broken.to_bytes().unwrap()).is_err());
    }
}
