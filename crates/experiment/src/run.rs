//! The runner: an experiment becomes fits, using cached stages where available, and the fits become records,
//! predictions and provenance in the results folder.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::assembly::assembled;
use super::cache::{Cache, FitArtifacts, StageCounts};
use super::evaluation::{Answers, Asked, DecisionCost, costs, evaluate, without_unknown};
use super::fit::{FitOutcome, FitRequest, fit, validation_score};
use super::flows::{CaptureFacts, Content, LoadedFlows, load_flows};
use super::held::require_held;
use super::invocation::Invocation;
use super::parts::published_parts;
use super::pretraining::{Divided, ElmoSources};
use super::provenance::Provenance;
use super::records::{curve_records, failure_records, outcome_records, tuning_records};
use super::tune::{Setting, Trial, Tuning, is_tuned};
use super::{Experiment, ExperimentError, Record, RunKey, Variant, memory};
use etcbench_feature::{FEATURES_VERSION, FeatureSet, Unselected, build_features, build_table_features};
use etcbench_leaks::LeakReport;
use etcbench_model::elmo::ElmoSource;
use etcbench_model::external::Failure;
use etcbench_model::{Device, FitSize, Input, ModelError, ModelSpec};
use etcbench_split::{
    GroupBy, Part, SmallClass, Split, SplitMethod, SplitSummary, leave_out_small_classes, sample_training, split,
    split_as_published,
};
use etcbench_storage::progress::Progress;
use etcbench_storage::{Determinants, Turn, counted};

/// Writes generated captures into a folder, or returns the reason why it cannot. Passed as a function, since this crate
/// does not depend on generators.
pub type Generator = fn(&Path, &dyn Progress) -> Result<(), String>;

/// Where, and on which device, an experiment runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The project's folder.
    pub project: PathBuf,
    /// The device for training deep models.
    pub device: Device,
    /// Why the device is not a GPU, if one was looked for; reported if a deep model is to be trained.
    pub device_reason: Option<String>,
    /// The cache of stages.
    pub cache: Cache,
    /// Generates the captures of the dataset `synth` if an experiment uses it and they do not exist.
    pub generator: Generator,
    /// Whether a fit that failed in a unit of this run counts as failed instead of being retried.
    pub take_failures: bool,
    /// Maximum memory of the process, in bytes; defaults to the free memory of the machine.
    pub memory_limit: Option<u64>,
}

impl Settings {
    /// Warns if no GPU was found and one of the models is deep.
    pub(super) fn tell_device<'m>(&self, mut models: impl Iterator<Item = &'m ModelSpec>, progress: &dyn Progress) {
        if let Some(reason) = &self.device_reason
            && models.any(|spec| spec.kind.entry().deep)
        {
            progress.warn(&format!("deep models train on the cpu: {reason}"));
        }
    }
}

/// A fit of a run, with everything needed for its records.
pub struct FittedRow {
    /// Identifies the fit.
    pub key: RunKey,
    /// The outcome.
    pub outcome: FitOutcome,
    /// Its key in the cache.
    pub cache_key: String,
    /// Whether it came from the cache.
    pub reused: bool,
    /// The settings tried in tuning; `None` if the model was not tuned.
    pub tuning: Option<Tuning>,
    /// The model's answers under the conditions of `[evaluation]`.
    pub answers: Vec<Answers>,
    /// The cost of its decisions, if measured.
    pub decision_cost: Option<DecisionCost>,
}

/// A failed fit of an external model, which counts as a result.
pub struct FailedFit {
    /// Identifies the fit.
    pub key: RunKey,
    /// The failure.
    pub failure: Failure,
}

/// A split of the flows of a variant, for one seed and fold.
pub struct SplitRun {
    /// The seed.
    pub seed: u64,
    /// The fold, from 0.
    pub fold: usize,
    /// The parts.
    pub split: Split,
    /// The training rows after sampling; equal to those of the split if nothing is sampled.
    pub training: Vec<usize>,
    /// Flows by class and part, and the captures that parts share.
    pub summary: SplitSummary,
    /// Leaks of the split and the features; `None` if only fits are requested.
    pub leaks: Option<LeakReport>,
}

