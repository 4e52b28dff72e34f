//! Compares fast and reference implementations: fits both for every model on the same features, split and seed, and
//! measures their agreement. The table of models specifies the required agreement, with the reason.

use super::fit::{FitOutcome, FitRequest, fit};
use super::flows::load_flows;
use super::prepare::prepare;
use super::pretraining::{Divided, PretrainingSources};
use super::run::Settings;
use super::{Cost, Experiment, ExperimentError};
use etcbench_evaluate::argmax;
use etcbench_model::{AgreementBound, Implementation, ModelError, ModelSpec, NoArtifacts};
use etcbench_storage::progress::Progress;

/// Results of one implementation.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Macro F1 on the test rows.
    pub macro_f1: f64,
    /// Cost of fitting.
    pub fit: Cost,
    /// Cost of predicting the test rows.
    pub predict: Cost,
}

/// Comparison of the fast and reference implementations for one model and input.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// The model's name.
    pub model: String,
    /// The model's input.
    pub input: String,
    /// Number of rows fitted on.
    pub training_flows: usize,
    /// Number of rows predicted.
    pub test_flows: usize,
    /// The fast implementation.
    pub fast: Measured,
    /// The reference, or why it refused.
    pub reference: Result<Measured, String>,
    /// Share of test rows with the same prediction; `None` if the reference refused.
    pub agreement: Option<f64>,
    /// The required agreement.
    pub bound: AgreementBound,
    /// Number of training rows above which the reference refuses; `None` if there is no limit.
    pub reference_limit: Option<usize>,
}

impl Agreement {
    /// Returns whether the implementations agree as required. A reference that refused the data size does not count as
    /// agreement.
    pub fn holds(&self) -> bool {
        let Ok(reference) = &self.reference else { return false };
        let difference = (self.fast.macro_f1 - reference.macro_f1).abs();
        self.agreement.is_some_and(|agreement| agreement >= self.bound.agreement) && difference <= self.bound.macro_f1
    }
}

/// Fits both implementations of every model that has two, for the experiment's first variant and seed. Only flows are
/// taken from the cache, so that times are measured.
///
/// # Errors
/// Same as [`super::run`]; a reference that refuses the data size is part of the result.
pub fn verify_models(
    experiment: &Experiment,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Vec<Agreement>, ExperimentError> {
    let variant = &experiment.variants[0];
    let once = Experiment { seeds: experiment.seeds[..1].to_vec(), ..experiment.clone() };
    let loaded = load_flows(&once, super::flows::flow_options(&once, variant), settings, progress)?;
    let prepared = prepare(&once, variant, &loaded, settings, progress)?;
    let split = &prepared.splits[0];
    let sources = PretrainingSources::load(&once, std::slice::from_ref(variant), settings, progress)?;
    let (features, seed) = (&prepared.features, split.seed);
    let divided = Divided { flows: &loaded, features, split: &split.split, training: &split.training, seed };
    let models: Vec<(&ModelSpec, AgreementBound)> =
        variant.models.iter().filter_map(|spec| Some((spec, spec.kind.entry().agreement?))).collect();
    settings.tell_device(models.iter().map(|(spec, _)| *spec), progress);
    progress.begin("fast and reference", 2 * models.len() as u64);
    let mut results = Vec::new();
    for (spec, bound) in models {
        let run = |implementation: Implementation| {
            progress.note(&format!("{} {} {}", spec.kind.name(), spec.input.name(), implementation.name()));
            let spec = ModelSpec { implementation, ..spec.clone() };
            let request = FitRequest {
                spec: &spec,
                features: &prepared.features,
                split: &split.split,
                training: &split.training,
                seed: split.seed,
                device: settings.device,
            };
            let source = sources.source(variant, &spec, divided)?;
            let result = fit(&request, source, &NoArtifacts, progress).map(|(outcome, _)| outcome);
            progress.advance(1);
            result
        };
        let classes = prepared.features.class_names.len();
        let measured = |outcome: &FitOutcome| -> Result<Measured, ExperimentError> {
            let macro_f1 = outcome.metrics(classes)?.macro_average.f1;
            Ok(Measured { macro_f1, fit: outcome.fit, predict: outcome.predict })
        };
        let fast = run(Implementation::Fast)?;
        let limit = spec.kind.entry().reference_row_limit;
        let (reference, agreement) = match run(Implementation::Reference) {
            Ok(reference) => {
                let first = argmax(fast.probability_matrix(classes)?);
                let second = argmax(reference.probability_matrix(classes)?);
                let same = first.iter().zip(&second).filter(|(first, second)| first == second).count();
                (Ok(measured(&reference)?), Some(same as f64 / first.len() as f64))
            }
            Err(ExperimentError::Model(ModelError::Data { problem, .. }))
                if limit.is_some_and(|limit| split.training.len() > limit) =>
            {
                (Err(problem), None)
            }
            Err(error) => return Err(error),
        };
        results.push(Agreement {
            model: spec.kind.name().to_owned(),
            input: spec.input.name().to_owned(),
            training_flows: fast.training_flows,
            test_flows: fast.test_rows.len(),
            fast: measured(&fast)?,
            reference,
            agreement,
            bound,
            reference_limit: limit,
        });
    }
    progress.end();
    Ok(results)
}
