//! Over- and under-sampling: draws the rows to fit on so that all classes have the same size. Only the training part is
//! sampled, after the split; validation and test rows are never duplicated or dropped.

use rand::seq::{SliceRandom, index};
use serde::{Deserialize, Serialize};

use super::{Split, SplitOptions, canonical_order};
use etcbench_feature::FeatureSet;
use etcbench_storage::seed;

/// Resampling of training parts whose classes differ in size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// None: every training flow once.
    #[default]
    None,
    /// Every class as often as the largest: each flow of a smaller class equally often, give or take one.
    Oversample,
    /// Every class as often as the smallest, drawn without replacement.
    Undersample,
}

impl Sampling {
    /// Returns the name used in experiment files.
    pub fn name(self) -> &'static str {
        match self {
            Sampling::None => "none",
            Sampling::Oversample => "oversample",
            Sampling::Undersample => "undersample",
        }
    }

    pub(super) fn is_none(&self) -> bool {
        *self == Sampling::None
    }
}

/// Returns the rows to fit on, sorted: at most [`SplitOptions::training_flows_per_class`] of each class, resampled
/// according to [`SplitOptions::sampling`]. With [`Sampling::Oversample`], rows may be repeated. Classes without
/// training flows get none. Draws depend only on the seed and the flow ids, not on the order of the rows, and each
/// class has its own generator.
pub fn sample_training(features: &FeatureSet, split: &Split, options: &SplitOptions, seed: u64) -> Vec<usize> {
    let (sampling, most) = (options.sampling, options.training_flows_per_class);
    if sampling.is_none() && most.is_none() {
        return split.train.clone();
    }
    let mut in_training = vec![false; features.len()];
    for &row in &split.train {
        in_training[row] = true;
    }
    let mut classes = vec![Vec::new(); features.class_names.len()];
    for row in canonical_order(&features.provenance).into_iter().filter(|&row| in_training[row]) {
        classes[features.labels[row] as usize].push(row);
    }
    if let Some(most) = most {
        let root = seed::derive(seed, "training flows");
        for (name, class) in features.class_names.iter().zip(&mut classes).filter(|(_, class)| class.len() > most) {
            // Always the first of one order, so that a smaller sample is a subset of a larger one.
            class.shuffle(&mut seed::generator(root, name));
            class.truncate(most);
        }
        if sampling.is_none() {
            let mut rows: Vec<usize> = classes.into_iter().flatten().collect();
            rows.sort_unstable();
            return rows;
        }
    }
    let sizes = || classes.iter().map(Vec::len).filter(|&size| size > 0);
    let target = if sampling == Sampling::Oversample { sizes().max() } else { sizes().min() }.unwrap_or(0);
    let root = seed::derive(seed, "sampling");
    let mut rows = Vec::new();
    for (name, class) in features.class_names.iter().zip(&classes).filter(|(_, class)| !class.is_empty()) {
        for _ in 0..target / class.len() {
            rows.extend(class);
        }
        let mut generator = seed::generator(root, name);
        let rest = index::sample(&mut generator, class.len(), target % class.len());
        rows.extend(rest.into_iter().map(|place| class[place]));
    }
    rows.sort_unstable();
    rows
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use proptest::prelude::*;

    use super::*;
    use etcbench_capture::Transport;
    use etcbench_dataset::FlowProvenance;
    use etcbench_feature::TokenArray;
    use etcbench_flow::FiveTuple;

    fn features(labels: Vec<u32>, classes: usize) -> FeatureSet {
        let endpoint = "10.0.0.1:1".parse().unwrap();
        let five_tuple = FiveTuple { source: endpoint, destination: endpoint, transport: Transport::Tcp };
        let provenance =
            |number| FlowProvenance { capture: "a".to_owned(), number, five_tuple, start: 0, end: 0, packet: None };
        FeatureSet {
            tokens: TokenArray { packets: 0, bytes: 0, values: Vec::new() },
            statistics: Array2::zeros((labels.len(), 0)),
            statistic_names: Vec::new(),
            sequences: Array2::zeros((labels.len(), 0)),
            flowpics: Array2::zeros((labels.len(), 0)),
            class_names: (0..classes).map(|class| format!("class{class}")).collect(),
            provenance: (0..labels.len() as u32).map(provenance).collect(),
            labels,
        }
    }

    proptest! {
        #[test]
        fn classes_become_equal_from_training_rows_alone(
            labels in prop::collection::vec(0u32..4, 1..120), held_out in 0usize..30, seed in any::<u64>(),
        ) {
            let held_out = held_out.min(labels.len() - 1);
            let features = features(labels, 5);
            let train: Vec<usize> = (held_out..features.len()).collect();
            let split = Split { train: train.clone(), validation: Vec::new(), test: (0..held_out).collect() };
            let counts = |rows: &[usize]| {
                let mut counts = [0_usize; 5];
                rows.iter().for_each(|&row| counts[features.labels[row] as usize] += 1);
                counts
            };
            let before = counts(&train);
            let present = || before.iter().copied().filter(|&count| count > 0);
            prop_assert_eq!(&sample_training(&features, &split, &SplitOptions::default(), seed), &train);
            for (sampling, target) in
                [(Sampling::Oversample, present().max()), (Sampling::Undersample, present().min())]
            {
                let options = SplitOptions { sampling, ..SplitOptions::default() };
                let rows = sample_training(&features, &split, &options, seed);
                prop_assert_eq!(&rows, &sample_training(&features, &split, &options, seed));
                prop_assert!(rows.iter().all(|row| train.contains(row)));
                for (after, before) in counts(&rows).into_iter().zip(before) {
                    prop_assert_eq!(after, if before == 0 { 0 } else { target.unwrap() });
                }
                // All flows of a class are drawn equally often, give or take one.
                for class in 0..4_u32 {
                    let often: Vec<usize> = train
                        .iter()
                        .filter(|&&row| features.labels[row] == class)
                        .map(|row| rows.iter().filter(|other| *other == row).count())
                        .collect();
                    if let (Some(least), Some(most)) = (often.iter().min(), often.iter().max()) {
                        prop_assert!(most - least <= 1);
                    }
                }
            }
        }

        #[test]
        fn a_smaller_training_sample_is_part_of_a_larger_one(
            labels in prop::collection::vec(0u32..4, 1..120), few in 1usize..10, more in 0usize..10, seed in any::<u64>(),
        ) {
            let features = features(labels, 5);
            let split = Split { train: (0..features.len()).collect(), validation: Vec::new(), test: Vec::new() };
            let drawn = |most: usize| {
                let options = SplitOptions { training_flows_per_class: Some(most), ..SplitOptions::default() };
                sample_training(&features, &split, &options, seed)
            };
            let (few_rows, more_rows) = (drawn(few), drawn(few + more));
            prop_assert!(few_rows.iter().all(|row| more_rows.contains(row)));
            for class in 0..5 {
                let count = |rows: &[usize]| rows.iter().filter(|&&row| features.labels[row] == class).count();
                prop_assert_eq!(count(&few_rows), count(&split.train).min(few));
            }
        }
    }
}
