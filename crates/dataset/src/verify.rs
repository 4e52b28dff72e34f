//! Reads a dataset's folder into a manifest: every capture once, for its packets and its checksum.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::content::{CaptureContent, capture_sha256, examine, file_sha256};
use super::duplicate::capture_name;
use super::error::DatasetError;
use super::feature_file::load_features;
use super::folder::CaptureFile;
use super::labelled::Labels;
use super::load::{Dataset, load};
use super::manifest::{EntryState, Manifest, ManifestEntry};
use super::plan::plan;
use etcbench_capture::CaptureSummary;
use etcbench_flow::FlowOptions;
use etcbench_storage::progress::Progress;

/// Progress is reported in mebibytes.
const STEP: u64 = 1 << 20;

/// Reads every capture of a dataset, several at a time, including unused ones, so that the manifest shows whether they
/// are intact.
///
/// # Errors
/// Same as [`plan`], and if a flow-label file cannot be read. Damage is recorded in the manifest.
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
            // Feature files are not captures; they are read below, in the same way as in a run.
            let content = match definition.is_captures() {
                true => examine(&folder.root, file, &advance),
                false => whole_file(&folder.root, file, &advance),
            };
            let mut entry = ManifestEntry::new(state, capture_name(definition, file), file.path.clone());
            describe_content(&mut entry, content);
            (entry.note, entry.labels) = (note, labels);
            entry
        })
        .collect();
    progress.end();
    if definition.features.is_some() {
        load_features(std::slice::from_ref(dataset), progress)?;
    }
    if definition.published.is_some() {
        load(std::slice::from_ref(dataset), &FlowOptions::default(), progress)?;
    }
    for file in &folder.flow_label_files {
        let sha256 = file_sha256(&file.source(&folder.root).file)?;
        entries.push(file_entry(EntryState::FlowLabels, file, Some(sha256), None));
    }
    entries.extend(common_entries(dataset, &plan.missing));
    Ok(Manifest::new(&definition.name, &definition.digest, entries))
}

/// A run's information about a capture that it used.
#[derive(Debug, Clone)]
pub struct UsedCapture<'a> {
    /// The dataset.
    pub dataset: &'a str,
    /// The capture's name, as in flow IDs.
    pub capture: &'a str,
    /// SHA-256 as computed by [`super::capture_sha256`].
    pub sha256: &'a str,
    /// Summary of its packets; `None` for feature files.
    pub summary: Option<&'a CaptureSummary>,
}

/// Builds the manifest of one of a run's datasets from what the run has read: captures that the run did not use have no
/// checksum. `label_files` are the flow-label files with their SHA-256.
///
/// # Errors
/// Same as [`plan`].
pub fn manifest_of_run(
    dataset: &Dataset,
    used: &[UsedCapture<'_>],
    label_files: &[(&str, &str)],
) -> Result<Manifest, DatasetError> {
    let definition = &dataset.definition;
    let plan = plan(definition, &dataset.folder)?;
    let mut entries = Vec::new();
    let entry_of =
        |state, file: &CaptureFile| ManifestEntry::new(state, capture_name(definition, file), file.path.clone());
    for capture in plan.captures {
        let file = &capture.file;
        let mut entry = entry_of(EntryState::Used, file);
        let prefixed = format!("{}/{}", definition.name, file.path);
        let known = used
            .iter()
            .find(|used| used.dataset == definition.name && (used.capture == file.path || used.capture == prefixed));
        if let Some(known) = known {
            if let Some(summary) = known.summary {
                describe_summary(&mut entry, summary);
            }
            entry.sha256 = Some(known.sha256.to_owned());
        }
        entry.size = super::rules::is_plain(&file.path).then_some(file.size);
        entry.labels = capture.labels;
        entries.push(entry);
    }
    entries.extend(plan.unlabelled.iter().map(|file| entry_of(EntryState::WithoutLabel, file)));
    for duplicate in &plan.duplicates {
        let mut entry = entry_of(EntryState::Duplicate, &duplicate.file);
        entry.note = Some(duplicate.used.clone());
        entries.push(entry);
    }
    for (file, reason) in &dataset.folder.excluded {
        let mut entry = entry_of(EntryState::Excluded, file);
        entry.note = Some(reason.clone());
        entries.push(entry);
    }
    for file in &dataset.folder.flow_label_files {
        let sha256 = label_files.iter().find(|(path, _)| *path == file.path).map(|(_, sha256)| (*sha256).to_owned());
        entries.push(file_entry(EntryState::FlowLabels, file, sha256, None));
    }
    entries.extend(common_entries(dataset, &plan.missing));
    Ok(Manifest::new(&definition.name, &definition.digest, entries))
}

fn describe_summary(entry: &mut ManifestEntry, summary: &CaptureSummary) {
    entry.packets = Some(summary.packets);
    entry.link_types = summary.link_types();
    entry.out_of_order = summary.out_of_order;
    entry.fractions_out_of_range = summary.fractions_out_of_range;
    entry.damage = summary.damage.as_ref().map(|damage| format!("at byte {}: {}", damage.offset, damage.problem));
}

fn whole_file(root: &Path, file: &CaptureFile, advance: &dyn Fn(u64)) -> CaptureContent {
    let read = capture_sha256(root, file);
    advance(file.size);
    let (sha256, fault) = match read {
        Ok(sha256) => (Some(sha256), None),
        Err(error) => (None, Some(error.to_string())),
    };
    CaptureContent { size: file.size, sha256, summary: None, fault }
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

/// Entries common to both kinds of manifest.
fn common_entries(dataset: &Dataset, missing: &[String]) -> Vec<ManifestEntry> {
    let folder = &dataset.folder;
    let missing = missing.iter().map(|stem| ManifestEntry::new(EntryState::Missing, stem.clone(), ""));
    let archives = folder.damaged_archives.iter().map(|(file, problem)| {
        let mut entry = file_entry(EntryState::DamagedArchive, file, None, None);
        entry.damage = Some(problem.clone());
        entry
    });
    let unexpected = |file, note| file_entry(EntryState::Unexpected, file, None, note);
    let is_ignored = |file: &&CaptureFile| folder.ignored.iter().any(|(ignored, _)| ignored == *file);
    let others = folder.unexpected.iter().filter(|file| !is_ignored(file));
    let others = others.map(|file| unexpected(file, advice(file)));
    let ignored = folder.ignored.iter().map(|(file, pattern)| {
        let note =
            format!("looks like a capture, but no pattern matches it; add \"{pattern}\" to `patterns` in [files]");
        unexpected(file, Some(note))
    });
    let made = "skipped: created by macOS or Windows";
    let system_files = folder.system_files.iter().map(|file| unexpected(file, Some(made.to_owned())));
    let unreadable = folder.unreadable.iter().map(|(path, reason)| {
        let mut entry = ManifestEntry::new(EntryState::Unexpected, path.clone(), path.clone());
        entry.note = Some(format!("skipped: {reason}"));
        entry
    });
    missing.chain(archives).chain(others).chain(ignored).chain(system_files).chain(unreadable).collect()
}

/// Returns advice for a file that cannot be used as it is.
fn advice(file: &CaptureFile) -> Option<String> {
    let name = file.path.to_ascii_lowercase();
    let tar = [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"].iter().any(|end| name.ends_with(end));
    if tar {
        Some("an archive whose members are not read in place; unpack it with `etcbench data unpack`".to_owned())
    } else if [".7z", ".rar", ".zip.001", ".z01", ".7z.001"].iter().any(|end| name.ends_with(end)) {
        Some("an archive of an unsupported kind; unpack it with another program".to_owned())
    } else {
        None
    }
}
