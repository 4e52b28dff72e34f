//! Reads a dataset's folder into a manifest: every capture once, for its packets and its checksum.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::content::{CaptureContent, examine, file_sha256};
use super::duplicate::capture_name;
use super::error::DatasetError;
use super::folder::CaptureFile;
use super::labelled::Labels;
use super::load::{Dataset, Loaded};
use super::manifest::{EntryState, Manifest, ManifestEntry};
use super::plan::plan;
use crate::capture::CaptureSummary;
use crate::progress::Progress;

/// Progress is told in mebibytes.
const STEP: u64 = 1 << 20;

/// Reads every capture of a dataset, several at a time; those that are not used, too, so that the manifest tells
/// whether they are whole.
///
/// # Errors
/// As [`plan`], and a file of flow labels that cannot be read. Damage is part of the manifest.
pub fn verify(dataset: &Dataset, progress: &dyn Progress) -> Result<Manifest, DatasetError> {
    let (definition, folder) = (&dataset.definition, &dataset.folder);
    let plan = plan(definition, folder)?;
    let mut jobs: Vec<(EntryState, &CaptureFile, Labels, Option<String>)> = Vec::new();
    for capture in &plan.captures {
        jobs.push((EntryState::Used, &capture.file, capture.labels.clone(), None));
    }
    for file in &plan.unlabelled {
        jobs.push((EntryState::WithoutLabel, file, Labels::new(), None));
    }
    for duplicate in &plan.duplicates {
        jobs.push((EntryState::Duplicate, &duplicate.file, Labels::new(), Some(duplicate.used.clone())));
    }
    for (file, reason) in &folder.excluded {
        jobs.push((EntryState::Excluded, file, Labels::new(), Some(reason.clone())));
    }
    let total: u64 = jobs.iter().map(|(_, file, ..)| file.size).sum();
    progress.begin("reading captures (MiB)", total / STEP);
    let read = AtomicU64::new(0);
    let advance = |bytes: u64| {
        let before = read.fetch_add(bytes, Ordering::Relaxed);
        progress.advance((before + bytes) / STEP - before / STEP);
    };
    let mut entries: Vec<ManifestEntry> = jobs
        .into_par_iter()
        .with_max_len(1)
        .map(|(state, file, labels, note)| {
            let content = examine(&folder.root, file, &advance);
            let mut entry = ManifestEntry::new(state, capture_name(definition, file), file.path.clone());
            describe_content(&mut entry, content);
            (entry.note, entry.labels) = (note, labels);
            entry
        })
        .collect();
    progress.end();
    for file in &folder.flow_label_files {
        let sha256 = file_sha256(&folder.root.join(&file.path))?;
        entries.push(file_entry(EntryState::FlowLabels, file, Some(sha256), None));
    }
    entries.extend(common_entries(dataset, &plan.missing));
    Ok(Manifest::new(&definition.name, &definition.digest, entries))
}

/// What a run knows of a capture that it used.
#[derive(Debug, Clone)]
pub struct LoadedFacts<'a> {
    /// The capture, as flows name it.
    pub capture: &'a str,
    /// SHA-256 as of [`super::capture_sha256`].
    pub sha256: &'a str,
}

