//! The predictions that a run stores (`predictions/`), read back for reliability diagrams.

use std::path::Path;

use ndarray::Array2;

use super::aggregate::RowKey;
use super::{ReportError, StoredRun, file_error};
use etcbench_evaluate::{Metric, ReliabilityBin, reliability};

/// The reliability diagram of a row over all its seeds and folds; none where no predictions are stored.
///
/// # Errors
/// A file of predictions that cannot be read or is not one.
pub(super) fn row_reliability(run: &StoredRun, row: &RowKey) -> Result<Option<Vec<ReliabilityBin>>, ReportError> {
    let mut fits: Vec<(u64, usize)> = Vec::new();
    for record in run.records.iter().filter(|record| record.metric == Metric::ACCURACY.key && record.class.is_none()) {
        if row.is_of(&record.key) {
            fits.push((record.key.seed, record.key.fold));
        }
    }
    let (mut labels, mut probabilities, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    for (seed, fold) in fits {
        let start = format!("{}-{}-{}-seed{seed}", row.variant, row.model, row.input);
        let names = [format!("{start}-fold{fold}.csv"), format!("{start}.csv")];
        let path = names.iter().map(|name| run.folder.join("predictions").join(name)).find(|path| path.is_file());
        let Some(path) = path else { continue };
        read_predictions(&path, &mut classes, &mut labels, &mut probabilities)?;
    }
    if labels.is_empty() {
        return Ok(None);
    }
    let problem =
        |problem: &dyn std::fmt::Display| ReportError::Records(format!("predictions of {}: {problem}", run.name));
    let rows = Array2::from_shape_vec((labels.len(), classes.len()), probabilities).map_err(|error| problem(&error))?;
    Ok(Some(reliability(&labels, rows.view()).map_err(|error| problem(&error))?))
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
