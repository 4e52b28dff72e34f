//! Records of downloads, stored in the dataset's folder so that the next download can detect changed files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::FetchError;
use crate::folder::{DOWNLOADS_FILE, PARTIAL_PREFIX};
use etcbench_storage as storage;

/// A file that was downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DownloadRecord {
    pub url: String,
    pub size: u64,
    pub sha256: String,
    /// The server's entity tag for this version of the file (RFC 9110, 8.8.3).
    pub etag: Option<String>,
    /// The server's time of last modification.
    pub last_modified: Option<String>,
    /// For an archive, whether it was completely unpacked.
    #[serde(default)]
    pub unpacked: bool,
}

/// `downloads.json`: records by path.
pub(super) struct Records {
    path: PathBuf,
    records: BTreeMap<String, DownloadRecord>,
}

impl Records {
    /// Reads the records of a folder; empty if there is no file.
    pub(super) fn read(folder: &Path) -> Result<Self, FetchError> {
        let path = folder.join(DOWNLOADS_FILE);
        let io = |source| FetchError::Io { path: path.clone(), source };
        let records = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(io(error)),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                io(std::io::Error::other(format!("not a list of downloads ({error}); remove it to start over")))
            })?,
        };
        Ok(Self { path, records })
    }

    pub(super) fn get(&self, path: &str) -> Option<&DownloadRecord> {
        self.records.get(path)
    }

    /// Records that the archive at `path` was completely unpacked. Uses `unknown` to create the record of an archive
    /// that was not downloaded here.
    pub(super) fn set_unpacked(
        &mut self,
        path: &str,
        unknown: impl FnOnce() -> DownloadRecord,
    ) -> Result<(), FetchError> {
        let record = self.records.get(path).cloned().unwrap_or_else(unknown);
        self.insert(path, DownloadRecord { unpacked: true, ..record })
    }

    /// Adds a record and writes the file; preserves records added by other processes in the meantime.
    pub(super) fn insert(&mut self, path: &str, record: DownloadRecord) -> Result<(), FetchError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let claim_path = folder.join(format!("{PARTIAL_PREFIX}{DOWNLOADS_FILE}.claim"));
        let _claim = storage::claim(&claim_path, || None::<()>, |_| ());
        self.records = Self::read(folder)?.records;
        self.records.insert(path.to_owned(), record);
        let io = |source| FetchError::Io { path: self.path.clone(), source };
        let mut text = serde_json::to_vec_pretty(&self.records).map_err(|error| io(error.into()))?;
        text.push(b'\n');
        storage::write_whole(&self.path, &text).map_err(io)
    }
}
