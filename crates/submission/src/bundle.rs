//! A bundle: the files of an archive and their index, `bundle.json`, which has the size and SHA-256 of every other file. The
//! index's own SHA-256 is the bundle's identity, and begins its name.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::SubmissionError;
use super::archive::{self, Files};
use super::rules::Finding;

/// The index's name.
pub(super) const INDEX: &str = "bundle.json";
/// The first value of every index, raised whenever its fields or files change their meaning.
const FORMAT: &str = "etcbench-bundle-1";
/// How many digits of the identity are in a bundle's name.
const DIGITS: usize = 16;
/// How a bundle's name ends.
pub(super) const ENDING: &str = ".etcbundle";

/// `bundle.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    format: String,
    files: BTreeMap<String, Entry>,
}

/// What the index says of a file.
#[derive(Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Entry {
    bytes: u64,
    sha256: String,
}

/// A bundle, read or made.
pub struct Bundle {
    /// What its file is called, for messages.
    pub name: String,
    /// Its identity: 64 hexadecimal digits, the SHA-256 of its index.
    pub identity: String,
    pub(super) files: Files,
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl Bundle {
    /// A bundle of these files, whose index is made here.
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

    /// Reads a bundle's file, within bounds. What its files say is for [`check`](super::check()).
    ///
    /// # Errors
    /// A file that cannot be read or is no bundle.
    pub fn open(path: &Path) -> Result<Self, SubmissionError> {
        let files = archive::read(path);
        Self::of_archive(path, files)
    }

    /// The same of an archive that is not compressed, as a fuzzer makes them.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_tar(name: &Path, bytes: &[u8]) -> Result<Self, SubmissionError> {
        Self::of_archive(name, archive::read_tar(bytes))
    }

    fn of_archive(path: &Path, files: std::io::Result<Files>) -> Result<Self, SubmissionError> {
        let no_bundle = |problem: String| SubmissionError::NoBundle { path: path.to_owned(), problem };
        let files = files.map_err(|error| no_bundle(error.to_string()))?;
        let index =
            files.get(INDEX).ok_or_else(|| no_bundle(format!("there is no {INDEX} in it, so it is no bundle")))?;
        let identity = sha256(index);
        let index: Index =
            serde_json::from_slice(index).map_err(|error| no_bundle(format!("its {INDEX} cannot be read: {error}")))?;
        if index.format != FORMAT {
            return Err(no_bundle(format!("it is of format {:?}, and this etcbench reads {FORMAT}", index.format)));
        }
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self { name, identity, files })
    }

    /// The archive.
    ///
    /// # Errors
    /// None that is known: it is written into memory.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, SubmissionError> {
        archive::write(&self.files).map_err(|error| SubmissionError::Internal(error.to_string()))
    }

    /// How a bundle of this run is called: `RUN-IDENTITY.etcbundle`.
    pub(super) fn file_name(&self, run: &str) -> String {
        format!("{run}-{}{ENDING}", &self.identity[..DIGITS])
    }

    /// Where the files are not those of the index, or the name is of another bundle.
    pub(super) fn differences(&self, findings: &mut Vec<Finding>) {
        let index = self.files.get(INDEX).and_then(|index| serde_json::from_slice::<Index>(index).ok());
        let entries = index.map(|index| index.files).unwrap_or_default();
        let mut found = |place: &str, problem: String| findings.push(Finding::new("files", place, problem));
        for (name, entry) in &entries {
            match self.files.get(name) {
                None => found(name, "is in the index and not in the bundle".to_owned()),
                Some(content) if content.len() as u64 != entry.bytes => {
                    found(name, format!("has {} bytes, and the index says {}", content.len(), entry.bytes));
                }
                Some(content) if sha256(content) != entry.sha256 => {
                    found(name, "has another SHA-256 than the index says".to_owned());
                }
                Some(_) => {}
            }
        }
        for name in self.files.keys().filter(|name| *name != INDEX && !entries.contains_key(*name)) {
            found(name, "is in the bundle and not in the index".to_owned());
        }
        let named = self.name.strip_suffix(ENDING).and_then(|stem| stem.rsplit_once('-')).map(|(_, digits)| digits);
        let is_identity =
            |digits: &&str| digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if let Some(digits) = named.filter(is_identity).filter(|digits| !self.identity.starts_with(digits)) {
            let own = &self.identity[..DIGITS];
            found(&self.name, format!("is named {digits}, and the content's identity begins with {own}"));
        }
    }
}
