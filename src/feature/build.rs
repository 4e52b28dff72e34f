//! Labelled flows become a feature set.

use ndarray::Array2;
use rayon::prelude::*;

use super::select::{Selection, SelectionSummary, select};
use super::{FeatureError, FeatureSet, TokenArray, TokenOptions, tokenize};
use crate::dataset::LabelledFlow;
use crate::flow::STATISTIC_NAMES;

/// Selects flows, gives them their classes and takes their bytes and statistics. Rows keep the order of
/// `flows`. `seed` serves `maximum_flows_per_class` only.
///
/// # Errors
/// A class without flows, one class only, label columns that do not exist, classes that overlap, token
/// options that make no sense.
pub fn build_features(
    flows: &[LabelledFlow],
    selection: &Selection,
    options: &TokenOptions,
    seed: u64,
) -> Result<(FeatureSet, SelectionSummary), FeatureError> {
    let mut selected = select(flows, selection, seed)?;
    let size = options.packets * options.bytes;
    let mut values = vec![0; selected.rows.len() * size];
    let counts: Vec<usize> = values
        .par_chunks_mut(size.max(1))
        .zip(&selected.rows)
        .map(|(out, &row)| tokenize(&flows[row].flow, options, out))
        .collect::<Result<_, _>>()?;
    if counts.contains(&0) {
        // A flow that shows no byte has nothing to be classified by.
        let keep: Vec<usize> = (0..counts.len()).filter(|&index| counts[index] > 0).collect();
        selected.summary.without_bytes = counts.len() - keep.len();
        selected.summary.selected = keep.len();
        values = keep.iter().flat_map(|&index| values[index * size..(index + 1) * size].iter().copied()).collect();
        selected.rows = keep.iter().map(|&index| selected.rows[index]).collect();
        selected.labels = keep.iter().map(|&index| selected.labels[index]).collect();
        for (class, name) in selected.class_names.iter().enumerate() {
            if !selected.labels.contains(&(class as u32)) {
                return Err(FeatureError::Selection {
                    problem: format!("no flow of class `{name}` has a byte after packet_start"),
                });
            }
        }
    }
    let mut statistics = Array2::zeros((selected.rows.len(), STATISTIC_NAMES.len()));
    for (mut out, &row) in statistics.rows_mut().into_iter().zip(&selected.rows) {
        for (out, &value) in out.iter_mut().zip(&flows[row].flow.statistics) {
            *out = value as f32;
        }
    }
    let features = FeatureSet {
        tokens: TokenArray { packets: options.packets, bytes: options.bytes, values },
        statistics,
        statistic_names: STATISTIC_NAMES.iter().map(|&name| name.to_owned()).collect(),
        labels: selected.labels,
        class_names: selected.class_names,
        provenance: selected.rows.iter().map(|&row| flows[row].provenance.clone()).collect(),
    };
    Ok((features, selected.summary))
}
