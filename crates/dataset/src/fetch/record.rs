//! What was downloaded into a dataset's folder, kept with it so that the next download can tell a file that
//! changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::FetchError;
use crate::folder::{DOWNLOADS_FILE, PARTIAL_PREFIX};
use etcbench_storage as storage;

/// One file that was downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DownloadRecord {
    pub url: String,
    pub size: u64,
    pub sha256: String,
    /// The server's name for this version of the file (RFC 9110, 8.8.3).
    pub etag: Option<String>,
    /// When the server says that it changed last.
    pub last_modified: Option<String>,
    /// Whether everything in it, where it is an archive, was unpacked.
    #[serde(default)]
    pub unpacked: bool,
}

/// `downloads.json`: records by path.
pub(super) struct Records {
    path: PathBuf,
    records: BTreeMap<String, DownloadRecord>,
}

impl Records {
    /// Reads the records of a folder; none where there is no file.
    pub(super) fn read(folder: &Path) -> Result<Self, FetchError> {
        let path = folder.join(DOWNLOADS_FILE);
        let io = |source| FetchError::Io { path: path.clone(), source };
        let records = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(io(error)),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                io(std::io::Error::other(format!("no list of downloads ({error}); remove it to begin anew")))
            })?,
        };
        Ok(Self { path, records })
    }

    pub(super) fn get(&self, path: &str) -> Option<&DownloadRecord> {
        self.records.get(path)
    }

    /// Notes that everything in the archive at `path` was unpacked. One that was not downloaded here has the record that
    /// `unknown` makes.
    pub(super) fn set_unpacked(
        &mut self,
        path: &str,
        unknown: impl FnOnce() -> DownloadRecord,
    ) -> Result<(), FetchError> {
        let record = self.records.get(path).cloned().unwrap_or_else(unknown);
        self.insert(path, DownloadRecord { unpacked: true, ..record })
    }

    /// Adds a record and writes the file; what others added to it meanwhile stays.
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
