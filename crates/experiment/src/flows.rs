//! The first stage of a run: turns captures into labelled flows, or feature files into rows, with a hash of everything
//! that determines them.

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::run::Settings;
use super::{Experiment, ExperimentError, Variant};
use super::{cache, flow_cache};
use etcbench_capture::CaptureSummary;
use etcbench_dataset as dataset;
use etcbench_dataset::{
    Dataset, DatasetDefinition, EntryState, FeatureTable, HeldBytes, Holds, LabelledFlow, LoadedCapture, Manifest,
    PacketTimes, PublishedParts, UsedCapture,
};
use etcbench_flow::FlowOptions;
use etcbench_storage::declarative;
use etcbench_storage::progress::Progress;
use etcbench_storage::{Determinants, Turn, WholeFolder, counted, is_file_or_stock};

/// Bump whenever a change to the code changes the flows, so that fits on older ones are not reused.
pub(super) const FLOWS_VERSION: u32 = 8;

/// Same as [`FLOWS_VERSION`], for the rows of feature files.
const ROWS_VERSION: u32 = 8;

/// The cache stage of flows.
pub(super) const STAGE: &str = "flows";

/// The dataset whose captures are generated if missing.
const GENERATED: &str = "synth";
/// The dataset whose captures are part of the repository.
const RECORDED: &str = "lab";

/// Stored information about one capture, or feature file, of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaptureFacts {
    /// The dataset.
    pub dataset: String,
    /// The capture's name, as in flow IDs.
    pub capture: String,
    /// SHA-256 of the capture, without archive and compression.
    pub sha256: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Flows with labels.
    pub flows: u64,
    /// Flows with a label that no rule maps, such as CTU-13's background.
    pub unused_flows: u64,
    /// Flows without a matching line in the flow-label file.
    #[serde(alias = "unjoined_flows")]
    pub unmatched_flows: u64,
    /// Flows with conflicting lines in the flow-label file.
    pub ambiguous_flows: u64,
    /// Packets read and skipped by reason, and damage.
    #[serde(flatten)]
    pub summary: CaptureSummary,
}

/// The content of an experiment's datasets.
pub(super) enum Content {
    /// Flows of captures.
    Flows(Vec<LabelledFlow>),
    /// Rows of feature files.
    Table(FeatureTable),
}

/// The flows of an experiment's datasets for one set of flow options.
pub(super) struct LoadedFlows {
    pub options: FlowOptions,
    /// The hash of everything that determines the flows.
    pub key: String,
    pub content: Content,
    pub captures: Vec<CaptureFacts>,
    /// The manifests of the datasets.
    pub manifests: Vec<Manifest>,
    /// Flows without a label in captures that have per-flow labels, as CSV; empty if there are none.
    pub without_label: String,
    /// Whether the packet times of a dataset's captures are invented.
    pub invented_times: bool,
    /// The information contained in the flows of each dataset.
    pub holds: Vec<Holds>,
    /// The published parts of each dataset, by name.
    pub parts: Vec<(String, Option<PublishedParts>)>,
    /// Notes on the data that readers of the results must know.
    pub notes: Vec<String>,
    /// Whether they came from the cache.
    pub reused: bool,
}

/// Returns the flow options of a variant, raised to keep as many packets and bytes as any variant's features need, so
/// that variants share their flows.
pub(super) fn flow_options(experiment: &Experiment, variant: &Variant) -> FlowOptions {
    let needed = |need: fn(&Variant) -> usize| experiment.variants.iter().map(need).max().unwrap_or_default();
    let kept_packets = needed(|variant| variant.feature.packets);
    let kept_bytes = needed(|variant| variant.feature.needed_bytes());
    let mut options = FlowOptions {
        kept_packets: kept_packets.max(variant.flow.kept_packets),
        kept_bytes: kept_bytes.max(variant.flow.kept_bytes),
        ..variant.flow.clone()
    };
    for sequences in experiment.variants.iter().filter_map(Variant::used_sequences) {
        sequences.widen(&mut options);
    }
    for flowpic in experiment.variants.iter().filter_map(Variant::used_flowpic) {
        flowpic.widen(&mut options);
    }
    options
}

