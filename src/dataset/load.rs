//! Captures become labelled flows, file by file in parallel, in the order of the inventory.

use rayon::prelude::*;
use serde::Serialize;

use super::locate::CaptureFile;
use super::{DatasetError, FlowProvenance, LabelledFlow};
use crate::capture::CaptureSummary;
use crate::flow::{FlowOptions, assemble_capture};
use crate::progress::Progress;

/// What was found in one capture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaptureReport {
    /// Path relative to the dataset's folder, with the dataset's name before it where there are several.
    pub capture: String,
    /// Flows assembled.
    pub flows: usize,
    /// Packets read, decoded and skipped, and damage.
    pub summary: CaptureSummary,
}

/// Assembles the flows of `captures`. `prefix` is put before each capture's name, so that captures of
/// several datasets stay apart.
///
/// # Errors
/// A capture that gives no packets at all, the first in the order of `captures`. A damaged one gives the
/// flows before the damage, and its report says so.
pub fn load(
    captures: &[CaptureFile],
    prefix: &str,
    options: &FlowOptions,
    progress: &dyn Progress,
) -> Result<(Vec<LabelledFlow>, Vec<CaptureReport>), DatasetError> {
    progress.begin("reading captures", captures.len() as u64);
    let loaded: Vec<_> = captures
        .par_iter()
        .map(|capture| {
            let result = load_one(capture, prefix, options);
            progress.advance(1);
            result
        })
        .collect();
    progress.end();
    let mut flows = Vec::new();
    let mut reports = Vec::new();
    for result in loaded {
        let (more, report) = result?;
        flows.extend(more);
        reports.push(report);
    }
    Ok((flows, reports))
}

fn load_one(
    capture: &CaptureFile,
    prefix: &str,
    options: &FlowOptions,
) -> Result<(Vec<LabelledFlow>, CaptureReport), DatasetError> {
    let name = format!("{prefix}{}", capture.relative);
    let mut assembled = Vec::new();
    let summary = assemble_capture(&capture.path, options, &mut |flow| assembled.push(flow))?;
    let flows: Vec<LabelledFlow> = assembled
        .into_iter()
        .zip(0..)
        .map(|(flow, number)| LabelledFlow {
            provenance: FlowProvenance {
                capture: name.clone(),
                number,
                five_tuple: flow.five_tuple,
                start: flow.start,
                end: flow.end,
            },
            labels: capture.labels.clone(),
            flow,
        })
        .collect();
    let report = CaptureReport { capture: name, flows: flows.len(), summary };
    Ok((flows, report))
}
