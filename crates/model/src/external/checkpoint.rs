//! A program's checkpoint folder. The folder itself is removed with the program, so its content is kept in the store of
//! artifacts while a fit runs, and is there again when the same fit is begun after this process was killed. A fit that
//! fails starts anew: its checkpoint may be the reason.
//!
//! The program may replace the folder or a file in it by a link at any moment, so it is filled before the program
//! starts, and read without following links (see `folder`).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::confine;
use super::folder::{self, Listed};
use super::package::Package;
use super::saved;
use crate::{ArtifactStore, Input, ModelArchive, ModelError};
use etcbench_storage::Determinants;
use etcbench_storage::progress::Progress;

/// Bump whenever an existing checkpoint would be misread.
const FORMAT: u32 = 1;
/// The metadata key of the seconds that the fit took before it was interrupted.
const EARLIER: &str = "earlier_seconds";

/// What is fitted.
pub(super) struct Fitted<'a> {
    pub package: &'a Package,
    pub input: Input,
    pub parameters: &'a serde_json::Value,
}

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
    /// The files as they were last kept.
    kept: Vec<Listed>,
    /// Why nothing has been kept since a look failed.
    problem: Option<String>,
}

impl<'a> Checkpoints<'a> {
    /// Fills `folder`, whose program does not run yet, with the checkpoint of the same fit, if it was interrupted;
    /// `None` if the store keeps none.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub(super) fn open(
        store: &'a dyn ArtifactStore,
        fitted: Fitted<'_>,
        folder: PathBuf,
        progress: &'a dyn Progress,
    ) -> Result<Option<Self>, ModelError> {
        let (Some(interval), Some(fit)) = (store.checkpoint_interval(), store.fit_key()) else { return Ok(None) };
        let Fitted { package, input, parameters } = fitted;
        // The members of an ensemble share a fit's key, and may be one model with several inputs.
        let key = Determinants::of("external checkpoint", FORMAT)
            .and("fit", fit)
            .and("name", &package.name)
            .and("model", &package.identity())
            .and("input", &input)
            .and("parameters", parameters)
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
            problem: None,
        };
        if let Some(archive) = store.get(&checkpoints.key).and_then(|bytes| ModelArchive::from_bytes(&bytes).ok()) {
            saved::restore(&archive, &checkpoints.folder)?;
            let seconds = archive.metadata.get(EARLIER).and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
            checkpoints.earlier = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            checkpoints.kept = folder::list(&checkpoints.folder).unwrap_or_default();
            progress.note(&format!("{}: resuming from its checkpoint", package.name));
        }
        Ok(Some(checkpoints))
    }

    /// Starts the time of the fit.
    pub(super) fn begin(&mut self) {
        self.start = Instant::now();
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
        let kept = folder::list(&self.folder).and_then(|found| {
            if found.is_empty() || found == self.kept {
                return Ok(());
            }
            let bytes = self.packed();
            // Files that `end_all` has removed meanwhile are missing in what was read.
            confine::return_unless_ended();
            self.kept = found;
            self.store.put(&self.key, &bytes?);
            self.problem = None;
            Ok(())
        });
        if let Err(problem) = kept {
            // A file may be replaced while it is read; the next look finds the new one.
            self.progress.note(&format!("its checkpoint is not kept: {problem}"));
            self.problem = Some(problem);
        }
    }

    /// Returns why the last checkpoint was not kept, if it was not.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Returns the folder's content as the bytes of an archive.
    fn packed(&self) -> Result<Vec<u8>, String> {
        let mut archive = ModelArchive::default();
        let seconds = (self.earlier + self.start.elapsed()).as_secs_f64();
        archive.metadata.insert(EARLIER.to_owned(), seconds.to_string());
        saved::collect(&self.folder, &mut archive)?;
        archive.to_bytes().map_err(|error| error.to_string())
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