/// A variant of a run: its flows and splits.
pub struct VariantRun {
    /// The variant's name.
    pub name: String,
    /// Number of flows excluded, by reason.
    pub unselected: Unselected,
    /// Classes left out because they have too few flows.
    pub small_classes: Vec<SmallClass>,
    /// The flows of the classes that models must not know.
    pub unknown: Option<FeatureSet>,
    /// The features of all its flows.
    pub features: FeatureSet,
    /// The splits: by seed, then by fold.
    pub splits: Vec<SplitRun>,
    /// Splits per seed: more than one with folds or repetitions.
    pub folds: usize,
}

impl VariantRun {
    /// Returns `seed0`, or `seed0-fold1` if there are several folds; used in file names.
    pub fn split_name(&self, seed: u64, fold: usize) -> String {
        if self.folds > 1 { format!("seed{seed}-fold{fold}") } else { format!("seed{seed}") }
    }
}

/// A finished run.
pub struct Run {
    /// The experiment that was run.
    pub experiment: Experiment,
    /// The command that started the run, and when; set by the caller.
    pub invocation: Invocation,
    /// The machine and program.
    pub provenance: Provenance,
    /// The captures of every variant's flows, with what determines the flows.
    pub captures: Vec<CaptureFacts>,
    /// The manifests of the datasets used.
    pub manifests: Vec<etcbench_dataset::Manifest>,
    /// Flows without a label in captures that have per-flow labels, with the flow options of the first variant, as CSV;
    /// empty if there are none.
    pub without_label: String,
    /// Notes on the data that readers of the results must know.
    pub data_notes: Vec<String>,
    /// Whether all flows were cached, so that no capture was read.
    pub flows_reused: bool,
    /// How often each stage was computed and how often it was cached.
    pub stages: StageCounts,
    /// The variants in order.
    pub variants: Vec<VariantRun>,
    /// The fits: variants, then seeds, then folds, then models, in the file's order.
    pub rows: Vec<FittedRow>,
    /// The failed fits, in the same order.
    pub failures: Vec<FailedFit>,
    /// Rungs of a ladder for which the data could not be divided.
    pub left_out: Vec<LeftOutVariant>,
}

/// A variant that was left out because the data cannot be divided as it requires.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LeftOutVariant {
    /// The variant.
    pub variant: String,
    /// The reason.
    pub problem: String,
}

impl Run {
    /// Returns all records, in a fixed order.
    ///
    /// # Errors
    /// Predictions are not distributions over the classes.
    pub fn records(&self) -> Result<Vec<Record>, ExperimentError> {
        let mut records = Vec::new();
        for variant in &self.variants {
            let rows = self.rows.iter().filter(|row| row.key.variant == variant.name);
            for row in rows {
                outcome_records(row, &variant.features.class_names, &mut records)?;
            }
        }
        failure_records(self, &mut records);
        tuning_records(self, &mut records);
        curve_records(self, &mut records);
        Ok(records)
    }
}

/// Runs every variant, seed, fold and model of `experiment`.
///
/// # Errors
/// Data is missing or unusable, or a model rejects its parameters, data or training. Completed fits stay in the cache.
pub fn run(experiment: &Experiment, settings: &Settings, progress: &dyn Progress) -> Result<Run, ExperimentError> {
    let settings = &Settings { cache: settings.cache.counting(), ..settings.clone() };
    settings.cache.remove_leftovers();
    check_parameters(experiment)?;
    let PreparedAll { mut loaded, variants: prepared, left_out } = prepare_all(experiment, settings, progress)?;
    let total =
        prepared.iter().map(|(variant, _, prepared)| variant.models.len() * prepared.splits.len()).sum::<usize>();
    settings.tell_device(experiment.variants.iter().flat_map(|variant| &variant.models), progress);
    let elmos = ElmoSources::load(experiment, &experiment.variants, settings, progress)?;
    for (variant, index, prepared) in &prepared {
        elmos.check(experiment, variant, &loaded[*index], prepared)?;
    }
    let contexts: Vec<_> = prepared
        .iter()
        .map(|(variant, index, prepared)| {
            let (flows, elmos) = (&loaded[*index], &elmos);
            (VariantContext { experiment, variant, flows, elmos, settings, progress }, prepared)
        })
        .collect();
    memory::check_fits(&experiment.name, &contexts, settings, progress)?;
    drop(contexts);
    progress.begin(&format!("{}: {}", experiment.name, counted(total as u64, "fit")), total as u64);
    let mut variants = Vec::new();
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    for (variant, index, prepared) in prepared {
        let (flows, elmos) = (&loaded[index], &elmos);
        let context = VariantContext { experiment, variant, flows, elmos, settings, progress };
        for split in &prepared.splits {
            for spec in &variant.models {
                match context.fit(&prepared, split, spec) {
                    Ok(row) => rows.push(row),
                    Err(error) => failures.push(FailedFit {
                        key: context.run_key(spec, split),
                        failure: context.told_failure(split, error)?,
                    }),
                }
                progress.advance(1);
            }
        }
        variants.push(prepared);
    }
    progress.end();
    let is_new = |manifest: &etcbench_dataset::Manifest| !experiment.datasets.contains(&manifest.dataset);
    let mut run = assembled(experiment, settings, &mut loaded, variants, rows);
    run.manifests.extend(elmos.manifests().into_iter().filter(is_new));
    run.failures = failures;
    run.left_out = left_out;
    Ok(run)
}

