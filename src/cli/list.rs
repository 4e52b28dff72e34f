//! `etcbench list`: lists the experiments, datasets, runs and models of a project.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::data::ListedDataset;
use super::output::{JsonOption, count};
use super::{Verdict, data, output};
use crate::experiment::results_folder;
use crate::project::experiment_titles;
use crate::report::{RunFacts, StoredRun};

/// `etcbench list`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench list
  etcbench list runs
  etcbench list models
  etcbench list runs --json

A run's second line shows when it started, its best score, and what its command line changed, if its version stored
this.")]
pub(super) struct ListArguments {
    /// Only these; everything by default.
    what: Option<What>,
    #[command(flatten)]
    json: JsonOption,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// The experiment files in experiments/.
    Experiments,
    /// The datasets with a definition in data/, and whether their captures are here.
    Datasets,
    /// The runs in results/, the most recent first; older ones that were kept are NAME.1, NAME.2, ....
    Runs,
    /// The models that runs saved, for `etcbench classify`.
    Models,
}

/// Prints the lists.
pub(super) fn list(project: &Path, arguments: &ListArguments) -> anyhow::Result<Verdict> {
    let all = [What::Experiments, What::Datasets, What::Runs, What::Models];
    if arguments.json.is_asked() {
        output::json(&as_json(
            project,
            all.into_iter().filter(|what| arguments.what.is_none_or(|requested| requested == *what)),
        ));
        return Ok(Verdict::Done);
    }
    for what in all.into_iter().filter(|what| arguments.what.is_none_or(|requested| requested == *what)) {
        let (title, lines) = match what {
            What::Experiments => ("Experiments", experiments(project)),
            What::Datasets => ("Datasets", data::listed(project).iter().map(ListedDataset::line).collect()),
            What::Runs => ("Runs, most recent first", runs(project)),
            What::Models => ("Models", models(project)),
        };
        if arguments.what.is_none() {
            say!("{title}");
        }
        let indent = if arguments.what.is_none() { "  " } else { "" };
        if lines.is_empty() {
            say!("{indent}(none)");
        }
        for line in &lines {
            say!("{indent}{line}");
        }
        if arguments.what.is_none() && what != What::Models {
            say!("");
        }
    }
    Ok(Verdict::Done)
}

/// Returns the entries of a folder sorted by name; empty if it does not exist.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn experiments(project: &Path) -> Vec<String> {
    let line = |(name, title)| match title {
        Ok(title) => format!("{name}: {title}"),
        Err(error) => format!("{name}: cannot be read ({error})"),
    };
    experiment_titles(project).into_iter().map(line).collect()
}

/// Returns the folders of runs, the most recently written first.
fn run_folders(project: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<(SystemTime, PathBuf)> = Vec::new();
    for folder in entries(&results_folder(project)) {
        if name(&folder).starts_with('.') || !StoredRun::is_at(&folder, "run.json") {
            continue;
        }
        let modified = std::fs::metadata(folder.join("run.json")).and_then(|file| file.modified());
        folders.push((modified.unwrap_or(SystemTime::UNIX_EPOCH), folder));
    }
    folders.sort_by(|left, right| right.0.cmp(&left.0).then_with(|| left.1.cmp(&right.1)));
    folders.into_iter().map(|(_, folder)| folder).collect()
}

fn runs(project: &Path) -> Vec<String> {
    let line = |folder: PathBuf| match RunFacts::read(&folder) {
        Ok(facts) => {
            let commit =
                facts.provenance.commit.as_deref().map_or("no commit", |commit| commit.get(..10).unwrap_or(commit));
            let title = &facts.title;
            let (seeds, fits) = (count(facts.seeds.len(), "seed"), count(facts.fits.len(), "fit"));
            let older = if StoredRun::is_kept(&folder) { ", older" } else { "" };
            let details = run_details(&facts).map_or(String::new(), |details| format!("\n      {details}"));
            format!("{}: {title} [{seeds}, {fits}, {commit}{older}]{details}", name(&folder))
        }
        // A single broken folder must not make the listing fail.
        Err(error) => format!("{}: cannot be read ({error})", name(&folder)),
    };
    run_folders(project).into_iter().map(line).collect()
}

