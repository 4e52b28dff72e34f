//! Submissions: a run as one archive, a bundle, that somebody else can check without its captures. Everything that it claims
//! is computed again from predictions and splits, and splits are drawn again from flows, classes and seeds. Nothing here
//! computes a metric: that is the work of the crates that computed it first.

mod appendix;
mod archive;
mod bundle;
mod card;
mod check;
mod check_fits;
mod check_flows;
mod check_results;
mod check_splits;
mod claimed;
mod leaderboard;
mod pack;
mod rerun;
mod rules;

pub use appendix::{AppendixFormat, appendix};
pub use bundle::Bundle;
pub use check::{Checked, check};
pub use leaderboard::{bundles_in, leaderboard};
pub use pack::{Packed, pack};
pub use rerun::Rerun;
pub use rules::{Finding, RULES, Rule, rules_table};

use std::path::{Path, PathBuf};

/// Why a bundle cannot be made, read or checked.
#[derive(Debug, thiserror::Error)]
pub enum SubmissionError {
    /// A file or folder of this machine.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
    /// A file that is no bundle.
    #[error("{}: {problem}", path.display())]
    NoBundle {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A run that cannot be packed.
    #[error("{}: {problem}", run.display())]
    Run {
        /// The run's folder.
        run: PathBuf,
        /// Why, and what to do.
        problem: String,
    },
    /// A run's files that cannot be read.
    #[error(transparent)]
    Report(#[from] etcbench_report::ReportError),
    /// Something that etcbench itself got wrong.
    #[error("internal error: {0}")]
    Internal(String),
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> SubmissionError {
    let path = path.to_owned();
    move |source| SubmissionError::Io { path, source }
}

// The README's example is tested like any other.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
