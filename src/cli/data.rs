//! `etcbench data`: lists datasets and the state of their captures, and generates data.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{Verdict, data_files, data_verify, output, progress};
use crate::dataset::{self, DatasetDefinition, DatasetError};
use crate::synth::{self, LargeOptions, LargeSummary, SynthOptions};
use crate::{experiment, storage};

/// `etcbench data`.
#[derive(Subcommand)]
#[command(after_help = "Examples:
  etcbench data list
  etcbench data fetch ctu13 --part 9                        one scenario, with a progress bar
  etcbench data unpack Tor.tar.xz --into data/iscxtor2016
  etcbench data verify iscxvpn2016 --manifest ours.json
  etcbench data compare ours.json theirs.json
  etcbench data labels ctu13 --list unmatched.csv
  etcbench data init mine --folder captures                 make a dataset of one folder per class
  etcbench data leaks table2 --data synth --size demo
  etcbench data synth --flows-per-class 200 -o captures
  etcbench data synth --packets 10000000 -o large.pcap
  etcbench data synth --packets 10000000 -o - | etcbench features - -o flows.parquet")]
pub(super) enum DataCommand {
    /// List every dataset with a definition in data/, and whether its captures are here.
    List,
    /// Write the definition of a dataset whose captures are in one folder per class.
    Init(data_files::InitArguments),
    /// Download the openly published files of a dataset; otherwise, show where to go and what to download.
    Fetch(data_files::FetchArguments),
    /// Unpack an archive (zip, or tar with or without compression); nothing is written outside the folder or
    /// overwritten.
    Unpack(data_files::UnpackArguments),
    /// Read the captures of a dataset and list those found, missing, unexpected or damaged, with sizes and SHA-256;
    /// exit code 1 if something is missing, damaged or unlabelled.
    Verify(data_verify::VerifyArguments),
    /// Compare two manifests that `verify --manifest` wrote; exit code 1 if they differ.
    Compare(data_verify::CompareArguments),
    /// Label the flows of a dataset, and show how many have which labels and which have none.
    Labels(data_verify::LabelsArguments),
    /// Show what the splits and features of an experiment give away before any model is trained: test flows that equal
    /// a training flow, classes that one field alone predicts, captures and hosts on both sides.
    Leaks(super::leaks::LeaksArguments),
    /// Generate captures from a seed: a folder with every class of the tables, or one large capture.
    Synth(SynthArguments),
}

/// `etcbench data synth`.
#[derive(Args)]
pub(super) struct SynthArguments {
    /// The folder to write, or with --packets the file, where `-` is standard output; data/synth by default.
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Seed; the same seed generates the same bytes.
    #[arg(long, default_value_t = SynthOptions::default().seed)]
    seed: u64,
    /// Conversations per class.
    #[arg(long, default_value_t = SynthOptions::default().flows_per_class)]
    flows_per_class: usize,
    /// Captures per class.
    #[arg(long, default_value_t = SynthOptions::default().captures_per_class)]
    captures_per_class: usize,
    /// Write one capture of this many packets instead.
    #[arg(long, requires = "output")]
    packets: Option<u64>,
    /// With --packets: number of flows active at the same time.
    #[arg(long, default_value_t = 10_000)]
    active_flows: usize,
}

/// Runs a `data` subcommand.
pub(super) fn data(project: &Path, command: &DataCommand) -> anyhow::Result<Verdict> {
    match command {
        DataCommand::List => list(project),
        DataCommand::Init(arguments) => data_files::init(project, arguments),
        DataCommand::Fetch(arguments) => data_files::fetch(project, arguments),
        DataCommand::Unpack(arguments) => data_files::unpack(arguments),
        DataCommand::Verify(arguments) => data_verify::verify(project, arguments),
        DataCommand::Compare(arguments) => data_verify::compare(arguments),
        DataCommand::Labels(arguments) => data_verify::labels(project, arguments),
        DataCommand::Leaks(arguments) => super::leaks::leaks(project, arguments),
        DataCommand::Synth(arguments) => generate(project, arguments),
    }
}

fn list(project: &Path) -> anyhow::Result<Verdict> {
    for line in listed(project).iter().map(ListedDataset::line) {
        say!("{line}");
    }
    Ok(Verdict::Done)
}

