//! Experiments: a declarative file becomes a run, with every stage cached under the hash of everything that determines
//! it. [`read_experiment`] resolves a file, [`run`] computes the run, and [`store`] writes its results.

mod assembly;
mod cache;
mod cache_entries;
mod capture_facts;
mod comparisons;
mod corpus;
mod datasets;
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
mod parts;
mod plan;
mod prepare;
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
mod variant_fits;
mod variant_name;
mod verify;

pub use cache::{CHECKPOINT_INTERVAL, Cache, StageCount, StageCounts};
pub use cache_entries::{CacheContents, CacheEntry, PruneLimits, Pruned};
pub use capture_facts::CaptureFacts;
pub use comparisons::{Comparison, PairedTest, comparisons, comparisons_csv};
pub use datasets::{dataset_names, on_what_is_here, require_data};
pub use divided::{DividedFlows, divided_flows};
pub use evaluation::{
    AnswerFacts, Answers, BatchCost, Condition, DECISION_BATCHES, DecisionCost, Disturbance, EvaluationKind,
    EvaluationOptions, MEDIAN_WAIT_SECONDS, StatedValues, TEMPERATURE, evaluation_csv, is_evaluated, read_answers,
};
pub use export::{export, import};
pub use fit::FitOutcome;
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
pub use prepare::divide;
pub use pretrain::{PretrainedModel, Recipe, pretrain_datasets, pretrain_experiment, show_pretrained};
pub use provenance::Provenance;
pub use record::{Record, RunKey};
pub use run::{
    FailedFit, FittedRow, Generator, LeftOutVariant, Run, Settings, SplitRun, VariantRun, device_name, results_folder,
    results_name, run,
};
pub use slurm::{Queue, SlurmError, SlurmOptions, preview, submit};
pub use store::store;
pub use sweep::coordinates;
pub use tune::{Dimension, Range, Scale, Search, Trial, TuneOptions, Tuning, tried_settings};
pub use unit::{Unit, UnitOutcome, are_cached, load_shared, run_unit, units};
pub use variant_name::{current_variant, has_current_variant, with_current_variants};
pub use verify::{Agreement, Measured as AgreementPart, verify_models};

use std::path::PathBuf;

/// Why an experiment cannot be run or its results cannot be stored.
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
        /// The requested name.
        name: String,
        /// The place searched, and the known names.
        problem: String,
    },
    /// Generated captures could not be written.
    #[error("{0}")]
    Generate(String),
    /// The datasets lack something that the experiment requires.
    #[error("{problem}")]
    Features {
        /// What is required, and what to do.
        problem: String,
    },
    /// No trial of a model has a score.
    #[error("{model}: no setting could be fitted and scored; change [tune.space.{model}]")]
    Tuning {
        /// The model's name.
        model: String,
    },
    /// The flows do not provide the requested features.
    #[error(transparent)]
    Selection(#[from] etcbench_feature::SelectionError),
    /// The flows cannot be divided as requested.
    #[error(transparent)]
    Split(#[from] etcbench_split::SplitError),
    /// A model cannot be built, fitted or used.
    #[error(transparent)]
    Model(#[from] etcbench_model::ModelError),
    /// A model's predictions are not distributions over the classes.
    #[error(transparent)]
    Evaluate(#[from] etcbench_evaluate::EvaluateError),
    /// A result cannot be written, or a capture cannot be read for its checksum.
    #[error("{}: {problem}", path.display())]
    Store {
        /// The file that was written or read.
        path: PathBuf,
        /// The I/O error.
        problem: String,
    },
    /// More memory is required than is available.
    #[error("{what}: expected to need {expected} MiB of memory, but {available} MiB are available; lower {keys}")]
    Memory {
        /// What needs the most memory.
        what: String,
        /// Expected peak memory of the process, in MiB.
        expected: u64,
        /// Available memory, in MiB.
        available: u64,
        /// The keys to lower.
        keys: &'static str,
    },
    /// A bug in etcbench.
    #[error("internal error: {problem}")]
    Internal {
        /// Description of what was observed.
        problem: String,
    },
}

impl ExperimentError {
    /// Returns whether the data is present but cannot be divided as a variant requires.
    fn is_of_division(&self) -> bool {
        matches!(self, Self::Split(_) | Self::Features { .. })
    }
}

// Compile and run the README's example as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
