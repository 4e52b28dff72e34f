//! Downloads the openly published files of a dataset: with a progress bar, resuming interrupted downloads, checking
//! against the checksum in the definition or of the last download, and unpacking archives.

mod answer;
#[cfg(feature = "fetch")]
mod http;
#[cfg(not(feature = "fetch"))]
#[path = "http_left_out.rs"]
mod http;
mod record;
mod transfer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::content::file_sha256;
use super::definition::DatasetDefinition;
use super::definition_file::Download;
use super::error::DatasetError;
use super::unpack::{UnpackError, UnpackLimits, unpack};
use super::unpacking::Unpacking;
use crate::folder::PARTIAL_PREFIX;
use etcbench_storage as storage;
use etcbench_storage::progress::Progress;
use etcbench_storage::{Claim, Turn};
use record::{DownloadRecord, Records};
use transfer::Transfer;

/// Options for downloads.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchOptions {
    /// Parts of the dataset to download; all if empty.
    pub parts: Vec<String>,
    /// Whether to download existing files again and to overwrite files of an archive.
    pub force: bool,
    /// Maximum number of retries in a row without receiving a single byte.
    pub retries: u32,
    /// Delay before the first retry; doubles each time, up to a minute.
    pub backoff: Duration,
    /// Time without data after which a server counts as stalled.
    pub stall: Duration,
    /// Maximum size in bytes of a file if neither the server nor the definition gives its size.
    pub most_bytes: u64,
}

/// Larger than any single file published in this field.
const MOST_BYTES: u64 = 1 << 38;

impl Default for FetchOptions {
    fn default() -> Self {
        let (backoff, stall) = (Duration::from_secs(1), Duration::from_secs(60));
        Self { parts: Vec::new(), force: false, retries: 5, backoff, stall, most_bytes: MOST_BYTES }
    }
}

/// The result for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Path relative to the dataset's folder.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// Whether it already existed.
    pub already: bool,
    /// Files unpacked from it.
    pub unpacked: Vec<String>,
}

/// Why a file was not downloaded.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The definition has no downloads.
    #[error("dataset {name} is not openly downloadable: {steps}")]
    NotOpen {
        /// The dataset.
        name: String,
        /// Instructions for getting the data.
        steps: String,
    },
    /// The definition has no such part.
    #[error("dataset {name} has no part `{part}` (known: {known})")]
    UnknownPart {
        /// The dataset.
        name: String,
        /// The requested part.
        part: String,
        /// The existing parts.
        known: String,
    },
    /// The server refused the request permanently.
    #[error("{url}: {problem}")]
    Refused {
        /// The URL.
        url: String,
        /// The server's response.
        problem: String,
    },
    /// The download was interrupted too often.
    #[error("{url}: {problem} ({attempts} attempts); run the same command again to resume from {received} bytes")]
    BrokeOff {
        /// The URL.
        url: String,
        /// The last problem.
        problem: String,
        /// Number of attempts.
        attempts: u32,
        /// Number of bytes received.
        received: u64,
    },
    /// The file differs from the one in the definition.
    #[error("{url}: {problem}; the received data was deleted")]
    Wrong {
        /// The URL.
        url: String,
        /// The difference.
        problem: String,
    },
    /// The local file differs from the one downloaded.
    #[error("{}: {problem}; download it again with --force, or move it away", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The difference.
        problem: String,
    },
    /// A local file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The underlying I/O error.
        source: std::io::Error,
    },
    /// A downloaded archive cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A file cannot be hashed.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

/// Returns the files that [`fetch`] downloads: those of the given parts, or all if `parts` is empty.
///
/// # Errors
/// The dataset has no openly published files, or no such part.
pub fn downloads<'a>(definition: &'a DatasetDefinition, parts: &[String]) -> Result<Vec<&'a Download>, FetchError> {
    if definition.downloads.is_empty() {
        let (name, steps) = (definition.name.clone(), definition.published_at.steps());
        return Err(FetchError::NotOpen { name, steps });
    }
    let mut known: Vec<&str> = definition.downloads.iter().filter_map(|download| download.part.as_deref()).collect();
    known.dedup();
    if let Some(part) = parts.iter().find(|part| !known.contains(&part.as_str())) {
        let (name, known) = (definition.name.clone(), known.join(", "));
        return Err(FetchError::UnknownPart { name, part: part.clone(), known });
    }
    let asked =
        |download: &&Download| parts.is_empty() || download.part.as_ref().is_some_and(|part| parts.contains(part));
    Ok(definition.downloads.iter().filter(asked).collect())
}

