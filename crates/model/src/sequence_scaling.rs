//! Scales of packet sequences. Models read them as `[feature.sequences]` made them, or in the scale of a study that has one of
//! its own: Luxemburk and Hynek's on transfer learning compares with k-nearest neighbours over raw packets, and what these find
//! depends on how many bytes a millisecond counts.

use ndarray::ArrayView1;
use serde::{Deserialize, Serialize};

use etcbench_feature::{SequenceOptions, Transformation, sequence_names};

/// The scale that packet sequences are read in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SequenceScaling {
    /// As `[feature.sequences]` made them.
    #[default]
    AsMade,
    /// As `prepare_input_space_embeddings` of CESNET/tc-transfer has it: of each of the first [`STUDY_PACKETS`] packets the
    /// direction, 1 or -1, the length in bytes, at most 1,500, and the time since the packet before in milliseconds, at most
    /// a second, times 0.1. It wants bytes and seconds.
    TransferLearning,
}

/// Packets of which the transfer-learning study reads lengths, directions and times.
const STUDY_PACKETS: usize = 10;
/// Direction, length and time.
const STUDY_COLUMNS: [&str; 3] = ["direction", "length", "time"];
/// The longest packet, in bytes, and the longest time, in seconds.
const STUDY_CLIPS: (f32, f32) = (1500.0, 1.0);
/// What a second becomes: a thousand milliseconds, times 0.1.
const STUDY_SECOND: f32 = 100.0;

impl SequenceScaling {
    pub(super) fn is_as_made(&self) -> bool {
        *self == Self::AsMade
    }

    /// Refuses sequences that this scale cannot be made of.
    pub(super) fn check(self, sequences: &SequenceOptions) -> Result<(), String> {
        if self == Self::AsMade {
            return Ok(());
        }
        if sequences.transformation != Transformation::None {
            return Err(TAKES_BYTES.to_owned());
        }
        self.check_packets(sequences.packets)
    }

    /// Refuses sequences of too few packets.
    pub(super) fn check_packets(self, packets: usize) -> Result<(), String> {
        if self == Self::AsMade || packets >= STUDY_PACKETS {
            return Ok(());
        }
        Err(format!(
            "scaling = \"transfer_learning\" reads {STUDY_PACKETS} packets, and feature.sequences.packets is {packets}; \
             raise it"
        ))
    }

    /// Columns of sequences that were made with so many.
    pub(super) fn columns(self, made: usize) -> usize {
        match self {
            Self::AsMade => made,
            Self::TransferLearning => STUDY_PACKETS * STUDY_COLUMNS.len(),
        }
    }

    /// Their names.
    pub(super) fn names(self, made: usize) -> Vec<String> {
        match self {
            Self::AsMade => sequence_names(made),
            Self::TransferLearning => (1..=STUDY_PACKETS)
                .flat_map(|packet| STUDY_COLUMNS.map(|column| format!("packet{packet}_{column}")))
                .collect(),
        }
    }

    /// Writes a flow's sequence, which has enough packets.
    pub(super) fn write(self, sequence: ArrayView1<'_, f32>, target: &mut [f32]) -> Result<(), String> {
        if self == Self::AsMade {
            target.iter_mut().zip(sequence).for_each(|(target, value)| *target = *value);
            return Ok(());
        }
        let (longest, latest) = STUDY_CLIPS;
        for (packet, target) in target.chunks_exact_mut(STUDY_COLUMNS.len()).enumerate() {
            let (length, time) = (sequence[2 * packet], sequence[2 * packet + 1]);
            // Lengths are whole bytes; a logarithm of one is not.
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
    "scaling = \"transfer_learning\" is of bytes and seconds; set feature.sequences.transformation = \"none\"";

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
        let mut options = SequenceOptions { packets: 10, transformation: Transformation::SignedLogarithm };
        assert!(scaling.check(&options).unwrap_err().contains("transformation = \"none\""));
        assert_eq!(SequenceScaling::AsMade.check(&options), Ok(()));
        options.transformation = Transformation::None;
        assert_eq!(scaling.check(&options), Ok(()));
        options.packets = 9;
        assert!(scaling.check(&options).unwrap_err().contains("reads 10 packets, and feature.sequences.packets is 9"));
        let logarithms = arr1(&[61_f32.ln(); 20]);
        assert_eq!(scaling.write(logarithms.view(), &mut [0.0; 30]), Err(TAKES_BYTES.to_owned()));
    }
}
