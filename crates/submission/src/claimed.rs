//! The claims of a bundle: the run's folder, the checked part of `run.json`, and the experiment. A bundle is read
//! without the folders of external models: these models are removed from the experiment and known only by name.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::bundle::Bundle;
use super::rules::Finding;
use super::{SubmissionError, io};
use etcbench_experiment::{CaptureFacts, Cost, Experiment, LadderOverrides, LeftOutVariant, Overrides, RunKey};
use etcbench_feature::Unselected;
use etcbench_model::external::FailureKind;
use etcbench_model::{Claims, ModelKind, Pretraining, StageTime};
use etcbench_report::{ReportError, RunFacts, StoredRun, read_leaks, read_records};
use etcbench_split::SmallClass;
use etcbench_storage::{self as storage, TemporaryFolder};

/// Prefix of temporary folders.
const PREFIX: &str = "etcbench-bundle-";
/// The file with the published numbers of a bundle's experiment; the check copies it to a folder of published tables.
pub(super) const PUBLISHED: &str = "published.csv";
/// The folder of published tables.
const PUBLISHED_FOLDER: &str = "published";

/// The part of a `run.json` that is checked.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RunFile {
    pub experiment: String,
    pub title: String,
    pub datasets: Vec<String>,
    pub size: String,
    pub seeds: Vec<u64>,
    #[serde(default)]
    pub manifests: Vec<ManifestHash>,
    #[serde(default)]
    pub models: Vec<ModelFacts>,
    pub captures: Vec<CaptureFacts>,
    pub variants: Vec<VariantFacts>,
    pub fits: Vec<FitFacts>,
    #[serde(default)]
    pub left_out: Vec<LeftOutVariant>,
    #[serde(default)]
    pub failures: Vec<FailureFacts>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ManifestHash {
    pub dataset: String,
    pub sha256: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ModelFacts {
    pub name: String,
    pub summary: String,
    pub version: u32,
    pub external: Option<serde_json::Value>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct VariantFacts {
    pub name: String,
    pub flows: usize,
    pub flows_per_class: Vec<(String, usize)>,
    #[serde(default)]
    pub unselected: Unselected,
    pub small_classes: Vec<SmallClass>,
    pub shared_captures: Vec<SharedCaptures>,
}

impl VariantFacts {
    pub(super) fn class_names(&self) -> Vec<String> {
        self.flows_per_class.iter().map(|(name, _)| name.clone()).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct SharedCaptures {
    pub seed: u64,
    pub fold: usize,
    pub first: String,
    pub second: String,
    pub captures: usize,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct FitFacts {
    #[serde(flatten)]
    pub key: RunKey,
    pub reused: bool,
    pub setting: Option<String>,
    pub cache_key: String,
    pub fit: Option<Cost>,
    pub predict: Option<Cost>,
    pub stages: Vec<StageTime>,
    pub notes: Vec<String>,
    #[serde(default)]
    pub claims: Claims,
    pub pretraining: Option<Pretraining>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct FailureFacts {
    #[serde(flatten)]
    pub key: RunKey,
    pub kind: FailureKind,
    pub problem: String,
    pub standard_error: Vec<String>,
}

/// A bundle's claims.
pub(super) struct Claimed {
    /// The run's folder, written from the bundle's files; removed when dropped.
    folder: TemporaryFolder,
    pub run: RunFile,
    pub stored: StoredRun,
    /// Without the models in `unknown`.
    pub experiment: Experiment,
    /// The external models of the experiment, and ensembles with them.
    pub unknown: Vec<String>,
}

impl Claimed {
    /// Reads a bundle; problems become findings.
    ///
    /// # Errors
    /// A temporary folder cannot be written.
    pub(super) fn read(bundle: &Bundle, findings: &mut Vec<Finding>) -> Result<Option<Self>, SubmissionError> {
        let folder = TemporaryFolder::new(PREFIX).map_err(io(Path::new("a temporary folder")))?;
        let place = folder.path().join("run");
        let before = findings.len();
        for (name, content) in &bundle.files {
            let path = place.join(name);
            write(&path, content).map_err(io(&path))?;
        }
        let mut found = |place: &str, problem: &dyn std::fmt::Display| {
            // The temporary folder means nothing to the user.
            let problem = problem.to_string().replace(&format!("{}/run/", folder.path().display()), "");
            findings.push(Finding::new("format", place, problem));
        };
        let text = bundle.files.get("run.json").map(Vec::as_slice).unwrap_or_default();
        let run = serde_json::from_slice::<RunFile>(text).map_err(|error| found("run.json", &error)).ok();
        let stored = read_stored(&place, text).map_err(|(name, problem)| found(name, &problem)).ok();
        let experiment = run.as_ref().and_then(|run| {
            let text = bundle.files.get("experiment.toml").map(Vec::as_slice).unwrap_or_default();
            read_experiment(&String::from_utf8_lossy(text), run, &folder.path().join("experiments"))
                .map_err(|error| found("experiment.toml", &error))
                .ok()
        });
        if let (Some(run), Some(content)) = (&run, bundle.files.get(PUBLISHED)) {
            let path = folder.path().join(PUBLISHED_FOLDER).join(format!("{}.csv", run.experiment));
            // The name is untrusted: use it only if it is a valid file name.
            if storage::declarative::as_file_name(&run.experiment).is_ok() {
                write(&path, content).map_err(io(&path))?;
            }
        }
        if findings.len() > before {
            return Ok(None);
        }
        let (Some(run), Some(stored), Some((experiment, unknown))) = (run, stored, experiment) else { return Ok(None) };
        Ok(Some(Self { folder, run, stored, experiment, unknown }))
    }

    /// Returns the run's folder.
    pub(super) fn folder(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Returns the folder of its published numbers.
    pub(super) fn published(&self) -> PathBuf {
        self.folder.path().join(PUBLISHED_FOLDER)
    }

    /// Returns the experiment with all of its models, which the project must have.
    pub(super) fn whole_experiment(&self, bundle: &Bundle) -> Result<Experiment, String> {
        let text = bundle.files.get("experiment.toml").map(Vec::as_slice).unwrap_or_default();
        let table =
            String::from_utf8_lossy(text).parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
        read_table(&table, &self.run, &self.folder.path().join("whole"))
    }

    /// Returns whether all predictions were imported.
    pub(super) fn is_imported(&self) -> bool {
        let imported = etcbench_model::Implementation::IMPORTED;
        !self.run.fits.is_empty() && self.run.fits.iter().all(|fit| fit.key.implementation == imported)
    }

    /// Returns whether the experiment names a model.
    pub(super) fn names_model(&self, name: &str) -> bool {
        let models = self.stored.experiment.get("models").and_then(toml::Value::as_array);
        models.into_iter().flatten().any(|model| model.as_str() == Some(name))
    }

    /// Returns the paths of the files in a folder of the bundle, sorted.
    pub(super) fn files_in(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder().join(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| format!("{folder}/{}", entry.file_name().to_string_lossy())).collect();
        names.sort();
        names
    }

    /// Returns the name of a split in the names of a variant's files.
    pub(super) fn split_name(splits_per_seed: usize, seed: u64, fold: usize) -> String {
        if splits_per_seed > 1 { format!("seed{seed}-fold{fold}") } else { format!("seed{seed}") }
    }
}

/// Writes a file of a temporary folder, which need not be durable.
fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::write(path, content)
}

/// Reads the run in a bundle's folder, which has its records only as CSV; the error is the file that cannot be read and
/// the reason.
fn read_stored(folder: &Path, information: &[u8]) -> Result<StoredRun, (&'static str, String)> {
    let in_file = |name: &'static str| move |error: ReportError| (name, error.to_string());
    let experiment = "experiment.toml";
    let experiment_file =
        std::fs::read_to_string(folder.join(experiment)).map_err(|error| (experiment, error.to_string()))?;
    Ok(StoredRun {
        folder: folder.to_owned(),
        name: String::new(),
        experiment: experiment_file
            .parse()
            .map_err(|error: toml::de::Error| (experiment, error.message().to_owned()))?,
        experiment_file,
        facts: RunFacts::read(folder).map_err(in_file("run.json"))?,
        information: serde_json::from_slice(information).map_err(|error| ("run.json", error.to_string()))?,
        records: read_records(&folder.join("records.csv")).map_err(in_file("records.csv"))?,
        leaks: read_leaks(&folder.join("leaks.json")).map_err(in_file("leaks.json"))?,
    })
}

/// Reads a resolved experiment without the models unknown to this program; also returns the names of those.
fn read_experiment(text: &str, run: &RunFile, folder: &Path) -> Result<(Experiment, Vec<String>), String> {
    let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    let unknown = take_out_unknown(&mut table);
    Ok((read_table(&table, run, folder)?, unknown))
}

/// Reads a resolved experiment with the name and size of the run; its file is written to `folder`.
fn read_table(table: &toml::Table, run: &RunFile, folder: &Path) -> Result<Experiment, String> {
    let ladder = table.contains_key("ladder") && run.experiment.ends_with(etcbench_experiment::LADDER);
    let name = match ladder {
        true => run.experiment.trim_end_matches(etcbench_experiment::LADDER),
        false => &run.experiment,
    };
    storage::declarative::as_file_name(name).map_err(|problem| format!("the experiment's name {name:?} {problem}"))?;
    let path = folder.join(format!("{name}.toml"));
    write(&path, table.to_string().as_bytes()).map_err(|error| error.to_string())?;
    let seeds = |table: &toml::Table| -> Option<Vec<u64>> {
        table.get("seeds")?.as_array()?.iter().map(|seed| u64::try_from(seed.as_integer()?).ok()).collect()
    };
    let variants = table.get("variant").and_then(toml::Value::as_table);
    let overrides = match ladder {
        true => Overrides {
            ladder: Some(LadderOverrides::default()),
            // A ladder uses only the first seed by default.
            seeds: seeds(table),
            variants: variants.map_or_else(Vec::new, |variants| variants.keys().cloned().collect()),
            ..Overrides::default()
        },
        false => Overrides::default(),
    };
    let read = etcbench_experiment::read_experiment(&path, &overrides);
    let mut experiment =
        read.map_err(|error| error.to_string().replace(&path.display().to_string(), "the experiment"))?;
    experiment.size.clone_from(&run.size);
    if ladder {
        experiment.title = table.get("title").and_then(toml::Value::as_str).unwrap_or_default().to_owned();
    }
    Ok(experiment)
}

/// Removes external models, and ensembles with them, from a resolved experiment and returns their names.
fn take_out_unknown(table: &mut toml::Table) -> Vec<String> {
    let names = |value: Option<&toml::Value>| -> Vec<String> {
        let list = value.and_then(toml::Value::as_array).into_iter().flatten();
        list.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let models = names(table.get("models"));
    let is_known = |name: &str| ModelKind::named(name).is_some();
    let members = |name: &str| names(table.get("model").and_then(|all| all.get(name)?.get("of")));
    // A member may be named as NAME:INPUT.
    let model_of = |member: &str| member.split(':').next().unwrap_or_default().to_owned();
    let unknown: Vec<String> = models
        .iter()
        .filter(|name| !is_known(name) || members(name).iter().any(|member| !is_known(&model_of(member))))
        .cloned()
        .collect();
    let is_left = |name: &&String| !unknown.contains(*name);
    let mut left: Vec<toml::Value> = models.iter().filter(is_left).map(|name| name.as_str().into()).collect();
    let none_left = left.is_empty() && !unknown.is_empty();
    if none_left {
        // An experiment needs at least one model; this one reads nothing, and its fits are not required.
        left.push(stand_in().into());
    }
    if !unknown.is_empty() {
        table.insert("models".to_owned(), toml::Value::Array(left));
    }
    // The keys of models that are not listed would also be read, and the folders that they name.
    let without = |models: &mut toml::Table| {
        models.retain(|name, _| is_known(name) && unknown.iter().all(|unknown| unknown != name))
    };
    if let Some(models) = table.get_mut("model").and_then(toml::Value::as_table_mut) {
        without(models);
    }
    if let Some(toml::Value::Table(variants)) = table.get_mut("variant") {
        for (_, variant) in variants.iter_mut() {
            if let Some(models) = variant.get_mut("model").and_then(toml::Value::as_table_mut) {
                without(models);
            }
        }
    }
    if let Some(space) =
        table.get_mut("tune").and_then(|tune| tune.get_mut("space")).and_then(toml::Value::as_table_mut)
    {
        without(space);
        if none_left {
            space.insert(stand_in().to_owned(), toml::Value::Table(toml::Table::new()));
        }
    }
    unknown
}

/// Returns the placeholder model, which reads no input, so that any data works.
pub(super) fn stand_in() -> &'static str {
    let reads_nothing = |kind: &ModelKind| !kind.entry().reads_input;
    ModelKind::all().find(reads_nothing).expect("the table of models has one that only counts classes").name()
}
