//! Metrics of predictions, and the audit of printed tables.

use std::path::PathBuf;

use etcbench::evaluate::Metrics;
use etcbench::report::{AuditTable, Possible};
use numpy::{PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::raised;

/// A measured value: its metric, the class and predicted class if it refers to any, and the value if it is defined.
type Measured = (&'static str, Option<usize>, Option<usize>, Option<f64>);

/// Computes every metric of predictions, given as either probabilities or predicted classes; `etcbench.metrics`
/// documents it.
#[pyfunction]
#[pyo3(signature = (labels, probabilities, predictions, classes))]
pub(crate) fn metrics(
    py: Python<'_>,
    labels: PyReadonlyArray1<'_, u32>,
    probabilities: Option<PyReadonlyArray2<'_, f32>>,
    predictions: Option<PyReadonlyArray1<'_, u32>>,
    classes: usize,
) -> PyResult<Vec<Measured>> {
    let labels = labels.as_slice()?;
    let metrics = match (&probabilities, &predictions) {
        (Some(probabilities), _) => {
            let matrix = probabilities.as_array();
            py.detach(|| Metrics::from_probabilities(labels, matrix))
        }
        (None, Some(predictions)) => {
            let predictions = predictions.as_slice()?;
            py.detach(|| Metrics::from_predictions(labels, predictions, classes))
        }
        (None, None) => return Err(crate::EtcbenchError::new_err("pass predictions or probabilities")),
    };
    let records = metrics.map_err(raised)?.records();
    Ok(records.into_iter().map(|value| (value.metric, value.class, value.predicted, value.value)).collect())
}

/// A finding of the audit: row, metric, number as printed, `yes`, `only_if` or `no`, reason.
type Found = (String, String, String, &'static str, String);

/// Audits a table and returns a finding for each number.
#[pyfunction]
pub(crate) fn audit(py: Python<'_>, path: PathBuf) -> PyResult<Vec<Found>> {
    let findings = py
        .detach(|| {
            let findings = AuditTable::read(&path)?.audit();
            findings.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
        })
        .map_err(raised)?;
    let word = |possible| match possible {
        Possible::Yes => "yes",
        Possible::OnlyIf => "only_if",
        Possible::No => "no",
    };
    Ok(findings
        .into_iter()
        .map(|finding| (finding.row, finding.metric, finding.printed, word(finding.possible), finding.reason))
        .collect())
}
