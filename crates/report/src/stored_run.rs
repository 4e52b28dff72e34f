//! A run as it lies in its folder under `results/` (`results/FORMAT.md`): experiment, provenance, captures, records and
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
    /// `experiment.toml` as it stands: the experiment with everything it extends.
    pub experiment_file: String,
    /// The same, parsed.
    pub experiment: toml::Table,
    /// What is read of `run.json`.
    pub facts: RunFacts,
    /// All of `run.json`.
    pub information: serde_json::Value,
    /// The records, at least one.
    pub records: Vec<Record>,
    /// The leak report of every split; none in runs of versions that had none.
    pub leaks: Vec<SplitLeaks>,
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
    /// How and when it was asked for; nothing in runs of versions that did not say it.
    #[serde(default)]
    pub invocation: Invocation,
    /// What scored highest; none in runs of versions that did not say it.
    #[serde(default)]
    pub best: Option<BestScore>,
    /// The machine and program.
    pub provenance: Provenance,
    /// The captures, or feature files.
    pub captures: Vec<CaptureFacts>,
    /// What a reader must know of the data; none in runs of versions that did not say it.
    #[serde(default)]
    pub data_notes: Vec<String>,
    /// The rungs of a ladder that the data could not be divided for.
    #[serde(default)]
    pub left_out: Vec<LeftOutVariant>,
    /// Its variants; only what they left out is read.
    #[serde(default)]
    pub(super) variants: Vec<VariantFacts>,
    /// Its fits; only how many and where their costs are from is read.
    pub fits: Vec<FitFacts>,
}

/// What is read of a variant in `run.json`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct VariantFacts {
    pub name: String,
    #[serde(default)]
    pub small_classes: Vec<SmallClass>,
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
        serde_json::from_slice(&bytes)
            .map_err(|problem| file_error(&path, declarative::with_nearest_key(&problem.to_string())))
    }
}

impl StoredRun {
    /// The folders of all runs under `results`, by name; a folder with records is a run.
    ///
    /// # Errors
    /// A folder that cannot be listed.
    pub fn folders(results: &Path) -> Result<Vec<PathBuf>, ReportError> {
        let mut folders = Vec::new();
        match std::fs::read_dir(results) {
            Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => {}
            Err(problem) => return Err(file_error(results, problem)),
            Ok(entries) => {
                for entry in entries {
                    let path = entry.map_err(|problem| file_error(results, problem))?.path();
                    // What a run is still being written to begins with a dot.
                    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
                    if !hidden && path.join("records.jsonl").is_file() {
                        folders.push(path);
                    }
                }
            }
        }
        folders.sort();
        Ok(folders)
    }

    /// Reads a run's folder, of which a run may be writing the next state.
    ///
    /// # Errors
    /// A file that is missing or is not what it should be; the first problem, with the file.
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

    /// The layout of its tables.
    pub fn layout(&self) -> TableLayout {
        let layout = self.experiment.get("layout").and_then(toml::Value::as_str);
        if layout == Some("classes") { TableLayout::Classes } else { TableLayout::Models }
    }

    /// Whether the command line changed what was computed, or a later run took its place, so that the run does not stand
    /// for its experiment.
    pub fn is_changed(&self) -> bool {
        self.name != format!("{}-{}-{}", self.facts.experiment, self.facts.datasets.join("+"), self.facts.size)
    }

    /// Whether a later run with other results took this one's place, and it was kept; by the name of its folder.
    pub fn is_kept(folder: &Path) -> bool {
        folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| storage::kept_of(name).is_some())
    }

    /// How many of the fits came from the cache.
    pub fn reused(&self) -> usize {
        self.facts.fits.iter().filter(|fit| fit.reused).count()
    }
}
