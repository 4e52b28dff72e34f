//! A run stored in its folder under `results/` (`results/FORMAT.md`): experiment, provenance, captures, records and
//! leak reports.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{ReportError, file_error, read_leaks, read_records};
use etcbench_experiment::{
    BestScore, CaptureFacts, Invocation, LeftOutVariant, Provenance, Record, SplitLeaks, TableLayout,
};
use etcbench_split::SmallClass;
use etcbench_storage as storage;
use etcbench_storage::declarative;

/// A run read from its folder.
#[derive(Debug, Clone)]
pub struct StoredRun {
    /// The folder.
    pub folder: PathBuf,
    /// The folder's name, such as `table2-synth-ci`.
    pub name: String,
    /// The text of `experiment.toml`: the experiment with everything it extends.
    pub experiment_file: String,
    /// The same, parsed.
    pub experiment: toml::Table,
    /// The parsed part of `run.json`.
    pub facts: RunFacts,
    /// The whole `run.json`.
    pub information: serde_json::Value,
    /// The records, at least one.
    pub records: Vec<Record>,
    /// The leak report of every split; empty for runs of versions without leak reports.
    pub leaks: Vec<SplitLeaks>,
}

/// The parsed part of a `run.json`; other keys are ignored.
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
    /// The command and time of its invocation; empty for runs of versions that did not store it.
    #[serde(default)]
    pub invocation: Invocation,
    /// The highest score; `None` for runs of versions that did not store it.
    #[serde(default)]
    pub best: Option<BestScore>,
    /// The machine and program.
    pub provenance: Provenance,
    /// The captures, or feature files.
    pub captures: Vec<CaptureFacts>,
    /// Notes on the data; empty for runs of versions that did not store them.
    #[serde(default)]
    pub data_notes: Vec<String>,
    /// The rungs of a ladder for which the data could not be split.
    #[serde(default)]
    pub left_out: Vec<LeftOutVariant>,
    /// Its variants; only the classes they left out are parsed.
    #[serde(default)]
    pub(super) variants: Vec<VariantFacts>,
    /// Its fits; only their number and whether they came from the cache is parsed.
    pub fits: Vec<FitFacts>,
}

/// The parsed part of a variant in `run.json`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct VariantFacts {
    pub name: String,
    #[serde(default)]
    pub small_classes: Vec<SmallClass>,
}

/// The parsed part of a fit in `run.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct FitFacts {
    /// Whether it came from the cache; its times are then those of an earlier run.
    pub reused: bool,
}

impl RunFacts {
    /// Reads the `run.json` of a run's folder.
    ///
    /// # Errors
    /// The file is missing or invalid.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let path = folder.join("run.json");
        let bytes = std::fs::read(&path)
            .map_err(|problem| file_error(&path, format!("{problem}; a run's folder contains this file")))?;
        serde_json::from_slice(&bytes)
            .map_err(|problem| file_error(&path, declarative::with_nearest_key(&problem.to_string())))
    }
}

impl StoredRun {
    /// Returns whether a folder under `results` is a run's: it has `file`, or this user may not look into it, as into
    /// runs of others. Such a run can only be reported as one that cannot be read. The cache is not a run.
    pub fn is_at(folder: &Path, file: &str) -> bool {
        match std::fs::metadata(folder.join(file)) {
            Ok(file) => file.is_file(),
            Err(problem) => problem.kind() == std::io::ErrorKind::PermissionDenied && !folder.ends_with("cache"),
        }
    }

    /// Returns the folders of all runs under `results`, sorted by name; a folder with records is a run.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn folders(results: &Path) -> Result<Vec<PathBuf>, ReportError> {
        let mut folders = Vec::new();
        match std::fs::read_dir(results) {
            Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => {}
            Err(problem) => return Err(file_error(results, problem)),
            Ok(entries) => {
                for entry in entries {
                    let path = entry.map_err(|problem| file_error(results, problem))?.path();
                    // The folder of an unfinished run begins with a dot.
                    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
                    if !hidden && Self::is_at(&path, "records.jsonl") {
                        folders.push(path);
                    }
                }
            }
        }
        folders.sort();
        Ok(folders)
    }

    /// Reads a run's folder, even if another run is replacing it at the same time.
    ///
    /// # Errors
    /// A file is missing or invalid; the error describes the first problem and names the file.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        storage::read_folder(folder, || Self::read_now(folder))
    }

    fn read_now(folder: &Path) -> Result<Self, ReportError> {
        let facts = RunFacts::read(folder)?;
        let path = folder.join("run.json");
        let bytes = std::fs::read(&path).map_err(|problem| file_error(&path, problem))?;
        let information = serde_json::from_slice(&bytes).map_err(|problem| file_error(&path, problem))?;
        let path = folder.join("experiment.toml");
        let experiment_file = std::fs::read_to_string(&path).map_err(|problem| file_error(&path, problem))?;
        let experiment = experiment_file.parse().map_err(|problem| file_error(&path, problem))?;
        let path = folder.join("records.jsonl");
        let records = read_records(&path)?;
        let path = folder.join("leaks.json");
        let leaks = if path.is_file() { read_leaks(&path)? } else { Vec::new() };
        let name = folder.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
        Ok(Self { folder: folder.to_owned(), name, experiment_file, experiment, facts, information, records, leaks })
    }

    /// Returns the layout of its tables.
    pub fn layout(&self) -> TableLayout {
        let layout = self.experiment.get("layout").and_then(toml::Value::as_str);
        if layout == Some("classes") { TableLayout::Classes } else { TableLayout::Models }
    }

    /// Returns whether the command line changed what was computed, or a later run replaced this one, so that it does
    /// not represent its experiment.
    pub fn is_changed(&self) -> bool {
        self.name != format!("{}-{}-{}", self.facts.experiment, self.facts.datasets.join("+"), self.facts.size)
    }

    /// Returns whether this is an older run, kept because a later run with other results replaced it; determined from
    /// the name of its folder.
    pub fn is_kept(folder: &Path) -> bool {
        folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| storage::kept_of(name).is_some())
    }

    /// Returns the number of fits that came from the cache.
    pub fn reused(&self) -> usize {
        self.facts.fits.iter().filter(|fit| fit.reused).count()
    }
}
