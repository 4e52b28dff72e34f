//! Reports: turns stored records into tables (CSV, Markdown, LaTeX), figures (SVG), verdicts against tolerances, and
//! one HTML page with all of them. Computes no metrics.

mod aggregate;
mod audit;
mod audit_matrix;
mod cell_text;
mod compare;
mod comparisons;
mod decision_cost;
mod drawing;
mod evaluation;
mod integrity;
mod ladder;
mod ladder_tables;
mod latex;
mod leaderboard;
mod leak_verdicts;
mod leaks;
mod markdown;
mod page;
mod paper;
mod predictions_file;
mod published;
mod ranks;
mod records_file;
mod released;
mod reproduced;
mod results;
mod row_figures;
mod run_figures;
mod run_files;
mod run_tables;
mod statistics;
mod stored_run;
mod sweep;
mod table;
mod table_data;
mod tables;
mod text_table;
mod tolerance;
mod tolerance_file;
mod tuning;

pub use audit::{AuditTable, Finding, audit_table};
pub use compare::{RunComparison, compare_runs};
pub use drawing::Figure;
pub use evaluation::{EvaluationLine, read_evaluation};
pub use integrity::integrity;
pub use latex::escape as latex_text;
pub use leaderboard::{BoardCard, BoardEntry, Leaderboard, RefusedEntry};
pub use leaks::{leak_text, read_leaks};
pub use paper::PaperFiles;
pub use predictions_file::{StoredPredictions, read_predictions};
pub use published::{Possible, PublishedCell, PublishedTable};
pub use ranks::{RankedModel, Ranking, ranking_table, rankings};
pub use records_file::{RECORD_COLUMNS, read_records, write_records};
pub use released::{ReleasedRows, released_text};
pub use results::{Report, ReportedRun};
pub use run_files::{CHECKSUMS, RunFiles, succession};
pub use run_tables::{RunHeading, run_table_texts, write_run_tables};
pub use stored_run::{FitFacts, RunFacts, StoredRun};
pub use table::{Cell, Column, Table};
pub use tables::split_table;
pub use tolerance::{Verdict, check, proposed_tolerances, rows_without_expectation, verdict_table};
pub use tolerance_file::{Tolerance, ToleranceFile};
pub use tuning::agreement_table;

/// The error for records, published numbers or tolerances that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file that cannot be read or written.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// Description of the problem, with the line and what to do.
        problem: String,
    },
    /// Records that contradict one another.
    #[error("records: {0}")]
    Records(String),
    /// The page cannot be rendered.
    #[error("the report's page: {0}")]
    Page(String),
}

fn file_error(path: &std::path::Path, problem: impl std::fmt::Display) -> ReportError {
    ReportError::File { path: path.display().to_string(), problem: problem.to_string() }
}

// The README's example is tested like any other.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
