//! `etcbench data leaks`: what an experiment's splits and features give away, before training.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::run::{Seeds, parse_seeds};
use super::{Verdict, output, progress};
use crate::experiment::{self, Cache, Experiment, Overrides, Settings, VariantRun};
use crate::project::experiment_file;
use crate::{report, runs, storage};

/// An experiment and its overrides, for subcommands that train nothing.
#[derive(Args)]
pub(super) struct Divided {
    /// The experiment, such as table2, or its file.
    pub(super) experiment: PathBuf,
    /// Use this dataset instead of the file's; `synth` generates its captures. Repeat for several.
    #[arg(long, value_name = "NAME")]
    pub(super) data: Vec<String>,
    /// A size in experiments/sizes, such as `demo` or `ci`; the file's own sizes by default.
    #[arg(long, value_name = "NAME")]
    pub(super) size: Option<String>,
    /// Override any key of the experiment, such as split.method=grouped. Repeat for several.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) assignments: Vec<String>,
    /// Number of seeds (0, 1, ...), or a list such as 3,5,8.
    #[arg(long, value_name = "N|LIST", value_parser = parse_seeds)]
    pub(super) seeds: Option<Seeds>,
    /// Only these variants of the experiment, such as random_split.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(super) variants: Vec<String>,
}

impl Divided {
    /// Returns the overrides of the experiment's file.
    pub(super) fn overrides(&self) -> Overrides {
        Overrides {
            data: self.data.clone(),
            size: self.size.clone(),
            assignments: self.assignments.clone(),
            seeds: self.seeds.as_ref().map(|seeds| seeds.0.clone()),
            models: Vec::new(),
            variants: self.variants.clone(),
            ladder: None,
        }
    }

    /// Reads the experiment and checks that its data is available.
    pub(super) fn read(&self, project: &Path) -> anyhow::Result<Experiment> {
        let path = experiment_file(project, &self.experiment)?;
        let experiment = experiment::read_experiment(&path, &self.overrides())?;
        experiment::require_data(&experiment, project)?;
        Ok(experiment)
    }

    /// Returns the settings for work without training.
    pub(super) fn settings(project: &Path) -> Settings {
        runs::plain_settings(project, Cache::disabled())
    }

    /// Reads the experiment and splits its flows.
    pub(super) fn divide(&self, project: &Path) -> anyhow::Result<(Experiment, Vec<VariantRun>)> {
        let experiment = self.read(project)?;
        let settings = Self::settings(project);
        let progress = progress::for_standard_error();
        let variants = experiment::divide(&experiment, &settings, progress.as_ref())?;
        Ok((experiment, variants))
    }
}

/// `etcbench data leaks`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench data leaks table2
  etcbench data leaks table2 --data synth --size demo --seeds 1
  etcbench data leaks experiments/ustc-application.toml --variants random_split -o leaks.json")]
pub(super) struct LeaksArguments {
    #[command(flatten)]
    divided: Divided,
    /// Also write everything as JSON (see results/FORMAT.md); `-` is standard output. Runs store the same in their
    /// results.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Prints the leak report of every variant.
pub(super) fn leaks(project: &Path, arguments: &LeaksArguments) -> anyhow::Result<Verdict> {
    arguments.output.as_deref().map(output::announce);
    let (experiment, variants) = arguments.divided.divide(project)?;
    let leaks = experiment::split_leaks(&variants);
    if let Some(path) = &arguments.output {
        let json = serde_json::to_vec_pretty(&leaks)?;
        storage::write_whole(path, &json).with_context(|| path.display().to_string())?;
    }
    let data = experiment.datasets.join(" + ");
    say!("# Leaks of {} ({data}, {})\n\n{}", experiment.name, experiment.size, report::leak_text(&leaks)?);
    Ok(Verdict::Done)
}
