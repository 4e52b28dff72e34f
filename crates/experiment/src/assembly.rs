//! Assembles fits into a run, with the origin of their data and the machine on which they were assembled.

use sha2::{Digest, Sha256};

use super::capture_facts::CaptureFacts;
use super::flows::LoadedFlows;
use super::run::{FittedRow, Run, Settings, VariantRun};
use super::{Experiment, Invocation, Provenance};

/// Assembles a run from fits, with the origin of their data.
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
    // Captures are the same for all flow options; unlabelled flows are listed for the first variant's options.
    let (manifests, without_label, data_notes) = loaded.first_mut().map_or_else(Default::default, |flows| {
        (
            std::mem::take(&mut flows.manifests),
            std::mem::take(&mut flows.without_label),
            std::mem::take(&mut flows.notes),
        )
    });
    // A run computed on other machines may be assembled on one without their GPU.
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

/// Returns the SHA-256 as 64 hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
