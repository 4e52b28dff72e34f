//! The parts into which publishers divided the flows, for `split.method = "published"`.

use std::collections::HashMap;

use super::flows::{Content, LoadedFlows};
use super::{ExperimentError, Variant};
use etcbench_dataset::{FlowProvenance, Labels, PublishedParts};
use etcbench_feature::FeatureSet;
use etcbench_split::{Part, SplitMethod};

/// Returns the published part of each flow of `features`, if the variant's split needs it.
///
/// # Errors
/// A dataset of the experiment has no published parts.
pub(super) fn published_parts(
    variant: &Variant,
    flows: &LoadedFlows,
    features: &FeatureSet,
) -> Result<Option<Vec<Option<Part>>>, ExperimentError> {
    if variant.split.method != SplitMethod::Published {
        return Ok(None);
    }
    let mut stated: Vec<(&str, &PublishedParts)> = Vec::new();
    for (name, parts) in &flows.parts {
        match parts {
            Some(parts) => stated.push((name, parts)),
            None => {
                return Err(ExperimentError::Features {
                    problem: format!(
                        "the definition of {name} has no [parts], which split method \"published\" uses: its publisher \
                         does not divide it, or the definition does not say how; use \"stratified\", \"grouped\", \
                         \"k_fold\" or \"file\""
                    ),
                });
            }
        }
    }
    let part = |provenance: &FlowProvenance, labels: &Labels| {
        let parts = match stated[..] {
            [(_, parts)] => parts,
            _ => {
                let dataset = provenance.capture.split_once('/').map_or("", |(dataset, _)| dataset);
                stated.iter().find(|(name, _)| *name == dataset)?.1
            }
        };
        let name = parts.part_of(labels)?;
        Part::ALL.into_iter().find(|part| part.name() == name)
    };
    let one = |provenance: &FlowProvenance, labels: &Labels| {
        ((provenance.capture.clone(), provenance.number), part(provenance, labels))
    };
    let parts: HashMap<(String, u32), Option<Part>> = match &flows.content {
        Content::Flows(flows) => flows.iter().map(|flow| one(&flow.provenance, &flow.labels)).collect(),
        Content::Table(table) => table.rows.iter().map(|row| one(&row.provenance, &row.labels)).collect(),
    };
    let of_row = |row: &FlowProvenance| parts.get(&(row.capture.clone(), row.number)).copied().flatten();
    Ok(Some(features.provenance.iter().map(of_row).collect()))
}
