//! The kinds of evaluations of a fitted model: the single table of their names in files and reports.

use serde::{Deserialize, Serialize};

/// A kind of condition, or of a measurement over several conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvaluationKind {
    /// The validation part; only its answers are stored.
    Validation,
    /// Classes that were not part of training.
    Unknown,
    /// The first packets of each test flow.
    FirstPackets,
    /// Decisions made as soon as the model is confident.
    EarlyDecision,
    /// Fields masked only in test flows.
    Masked,
    /// Bytes zeroed only in test flows.
    ZeroedBytes,
    /// Quantities occluded only in test flows.
    Occluded,
    /// Disturbed traffic.
    Disturbed,
    /// Probabilities before and after temperature scaling.
    Calibration,
    /// Consecutive periods of time.
    Drift,
}

impl EvaluationKind {
    /// Returns the name used in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::Unknown => "unknown",
            Self::FirstPackets => "first_packets",
            Self::EarlyDecision => "early_decision",
            Self::Masked => "masked",
            Self::ZeroedBytes => "zeroed_bytes",
            Self::Occluded => "occluded",
            Self::Disturbed => "disturbed",
            Self::Calibration => "calibration",
            Self::Drift => "drift",
        }
    }
}
