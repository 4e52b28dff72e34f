//! Duplicate flows, as seen by models: identical, or identical except for maskable fields.

use std::collections::HashSet;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::mask::{Mask, MaskMethod};
use super::set::FeatureSet;
use super::token::{TokenOptions, tokenize};
use etcbench_flow::Flow;

/// How to treat flows that duplicate another flow of their class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DuplicateFlows {
    /// Keep them.
    #[default]
    Keep,
    /// Keep only the first of the flows with identical bytes as read by models (without bytes: identical columns).
    DropIdentical,
    /// Keep only the first of the flows with identical bytes after zeroing all maskable fields.
    DropNear,
}

impl DuplicateFlows {
    pub(super) fn is_keep(&self) -> bool {
        *self == Self::Keep
    }
}

/// Returns the tokens of every flow with all maskable fields zeroed: flows with equal tokens are near duplicates.
pub fn tokens_without_identifiers(flows: &[&Flow], tokens: &TokenOptions) -> Vec<Vec<u16>> {
    let options = TokenOptions { masks: Mask::ALL.to_vec(), mask_method: MaskMethod::Zero, ..tokens.clone() };
    flows
        .par_iter()
        .map(|flow| {
            let mut out = vec![0; options.packets * options.bytes];
            // The features were built with these sizes, so they fit.
            let _ = tokenize(flow, &options, &mut out);
            out
        })
        .collect()
}

/// Removes the flows that `rule` drops, and returns how many were removed. `flows` are those that `features` were built
/// from, row by row; `None` for feature files.
pub(super) fn without_duplicates(
    features: FeatureSet,
    flows: Option<(&[&Flow], &TokenOptions)>,
    rule: DuplicateFlows,
) -> (FeatureSet, u64) {
    let rows = 0..features.len();
    // Feature files and published sequences without bytes are compared by their columns.
    let flows = flows.filter(|_| features.tokens.packets * features.tokens.bytes > 0);
    let kept: Vec<usize> = match (rule, flows) {
        (DuplicateFlows::Keep, _) => return (features, 0),
        (DuplicateFlows::DropNear, Some((flows, tokens))) => {
            let tokens = tokens_without_identifiers(flows, tokens);
            firsts(rows.map(|row| (features.labels[row], tokens[row].as_slice())))
        }
        (DuplicateFlows::DropIdentical, Some(_)) => {
            firsts(rows.map(|row| (features.labels[row], features.tokens.flow(row))))
        }
        (_, None) => {
            let bits = |row: usize| {
                let columns = features.statistics.row(row).into_iter().chain(features.sequences.row(row));
                columns.map(|value| value.to_bits()).collect::<Vec<_>>()
            };
            firsts(rows.map(|row| (features.labels[row], bits(row))))
        }
    };
    let dropped = features.len() - kept.len();
    if dropped == 0 { (features, 0) } else { (features.with_rows(&kept), dropped as u64) }
}

/// Returns the indices of first occurrences.
fn firsts<T: Eq + std::hash::Hash>(keys: impl Iterator<Item = T>) -> Vec<usize> {
    let mut seen = HashSet::new();
    keys.enumerate().filter_map(|(row, key)| seen.insert(key).then_some(row)).collect()
}
