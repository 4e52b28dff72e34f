//! Conditions under which a fitted model is queried, and the features of test flows under them.

use serde::{Deserialize, Serialize};

use super::super::Variant;
use super::disturbance::Disturbance;
use super::kind::EvaluationKind;
use etcbench_dataset::LabelledFlow;
use etcbench_feature::{
    FeatureSet, Mask, PacketColumns, Quantity, SelectionError, TokenArray, TokenOptions, features_of,
};
use etcbench_model::ModelSpec;

/// A condition under which a model is queried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Condition {
    /// The validation part, unchanged.
    Validation,
    /// Flows of classes that were not part of training.
    Unknown,
    /// Test flows truncated to this many packets.
    FirstPackets {
        /// Number of packets.
        packets: usize,
    },
    /// Test flows with an additional mask.
    Masked {
        /// The mask.
        mask: Mask,
    },
    /// Test flows with bytes `from..to` of a packet zeroed, as far as the packet has them.
    ZeroedBytes {
        /// The packet, from 0.
        packet: usize,
        /// The first byte.
        from: usize,
        /// The byte after the last.
        to: usize,
    },
    /// Test flows with the lengths, times or directions of packets occluded.
    Occluded {
        /// What is occluded.
        quantity: Quantity,
    },
    /// Test flows with disturbed traffic.
    Disturbed {
        /// The disturbance.
        disturbance: Disturbance,
    },
}

impl Condition {
    /// Returns the kind of the condition.
    pub fn kind(&self) -> EvaluationKind {
        match self {
            Self::Validation => EvaluationKind::Validation,
            Self::Unknown => EvaluationKind::Unknown,
            Self::FirstPackets { .. } => EvaluationKind::FirstPackets,
            Self::Masked { .. } => EvaluationKind::Masked,
            Self::ZeroedBytes { .. } => EvaluationKind::ZeroedBytes,
            Self::Occluded { .. } => EvaluationKind::Occluded,
            Self::Disturbed { .. } => EvaluationKind::Disturbed,
        }
    }

    /// Returns the name that distinguishes the condition from others of its kind in `evaluation.csv`; empty if there is
    /// only one of the kind.
    pub fn name(&self) -> String {
        match self {
            Self::Validation | Self::Unknown => String::new(),
            Self::FirstPackets { packets } => packets.to_string(),
            Self::Masked { mask } => mask.name().to_owned(),
            Self::ZeroedBytes { packet, from, to } => format!("packet{}_bytes{from}_to_{to}", packet + 1),
            Self::Occluded { quantity } => quantity.name().to_owned(),
            Self::Disturbed { disturbance } => disturbance.to_string(),
        }
    }

    /// Returns whether the condition affects a model: statistics cover whole flows, bytes do not include times, and no
    /// model reads more packets than its input has.
    pub(super) fn concerns(&self, spec: &ModelSpec, variant: &Variant, features: &FeatureSet) -> bool {
        let reads = |quantity: &Quantity| quantity.is_in(features, spec.reads_statistics(), spec.reads_sequences());
        match self {
            Self::Occluded { quantity } => spec.kind.entry().reads_input && reads(quantity),
            _ => self.concerns_model(spec, variant),
        }
    }

    /// Same as [`concerns`](Self::concerns), for flows of captures, whose statistics depend on every quantity.
    pub(super) fn concerns_model(&self, spec: &ModelSpec, variant: &Variant) -> bool {
        let (bytes, sequences, flowpic) = (spec.reads_bytes(), spec.reads_sequences(), spec.reads_flowpic());
        match self {
            Self::Validation | Self::Unknown => true,
            _ if !spec.kind.entry().reads_input => false,
            Self::Occluded { .. } => spec.reads_statistics() || sequences,
            _ if spec.reads_statistics() => false,
            Self::Masked { .. } | Self::ZeroedBytes { .. } => bytes,
            Self::FirstPackets { packets } => {
                let of_sequences = variant.used_sequences().map_or(0, |sequences| sequences.packets);
                (bytes && *packets <= variant.feature.packets) || (sequences && *packets <= of_sequences) || flowpic
            }
            Self::Disturbed { disturbance } => sequences || flowpic || (bytes && disturbance.changes_bytes()),
        }
    }

    /// Returns the features of test flows under the condition; `whole` contains the unchanged features, row by row, and
    /// `training` returns those of the training flows.
    ///
    /// # Errors
    /// The options do not fit the flows.
    pub(super) fn features<'a>(
        &self,
        flows: &[&LabelledFlow],
        whole: &FeatureSet,
        training: &dyn Fn() -> &'a FeatureSet,
        tokens: &TokenOptions,
        columns: PacketColumns<'_>,
    ) -> Result<FeatureSet, SelectionError> {
        let (labels, classes) = (whole.labels.clone(), whole.class_names.clone());
        let made_of = |flows: &[LabelledFlow], tokens: &TokenOptions| {
            let flows: Vec<&LabelledFlow> = flows.iter().collect();
            features_of(&flows, labels.clone(), classes.clone(), tokens, columns)
        };
        let changed = |change: &dyn Fn(&mut LabelledFlow)| {
            let mut changed: Vec<LabelledFlow> = flows.iter().map(|flow| (*flow).clone()).collect();
            changed.iter_mut().for_each(change);
            changed
        };
        match *self {
            Self::Validation | Self::Unknown => Ok(whole.clone()),
            Self::Occluded { quantity } => {
                let mut features = whole.clone();
                quantity.occlude(&mut features, training());
                Ok(features)
            }
            Self::FirstPackets { packets } => made_of(&changed(&|flow| flow.flow.packets.truncate(packets)), tokens),
            Self::Disturbed { disturbance } => made_of(&changed(&|flow| disturbance.disturb(flow)), tokens),
            Self::Masked { mask } => {
                let mut masked = tokens.clone();
                if !masked.masks.contains(&mask) {
                    masked.masks.push(mask);
                }
                features_of(flows, labels, classes, &masked, columns)
            }
            Self::ZeroedBytes { packet, from, to } => {
                let mut features = whole.clone();
                let TokenArray { packets, bytes, values } = &mut features.tokens;
                for flow in values.chunks_exact_mut(*packets * *bytes) {
                    let range = &mut flow[packet * *bytes + from..packet * *bytes + to];
                    range.iter_mut().filter(|token| **token < 256).for_each(|token| *token = 0);
                }
                Ok(features)
            }
        }
    }
}
