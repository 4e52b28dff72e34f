//! `etcbench split`: writes how an experiment splits its flows.

use std::path::{Path, PathBuf};

use clap::Args;

use super::leaks::Divided;
use super::{Verdict, output};
use crate::split::{Split, write_splits};

/// `etcbench split`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench split table2 --variants random_split -o split.csv
  etcbench split table2 --variants random_split --set split.method=grouped --seeds 1 -o grouped.csv
  etcbench run experiments/table2.toml --set split.method=file --set split.path=split.csv")]
pub(super) struct SplitArguments {
    #[command(flatten)]
    divided: Divided,
    /// The CSV file to write (results/FORMAT.md documents its columns); `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Writes the splits of an experiment's single variant, for every seed.
pub(super) fn split(project: &Path, arguments: &SplitArguments) -> anyhow::Result<Verdict> {
    let written_to = output::announce(&arguments.output);
    let (experiment, variants) = arguments.divided.divide(project)?;
    let [variant] = variants.as_slice() else {
        let names: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
        anyhow::bail!(
            "{} has {} variants with different splits; choose one with --variants ({})",
            experiment.name,
            names.len(),
            names.join(", ")
        );
    };
    let numbered: Vec<(u64, usize, &Split)> =
        variant.splits.iter().map(|run| (run.seed, run.fold, &run.split)).collect();
    write_splits(&arguments.output, &variant.features, &numbered)?;
    let (splits, flows) = (output::count(numbered.len(), "split"), output::count(variant.features.len(), "flow"));
    say!("{splits} of {flows} in {written_to}");
    Ok(Verdict::Done)
}