/// Checks that the captures of every dataset of `experiment` are present, so that a run of several experiments does not
/// fail halfway for lack of data.
///
/// # Errors
/// A dataset is unknown or its captures are missing.
pub fn require_data(experiment: &Experiment, project: &Path) -> Result<(), ExperimentError> {
    for name in experiment.datasets.iter().filter(|name| *name != GENERATED) {
        find_labelled(experiment, name, project)?;
    }
    for name in super::pretraining::corpus_datasets(experiment)?.iter().filter(|name| *name != GENERATED) {
        find(&hint(&experiment.name, project), name, project)?;
    }
    Ok(())
}

/// Returns a command that uses available data instead of a missing dataset: the recorded captures in the repository, or
/// generated ones.
pub fn on_what_is_here(command: &str, project: &Path) -> String {
    let is_recorded = project.join("data").join(RECORDED).is_dir();
    format!("{command} --data {} --size demo", if is_recorded { RECORDED } else { GENERATED })
}

fn hint(experiment: &str, project: &Path) -> String {
    on_what_is_here(&format!("etcbench run {experiment}"), project)
}

fn find_labelled(experiment: &Experiment, name: &str, project: &Path) -> Result<Dataset, ExperimentError> {
    let dataset = find(&hint(&experiment.name, project), name, project)?;
    if dataset.definition.is_labelled() {
        return Ok(dataset);
    }
    Err(ExperimentError::UnknownDataset {
        name: name.to_owned(),
        problem: format!(
            "its captures have no labels, so they cannot be classified; use it in model.{}.elmo.corpus, which \
             requires none",
            etcbench_model::elmo::MODEL
        ),
    })
}

fn find(hint: &str, name: &str, project: &Path) -> Result<Dataset, ExperimentError> {
    let path = dataset::definition_path(project, name);
    if !is_file_or_stock(&path) {
        let known = dataset_names(project);
        return Err(ExperimentError::UnknownDataset {
            name: name.to_owned(),
            problem: format!(
                "{} does not exist{} (known: {})",
                path.display(),
                declarative::did_you_mean(name, known.iter().map(String::as_str)),
                known.join(", ")
            ),
        });
    }
    let definition = DatasetDefinition::read(&path)?;
    let folder = dataset::locate(&definition, project, hint)?;
    Ok(Dataset { definition, folder })
}

/// Returns the names of all defined datasets of a project, sorted.
pub fn dataset_names(project: &Path) -> Vec<String> {
    declarative::names(&project.join("data"))
}

