//! Packs a run's folder: everything from which its results can be computed again, and what it states about its models and data.

use std::path::Path;

use super::archive::Files;
use super::bundle::{Bundle, sha256};
use super::card::{Licences, Weights, cards};
use super::check_evaluation::{EVALUATION, EVALUATION_FOLDER};
use super::claimed::{PUBLISHED, RunFile};
use super::data_card::{self, DATA};
use super::{SubmissionError, io};
use etcbench_report::{RunHeading, StoredRun, integrity, run_table_texts};
use etcbench_storage::{self as storage, TemporaryFolder};

/// A packed run.
pub struct Packed {
    /// The archive's bytes.
    pub bytes: Vec<u8>,
    /// The name of its file: `RUN-IDENTITY.etcbundle`.
    pub name: String,
    /// The bundle's identity: the SHA-256 of its index.
    pub identity: String,
}

/// The folders of a run whose files are packed, and the file extension in each.
const FOLDERS: [(&str, &str); 5] = [
    ("manifests", ".json"),
    ("flows", ".csv"),
    ("splits", ".csv"),
    ("predictions", ".csv"),
    (EVALUATION_FOLDER, ".csv"),
];

/// The project's folder of published tables.
pub(super) const PUBLISHED_TABLES: &str = "paper/published";

/// Packs the run in a folder. `project` is the folder of the project with the published tables and the definitions of
/// datasets; `licences` are stated for the weights of all models, and for the code of imported ones.
///
/// # Errors
/// The run cannot be read, was edited, or is from a version that did not store the classes of flows.
pub fn pack(run: &Path, project: &Path, licences: &Licences) -> Result<Packed, SubmissionError> {
    storage::read_folder(run, || pack_now(run, project, licences))
}

