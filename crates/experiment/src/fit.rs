//! A single fit: a model trained on the training rows of a split, queried for the test rows, and measured. This is the
//! unit stored in the cache.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use super::ExperimentError;
use super::measure::{Cost, measured};
use etcbench_evaluate::Metrics;
use etcbench_feature::FeatureSet;
use etcbench_model as model;
use etcbench_model::external::Usage;
use etcbench_model::pretraining::PretrainingSource;
use etcbench_model::{ArtifactStore, Device, Examples, FitContext, FitReport, ModelError, ModelSpec};
use etcbench_split::Split;
use etcbench_storage::progress::Progress;

/// The results of a fit, except for the model itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FitOutcome {
    /// Stage times, training curves and notes.
    pub report: FitReport,
    /// Cost of fitting.
    pub fit: Cost,
    /// Cost of predicting the test rows.
    pub predict: Cost,
    /// Number of training rows, after sampling.
    pub training_flows: usize,
    /// Number of rows used for early stopping.
    pub validation_flows: usize,
    /// Size of the stored model in bytes.
    pub model_bytes: usize,
    /// Test rows, in the order of `labels` and `probabilities`.
    pub test_rows: Vec<usize>,
    /// True classes of the test rows.
    pub labels: Vec<u32>,
    /// Class probabilities of the test rows, row-major, shape `[test rows, classes]`.
    pub probabilities: Vec<f32>,
}

impl FitOutcome {
    /// Returns the probabilities as a matrix, shape `[test rows, classes]`.
    ///
    /// # Errors
    /// A cached outcome has probabilities of another shape.
    pub fn probability_matrix(&self, classes: usize) -> Result<ArrayView2<'_, f32>, ExperimentError> {
        ArrayView2::from_shape((self.test_rows.len(), classes), &self.probabilities)
            .map_err(|error| ExperimentError::Internal { problem: format!("probabilities of a fit: {error}") })
    }

    /// Returns the metrics on the test rows.
    ///
    /// # Errors
    /// The probabilities are not distributions over the classes.
    pub fn metrics(&self, classes: usize) -> Result<Metrics, ExperimentError> {
        Ok(Metrics::from_probabilities(&self.labels, self.probability_matrix(classes)?)?)
    }
}

/// The inputs of a fit.
pub(crate) struct FitRequest<'a> {
    /// The model.
    pub spec: &'a ModelSpec,
    /// Features of all flows of the variant.
    pub features: &'a FeatureSet,
    /// The training, validation and test rows.
    pub split: &'a Split,
    /// The training rows after sampling.
    pub training: &'a [usize],
    /// The run's seed.
    pub seed: u64,
    /// The device for training a deep model.
    pub device: Device,
}

/// Fits, predicts and measures; the model is pre-trained on `source` if that is not the training part alone. The second
/// value contains the bytes of the stored model.
///
/// # Errors
/// Any error of the model about its parameters, the data or its training.
pub(super) fn fit(
    request: &FitRequest<'_>,
    source: Option<PretrainingSource>,
    artifacts: &dyn ArtifactStore,
    progress: &dyn Progress,
) -> Result<(FitOutcome, Vec<u8>), ExperimentError> {
    let mut classifier = model::build(request.spec)?;
    let examples = |rows| Examples { features: request.features, rows };
    let pretraining = source.as_ref();
    let context = FitContext { seed: request.seed, device: request.device, progress, artifacts, pretraining };
    let (report, fit) =
        measured(|| classifier.fit(examples(request.training), examples(&request.split.validation), &context));
    let mut report = report?;
    let fit = with_reused_stages(fit, &mut report);
    let test = examples(&request.split.test);
    let fitted = classifier.used_outside();
    let fit = with_outside(fit, None, fitted);
    let (probabilities, predict) = measured(|| classifier.predict_probabilities(test, progress));
    let probabilities = probabilities?;
    let predict = with_outside(predict, fitted, classifier.used_outside());
    classifier.check_answers(test, progress)?;
    // Report invalid distributions here, before anything is stored.
    Metrics::from_probabilities(&test.labels(), probabilities.view())?;
    let bytes = classifier.save()?.to_bytes()?;
    let outcome = FitOutcome {
        report,
        fit,
        predict,
        training_flows: request.training.len(),
        validation_flows: request.split.validation.len(),
        model_bytes: bytes.len(),
        test_rows: request.split.test.clone(),
        labels: test.labels(),
        probabilities: probabilities.iter().copied().collect(),
    };
    Ok((outcome, bytes))
}

/// Fits on the training rows as [`fit`] does and returns the macro F1 on the validation rows; `None` if training
/// diverged to non-finite numbers.
///
/// # Errors
/// Any other error of the model about its parameters or the data.
pub(super) fn validation_score(
    request: &FitRequest<'_>,
    source: Option<PretrainingSource>,
    artifacts: &dyn ArtifactStore,
    progress: &dyn Progress,
) -> Result<Option<f64>, ExperimentError> {
    let mut classifier = model::build(request.spec)?;
    let examples = |rows| Examples { features: request.features, rows };
    let pretraining = source.as_ref();
    let context = FitContext { seed: request.seed, device: request.device, progress, artifacts, pretraining };
    let validation = examples(&request.split.validation);
    match classifier.fit(examples(request.training), validation, &context) {
        Ok(_) => {}
        Err(ModelError::Diverged { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let probabilities = classifier.predict_probabilities(validation, progress)?;
    let metrics = Metrics::from_probabilities(&validation.labels(), probabilities.view())?;
    Ok(Some(metrics.confusion.macro_average().f1))
}

/// Adds the usage of a model's own processes between two measurements to a cost. Their peak memory covers their whole
/// lifetime.
fn with_outside(own: Cost, before: Option<Usage>, after: Option<Usage>) -> Cost {
    let Some(after) = after else { return own };
    let seconds = after.cpu_seconds - before.map_or(0.0, |before| before.cpu_seconds);
    Cost {
        cpu_seconds: own.cpu_seconds.map(|own| own + seconds.max(0.0)),
        peak_memory_bytes: own.peak_memory_bytes.map(|own| own + after.peak_memory_bytes),
        ..own
    }
}

/// Accounts for cached stages: they took no time in this fit but are part of the model's cost, so the fit counts with
/// the time its stages originally took.
fn with_reused_stages(fit: Cost, report: &mut FitReport) -> Cost {
    let stages: f64 = report.stages.iter().map(|stage| stage.wall_seconds).sum();
    if stages <= fit.wall_seconds {
        return fit;
    }
    report
        .notes
        .push("a part of this fit came from the cache; its time is that of the original computation".to_owned());
    Cost { wall_seconds: stages, cpu_seconds: None, ..fit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcbench_model::StageTime;

    #[test]
    fn a_reused_stage_keeps_its_time() {
        let measured = Cost { wall_seconds: 2.0, cpu_seconds: Some(3.0), peak_memory_bytes: None };
        let stage = |wall_seconds| StageTime { stage: "elmo_pretraining".to_owned(), wall_seconds, samples: 1 };
        let mut computed = FitReport { stages: vec![stage(1.5)], ..FitReport::default() };
        assert_eq!(with_reused_stages(measured, &mut computed), measured);
        assert!(computed.notes.is_empty());
        let mut reused = FitReport { stages: vec![stage(90.0), stage(1.0)], ..FitReport::default() };
        let cost = with_reused_stages(measured, &mut reused);
        assert_eq!((cost.wall_seconds, cost.cpu_seconds), (91.0, None));
        assert_eq!(reused.notes.len(), 1);
    }
}
