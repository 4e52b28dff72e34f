//! The cache: every stage's output under a hash of everything that determines it. An entry is one file
//! whose first line is the checksum of the rest, so that a damaged entry is computed again, never read
//! as whole.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::model::ArtifactStore;
use crate::storage;

/// What a killed training loses at most; a checkpoint takes a tenth of a second.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(15);

/// A folder of cached results.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// A cache in `folder`, which is created when first written to.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder: Some(folder) }
    }

    /// A cache that keeps nothing.
    pub fn disabled() -> Self {
        Self { folder: None }
    }

    fn path(&self, stage: &str, key: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(stage).join(key))
    }

    /// Where a file of `stage` lies that is too large to hold in memory; none in a cache that keeps nothing. The
    /// caller checks its content.
    pub(super) fn file(&self, stage: &str, name: &str) -> Option<PathBuf> {
        self.path(stage, name)
    }

    /// The bytes stored for `stage` under `key`, if they are there and undamaged.
    pub fn get(&self, stage: &str, key: &str) -> Option<Vec<u8>> {
        let bytes = std::fs::read(self.path(stage, key)?).ok()?;
        let (checksum, content) = bytes.split_at_checked(65)?;
        let expected = hex::encode(Sha256::digest(content));
        (checksum[..64] == *expected.as_bytes() && checksum[64] == b'\n').then(|| content.to_vec())
    }

    /// Stores `bytes` for `stage` under `key`.
    ///
    /// # Errors
    /// Any error of the file system; nothing half-written stays behind.
    pub fn put(&self, stage: &str, key: &str, bytes: &[u8]) -> std::io::Result<()> {
        use std::io::Write;
        let Some(path) = self.path(stage, key) else { return Ok(()) };
        storage::write_whole_with(&path, |file| {
            writeln!(file, "{}", hex::encode(Sha256::digest(bytes)))?;
            file.write_all(bytes)
        })
    }
}

impl ArtifactStore for Cache {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        Cache::get(self, "artifacts", key)
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        // A cache that cannot be written costs time, not correctness.
        let _ = Cache::put(self, "artifacts", key, bytes);
    }

    fn remove(&self, key: &str) {
        if let Some(path) = self.path("artifacts", key) {
            let _ = std::fs::remove_file(path);
        }
    }

    fn checkpoint_interval(&self) -> Option<Duration> {
        self.folder.as_ref().map(|_| CHECKPOINT_INTERVAL)
    }
}

/// A key: SHA-256 over the JSON of everything that determines a result, in a fixed order.
pub fn key(parts: &impl Serialize) -> String {
    let json = serde_json::to_vec(parts).expect("keys are made of plain values");
    hex::encode(Sha256::digest(json))
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
}
