//! The cache: every stage's output under a hash of everything that determines it. An entry is a file whose first line
//! is a checksum of its stage, its key and the remaining bytes, so that damaged or misplaced entries are computed again
//! and never used. Processes that share a folder share the work: see [`storage::claim`].

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use etcbench_model::ArtifactStore;
use etcbench_storage as storage;
use etcbench_storage::progress::Progress;
use etcbench_storage::{Claim, Turn};

/// Default interval between checkpoints, and so the maximum loss when training is killed; a checkpoint takes a tenth of
/// a second.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(15);

/// Name of the folder of claims, next to those of the stages.
pub(super) const CLAIMS: &str = "claims";
/// Precision with which the time of an entry's last use is recorded.
const USED_WITHIN: Duration = Duration::from_secs(60 * 60);

/// A folder of cached results.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: Option<PathBuf>,
    checkpoint_interval: Duration,
    verifies: bool,
    counts: Arc<Mutex<StageCounts>>,
}

/// Number of computed and reused outputs, by the stage's name.
pub type StageCounts = BTreeMap<String, StageCount>;

/// Number of computed and reused outputs of one stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageCount {
    /// Computed, whether or not the cache stores the output.
    pub computed: u64,
    /// Taken from the cache.
    pub reused: u64,
}

impl Cache {
    /// Creates a cache in `folder`, which is created on the first write.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder: Some(folder), ..Self::disabled() }
    }

    /// Creates a cache that stores nothing.
    pub fn disabled() -> Self {
        Self { folder: None, checkpoint_interval: CHECKPOINT_INTERVAL, verifies: false, counts: Arc::default() }
    }

    /// Sets the interval between checkpoints of trainings; zero means after every batch.
    pub fn with_checkpoint_interval(self, interval: Duration) -> Self {
        Self { checkpoint_interval: interval, ..self }
    }

    /// Sets whether every capture is read to verify its cached checksum.
    pub fn verifying(self, verifies: bool) -> Self {
        Self { verifies, ..self }
    }

    /// Returns whether checksums are recomputed.
    pub(super) fn verifies(&self) -> bool {
        self.verifies
    }

    /// Returns the same cache with counts reset to zero.
    pub(super) fn counting(&self) -> Self {
        Self { counts: Arc::default(), ..self.clone() }
    }

    /// Returns the counts of this cache and its clones.
    pub fn counts(&self) -> StageCounts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts an output of `stage`.
    pub(super) fn count(&self, stage: &str, reused: bool) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(stage.to_owned()).or_default();
        if reused {
            count.reused += 1;
        } else {
            count.computed += 1;
        }
    }

    /// Returns the cache's folder; `None` if the cache stores nothing.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    fn path(&self, stage: &str, key: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(stage).join(key))
    }

    /// Returns the path for a file of `stage` that is too large to hold in memory; `None` if the cache stores nothing.
    /// The caller verifies its content.
    pub(super) fn file(&self, stage: &str, name: &str) -> Option<PathBuf> {
        self.path(stage, name)
    }

    /// Removes leftovers of dead processes from the cache: unfinished files, and claims.
    pub(super) fn remove_leftovers(&self) {
        let Some(folder) = &self.folder else { return };
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            storage::remove_leftovers(&entry.path());
        }
        storage::remove_dead_claims(&folder.join(CLAIMS));
    }

    /// Returns what `ready` finds stored for `stage` under `key`, or the right to compute it, which ends when the claim
    /// is dropped. If another process is computing the same output, waits for its result.
    pub(super) fn look_up<T>(
        &self,
        stage: &str,
        key: &str,
        progress: &dyn Progress,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Turn<T> {
        let turn = match self.path(CLAIMS, &format!("{stage}-{key}")) {
            None => ready().map_or_else(|| Turn::Ours(Claim::nothing()), Turn::Ready),
            Some(path) => storage::claim(&path, ready, |holder| {
                progress.warn(&format!("waiting for {holder}, which is computing the same output ({stage})"));
            }),
        };
        self.count(stage, matches!(turn, Turn::Ready(_)));
        turn
    }

    /// Same as [`Cache::look_up`], for JSON entries.
    pub(super) fn look_up_json<T: serde::de::DeserializeOwned>(
        &self,
        stage: &str,
        key: &str,
        progress: &dyn Progress,
    ) -> Turn<T> {
        self.look_up(stage, key, progress, || serde_json::from_slice(&self.get(stage, key)?).ok())
    }

    /// Returns whether there is an entry of `stage` under `key`; its integrity is only checked when it is read.
    pub(super) fn has(&self, stage: &str, key: &str) -> bool {
        self.path(stage, key).is_some_and(|path| path.is_file())
    }

    /// Returns the bytes stored for `stage` under `key`, if they exist and are undamaged.
    pub fn get(&self, stage: &str, key: &str) -> Option<Vec<u8>> {
        let bytes = self.read(stage, key)?;
        self.note_use(stage, key);
        Some(bytes)
    }

    /// Same as [`Cache::get`], but does not count as a use of the entry.
    pub(super) fn read(&self, stage: &str, key: &str) -> Option<Vec<u8>> {
        let mut bytes = std::fs::read(self.path(stage, key)?).ok()?;
        let (checksum, content) = bytes.split_at_checked(65)?;
        let expected = entry_checksum(stage, key, content);
        let whole = checksum[..64] == *expected.as_bytes() && checksum[64] == b'\n';
        whole.then(|| bytes.split_off(65))
    }

    /// Records the last use as the entry's modification time, by which it is pruned. If the time cannot be set, the
    /// entry looks older.
    fn note_use(&self, stage: &str, key: &str) {
        let now = SystemTime::now();
        let Some(file) = self.path(stage, key).and_then(|path| File::open(path).ok()) else { return };
        let used = file.metadata().and_then(|metadata| metadata.modified());
        if used.is_ok_and(|used| now.duration_since(used).is_ok_and(|age| age > USED_WITHIN)) {
            let _ = file.set_modified(now);
        }
    }

    /// Stores `bytes` for `stage` under `key`.
    ///
    /// # Errors
    /// Any I/O error; no partial file remains.
    pub fn put(&self, stage: &str, key: &str, bytes: &[u8]) -> std::io::Result<()> {
        use std::io::Write;
        let Some(path) = self.path(stage, key) else { return Ok(()) };
        storage::write_whole_with(&path, |file| {
            writeln!(file, "{}", entry_checksum(stage, key, bytes))?;
            file.write_all(bytes)
        })
    }
}

