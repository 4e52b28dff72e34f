//! `etcbench model`: checks external models before they are trusted.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::run::parse_device;
use super::{Verdict, progress};
use crate::declarative;
use crate::model::external::{self, Standing};
use crate::model::{Device, ModelKind, Precision};

/// `etcbench model`.
#[derive(Subcommand)]
pub(super) enum ModelCommand {
    /// Check an external model on a small generated task; exit code 1 if a check fails.
    Check(CheckArguments),
}

/// `etcbench model check`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench model check sklearn-forest
  etcbench model check mine --path ../somewhere/mine

The program is started several times on generated flows. It must follow the protocol (models/PROTOCOL.md), predict
the same in any order and batch, be unchanged after saving and loading, reproduce its fit with the same seed or
declare that it may not, be wrong if its training labels are permuted, and leave no processes behind.")]
pub(super) struct CheckArguments {
    /// The model's name: the name of its folder in models/.
    name: String,
    /// Its folder, if not in models/; relative to the project folder.
    #[arg(long, value_name = "FOLDER")]
    path: Option<PathBuf>,
    /// Where the model runs: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: String,
}

/// Checks a model.
pub(super) fn model(_: &Path, command: &ModelCommand) -> anyhow::Result<Verdict> {
    let ModelCommand::Check(arguments) = command;
    let kind = find(arguments)?;
    let (device, _): (Device, _) =
        parse_device(&arguments.device).map_err(anyhow::Error::msg)?.resolve(Precision::default())?;
    let progress = progress::for_standard_error();
    let findings = external::check(kind, device, progress.as_ref());
    let mut bad = 0;
    for finding in &findings {
        let word = match finding.standing {
            Standing::Good => "ok",
            Standing::Note => "note",
            Standing::Bad => "FAILED",
        };
        bad += usize::from(finding.standing == Standing::Bad);
        say!("{word:<6}  {:<20}  {}", finding.check, finding.text);
    }
    say!("{}: {} checks, {bad} failed", arguments.name, findings.len());
    Ok(if bad == 0 { Verdict::Done } else { Verdict::CheckFailed })
}

fn find(arguments: &CheckArguments) -> anyhow::Result<ModelKind> {
    let name = &arguments.name;
    if let Some(path) = &arguments.path {
        return Ok(ModelKind::at(name, &path.display().to_string())?);
    }
    let kind = ModelKind::find(name)?.ok_or_else(|| {
        let known = external::names();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        anyhow::anyhow!("models/: {}", declarative::unknown("external model", name, &known))
    })?;
    if kind.entry().external.is_none() {
        anyhow::bail!("{name} is a built-in model, which etcbench's own tests check; name one in models/");
    }
    Ok(kind)
}
