//! The fits of a variant: a model is tuned, fitted, stored in the cache, and queried under the conditions of
//! `[evaluation]`; each step is taken from the cache where it is there.

use super::cache::{Cache, FitArtifacts};
use super::evaluation::{Answers, DecisionCost, EvaluatedModel, costs, evaluate};
use super::fit::{FitOutcome, FitRequest, fit, validation_score};
use super::flows::LoadedFlows;
use super::pretraining::{Divided, PretrainingSources};
use super::run::{FittedRow, Settings, SplitRun, VariantRun};
use super::tune::{Setting, Trial, Tuning, is_tuned};
use super::{Experiment, ExperimentError, RunKey, Variant};
use etcbench_feature::FEATURES_VERSION;
use etcbench_model::external::Failure;
use etcbench_model::pretraining::PretrainingSource;
use etcbench_model::{Device, FitSize, ModelError, ModelSpec};
use etcbench_storage::progress::Progress;
use etcbench_storage::{Determinants, Turn, counted};

/// Returns the settings of a model to try; only its own values if nothing is tuned.
pub(super) fn settings_of(experiment: &Experiment, spec: &ModelSpec) -> Result<Vec<Setting>, ExperimentError> {
    match &experiment.tune {
        Some(tune) => Ok(tune.settings(spec)?),
        None => Ok(vec![Setting { name: String::new(), spec: spec.clone() }]),
    }
}

/// Cache stage of failed fits.
const FAILURES: &str = "failures";

/// Returns whether an external model failed. Its next fit starts anew, without what this one kept.
fn has_failed<T>(fitted: &Result<T, ExperimentError>) -> bool {
    matches!(fitted, Err(ExperimentError::Model(ModelError::External(_))))
}

/// What the fits of a variant share.
pub(super) struct VariantContext<'a> {
    pub experiment: &'a Experiment,
    pub variant: &'a Variant,
    pub flows: &'a LoadedFlows,
    pub sources: &'a PretrainingSources,
    pub settings: &'a Settings,
    pub progress: &'a dyn Progress,
}

