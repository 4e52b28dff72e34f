//! Whether a stored run is as it was written: its files against their checksums, and its records against the predictions
//! that they were measured on.

use std::collections::BTreeMap;

use super::predictions_file::{StoredPredictions, predictions_path, read_predictions};
use super::{ReportError, RunFiles, StoredRun};
use etcbench_evaluate::{Metric, Metrics, argmax, calibration_error_of_floats};
use etcbench_experiment::{Record, RunKey};

/// What of a run is not as the run wrote it, a sentence each; none where all of it is. Tables are made from records, so an
/// edited one changes no number and is not named; runs of versions without a list of checksums are held against their
/// predictions alone.
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

/// The first record of a fit that its predictions do not give; records that no predictions give, such as times, are passed
/// over.
fn difference(predictions: &StoredPredictions, records: &[&Record]) -> Option<String> {
    let StoredPredictions { classes, labels, predicted, probabilities, .. } = predictions;
    if *predicted != argmax(probabilities.view()) {
        return Some("a predicted class is not that of the highest probability".to_owned());
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
        let of = (record.metric.as_str(), record.class.as_deref(), record.predicted.as_deref());
        let given = *measured.get(&of)?;
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
            .then(|| format!("the predictions give {what} {}, the record {}", shown(given), shown(record.value)))
    })
}
