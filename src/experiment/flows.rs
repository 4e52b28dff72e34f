//! The first stage of a run: captures become labelled flows, and a hash of everything that determines
//! them. Reading is fast enough that flows are read again rather than kept.

use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use super::cache;
use super::run::Settings;
use super::{Experiment, ExperimentError, Variant};
use crate::dataset::synth::{self, SynthOptions};
use crate::dataset::{self, Dataset, DatasetDefinition, LabelledFlow, LoadedCapture};
use crate::declarative;
use crate::flow::FlowOptions;
use crate::progress::Progress;

/// Raised whenever a change to the code changes the flows, so that no fit on older ones is reused.
const FLOWS_VERSION: u32 = 2;

/// The dataset whose captures are generated where they are not there.
const GENERATED: &str = "synth";

/// What is stored of one capture of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaptureFacts {
    /// The dataset.
    pub dataset: String,
    /// The capture, as flows name it.
    pub capture: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Flows with labels.
    pub flows: u64,
    /// Flows whose label no rule uses, such as CTU-13's background.
    pub unused_flows: u64,
    /// Flows without a line in the file of flow labels.
    pub unjoined_flows: u64,
    /// Flows whose lines in the file of flow labels disagree.
    pub ambiguous_flows: u64,
    /// Packets read and skipped by reason, and damage.
    #[serde(flatten)]
    pub summary: crate::capture::CaptureSummary,
}

/// The flows of an experiment's datasets under one set of flow options.
pub(super) struct LoadedFlows {
    pub options: FlowOptions,
    /// The hash of everything that determines the flows.
    pub key: String,
    pub flows: Vec<LabelledFlow>,
    pub captures: Vec<CaptureFacts>,
}

/// The flow options of a variant, with as many packets and bytes kept as any variant's features need, so
/// that variants share their flows.
pub(super) fn flow_options(experiment: &Experiment, variant: &Variant) -> FlowOptions {
    let needed = |need: fn(&Variant) -> usize| experiment.variants.iter().map(need).max().unwrap_or_default();
    let kept_packets = needed(|variant| variant.feature.packets);
    let kept_bytes = needed(|variant| variant.feature.needed_bytes());
    FlowOptions {
        kept_packets: kept_packets.max(variant.flow.kept_packets),
        kept_bytes: kept_bytes.max(variant.flow.kept_bytes),
        ..variant.flow.clone()
    }
}

/// Checks that the captures of every dataset of `experiment` are here, so that a run of several experiments
/// does not end half-way for want of data.
///
/// # Errors
/// A dataset that is unknown or whose captures are not here.
pub fn require_data(experiment: &Experiment, project: &Path) -> Result<(), ExperimentError> {
    for name in experiment.datasets.iter().filter(|name| *name != GENERATED) {
        find(experiment, name, project)?;
    }
    Ok(())
}

fn find(experiment: &Experiment, name: &str, project: &Path) -> Result<Dataset, ExperimentError> {
    let path = dataset::definition_path(project, name);
    if !path.is_file() {
        let known = dataset_names(project);
        return Err(ExperimentError::UnknownDataset {
            name: name.to_owned(),
            problem: format!(
                "there is no {}{} (known: {})",
                path.display(),
                declarative::did_you_mean(name, known.iter().map(String::as_str)),
                known.join(", ")
            ),
        });
    }
    let definition = DatasetDefinition::read(&path)?;
    let hint = format!("etcbench run experiments/{}.toml --data {GENERATED}", experiment.name);
    let folder = dataset::locate(&definition, project, &hint)?;
    Ok(Dataset { definition, folder })
}

/// Names of all defined datasets of a project, sorted.
pub fn dataset_names(project: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(project.join("data"))
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_stem()?.to_str()?.to_owned();
            (path.extension()? == "toml").then_some(name)
        })
        .collect();
    names.sort();
    names
}

