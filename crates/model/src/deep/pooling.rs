//! Pooling of the states of a packet's bytes into the packet's vector. The paper does not specify it; `paper/METHOD.md`
//! describes what was tried. A pooled vector has one or more slots, each computed from a range of the packet's bytes:
//! both engines and all devices take that range from here.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The key `pooling` of `[model.attention_lstm]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PoolingKind {
    /// The mean over all bytes.
    Mean,
    /// The means over segments of equal length, concatenated; 0 if a packet has no bytes in a segment.
    Segments,
    /// The maximum of each column over all bytes.
    Maximum,
    /// The final state of each direction, which has read the whole packet.
    Last,
    /// The means over segments, weighted by a softmax of learned scores (Lin et al. 2017, equations 1 to 3, with one
    /// head and without the hidden layer). With as many segments as bytes, this is attention over the bytes.
    Attention,
    /// The means over segments, each a step of the LSTM. With as many segments as bytes, the LSTM runs over the bytes.
    States,
}

impl PoolingKind {
    /// Whether packets are encoded by segments.
    pub(crate) fn has_segments(self) -> bool {
        matches!(self, Self::Segments | Self::Attention | Self::States)
    }

    /// Whether the classifier does more with the slots of an encoding than concatenate them.
    pub(crate) fn leaves_slots(self) -> bool {
        matches!(self, Self::Attention | Self::States)
    }
}

/// A pooling of packets of at most M bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pooling {
    /// How the states of a slot are combined.
    pub kind: PoolingKind,
    /// Vectors per packet, concatenated.
    pub slots: usize,
    /// Bytes per segment.
    pub slot_bytes: usize,
}

impl Pooling {
    /// The mean over a whole sequence.
    pub(crate) const MEAN: Self = Self { kind: PoolingKind::Mean, slots: 1, slot_bytes: u32::MAX as usize };

    /// Creates the pooling of packets of at most `bytes` bytes; `segments` is used only if the kind has segments.
    pub(crate) fn new(kind: PoolingKind, segments: usize, bytes: usize) -> Self {
        if kind.has_segments() {
            Self { kind, slots: segments, slot_bytes: bytes.div_ceil(segments).max(1) }
        } else {
            Self { kind, ..Self::MEAN }
        }
    }

    /// Returns how many slots of a packet of this length contain bytes, at least one.
    pub(crate) fn filled(self, bytes: usize) -> u32 {
        bytes.div_ceil(self.slot_bytes).clamp(1, self.slots) as u32
    }

    /// Returns the steps of a sequence of this length that belong to a slot; the range may be empty. A `reversed`
    /// sequence reads the packet from its end, but slots still refer to positions in the packet.
    pub(crate) fn steps(self, reversed: bool, length: usize, slot: usize) -> Range<usize> {
        match self.kind {
            PoolingKind::Last => length - 1..length,
            PoolingKind::Mean | PoolingKind::Maximum => 0..length,
            PoolingKind::Segments | PoolingKind::Attention | PoolingKind::States => {
                let begin = length.min(slot.saturating_mul(self.slot_bytes));
                let end = length.min(begin + self.slot_bytes);
                if reversed { length - end..length - begin } else { begin..end }
            }
        }
    }

    /// Returns the slot that a step of a sequence of this length belongs to.
    pub(crate) fn slot(self, reversed: bool, length: usize, step: usize) -> Option<usize> {
        match self.kind {
            PoolingKind::Last => (step + 1 == length).then_some(0),
            PoolingKind::Mean | PoolingKind::Maximum => Some(0),
            PoolingKind::Segments | PoolingKind::Attention | PoolingKind::States => {
                Some((if reversed { length - 1 - step } else { step }) / self.slot_bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn steps_and_slots_agree(
            bytes in 1usize..70,
            segments in 1usize..20,
            share in 0.0f64..1.0,
            reversed: bool,
            kind in prop::sample::select(vec![
                PoolingKind::Mean, PoolingKind::Segments, PoolingKind::Maximum, PoolingKind::Last, PoolingKind::States,
            ]),
        ) {
            let length = 1 + (share * (bytes as f64 - 1.0)) as usize;
            let pooling = Pooling::new(kind, segments, bytes);
            if kind.has_segments() {
                let filled = (0..segments).filter(|&slot| !pooling.steps(reversed, length, slot).is_empty()).count();
                prop_assert_eq!(filled as u32, pooling.filled(length));
            }
            let mut slots = vec![None; length];
            for slot in 0..pooling.slots {
                for step in pooling.steps(reversed, length, slot) {
                    prop_assert_eq!(slots[step].replace(slot), None, "a step is in one slot");
                }
            }
            for (step, slot) in slots.into_iter().enumerate() {
                prop_assert_eq!(slot, pooling.slot(reversed, length, step));
            }
        }
    }

    #[test]
    fn both_directions_have_the_same_bytes_in_a_segment() {
        let pooling = Pooling::new(PoolingKind::Segments, 4, 10);
        assert_eq!((pooling.slots, pooling.slot_bytes), (4, 3));
        let ranges = |reversed| (0..4).map(|slot| pooling.steps(reversed, 8, slot)).collect::<Vec<_>>();
        assert_eq!(ranges(false), [0..3, 3..6, 6..8, 8..8]);
        assert_eq!(ranges(true), [5..8, 2..5, 0..2, 0..0]);
    }
}