fn pack_now(folder: &Path, project: &Path, licences: &Licences) -> Result<Packed, SubmissionError> {
    let published = &project.join(PUBLISHED_TABLES);
    let refused = |problem: String| SubmissionError::Run { run: folder.to_owned(), problem };
    let stored = StoredRun::read(folder)?;
    if let Some(problem) = integrity(&stored)?.first() {
        return Err(refused(format!("the run was changed after it was written and is not packed: {problem}")));
    }
    let read = |name: &str| std::fs::read(folder.join(name)).map_err(io(&folder.join(name)));
    let run: RunFile = serde_json::from_slice(&read("run.json")?).map_err(|error| {
        refused(format!(
            "its run.json is from another version ({error}); run it again, which takes its fits from the cache"
        ))
    })?;
    if !run.variants.iter().all(|variant| folder.join(format!("flows/{}.csv", variant.name)).is_file()) {
        return Err(refused(
            "there are no flows/*.csv, which earlier versions did not write; run it again, which takes its fits from \
             the cache"
                .to_owned(),
        ));
    }
    let mut files = Files::new();
    for name in ["experiment.toml", "run.json", "records.csv", "comparisons.csv", "leaks.json"] {
        files.insert(name.to_owned(), read(name)?);
    }
    for (below, ending) in FOLDERS {
        for name in names(&folder.join(below), &[ending]).map_err(io(&folder.join(below)))? {
            let name = format!("{below}/{name}");
            // Other files of the user are not packed.
            if is_of_run(&run, &name) {
                files.insert(name.clone(), read(&name)?);
            }
        }
    }
    let path = published.join(format!("{}.csv", run.experiment));
    if let Ok(content) = storage::or_stock(&path, std::fs::read(&path)) {
        files.insert(PUBLISHED.to_owned(), content);
    }
    if folder.join(EVALUATION).is_file() {
        files.insert(EVALUATION.to_owned(), read(EVALUATION)?);
    }
    files.extend(tables(&stored, &files, published)?);
    let mut cards = cards(&run, &stored.experiment);
    let models = folder.join("models");
    for name in names(&models, &[".safetensors"]).unwrap_or_default() {
        let owner = run.fits.iter().find(|fit| {
            let key = &fit.key;
            name.starts_with(&format!("{}-{}-{}-seed{}", key.variant, key.model, key.input, key.seed))
        });
        let card = owner.and_then(|fit| cards.iter_mut().find(|card| card.model == fit.key.model));
        if let Some(card) = card {
            let bytes = std::fs::read(models.join(&name)).map_err(io(&models))?;
            card.weights.push(Weights { file: name, sha256: sha256(&bytes) });
        }
    }
    for licence in cards.iter_mut().filter_map(|card| card.licence.as_mut()) {
        licence.weights.clone_from(&licences.weights);
        licence.code = licence.code.take().or_else(|| licences.code.clone());
    }
    let manifests: Vec<String> = run.manifests.iter().map(|manifest| manifest.dataset.clone()).collect();
    let data = data_card::data_cards(&manifests, &folder.join("manifests"), project);
    files.insert("cards.json".to_owned(), json(&cards)?);
    files.insert(DATA.to_owned(), json(&data)?);
    let bundle = Bundle::of(files)?;
    let name = format!("{}-{}-{}", run.experiment, run.datasets.join("+"), run.size);
    Ok(Packed { bytes: bundle.to_bytes()?, name: bundle.file_name(&name), identity: bundle.identity })
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, SubmissionError> {
    let mut json = serde_json::to_vec_pretty(value).map_err(|error| SubmissionError::Internal(error.to_string()))?;
    json.push(b'\n');
    Ok(json)
}

/// Returns whether a file belongs to the run, according to `run.json`.
fn is_of_run(run: &RunFile, name: &str) -> bool {
    let Some((below, name)) = name.split_once('/') else { return true };
    match below {
        "manifests" => run.manifests.iter().any(|manifest| name == format!("{}.json", manifest.dataset)),
        "flows" => run.variants.iter().any(|variant| name == format!("{}.csv", variant.name)),
        "splits" => run
            .variants
            .iter()
            .any(|variant| run.seeds.iter().any(|seed| is_of_split(name, &format!("{}-seed{seed}", variant.name)))),
        _ => run.fits.iter().any(|fit| {
            let key = &fit.key;
            is_of_split(name, &format!("{}-{}-{}-seed{}", key.variant, key.model, key.input, key.seed))
        }),
    }
}

/// Returns whether a file's name is `start`, optionally followed by a fold.
fn is_of_split(name: &str, start: &str) -> bool {
    let rest = name.strip_prefix(start).and_then(|rest| rest.strip_suffix(".csv"));
    let is_fold = |rest: &str| {
        rest.strip_prefix("-fold")
            .is_some_and(|fold| !fold.is_empty() && fold.bytes().all(|digit| digit.is_ascii_digit()))
    };
    rest.is_some_and(|rest| rest.is_empty() || is_fold(rest))
}

/// Generates the tables from the packed files.
fn tables(stored: &StoredRun, files: &Files, published: &Path) -> Result<Files, SubmissionError> {
    let temporary = TemporaryFolder::new("etcbench-pack-").map_err(io(Path::new("a temporary folder")))?;
    let place = temporary.path();
    for (name, content) in files {
        let path = place.join(name);
        storage::create_folder(path.parent().unwrap_or(place)).map_err(io(&path))?;
        std::fs::write(&path, content).map_err(io(&path))?;
    }
    let texts = run_table_texts(published, &RunHeading::of_stored(stored), &stored.records, place)?;
    Ok(texts.into_iter().map(|(name, text)| (format!("tables/{name}"), text.into_bytes())).collect())
}

/// Returns the names of the files in a folder with one of these extensions, sorted; empty if the folder does not exist.
fn names(folder: &Path, endings: &[&str]) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(entries) => {
            for entry in entries {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if endings.iter().any(|ending| name.ends_with(ending)) {
                    names.push(name);
                }
            }
        }
    }
    names.sort();
    Ok(names)
}