/// `2026-03-01 09:30 UTC; macro F1 0.981±0.004, svm · bytes · random_split; --set feature.packets=8`; `None` for runs
/// of versions that stored none of it.
fn run_details(facts: &RunFacts) -> Option<String> {
    // Seconds are only for machines.
    let started = facts.invocation.started.as_deref();
    let started = started.map(|text| format!("{} UTC", text.get(..16).unwrap_or(text).replace('T', " ")));
    let best = facts.best.as_ref().map(ToString::to_string);
    // Dataset and size are in the run's name.
    let overrides = facts.invocation.overrides.iter().map(String::as_str);
    let overrides = overrides.filter(|text| !text.starts_with("--data ") && !text.starts_with("--size "));
    let overrides = Some(overrides.collect::<Vec<_>>().join(" ")).filter(|text| !text.is_empty());
    let details: Vec<String> = [started, best, overrides].into_iter().flatten().collect();
    (!details.is_empty()).then(|| details.join("; "))
}

/// Returns the same as JSON.
fn as_json(project: &Path, what: impl Iterator<Item = What>) -> Value {
    let entry = |what| match what {
        What::Experiments => {
            let one = |(name, title)| match title {
                Ok(title) => json!({"name": name, "title": title}),
                Err(error) => json!({"name": name, "problem": error}),
            };
            ("experiments", experiment_titles(project).into_iter().map(one).collect::<Vec<_>>())
        }
        What::Datasets => {
            let one = |listed: ListedDataset| {
                let ListedDataset { name, title, state, files, licence } = listed;
                json!({"name": name, "title": title, "state": state, "files": files, "licence": licence})
            };
            ("datasets", data::listed(project).into_iter().map(one).collect())
        }
        What::Runs => ("runs", run_folders(project).iter().map(|folder| run_as_json(folder)).collect()),
        What::Models => {
            let files =
                model_files(project).map(|(path, bytes)| json!({"path": path.display().to_string(), "bytes": bytes}));
            ("models", files.collect())
        }
    };
    what.map(entry).map(|(name, list)| (name.to_owned(), Value::from(list))).collect::<serde_json::Map<_, _>>().into()
}

fn run_as_json(folder: &Path) -> Value {
    match RunFacts::read(folder) {
        Ok(facts) => json!({
            "name": name(folder),
            "folder": folder.display().to_string(),
            "experiment": facts.experiment,
            "title": facts.title,
            "datasets": facts.datasets,
            "size": facts.size,
            "seeds": facts.seeds,
            "fits": facts.fits.len(),
            "commit": facts.provenance.commit,
            "command": facts.invocation.command,
            "overrides": facts.invocation.overrides,
            "started": facts.invocation.started,
            "wall_seconds": facts.invocation.wall_seconds,
            "best": facts.best,
            "older": StoredRun::is_kept(folder),
        }),
        Err(error) => json!({"name": name(folder), "problem": error.to_string()}),
    }
}

fn models(project: &Path) -> Vec<String> {
    let line = |(path, bytes): (PathBuf, u64)| format!("{} [{:.1} MB]", path.display(), bytes as f64 / 1e6);
    model_files(project).map(line).collect()
}

/// Returns the models that runs saved, each with its size in bytes.
fn model_files(project: &Path) -> impl Iterator<Item = (PathBuf, u64)> {
    let files = run_folders(project).into_iter().flat_map(|folder| entries(&folder.join("models")));
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    files.map(|path| {
        let bytes = std::fs::metadata(&path).map_or(0, |file| file.len());
        (path, bytes)
    })
}
