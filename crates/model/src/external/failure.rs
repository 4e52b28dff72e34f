//! How an external model failed. A failure is a result: it is recorded with its kind and what the program wrote last to
//! standard error.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The program could not be built or started.
    NotStarted,
    /// The program ended in the middle of the work.
    Crashed,
    /// The program took longer than it may.
    TimeLimit,
    /// The program took more memory than it may.
    MemoryLimit,
    /// The program wrote without end.
    EndlessOutput,
    /// The program wrote something that is not of the protocol.
    Protocol,
    /// An answer that is no distribution over the classes for every row.
    InvalidAnswer,
    /// The answer for a row depends on the other rows of its batch, or on their order.
    DependsOnBatch,
    /// The program said itself that it cannot go on.
    Reported,
}

impl FailureKind {
    /// All.
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

    /// The name in files and records.
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

/// How an external model failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The model's name.
    pub model: String,
    /// What kind of failure it was.
    pub kind: FailureKind,
    /// What happened, and what to do where that is known.
    pub problem: String,
    /// What the program wrote last to standard error, at most twenty lines.
    pub standard_error: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, kind, problem, standard_error } = self;
        write!(formatter, "{model}: {}: {problem}", kind.name().replace('_', " "))?;
        match standard_error.iter().rfind(|line| !line.trim().is_empty()) {
            Some(last) => write!(formatter, " (its last word: {})", last.trim()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
