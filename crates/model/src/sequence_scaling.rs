//! Scales of packet sequences. Models read them as `[feature.sequences]` builds them, or in the scale that a study
//! defines: the transfer-learning study of Luxemburk and Hynek compares with k-nearest neighbours over raw packets,
//! whose distances depend on how many bytes a millisecond is worth.

use ndarray::ArrayView1;
use serde::{Deserialize, Serialize};

use etcbench_feature::{SequenceOptions, Transformation, sequence_names};

/// The scale in which packet sequences are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SequenceScaling {
    /// As built by `[feature.sequences]`.
    #[default]
    AsMade,
    /// The scale of `prepare_input_space_embeddings` in CESNET/tc-transfer: for each of the first [`STUDY_PACKETS`]
    /// packets the direction, 1 or -1, the length in bytes, at most 1,500, and the time since the previous packet in
    /// milliseconds, at most a second, times 0.1. Requires sequences in bytes and seconds.
    TransferLearning,
}

/// Number of packets of which the transfer-learning study reads lengths, directions and times.
const STUDY_PACKETS: usize = 10;
/// Direction, length and time.
const STUDY_COLUMNS: [&str; 3] = ["direction", "length", "time"];
/// Maximum packet length, in bytes, and maximum time, in seconds.
const STUDY_CLIPS: (f32, f32) = (1500.0, 1.0);
/// The scaled value of a second: a thousand milliseconds, times 0.1.
const STUDY_SECOND: f32 = 100.0;

impl SequenceScaling {
    pub(super) fn is_as_made(&self) -> bool {
        *self == Self::AsMade
    }

    /// Rejects sequences that cannot be converted to this scale.
    pub(super) fn check(self, sequences: &SequenceOptions) -> Result<(), String> {
        if self == Self::AsMade {
            return Ok(());
        }
        if sequences.transformation != Transformation::None {
            return Err(TAKES_BYTES.to_owned());
        }
        self.check_packets(sequences.packets)
    }

    /// Rejects sequences of too few packets.
    pub(super) fn check_packets(self, packets: usize) -> Result<(), String> {
        if self == Self::AsMade || packets >= STUDY_PACKETS {
            return Ok(());
        }
        Err(format!(
            "scaling = \"transfer_learning\" reads {STUDY_PACKETS} packets, but feature.sequences.packets is \
             {packets}; raise it"
        ))
    }

    /// Returns the number of columns for sequences of `made` columns.
    pub(super) fn columns(self, made: usize) -> usize {
        match self {
            Self::AsMade => made,
            Self::TransferLearning => STUDY_PACKETS * STUDY_COLUMNS.len(),
        }
    }

    /// Returns the names of the columns.
    pub(super) fn names(self, made: usize) -> Vec<String> {
        match self {
            Self::AsMade => sequence_names(made),
            Self::TransferLearning => (1..=STUDY_PACKETS)
                .flat_map(|packet| STUDY_COLUMNS.map(|column| format!("packet{packet}_{column}")))
                .collect(),
        }
    }

    /// Writes a flow's sequence, which must have enough packets.
    pub(super) fn write(self, sequence: ArrayView1<'_, f32>, target: &mut [f32]) -> Result<(), String> {
        if self == Self::AsMade {
            target.iter_mut().zip(sequence).for_each(|(target, value)| *target = *value);
            return Ok(());
        }
        let (longest, latest) = STUDY_CLIPS;
        for (packet, target) in target.chunks_exact_mut(STUDY_COLUMNS.len()).enumerate() {
            let (length, time) = (sequence[2 * packet], sequence[2 * packet + 1]);
            // Lengths are whole bytes; their logarithms are not.
            if length.fract() != 0.0 {
                return Err(TAKES_BYTES.to_owned());
            }
            let direction = if length == 0.0 { 0.0 } else { length.signum() };
            target.copy_from_slice(&[direction, length.abs().min(longest), time.min(latest) * STUDY_SECOND]);
        }
        Ok(())
    }
}

const TAKES_BYTES: &str =
    "scaling = \"transfer_learning\" requires bytes and seconds; set feature.sequences.transformation = \"none\"";

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr1;

    #[test]
    fn the_studys_columns_are_directions_clipped_lengths_and_clipped_times() {
        let mut sequence = vec![0.0; 24];
        sequence[..8].copy_from_slice(&[60.0, 0.0, -1500.0, 0.25, 9000.0, 1.5, -40.0, 1.0]);
        let mut target = vec![9.0; SequenceScaling::TransferLearning.columns(24)];
        SequenceScaling::TransferLearning.write(arr1(&sequence).view(), &mut target).unwrap();
        assert_eq!(target[..12], [1.0, 60.0, 0.0, -1.0, 1500.0, 25.0, 1.0, 1500.0, 100.0, -1.0, 40.0, 100.0]);
        assert_eq!(target[12..], [0.0; 18]);
        let names = SequenceScaling::TransferLearning.names(24);
        assert_eq!((names.len(), names[29].as_str()), (30, "packet10_time"));
    }

    #[test]
    fn sequences_that_are_no_bytes_or_too_short_are_refused() {
        let scaling = SequenceScaling::TransferLearning;
        let mut options = SequenceOptions { packets: 10, transformation: Transformation::SignedLogarithm, times: true };
        assert!(scaling.check(&options).unwrap_err().contains("transformation = \"none\""));
        assert_eq!(SequenceScaling::AsMade.check(&options), Ok(()));
        options.transformation = Transformation::None;
        assert_eq!(scaling.check(&options), Ok(()));
        options.packets = 9;
        assert!(scaling.check(&options).unwrap_err().contains("reads 10 packets, but feature.sequences.packets is 9"));
        let logarithms = arr1(&[61_f32.ln(); 20]);
        assert_eq!(scaling.write(logarithms.view(), &mut [0.0; 30]), Err(TAKES_BYTES.to_owned()));
    }
}
