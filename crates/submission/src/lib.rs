//! Submissions: packs a run into one archive, a bundle, that others can check without its captures. The check
//! recomputes every claim from predictions and splits, and draws the splits again from flows, classes and seeds.
//! Metrics are computed by the same crates as in a run, not here.

mod appendix;
mod archive;
mod bundle;
mod card;
mod check;
mod check_draw;
mod check_evaluation;
mod check_fits;
mod check_flows;
mod check_published;
mod check_results;
mod check_splits;
mod claimed;
mod data_card;
mod leaderboard;
mod pack;
mod rerun;
mod rules;

pub use appendix::{AppendixFormat, appendix};
pub use bundle::Bundle;
pub use card::Licences;
pub use check::{Checked, check};
pub use leaderboard::{bundles_in, leaderboard};
pub use pack::{Packed, pack};
pub use rerun::Rerun;
pub use rules::{Finding, RULES, Rule, rules_table};

use std::path::{Path, PathBuf};

/// The error for a bundle that cannot be packed, read or checked.
#[derive(Debug, thiserror::Error)]
pub enum SubmissionError {
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the file system.
        source: std::io::Error,
    },
    /// A file is not a bundle.
    #[error("{}: {problem}", path.display())]
    NoBundle {
        /// The file.
        path: PathBuf,
        /// Description of the problem, and what to do.
        problem: String,
    },
    /// A run cannot be packed.
    #[error("{}: {problem}", run.display())]
    Run {
        /// The run's folder.
        run: PathBuf,
        /// Description of the problem, and what to do.
        problem: String,
    },
    /// The files of a run cannot be read.
    #[error(transparent)]
    Report(#[from] etcbench_report::ReportError),
    /// A bug in etcbench.
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