/// Generates the captures of `synth` into `data/synth` unless they exist.
///
/// # Errors
/// Any error while writing them.
fn generate_if_absent(settings: &Settings, progress: &dyn Progress) -> Result<(), ExperimentError> {
    let folder = settings.project.join("data").join(GENERATED);
    let exists = || folder.exists().then_some(());
    if let Turn::Ours(_claim) = settings.cache.look_up("captures", GENERATED, progress, exists) {
        let problem =
            |error: std::io::Error| ExperimentError::Store { path: folder.clone(), problem: error.to_string() };
        // All or nothing: an existing folder is complete.
        let staging = WholeFolder::new(&folder).map_err(problem)?;
        (settings.generator)(staging.path(), progress).map_err(ExperimentError::Generate)?;
        // Without a cache there are no claims. If another process was faster, its captures have the same bytes.
        match staging.put_in_empty_place() {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(problem(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Reads the flows of all datasets of `experiment`, from the cache if available.
pub(super) fn load_flows(
    experiment: &Experiment,
    options: FlowOptions,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<LoadedFlows, ExperimentError> {
    if experiment.datasets.iter().any(|name| name == GENERATED) {
        generate_if_absent(settings, progress)?;
    }
    let find = |name: &String| find_labelled(experiment, name, &settings.project);
    load_datasets(&experiment.datasets.iter().map(find).collect::<Result<Vec<_>, _>>()?, options, settings, progress)
}

/// Reads all flows of a dataset, whether or not they have labels, from the cache if available.
pub(super) fn load_unlabelled(
    name: &str,
    options: FlowOptions,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<LoadedFlows, ExperimentError> {
    if name == GENERATED {
        generate_if_absent(settings, progress)?;
    }
    let Dataset { definition, folder } =
        find(&format!("etcbench pretrain {GENERATED} -o FILE"), name, &settings.project)?;
    if definition.features.is_some() || definition.holds().bytes == HeldBytes::None {
        let has = if definition.features.is_some() { "feature files but no packets" } else { "no packet bytes" };
        return Err(ExperimentError::UnknownDataset {
            name: name.to_owned(),
            problem: format!("it has {has}, so an ELMo cannot be pre-trained on it"),
        });
    }
    load_datasets(&[Dataset { definition: definition.without_labels(), folder }], options, settings, progress)
}

fn load_datasets(
    datasets: &[Dataset],
    options: FlowOptions,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<LoadedFlows, ExperimentError> {
    for dataset in datasets {
        dataset.folder.warnings(&dataset.definition.name).iter().for_each(|warning| progress.warn(warning));
    }
    let tables = datasets.iter().filter(|dataset| dataset.definition.features.is_some()).count();
    if tables > 0 && tables < datasets.len() {
        return Err(ExperimentError::Features {
            problem:
                "some datasets of this experiment are captures and others are feature files; they have no features \
                      in common, so use only one kind"
                    .to_owned(),
        });
    }
    let checksums = checksums(datasets, &settings.cache)?;
    let invented = |dataset: &Dataset| dataset.definition.times == PacketTimes::Invented;
    let invented_times = datasets.iter().any(|dataset| invented(dataset) && dataset.definition.is_captures());
    let holds: Vec<Holds> = datasets.iter().map(|dataset| dataset.definition.holds()).collect();
    let parts_of = |Dataset { definition, .. }: &Dataset| (definition.name.clone(), definition.parts.clone());
    let parts: Vec<_> = datasets.iter().map(parts_of).collect();
    let definitions: Vec<&str> = datasets.iter().map(|dataset| dataset.definition.digest.as_str()).collect();
    let of_files = |what: &'static str, version| {
        Determinants::of(what, version).and("definitions", &definitions).and("files", &checksums)
    };
    if tables > 0 {
        let table = dataset::load_features(datasets, progress)?;
        table.notes.iter().for_each(|note| progress.warn(note));
        dataset::labels_alike(table.rows.iter().map(|row| row.labels.as_ref()))
            .iter()
            .for_each(|text| progress.warn(text));
        let captures = table_facts(&table, &checksums)?;
        let key = of_files("rows", ROWS_VERSION).key();
        let manifests = manifests(datasets, &captures, &checksums)?;
        let (content, without_label) = (Content::Table(table), String::new());
        let notes = data_notes(datasets, &manifests);
        return Ok(LoadedFlows {
            options,
            key,
            content,
            captures,
            manifests,
            without_label,
            invented_times,
            holds,
            parts,
            notes,
            reused: false,
        });
    }
    let key = of_files("flows", FLOWS_VERSION).and("options", &options).key();
    let found = settings.cache.look_up(STAGE, &key, progress, || flow_cache::read(&settings.cache, &key));
    let _claim = match found {
        Turn::Ours(claim) => claim,
        Turn::Ready((flows, entry)) => {
            entry.warnings.iter().for_each(|warning| progress.warn(warning));
            let content = Content::Flows(flows);
            let manifests = manifests(datasets, &entry.captures, &checksums)?;
            let (captures, without_label) = (entry.captures, entry.without_label);
            let notes = data_notes(datasets, &manifests);
            return Ok(LoadedFlows {
                options,
                key,
                content,
                captures,
                manifests,
                without_label,
                invented_times,
                holds,
                parts,
                notes,
                reused: true,
            });
        }
    };
    let loaded = dataset::load(datasets, &options, progress)?;
    let mut warnings = Vec::new();
    for dataset in datasets {
        for (file, reason) in &dataset.folder.excluded {
            warnings.push(format!("{}: {} is skipped: {reason}", dataset.definition.name, file.path));
        }
    }
    for (name, file) in &loaded.unlabelled {
        warnings.push(format!("{name}: {} is skipped: data/{name}.toml assigns it no label", file.path));
    }
    for (name, duplicate) in &loaded.duplicates {
        warnings.push(format!("{name}: {} is skipped: it duplicates {}", duplicate.file.path, duplicate.used));
    }
    warnings.extend(loaded.captures.iter().filter_map(damage));
    warnings.extend(datasets.iter().flat_map(|dataset| time_warnings(&dataset.definition.name, &loaded.captures)));
    warnings.extend(loaded.captures.iter().flat_map(label_warnings));
    warnings.extend(dataset::labels_alike(loaded.flows.iter().map(|flow| &flow.labels)));
    warnings.iter().for_each(|warning| progress.warn(warning));
    let captures: Vec<CaptureFacts> =
        loaded.captures.iter().map(|capture| facts(capture, &checksums)).collect::<Result<_, _>>()?;
    let without_label = match &loaded.without_label[..] {
        [] => String::new(),
        flows => dataset::flows_without_label_csv(flows),
    };
    let entry = flow_cache::Entry::new(captures, warnings, without_label);
    let entry = flow_cache::write(&settings.cache, &key, datasets, &options, &loaded.flows, entry)?;
    let manifests = manifests(datasets, &entry.captures, &checksums)?;
    let (content, captures, without_label) = (Content::Flows(loaded.flows), entry.captures, entry.without_label);
    let notes = data_notes(datasets, &manifests);
    Ok(LoadedFlows {
        options,
        key,
        content,
        captures,
        manifests,
        without_label,
        invented_times,
        holds,
        parts,
        notes,
        reused: false,
    })
}

/// Returns notes on how much of a published dataset is present, and on information that its flows lack.
fn data_notes(datasets: &[Dataset], manifests: &[Manifest]) -> Vec<String> {
    let mut notes = Vec::new();
    for (dataset, manifest) in datasets.iter().zip(manifests) {
        let name = &dataset.definition.name;
        let count = |state: EntryState| manifest.of(state).count();
        let (used, missing) = (count(EntryState::Used), count(EntryState::Missing));
        if missing > 0 {
            notes.push(format!("Data: {used} of the {} published captures of {name}.", used + missing));
        }
        if dataset.definition.features.is_none() {
            notes.extend(super::held::notes(&dataset.definition));
        }
    }
    notes
}

fn manifests(
    datasets: &[Dataset],
    captures: &[CaptureFacts],
    checksums: &Checksums,
) -> Result<Vec<Manifest>, ExperimentError> {
    let manifest = |dataset: &Dataset| {
        let name = dataset.definition.name.as_str();
        let used: Vec<UsedCapture<'_>> = captures
            .iter()
            .filter(|facts| facts.dataset == name)
            .map(|facts| UsedCapture {
                dataset: name,
                capture: &facts.capture,
                sha256: &facts.sha256,
                summary: dataset.definition.is_captures().then_some(&facts.summary),
            })
            .collect();
        let matching = checksums.iter().filter(|(dataset, ..)| dataset == name);
        let files: Vec<(&str, &str)> = matching.map(|(_, path, checksum)| (path.as_str(), checksum.as_str())).collect();
        Ok(dataset::manifest_of_run(dataset, &used, &files)?)
    };
    datasets.iter().map(manifest).collect()
}

/// Dataset, path and SHA-256 of every file that determines flows or labels, in a fixed order.
type Checksums = Vec<(String, String, String)>;

fn checksums(datasets: &[Dataset], cache: &cache::Cache) -> Result<Checksums, ExperimentError> {
    let files: Vec<_> = datasets
        .iter()
        .flat_map(|dataset| {
            let folder = &dataset.folder;
            let captures = folder.captures.iter().map(move |file| (dataset, file, true));
            captures.chain(folder.flow_label_files.iter().map(move |file| (dataset, file, false)))
        })
        .collect();
    files
        .into_par_iter()
        .with_max_len(1)
        .map(|(dataset, file, is_capture)| {
            let checksum = flow_cache::checksum(&dataset.folder.root, file, is_capture, cache)?;
            Ok((dataset.definition.name.clone(), file.path.clone(), checksum))
        })
        .collect()
}

fn checksum_of(checksums: &Checksums, dataset: &str, path: &str) -> Result<String, ExperimentError> {
    let entry = checksums.iter().find(|(name, file, _)| name == dataset && file == path);
    entry
        .map(|(_, _, checksum)| checksum.clone())
        .ok_or_else(|| ExperimentError::Internal { problem: format!("{dataset}: {path} has no checksum") })
}

fn damage(capture: &LoadedCapture) -> Option<String> {
    let damage = capture.summary.damage.as_ref()?;
    Some(format!(
        "{}: {} is damaged at byte {}: {}; data before the damage is used, {}",
        capture.dataset,
        capture.capture,
        damage.offset,
        damage.problem,
        counted(capture.flows, "flow")
    ))
}

/// Describes the packets of a dataset's captures whose times are out of order or out of range, in one line each:
/// captures of several interfaces often contain a few.
fn time_warnings(dataset: &str, captures: &[LoadedCapture]) -> Vec<String> {
    let line = |count: fn(&CaptureSummary) -> u64, total: fn(u64) -> CaptureSummary| {
        let of = captures.iter().filter(|capture| capture.dataset == dataset && count(&capture.summary) > 0);
        let named: Vec<&LoadedCapture> = of.collect();
        let first = named.first()?;
        let more = if named.len() > 1 { ", ..." } else { "" };
        let advice = total(named.iter().map(|capture| count(&capture.summary)).sum()).time_advice().join("; ");
        let captures = counted(named.len() as u64, "capture");
        Some(format!("{dataset}: {captures} ({}{more}): {advice}", first.capture))
    };
    let disorder = line(
        |summary| summary.out_of_order,
        |out_of_order| CaptureSummary { out_of_order, ..CaptureSummary::default() },
    );
    let fractions = line(
        |summary| summary.fractions_out_of_range,
        |fractions_out_of_range| CaptureSummary { fractions_out_of_range, ..CaptureSummary::default() },
    );
    disorder.into_iter().chain(fractions).collect()
}

fn label_warnings(capture: &LoadedCapture) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(file) = &capture.flow_label_file {
        if capture.malformed_lines.count > 0 {
            warnings.push(format!("{}: {file}: {}", capture.dataset, capture.malformed_lines));
        }
        if capture.unknown_protocols.count > 0 {
            warnings.push(format!("{}: {file}: {}", capture.dataset, capture.unknown_protocols));
        }
    }
    if let Some(advice) = &capture.time_advice {
        warnings.push(format!("{}: {}: {advice}", capture.dataset, capture.capture));
    }
    if capture.unmatched + capture.ambiguous > 0 {
        warnings.push(format!(
            "{}: {}: skipped and listed in flows_without_label.csv: {} without a label, {} with conflicting labels",
            capture.dataset,
            capture.capture,
            counted(capture.unmatched, "flow"),
            counted(capture.ambiguous, "flow")
        ));
    }
    warnings
}

fn facts(capture: &LoadedCapture, checksums: &Checksums) -> Result<CaptureFacts, ExperimentError> {
    Ok(CaptureFacts {
        dataset: capture.dataset.clone(),
        capture: capture.capture.clone(),
        sha256: checksum_of(checksums, &capture.dataset, &capture.file.path)?,
        bytes: capture.file.size,
        flows: capture.flows,
        unused_flows: capture.unused,
        unmatched_flows: capture.unmatched,
        ambiguous_flows: capture.ambiguous,
        summary: capture.summary.clone(),
    })
}

/// Describes a feature file in the form of a capture: its rows count as flows, and there are no packets.
fn table_facts(table: &FeatureTable, checksums: &Checksums) -> Result<Vec<CaptureFacts>, ExperimentError> {
    let fact = |(dataset, name, file, rows): &(String, String, dataset::CaptureFile, u64)| {
        Ok(CaptureFacts {
            dataset: dataset.clone(),
            capture: name.clone(),
            sha256: checksum_of(checksums, dataset, &file.path)?,
            bytes: file.size,
            flows: *rows,
            unused_flows: 0,
            unmatched_flows: 0,
            ambiguous_flows: 0,
            summary: CaptureSummary::default(),
        })
    };
    table.files.iter().map(fact).collect()
}
