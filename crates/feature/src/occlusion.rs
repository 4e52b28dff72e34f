//! Occlusion of quantities in features that were already made: the lengths, times or directions of packets no longer tell
//! flows apart, in packet sequences and in flow statistics. Masks do the same for fields of bytes.

use serde::{Deserialize, Serialize};

use super::FeatureSet;
use etcbench_flow::reads_times;

/// What is occluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Lengths of packets and payloads, and counts of bytes.
    Lengths,
    /// Inter-arrival times, durations, rates, and active and idle periods.
    Times,
    /// Directions of packets, and statistics of one direction.
    Directions,
}

impl Quantity {
    /// Returns the name used in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lengths => "lengths",
            Self::Times => "times",
            Self::Directions => "directions",
        }
    }

    /// Returns whether a statistic depends on the quantity.
    fn is_read_by(self, statistic: &str) -> bool {
        let has = |parts: &[&str]| parts.iter().any(|part| statistic.contains(part));
        match self {
            Self::Lengths => has(&["length", "bytes", "byte_ratio", "small_packets"]),
            Self::Times => reads_times(statistic),
            Self::Directions => has(&["forward", "backward", "down_up"]),
        }
    }

    /// Returns whether anything that these features have depends on the quantity: `statistics` and `sequences` tell which
    /// of them a model reads.
    pub fn is_in(self, features: &FeatureSet, statistics: bool, sequences: bool) -> bool {
        (statistics && features.statistic_names.iter().any(|name| self.is_read_by(name)))
            || (sequences && features.sequences.ncols() > 0)
    }

    /// Occludes the quantity in sequences and statistics. Lengths and times become the mean over the packets of the
    /// `training` rows, directions all forward, and a statistic that depends on the quantity its mean over these rows.
    /// Bytes and FlowPics stay.
    pub fn occlude(self, features: &mut FeatureSet, training: &FeatureSet) {
        let rows = training.len().max(1) as f64;
        for (column, name) in training.statistic_names.iter().enumerate() {
            if self.is_read_by(name) {
                let total: f64 = training.statistics.column(column).iter().map(|&value| f64::from(value)).sum();
                features.statistics.column_mut(column).fill((total / rows) as f32);
            }
        }
        let (mut packets, mut lengths, mut times) = (0_usize, 0.0, 0.0);
        for row in training.sequences.rows() {
            for packet in row.exact_chunks(2).into_iter().filter(|packet| packet[0] != 0.0) {
                packets += 1;
                lengths += f64::from(packet[0].abs());
                times += f64::from(packet[1]);
            }
        }
        let mean = |total: f64| (total / packets.max(1) as f64) as f32;
        for mut row in features.sequences.rows_mut() {
            // A length of 0 marks a missing packet.
            for mut packet in row.exact_chunks_mut(2).into_iter().filter(|packet| packet[0] != 0.0) {
                match self {
                    Self::Lengths => packet[0] = mean(lengths).copysign(packet[0]),
                    Self::Times => packet[1] = mean(times),
                    Self::Directions => packet[0] = packet[0].abs(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, arr2};

    use super::*;
    use crate::TokenArray;
    use etcbench_flow::STATISTIC_NAMES;

    fn features(sequences: Array2<f32>, statistics: Array2<f32>) -> FeatureSet {
        let rows = sequences.nrows();
        FeatureSet {
            tokens: TokenArray { packets: 0, bytes: 0, values: Vec::new() },
            statistic_names: ["duration", "forward_bytes", "packets"].map(str::to_owned).to_vec(),
            statistics,
            sequences,
            flowpics: Array2::zeros((rows, 0)),
            labels: vec![0; rows],
            class_names: vec!["a".to_owned()],
            provenance: Vec::new(),
        }
    }

    #[test]
    fn a_quantity_is_in_what_depends_on_it() {
        let mut features = features(Array2::zeros((1, 4)), Array2::zeros((1, 3)));
        for quantity in [Quantity::Lengths, Quantity::Times, Quantity::Directions] {
            assert!(quantity.is_in(&features, true, false) && quantity.is_in(&features, false, true), "{quantity:?}");
        }
        features.statistic_names[0] = "packets_per_flow".to_owned();
        features.sequences = Array2::zeros((1, 0));
        assert!(!Quantity::Times.is_in(&features, true, true) && Quantity::Lengths.is_in(&features, true, true));
    }

    #[test]
    fn an_occluded_quantity_is_that_of_the_mean_packet_and_the_rest_stays() {
        let training =
            features(arr2(&[[2.0, 0.0, -4.0, 3.0], [6.0, 0.0, 0.0, 0.0]]), arr2(&[[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]));
        let test =
            features(arr2(&[[-1.0, 5.0, 7.0, 9.0], [8.0, 2.0, 0.0, 0.0]]), arr2(&[[9.0, 8.0, 7.0], [6.0, 5.0, 4.0]]));
        for (quantity, sequences, statistics) in [
            (
                Quantity::Lengths,
                arr2(&[[-4.0, 5.0, 4.0, 9.0], [4.0, 2.0, 0.0, 0.0]]),
                arr2(&[[9.0, 3.0, 7.0], [6.0, 3.0, 4.0]]),
            ),
            (
                Quantity::Times,
                arr2(&[[-1.0, 1.0, 7.0, 1.0], [8.0, 1.0, 0.0, 0.0]]),
                arr2(&[[2.0, 8.0, 7.0], [2.0, 5.0, 4.0]]),
            ),
            (
                Quantity::Directions,
                arr2(&[[1.0, 5.0, 7.0, 9.0], [8.0, 2.0, 0.0, 0.0]]),
                arr2(&[[9.0, 3.0, 7.0], [6.0, 3.0, 4.0]]),
            ),
        ] {
            let mut occluded = test.clone();
            quantity.occlude(&mut occluded, &training);
            assert_eq!((&occluded.sequences, &occluded.statistics), (&sequences, &statistics), "{}", quantity.name());
        }
    }

    #[test]
    fn every_statistic_but_counts_and_flags_of_both_directions_depends_on_a_quantity() {
        let all = [Quantity::Lengths, Quantity::Times, Quantity::Directions];
        let free = STATISTIC_NAMES.iter().filter(|name| !all.iter().any(|quantity| quantity.is_read_by(name)));
        assert_eq!(free.copied().collect::<Vec<&str>>(), ["packets", "is_tcp"]);
    }
}
