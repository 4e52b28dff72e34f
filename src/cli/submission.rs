//! `etcbench submission`: packs a run as one file that others can check, and checks such files.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{Verdict, output, progress};
use crate::experiment::{self, results_folder};
use crate::runs::{self, find_run};
use crate::storage;
use crate::submission::{self, Bundle, Checked, Finding, Licences, Rerun};

/// `etcbench submission`.
#[derive(Subcommand)]
pub(super) enum SubmissionCommand {
    /// Pack a run as one file, a bundle, named by the hash of its content.
    Pack(PackArguments),
    /// Recompute everything that bundles claim from their predictions and splits; exit code 1 if there are findings.
    Check(CheckArguments),
}

/// `etcbench submission pack`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench submission pack table2-lab-demo -o leaderboard
  etcbench submission pack results/table2-lab-demo -o table2.etcbundle

The same run always produces the same bytes.")]
pub(super) struct PackArguments {
    /// The run: its folder, or the folder's name under results/.
    run: PathBuf,
    /// The bundle's file; `-` is standard output. In a folder, the file is named RUN-HASH.etcbundle.
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// Licence of the weights that the run saved or began with, as an SPDX identifier; it is written into the model cards.
    #[arg(long, value_name = "SPDX", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    weights_licence: Option<String>,
    /// Licence of the code behind imported predictions; other models state theirs.
    #[arg(long, value_name = "SPDX", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    code_licence: Option<String>,
}

/// `etcbench submission check`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench submission check leaderboard/*.etcbundle
  etcbench submission check --rerun table2.etcbundle

leaderboard/RULES.md lists the rules, and what no bundle can show. Prints one line per finding; exit code 1 if there
are findings, 2 if a file is not a bundle.")]
pub(super) struct CheckArguments {
    /// Bundles.
    #[arg(required = true, value_name = "BUNDLE")]
    bundles: Vec<PathBuf>,
    /// Also rerun the bundles that pass, which requires their data and external models, and compare within tolerances.
    #[arg(long)]
    rerun: bool,
}

/// Packs or checks.
pub(super) fn submission(project: &Path, command: &SubmissionCommand) -> anyhow::Result<Verdict> {
    match command {
        SubmissionCommand::Pack(arguments) => pack(project, arguments),
        SubmissionCommand::Check(arguments) => check(project, arguments),
    }
}

fn pack(project: &Path, arguments: &PackArguments) -> anyhow::Result<Verdict> {
    output::announce(&arguments.output);
    let folder = find_run(&results_folder(project), &arguments.run)?;
    let licences = Licences { code: arguments.code_licence.clone(), weights: arguments.weights_licence.clone() };
    let packed = submission::pack(&folder, project, &licences)?;
    let path = match arguments.output.is_dir() {
        true => arguments.output.join(&packed.name),
        false => arguments.output.clone(),
    };
    storage::write_whole(&path, &packed.bytes).with_context(|| path.display().to_string())?;
    say!("{}: {} bytes, identity {}", path.display(), packed.bytes.len(), packed.identity);
    Ok(Verdict::Done)
}

fn check(project: &Path, arguments: &CheckArguments) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::Done;
    // Open all files first, so that one that is not a bundle is reported before any is checked.
    let bundles =
        arguments.bundles.iter().map(|path| Ok((path, Bundle::open(path)?))).collect::<anyhow::Result<Vec<_>>>()?;
    for (path, bundle) in bundles {
        let Checked { mut findings, notes } = submission::check(&bundle, project)?;
        notes.iter().for_each(|note| tell!("{}: {note}", path.display()));
        if arguments.rerun && findings.is_empty() {
            findings = rerun(&bundle, project).with_context(|| path.display().to_string())?;
        }
        for finding in &findings {
            say!("{}: {finding}", path.display());
        }
        if findings.is_empty() {
            let how = if arguments.rerun { ", and the same when rerun" } else { "" };
            say!("{}: nothing found{how}; identity {}", path.display(), bundle.identity);
        } else {
            verdict = Verdict::CheckFailed;
        }
    }
    Ok(verdict)
}

/// Runs a bundle's experiment here.
fn rerun(bundle: &Bundle, project: &Path) -> anyhow::Result<Vec<Finding>> {
    let rerun = Rerun::new(bundle)?;
    experiment::require_data(&rerun.experiment, project)?;
    let settings = runs::settings(project, "auto", "f32", runs::cache(project))?;
    let run = experiment::run(&rerun.experiment, &settings, progress::for_standard_error().as_ref())?;
    Ok(rerun.findings(&run)?)
}
