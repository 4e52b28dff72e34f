//! `etcbench export` and `etcbench import`: writes the inputs of models as arrays for notebooks, and scores predictions
//! made from them.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::leaks::Divided;
use super::output::count;
use super::run::Ended;
use super::{Verdict, invocation, progress};
use crate::experiment;
use crate::storage::WholeFolder;

/// `etcbench export`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench export table2 -o arrays
  etcbench export table2 --variants without_shortcuts --seeds 1 -o arrays

Per variant: bytes.npy, statistics.npy, sequences.npy and flowpics.npy (if a model reads them), labels.npy, flow ids,
names, and the rows of every split. The labels of test rows are included: README.txt in the folder explains how to
stay honest.")]
pub(super) struct ExportArguments {
    #[command(flatten)]
    divided: Divided,
    /// The folder to write; it must not exist.
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
}

/// Writes arrays.
pub(super) fn export(project: &Path, arguments: &ExportArguments) -> anyhow::Result<Verdict> {
    let folder = &arguments.output;
    if std::fs::symlink_metadata(folder).is_ok() {
        anyhow::bail!("{}: already exists; choose a new folder", folder.display());
    }
    let (experiment, variants) = arguments.divided.divide(project)?;
    let staging = WholeFolder::new(folder).with_context(|| format!("{}: cannot write here", folder.display()))?;
    experiment::export(&variants, staging.path())?;
    staging.put_in_empty_place().with_context(|| folder.display().to_string())?;
    let flows: Vec<String> = variants
        .iter()
        .map(|variant| format!("{} of {}", count(variant.features.len(), "flow"), variant.name))
        .collect();
    say!("{}: {}; in {}, with the labels of test flows", experiment.name, flows.join(", "), folder.display());
    Ok(Verdict::Done)
}

/// `etcbench import`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench import predictions.csv --experiment table2 --model my_transformer
  etcbench import predictions.csv --experiment table2 --variants without_shortcuts --seeds 1 --model notebook

The file has one line per test flow: `flow_id`, then `class` or a column `probability_CLASS` for every class, and
`variant`, `seed` and `fold` if there are several. Every test flow of a split must occur exactly once. The results go
to results/EXPERIMENT-DATASET-SIZE-imported-MODEL; tables mark them as imported.")]
pub(super) struct ImportArguments {
    /// The predictions, as CSV.
    predictions: PathBuf,
    #[command(flatten)]
    divided: DividedAs,
    /// The name in tables for the model that predicted.
    #[arg(long, value_name = "NAME")]
    model: String,
    /// Replace an existing import even if its results differ.
    #[arg(long)]
    overwrite: bool,
}

/// Same as [`Divided`], but with the experiment as an option.
#[derive(Args)]
struct DividedAs {
    /// The experiment, such as table2, or its file.
    #[arg(long, value_name = "NAME")]
    experiment: PathBuf,
    /// The dataset, if not the file's own. Repeat for several.
    #[arg(long, value_name = "NAME")]
    data: Vec<String>,
    /// The size, if not the file's own.
    #[arg(long, value_name = "NAME")]
    size: Option<String>,
    /// Override any key of the experiment, as in the run. Repeat for several.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    /// Number of seeds (0, 1, ...), or a list such as 3,5,8.
    #[arg(long, value_name = "N|LIST", value_parser = super::run::parse_seeds)]
    seeds: Option<super::run::Seeds>,
    /// Only these variants of the experiment, such as random_split.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    variants: Vec<String>,
}

/// Scores predictions.
pub(super) fn import(project: &Path, arguments: &ImportArguments) -> anyhow::Result<Verdict> {
    let DividedAs { experiment, data, size, assignments, seeds, variants } = &arguments.divided;
    let divided = Divided {
        experiment: experiment.clone(),
        data: data.clone(),
        size: size.clone(),
        assignments: assignments.clone(),
        seeds: seeds.clone(),
        variants: variants.clone(),
    };
    let experiment = divided.read(project)?;
    let invocation = invocation::begin(project, &divided.overrides());
    let progress = progress::for_standard_error();
    let name = experiment::results_name(&experiment, !assignments.is_empty());
    let results = experiment::results_folder(project);
    let mut run = experiment::import(
        &experiment,
        &Divided::settings(project),
        &arguments.predictions,
        &arguments.model,
        &results.join(&name),
        progress.as_ref(),
    )?;
    let folder = results.join(format!("{name}-imported-{}", arguments.model));
    run.invocation = invocation;
    let mut ended = Ended::default();
    ended.write(project, &run, &folder, &[], None, arguments.overwrite)?;
    ended.tell(false)
}
