//! Experiments: a declarative file becomes a run, every stage cached by the hash of all that
//! determines it. [`read_experiment`] resolves a file, [`run`] computes, [`store`] writes what a run
//! leaves behind.

mod assembly;
mod cache;
mod cache_entries;
mod comparisons;
mod corpus;
mod divided;
mod evaluation;
mod export;
mod fit;
mod flow_cache;
mod flows;
mod format;
mod held;
mod invocation;
mod ladder;
mod leaks;
mod measure;
mod memory;
mod models;
mod outline;
mod plan;
mod pretrain;
mod pretraining;
mod provenance;
mod record;
mod records;
mod run;
mod slurm;
mod store;
mod sweep;
mod tune;
mod unit;
mod verify;

pub use cache::{CHECKPOINT_INTERVAL, Cache, StageCount, StageCounts};
pub use cache_entries::{CacheContents, CacheEntry, PruneLimits, Pruned};
pub use comparisons::{Comparison, PairedTest, comparisons, comparisons_csv};
pub use divided::{DividedFlows, divided_flows};
pub use evaluation::{
    Answers, BatchCost, Condition, DECISION_BATCHES, DecisionCost, Disturbance, EvaluationKind, EvaluationOptions,
    MEDIAN_WAIT_SECONDS, TEMPERATURE,
};
pub use export::{export, import};
pub use fit::FitOutcome;
pub use flows::{CaptureFacts, dataset_names, on_what_is_here, require_data};
pub use format::{Experiment, Overrides, TableLayout, Variant, read_experiment};
pub use invocation::{BestScore, Invocation};
pub use ladder::{LADDER, LadderOptions, LadderOverrides, RUNGS, Rung};
pub use leaks::{SplitLeaks, split_leaks};
pub use measure::Cost;
pub use memory::MemoryNeed;
pub use models::save_models;
pub use outline::{Outline, OutlinedFit, OutlinedVariant, outline};
pub use plan::{
    Plan, PlanOptions, PlannedRun, PlannedUnit, Submission, UnitRecord, UnitState, host, plan_names, plans_folder,
};
pub use pretrain::{PretrainedElmo, Recipe, pretrain_datasets, pretrain_experiment, show_elmo};
pub use provenance::Provenance;
pub use record::{Record, RunKey};
pub use run::{
    FailedFit, FittedRow, Generator, LeftOutVariant, Run, Settings, SplitRun, VariantRun, device_name, divide,
    results_folder, results_name, run,
};
pub use slurm::{Queue, SlurmError, SlurmOptions, preview, submit};
pub use store::store;
pub use sweep::coordinates;
pub use tune::{Dimension, Range, Scale, Search, Trial, TuneOptions, Tuning, tried_settings};
pub use unit::{Unit, UnitOutcome, are_cached, load_shared, run_unit, units};
pub use verify::{Agreement, Measured as AgreementPart, verify_models};

use std::path::PathBuf;

/// Why an experiment cannot be run or its results not be stored.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// The experiment file cannot be used.
    #[error(transparent)]
    Format(#[from] etcbench_storage::declarative::DeclarativeError),
    /// The dataset cannot be used.
    #[error(transparent)]
    Dataset(#[from] etcbench_dataset::DatasetError),
    /// A dataset without a definition.
    #[error("dataset `{name}`: {problem}")]
    UnknownDataset {
        /// The name asked for.
        name: String,
        /// Where it was looked for, and the known names.
        problem: String,
    },
    /// Generated captures could not be written.
    #[error("{0}")]
    Generate(String),
    /// The datasets do not have what the experiment asks for.
    #[error("{problem}")]
    Features {
        /// What is asked for, and what to do.
        problem: String,
    },
    /// No trial of a model has a score.
    #[error("{model}: no setting could be fitted and scored; change [tune.space.{model}]")]
    Tuning {
        /// The model's name.
        model: String,
    },
    /// The flows do not give the features asked for.
    #[error(transparent)]
    Selection(#[from] etcbench_feature::SelectionError),
    /// The flows cannot be divided as asked.
    #[error(transparent)]
    Split(#[from] etcbench_split::SplitError),
    /// A model cannot be built, fitted or used.
    #[error(transparent)]
    Model(#[from] etcbench_model::ModelError),
    /// A model's predictions are not distributions over the classes.
    #[error(transparent)]
    Evaluate(#[from] etcbench_evaluate::EvaluateError),
    /// A result cannot be written, or a capture not be read for its checksum.
    #[error("{}: {problem}", path.display())]
    Store {
        /// What was written or read.
        path: PathBuf,
        /// What the file system said.
        problem: String,
    },
    /// More memory than there is.
    #[error("{what}: expected to take {expected} MiB of memory, and {available} MiB are available; lower {keys}")]
    Memory {
        /// What takes the most.
        what: String,
        /// What the process is expected to have at its peak, in MiB.
        expected: u64,
        /// What it may have, in MiB.
        available: u64,
        /// What to lower.
        keys: &'static str,
    },
    /// Something that etcbench itself got wrong.
    #[error("internal error: {problem}")]
    Internal {
        /// What was seen.
        problem: String,
    },
}

impl ExperimentError {
    /// Whether the data is there and cannot be divided as a variant asks.
    fn is_of_division(&self) -> bool {
        matches!(self, Self::Split(_) | Self::Features { .. })
    }
}

// The README's example is tested like any other.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