impl VariantContext<'_> {
    /// Tunes the model if requested, then fits it; uses cached results where available.
    pub(crate) fn fit(
        &self,
        prepared: &VariantRun,
        split: &SplitRun,
        spec: &ModelSpec,
    ) -> Result<FittedRow, ExperimentError> {
        let key = self.run_key(spec, split);
        let what = format!("{} {} {}", key.model, key.input, prepared.split_name(key.seed, key.fold));
        self.progress.note(&what);
        let (spec, tuning) = match is_tuned(self.experiment.tune.as_ref(), spec.kind) {
            true => self.tune(prepared, split, spec)?,
            false => (spec.clone(), None),
        };
        let request = self.request(prepared, split, &spec);
        let cache_key = self.cache_key("fit", &request);
        let cache = &self.settings.cache;
        let _claim = match cache.look_up_json::<FitOutcome>("fits", &cache_key, self.progress) {
            Turn::Ready(outcome) => {
                // A model missing from the cache is fitted again, with identical bits.
                let model = || match cache.get("models", &cache_key) {
                    Some(model) => Ok(model),
                    None => {
                        let source = self.source(prepared, split, &spec)?;
                        let artifacts = FitArtifacts::new(cache, Some(&cache_key));
                        let fitted = fit(&request, source, &artifacts, self.progress);
                        // No other result of this fit is stored, which would be the time to remove them.
                        if fitted.is_ok() || has_failed(&fitted) {
                            artifacts.remove_not_needed();
                        }
                        Ok(fitted?.1)
                    }
                };
                let (answers, decision_cost) = self.answers(prepared, split, &spec, &cache_key, &model)?;
                return Ok(FittedRow { key, outcome, cache_key, reused: true, tuning, answers, decision_cost });
            }
            Turn::Ours(claim) => claim,
        };
        self.progress.begin(&format!("{} {what}", key.variant), 0);
        let artifacts = FitArtifacts::new(cache, Some(&cache_key));
        let fitted = match self.known_failure(&cache_key) {
            Some(failure) => Err(ModelError::External(Box::new(failure)).into()),
            None => {
                self.source(prepared, split, &spec).and_then(|source| fit(&request, source, &artifacts, self.progress))
            }
        };
        self.progress.end();
        if let Err(ExperimentError::Model(ModelError::External(failure))) = &fitted {
            put_json(cache, FAILURES, &cache_key, failure)?;
        }
        if has_failed(&fitted) {
            artifacts.remove_not_needed();
        }
        let (outcome, model) = fitted?;
        // Store the model first: a cached outcome implies a cached model.
        cache.put("models", &cache_key, &model).map_err(cannot_store)?;
        put_json(cache, "fits", &cache_key, &outcome)?;
        artifacts.remove_not_needed();
        let (answers, decision_cost) = self.answers(prepared, split, &spec, &cache_key, &|| Ok(model.clone()))?;
        Ok(FittedRow { key, outcome, cache_key, reused: false, tuning, answers, decision_cost })
    }

    /// Returns a fitted model's answers under the conditions of `[evaluation]`, and the cost of its decisions.
    fn answers(
        &self,
        prepared: &VariantRun,
        split: &SplitRun,
        spec: &ModelSpec,
        cache_key: &str,
        model: &dyn Fn() -> Result<Vec<u8>, ExperimentError>,
    ) -> Result<(Vec<Answers>, Option<DecisionCost>), ExperimentError> {
        let (variant, flows, options) = (self.variant, self.flows, &self.experiment.evaluation);
        let evaluated = EvaluatedModel { options, variant, flows, prepared, split, spec, cache_key };
        let answers = evaluate(&evaluated, model, self.settings, self.progress)?;
        Ok((answers, costs(&evaluated, model, self.settings, self.progress)?))
    }

    /// Returns the failure of a fit in a unit of the same run.
    fn known_failure(&self, cache_key: &str) -> Option<Failure> {
        let cache = Some(&self.settings.cache).filter(|_| self.settings.take_failures)?;
        serde_json::from_slice(&cache.get(FAILURES, cache_key)?).ok()
    }

    /// Reports and returns the failure of an external model; passes on all other errors.
    pub(super) fn told_failure(&self, split: &SplitRun, error: ExperimentError) -> Result<Failure, ExperimentError> {
        let ExperimentError::Model(ModelError::External(failure)) = error else { return Err(error) };
        self.progress.warn(&format!("{}, seed {}: a fit failed: {failure}", self.variant.name, split.seed));
        Ok(*failure)
    }

    /// Returns the setting with the best score on the validation part, and all settings tried.
    fn tune(
        &self,
        prepared: &VariantRun,
        split: &SplitRun,
        spec: &ModelSpec,
    ) -> Result<(ModelSpec, Option<Tuning>), ExperimentError> {
        let settings = settings_of(self.experiment, spec)?;
        let what =
            format!("tuning {} {}: {}", spec.kind.name(), spec.input.name(), counted(settings.len() as u64, "setting"));
        self.progress.begin(&what, settings.len() as u64);
        let mut failed = None;
        let trials = settings.iter().map(|setting| {
            let trial = match self.trial(prepared, split, setting) {
                // A setting with which an external model fails has no score.
                Err(ExperimentError::Model(ModelError::External(failure))) => {
                    self.progress.warn(&format!("{}: {failure}", setting.name));
                    failed = Some(failure);
                    Ok(Trial { setting: setting.name.clone(), macro_f1: None, wall_seconds: 0.0 })
                }
                trial => trial,
            };
            self.progress.advance(1);
            trial
        });
        let trials: Result<Vec<Trial>, ExperimentError> = trials.collect();
        self.progress.end();
        let tuning = Tuning::choose(trials?).ok_or_else(|| match failed {
            Some(failure) => ModelError::External(failure).into(),
            None => ExperimentError::Tuning { model: spec.kind.name().to_owned() },
        })?;
        Ok((settings[tuning.chosen].spec.clone(), Some(tuning)))
    }

    fn trial(&self, prepared: &VariantRun, split: &SplitRun, setting: &Setting) -> Result<Trial, ExperimentError> {
        let request = self.request(prepared, split, &setting.spec);
        let cache = &self.settings.cache;
        let key = self.cache_key("trial", &request);
        let _claim = match cache.look_up_json::<Trial>("trials", &key, self.progress) {
            Turn::Ready(trial) => return Ok(Trial { setting: setting.name.clone(), ..trial }),
            Turn::Ours(claim) => claim,
        };
        let started = std::time::Instant::now();
        let artifacts = FitArtifacts::new(cache, Some(&key));
        let source = self.source(prepared, split, &setting.spec)?;
        let macro_f1 = validation_score(&request, source, &artifacts, self.progress);
        if has_failed(&macro_f1) {
            artifacts.remove_not_needed();
        }
        let wall_seconds = started.elapsed().as_secs_f64();
        let trial = Trial { setting: setting.name.clone(), macro_f1: macro_f1?, wall_seconds };
        put_json(cache, "trials", &key, &trial)?;
        artifacts.remove_not_needed();
        Ok(trial)
    }

    /// Returns what a fit's model is pre-trained on, if that is not the training part alone.
    fn source(
        &self,
        prepared: &VariantRun,
        split: &SplitRun,
        spec: &ModelSpec,
    ) -> Result<Option<PretrainingSource>, ExperimentError> {
        let (flows, features, seed) = (self.flows, &prepared.features, split.seed);
        let divided = Divided { flows, features, split: &split.split, training: &split.training, seed };
        self.sources.source(self.variant, spec, divided)
    }

    /// Returns the sizes of a fit.
    pub(super) fn fit_size(&self, prepared: &VariantRun, split: &SplitRun) -> FitSize {
        let features = &prepared.features;
        let mut class_counts = vec![0; features.class_names.len()];
        split.training.iter().for_each(|&row| class_counts[features.labels[row] as usize] += 1);
        FitSize {
            class_counts,
            validation: split.split.validation.len(),
            predicted: split.split.test.len().max(split.split.validation.len()),
            packets: features.tokens.packets,
            bytes: features.tokens.bytes,
            statistics: features.statistic_names.len(),
            sequence_columns: features.sequences.ncols(),
            pixels: features.flowpics.ncols(),
            device: self.settings.device,
            threads: rayon::current_num_threads(),
        }
    }

    pub(super) fn request<'b>(
        &self,
        prepared: &'b VariantRun,
        split: &'b SplitRun,
        spec: &'b ModelSpec,
    ) -> FitRequest<'b> {
        FitRequest {
            spec,
            features: &prepared.features,
            split: &split.split,
            training: &split.training,
            seed: split.seed,
            device: self.settings.device,
        }
    }

    pub(super) fn run_key(&self, spec: &ModelSpec, split: &SplitRun) -> RunKey {
        RunKey {
            experiment: self.experiment.name.clone(),
            dataset: self.experiment.datasets.join("+"),
            size: self.experiment.size.clone(),
            variant: self.variant.name.clone(),
            model: spec.kind.name().to_owned(),
            input: spec.input.name().to_owned(),
            implementation: spec.implementation_name().to_owned(),
            seed: split.seed,
            fold: split.fold,
        }
    }

    /// Returns the cache key of a fit or a trial, over everything that determines it. A trial does not depend on the
    /// test part.
    pub(super) fn cache_key(&self, kind: &'static str, request: &FitRequest<'_>) -> String {
        let (split, spec) = (request.split, request.spec);
        let test: &[usize] = if kind == "fit" { &split.test } else { &[] };
        // Exclude inputs that the model does not read.
        let feature = (spec.reads_bytes() && spec.kind.entry().reads_input).then_some(&self.variant.feature);
        let sequences = spec.reads_sequences().then_some(&self.variant.sequences);
        let facts = Determinants::of(kind, spec.kind.entry().version)
            .and("flows", &self.flows.key)
            .and("features_version", &FEATURES_VERSION)
            .and("selection", &self.variant.selection)
            .and("classes", &request.features.class_names)
            .and("feature", &feature)
            .and("sequences", &sequences)
            .and("training", request.training)
            .and("validation", &split.validation)
            .and("test", test)
            .and("model", &spec.kind)
            .and("input", &spec.input)
            .and("implementation", &spec.implementation)
            .and("parameters", &spec.parameters.to_string())
            .and("seed", &request.seed);
        let facts = match spec.reads_flowpic() {
            true => facts.and("flowpic", &self.variant.flowpic),
            false => facts,
        };
        let members: Vec<u32> = spec.members().iter().map(|member| member.kind.entry().version).collect();
        let facts = if members.is_empty() { facts } else { facts.and("member_versions", &members) };
        let facts = match spec.kind.entry().external {
            Some(package) => facts.and("external", &package.identity()),
            None => facts,
        };
        // A mean of models changes when a member's program does.
        let members: Vec<[String; 3]> =
            spec.members().iter().filter_map(|member| Some(member.kind.entry().external?.identity())).collect();
        let facts = if members.is_empty() { facts } else { facts.and("external_members", &members) };
        // What runs on the CPU anyway has the same key everywhere.
        let device = if spec.can_use_gpu() { request.device } else { Device::Cpu };
        self.sources.add_to(device.add_to(facts), spec, &self.flows.options, split).key()
    }
}

fn cannot_store(error: std::io::Error) -> ExperimentError {
    ExperimentError::Store { path: "the cache".into(), problem: error.to_string() }
}

pub(super) fn put_json(
    cache: &Cache,
    stage: &str,
    key: &str,
    value: &impl serde::Serialize,
) -> Result<(), ExperimentError> {
    let json = serde_json::to_vec(value)
        .map_err(|error| ExperimentError::Internal { problem: format!("{stage}: {error}") })?;
    cache.put(stage, key, &json).map_err(cannot_store)
}
