//! The contents of the cache: its entries, which of them are damaged, and which can be removed. Only files written by
//! the cache are entries; all other files in its folder are counted and left alone.
//!
//! Removing an entry never makes a result wrong: missing entries are computed again. To avoid extra work for active
//! runs, entries that are being computed are kept, and so are those used within a day while any process computes
//! something.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::cache::{CLAIMS, Cache};
use super::{flow_cache, flows};
use etcbench_storage as storage;
use etcbench_storage::Turn;

/// The stages of fits and of their models: an entry of one implies an entry of the other.
const FITS: &str = "fits";
const MODELS: &str = "models";
/// Entries used this recently are kept while a run is active.
const RECENT: Duration = Duration::from_secs(24 * 60 * 60);

/// An output of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// The stage, such as `fits`.
    pub stage: String,
    /// The hash of everything that determines it.
    pub key: String,
    /// Size on disk in bytes.
    pub bytes: u64,
    /// When it was written or last read by a run, to the hour.
    pub used: SystemTime,
    /// Its files; the first vouches for the integrity of the others.
    files: Vec<PathBuf>,
}

impl CacheEntry {
    /// Returns the name of its main file, relative to the cache's folder.
    pub fn name(&self) -> String {
        format!("{}/{}", self.stage, self.key)
    }

    /// Returns whether it still exists.
    pub fn exists(&self) -> bool {
        self.files.iter().any(|file| file.exists())
    }
}

/// The contents of the cache's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheContents {
    /// The entries, by stage and key.
    pub entries: Vec<CacheEntry>,
    /// Number of files not written by the cache, or not completely.
    pub other_files: u64,
    /// Size of these files in bytes.
    pub other_bytes: u64,
}

/// Limits beyond which entries are removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneLimits {
    /// Maximum time since an entry's last use.
    pub older_than: Option<Duration>,
    /// Maximum total size; the least recently used entries are removed first.
    pub most_bytes: Option<u64>,
}

/// The result of pruning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The entries that were removed, or would be, least recently used first.
    pub removed: Vec<CacheEntry>,
    /// Number of entries beyond the limits that were kept because a run is active.
    pub in_use: u64,
    /// Total size of the remaining entries.
    pub left_bytes: u64,
}

impl Cache {
    /// Lists the contents of the cache's folder; empty if there is none.
    ///
    /// # Errors
    /// A folder in it cannot be listed.
    pub fn contents(&self) -> std::io::Result<CacheContents> {
        let mut contents = CacheContents::default();
        let Some(root) = self.folder().filter(|root| root.is_dir()) else { return Ok(contents) };
        for (path, metadata) in listed(root)? {
            let stage = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if stage == CLAIMS {
                continue;
            }
            if !metadata.is_dir() {
                contents.count_other(&metadata);
                continue;
            }
            for (path, metadata) in listed(&path)? {
                match path.file_name().and_then(|name| key_of(name.to_str()?)).filter(|_| metadata.is_file()) {
                    Some(key) => contents.add(&stage, key.to_owned(), path.clone(), &metadata),
                    None => contents.count_other(&metadata),
                }
            }
        }
        contents.entries.sort_by(|a, b| (&a.stage, &a.key).cmp(&(&b.stage, &b.key)));
        Ok(contents)
    }

    /// Returns whether an entry is intact.
    pub fn is_whole(&self, entry: &CacheEntry) -> bool {
        if entry.stage == flows::STAGE {
            flow_cache::is_whole(self, &entry.key)
        } else {
            self.read(&entry.stage, &entry.key).is_some()
        }
    }

