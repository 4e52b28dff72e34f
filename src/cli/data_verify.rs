//! `etcbench data verify`, `compare` and `labels`: the content of a dataset's copy, and the labels of its flows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::output::{JsonOption, count};
use super::{Verdict, output, progress};
use crate::dataset::{self, Dataset, DatasetDefinition, EntryState, Labels, Manifest, ManifestEntry};
use crate::experiment;
use crate::flow::FlowOptions;
use crate::storage;

/// `etcbench data verify`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench data verify iscxvpn2016
  etcbench data verify iscxvpn2016 --manifest ours.json     for others to compare; runs store the same
  etcbench data verify iscxvpn2016 --against theirs.json
  etcbench data verify lab --json                           counts by state and the manifest, for machines")]
pub(super) struct VerifyArguments {
    /// The dataset.
    name: String,
    /// Write the manifest: CSV if the name ends in .csv, otherwise JSON; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Compare with a manifest of the same dataset.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    #[command(flatten)]
    json: JsonOption,
}

/// `etcbench data compare`.
#[derive(Args)]
pub(super) struct CompareArguments {
    /// A manifest.
    first: PathBuf,
    /// Another manifest of the same dataset.
    second: PathBuf,
    #[command(flatten)]
    json: JsonOption,
}

/// Prints how many flows have which labels, and labels that are perhaps the same.
fn tell_counts<'a>(labels: impl Iterator<Item = &'a Labels> + Clone) {
    let mut counts: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for labels in labels.clone() {
        let labels = labels.iter().map(|(column, value)| format!("{column}={value}")).collect();
        *counts.entry(labels).or_default() += 1;
    }
    for (labels, flows) in counts {
        say!("{} of {}", count(flows, "flow"), labels.join(" "));
    }
    dataset::labels_alike(labels).iter().for_each(|text| tell!("{text}"));
}

/// `etcbench data labels`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench data labels ctu13
  etcbench data labels ctu13 --list unmatched.csv            the unlabelled flows, and why")]
pub(super) struct LabelsArguments {
    /// The dataset.
    name: String,
    /// Write the flows without labels, and why they have none, as CSV; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
}

/// Reads a dataset's definition and finds its folder.
fn find(project: &Path, name: &str) -> anyhow::Result<Dataset> {
    let definition = read_definition(project, name)?;
    let hint = experiment::on_what_is_here("etcbench reproduce all", project);
    let folder = dataset::locate(&definition, project, &hint)?;
    Ok(Dataset { definition, folder })
}

/// Reads the definition of a dataset; the error lists the known ones.
pub(super) fn read_definition(project: &Path, name: &str) -> anyhow::Result<DatasetDefinition> {
    let path = dataset::definition_path(project, name);
    if !storage::is_file_or_stock(&path) {
        let known = experiment::dataset_names(project);
        let near = crate::declarative::did_you_mean(name, known.iter().map(String::as_str));
        anyhow::bail!("dataset `{name}`: {} does not exist{near} (known: {})", path.display(), known.join(", "));
    }
    Ok(DatasetDefinition::read(&path)?)
}

/// `etcbench data verify`.
pub(super) fn verify(project: &Path, arguments: &VerifyArguments) -> anyhow::Result<Verdict> {
    let written_to = arguments.manifest.as_deref().map(output::announce).unwrap_or_default();
    let against = arguments.against.as_deref().map(dataset::read_manifest).transpose()?;
    let as_json = arguments.json.is_asked();
    let on_standard_output = arguments.manifest.as_deref().is_some_and(storage::is_standard_output);
    anyhow::ensure!(
        !(as_json && on_standard_output),
        "--json already includes the manifest; name a file for --manifest, or remove it"
    );
    let dataset = find(project, &arguments.name)?;
    let manifest = dataset::verify(&dataset, progress::for_standard_error().as_ref())?;
    // A capture that is ignored only because of its name counts as missing.
    let whole = tell(&manifest) && dataset.folder.ignored.is_empty();
    for text in dataset::labels_alike(manifest.entries.iter().map(|entry| &entry.labels)) {
        say!("{text}");
    }
    if let Some(path) = &arguments.manifest {
        dataset::write_manifest(path, &manifest)?;
        say!("{written_to}: manifest of {}", count(manifest.entries.len(), "file"));
    }
    let differences = against.as_ref().map(|other| tell_differences(&manifest, other, "here", "the manifest"));
    let same = differences.as_ref().is_none_or(Vec::is_empty);
    if as_json {
        let states = EntryState::ALL.map(|state| (state.name().to_owned(), manifest.of(state).count().into()));
        output::json(&json!({
            "dataset": arguments.name,
            "whole": whole,
            "counts": serde_json::Map::from_iter(states),
            "differences": differences,
            "manifest": manifest,
        }));
    }
    Ok(if whole && same { Verdict::Done } else { Verdict::CheckFailed })
}

