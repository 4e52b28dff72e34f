//! `etcbench export` and `etcbench import`: what models get, as arrays for notebooks, and predictions made of these.

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

Per variant: bytes.npy, statistics.npy, sequences.npy and flowpics.npy (where a model reads them), labels.npy, flow ids, names, and the
rows of every split. The labels of test rows are inside: README.txt in the folder says how to stay honest.")]
pub(super) struct ExportArguments {
    #[command(flatten)]
    divided: Divided,
    /// The folder to write; it must not be there yet.
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
}

/// Writes arrays.
pub(super) fn export(project: &Path, arguments: &ExportArguments) -> anyhow::Result<Verdict> {
    let folder = &arguments.output;
    if std::fs::symlink_metadata(folder).is_ok() {
        anyhow::bail!("{}: is there already; name a folder that is not", folder.display());
    }
    let (experiment, variants) = arguments.divided.divide(project)?;
    let staging = WholeFolder::new(folder).with_context(|| format!("{}: cannot write here", folder.display()))?;
    experiment::export(&variants, staging.path())?;
    staging.put_in_place().with_context(|| folder.display().to_string())?;
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

The file has a line per test flow: `flow_id`, then `class` or a column `probability_CLASS` for every class, and `variant`,
`seed` and `fold` where there are several. Every test flow of a split must be there once. The results go to
results/EXPERIMENT-DATASET-SIZE-imported-MODEL; tables say that they were imported.")]
pub(super) struct ImportArguments {
    /// The predictions, as CSV.
    predictions: PathBuf,
    #[command(flatten)]
    divided: DividedAs,
    /// The name that tables have for what predicted.
    #[arg(long, value_name = "NAME")]
    model: String,
    /// Replace an import that is there also where its results differ.
    #[arg(long)]
    overwrite: bool,
}

/// As [`Divided`], the experiment being an option.
#[derive(Args)]
struct DividedAs {
    /// The experiment: its name, such as table2, or its file.
    #[arg(long, value_name = "NAME")]
    experiment: PathBuf,
    /// The dataset, where not the file's own. Repeat for several.
    #[arg(long, value_name = "NAME")]
    data: Vec<String>,
    /// The size, where not the file's own.
    #[arg(long, value_name = "NAME")]
    size: Option<String>,
    /// Override any key of the experiment, as in the run. Repeat for several.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    /// How many seeds (0, 1, ...), or a list such as 3,5,8.
    #[arg(long, value_name = "N|LIST", value_parser = super::run::parse_seeds)]
    seeds: Option<super::run::Seeds>,
    /// Only these of the experiment's variants, such as as_published.
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
