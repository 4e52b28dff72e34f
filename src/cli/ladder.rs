//! `etcbench ladder`: evaluates the same flows and models on one way of splitting the data after another, to show how
//! much of a score each step costs.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Verdict;
use super::run::{Options, run_all};
use crate::experiment::{LadderOverrides, Overrides, RUNGS};
use crate::project::experiment_file;

/// `etcbench ladder`.
#[derive(Args)]
#[command(after_help = after_help())]
pub(super) struct LadderArguments {
    /// The experiment, such as table2, or its file.
    experiment: PathBuf,
    /// Only these of the rungs below; `[ladder] rungs` of the experiment, or all, by default.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    rungs: Vec<String>,
    /// Number of folds of every rung that is a cross-validation.
    #[arg(long, value_name = "N")]
    folds: Option<usize>,
    /// How often the flows are split into folds.
    #[arg(long, value_name = "N")]
    repeats: Option<usize>,
    /// A dataset that the rung `datasets` tests on, after training on the others. Repeat for several.
    #[arg(long, value_name = "NAME")]
    test_data: Vec<String>,
    #[command(flatten)]
    options: Options,
}

fn after_help() -> String {
    let width = RUNGS.iter().map(|rung| rung.name.len()).max().unwrap_or_default();
    let rungs = RUNGS.iter().map(|rung| format!("  {:width$}  {}: {}\n", rung.name, rung.heading, rung.about));
    format!(
        "Rungs, each with and without masks (NAME-masked):\n{}
A class with too few captures (hosts) for a rung is left out of it and reported, and so is a rung for which the data
cannot be split. Results go to results/EXPERIMENT-ladder-DATASET-SIZE.

Examples:
  etcbench ladder table2 --data lab --size demo
  etcbench ladder table2 --data lab --size demo --rungs flows,captures --folds 8 --repeats 3
  etcbench ladder table3 --data lab --test-data synth --rungs datasets --jobs 2",
        rungs.collect::<String>()
    )
}

/// Runs the ladder of an experiment.
pub(super) fn ladder(project: &Path, arguments: &LadderArguments) -> anyhow::Result<Verdict> {
    let LadderArguments { experiment, rungs, folds, repeats, test_data, options } = arguments;
    let path = experiment_file(project, experiment)?;
    let ladder =
        LadderOverrides { rungs: rungs.clone(), folds: *folds, repeats: *repeats, test_datasets: test_data.clone() };
    let overrides = Overrides { ladder: Some(ladder), ..options.overrides() };
    run_all(project, &[path], options, &overrides)
}