/// Name of the folder for artifacts that models keep between fits.
const ARTIFACTS: &str = "artifacts";

impl ArtifactStore for Cache {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        Cache::get(self, ARTIFACTS, key)
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        // A cache that cannot be written costs time, not correctness.
        let _ = Cache::put(self, ARTIFACTS, key, bytes);
    }

    fn look_up(&self, stage: &str, key: &str, progress: &dyn Progress) -> Turn<Vec<u8>> {
        Cache::look_up(self, stage, key, progress, || Cache::get(self, ARTIFACTS, key))
    }

    fn checkpoint_interval(&self) -> Option<Duration> {
        self.folder.as_ref().map(|_| self.checkpoint_interval)
    }
}

/// The artifacts of one fit. Artifacts that are no longer needed are kept until the fit is stored, so that a fit killed
/// before then can be resumed.
pub(super) struct FitArtifacts<'a> {
    cache: &'a Cache,
    fit_key: Option<&'a str>,
    not_needed: Mutex<Vec<String>>,
}

impl<'a> FitArtifacts<'a> {
    /// Creates the artifacts of the fit with this key; without a key, of other work.
    pub(crate) fn new(cache: &'a Cache, fit_key: Option<&'a str>) -> Self {
        Self { cache, fit_key, not_needed: Mutex::default() }
    }

    /// Removes the artifacts that are no longer needed. Call it after the fit is stored, or has failed.
    pub(crate) fn remove_not_needed(&self) {
        for key in self.not_needed.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if let Some(path) = self.cache.path(ARTIFACTS, &key) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

impl ArtifactStore for FitArtifacts<'_> {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        ArtifactStore::get(self.cache, key)
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        ArtifactStore::put(self.cache, key, bytes);
    }

    fn look_up(&self, stage: &str, key: &str, progress: &dyn Progress) -> Turn<Vec<u8>> {
        ArtifactStore::look_up(self.cache, stage, key, progress)
    }

    fn remove(&self, key: &str) {
        self.not_needed.lock().unwrap_or_else(PoisonError::into_inner).push(key.to_owned());
    }

    fn checkpoint_interval(&self) -> Option<Duration> {
        self.cache.checkpoint_interval()
    }

    fn fit_key(&self) -> Option<&str> {
        self.fit_key
    }
}

/// Returns the SHA-256 of an entry together with its stage and key.
fn entry_checksum(stage: &str, key: &str, content: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(format!("{stage}/{key}\n"));
    hasher.update(content);
    hex::encode(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_entries_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned());
        cache.put("fits", "key", b"content").unwrap();
        assert_eq!(cache.get("fits", "key").unwrap(), b"content");
        let path = folder.path().join("fits/key");
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(cache.get("fits", "key"), None);
        }
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert_eq!(cache.get("fits", "key"), None);
        }
        assert!(Cache::disabled().get("fits", "key").is_none());
    }

    #[test]
    fn whole_entries_under_one_anothers_names_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned());
        let entries = [("fits", "a"), ("fits", "b"), ("models", "a")];
        let path = |(stage, key): (&str, &str)| folder.path().join(stage).join(key);
        let swap = |one, other| {
            let aside = folder.path().join("aside");
            for (from, to) in [(path(one), aside.clone()), (path(other), path(one)), (aside, path(other))] {
                std::fs::rename(from, to).unwrap();
            }
        };
        // Entries of the same size, which differ only in their names.
        for (stage, key) in entries {
            cache.put(stage, key, format!("{stage:6}{key}").as_bytes()).unwrap();
        }
        for other in [entries[1], entries[2]] {
            swap(entries[0], other);
            for (stage, key) in [entries[0], other] {
                assert_eq!(cache.get(stage, key), None, "{stage} {key}");
            }
            swap(entries[0], other);
        }
        for (stage, key) in entries {
            assert_eq!(cache.get(stage, key).unwrap(), format!("{stage:6}{key}").as_bytes());
        }
    }
}
