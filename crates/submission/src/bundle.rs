//! A bundle: the files of an archive and their index, `bundle.json`, which contains the size and SHA-256 of every other
//! file. The SHA-256 of the index is the bundle's identity; its first digits are part of the file name.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::SubmissionError;
use super::archive::{self, Files};
use super::rules::Finding;

/// The index's name.
pub(super) const INDEX: &str = "bundle.json";
/// The format identifier of the index. Bump whenever the meaning of its fields or files changes.
const FORMAT: &str = "etcbench-bundle-1";
/// Number of digits of the identity in a bundle's name.
const DIGITS: usize = 16;
/// The file extension of a bundle.
pub(super) const ENDING: &str = ".etcbundle";

/// `bundle.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    format: String,
    files: BTreeMap<String, Entry>,
}

/// The index entry of a file.
#[derive(Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Entry {
    bytes: u64,
    sha256: String,
}

/// A bundle.
pub struct Bundle {
    /// The name of its file, for messages.
    pub name: String,
    /// Its identity: 64 hexadecimal digits, the SHA-256 of its index.
    pub identity: String,
    pub(super) files: Files,
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl Bundle {
    /// Creates a bundle of these files, building its index.
    pub(super) fn of(mut files: Files) -> Result<Self, SubmissionError> {
        files.remove(INDEX);
        let entry = |content: &Vec<u8>| Entry { bytes: content.len() as u64, sha256: sha256(content) };
        let entries = files.iter().map(|(name, content)| (name.clone(), entry(content))).collect();
        let index = Index { format: FORMAT.to_owned(), files: entries };
        let mut index =
            serde_json::to_vec_pretty(&index).map_err(|error| SubmissionError::Internal(error.to_string()))?;
        index.push(b'\n');
        let identity = sha256(&index);
        files.insert(INDEX.to_owned(), index);
        Ok(Self { name: String::new(), identity, files })
    }

    /// Reads a bundle's file, within limits. [`check`](super::check()) checks the content of its files.
    ///
    /// # Errors
    /// The file cannot be read or is not a bundle.
    pub fn open(path: &Path) -> Result<Self, SubmissionError> {
        let files = archive::read(path);
        Self::of_archive(path, files)
    }

    /// Reads a bundle from an uncompressed archive, for fuzzing.
    ///
    /// # Errors
    /// Same as [`open`](Self::open).
    pub fn from_tar(name: &Path, bytes: &[u8]) -> Result<Self, SubmissionError> {
        Self::of_archive(name, archive::read_tar(bytes))
    }

    fn of_archive(path: &Path, files: std::io::Result<Files>) -> Result<Self, SubmissionError> {
        let no_bundle = |problem: String| SubmissionError::NoBundle { path: path.to_owned(), problem };
        let files = files.map_err(|error| no_bundle(error.to_string()))?;
        let index = files.get(INDEX).ok_or_else(|| no_bundle(format!("not a bundle: it contains no {INDEX}")))?;
        let identity = sha256(index);
        let index: Index =
            serde_json::from_slice(index).map_err(|error| no_bundle(format!("its {INDEX} cannot be read: {error}")))?;
        if index.format != FORMAT {
            return Err(no_bundle(format!("its format is {:?}, but this etcbench reads {FORMAT}", index.format)));
        }
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self { name, identity, files })
    }

    /// Returns the archive.
    ///
    /// # Errors
    /// None expected: it is written to memory.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, SubmissionError> {
        archive::write(&self.files).map_err(|error| SubmissionError::Internal(error.to_string()))
    }

    /// Returns the file name of a bundle of this run: `RUN-IDENTITY.etcbundle`.
    pub(super) fn file_name(&self, run: &str) -> String {
        format!("{run}-{}{ENDING}", &self.identity[..DIGITS])
    }

    /// Reports files that differ from the index, and a file name that belongs to another bundle.
    pub(super) fn differences(&self, findings: &mut Vec<Finding>) {
        let index = self.files.get(INDEX).and_then(|index| serde_json::from_slice::<Index>(index).ok());
        let entries = index.map(|index| index.files).unwrap_or_default();
        let mut found = |place: &str, problem: String| findings.push(Finding::new("files", place, problem));
        for (name, entry) in &entries {
            match self.files.get(name) {
                None => found(name, "is in the index but not in the bundle".to_owned()),
                Some(content) if content.len() as u64 != entry.bytes => {
                    found(name, format!("has {} bytes, but {} in the index", content.len(), entry.bytes));
                }
                Some(content) if sha256(content) != entry.sha256 => {
                    found(name, "its SHA-256 differs from the index".to_owned());
                }
                Some(_) => {}
            }
        }
        for name in self.files.keys().filter(|name| *name != INDEX && !entries.contains_key(*name)) {
            found(name, "is in the bundle but not in the index".to_owned());
        }
        let named = self.name.strip_suffix(ENDING).and_then(|stem| stem.rsplit_once('-')).map(|(_, digits)| digits);
        let is_identity =
            |digits: &&str| digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if let Some(digits) = named.filter(is_identity).filter(|digits| !self.identity.starts_with(digits)) {
            let prefix = &self.identity[..DIGITS];
            found(&self.name, format!("is named {digits}, but the identity of its content begins with {prefix}"));
        }
    }
}