/// Validates parameters up front, rather than after hours of training.
pub(super) fn check_parameters(experiment: &Experiment) -> Result<(), ExperimentError> {
    for variant in &experiment.variants {
        for spec in &variant.models {
            for setting in settings_of(experiment, spec)? {
                etcbench_model::build(&setting.spec)?;
            }
        }
    }
    Ok(())
}

/// Computes everything up to training: the flows of every variant, their splits, and the leaks of the splits.
///
/// # Errors
/// Data is missing or unusable, or flows cannot be divided as requested.
pub fn divide(
    experiment: &Experiment,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Vec<VariantRun>, ExperimentError> {
    let prepared = prepare_all(experiment, settings, progress)?.variants;
    Ok(prepared.into_iter().map(|(_, _, variant)| variant).collect())
}

/// A variant, the index of its flows among the loaded ones, and its features and splits.
pub(super) type Prepared<'a> = (&'a Variant, usize, VariantRun);

/// The flows for every set of flow options, and the prepared variants.
pub(super) struct PreparedAll<'a> {
    pub loaded: Vec<LoadedFlows>,
    pub variants: Vec<Prepared<'a>>,
    pub left_out: Vec<LeftOutVariant>,
}

pub(super) fn prepare_all<'a>(
    experiment: &'a Experiment,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<PreparedAll<'a>, ExperimentError> {
    let left =
        |(variant, problem): &(String, String)| LeftOutVariant { variant: variant.clone(), problem: problem.clone() };
    let mut left_out: Vec<LeftOutVariant> = experiment.left_out.iter().map(left).collect();
    let mut loaded: Vec<LoadedFlows> = Vec::new();
    let mut prepared = Vec::new();
    for variant in &experiment.variants {
        let options = super::flows::flow_options(experiment, variant);
        let index = match loaded.iter().position(|flows| flows.options == options) {
            Some(index) => index,
            None => {
                let flows = load_flows(experiment, options, settings, progress)?;
                if loaded.is_empty() {
                    flows.notes.iter().for_each(|note| progress.warn(note));
                }
                loaded.push(flows);
                loaded.len() - 1
            }
        };
        memory::check_features(variant, &loaded[index], settings)?;
        let mut variant_run = match prepare(experiment, variant, &loaded[index], settings, progress) {
            Err(error) if experiment.ladder.is_some() && error.is_of_division() => {
                progress.warn(&format!("{} is left out: {error}", variant.name));
                left_out.push(LeftOutVariant { variant: variant.name.clone(), problem: error.to_string() });
                continue;
            }
            prepared => prepared?,
        };
        let parts: Vec<&Split> = variant_run.splits.iter().map(|run| &run.split).collect();
        let leaks = super::leaks::reports(variant, &variant_run.features, &loaded[index], &parts)?;
        for (run, leaks) in variant_run.splits.iter_mut().zip(leaks) {
            run.leaks = Some(leaks);
        }
        prepared.push((variant, index, variant_run));
    }
    if let (true, Some(LeftOutVariant { variant, problem })) = (prepared.is_empty(), left_out.first()) {
        let problem = format!("no rung of the ladder remains; {variant}: {problem}");
        return Err(ExperimentError::Features { problem });
    }
    Ok(PreparedAll { loaded, variants: prepared, left_out })
}