/// Unexpected files are listed up to this many per reason; the manifest contains all of them.
const MOST_UNEXPECTED: usize = 20;

/// Prints a manifest; returns false if something is missing, damaged or unlabelled.
fn tell(manifest: &Manifest) -> bool {
    let mut others: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    for entry in &manifest.entries {
        let mut listed = true;
        if entry.state == EntryState::Unexpected {
            let many = others.entry(entry.note.as_deref()).or_default();
            *many += 1;
            listed = *many <= MOST_UNEXPECTED;
        }
        if listed {
            say!("{}", line(entry));
        }
    }
    let more: usize = others.values().map(|many| many.saturating_sub(MOST_UNEXPECTED)).sum();
    if more > 0 {
        say!("{}; --manifest FILE lists them", count(more, "more unexpected file"));
    }
    for paths in manifest.same_bytes() {
        say!("the same bytes: {}", paths.join(", "));
    }
    let of = |state: EntryState| manifest.of(state).count();
    let used = |entry: &&ManifestEntry| matches!(entry.state, EntryState::Used | EntryState::WithoutLabel);
    let damaged = manifest.entries.iter().filter(used).filter(|entry| entry.damage.is_some()).count();
    say!(
        "{} used ({damaged} damaged), {} without label, {} missing, {} duplicate, {} excluded, {} of flow labels, \
         {} damaged, {}",
        count(of(EntryState::Used), "capture"),
        of(EntryState::WithoutLabel),
        of(EntryState::Missing),
        of(EntryState::Duplicate),
        of(EntryState::Excluded),
        count(of(EntryState::FlowLabels), "file"),
        count(of(EntryState::DamagedArchive), "archive"),
        count(of(EntryState::Unexpected), "other file")
    );
    let faults = [EntryState::WithoutLabel, EntryState::Missing, EntryState::DamagedArchive];
    damaged == 0 && faults.into_iter().all(|state| of(state) == 0)
}

fn line(entry: &ManifestEntry) -> String {
    let state = entry.state.name().replace('_', " ");
    let place = if entry.path.is_empty() { &entry.name } else { &entry.path };
    let mut parts = vec![format!("{state} {place}")];
    parts.extend(entry.size.map(|size| count(size as usize, "byte")));
    if entry.damage.is_none() {
        parts.extend(entry.packets.map(|packets| count(packets as usize, "packet")));
    }
    if !entry.link_types.is_empty() {
        let types: Vec<String> = entry.link_types.iter().map(u32::to_string).collect();
        parts.push(format!("link type {}", types.join(" and ")));
    }
    if let Some(damage) = &entry.damage {
        let before = entry
            .packets
            .map_or(String::new(), |packets| format!(" after {}", count(packets as usize, "whole packet")));
        parts.push(format!("DAMAGED{before}: {damage}"));
    }
    if entry.out_of_order > 0 {
        parts.push(format!("{} out of order (reordercap sorts them)", count(entry.out_of_order as usize, "packet")));
    }
    if entry.fractions_out_of_range > 0 {
        let packets = count(entry.fractions_out_of_range as usize, "packet");
        parts.push(format!("{packets} with a fraction of a second beyond the file's resolution"));
    }
    parts.extend(entry.sha256.as_ref().map(|sha256| format!("sha256 {sha256}")));
    let labels: Vec<String> = entry.labels.iter().map(|(column, value)| format!("{column}={value}")).collect();
    if !labels.is_empty() {
        parts.push(labels.join(" "));
    }
    match (&entry.note, entry.state) {
        (Some(used), EntryState::Duplicate) => parts.push(format!("{used} is used")),
        (Some(note), _) => parts.push(note.clone()),
        (None, _) => {}
    }
    parts.join(", ")
}

