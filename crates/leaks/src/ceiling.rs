//! The ceiling: the best accuracy that any classifier can have, because identical inputs have different labels.

use std::collections::HashMap;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use etcbench_feature::{FeatureSet, TokenOptions};
use etcbench_flow::{Flow, PacketDirection};

/// The ceiling for one input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// The input: `bytes` and `statistics` as models read them, or `lengths_and_directions` of the first N packets.
    pub input: String,
    /// Number of distinct inputs among the flows.
    pub inputs: usize,
    /// Fraction of flows that belong to the most frequent class among the flows with the same input. No function of the
    /// input is right more often on these flows, whatever it was trained on.
    pub accuracy: f64,
}

/// Computes the ceilings over all flows of `features`, whatever part they are in.
pub(super) fn ceilings(features: &FeatureSet, flows: Option<(&[&Flow], &TokenOptions)>) -> Vec<Ceiling> {
    let rows = 0..features.len();
    let mut found = Vec::new();
    if features.tokens.packets * features.tokens.bytes > 0 {
        found.push(ceiling("bytes", features, rows.clone().map(|row| features.tokens.flow(row))));
    }
    if features.statistics.ncols() > 0 {
        let bits = |row: usize| features.statistics.row(row).iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        found.push(ceiling("statistics", features, rows.clone().map(bits)));
    }
    if let Some((flows, tokens)) = flows {
        let shape = |row: usize| {
            let packets = flows[row].packets.iter().take(tokens.packets);
            packets.map(|packet| (packet.wire_length, packet.direction == PacketDirection::Forward)).collect::<Vec<_>>()
        };
        found.push(ceiling("lengths_and_directions", features, rows.map(shape)));
    }
    found
}

fn ceiling<T: Eq + Hash>(input: &str, features: &FeatureSet, rows: impl Iterator<Item = T>) -> Ceiling {
    let classes = features.class_names.len();
    let mut counts: HashMap<T, Vec<usize>> = HashMap::new();
    for (row, &label) in rows.zip(&features.labels) {
        counts.entry(row).or_insert_with(|| vec![0; classes])[label as usize] += 1;
    }
    let most: usize = counts.values().map(|classes| classes.iter().max().copied().unwrap_or(0)).sum();
    Ceiling { input: input.to_owned(), inputs: counts.len(), accuracy: most as f64 / features.len().max(1) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::features_of_statistics;

    #[test]
    fn the_ceiling_is_the_share_of_the_largest_class_of_each_input() {
        // Input 1: two of class 0, one of class 1; input 2: one of each; input 3: one of class 1.
        let features = features_of_statistics(&[(1.0, 0), (1.0, 0), (1.0, 1), (2.0, 0), (2.0, 1), (3.0, 1)]);
        let found = ceilings(&features, None);
        let expected = Ceiling { input: "statistics".to_owned(), inputs: 3, accuracy: 4.0 / 6.0 };
        assert_eq!(found, [expected]);
        let apart = features_of_statistics(&[(1.0, 0), (2.0, 1)]);
        assert_eq!(ceilings(&apart, None)[0].accuracy, 1.0);
    }
}
