//! Datasets of a project by name: where their definitions and captures are, and the generated one, which is written on
//! first use.

use std::path::Path;

use super::run::Settings;
use super::{Experiment, ExperimentError};
use etcbench_dataset as dataset;
use etcbench_dataset::{Dataset, DatasetDefinition};
use etcbench_model::pretraining::Pretrainable;
use etcbench_storage::declarative;
use etcbench_storage::progress::Progress;
use etcbench_storage::{Turn, WholeFolder, is_file_or_stock};

/// The dataset whose captures are generated if missing.
pub(super) const GENERATED: &str = "synth";
/// The dataset whose captures are part of the repository.
const RECORDED: &str = "lab";

/// Checks that the captures of every dataset of `experiment` are present, so that a run of several experiments does not
/// fail halfway for lack of data.
///
/// # Errors
/// A dataset is unknown or its captures are missing.
pub fn require_data(experiment: &Experiment, project: &Path) -> Result<(), ExperimentError> {
    for name in experiment.datasets.iter().filter(|name| *name != GENERATED) {
        find_labelled(experiment, name, project)?;
    }
    for name in super::pretraining::corpus_datasets(experiment)?.iter().filter(|name| *name != GENERATED) {
        find(&hint(&experiment.name, project), name, project)?;
    }
    Ok(())
}

/// Returns a command that uses available data instead of a missing dataset: the recorded captures in the repository, or
/// generated ones.
pub fn on_what_is_here(command: &str, project: &Path) -> String {
    let is_recorded = project.join("data").join(RECORDED).is_dir();
    format!("{command} --data {} --size demo", if is_recorded { RECORDED } else { GENERATED })
}

fn hint(experiment: &str, project: &Path) -> String {
    on_what_is_here(&format!("etcbench run {experiment}"), project)
}

pub(super) fn find_labelled(experiment: &Experiment, name: &str, project: &Path) -> Result<Dataset, ExperimentError> {
    let dataset = find(&hint(&experiment.name, project), name, project)?;
    if dataset.definition.is_labelled() {
        return Ok(dataset);
    }
    let corpora: Vec<String> = Pretrainable::all().map(|model| model.key("corpus")).collect();
    Err(ExperimentError::UnknownDataset {
        name: name.to_owned(),
        problem: format!(
            "its captures have no labels, so they cannot be classified; use it in {}, which requires none",
            corpora.join(" or ")
        ),
    })
}

pub(super) fn find(hint: &str, name: &str, project: &Path) -> Result<Dataset, ExperimentError> {
    let path = dataset::definition_path(project, name);
    if !is_file_or_stock(&path) {
        let known = dataset_names(project);
        return Err(ExperimentError::UnknownDataset {
            name: name.to_owned(),
            problem: format!(
                "{} does not exist{} (known: {})",
                path.display(),
                declarative::did_you_mean(name, known.iter().map(String::as_str)),
                known.join(", ")
            ),
        });
    }
    let definition = DatasetDefinition::read(&path)?;
    let folder = dataset::locate(&definition, project, hint)?;
    Ok(Dataset { definition, folder })
}

/// Returns the names of all defined datasets of a project, sorted.
pub fn dataset_names(project: &Path) -> Vec<String> {
    declarative::names(&project.join("data"))
}

/// Generates the captures of `synth` into `data/synth` unless they exist.
///
/// # Errors
/// Any error while writing them.
pub(super) fn generate_if_absent(settings: &Settings, progress: &dyn Progress) -> Result<(), ExperimentError> {
    let folder = settings.project.join("data").join(GENERATED);
    let exists = || folder.exists().then_some(());
    if let Turn::Ours(_claim) = settings.cache.look_up("captures", GENERATED, progress, exists) {
        let problem =
            |error: std::io::Error| ExperimentError::Store { path: folder.clone(), problem: error.to_string() };
        // All or nothing: an existing folder is complete.
        let staging = WholeFolder::new(&folder).map_err(problem)?;
        (settings.generator)(staging.path(), progress).map_err(ExperimentError::Generate)?;
        // Without a cache there are no claims. If another process was faster, its captures have the same bytes.
        match staging.put_in_empty_place() {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(problem(error)),
            _ => {}
        }
    }
    Ok(())
}
