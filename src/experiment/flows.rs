//! The first stage of a run: captures become labelled flows, taken from the cache where nothing that
//! determines them has changed.

use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use super::cache;
use super::run::Settings;
use super::{Experiment, ExperimentError, Variant};
use crate::dataset::synth::{self, SynthOptions};
use crate::dataset::{self, CaptureReport, Definition, Inventory, LabelledFlow};
use crate::flow::FlowOptions;
use crate::progress::Progress;

/// Raised whenever a change to the code changes the flows, so that no older ones are reused.
const FLOWS_VERSION: u32 = 1;

/// The dataset whose captures are generated where they are not there.
const GENERATED: &str = "synth";

/// What is stored of one capture of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaptureFacts {
    /// The dataset.
    pub dataset: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Flows, packets read and skipped, damage.
    #[serde(flatten)]
    pub report: CaptureReport,
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
    let kept_packets = needed(|variant| variant.feature.packets.max(variant.selection.minimum_packets));
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

fn find(experiment: &Experiment, name: &str, project: &Path) -> Result<(Definition, Inventory), ExperimentError> {
    let definition = Definition::read(project, name)?;
    let hint = format!("etcbench run experiments/{}.toml --data {GENERATED}", experiment.name);
    let inventory = dataset::locate(project, &definition, &hint)?;
    Ok((definition, inventory))
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
    let mut loaded = LoadedFlows { key: String::new(), flows: Vec::new(), captures: Vec::new(), options };
    let mut keys = Vec::new();
    for name in &experiment.datasets {
        if name == GENERATED {
            generate_if_absent(&settings.project, progress)?;
        }
        let (definition, inventory) = find(experiment, name, &settings.project)?;
        for (capture, reason) in &inventory.excluded {
            progress.warn(&format!("{name}: {capture} is left out: {reason}"));
        }
        for capture in &inventory.unlabelled {
            progress.warn(&format!("{name}: {capture} is left out: data/{name}.toml gives it no label"));
        }
        let checksums: Vec<String> = inventory
            .captures
            .par_iter()
            .map(|capture| {
                cache::file_checksum(&capture.path)
                    .map_err(|error| ExperimentError::Store { path: capture.path.clone(), problem: error.to_string() })
            })
            .collect::<Result<_, _>>()?;
        let files: Vec<(&str, &String)> =
            inventory.captures.iter().map(|capture| capture.relative.as_str()).zip(&checksums).collect();
        keys.push(cache::key(&("flows", FLOWS_VERSION, name, &definition.text, &files, &loaded.options)));
        let prefix = if experiment.datasets.len() > 1 { format!("{name}/") } else { String::new() };
        let (flows, reports) = dataset::load(&inventory.captures, &prefix, &loaded.options, progress)?;
        for report in &reports {
            if let Some(damage) = &report.summary.damage {
                progress.warn(&format!(
                    "{name}: {} is damaged at byte {} ({}); the {} flows before are used",
                    report.capture, damage.offset, damage.problem, report.flows
                ));
            }
        }
        loaded.flows.extend(flows);
        let facts = inventory.captures.iter().zip(checksums).zip(reports);
        loaded.captures.extend(facts.map(|((capture, sha256), report)| CaptureFacts {
            dataset: name.clone(),
            sha256,
            bytes: capture.size,
            report,
        }));
    }
    loaded.key = cache::key(&keys);
    Ok(loaded)
}
