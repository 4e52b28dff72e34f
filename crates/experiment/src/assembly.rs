//! Fits become a run: with them stands where their data came from, and on which machine they were put together.

use sha2::{Digest, Sha256};

use super::flows::{CaptureFacts, LoadedFlows};
use super::run::{FittedRow, Run, Settings, VariantRun};
use super::{Experiment, Invocation, Provenance};

/// A run of these fits, with where its data came from.
pub(super) fn assembled(
    experiment: &Experiment,
    settings: &Settings,
    loaded: &mut [LoadedFlows],
    variants: Vec<VariantRun>,
    rows: Vec<FittedRow>,
) -> Run {
    let mut captures: Vec<CaptureFacts> = Vec::new();
    for flows in &*loaded {
        for capture in &flows.captures {
            if !captures.contains(capture) {
                captures.push(capture.clone());
            }
        }
    }
    // Captures are the same under all flow options; of flows, those of the first variant's options are listed.
    let (manifests, without_label, data_notes) = loaded.first_mut().map_or_else(Default::default, |flows| {
        (
            std::mem::take(&mut flows.manifests),
            std::mem::take(&mut flows.without_label),
            std::mem::take(&mut flows.notes),
        )
    });
    // A run that other machines computed may end on one without their graphics card.
    let description = settings.device.describe().unwrap_or_else(|_| settings.device.name());
    Run {
        manifests,
        without_label,
        data_notes,
        experiment: experiment.clone(),
        invocation: Invocation::default(),
        provenance: Provenance::collect(&settings.project, &description),
        captures,
        flows_reused: loaded.iter().all(|flows| flows.reused),
        stages: settings.cache.counts(),
        variants,
        rows,
        failures: Vec::new(),
        left_out: Vec::new(),
    }
}

/// SHA-256 as 64 hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