/// Generates the captures of `synth` into `data/synth` unless they are there already.
///
/// # Errors
/// Any error of writing them.
pub fn generate_if_absent(project: &Path, progress: &dyn Progress) -> Result<(), ExperimentError> {
    let folder = project.join("data").join(GENERATED);
    if !folder.exists() {
        let parent = project.join("data");
        let problem =
            |error: std::io::Error| ExperimentError::Store { path: folder.clone(), problem: error.to_string() };
        // Whole or not at all: a folder that is there is complete.
        let staging = tempfile::Builder::new().prefix(".partial-").tempdir_in(&parent).map_err(problem)?;
        synth::generate(&SynthOptions::default(), &staging.path().join(GENERATED), progress)?;
        match std::fs::rename(staging.path().join(GENERATED), &folder) {
            // Another process was first; its captures are the same bytes.
            Err(_) if folder.exists() => {}
            result => result.map_err(problem)?,
        }
    }
    Ok(())
}

/// Reads the flows of all datasets of `experiment`.
pub(super) fn load_flows(
    experiment: &Experiment,
    options: FlowOptions,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<LoadedFlows, ExperimentError> {
    if experiment.datasets.iter().any(|name| name == GENERATED) {
        generate_if_absent(&settings.project, progress)?;
    }
    let datasets: Vec<Dataset> =
        experiment.datasets.iter().map(|name| find(experiment, name, &settings.project)).collect::<Result<_, _>>()?;
    let loaded = dataset::load(&datasets, &options, progress)?;
    for dataset in &datasets {
        for (file, reason) in &dataset.folder.excluded {
            progress.warn(&format!("{}: {} is left out: {reason}", dataset.definition.name, file.path));
        }
    }
    for (name, file) in &loaded.unlabelled {
        progress.warn(&format!("{name}: {} is left out: data/{name}.toml gives it no label", file.path));
    }
    for capture in &loaded.captures {
        warn_of_damage(capture, progress);
    }
    let captures: Vec<CaptureFacts> =
        loaded.captures.par_iter().map(|capture| facts(capture, &datasets)).collect::<Result<_, _>>()?;
    // Files of flow labels decide labels as captures decide flows.
    let mut label_files = Vec::new();
    for dataset in &datasets {
        for file in &dataset.folder.flow_label_files {
            label_files.push((&file.path, dataset::file_sha256(&dataset.folder.root.join(&file.path))?));
        }
    }
    let definitions: Vec<&str> = datasets.iter().map(|dataset| dataset.definition.digest.as_str()).collect();
    let files: Vec<(&str, &str)> =
        captures.iter().map(|capture| (capture.capture.as_str(), capture.sha256.as_str())).collect();
    let key = cache::key(&("flows", FLOWS_VERSION, definitions, files, label_files, &options));
    Ok(LoadedFlows { options, key, flows: loaded.flows, captures })
}

fn warn_of_damage(capture: &LoadedCapture, progress: &dyn Progress) {
    if let Some(damage) = &capture.summary.damage {
        progress.warn(&format!(
            "{}: {} is damaged at byte {}: {}; the {} flows before it are used",
            capture.dataset, capture.capture, damage.offset, damage.problem, capture.flows
        ));
    }
}

fn facts(capture: &LoadedCapture, datasets: &[Dataset]) -> Result<CaptureFacts, ExperimentError> {
    let dataset = datasets.iter().find(|dataset| dataset.definition.name == capture.dataset).ok_or_else(|| {
        ExperimentError::Internal { problem: format!("{} is of no dataset of the run", capture.capture) }
    })?;
    Ok(CaptureFacts {
        dataset: capture.dataset.clone(),
        capture: capture.capture.clone(),
        sha256: dataset::file_sha256(&dataset.folder.root.join(&capture.file.path))?,
        bytes: capture.file.size,
        flows: capture.flows,
        unused_flows: capture.unused,
        unjoined_flows: capture.unjoined,
        ambiguous_flows: capture.ambiguous,
        summary: capture.summary.clone(),
    })
}
