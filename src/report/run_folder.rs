//! The folder of a stored run as a report reads it: the files under `results/` (`results/FORMAT.md`).

use std::path::{Path, PathBuf};

use ndarray::Array2;

use super::aggregate::RowKey;
use super::{ReportError, file_error, read_leaks, read_records};
use crate::evaluate::{ReliabilityBin, reliability};
use crate::experiment::{Record, SplitLeaks, TableLayout};

/// A stored run, read from its folder.
pub struct RunFolder {
    /// The folder's name, such as `table2-synth-ci`.
    pub name: String,
    /// The experiment's name.
    pub experiment: String,
    /// The experiment's title.
    pub title: String,
    /// The layout of its tables.
    pub layout: TableLayout,
    /// Its datasets.
    pub datasets: Vec<String>,
    /// Its size.
    pub size: String,
    /// The records.
    pub records: Vec<Record>,
    /// The leak report of every split; none in runs of versions that had none.
    pub leaks: Vec<SplitLeaks>,
    /// The experiment as it was run, as TOML.
    pub experiment_file: String,
    /// `run.json`.
    pub information: serde_json::Value,
    folder: PathBuf,
}

impl RunFolder {
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

    /// Reads the run in a folder.
    ///
    /// # Errors
    /// A file that is missing or is not what it should be; the first problem, with the file.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let text = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|problem| file_error(&path, problem))
        };
        let records = read_records(&folder.join("records.jsonl"))?;
        let Some(first) = records.first().map(|record| record.key.clone()) else {
            return Err(file_error(
                &folder.join("records.jsonl"),
                "there is no record in it; run the experiment again",
            ));
        };
        let experiment_file = text("experiment.toml")?;
        let table: toml::Table =
            toml::from_str(&experiment_file).map_err(|problem| file_error(&folder.join("experiment.toml"), problem))?;
        let information = serde_json::from_str(&text("run.json")?)
            .map_err(|problem| file_error(&folder.join("run.json"), problem))?;
        let leaks = folder.join("leaks.json");
        let layout = table.get("layout").and_then(toml::Value::as_str);
        Ok(Self {
            name: folder.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned()),
            title: table.get("title").and_then(toml::Value::as_str).unwrap_or(&first.experiment).to_owned(),
            layout: if layout == Some("classes") { TableLayout::Classes } else { TableLayout::Models },
            datasets: first.dataset.split('+').map(str::to_owned).collect(),
            experiment: first.experiment,
            size: first.size,
            records,
            leaks: if leaks.is_file() { read_leaks(&leaks)? } else { Vec::new() },
            experiment_file,
            information,
            folder: folder.to_owned(),
        })
    }

    /// Whether the command line changed what was computed, so that the run does not stand for its experiment.
    pub fn is_changed(&self) -> bool {
        self.name != format!("{}-{}-{}", self.experiment, self.datasets.join("+"), self.size)
    }

    /// The reliability diagram of a row over all its seeds and folds; none where no predictions are stored.
    ///
    /// # Errors
    /// A file of predictions that cannot be read or is not one.
    pub(super) fn reliability(&self, row: &RowKey) -> Result<Option<Vec<ReliabilityBin>>, ReportError> {
        let mut fits: Vec<(u64, usize)> = Vec::new();
        for record in self.records.iter().filter(|record| record.metric == "accuracy" && record.class.is_none()) {
            if row.is_of(&record.key) {
                fits.push((record.key.seed, record.key.fold));
            }
        }
        let (mut labels, mut probabilities, mut classes) = (Vec::new(), Vec::new(), Vec::new());
        for (seed, fold) in fits {
            let start = format!("{}-{}-{}-seed{seed}", row.variant, row.model, row.input);
            let names = [format!("{start}-fold{fold}.csv"), format!("{start}.csv")];
            let path = names.iter().map(|name| self.folder.join("predictions").join(name)).find(|path| path.is_file());
            let Some(path) = path else { continue };
            read_predictions(&path, &mut classes, &mut labels, &mut probabilities)?;
        }
        if labels.is_empty() {
            return Ok(None);
        }
        let rows = Array2::from_shape_vec((labels.len(), classes.len()), probabilities)
            .map_err(|problem| ReportError::Records(format!("predictions of {}: {problem}", self.name)))?;
        let bins = reliability(&labels, rows.view())
            .map_err(|problem| ReportError::Records(format!("predictions of {}: {problem}", self.name)))?;
        Ok(Some(bins))
    }
}

/// Appends the labels and probabilities of a file of predictions; `classes` are those of its first file.
fn read_predictions(
    path: &Path,
    classes: &mut Vec<String>,
    labels: &mut Vec<u32>,
    probabilities: &mut Vec<f32>,
) -> Result<(), ReportError> {
    let mut reader = csv::Reader::from_path(path).map_err(|problem| file_error(path, problem))?;
    let header = reader.headers().map_err(|problem| file_error(path, problem))?.clone();
    let names: Vec<String> =
        header.iter().filter_map(|column| column.strip_prefix("probability_")).map(str::to_owned).collect();
    if classes.is_empty() {
        *classes = names;
    } else if *classes != names {
        return Err(file_error(
            path,
            "its classes are not those of the other seeds' predictions; run the experiment again",
        ));
    }
    // `flow_id`, `class` and `predicted` come first.
    const BEFORE: usize = 3;
    for (index, line) in reader.records().enumerate() {
        let line = line.map_err(|problem| file_error(path, problem))?;
        let fault = |what: &str| file_error(path, format!("line {}: {what}", index + 2));
        let class = line.get(1).and_then(|class| classes.iter().position(|name| name == class));
        labels.push(class.ok_or_else(|| fault("the class has no column of probabilities"))? as u32);
        for value in line.iter().skip(BEFORE) {
            probabilities.push(value.parse().map_err(|_| fault("a probability is not a number"))?);
        }
    }
    Ok(())
}
