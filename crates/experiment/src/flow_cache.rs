//! Caches the flows of captures as a feature store (Parquet), so that a second run reads no captures.
//!
//! The key of an entry is the hash of everything that determines the flows: the definitions, the SHA-256 of every
//! capture and flow-label file, and the flow options. The checksums themselves are cached by path, size, modification
//! time and, if the system has them, inode and inode change time, which cannot be set by users: a file replaced by
//! another with the same size and time is read again. Files modified within the last few seconds are hashed again;
//! `--verify` hashes everything, and `--no-cache` hashes and reads everything.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::cache::Cache;
use super::capture_facts::CaptureFacts;
use super::{ExperimentError, flows};
use etcbench_dataset as dataset;
use etcbench_dataset::{CaptureFile, Dataset, LabelledFlow};
use etcbench_feature::{StoreHeader, StoreReader, write_store};
use etcbench_flow::{FlowOptions, STATISTIC_NAMES};
use etcbench_storage::Determinants;

/// A file changed this recently may change again within the resolution of its modification time.
const SETTLED: Duration = Duration::from_secs(3);

/// Cached information in addition to the flows themselves.
#[derive(Serialize, Deserialize)]
pub(super) struct Entry {
    /// The captures of the flows.
    pub captures: Vec<CaptureFacts>,
    /// Warnings issued when the captures were read.
    pub warnings: Vec<String>,
    /// The flows without a label, as CSV.
    pub without_label: String,
    /// SHA-256 of the Parquet file.
    store: String,
}

impl Entry {
    /// Creates an entry that is not stored yet.
    pub(crate) fn new(captures: Vec<CaptureFacts>, warnings: Vec<String>, without_label: String) -> Self {
        Self { captures, warnings, without_label, store: String::new() }
    }
}

/// Returns the SHA-256 of a capture without archive and compression, or of another file; reads the file only if it has
/// changed since it was last read.
///
/// # Errors
/// The file cannot be read.
pub(super) fn checksum(
    root: &Path,
    file: &CaptureFile,
    is_capture: bool,
    cache: &Cache,
) -> Result<String, ExperimentError> {
    let source = file.source(root);
    let facts = || {
        let path = source.file.canonicalize().ok()?;
        let metadata = std::fs::metadata(&path).ok()?;
        let modified = metadata.modified().ok()?;
        let settled = SystemTime::now().duration_since(modified).is_ok_and(|age| age > SETTLED);
        let since = modified.duration_since(UNIX_EPOCH).ok()?.as_nanos().to_string();
        settled.then(|| {
            Determinants::of("checksum", 2)
                .and("is_capture", &is_capture)
                .and("path", &path.to_str())
                .and("member", &source.member)
                .and("bytes", &metadata.len())
                .and("since", &since)
                .and("inode", &inode(&metadata))
                .key()
        })
    };
    // Computed before the file is read: a change in between results in another key.
    let key = facts();
    if let Some(known) = key.as_ref().filter(|_| !cache.verifies()).and_then(|key| cache.get("checksums", key))
        && let Ok(known) = String::from_utf8(known)
        && known.len() == 64
    {
        return Ok(known);
    }
    let checksum = if is_capture { dataset::capture_sha256(root, file)? } else { dataset::file_sha256(&source.file)? };
    if let Some(key) = key
        && facts().as_ref() == Some(&key)
    {
        // A cache that cannot be written costs time, not correctness.
        let _ = cache.put("checksums", &key, checksum.as_bytes());
    }
    Ok(checksum)
}

/// Returns the inode and its change time in nanoseconds.
fn inode(metadata: &std::fs::Metadata) -> Option<[String; 2]> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let changed = i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
        Some([metadata.ino().to_string(), changed.to_string()])
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        None
    }
}

/// Returns the flows stored under `key`; `None` if they are missing or damaged.
pub(super) fn read(cache: &Cache, key: &str) -> Option<(Vec<LabelledFlow>, Entry)> {
    let entry: Entry = serde_json::from_slice(&cache.get(flows::STAGE, key)?).ok()?;
    let path = cache.file(flows::STAGE, &format!("{key}.parquet"))?;
    if dataset::file_sha256(&path).ok()? != entry.store {
        return None;
    }
    let reader = StoreReader::open(&path).ok()?;
    let flows = reader.collect::<Result<Vec<_>, _>>().ok()?;
    Some((flows, entry))
}

