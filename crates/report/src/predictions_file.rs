//! The predictions that a run stores (`predictions/`), read back for reliability diagrams and to check records.

use std::path::{Path, PathBuf};

use ndarray::{Array2, Axis};

use super::aggregate::RowKey;
use super::{ReportError, StoredRun, file_error};
use etcbench_evaluate::{Metric, ReliabilityBin, reliability};
use etcbench_experiment::RunKey;

/// The predictions of one fit.
pub struct StoredPredictions {
    /// The names of the classes, in their order.
    pub classes: Vec<String>,
    /// The id of each test flow, `capture#number`.
    pub flows: Vec<String>,
    /// The true class of each test flow.
    pub labels: Vec<u32>,
    /// The predicted class of each test flow, as stated in the file.
    pub predicted: Vec<u32>,
    /// Shape `[flows, classes]`.
    pub probabilities: Array2<f32>,
}

/// Returns the file of a fit's predictions, or `None` if none is stored.
pub(super) fn predictions_path(folder: &Path, key: &RunKey) -> Option<PathBuf> {
    let RunKey { variant, model, input, seed, fold, .. } = key;
    let start = format!("{variant}-{model}-{input}-seed{seed}");
    let names = [format!("{start}-fold{fold}.csv"), format!("{start}.csv")];
    names.iter().map(|name| folder.join("predictions").join(name)).find(|path| path.is_file())
}

/// Returns the reliability bins of a row over all its seeds and folds, or `None` if no predictions are stored.
///
/// # Errors
/// A file of predictions cannot be read or is invalid.
pub(super) fn row_reliability(run: &StoredRun, row: &RowKey) -> Result<Option<Vec<ReliabilityBin>>, ReportError> {
    let (mut labels, mut all, mut classes): (Vec<u32>, Vec<Array2<f32>>, Option<Vec<String>>) = Default::default();
    for record in run.records.iter().filter(|record| record.metric == Metric::ACCURACY.key && record.class.is_none()) {
        let path = row.is_of(&record.key).then(|| predictions_path(&run.folder, &record.key)).flatten();
        let Some(path) = path else { continue };
        let read = read_predictions(&path)?;
        if classes.get_or_insert_with(|| read.classes.clone()) != &read.classes {
            let problem = "its classes differ from those of the other seeds' predictions; run the experiment again";
            return Err(file_error(&path, problem));
        }
        labels.extend(read.labels);
        all.push(read.probabilities);
    }
    if labels.is_empty() {
        return Ok(None);
    }
    let problem =
        |problem: &dyn std::fmt::Display| ReportError::Records(format!("predictions of {}: {problem}", run.name));
    let views: Vec<_> = all.iter().map(Array2::view).collect();
    let rows = ndarray::concatenate(Axis(0), &views).map_err(|error| problem(&error))?;
    Ok(Some(reliability(&labels, rows.view()).map_err(|error| problem(&error))?))
}

/// Reads the predictions of a fit.
///
/// # Errors
/// The file cannot be read or is not a file of predictions.
pub fn read_predictions(path: &Path) -> Result<StoredPredictions, ReportError> {
    let mut reader = csv::Reader::from_path(path).map_err(|problem| file_error(path, problem))?;
    let header = reader.headers().map_err(|problem| file_error(path, problem))?.clone();
    let classes: Vec<String> =
        header.iter().filter_map(|column| column.strip_prefix("probability_")).map(str::to_owned).collect();
    // `flow_id`, `class` and `predicted` come first.
    const BEFORE: usize = 3;
    let (mut flows, mut labels, mut predicted, mut probabilities) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (index, line) in reader.records().enumerate() {
        let line = line.map_err(|problem| file_error(path, problem))?;
        let fault = |what: &str| file_error(path, format!("line {}: {what}", index + 2));
        let class = |column: usize| {
            let class = line.get(column).and_then(|class| classes.iter().position(|name| name == class));
            class.map(|class| class as u32).ok_or_else(|| fault("the class has no column of probabilities"))
        };
        flows.push(line.get(0).unwrap_or_default().to_owned());
        labels.push(class(1)?);
        predicted.push(class(2)?);
        for value in line.iter().skip(BEFORE) {
            probabilities.push(value.parse().map_err(|_| fault("a probability is not a number"))?);
        }
    }
    let probabilities = Array2::from_shape_vec((labels.len(), classes.len()), probabilities)
        .map_err(|problem| file_error(path, problem))?;
    Ok(StoredPredictions { classes, flows, labels, predicted, probabilities })
}