/// Downloads the files of a dataset into `folder`, one after another. Skips complete files and resumes interrupted
/// downloads.
///
/// # Errors
/// See [`FetchError`]; previously complete files remain.
pub fn fetch(
    definition: &DatasetDefinition,
    folder: &Path,
    options: &FetchOptions,
    progress: &dyn Progress,
) -> Result<Vec<Fetched>, FetchError> {
    let downloads = downloads(definition, &options.parts)?;
    let mut records = Records::read(folder)?;
    let mut fetched = Vec::new();
    for download in downloads {
        fetched.push(fetch_one(download, folder, &mut records, options, progress)?);
    }
    Ok(fetched)
}

fn fetch_one(
    download: &Download,
    folder: &Path,
    records: &mut Records,
    options: &FetchOptions,
    progress: &dyn Progress,
) -> Result<Fetched, FetchError> {
    let path = folder.join(&download.path);
    let target = path.parent().unwrap_or(folder);
    // Other processes downloading the same file wait and then find it here.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let claim_path = path.with_file_name(format!("{PARTIAL_PREFIX}{name}.claim"));
    let _claim = match storage::claim(
        &claim_path,
        || None::<()>,
        |whom| {
            progress.warn(&format!("waiting for {whom}, which is downloading {}", download.path));
        },
    ) {
        Turn::Ours(claim) => claim,
        Turn::Ready(()) => Claim::nothing(),
    };
    let mut fetched = if path.is_file() && !options.force {
        already_here(download, &path, records, progress)?
    } else {
        // From the moment the archive is in place until it is unpacked, its captures are missing.
        let whole = || if download.unpack { Unpacking::begin(&path, target).map(drop) } else { Ok(()) };
        let record = Transfer::new(download, &path, options).run(progress, whole)?;
        let (size, sha256) = (record.size, record.sha256.clone());
        if let Some(before) = records.get(&download.path).filter(|before| before.sha256 != sha256) {
            progress.warn(&format!(
                "{}: its SHA-256 is {sha256}, but was {} when it was first downloaded: the publisher changed it, or \
                 one of the two files is damaged",
                download.path, before.sha256
            ));
        }
        records.insert(&download.path, record)?;
        Fetched { path: download.path.clone(), size, sha256, already: false, unpacked: Vec::new() }
    };
    if download.unpack && !records.get(&download.path).is_some_and(|record| record.unpacked) {
        progress.begin(&format!("unpacking {}", download.path), 0);
        let result = unpack(&path, target, &UnpackLimits::default(), options.force, &|bytes| progress.advance(bytes));
        progress.end();
        fetched.unpacked = result?.files;
        records.set_unpacked(&download.path, || DownloadRecord {
            url: download.url.clone(),
            size: fetched.size,
            sha256: fetched.sha256.clone(),
            etag: None,
            last_modified: None,
            unpacked: true,
        })?;
    }
    Ok(fetched)
}

fn already_here(
    download: &Download,
    path: &Path,
    records: &Records,
    progress: &dyn Progress,
) -> Result<Fetched, FetchError> {
    let changed = |problem: String| FetchError::Changed { path: path.to_owned(), problem };
    progress.begin(&format!("checking {}", download.path), 0);
    let sha256 = file_sha256(path);
    progress.end();
    let sha256 = sha256?;
    let size = std::fs::metadata(path).map_err(|source| FetchError::Io { path: path.to_owned(), source })?.len();
    if download.size.is_some_and(|expected| expected != size) {
        return Err(changed(format!(
            "it has {size} bytes, but the definition specifies {}",
            download.size.unwrap_or(0)
        )));
    }
    let recorded = records.get(&download.path).map(|record: &DownloadRecord| record.sha256.as_str());
    match (download.sha256.as_deref(), recorded) {
        (Some(expected), _) if !expected.eq_ignore_ascii_case(&sha256) => {
            Err(changed(format!("its SHA-256 is {sha256}, not the definition's {expected}")))
        }
        (None, Some(expected)) if expected != sha256 => {
            Err(changed(format!("its SHA-256 is {sha256}, not {expected} as at download time")))
        }
        _ => Ok(Fetched { path: download.path.clone(), size, sha256, already: true, unpacked: Vec::new() }),
    }
}
