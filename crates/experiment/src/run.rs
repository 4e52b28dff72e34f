//! The runner: an experiment becomes fits, using cached stages where available, and the fits become records,
//! predictions and provenance in the results folder.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::assembly::assembled;
use super::cache::{Cache, StageCounts};
use super::capture_facts::CaptureFacts;
use super::evaluation::{Answers, DecisionCost};
use super::fit::FitOutcome;
use super::invocation::Invocation;
use super::prepare::{PreparedAll, prepare_all};
use super::pretraining::PretrainingSources;
use super::provenance::Provenance;
use super::records::{curve_records, failure_records, outcome_records, tuning_records};
use super::tune::Tuning;
use super::variant_fits::{VariantContext, settings_of};
use super::{Experiment, ExperimentError, Record, RunKey, memory};
use etcbench_feature::{FeatureSet, Unselected};
use etcbench_leaks::LeakReport;
use etcbench_model::external::Failure;
use etcbench_model::{Device, ModelSpec};
use etcbench_split::{SmallClass, Split, SplitSummary};
use etcbench_storage::counted;
use etcbench_storage::progress::Progress;

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
    let sources = PretrainingSources::load(experiment, &experiment.variants, settings, progress)?;
    for (variant, index, prepared) in &prepared {
        sources.check(experiment, variant, &loaded[*index], prepared)?;
    }
    let contexts: Vec<_> = prepared
        .iter()
        .map(|(variant, index, prepared)| {
            let (flows, sources) = (&loaded[*index], &sources);
            (VariantContext { experiment, variant, flows, sources, settings, progress }, prepared)
        })
        .collect();
    memory::check_fits(&experiment.name, &contexts, settings, progress)?;
    drop(contexts);
    progress.begin(&format!("{}: {}", experiment.name, counted(total as u64, "fit")), total as u64);
    let mut variants = Vec::new();
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    for (variant, index, prepared) in prepared {
        let (flows, sources) = (&loaded[index], &sources);
        let context = VariantContext { experiment, variant, flows, sources, settings, progress };
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
    run.manifests.extend(sources.manifests().into_iter().filter(is_new));
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
