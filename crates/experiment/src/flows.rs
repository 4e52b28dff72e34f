//! The first stage of a run: turns captures into labelled flows, or feature files into rows, with a hash of everything
//! that determines them.

use super::capture_facts::{CaptureFacts, Checksums, checksums, facts, manifests, table_facts};
use super::datasets::{GENERATED, find, find_labelled, generate_if_absent};
use super::flow_cache;
use super::run::Settings;
use super::{Experiment, ExperimentError, Variant};
use etcbench_capture::CaptureSummary;
use etcbench_dataset as dataset;
use etcbench_dataset::{
    Dataset, EntryState, FeatureTable, HeldBytes, Holds, LabelledFlow, Loaded, LoadedCapture, Manifest, PacketTimes,
    PublishedParts,
};
use etcbench_flow::FlowOptions;
use etcbench_storage::progress::Progress;
use etcbench_storage::{Determinants, Turn, counted};

/// Bump whenever a change to the code changes the flows, so that fits on older ones are not reused.
pub(super) const FLOWS_VERSION: u32 = 8;

/// Same as [`FLOWS_VERSION`], for the rows of feature files.
const ROWS_VERSION: u32 = 8;

/// The cache stage of flows.
pub(super) const STAGE: &str = "flows";

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
            problem: format!("it has {has}, so no model can be pre-trained on it"),
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
    let read = match tables {
        0 => read_captures(datasets, &options, &checksums, settings, progress)?,
        _ => read_feature_files(datasets, &checksums, progress)?,
    };
    let manifests = manifests(datasets, &read.captures, &checksums)?;
    let notes = data_notes(datasets, &manifests);
    let Read { key, content, captures, without_label, reused } = read;
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
        reused,
    })
}

/// What was read from captures, feature files or the cache: these fields of [`LoadedFlows`].
struct Read {
    key: String,
    content: Content,
    captures: Vec<CaptureFacts>,
    without_label: String,
    reused: bool,
}

/// Returns what the key of a dataset's content is made from.
fn determinants(what: &'static str, version: u32, datasets: &[Dataset], checksums: &Checksums) -> Determinants {
    let definitions: Vec<&str> = datasets.iter().map(|dataset| dataset.definition.digest.as_str()).collect();
    Determinants::of(what, version).and("definitions", &definitions).and("files", checksums)
}

fn read_feature_files(
    datasets: &[Dataset],
    checksums: &Checksums,
    progress: &dyn Progress,
) -> Result<Read, ExperimentError> {
    let table = dataset::load_features(datasets, progress)?;
    table.notes.iter().for_each(|note| progress.warn(note));
    dataset::labels_alike(table.rows.iter().map(|row| row.labels.as_ref())).iter().for_each(|text| progress.warn(text));
    Ok(Read {
        key: determinants("rows", ROWS_VERSION, datasets, checksums).key(),
        captures: table_facts(&table, checksums)?,
        content: Content::Table(table),
        without_label: String::new(),
        reused: false,
    })
}

/// Reads flows from the cache, or from the captures into the cache.
fn read_captures(
    datasets: &[Dataset],
    options: &FlowOptions,
    checksums: &Checksums,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Read, ExperimentError> {
    let key = determinants("flows", FLOWS_VERSION, datasets, checksums).and("options", options).key();
    let found = settings.cache.look_up(STAGE, &key, progress, || flow_cache::read(&settings.cache, &key));
    let (flows, entry, reused) = match found {
        Turn::Ready((flows, entry)) => {
            entry.warnings.iter().for_each(|warning| progress.warn(warning));
            (flows, entry, true)
        }
        Turn::Ours(_claim) => {
            let loaded = dataset::load(datasets, options, progress)?;
            let warnings = warnings(datasets, &loaded);
            warnings.iter().for_each(|warning| progress.warn(warning));
            let captures: Vec<CaptureFacts> =
                loaded.captures.iter().map(|capture| facts(capture, checksums)).collect::<Result<_, _>>()?;
            let without_label = match &loaded.without_label[..] {
                [] => String::new(),
                flows => dataset::flows_without_label_csv(flows),
            };
            let entry = flow_cache::Entry::new(captures, warnings, without_label);
            let entry = flow_cache::write(&settings.cache, &key, datasets, options, &loaded.flows, entry)?;
            (loaded.flows, entry, false)
        }
    };
    let (captures, without_label) = (entry.captures, entry.without_label);
    Ok(Read { key, content: Content::Flows(flows), captures, without_label, reused })
}

/// Returns the warnings about captures that were read, one line each.
fn warnings(datasets: &[Dataset], loaded: &Loaded) -> Vec<String> {
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
    warnings
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
