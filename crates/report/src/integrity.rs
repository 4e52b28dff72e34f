//! Integrity of a stored run: checks its files against their checksums, and its records against the predictions that
//! they were computed from.

use std::collections::BTreeMap;

use super::predictions_file::{StoredPredictions, predictions_path, read_predictions};
use super::{ReportError, RunFiles, StoredRun};
use etcbench_evaluate::{Metric, Metrics, argmax, calibration_error_of_floats};
use etcbench_experiment::{Record, RunKey};

/// Returns what was changed in a run since it was written, one sentence each; empty if nothing was. Tables are
/// generated from records, so an edited table affects no number and is not reported. Runs of versions without a list of
/// checksums are only checked against their predictions.
///
/// # Errors
/// A file that cannot be read.
pub fn integrity(run: &StoredRun) -> Result<Vec<String>, ReportError> {
    let mut problems = RunFiles::changed(&run.folder)?;
    let mut fits: BTreeMap<&RunKey, Vec<&Record>> = BTreeMap::new();
    for record in &run.records {
        fits.entry(&record.key).or_default().push(record);
    }
    for (key, records) in fits {
        let Some(path) = predictions_path(&run.folder, key) else { continue };
        let name = path.strip_prefix(&run.folder).unwrap_or(&path).display();
        let problem = match read_predictions(&path) {
            Ok(predictions) => difference(&predictions, &records).map(|problem| format!("{name}: {problem}")),
            Err(error) => Some(error.to_string()),
        };
        problems.extend(problem);
    }
    Ok(problems)
}

/// Describes the first record of a fit that disagrees with its predictions. Skips records that do not derive from
/// predictions, such as times.
fn difference(predictions: &StoredPredictions, records: &[&Record]) -> Option<String> {
    let StoredPredictions { classes, labels, predicted, probabilities, .. } = predictions;
    if *predicted != argmax(probabilities.view()) {
        return Some("a predicted class does not have the highest probability".to_owned());
    }
    let metrics = match Metrics::from_probabilities(labels, probabilities.view()) {
        Ok(metrics) => metrics,
        Err(error) => return Some(error.to_string()),
    };
    let class = |class: Option<usize>| class.map(|class| classes[class].as_str());
    let measured: BTreeMap<_, Option<f64>> = metrics
        .records()
        .iter()
        .map(|value| ((value.metric, class(value.class), class(value.predicted)), value.value))
        .collect();
    records.iter().find_map(|record| {
        let key = (record.metric.as_str(), record.class.as_deref(), record.predicted.as_deref());
        let given = *measured.get(&key)?;
        let shown = |value: Option<f64>| value.map_or_else(|| "undefined".to_owned(), |value| value.to_string());
        let what = match record.class.as_deref() {
            Some(class) => format!("{} of {class}", record.metric),
            None => record.metric.clone(),
        };
        let as_before = || {
            let is_calibration = record.metric == Metric::EXPECTED_CALIBRATION_ERROR.key && record.class.is_none();
            is_calibration && calibration_error_of_floats(labels, probabilities.view()).ok() == record.value
        };
        (given != record.value && !as_before())
            .then(|| format!("the predictions yield {what} {}, the record has {}", shown(given), shown(record.value)))
    })
}
