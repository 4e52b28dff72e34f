//! How an external model failed. A failure is a result: its kind and the program's last lines on standard error are
//! recorded.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The program could not be built or started.
    NotStarted,
    /// The program ended before it finished.
    Crashed,
    /// The program exceeded its time limit.
    TimeLimit,
    /// The program exceeded its memory limit.
    MemoryLimit,
    /// The program wrote too much output.
    EndlessOutput,
    /// The program violated the protocol.
    Protocol,
    /// The answer is not a distribution over the classes for every row.
    InvalidAnswer,
    /// The answer for a row depends on the other rows of its batch, or on their order.
    DependsOnBatch,
    /// The program reported an error itself.
    Reported,
}

impl FailureKind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::NotStarted,
        Self::Crashed,
        Self::TimeLimit,
        Self::MemoryLimit,
        Self::EndlessOutput,
        Self::Protocol,
        Self::InvalidAnswer,
        Self::DependsOnBatch,
        Self::Reported,
    ];

    /// Returns the name in files and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Crashed => "crashed",
            Self::TimeLimit => "time_limit",
            Self::MemoryLimit => "memory_limit",
            Self::EndlessOutput => "endless_output",
            Self::Protocol => "protocol",
            Self::InvalidAnswer => "invalid_answer",
            Self::DependsOnBatch => "depends_on_batch",
            Self::Reported => "reported",
        }
    }
}

/// A failure of an external model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Name of the model.
    pub model: String,
    /// Kind of the failure.
    pub kind: FailureKind,
    /// What happened and, if known, how to fix it.
    pub problem: String,
    /// The program's last lines on standard error, at most twenty.
    pub standard_error: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, kind, problem, standard_error } = self;
        write!(formatter, "{model}: {}: {problem}", kind.name().replace('_', " "))?;
        match standard_error.iter().rfind(|line| !line.trim().is_empty()) {
            Some(last) => write!(formatter, " (last line on standard error: {})", last.trim()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
