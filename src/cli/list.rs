//! `etcbench list`: the experiments, datasets, runs and models of a project.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, ValueEnum};

use super::{Verdict, data};
use crate::experiment::results_folder;
use crate::project::experiment_titles;
use crate::report::{RunFacts, StoredRun};

/// `etcbench list`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench list
  etcbench list runs
  etcbench list models")]
pub(super) struct ListArguments {
    /// Only these; everything when not given.
    what: Option<What>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// The experiment files in experiments/.
    Experiments,
    /// The datasets with a definition in data/, and whether their captures are here.
    Datasets,
    /// The runs in results/, the last first; older ones that were kept are NAME.1, NAME.2, ....
    Runs,
    /// The models that runs saved, for `etcbench classify`.
    Models,
}

/// Prints what there is.
pub(super) fn list(project: &Path, arguments: &ListArguments) -> anyhow::Result<Verdict> {
    let all = [What::Experiments, What::Datasets, What::Runs, What::Models];
    for what in all.into_iter().filter(|what| arguments.what.is_none_or(|asked| asked == *what)) {
        let (title, lines) = match what {
            What::Experiments => ("Experiments", experiments(project)),
            What::Datasets => ("Datasets", data::lines(project)),
            What::Runs => ("Runs, the last first", runs(project)),
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

/// The entries of a folder in order of their names; none where it is not there.
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

/// The folders of runs, the last written first.
fn run_folders(project: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<(SystemTime, PathBuf)> = Vec::new();
    for folder in entries(&results_folder(project)) {
        if name(&folder).starts_with('.') {
            continue;
        }
        if let Ok(file) = std::fs::metadata(folder.join("run.json")) {
            folders.push((file.modified().unwrap_or(SystemTime::UNIX_EPOCH), folder));
        }
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
            let (seeds, fits) = (facts.seeds.len(), facts.fits.len());
            let older = if StoredRun::is_kept(&folder) { ", older" } else { "" };
            format!("{}: {title} [{seeds} seeds, {fits} fits, {commit}{older}]", name(&folder))
        }
        // A listing does not fail because of one folder.
        Err(error) => format!("{}: cannot be read ({error})", name(&folder)),
    };
    run_folders(project).into_iter().map(line).collect()
}

fn models(project: &Path) -> Vec<String> {
    let files = run_folders(project).into_iter().flat_map(|folder| entries(&folder.join("models")));
    let line = |path: PathBuf| {
        let bytes = std::fs::metadata(&path).map_or(0, |file| file.len());
        format!("{} [{:.1} MB]", path.display(), bytes as f64 / 1e6)
    };
    files.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors")).map(line).collect()
}
