//! The flows of an experiment with their labels, class and part of every split, for a table of flows.

use std::collections::HashMap;

use super::flows::Content;
use super::prepare::{PreparedAll, prepare_all};
use super::run::Settings;
use super::{Experiment, ExperimentError};
use etcbench_dataset::{HeldBytes, LabelledFlow};
use etcbench_feature::{StoreHeader, added_key};
use etcbench_flow::STATISTIC_NAMES;
use etcbench_split::Part;
use etcbench_storage::progress::Progress;

/// The column of a flow's class.
const CLASS: &str = "class";
/// The column of its part; with several splits, each has a separate column, `part_seed0` or `part_seed0_fold1`.
const PART: &str = "part";

/// The flows used by an experiment's single variant.
pub struct DividedFlows {
    /// Properties shared by the flows; the added columns are the class and parts.
    pub header: StoreHeader,
    /// The flows, in the order of datasets, captures and first packets.
    pub flows: Vec<LabelledFlow>,
    /// Number of splits.
    pub splits: usize,
    /// Whether packets have bytes, from the IP header on.
    pub has_packets: bool,
}

/// Reads and divides the flows of an experiment with one variant, keeping at least the given numbers of packets and
/// bytes of each.
///
/// # Errors
/// Same as [`super::run`] until training; also several variants, samples that are not flows, and rows of feature files.
pub fn divided_flows(
    experiment: &Experiment,
    settings: &Settings,
    least: (usize, usize),
    progress: &dyn Progress,
) -> Result<DividedFlows, ExperimentError> {
    let problem = |problem: String| ExperimentError::Features { problem };
    let mut experiment = experiment.clone();
    for variant in &mut experiment.variants {
        let (packets, bytes) = (&mut variant.flow.kept_packets, &mut variant.flow.kept_bytes);
        (*packets, *bytes) = (least.0.max(*packets), least.1.max(*bytes));
    }
    let PreparedAll { mut loaded, mut variants, .. } = prepare_all(&experiment, settings, progress)?;
    let Some((variant, at, prepared)) = variants.pop().filter(|_| variants.is_empty()) else {
        let names: Vec<&str> = experiment.variants.iter().map(|variant| variant.name.as_str()).collect();
        return Err(problem(format!(
            "{} has {} variants, which select and divide flows differently; choose one with --variants ({})",
            experiment.name,
            names.len(),
            names.join(", ")
        )));
    };
    if prepared.features.provenance.iter().any(|row| row.packet.is_some()) {
        return Err(problem(format!("{} divides single packets, but a table has one row per flow", variant.name)));
    }
    let loaded = loaded.swap_remove(at);
    let Content::Flows(flows) = loaded.content else {
        return Err(problem("the dataset is published as features, so it has no flows to write".to_owned()));
    };
    let knows = |name: &str| loaded.holds.iter().all(|holds| holds.knows(name));
    let known: Vec<usize> = (0..STATISTIC_NAMES.len()).filter(|&place| knows(STATISTIC_NAMES[place])).collect();
    let name_of = |seed: u64, fold: usize| match (prepared.splits.len(), prepared.folds) {
        (1, _) => PART.to_owned(),
        (_, 1) => format!("{PART}_seed{seed}"),
        _ => format!("{PART}_seed{seed}_fold{fold}"),
    };
    let columns: Vec<String> = prepared.splits.iter().map(|run| name_of(run.seed, run.fold)).collect();
    let mut parts: Vec<Vec<&'static str>> = vec![vec![""; prepared.features.len()]; columns.len()];
    for (of_split, run) in parts.iter_mut().zip(&prepared.splits) {
        for part in Part::ALL {
            run.split.part(part).iter().for_each(|&row| of_split[row] = part.name());
        }
    }
    let rows: HashMap<(&str, u32), usize> = prepared
        .features
        .provenance
        .iter()
        .enumerate()
        .map(|(row, flow)| ((flow.capture.as_str(), flow.number), row))
        .collect();
    let mut label_columns: Vec<String> = Vec::new();
    let mut used = Vec::with_capacity(rows.len());
    for mut flow in flows {
        let Some(&row) = rows.get(&(flow.provenance.capture.as_str(), flow.provenance.number)) else { continue };
        for column in flow.labels.keys() {
            if !label_columns.contains(column) {
                label_columns.push(column.clone());
            }
        }
        let class = prepared.features.class_names[prepared.features.labels[row] as usize].clone();
        flow.labels.insert(added_key(CLASS), class);
        for (column, of_split) in columns.iter().zip(&parts) {
            flow.labels.insert(added_key(column), of_split[row].to_owned());
        }
        flow.flow.statistics = known.iter().map(|&place| flow.flow.statistics[place]).collect();
        used.push(flow);
    }
    let header = StoreHeader {
        datasets: experiment.datasets.clone(),
        label_columns,
        added_columns: std::iter::once(CLASS.to_owned()).chain(columns).collect(),
        statistic_names: known.iter().map(|&place| STATISTIC_NAMES[place].to_owned()).collect(),
        flow_options: loaded.options,
    };
    let has_packets = loaded.holds.iter().all(|holds| holds.bytes == HeldBytes::IpHeader);
    Ok(DividedFlows { header, flows: used, splits: prepared.splits.len(), has_packets })
}
