//! Test flows whose features are bit for bit equal to those of a training flow.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use etcbench_feature::{FeatureSet, TokenOptions, tokens_without_identifiers};
use etcbench_flow::Flow;
use etcbench_split::Split;

/// Test flows that are equal to a training flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Duplicates {
    /// What is compared: `bytes` and `statistics` as models read them, or `bytes_but_identifiers`, the bytes with every
    /// field zeroed that a mask can zero: flows that only differ there are nearly identical.
    pub features: String,
    /// Number of test flows that are equal to a training flow.
    pub test_flows: usize,
    /// Their fraction of the test flows.
    pub share: f64,
    /// Number of these that are equal to a training flow of another class.
    pub of_another_class: usize,
    /// Number of these that are equal only to training flows of other classes: a model that reads nothing else and fits
    /// the training flows gets them wrong.
    pub of_other_classes_only: usize,
    /// Counts for each class, in the order of classes.
    pub classes: Vec<ClassDuplicates>,
}

/// Duplicates of one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassDuplicates {
    /// The class.
    pub class: String,
    /// Number of test flows of the class.
    pub test_flows: usize,
    /// Number of these that are equal to a training flow.
    pub duplicates: usize,
}

/// Returns, for each split, the duplicates by bytes, by bytes without identifiers, and by statistics, if these exist.
pub(super) fn duplicates(
    features: &FeatureSet,
    flows: Option<(&[&Flow], &TokenOptions)>,
    splits: &[&Split],
) -> Vec<Vec<Duplicates>> {
    let mut kinds: Vec<(&str, Vec<u32>)> = Vec::new();
    if features.tokens.packets * features.tokens.bytes > 0 {
        kinds.push(("bytes", numbered((0..features.len()).map(|row| features.tokens.flow(row)))));
        if let Some((flows, tokens)) = flows {
            let masked = tokens_without_identifiers(flows, tokens);
            kinds.push(("bytes_but_identifiers", numbered(masked.iter().map(Vec::as_slice))));
        }
    }
    if features.statistics.ncols() > 0 {
        let rows = features.statistics.rows().into_iter();
        let bits: Vec<Vec<u32>> = rows.map(|row| row.iter().map(|value| value.to_bits()).collect()).collect();
        kinds.push(("statistics", numbered(bits.iter().map(Vec::as_slice))));
    }
    splits
        .iter()
        .map(|split| kinds.iter().map(|(kind, rows)| of_split(features, split, kind, rows)).collect())
        .collect()
}

/// Assigns equal numbers to equal rows.
fn numbered<T: Eq + Hash>(rows: impl Iterator<Item = T>) -> Vec<u32> {
    let mut known: HashMap<T, u32> = HashMap::new();
    rows.map(|row| {
        let next = known.len() as u32;
        *known.entry(row).or_insert(next)
    })
    .collect()
}

fn of_split(features: &FeatureSet, split: &Split, kind: &str, rows: &[u32]) -> Duplicates {
    let labels = &features.labels;
    let mut classes_of: HashMap<u32, BTreeSet<u32>> = HashMap::new();
    for &row in &split.train {
        classes_of.entry(rows[row]).or_default().insert(labels[row]);
    }
    let mut classes: Vec<ClassDuplicates> = features
        .class_names
        .iter()
        .map(|name| ClassDuplicates { class: name.clone(), test_flows: 0, duplicates: 0 })
        .collect();
    let (mut found, mut of_another_class, mut of_other_classes_only) = (0, 0, 0);
    for &row in &split.test {
        let class = &mut classes[labels[row] as usize];
        class.test_flows += 1;
        let Some(trained) = classes_of.get(&rows[row]) else { continue };
        class.duplicates += 1;
        found += 1;
        let same_class = trained.contains(&labels[row]);
        of_another_class += usize::from(trained.len() > usize::from(same_class));
        of_other_classes_only += usize::from(!same_class);
    }
    Duplicates {
        features: kind.to_owned(),
        test_flows: found,
        share: found as f64 / split.test.len().max(1) as f64,
        of_another_class,
        of_other_classes_only,
        classes,
    }
}
