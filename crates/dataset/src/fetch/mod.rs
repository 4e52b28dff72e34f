//! Downloads what is openly published of a dataset: with a progress bar, resumed where a download broke off,
//! checked against the definition's checksum or the one of the last download, and unpacked where it is an archive.

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
use super::definition::{DatasetDefinition, Download};
use super::error::DatasetError;
use super::unpack::{UnpackError, UnpackLimits, unpack};
use super::unpacking::Unpacking;
use crate::folder::PARTIAL_PREFIX;
use etcbench_storage as storage;
use etcbench_storage::progress::Progress;
use etcbench_storage::{Claim, Turn};
use record::{DownloadRecord, Records};
use transfer::Transfer;

/// How files are downloaded.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchOptions {
    /// Parts of the dataset to download; all where empty.
    pub parts: Vec<String>,
    /// Whether files that are there already are downloaded again, and files of an archive overwritten.
    pub force: bool,
    /// How often a download that broke off is taken up again without a single byte of progress.
    pub retries: u32,
    /// The wait before the first of these; it doubles each time, up to a minute.
    pub backoff: Duration,
    /// A server that sends nothing for so long has stalled.
    pub stall: Duration,
    /// The most bytes of a file of which neither the server nor the definition says how large it is.
    pub most_bytes: u64,
}

/// Larger than any single file that is published in this field.
const MOST_BYTES: u64 = 1 << 38;

impl Default for FetchOptions {
    fn default() -> Self {
        let (backoff, stall) = (Duration::from_secs(1), Duration::from_secs(60));
        Self { parts: Vec::new(), force: false, retries: 5, backoff, stall, most_bytes: MOST_BYTES }
    }
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its path, relative to the dataset's folder.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// Whether it was there already.
    pub already: bool,
    /// Files that were unpacked from it.
    pub unpacked: Vec<String>,
}

/// Why a file was not downloaded.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The definition has nothing to download.
    #[error("dataset {name} is not openly downloadable: {steps}")]
    NotOpen {
        /// The dataset.
        name: String,
        /// Where to go, and what to do there.
        steps: String,
    },
    /// A part that the definition does not have.
    #[error("dataset {name} has no part `{part}` (known: {known})")]
    UnknownPart {
        /// The dataset.
        name: String,
        /// The part asked for.
        part: String,
        /// The parts there are.
        known: String,
    },
    /// The server says no, and will say so again.
    #[error("{url}: {problem}")]
    Refused {
        /// The address.
        url: String,
        /// What the server said.
        problem: String,
    },
    /// The download broke off too often.
    #[error("{url}: {problem} ({attempts} attempts); run the same command again to go on from {received} bytes")]
    BrokeOff {
        /// The address.
        url: String,
        /// What happened the last time.
        problem: String,
        /// How often it was tried.
        attempts: u32,
        /// What was received.
        received: u64,
    },
    /// The file is not the one the definition names.
    #[error("{url}: {problem}; what was received is deleted")]
    Wrong {
        /// The address.
        url: String,
        /// The difference.
        problem: String,
    },
    /// The file here is not the one that was downloaded.
    #[error("{}: {problem}; download it again with --force, or move it away", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The difference.
        problem: String,
    },
    /// A file of this machine.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
    /// An archive that was downloaded cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A file cannot be hashed.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

/// What [`fetch`] downloads of a dataset: the files of these parts, of all where none is named.
///
/// # Errors
/// Nothing of the dataset is openly published, or it has no such part.
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

/// Downloads the files of a dataset into `folder`, one after another. What is there and whole is not downloaded
/// again; what broke off goes on where it was.
///
/// # Errors
/// See [`FetchError`]; files that were whole before stay.
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
    // Others that download the same file wait, and find it here.
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
        // From the moment that the archive is in place until it is unpacked, captures are missing next to it.
        let whole = || if download.unpack { Unpacking::begin(&path, target).map(drop) } else { Ok(()) };
        let record = Transfer::new(download, &path, options).run(progress, whole)?;
        let (size, sha256) = (record.size, record.sha256.clone());
        if let Some(before) = records.get(&download.path).filter(|before| before.sha256 != sha256) {
            progress.warn(&format!(
                "{}: its SHA-256 is {sha256}, and was {} when it was downloaded first: the publisher changed it, or one of \
                 the two is wrong",
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
        return Err(changed(format!("it has {size} bytes, not the {} of the definition", download.size.unwrap_or(0))));
    }
    let recorded = records.get(&download.path).map(|record: &DownloadRecord| record.sha256.as_str());
    match (download.sha256.as_deref(), recorded) {
        (Some(expected), _) if !expected.eq_ignore_ascii_case(&sha256) => {
            Err(changed(format!("its SHA-256 is {sha256}, not the definition's {expected}")))
        }
        (None, Some(expected)) if expected != sha256 => {
            Err(changed(format!("its SHA-256 is {sha256}, not {expected} as when it was downloaded")))
        }
        _ => Ok(Fetched { path: download.path.clone(), size, sha256, already: true, unpacked: Vec::new() }),
    }
}
