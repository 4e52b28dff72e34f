//! `[evaluation]` of an experiment: what a fitted model is asked beside its test flows. Each [`Condition`] is the test part
//! as it would be had something else been seen of it: fewer packets, masked fields, disturbed traffic; or other flows
//! altogether: the validation part, and classes that the model never saw.
//!
//! A model is fitted once and asked many times; its answers are kept in the cache, a set for each fit.

mod ask;
mod condition;
mod cost;
mod disturbance;
mod kind;
mod store;

pub use ask::Answers;
pub(super) use ask::{Asked, costs, evaluate};
pub use condition::Condition;
pub use cost::{BatchCost, DECISION_BATCHES, DecisionCost};
pub use disturbance::Disturbance;
pub use kind::EvaluationKind;
pub(super) use store::{answers_csv, evaluation_csv};

use serde::{Deserialize, Serialize};

use super::{ExperimentError, Variant};
use etcbench_feature::{FeatureSet, Mask, Sample};
use etcbench_split::SplitMethod;

/// The metric that says how long the packets take that a model is asked after.
pub const MEDIAN_WAIT_SECONDS: &str = "median_wait_seconds";
/// The metric that says by which temperature probabilities were scaled.
pub const TEMPERATURE: &str = "temperature";

/// Raised whenever a change to the code changes what a condition asks, so that no older answer is taken for its own.
const EVALUATION_VERSION: u32 = 1;

/// Raised whenever a change to the code changes what is measured of a decision.
const COST_VERSION: u32 = 1;

/// `[evaluation]` of an experiment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationOptions {
    /// Whether models are asked after each of the first 1, 2, ..., N packets.
    pub first_packets: bool,
    /// The masks that are put over test flows alone, one at a time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<Mask>,
    /// Every run of so many bytes of every packet is zeroed in test flows, one at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub byte_ranges: Option<usize>,
    /// How the traffic of test flows is disturbed, one way at a time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disturbed: Vec<Disturbance>,
    /// Classes of the selection that are left out of all three parts, and that models are asked about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown_classes: Vec<String>,
    /// Whether the probabilities are scaled by a temperature that validation flows give.
    pub calibration: bool,
    /// Whether it is measured what decisions cost: time by the number of flows that are asked about at once, memory, energy.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cost: bool,
    /// Into how many parts of time, one after the other, the test flows of a split by time are divided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<usize>,
}

impl EvaluationOptions {
    /// Whether test flows are made again of their packets.
    fn needs_packets(&self) -> bool {
        self.first_packets || !self.masked.is_empty() || self.byte_ranges.is_some() || !self.disturbed.is_empty()
    }

    /// Checks the options against a variant.
    ///
    /// # Errors
    /// What no test flow could be made for.
    pub(super) fn validate(&self, variant: &Variant) -> Result<(), String> {
        if self.byte_ranges == Some(0) {
            return Err("byte_ranges is 0; give the width of a range in bytes, from 1".to_owned());
        }
        if self.drift.is_some_and(|parts| parts < 2) {
            return Err("drift is below 2; give the number of parts of time, from 2".to_owned());
        }
        if self.drift.is_some() && variant.split.method != SplitMethod::Temporal {
            return Err(format!(
                "drift is of a split by time, and split.method is \"{}\"; use \"temporal\", or leave drift out",
                variant.split.method.name()
            ));
        }
        if self.needs_packets() && variant.selection.sample == Sample::Packet {
            return Err("first_packets, masked, byte_ranges and disturbed are for flows; with selection.sample = \
                        \"packet\" a row is a packet"
                .to_owned());
        }
        Ok(())
    }

    /// The conditions that a model is asked under, in a fixed order.
    pub(super) fn conditions(&self, variant: &Variant) -> Vec<Condition> {
        let (packets, bytes) = (variant.feature.packets, variant.feature.bytes);
        let mut conditions = Vec::new();
        if self.calibration || !self.unknown_classes.is_empty() {
            conditions.push(Condition::Validation);
        }
        if !self.unknown_classes.is_empty() {
            conditions.push(Condition::Unknown);
        }
        if self.first_packets {
            let longest = packets.max(variant.used_sequences().map_or(0, |sequences| sequences.packets));
            conditions.extend((1..=longest).map(|packets| Condition::FirstPackets { packets }));
        }
        conditions.extend(self.masked.iter().map(|&mask| Condition::Masked { mask }));
        if let Some(width) = self.byte_ranges {
            for packet in 0..packets {
                conditions.extend((0..bytes).step_by(width).map(|from| {
                    let to = (from + width).min(bytes);
                    Condition::ZeroedBytes { packet, from, to }
                }));
            }
        }
        conditions.extend(self.disturbed.iter().map(|&disturbance| Condition::Disturbed { disturbance }));
        conditions
    }
}

/// The flows of a variant apart from those of classes that are to be unknown, and these; a set without rows where there
/// are none.
///
/// # Errors
/// A class that is none of the selection's, or fewer than two that stay.
pub(super) fn without_unknown(
    features: FeatureSet,
    unknown: &[String],
) -> Result<(FeatureSet, Option<FeatureSet>), ExperimentError> {
    if unknown.is_empty() {
        return Ok((features, None));
    }
    let problem =
        |problem: String| ExperimentError::Features { problem: format!("[evaluation] unknown_classes: {problem}") };
    let names = &features.class_names;
    if let Some(name) = unknown.iter().find(|name| !names.contains(name)) {
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        return Err(problem(etcbench_storage::declarative::unknown("class", name, &known)));
    }
    let is_unknown: Vec<bool> = names.iter().map(|name| unknown.contains(name)).collect();
    let is_known: Vec<bool> = is_unknown.iter().map(|unknown| !unknown).collect();
    let left = is_known.iter().filter(|known| **known).count();
    if left < 2 {
        return Err(problem(format!("leaves {left} of {} classes to train on; leave two at least", names.len())));
    }
    let unknown = features.with_classes(&is_unknown);
    Ok((features.with_classes(&is_known), Some(unknown)))
}
