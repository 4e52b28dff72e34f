//! The runner: an experiment becomes fits, every stage taken from the cache where it is there, and the
//! fits become records, predictions and provenance in the results folder.

use std::path::{Path, PathBuf};

use super::cache::{self, Cache};
use super::fit::{FitOutcome, FitRequest, fit};
use super::flows::{CaptureFacts, LoadedFlows, load_flows};
use super::provenance::Provenance;
use super::records::{curve_records, outcome_records};
use super::{Experiment, ExperimentError, Record, RunKey, Variant};
use crate::dataset::{FlowWithoutLabel, Manifest};
use crate::feature::{FeatureSet, Unselected, build_features};
use crate::model::{Device, ModelSpec};
use crate::progress::Progress;
use crate::split::{Split, SplitSummary, split};

/// Raised whenever a change to the code changes what a fit computes, so that no older fit is reused.
const FIT_VERSION: u32 = 1;

/// Where and on what an experiment runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The project's folder.
    pub project: PathBuf,
    /// Where deep models train.
    pub device: Device,
    /// Where stages are kept.
    pub cache: Cache,
}

/// One fit of a run with everything that records are made of.
pub struct FittedRow {
    /// What was fitted.
    pub key: RunKey,
    /// What came of it.
    pub outcome: FitOutcome,
    /// The name of its entry in the cache.
    pub cache_key: String,
    /// Whether it came from the cache.
    pub reused: bool,
}

/// A variant of a run: its flows and splits.
pub struct VariantRun {
    /// The variant's name.
    pub name: String,
    /// How many flows were left out, by reason.
    pub unselected: Unselected,
    /// The features of all its flows.
    pub features: FeatureSet,
    /// Per seed: how the flows were divided.
    pub splits: Vec<(u64, Split, SplitSummary)>,
}

/// A finished run.
pub struct Run {
    /// The experiment that was run.
    pub experiment: Experiment,
    /// The machine and program.
    pub provenance: Provenance,
    /// The flows of every variant's captures, by what determines them.
    pub captures: Vec<CaptureFacts>,
    /// What the copies of the datasets hold, a manifest each.
    pub manifests: Vec<Manifest>,
    /// Flows that got no label although their captures have labels of single flows, under the flow options of the
    /// first variant.
    pub without_label: Vec<FlowWithoutLabel>,
    /// The variants in order.
    pub variants: Vec<VariantRun>,
    /// The fits: variants, then seeds, then models, in the file's order.
    pub rows: Vec<FittedRow>,
}

impl Run {
    /// All records, in a fixed order.
    ///
    /// # Errors
    /// Predictions that are not distributions over the classes.
    pub fn records(&self) -> Result<Vec<Record>, ExperimentError> {
        let mut records = Vec::new();
        for variant in &self.variants {
            let rows = self.rows.iter().filter(|row| row.key.variant == variant.name);
            for row in rows {
                outcome_records(row, &variant.features.class_names, &mut records)?;
            }
        }
        curve_records(self, &mut records);
        Ok(records)
    }
}

/// Runs every variant, seed and model of `experiment`.
///
/// # Errors
/// Data that is missing or unusable, and whatever a model says of its parameters, data or training. What was
/// fitted before stays in the cache.
pub fn run(experiment: &Experiment, settings: &Settings, progress: &dyn Progress) -> Result<Run, ExperimentError> {
    // Bad parameters are told before hours of training, not after.
    for variant in &experiment.variants {
        for spec in &variant.models {
            crate::model::build(spec)?;
        }
    }
    let mut loaded: Vec<LoadedFlows> = Vec::new();
    let mut prepared = Vec::new();
    for variant in &experiment.variants {
        let options = super::flows::flow_options(experiment, variant);
        let index = match loaded.iter().position(|flows| flows.options == options) {
            Some(index) => index,
            None => {
                loaded.push(load_flows(experiment, options, settings, progress)?);
                loaded.len() - 1
            }
        };
        prepared.push((variant, index, prepare(experiment, variant, &loaded[index])?));
    }
    let total = prepared.iter().map(|(variant, ..)| variant.models.len() * experiment.seeds.len()).sum::<usize>();
    progress.begin(&format!("{}: {total} fits", experiment.name), total as u64);
    let mut variants = Vec::new();
    let mut rows = Vec::new();
    for (variant, index, prepared) in prepared {
        for (seed, split, _) in &prepared.splits {
            for spec in &variant.models {
                let request =
                    FitRequest { spec, features: &prepared.features, split, seed: *seed, device: settings.device };
                let key = run_key(experiment, &variant.name, spec, *seed);
                progress.note(&format!("{} {} seed {seed}", key.model, key.input));
                let cache_key = fit_cache_key(variant, spec, &loaded[index].key, split, *seed, settings.device);
                rows.push(fit_or_reuse(&request, key, cache_key, &settings.cache, progress)?);
                progress.advance(1);
            }
        }
        variants.push(prepared);
    }
    progress.end();
    let mut captures: Vec<CaptureFacts> = Vec::new();
    for flows in &loaded {
        for capture in &flows.captures {
            if !captures.contains(capture) {
                captures.push(capture.clone());
            }
        }
    }
    // Captures are the same under all flow options; of flows, those of the first variant's options are listed.
    let manifests = loaded.first().map_or(Vec::new(), |flows| flows.manifests.clone());
    let without_label = loaded.first_mut().map_or(Vec::new(), |flows| std::mem::take(&mut flows.without_label));
    Ok(Run {
        manifests,
        without_label,
        experiment: experiment.clone(),
        provenance: Provenance::collect(&settings.project, &device_name(settings.device)),
        captures,
        variants,
        rows,
    })
}