/// A dataset of a project, as shown in lists.
pub(super) struct ListedDataset {
    pub name: String,
    /// Title; `None` if the definition cannot be read.
    pub title: Option<String>,
    /// Whether its captures are here, or why not.
    pub state: String,
    /// Number of files here; `None` if the dataset is not here.
    pub files: Option<usize>,
    /// Licence of the published files; `None` if it is not confirmed.
    pub licence: Option<String>,
}

impl ListedDataset {
    /// Returns its line in a list.
    pub(super) fn line(&self) -> String {
        match &self.title {
            Some(title) => {
                let licence = self.licence.as_ref().map_or(String::new(), |licence| format!("; licence {licence}"));
                format!("{}: {title} [{}{licence}]", self.name, self.state)
            }
            None => format!("{}: {}", self.name, self.state),
        }
    }
}

/// Returns the datasets of a project: name, title, and whether the captures are here.
pub(super) fn listed(project: &Path) -> Vec<ListedDataset> {
    let one = |name: String| {
        // A single broken definition or folder must not make the listing fail.
        let definition = match DatasetDefinition::read(&dataset::definition_path(project, &name)) {
            Ok(definition) => definition,
            Err(error) => {
                return ListedDataset {
                    name,
                    title: None,
                    state: format!("cannot be read ({error})"),
                    files: None,
                    licence: None,
                };
            }
        };
        let (state, files) = match dataset::locate(&definition, project, "") {
            Ok(folder) => {
                let files = folder.captures.len();
                let kind = match (&definition.published, &definition.features) {
                    (Some(published), _) => {
                        format!("{} of layout {}", output::count(files, "file"), published.layout.name)
                    }
                    (None, Some(_)) => output::count(files, "feature file"),
                    (None, None) => output::count(files, "capture"),
                };
                (format!("{kind} in {}", folder.root.display()), Some(files))
            }
            Err(DatasetError::NotHere { .. }) => {
                let published = &definition.published_at;
                let to_get = match published.url.as_str() {
                    "" => published.how.clone(),
                    url => format!("see {url}: {}", published.how),
                };
                (format!("not here; {to_get}"), None)
            }
            Err(error) => (format!("cannot be used: {error}"), None),
        };
        ListedDataset { name, title: Some(definition.title), state, files, licence: definition.licence }
    };
    experiment::dataset_names(project).into_iter().map(one).collect()
}

fn generate(project: &Path, arguments: &SynthArguments) -> anyhow::Result<Verdict> {
    let progress = progress::for_standard_error();
    if let (Some(packets), Some(path)) = (arguments.packets, &arguments.output) {
        let options = LargeOptions { seed: arguments.seed, packets, active_flows: arguments.active_flows };
        let written_to = output::announce(path);
        let mut generated = None;
        let written = storage::write_whole_with(path, |file| {
            generated = Some(synth::generate_large(&options, file));
            match generated {
                Some(Ok(_)) => Ok(()),
                _ => Err(std::io::Error::other("stopped")),
            }
        });
        let summary = generated.transpose()?;
        written.with_context(|| written_to.clone())?;
        if let Some(LargeSummary { packets, flows, bytes }) = summary {
            let [packets, flows, bytes] = [(packets, "packet"), (flows, "flow"), (bytes, "byte")]
                .map(|(count, one)| storage::counted(count, one));
            say!("{written_to}: {packets} of {flows}, {bytes}");
        }
        return Ok(Verdict::Done);
    }
    let folder = arguments.output.clone().unwrap_or_else(|| project.join("data/synth"));
    if storage::is_standard_output(&folder) {
        anyhow::bail!(
            "captures of every class are written to a folder; name one with -o, or add --packets for one capture"
        );
    }
    if folder.symlink_metadata().is_ok() {
        anyhow::bail!("{} already exists; remove it or choose another with -o", folder.display());
    }
    let options = SynthOptions {
        seed: arguments.seed,
        flows_per_class: arguments.flows_per_class,
        captures_per_class: arguments.captures_per_class,
        ..SynthOptions::default()
    };
    let summary = synth::generate(&options, &folder, progress.as_ref())?;
    say!(
        "{}: {}, {} flows, {} packets, {} bytes",
        folder.display(),
        output::count(summary.captures.len(), "capture"),
        summary.flows(),
        summary.packets(),
        summary.bytes()
    );
    Ok(Verdict::Done)
}
