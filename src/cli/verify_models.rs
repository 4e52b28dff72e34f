//! `etcbench verify-models`: the fast implementation of every model against its reference.

use std::path::Path;

use clap::Args;

use super::run::{DeviceChoice, generate_captures, parse_device};
use super::{Verdict, models_help, output, progress, with_models};
use crate::experiment::{self, Agreement, Cache, Overrides, Settings};
use crate::model::Precision;
use crate::project::experiment_file;
use crate::report;

/// `etcbench verify-models`.
#[derive(Args)]
#[command(after_help = with_models("Examples:
  etcbench verify-models
  etcbench verify-models --models {MODEL},{OTHER} --set selection.maximum_flows_per_class=200
  etcbench verify-models --data iscxvpn2016 --models {OTHER}
  etcbench verify-models --device cuda --models {ELMO}     in a build with the feature dfdx-cuda

The flows, models and their keys are those of experiments/verify-models.toml. Exit code 1 if the two implementations
of a model agree on fewer predictions, or differ more in macro F1, than its entry allows."))]
pub(super) struct VerifyModelsArguments {
    /// Use this dataset instead of the generated one. Repeat for several.
    #[arg(long, value_name = "NAME")]
    data: Vec<String>,
    #[arg(long, value_name = "LIST", value_delimiter = ',', help = models_help())]
    models: Vec<String>,
    /// Override any key of experiments/verify-models.toml. Repeat for several.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    /// Where both implementations of a deep model train: auto, cpu, cuda or cuda:N. The reference trains on a GPU only
    /// if etcbench was built with the feature dfdx-cuda.
    #[arg(long, default_value = "cpu", value_name = "DEVICE", value_parser = parse_device)]
    device: DeviceChoice,
}

/// Runs both implementations and prints how closely they agree.
pub(super) fn verify_models(project: &Path, arguments: &VerifyModelsArguments) -> anyhow::Result<Verdict> {
    let overrides = Overrides {
        data: arguments.data.clone(),
        models: arguments.models.clone(),
        assignments: arguments.assignments.clone(),
        ..Overrides::default()
    };
    let path = experiment_file(project, Path::new("verify-models"))?;
    let experiment = experiment::read_experiment(&path, &overrides)?;
    experiment::require_data(&experiment, project)?;
    let (device, device_reason) = arguments.device.resolve(Precision::F32)?;
    let settings = Settings {
        project: project.to_owned(),
        device,
        device_reason,
        cache: Cache::new(experiment::results_folder(project).join("cache")),
        generator: generate_captures,
        take_failures: false,
        memory_limit: None,
    };
    let results = experiment::verify_models(&experiment, &settings, progress::for_standard_error().as_ref())?;
    if results.is_empty() {
        anyhow::bail!("none of these models has a second implementation: {}", arguments.models.join(", "));
    }
    say!("{}", output::table(&report::agreement_table(&results)));
    Ok(if results.iter().all(Agreement::holds) { Verdict::Done } else { Verdict::CheckFailed })
}
