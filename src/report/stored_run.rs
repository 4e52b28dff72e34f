//! A run as it lies in its folder: experiment, provenance, captures and records.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{ReportError, file_error, read_records};
use crate::experiment::{CaptureFacts, Provenance, Record};
use crate::storage;

/// A run read from its folder.
#[derive(Debug, Clone)]
pub struct StoredRun {
    /// The folder.
    pub folder: PathBuf,
    /// The experiment with everything it extends.
    pub experiment: toml::Table,
    /// What `run.json` holds.
    pub facts: RunFacts,
    /// The records.
    pub records: Vec<Record>,
}

/// What is read of a `run.json`; keys that are not read are passed over.
#[derive(Debug, Clone, Deserialize)]
pub struct RunFacts {
    /// The experiment's name.
    pub experiment: String,
    /// Its title.
    pub title: String,
    /// Names of the datasets.
    pub datasets: Vec<String>,
    /// The size.
    pub size: String,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// The machine and program.
    pub provenance: Provenance,
    /// The captures, or feature files.
    pub captures: Vec<CaptureFacts>,
    /// Its fits; only how many and where their costs are from is read.
    pub fits: Vec<FitFacts>,
}

/// What is read of a fit in `run.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct FitFacts {
    /// Whether it came from the cache; its times are then those of an earlier run.
    pub reused: bool,
}

impl RunFacts {
    /// Reads the `run.json` of a run's folder.
    ///
    /// # Errors
    /// A file that is missing or of another form.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let path = folder.join("run.json");
        let bytes =
            std::fs::read(&path).map_err(|problem| file_error(&path, format!("{problem}; a run's folder has it")))?;
        serde_json::from_slice(&bytes).map_err(|problem| file_error(&path, problem))
    }
}

impl StoredRun {
    /// Reads a run's folder, of which a run may be writing the next state.
    ///
    /// # Errors
    /// A file that is missing or of another form.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        storage::read_folder(folder, || Self::read_now(folder))
    }

    fn read_now(folder: &Path) -> Result<Self, ReportError> {
        let facts = RunFacts::read(folder)?;
        let path = folder.join("experiment.toml");
        let text = std::fs::read_to_string(&path).map_err(|problem| file_error(&path, problem))?;
        let experiment = text.parse().map_err(|problem| file_error(&path, problem))?;
        let records = read_records(&folder.join("records.jsonl"))?;
        Ok(Self { folder: folder.to_owned(), experiment, facts, records })
    }

    /// How many of the fits came from the cache.
    pub fn reused(&self) -> usize {
        self.facts.fits.iter().filter(|fit| fit.reused).count()
    }
}
