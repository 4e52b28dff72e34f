//! The kinds of what a fitted model is asked: the one table of their names, in files and for reports.

use serde::{Deserialize, Serialize};

/// A kind of condition, or of what is measured over several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvaluationKind {
    /// The validation part; answers alone are stored of it.
    Validation,
    /// Classes that the model never saw.
    Unknown,
    /// The first packets of each test flow.
    FirstPackets,
    /// Decisions made as soon as the model is sure.
    EarlyDecision,
    /// Fields masked in test flows alone.
    Masked,
    /// Bytes zeroed in test flows alone.
    ZeroedBytes,
    /// Disturbed traffic.
    Disturbed,
    /// Probabilities before and after a temperature.
    Calibration,
    /// One part of time after the other.
    Drift,
}

impl EvaluationKind {
    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::Unknown => "unknown",
            Self::FirstPackets => "first_packets",
            Self::EarlyDecision => "early_decision",
            Self::Masked => "masked",
            Self::ZeroedBytes => "zeroed_bytes",
            Self::Disturbed => "disturbed",
            Self::Calibration => "calibration",
            Self::Drift => "drift",
        }
    }
}
