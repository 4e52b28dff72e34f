//! `etcbench model`: checks external models before they are trusted.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::leaks::Divided;
use super::run::parse_device;
use super::{Verdict, progress};
use crate::experiment::Overrides;
use crate::model::external::{self, Finding, Standing, Task};
use crate::model::{Device, ModelKind, Precision};
use crate::progress::Progress;
use crate::project::experiment_file;
use crate::{declarative, experiment};

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
  etcbench model check mine --experiment table2 --data lab --size demo

The program is started several times on generated flows. It must follow the protocol (models/PROTOCOL.md), predict
the same in any order and batch, be unchanged after saving and loading, reproduce its fit with the same seed or
declare that it may not, be wrong if its training labels are permuted, not answer repeated rows faster if it claims a
latency, and leave no processes behind. With --experiment it is instead fitted on the first split of every variant, once
as it is and up to six times with permuted training labels: if it is then still right every time, it knows labels that
it was not given, such as from its weights.")]
pub(super) struct CheckArguments {
    /// The model's name: the name of its folder in models/.
    name: String,
    /// Its folder, if not in models/; relative to the project folder.
    #[arg(long, value_name = "FOLDER")]
    path: Option<PathBuf>,
    /// Where the model runs: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: String,
    #[command(flatten)]
    on: On,
}

/// The experiment whose flows a model is checked on.
#[derive(Args)]
struct On {
    /// Check on the flows of this experiment, such as table2, or its file, instead of generated ones.
    #[arg(long, value_name = "NAME")]
    experiment: Option<PathBuf>,
    /// With --experiment: the dataset, if not the file's own. Repeat for several.
    #[arg(long, value_name = "NAME", requires = "experiment")]
    data: Vec<String>,
    /// With --experiment: the size, if not the file's own.
    #[arg(long, value_name = "NAME", requires = "experiment")]
    size: Option<String>,
    /// With --experiment: override any key of it. Repeat for several.
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "experiment")]
    assignments: Vec<String>,
    /// With --experiment: only these variants of it.
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "experiment")]
    variants: Vec<String>,
}

/// Checks a model.
pub(super) fn model(project: &Path, command: &ModelCommand) -> anyhow::Result<Verdict> {
    let ModelCommand::Check(arguments) = command;
    let kind = find(arguments)?;
    let (device, _): (Device, _) =
        parse_device(&arguments.device).map_err(anyhow::Error::msg)?.resolve(Precision::default())?;
    let progress = progress::for_standard_error();
    let findings = match &arguments.on.experiment {
        None => external::check(kind, device, progress.as_ref()),
        Some(file) => check_on(project, file, arguments, device, progress.as_ref())?,
    };
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

/// Checks a model on the first split of every variant of an experiment, with each input that the experiment gives it.
fn check_on(
    project: &Path,
    file: &Path,
    arguments: &CheckArguments,
    device: Device,
    progress: &dyn Progress,
) -> anyhow::Result<Vec<Finding>> {
    let On { data, size, assignments, variants, .. } = &arguments.on;
    let mut assignments = assignments.clone();
    if let Some(path) = &arguments.path {
        assignments.push(format!("model.{}.path={}", arguments.name, toml::Value::from(path.display().to_string())));
    }
    let overrides = Overrides {
        data: data.clone(),
        size: size.clone(),
        assignments,
        seeds: None,
        models: vec![arguments.name.clone()],
        variants: variants.clone(),
        ladder: None,
    };
    let experiment = experiment::read_experiment(&experiment_file(project, file)?, &overrides)?;
    experiment::require_data(&experiment, project)?;
    let divided = experiment::divide(&experiment, &Divided::settings(project), progress)?;
    let mut findings = Vec::new();
    for flows in &divided {
        let variant = experiment.variants.iter().find(|variant| variant.name == flows.name);
        let (Some(variant), Some(split)) = (variant, flows.splits.first()) else { continue };
        let task = Task {
            features: &flows.features,
            training: &split.training,
            validation: &split.split.validation,
            test: &split.split.test,
            seed: split.seed,
        };
        let found = variant.models.iter().flat_map(|spec| external::check_on(spec, task, device, progress));
        findings
            .extend(found.map(|finding| Finding { text: format!("{}: {}", variant.name, finding.text), ..finding }));
    }
    Ok(findings)
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
