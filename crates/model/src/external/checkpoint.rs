//! A program's checkpoint folder. The folder itself is removed with the program, so its content is kept in the store of
//! artifacts while a fit runs, and is there again when the same fit is begun after this process was killed. A fit that
//! fails starts anew: its checkpoint may be the reason.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::package::Package;
use super::saved;
use crate::{ArtifactStore, ModelArchive, ModelError};
use etcbench_storage::Determinants;
use etcbench_storage::progress::Progress;

/// Bump whenever an existing checkpoint would be misread.
const FORMAT: u32 = 1;
/// The metadata key of the seconds that the fit took before it was interrupted.
const EARLIER: &str = "earlier_seconds";

/// The checkpoints of one fit.
pub(super) struct Checkpoints<'a> {
    store: &'a dyn ArtifactStore,
    progress: &'a dyn Progress,
    key: String,
    folder: PathBuf,
    interval: Duration,
    looked: Instant,
    start: Instant,
    /// Time that the fit took before it was interrupted.
    earlier: Duration,
    /// The files as they were last kept: name, length, time of change.
    kept: Vec<(PathBuf, u64, Option<SystemTime>)>,
}

impl<'a> Checkpoints<'a> {
    /// Fills `folder` with the checkpoint of the same fit, if it was interrupted; `None` if the store keeps none.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(super) fn open(
        store: &'a dyn ArtifactStore,
        package: &Package,
        folder: PathBuf,
        progress: &'a dyn Progress,
    ) -> Result<Option<Self>, ModelError> {
        let (Some(interval), Some(fit)) = (store.checkpoint_interval(), store.fit_key()) else { return Ok(None) };
        // Several members of an ensemble share a fit's key.
        let key = Determinants::of("external checkpoint", FORMAT)
            .and("fit", fit)
            .and("name", &package.name)
            .and("model", &package.identity())
            .key();
        let now = Instant::now();
        let mut checkpoints = Self {
            store,
            progress,
            key,
            folder,
            interval,
            looked: now,
            start: now,
            earlier: Duration::ZERO,
            kept: Vec::new(),
        };
        if let Some(archive) = store.get(&checkpoints.key).and_then(|bytes| ModelArchive::from_bytes(&bytes).ok()) {
            saved::restore(&archive, &checkpoints.folder)?;
            let seconds = archive.metadata.get(EARLIER).and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
            checkpoints.earlier = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            checkpoints.kept = files(&checkpoints.folder);
            progress.note(&format!("{}: resuming from its checkpoint", package.name));
        }
        Ok(Some(checkpoints))
    }

    /// Returns the seconds that the fit took before it was interrupted.
    pub(super) fn earlier_seconds(&self) -> f64 {
        self.earlier.as_secs_f64()
    }

    /// Keeps the folder's content if that is due and it has changed.
    pub(super) fn look(&mut self) {
        if self.looked.elapsed() < self.interval {
            return;
        }
        self.looked = Instant::now();
        let found = files(&self.folder);
        if found.is_empty() || found == self.kept {
            return;
        }
        let mut archive = ModelArchive::default();
        let seconds = (self.earlier + self.start.elapsed()).as_secs_f64();
        archive.metadata.insert(EARLIER.to_owned(), seconds.to_string());
        let kept = saved::collect(&self.folder, &self.folder, &mut 0, &mut archive)
            .and_then(|()| archive.to_bytes().map_err(|error| error.to_string()));
        match kept {
            Ok(bytes) => self.store.put(&self.key, &bytes),
            // A file may be replaced while it is read; the next look finds the new one.
            Err(problem) => self.progress.note(&format!("its checkpoint is not kept: {problem}")),
        }
        self.kept = found;
    }

    /// Removes what is kept: when the fit is stored, or at once if it failed.
    pub(super) fn end(&self, failed: bool) {
        if failed {
            // Nothing can be read from this.
            self.store.put(&self.key, &[]);
        }
        self.store.remove(&self.key);
    }
}

/// Returns the regular files below a folder, sorted.
fn files(folder: &Path) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() && found.len() < 10_000 => folders.push(entry.path()),
                Ok(metadata) => found.push((entry.path(), metadata.len(), metadata.modified().ok())),
                Err(_) => {}
            }
        }
    }
    found.sort();
    found
}
