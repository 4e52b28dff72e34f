//! `etcbench pretrain`: pre-trains a model and writes it to a file for use in experiments.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::run::{self, DeviceChoice, parse_device};
use super::{Verdict, output, progress, with_models};
use crate::experiment::{self, Cache, Experiment, Overrides, Recipe, Settings};
use crate::model::Precision;
use crate::project::{experiment_file, experiment_names};
use crate::{dataset, storage};

/// `etcbench pretrain`.
#[derive(Args)]
#[command(after_help = with_models("Examples:
  etcbench pretrain lab ustc-tfc2016 -o elmo.safetensors
  etcbench pretrain lab ndpi --like table2 --variants without_shortcuts -o elmo.safetensors
  etcbench pretrain table2 --variants without_shortcuts --seed 3 -o elmo.safetensors
  etcbench pretrain --show elmo.safetensors
  etcbench run experiments/table2.toml --variants without_shortcuts --seeds 3, --set model.{ELMO}.elmo.pretrained=elmo.safetensors

For datasets, all captures are read, without labels. For an experiment, the training part of one variant, seed and
fold and the datasets of the model's corpus, such as model.{ELMO}.elmo.corpus, except what contains its
validation and test flows. An experiment that uses the file refuses it if it has seen flows to be tested.
experiments/README.md documents what is compared."))]
pub(super) struct PretrainArguments {
    /// Datasets, or one experiment, such as table2, or its file.
    #[arg(value_name = "DATASET|EXPERIMENT", required_unless_present = "show")]
    what: Vec<String>,
    /// The file to write.
    #[arg(short, long, value_name = "FILE", required_unless_present = "show")]
    output: Option<PathBuf>,
    /// Print the card of a pre-trained model's file as JSON, and exit.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["what", "output"])]
    show: Option<PathBuf>,
    /// The model to pre-train; by default the paper's, or the only one of the experiment that is pre-trained.
    #[arg(long, value_name = "NAME", conflicts_with = "show")]
    model: Option<String>,
    /// With datasets: use the flows, features and model of this experiment; the defaults otherwise.
    #[arg(long, value_name = "EXPERIMENT")]
    like: Option<String>,
    /// With an experiment: use this dataset instead of the file's. Repeat for several.
    #[arg(long, value_name = "NAME")]
    data: Vec<String>,
    /// With an experiment: a size in experiments/sizes, such as `demo`; the file's own sizes by default.
    #[arg(long, value_name = "NAME")]
    size: Option<String>,
    /// With an experiment: the variant to use.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    variants: Vec<String>,
    #[arg(
        long = "set",
        value_name = "KEY=VALUE",
        help = with_models("Override any key, such as feature.bytes=64 or model.{ELMO}.elmo.epochs=4. Repeat for several")
    )]
    assignments: Vec<String>,
    /// The seed, also of the experiment's split; 0, or the experiment's first seed, by default.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// With an experiment: the fold, counted from 0.
    #[arg(long, value_name = "K", default_value_t = 0)]
    fold: usize,
    /// Where to train: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto", value_name = "DEVICE", value_parser = parse_device)]
    device: DeviceChoice,
    /// How often the training is saved, so that repeating the command resumes it; 0 saves after every batch.
    #[arg(long, default_value_t = experiment::CHECKPOINT_INTERVAL.as_secs(), value_name = "SECONDS")]
    checkpoint_seconds: u64,
    /// Recompute everything and store nothing in results/cache.
    #[arg(long)]
    no_cache: bool,
}

/// Pre-trains and writes the file, or shows the card of one.
pub(super) fn pretrain(project: &Path, arguments: &PretrainArguments) -> anyhow::Result<Verdict> {
    if let Some(path) = &arguments.show {
        say!("{}", experiment::show_pretrained(path)?);
        return Ok(Verdict::Done);
    }
    let output = arguments.output.as_ref().context("name the file to write with -o")?;
    let written_to = output::announce(output);
    let of_experiment = match &arguments.what[..] {
        [one] if is_experiment(project, one, arguments)? => Some(read(project, one, arguments)?),
        _ => None,
    };
    let (device, device_reason) = arguments.device.resolve(Precision::F32)?;
    let cache = if arguments.no_cache { Cache::disabled() } else { run::cache(project) }
        .with_checkpoint_interval(Duration::from_secs(arguments.checkpoint_seconds));
    let settings = Settings {
        project: project.to_owned(),
        device,
        device_reason,
        cache,
        generator: run::generate_captures,
        take_failures: false,
        memory_limit: None,
    };
    let progress = progress::for_standard_error();
    let model = arguments.model.as_deref();
    let pretrained = match of_experiment {
        Some(experiment) => {
            anyhow::ensure!(
                arguments.like.is_none(),
                "--like is for datasets; {} has its own settings",
                experiment.name
            );
            experiment::pretrain_experiment(&experiment, model, arguments.fold, &settings, progress.as_ref())?
        }
        None => {
            let PretrainArguments { what, like, data, size, variants, assignments, seed, fold, .. } = arguments;
            anyhow::ensure!(data.is_empty() && *fold == 0, "--data and --fold are for an experiment, not for datasets");
            let recipe = match like {
                Some(name) => Recipe::of_experiment(&read(project, name, arguments)?, model)?,
                None => {
                    anyhow::ensure!(size.is_none() && variants.is_empty(), "--size and --variants require --like");
                    Recipe::of_assignments(model, assignments)?
                }
            };
            experiment::pretrain_datasets(&recipe, what, seed.unwrap_or(0), &settings, progress.as_ref())?
        }
    };
    storage::write_whole(output, &pretrained.to_bytes()?).with_context(|| written_to.clone())?;
    say!("{written_to}: {}", pretrained.summary());
    Ok(Verdict::Done)
}

/// Returns whether the single argument is an experiment; `--like` is only for datasets.
fn is_experiment(project: &Path, name: &str, arguments: &PretrainArguments) -> anyhow::Result<bool> {
    if name.ends_with(".toml") {
        return Ok(true);
    }
    let is_dataset = storage::is_file_or_stock(&dataset::definition_path(project, name));
    let experiment = experiment_file(project, Path::new(name));
    if let (true, Ok(experiment), None) = (is_dataset, experiment, &arguments.like) {
        anyhow::bail!(
            "{name} is a dataset and an experiment; use {} for the experiment, or add --like {name} for the dataset",
            experiment.display()
        );
    }
    Ok(!is_dataset)
}

fn read(project: &Path, name: &str, arguments: &PretrainArguments) -> anyhow::Result<Experiment> {
    let path = experiment_file(project, Path::new(name)).map_err(|error| {
        let mut known = experiment::dataset_names(project);
        known.extend(experiment_names(project));
        match name.ends_with(".toml") {
            true => error,
            false => {
                let nearest = crate::declarative::did_you_mean(name, known.iter().map(String::as_str));
                anyhow::anyhow!("{name}: no such dataset or experiment{nearest} (known: {})", known.join(", "))
            }
        }
    })?;
    let overrides = Overrides {
        data: arguments.data.clone(),
        size: arguments.size.clone(),
        assignments: arguments.assignments.clone(),
        seeds: arguments.seed.map(|seed| vec![seed]),
        models: Vec::new(),
        variants: arguments.variants.clone(),
        ladder: None,
    };
    Ok(experiment::read_experiment(&path, &overrides)?)
}