/// Builds the features of a variant's flows, and divides them.
pub(super) fn prepare(
    experiment: &Experiment,
    variant: &Variant,
    flows: &LoadedFlows,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<VariantRun, ExperimentError> {
    // The selection may draw a subsample; it is the same for every seed, so that seeds differ only in split and
    // training.
    let columns = variant.packet_columns();
    let (features, unselected) = match &flows.content {
        Content::Flows(labelled) => {
            require_held(variant, flows)?;
            let (mut features, unselected) =
                build_features(labelled, &variant.selection, &variant.feature, columns, &flows.options, 0)?;
            features.keep_statistics(|name| flows.holds.iter().all(|holds| holds.knows(name)));
            (features, unselected)
        }
        Content::Table(table) => {
            let located = table.rows.iter().all(|row| !row.provenance.five_tuple.destination.ip().is_unspecified());
            require_no_packets(variant, located)?;
            let (features, unselected) = build_table_features(table, &variant.selection, 0)?;
            let left: Vec<&str> = table
                .names
                .iter()
                .filter(|name| !features.statistic_names.contains(name))
                .map(String::as_str)
                .collect();
            if !left.is_empty() {
                progress.warn(&format!(
                    "{}: columns left out because not every file of the selected rows has them: {}",
                    variant.name,
                    left.join(", ")
                ));
            }
            (features, unselected)
        }
    };
    let options = variant.split.relative_to(&settings.project);
    let (features, unknown) = without_unknown(features, &experiment.evaluation.unknown_classes)?;
    let (features, small_classes) = leave_out_small_classes(features, &options)?;
    for small in &small_classes {
        progress.warn(&format!("{}: class {} is left out: {}", variant.name, small.class, small.lacks));
    }
    let (features, published) = match published_parts(variant, flows, &features)? {
        None => (features, None),
        Some(parts) => {
            let used: Vec<usize> = (0..features.len()).filter(|&row| parts[row].is_some()).collect();
            if used.len() < features.len() {
                progress.warn(&format!(
                    "{}: {} in none of the published parts, not used",
                    variant.name,
                    counted((features.len() - used.len()) as u64, "flow")
                ));
            }
            (features.with_rows(&used), Some(parts.into_iter().flatten().collect::<Vec<Part>>()))
        }
    };
    let mut divided = Vec::new();
    let mut folds = 0;
    for &seed in &experiment.seeds {
        let of_seed = match &published {
            Some(parts) => vec![split_as_published(&features, parts, &options, seed)?],
            None => split(&features, &options, seed)?,
        };
        folds = of_seed.len().max(folds);
        divided.extend(of_seed.into_iter().enumerate().map(|(fold, split)| (seed, fold, split)));
    }
    let splits = divided.into_iter().map(|(seed, fold, split)| {
        let summary = SplitSummary::new(&features, &split);
        let training = sample_training(&features, &split, &options, seed);
        SplitRun { seed, fold, split, training, summary, leaks: None }
    });
    let splits = splits.collect();
    Ok(VariantRun { name: variant.name.clone(), unselected, small_classes, unknown, features, splits, folds })
}

/// Feature files have no bytes, packets or times, and addresses only if their definition names the columns.
fn require_no_packets(variant: &Variant, located: bool) -> Result<(), ExperimentError> {
    let problem = |problem: String| Err(ExperimentError::Features { problem });
    let reads_packets = |spec: &&ModelSpec| {
        (spec.reads_bytes() || spec.reads_sequences() || spec.reads_flowpic()) && spec.kind.entry().reads_input
    };
    if let Some(spec) = variant.models.iter().find(reads_packets) {
        let (model, input) = (spec.kind.name(), spec.input.name());
        return problem(if !spec.kind.entry().inputs.contains(&Input::Statistics) {
            format!("{model} reads packet bytes, but the dataset's feature files have none; remove it from `models`")
        } else {
            format!(
                "{model} has input = \"{input}\", but the dataset's feature files have no packets; set \
                 model.{model}.input = \"statistics\""
            )
        });
    }
    if variant.split.method == SplitMethod::Temporal {
        return problem(
            "feature files have no times to split by; use method = \"stratified\" or \"k_fold\"".to_owned(),
        );
    }
    if let Some(group @ (GroupBy::Host | GroupBy::Connection)) = variant.split.group
        && !located
    {
        return problem(format!(
            "the feature files have no addresses to split by {}; name their columns in [features.endpoints] of the \
             definition, or split without `group`",
            group.name()
        ));
    }
    Ok(())
}

/// Returns the settings of a model to try; only its own values if nothing is tuned.
pub(super) fn settings_of(experiment: &Experiment, spec: &ModelSpec) -> Result<Vec<Setting>, ExperimentError> {
    match &experiment.tune {
        Some(tune) => Ok(tune.settings(spec)?),
        None => Ok(vec![Setting { name: String::new(), spec: spec.clone() }]),
    }
}

/// Cache stage of failed fits.
const FAILURES: &str = "failures";

/// What the fits of a variant share.
pub(super) struct VariantContext<'a> {
    pub experiment: &'a Experiment,
    pub variant: &'a Variant,
    pub flows: &'a LoadedFlows,
    pub elmos: &'a ElmoSources,
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
                        let elmo = self.elmo(prepared, split, &spec)?;
                        Ok(fit(&request, elmo, &FitArtifacts::new(cache, Some(&cache_key)), self.progress)?.1)
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
            None => self.elmo(prepared, split, &spec).and_then(|elmo| fit(&request, elmo, &artifacts, self.progress)),
        };
        self.progress.end();
        if let Err(ExperimentError::Model(ModelError::External(failure))) = &fitted {
            put_json(cache, FAILURES, &cache_key, failure)?;
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
        let asked = Asked { options, variant, flows, prepared, split, spec, cache_key };
        let answers = evaluate(&asked, model, self.settings, self.progress)?;
        Ok((answers, costs(&asked, model, self.settings, self.progress)?))
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
        let elmo = self.elmo(prepared, split, &setting.spec)?;
        let macro_f1 = validation_score(&request, elmo, &artifacts, self.progress)?;
        let wall_seconds = started.elapsed().as_secs_f64();
        let trial = Trial { setting: setting.name.clone(), macro_f1, wall_seconds };
        put_json(cache, "trials", &key, &trial)?;
        artifacts.remove_not_needed();
        Ok(trial)
    }

    /// Returns the source of a fit's ELMo, if it is not pre-trained on the training part alone.
    fn elmo(
        &self,
        prepared: &VariantRun,
        split: &SplitRun,
        spec: &ModelSpec,
    ) -> Result<Option<ElmoSource>, ExperimentError> {
        let (flows, features, seed) = (self.flows, &prepared.features, split.seed);
        let divided = Divided { flows, features, split: &split.split, training: &split.training, seed };
        self.elmos.source(self.variant, spec, divided)
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
            // What runs on the CPU anyway has the same key everywhere.
            device: if spec.can_use_gpu() { self.settings.device } else { Device::Cpu },
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
        self.elmos.add_to(request.device.add_to(facts), spec, &self.flows.options, &split.test).key()
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

/// Returns `cpu`, or `cuda:N` with the precision of matrix products unless it is the default.
pub fn device_name(device: Device) -> String {
    device.name()
}

/// Returns the name of the folder under `results/` for an experiment's last run: experiment, datasets and size, and a
/// hash if the command line changed what is computed.
pub fn results_name(experiment: &Experiment, changed: bool) -> String {
    let name = format!("{}-{}-{}", experiment.name, experiment.datasets.join("+"), experiment.size);
    if changed { format!("{name}-{}", short_hash(&experiment.resolved.to_string())) } else { name }
}

/// Returns an eight-digit hash that distinguishes folders of changed experiments. It excludes versions, so that names
/// stay stable.
pub(super) fn short_hash(changed: &impl serde::Serialize) -> String {
    let json = serde_json::to_vec(changed).expect("resolved experiments are text");
    hex::encode(Sha256::digest(json))[..8].to_owned()
}

/// Returns the results folder of the project.
pub fn results_folder(project: &Path) -> PathBuf {
    project.join("results")
}