/// `etcbench data compare`.
pub(super) fn compare(arguments: &CompareArguments) -> anyhow::Result<Verdict> {
    let first = dataset::read_manifest(&arguments.first)?;
    let second = dataset::read_manifest(&arguments.second)?;
    let names = (arguments.first.display().to_string(), arguments.second.display().to_string());
    let as_json = arguments.json.is_asked();
    let differences = tell_differences(&first, &second, &names.0, &names.1);
    if as_json {
        output::json(&json!({"same": differences.is_empty(), "differences": differences}));
    }
    Ok(if differences.is_empty() { Verdict::Done } else { Verdict::CheckFailed })
}

fn tell_differences(first: &Manifest, second: &Manifest, first_name: &str, second_name: &str) -> Vec<String> {
    let differences = dataset::compare_manifests(first, second);
    for difference in &differences {
        say!("{difference}");
    }
    match differences.len() {
        0 => say!("{first_name} and {second_name} contain the same data"),
        many => say!("{}; the first is {first_name}, the second {second_name}", count(many, "difference")),
    }
    differences
}

/// `etcbench data labels`.
pub(super) fn labels(project: &Path, arguments: &LabelsArguments) -> anyhow::Result<Verdict> {
    let written_to = arguments.list.as_deref().map(output::announce).unwrap_or_default();
    let dataset = find(project, &arguments.name)?;
    dataset.folder.warnings(&arguments.name).iter().for_each(|warning| tell!("{warning}"));
    anyhow::ensure!(
        dataset.definition.is_labelled(),
        "dataset {}: its captures have no labels (`label_columns` is empty)",
        arguments.name
    );
    if dataset.definition.features.is_some() {
        anyhow::ensure!(
            arguments.list.is_none(),
            "every row of a feature file has labels, so --list has nothing to list"
        );
        let table = dataset::load_features(&[dataset], progress::for_standard_error().as_ref())?;
        table.notes.iter().for_each(|note| tell!("{note}"));
        table.files.iter().for_each(|(_, file, _, rows)| say!("{file}: {} with labels", count(*rows as usize, "flow")));
        tell_counts(table.rows.iter().map(|row| row.labels.as_ref()));
        return Ok(Verdict::Done);
    }
    // Labels need neither bytes nor statistics of the flows.
    let options = FlowOptions { kept_packets: 1, kept_bytes: 1, statistics: false, ..FlowOptions::default() };
    let loaded = dataset::load(&[dataset], &options, progress::for_standard_error().as_ref())?;
    for capture in &loaded.captures {
        let mut text = format!("{}: {} with labels", capture.capture, count(capture.flows as usize, "flow"));
        let others =
            [(capture.unused, "without a class"), (capture.unmatched, "unmatched"), (capture.ambiguous, "ambiguous")];
        for (many, what) in others.into_iter().filter(|(many, _)| *many > 0) {
            text += &format!(", {many} {what}");
        }
        if let Some(file) = &capture.flow_label_file {
            text +=
                &format!(" (labels of {file}, at most {} in memory)", count(capture.most_lines_held as usize, "line"));
            if capture.malformed_lines.count > 0 {
                text += &format!("; {file}: {}", capture.malformed_lines);
            }
            if capture.unknown_protocols.count > 0 {
                text += &format!("; {file}: {}", capture.unknown_protocols);
            }
            if let Some(advice) = &capture.time_advice {
                text += &format!("; {advice}");
            }
        }
        say!("{text}");
    }
    tell_counts(loaded.flows.iter().map(|flow| &flow.labels));
    if let Some(path) = &arguments.list {
        let text = dataset::flows_without_label_csv(&loaded.without_label);
        storage::write_whole(path, text.as_bytes()).with_context(|| written_to.clone())?;
        say!("{written_to}: {} without label", count(loaded.without_label.len(), "flow"));
    }
    Ok(Verdict::Done)
}