fn prepare(experiment: &Experiment, variant: &Variant, flows: &LoadedFlows) -> Result<VariantRun, ExperimentError> {
    // The selection may draw a subsample; it is the same for every seed, so that seeds differ in split and
    // training alone.
    let (features, unselected) = build_features(&flows.flows, &variant.selection, &variant.feature, &flows.options, 0)?;
    let mut splits = Vec::new();
    for &seed in &experiment.seeds {
        let split = split(&features, &variant.split, seed)?
            .pop()
            .ok_or_else(|| ExperimentError::Internal { problem: "no split was made".to_owned() })?;
        let summary = SplitSummary::new(&features, &split);
        splits.push((seed, split, summary));
    }
    Ok(VariantRun { name: variant.name.clone(), unselected, features, splits })
}

fn run_key(experiment: &Experiment, variant: &str, spec: &ModelSpec, seed: u64) -> RunKey {
    RunKey {
        experiment: experiment.name.clone(),
        dataset: experiment.datasets.join("+"),
        size: experiment.size.clone(),
        variant: variant.to_owned(),
        model: spec.kind.name().to_owned(),
        input: spec.input.name().to_owned(),
        implementation: spec.implementation.name().to_owned(),
        seed,
    }
}

fn fit_cache_key(
    variant: &Variant,
    spec: &ModelSpec,
    flows_key: &str,
    split: &Split,
    seed: u64,
    device: Device,
) -> String {
    cache::key(&(
        ("fit", FIT_VERSION, env!("CARGO_PKG_VERSION")),
        flows_key,
        &variant.selection,
        &variant.feature,
        (&split.train, &split.validation, &split.test),
        (spec.kind, spec.input, spec.implementation, spec.parameters.to_string()),
        (seed, device_name(device)),
    ))
}

fn fit_or_reuse(
    request: &FitRequest<'_>,
    key: RunKey,
    cache_key: String,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<FittedRow, ExperimentError> {
    let stored = cache.get("fits", &cache_key).and_then(|bytes| serde_json::from_slice::<FitOutcome>(&bytes).ok());
    if let Some(outcome) = stored {
        return Ok(FittedRow { key, outcome, cache_key, reused: true });
    }
    progress.begin(&format!("{} {} {} seed {}", key.variant, key.model, key.input, key.seed), 0);
    let fitted = fit(request, cache, progress);
    progress.end();
    let (outcome, model) = fitted?;
    let store = |error: std::io::Error| ExperimentError::Store { path: "the cache".into(), problem: error.to_string() };
    // The model first: an outcome in the cache means that its model is there too.
    cache.put("models", &cache_key, &model).map_err(store)?;
    let json = serde_json::to_vec(&outcome)
        .map_err(|error| ExperimentError::Internal { problem: format!("outcome of a fit: {error}") })?;
    cache.put("fits", &cache_key, &json).map_err(store)?;
    Ok(FittedRow { key, outcome, cache_key, reused: false })
}

/// `cpu`, or `cuda:N`.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(number) => format!("cuda:{number}"),
    }
}

/// The name of the folder under `results/` that holds an experiment's last run: experiment, datasets and
/// size, and a hash where the command line changed what is computed.
pub fn results_name(experiment: &Experiment, changed: bool) -> String {
    let name = format!("{}-{}-{}", experiment.name, experiment.datasets.join("+"), experiment.size);
    if changed { format!("{name}-{}", &cache::key(&experiment.resolved.to_string())[..8]) } else { name }
}

/// The results folder of the project.
pub fn results_folder(project: &Path) -> PathBuf {
    project.join("results")
}