/// Returns whether the flows stored under `key` are intact.
pub(super) fn is_whole(cache: &Cache, key: &str) -> bool {
    let entry = cache.read(flows::STAGE, key).and_then(|bytes| serde_json::from_slice::<Entry>(&bytes).ok());
    let path = cache.file(flows::STAGE, &format!("{key}.parquet"));
    let checksum = path.and_then(|path| dataset::file_sha256(&path).ok());
    entry.is_some_and(|entry| checksum.as_ref() == Some(&entry.store))
}

/// Stores flows under `key`, and returns the completed entry.
///
/// # Errors
/// Any I/O error.
pub(super) fn write(
    cache: &Cache,
    key: &str,
    datasets: &[Dataset],
    options: &FlowOptions,
    flows: &[LabelledFlow],
    mut entry: Entry,
) -> Result<Entry, ExperimentError> {
    let Some(path) = cache.file(flows::STAGE, &format!("{key}.parquet")) else { return Ok(entry) };
    let mut label_columns: Vec<String> = Vec::new();
    for column in datasets.iter().flat_map(|dataset| &dataset.definition.label_columns) {
        if !label_columns.contains(column) {
            label_columns.push(column.clone());
        }
    }
    let header = StoreHeader {
        datasets: datasets.iter().map(|dataset| dataset.definition.name.clone()).collect(),
        label_columns,
        added_columns: Vec::new(),
        statistic_names: STATISTIC_NAMES.iter().map(|name| (*name).to_owned()).collect(),
        flow_options: options.clone(),
    };
    let problem = |problem: String| ExperimentError::Store { path: path.clone(), problem };
    write_store(&path, &header, flows).map_err(|error| problem(error.to_string()))?;
    entry.store = dataset::file_sha256(&path)?;
    let json = serde_json::to_vec(&entry).map_err(|error| problem(error.to_string()))?;
    // Write the entry last: it implies that its Parquet file is complete.
    cache.put(flows::STAGE, key, &json).map_err(|error| problem(error.to_string()))?;
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_remembered_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"));
        let path = folder.path().join("a.pcap");
        let old = SystemTime::now() - Duration::from_secs(60);
        let write = |content: &[u8], time: SystemTime| {
            std::fs::write(&path, content).unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        let file = CaptureFile { path: "a.pcap".to_owned(), size: 0, archive: None };
        let known = |cache: &Cache| checksum(folder.path(), &file, true, cache);
        write(b"one", old);
        let one = known(&cache).unwrap();
        assert_eq!(one, dataset::file_sha256(&path).unwrap());
        // Size and time are unchanged, but the inode's change time, if available, differs.
        write(b"two", old);
        if cfg!(unix) {
            assert_ne!(known(&cache).unwrap(), one);
        }
        assert_ne!(known(&Cache::disabled()).unwrap(), one);
        write(b"two", old + Duration::from_secs(1));
        assert_ne!(known(&cache).unwrap(), one);
        write(b"three", old);
        assert_eq!(known(&cache).unwrap(), dataset::file_sha256(&path).unwrap());
        // A file that may still be written to is always read.
        write(b"one", SystemTime::now());
        let before = known(&cache).unwrap();
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        write(b"six", time);
        assert_ne!(known(&cache).unwrap(), before);
    }

    #[test]
    fn a_remembered_checksum_is_taken_unless_it_is_to_be_verified() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.csv");
        std::fs::write(&path, "a").unwrap();
        let old = SystemTime::now() - Duration::from_secs(60);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        let cache = Cache::new(folder.path().join("cache"));
        let file = CaptureFile { path: "labels.csv".to_owned(), size: 1, archive: None };
        let checksum = |cache: &Cache| checksum(folder.path(), &file, false, cache).unwrap();
        let right = checksum(&cache);
        for entry in std::fs::read_dir(folder.path().join("cache/checksums")).unwrap() {
            let key = entry.unwrap().file_name().into_string().unwrap();
            cache.put("checksums", &key, "0".repeat(64).as_bytes()).unwrap();
        }
        assert_eq!(checksum(&cache), "0".repeat(64));
        assert_eq!(checksum(&cache.clone().verifying(true)), right);
        assert_eq!(checksum(&cache), right, "what was verified is remembered");
        // Replace it with another file of the same size and time.
        std::fs::write(folder.path().join("other"), "b").unwrap();
        std::fs::File::options().write(true).open(folder.path().join("other")).unwrap().set_modified(old).unwrap();
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        if cfg!(unix) {
            assert_ne!(checksum(&cache), right);
        }
    }
}