    /// Removes the entries beyond the limits; with `dry_run`, only returns them.
    ///
    /// # Errors
    /// An entry cannot be removed, or the cache cannot be listed.
    pub fn prune(&self, limits: PruneLimits, dry_run: bool) -> std::io::Result<Pruned> {
        self.remove_leftovers();
        let mut entries = self.contents()?.entries;
        let mut used: BTreeMap<String, SystemTime> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| [FITS, MODELS].contains(&entry.stage.as_str())) {
            let time = used.entry(entry.key.clone()).or_insert(entry.used);
            *time = entry.used.max(*time);
        }
        for entry in entries.iter_mut().filter(|entry| [FITS, MODELS].contains(&entry.stage.as_str())) {
            entry.used = used.get(&entry.key).copied().unwrap_or(entry.used);
        }
        entries.sort_by(|a, b| (a.used, &a.stage, &a.key).cmp(&(b.used, &b.stage, &b.key)));
        let now = SystemTime::now();
        let mut pruned = Pruned { left_bytes: entries.iter().map(|entry| entry.bytes).sum(), ..Pruned::default() };
        let claimed = self.claimed();
        for entry in entries {
            // An entry from the future counts as new.
            let age = now.duration_since(entry.used).unwrap_or_default();
            let too_old = limits.older_than.is_some_and(|most| age > most);
            let too_much = limits.most_bytes.is_some_and(|most| pruned.left_bytes > most);
            if !too_old && !too_much {
                continue;
            }
            let is_claimed = hash_of(&entry.key).is_some_and(|hash| claimed.contains(hash));
            let in_use = is_claimed || (!claimed.is_empty() && age < RECENT);
            if in_use || !(dry_run || self.remove(&entry)?) {
                pruned.in_use += 1;
                continue;
            }
            pruned.left_bytes -= entry.bytes;
            pruned.removed.push(entry);
        }
        Ok(pruned)
    }

    /// Removes an entry, and for a model also its fit; returns false if another process is computing it at the moment.
    ///
    /// # Errors
    /// One of its files cannot be removed.
    pub fn remove(&self, entry: &CacheEntry) -> std::io::Result<bool> {
        let Some(root) = self.folder() else { return Ok(false) };
        // A process that computes a fit holds the fit's claim while it stores the model.
        let (stage, fit) = match entry.stage.as_str() {
            MODELS => (FITS, Some(root.join(FITS).join(&entry.key))),
            stage => (stage, None),
        };
        let mut looks = 0;
        let claim = root.join(CLAIMS).join(format!("{stage}-{}", entry.key));
        // The third call happens after another process's claim was seen; do not wait for it.
        let turn = storage::claim(
            &claim,
            || {
                looks += 1;
                (looks > 2).then_some(())
            },
            |_| {},
        );
        let Turn::Ours(_claim) = turn else { return Ok(false) };
        for file in fit.iter().chain(&entry.files) {
            match std::fs::remove_file(file) {
                // Another process was faster.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(true)
    }

    /// Returns the hashes of outputs that are being computed, as of now.
    fn claimed(&self) -> BTreeSet<String> {
        let claims = self.folder().map(|root| listed(&root.join(CLAIMS))).and_then(Result::ok).unwrap_or_default();
        let hash = |path: PathBuf| hash_of(path.file_name()?.to_str()?).map(str::to_owned);
        claims.into_iter().filter_map(|(path, _)| hash(path)).collect()
    }
}

impl CacheContents {
    fn add(&mut self, stage: &str, key: String, file: PathBuf, metadata: &std::fs::Metadata) {
        let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        // The files of an entry are adjacent when sorted by name.
        match self.entries.last_mut().filter(|entry| entry.stage == stage && entry.key == key) {
            Some(entry) => {
                entry.bytes += metadata.len();
                entry.used = entry.used.max(used);
                entry.files.push(file);
            }
            None => {
                let (stage, files) = (stage.to_owned(), vec![file]);
                self.entries.push(CacheEntry { stage, key, bytes: metadata.len(), used, files });
            }
        }
    }

    fn count_other(&mut self, metadata: &std::fs::Metadata) {
        self.other_files += 1;
        self.other_bytes += metadata.len();
    }
}

/// Lists a folder, sorted by name; does not follow links. Entries that vanish in the meantime are skipped.
fn listed(folder: &Path) -> std::io::Result<Vec<(PathBuf, std::fs::Metadata)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if let Ok(metadata) = path.symlink_metadata() {
            found.push((path, metadata));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// Returns the key in the name of a cache file: 64 hexadecimal digits, for artifacts with a prefix, for checkpoints
/// with a suffix. Files of flows have the key of their entry. Returns `None` for all other files.
fn key_of(name: &str) -> Option<&str> {
    let key = name.strip_suffix(".parquet").unwrap_or(name);
    hash_of(key).map(|_| key)
}

/// Returns the hexadecimal digits of a key.
fn hash_of(key: &str) -> Option<&str> {
    let key = key.strip_suffix(CHECKPOINT).unwrap_or(key);
    let (word, hash) = key.rsplit_once('-').unwrap_or(("artifact", key));
    let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || b"_-".contains(&byte));
    let is_hash = hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_word && is_hash).then_some(hash)
}

