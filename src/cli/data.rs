//! `etcbench data`: what datasets there are, whether their captures are here, and generated data.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{Verdict, progress};
use crate::dataset::synth::{self, LargeOptions, SynthOptions};
use crate::dataset::{self, DatasetDefinition, DatasetError};
use crate::experiment;

/// `etcbench data`.
#[derive(Subcommand)]
#[command(after_help = "Examples:
  etcbench data list
  etcbench data verify iscxvpn2016
  etcbench data leaks table2 --data synth --size demo
  etcbench data synth --flows-per-class 200 -o captures
  etcbench data synth --packets 10000000 -o large.pcap")]
pub enum DataCommand {
    /// Every dataset with a definition in data/, and whether its captures are here.
    List,
    /// The captures of a dataset that are here, missing, left out or without label, with sizes and SHA-256.
    Verify {
        /// The dataset.
        name: String,
    },
    /// What the splits and features of an experiment give away before any model is trained: test flows that
    /// equal a training flow, classes that one field alone predicts, captures and hosts on both sides.
    Leaks(super::leaks::LeaksArguments),
    /// Generate captures from a seed: a folder with every class of the tables, or one large capture.
    Synth(SynthArguments),
}

/// `etcbench data synth`.
#[derive(Args)]
pub struct SynthArguments {
    /// The folder to write, or the file with --packets; data/synth when not given.
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// The same seed gives the same bytes.
    #[arg(long, default_value_t = SynthOptions::default().seed)]
    seed: u64,
    /// Conversations of each class.
    #[arg(long, default_value_t = SynthOptions::default().flows_per_class)]
    flows_per_class: usize,
    /// Captures of each class.
    #[arg(long, default_value_t = SynthOptions::default().captures_per_class)]
    captures_per_class: usize,
    /// Write one capture of this many packets instead.
    #[arg(long, requires = "output")]
    packets: Option<u64>,
    /// With --packets: flows that are active at a time.
    #[arg(long, default_value_t = 10_000)]
    active_flows: usize,
}

/// Runs a `data` subcommand.
pub fn data(project: &Path, command: &DataCommand) -> anyhow::Result<Verdict> {
    match command {
        DataCommand::List => list(project),
        DataCommand::Verify { name } => verify(project, name),
        DataCommand::Leaks(arguments) => super::leaks::leaks(project, arguments),
        DataCommand::Synth(arguments) => generate(project, arguments),
    }
}

fn list(project: &Path) -> anyhow::Result<Verdict> {
    for name in experiment::dataset_names(project) {
        let definition = DatasetDefinition::read(&dataset::definition_path(project, &name))?;
        let state = match dataset::locate(&definition, project, "") {
            Ok(folder) => format!("{} captures in {}", folder.captures.len(), folder.root.display()),
            Err(DatasetError::NotHere { .. }) => format!("not here; see {}", definition.published_at.url),
            Err(error) => return Err(error.into()),
        };
        say!("{name}: {} [{state}]", definition.title);
    }
    Ok(Verdict::Done)
}

fn verify(project: &Path, name: &str) -> anyhow::Result<Verdict> {
    let definition = DatasetDefinition::read(&dataset::definition_path(project, name))?;
    let folder = dataset::locate(&definition, project, "etcbench reproduce all --data synth")?;
    let inventory = dataset::inventory(&definition, &folder)?;
    let mut without_label = 0;
    for capture in &inventory.found {
        let labels: Vec<String> = capture.labels.iter().map(|(column, value)| format!("{column}={value}")).collect();
        let state = if labels.is_empty() { "without label" } else { "found" };
        without_label += usize::from(labels.is_empty());
        say!(
            "{state} {} {} bytes sha256 {} {}",
            capture.file.path,
            capture.file.size,
            capture.sha256,
            labels.join(" ")
        );
    }
    for stem in &inventory.missing {
        say!("missing {stem}");
    }
    for (file, reason) in &inventory.excluded {
        say!("left out {}: {reason}", file.path);
    }
    for file in &inventory.unexpected {
        say!("unexpected {}", file.path);
    }
    say!(
        "{} captures found, {without_label} of them without label; {} missing, {} left out, {} other files",
        inventory.found.len(),
        inventory.missing.len(),
        inventory.excluded.len(),
        inventory.unexpected.len()
    );
    let complete = inventory.missing.is_empty() && without_label == 0;
    Ok(if complete { Verdict::Done } else { Verdict::CheckFailed })
}

fn generate(project: &Path, arguments: &SynthArguments) -> anyhow::Result<Verdict> {
    let progress = progress::for_standard_error();
    if let (Some(packets), Some(path)) = (arguments.packets, &arguments.output) {
        let options = LargeOptions { seed: arguments.seed, packets, active_flows: arguments.active_flows };
        let file = File::create(path).with_context(|| path.display().to_string())?;
        let summary = synth::generate_large(&options, BufWriter::new(file))?;
        say!("{}: {} packets of {} flows, {} bytes", path.display(), summary.packets, summary.flows, summary.bytes);
        return Ok(Verdict::Done);
    }
    let folder = arguments.output.clone().unwrap_or_else(|| project.join("data/synth"));
    if folder.exists() {
        anyhow::bail!("{} is there already; remove it or choose another with -o", folder.display());
    }
    let options = SynthOptions {
        seed: arguments.seed,
        flows_per_class: arguments.flows_per_class,
        captures_per_class: arguments.captures_per_class,
        ..SynthOptions::default()
    };
    let summary = synth::generate(&options, &folder, progress.as_ref())?;
    say!(
        "{}: {} captures, {} flows, {} packets, {} bytes",
        folder.display(),
        summary.captures.len(),
        summary.flows(),
        summary.packets(),
        summary.bytes()
    );
    Ok(Verdict::Done)
}