/// The manifest of one of a run's datasets, from what the run has read: captures that it did not use have no
/// checksum in it.
pub fn manifest_of_run(
    dataset: &Dataset,
    loaded: &Loaded,
    facts: &[LoadedFacts<'_>],
    label_files: &[(&str, &str)],
) -> Manifest {
    let definition = &dataset.definition;
    let mut entries = Vec::new();
    for capture in loaded.captures.iter().filter(|capture| capture.dataset == definition.name) {
        let file = &capture.file;
        let mut entry = ManifestEntry::new(EntryState::Used, capture_name(definition, file), file.path.clone());
        let sha256 = facts.iter().find(|facts| facts.capture == capture.capture).map(|facts| facts.sha256.to_owned());
        describe_summary(&mut entry, &capture.summary);
        entry.sha256 = sha256;
        entry.size = super::rules::is_plain(&file.path).then_some(file.size);
        entry.labels = definition.rules.labels_of(&file.location()).unwrap_or_default();
        entries.push(entry);
    }
    for (_, file) in loaded.unlabelled.iter().filter(|(name, _)| *name == definition.name) {
        entries.push(ManifestEntry::new(EntryState::WithoutLabel, capture_name(definition, file), file.path.clone()));
    }
    for (_, duplicate) in loaded.duplicates.iter().filter(|(name, _)| *name == definition.name) {
        let file = &duplicate.file;
        let mut entry = ManifestEntry::new(EntryState::Duplicate, capture_name(definition, file), file.path.clone());
        entry.note = Some(duplicate.used.clone());
        entries.push(entry);
    }
    for (file, reason) in &dataset.folder.excluded {
        let mut entry = ManifestEntry::new(EntryState::Excluded, capture_name(definition, file), file.path.clone());
        entry.note = Some(reason.clone());
        entries.push(entry);
    }
    for file in &dataset.folder.flow_label_files {
        let sha256 = label_files.iter().find(|(path, _)| *path == file.path).map(|(_, sha256)| (*sha256).to_owned());
        entries.push(file_entry(EntryState::FlowLabels, file, sha256, None));
    }
    let of_this = |(name, stem): &(String, String)| (*name == definition.name).then(|| stem.clone());
    let missing: Vec<String> = loaded.missing.iter().filter_map(of_this).collect();
    entries.extend(common_entries(dataset, &missing));
    Manifest::new(&definition.name, &definition.digest, entries)
}

fn describe_summary(entry: &mut ManifestEntry, summary: &CaptureSummary) {
    entry.packets = Some(summary.packets);
    entry.link_types = summary.link_types();
    entry.damage = summary.damage.as_ref().map(|damage| format!("at byte {}: {}", damage.offset, damage.problem));
}

fn describe_content(entry: &mut ManifestEntry, content: CaptureContent) {
    if let Some(summary) = &content.summary {
        describe_summary(entry, summary);
    }
    if entry.damage.is_none() {
        entry.damage = content.fault;
    }
    entry.size = Some(content.size);
    entry.sha256 = content.sha256;
}

fn file_entry(state: EntryState, file: &CaptureFile, sha256: Option<String>, note: Option<String>) -> ManifestEntry {
    let mut entry = ManifestEntry::new(state, file.path.clone(), file.path.clone());
    (entry.size, entry.sha256, entry.note) = (Some(file.size), sha256, note);
    entry
}

/// Entries that both kinds of manifest make alike.
fn common_entries(dataset: &Dataset, missing: &[String]) -> Vec<ManifestEntry> {
    let folder = &dataset.folder;
    let missing = missing.iter().map(|stem| ManifestEntry::new(EntryState::Missing, stem.clone(), ""));
    let archives = folder.damaged_archives.iter().map(|(file, problem)| {
        let mut entry = file_entry(EntryState::DamagedArchive, file, None, None);
        entry.damage = Some(problem.clone());
        entry
    });
    let unexpected = folder.unexpected.iter().map(|file| file_entry(EntryState::Unexpected, file, None, advice(file)));
    missing.chain(archives).chain(unexpected).collect()
}

/// What to do with a file that is not used as it is.
fn advice(file: &CaptureFile) -> Option<String> {
    let name = file.path.to_ascii_lowercase();
    let tar = [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"].iter().any(|end| name.ends_with(end));
    if tar {
        Some("an archive whose members are not read in place; unpack it with `etcbench data unpack`".to_owned())
    } else if name.ends_with(".7z") || name.ends_with(".rar") {
        Some("an archive of a kind that is not read; unpack it by other means".to_owned())
    } else {
        None
    }
}
