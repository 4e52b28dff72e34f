//! Flows that are there more than once, to the models that read them: identical, or the same but for what a mask can
//! zero.

use std::collections::HashSet;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::mask::{Mask, MaskMethod};
use super::set::FeatureSet;
use super::token::{TokenOptions, tokenize};
use etcbench_flow::Flow;

/// What becomes of flows that equal another one of their class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DuplicateFlows {
    /// They stay.
    #[default]
    Keep,
    /// Of flows whose bytes are the same as models read them (without bytes: whose columns are), the first stays.
    DropIdentical,
    /// Of flows whose bytes are the same once every field is zeroed that a mask can zero, the first stays.
    DropNear,
}

impl DuplicateFlows {
    pub(super) fn is_keep(&self) -> bool {
        *self == Self::Keep
    }
}

/// The tokens of every flow with all maskable fields zeroed: flows that differ in nothing else are nearly the same.
pub fn tokens_without_identifiers(flows: &[&Flow], tokens: &TokenOptions) -> Vec<Vec<u16>> {
    let options = TokenOptions { masks: Mask::ALL.to_vec(), mask_method: MaskMethod::Zero, ..tokens.clone() };
    flows
        .par_iter()
        .map(|flow| {
            let mut out = vec![0; options.packets * options.bytes];
            // The features were made with these sizes, so they fit.
            let _ = tokenize(flow, &options, &mut out);
            out
        })
        .collect()
}

/// The flows without those that `rule` drops, and how many these are. `flows` are those that `features` were made of,
/// row by row; feature files have none.
pub(super) fn without_duplicates(
    features: FeatureSet,
    flows: Option<(&[&Flow], &TokenOptions)>,
    rule: DuplicateFlows,
) -> (FeatureSet, u64) {
    let rows = 0..features.len();
    // What has no bytes, of feature files and of published sequences, is compared by its columns.
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

/// The places of what is there for the first time.
fn firsts<T: Eq + std::hash::Hash>(keys: impl Iterator<Item = T>) -> Vec<usize> {
    let mut seen = HashSet::new();
    keys.enumerate().filter_map(|(row, key)| seen.insert(key).then_some(row)).collect()
}