/// Suffix of the keys of trainings that can be resumed.
const CHECKPOINT: &str = ".checkpoint";

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn key(number: u8) -> String {
        hex::encode([number; 32])
    }

    /// Entries of ten bytes with their checksums, each unused for the given number of days.
    fn cache(folder: &Path, days: &[u32]) -> Cache {
        let cache = Cache::new(folder.join("cache"));
        for (number, days) in days.iter().enumerate() {
            let key = key(number as u8);
            cache.put("fits", &key, b"0123456789").unwrap();
            let file = std::fs::File::options().write(true).open(folder.join("cache/fits").join(key)).unwrap();
            file.set_modified(SystemTime::now() - DAY * *days - Duration::from_secs(60)).unwrap();
        }
        cache
    }

    fn left(cache: &Cache) -> Vec<String> {
        cache.contents().unwrap().entries.into_iter().map(|entry| entry.key).collect()
    }

    #[test]
    fn the_longest_unused_entries_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path(), &[3, 40, 0, 50]);
        let size = 75;
        let limits = PruneLimits { older_than: Some(DAY * 45), most_bytes: Some(2 * size) };
        let preview = cache.prune(limits, true).unwrap();
        assert_eq!(left(&cache).len(), 4);
        let pruned = cache.prune(limits, false).unwrap();
        assert_eq!(pruned, preview);
        let removed: Vec<&str> = pruned.removed.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!((removed, pruned.left_bytes, pruned.in_use), (vec![&*key(3), &*key(1)], 2 * size, 0));
        assert_eq!(left(&cache), [key(0), key(2)]);
        // Reading an entry counts as use.
        assert!(cache.get("fits", &key(0)).is_some());
        assert!(
            cache.prune(PruneLimits { older_than: Some(DAY), most_bytes: None }, false).unwrap().removed.is_empty()
        );
        assert_eq!(cache.prune(PruneLimits::default(), false).unwrap().removed, []);
    }

    #[test]
    fn only_what_the_cache_wrote_is_an_entry() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path(), &[90]);
        let root = folder.path().join("cache");
        for name in ["notes.txt", "fits/notes.txt", "fits/.partial-0123456789abcdef-1-1-1", "own/data"] {
            std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            std::fs::write(root.join(name), "mine").unwrap();
        }
        std::fs::create_dir_all(root.join("fits").join(key(7))).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(root.join("notes.txt"), root.join("fits").join(key(8))).unwrap();
        let contents = cache.contents().unwrap();
        assert_eq!(contents.entries.len(), 1);
        assert_eq!(contents.other_files, if cfg!(unix) { 6 } else { 5 });
        cache.prune(PruneLimits { older_than: Some(Duration::ZERO), most_bytes: None }, false).unwrap();
        assert!(left(&cache).is_empty());
        for name in ["notes.txt", "fits/notes.txt", "own/data"] {
            assert_eq!(std::fs::read(root.join(name)).unwrap(), b"mine", "{name}");
        }
        assert!(root.join("fits").join(key(7)).is_dir());
    }

    #[test]
    fn names_of_entries_are_known() {
        let hash = key(10);
        for name in
            [hash.clone(), format!("elmo-{hash}"), format!("elmo-{hash}.checkpoint"), format!("{hash}.checkpoint")]
        {
            assert_eq!((key_of(&name), hash_of(&name)), (Some(name.as_str()), Some(hash.as_str())));
        }
        assert_eq!(key_of(&format!("{hash}.parquet")), Some(hash.as_str()));
        for other in
            [&hash[1..], &format!("{hash}0"), &format!("{hash}.txt"), &format!("-{hash}"), &hash.to_uppercase()]
        {
            assert_eq!(key_of(other), None, "{other}");
        }
    }

    #[test]
    fn entries_that_a_current_run_may_need_stay() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path(), &[0, 90, 90]);
        let Turn::Ours(claim) = cache.look_up("fits", &key(2), &etcbench_storage::progress::Silent, || None::<()>)
        else {
            panic!("nobody else computes it");
        };
        let everything = PruneLimits { older_than: Some(Duration::ZERO), most_bytes: None };
        let pruned = cache.prune(everything, false).unwrap();
        assert_eq!((pruned.removed.len(), pruned.in_use), (1, 2));
        assert_eq!(left(&cache), [key(0), key(2)]);
        let entry = cache.contents().unwrap().entries.pop().unwrap();
        assert!(!cache.remove(&entry).unwrap());
        drop(claim);
        assert_eq!(cache.prune(everything, false).unwrap().removed.len(), 2);
        assert_eq!(std::fs::read_dir(folder.path().join("cache/claims")).unwrap().count(), 0);
    }
}
