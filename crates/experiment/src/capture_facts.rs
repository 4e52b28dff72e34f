//! What a run stores about its captures and feature files: their checksums, counts and manifests.

use super::ExperimentError;
use super::{cache, flow_cache};
use etcbench_capture::CaptureSummary;
use etcbench_dataset as dataset;
use etcbench_dataset::{Dataset, FeatureTable, LoadedCapture, Manifest, UsedCapture};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

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

/// Dataset, path and SHA-256 of every file that determines flows or labels, in a fixed order.
pub(super) type Checksums = Vec<(String, String, String)>;

pub(super) fn checksums(datasets: &[Dataset], cache: &cache::Cache) -> Result<Checksums, ExperimentError> {
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

pub(super) fn facts(capture: &LoadedCapture, checksums: &Checksums) -> Result<CaptureFacts, ExperimentError> {
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
pub(super) fn table_facts(table: &FeatureTable, checksums: &Checksums) -> Result<Vec<CaptureFacts>, ExperimentError> {
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

pub(super) fn manifests(
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
