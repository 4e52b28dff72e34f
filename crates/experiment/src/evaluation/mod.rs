//! `[evaluation]` of an experiment: queries to a fitted model in addition to its test flows. Each [`Condition`] is
//! either a modified test part (fewer packets, masked fields, disturbed traffic) or a different set of flows: the
//! validation part, or classes that were not part of training.
//!
//! A model is fitted once and queried many times; its answers are cached, one set per fit.

mod condition;
mod cost;
mod disturbance;
mod kind;
mod query;
mod store;
mod stored;

pub use condition::Condition;
pub use cost::{BatchCost, DECISION_BATCHES, DecisionCost};
pub use disturbance::Disturbance;
pub use kind::EvaluationKind;
pub use query::Answers;
pub(super) use query::{EvaluatedModel, costs, evaluate};
pub(super) use store::answers_csv;
pub use store::evaluation_csv;
pub use stored::{AnswerFacts, StatedValues, is_evaluated, read_answers};

use serde::{Deserialize, Serialize};

use super::{ExperimentError, Variant};
use etcbench_feature::{FeatureSet, Mask, Quantity, Sample};
use etcbench_split::SplitMethod;

/// The metric for the time until the packets available to the model have arrived.
pub const MEDIAN_WAIT_SECONDS: &str = "median_wait_seconds";
/// The metric for the temperature by which probabilities were scaled.
pub const TEMPERATURE: &str = "temperature";

/// Bump whenever a change to the code changes the queries of a condition, so that stale cached answers are not reused.
const EVALUATION_VERSION: u32 = 3;

/// Bump whenever a change to the code changes what is measured for a decision.
const COST_VERSION: u32 = 1;

/// Maximum number of periods of `drift`.
const MOST_PERIODS: usize = 10_000;

/// `[evaluation]` of an experiment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationOptions {
    /// Whether to query models after each of the first 1, 2, ..., N packets.
    pub first_packets: bool,
    /// Masks to apply only to test flows, one at a time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<Mask>,
    /// Width in bytes: every run of this many bytes of every packet is zeroed in test flows, one at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub byte_ranges: Option<usize>,
    /// Quantities to occlude in the packet sequences and statistics of test flows, one at a time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub occluded: Vec<Quantity>,
    /// Disturbances of the traffic of test flows, one at a time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disturbed: Vec<Disturbance>,
    /// Classes of the selection that are excluded from all three parts and then used as queries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown_classes: Vec<String>,
    /// Whether to scale probabilities by a temperature fitted on validation flows.
    pub calibration: bool,
    /// Whether to measure the cost of decisions: time by the number of flows per query, memory and energy.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cost: bool,
    /// Number of consecutive periods into which the test flows of a temporal split are divided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<usize>,
}

impl EvaluationOptions {
    /// Refuses options that change the packets of test flows, where there are feature files.
    ///
    /// # Errors
    /// There is such an option.
    pub(super) fn require_no_packets(&self) -> Result<(), ExperimentError> {
        if !self.needs_packets() && self.occluded.is_empty() {
            return Ok(());
        }
        Err(ExperimentError::Features {
            problem: "[evaluation] first_packets, masked, byte_ranges, occluded and disturbed change the packets of \
                      test flows, which feature files do not have; remove these keys"
                .to_owned(),
        })
    }

    /// Returns whether test flows are rebuilt from their packets.
    fn needs_packets(&self) -> bool {
        self.first_packets || !self.masked.is_empty() || self.byte_ranges.is_some() || !self.disturbed.is_empty()
    }

    /// Validates the options against a variant.
    ///
    /// # Errors
    /// Options for which test flows cannot be built.
    pub(super) fn validate(&self, variant: &Variant) -> Result<(), String> {
        if self.byte_ranges == Some(0) {
            return Err("byte_ranges is 0; set the width of a range in bytes, at least 1".to_owned());
        }
        if self.drift.is_some_and(|parts| parts < 2) {
            return Err("drift is below 2; set the number of periods, at least 2".to_owned());
        }
        if self.drift.is_some_and(|parts| parts > MOST_PERIODS) {
            return Err(format!("drift is above {MOST_PERIODS}; set a number of periods that each have test flows"));
        }
        if self.drift.is_some() && variant.split.method != SplitMethod::Temporal {
            return Err(format!(
                "drift requires a temporal split, but split.method is \"{}\"; use \"temporal\", or remove drift",
                variant.split.method.name()
            ));
        }
        if self.needs_packets() && variant.selection.sample == Sample::Packet {
            return Err(
                "first_packets, masked, byte_ranges and disturbed apply to flows, but with selection.sample = \
                        \"packet\" a row is a packet"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Returns the conditions under which models are queried, in a fixed order.
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
        conditions.extend(self.occluded.iter().map(|&quantity| Condition::Occluded { quantity }));
        conditions.extend(self.disturbed.iter().map(|&disturbance| Condition::Disturbed { disturbance }));
        conditions
    }
}

/// Separates a variant's flows into those of known classes and those of unknown classes; the second is `None` if no
/// classes are to be unknown.
///
/// # Errors
/// A class is not in the selection, or fewer than two classes remain.
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
        return Err(problem(format!("leaves {left} of {} classes for training; leave at least two", names.len())));
    }
    let unknown = features.with_classes(&is_unknown);
    Ok((features.with_classes(&is_known), Some(unknown)))
}
