//! `etcbench appendix`: answers the questions of artifact reviewers from a run.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::{Verdict, output};
use crate::experiment::results_folder;
use crate::runs::find_run;
use crate::storage::write_whole;
use crate::submission::{self, AppendixFormat};

/// `etcbench appendix`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench appendix table2-lab-demo -o appendix.md
  etcbench appendix table2-lab-demo --format latex -o appendix.tex

Data, splits, seeds, hyperparameters, budgets, hardware, versions and compute time are those of the run. What the run
did not record is marked as unknown, for the author to fill in.")]
pub(super) struct AppendixArguments {
    /// The run: its folder, or the folder's name under results/.
    run: PathBuf,
    /// The file; `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Output format.
    #[arg(long, default_value = "markdown")]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Markdown,
    Latex,
}

/// Writes the appendix of a run.
pub(super) fn appendix(project: &Path, arguments: &AppendixArguments) -> anyhow::Result<Verdict> {
    let name = output::announce(&arguments.output);
    let folder = find_run(&results_folder(project), &arguments.run)?;
    let format = match arguments.format {
        Format::Markdown => AppendixFormat::Markdown,
        Format::Latex => AppendixFormat::Latex,
    };
    let text = submission::appendix(&folder, project, format)?;
    write_whole(&arguments.output, text.as_bytes()).with_context(|| arguments.output.display().to_string())?;
    say!("{name}: the appendix of {}", folder.display());
    Ok(Verdict::Done)
}
