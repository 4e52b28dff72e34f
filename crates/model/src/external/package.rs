//! A model's folder, and the models that are known by name: those in `models/` of the project, and those that an
//! experiment names with a path. Each becomes an entry like those of the table of models. Entries live as long as the
//! process, one per name and content, since all else refers to models by reference.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use super::classifier::External;
use super::manifest::{Gpu, Manifest};
use super::{MANIFEST, digest};
use crate::{ModelArchive, ModelEntry, ModelError, ModelKind};

/// A model's folder, read.
#[derive(Debug, PartialEq)]
pub struct Package {
    /// The name in experiments, records and tables.
    pub name: String,
    /// The folder, absolute.
    pub folder: PathBuf,
    /// The folder as an experiment names it; none for one in `models/`.
    pub path: Option<String>,
    /// Its `model.toml`.
    pub manifest: Manifest,
    /// The hash of its content.
    pub digest: String,
}

/// What is known in this process.
struct Known {
    project: PathBuf,
    entries: Vec<&'static ModelEntry>,
}

static KNOWN: RwLock<Option<Known>> = RwLock::new(None);

/// Says in which project's folder `models/` and the paths of experiments are. Until then no external model is known.
pub fn set_project(folder: &Path) {
    let project = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let entries = known.take().map_or_else(Vec::new, |known| known.entries);
    *known = Some(Known { project, entries });
}

/// The project's folder.
pub(super) fn project() -> Option<PathBuf> {
    KNOWN.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|known| known.project.clone())
}

/// The names of the models in the project's `models/`, sorted.
pub fn names() -> Vec<String> {
    let Some(project) = project() else { return Vec::new() };
    let entries = std::fs::read_dir(project.join("models")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join(MANIFEST).is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// The external model of this name in `models/`; none where there is no such folder.
///
/// # Errors
/// A folder whose manifest cannot be used, or that has the name of a native model.
pub(crate) fn named(name: &str) -> Result<Option<ModelKind>, ModelError> {
    // A name is one part of a path.
    let is_plain = Path::new(name).components().count() == 1 && Path::new(name).file_name() == Some(name.as_ref());
    let Some(project) = project().filter(|_| is_plain) else { return Ok(None) };
    let folder = project.join("models").join(name);
    if !folder.join(MANIFEST).is_file() {
        return Ok(None);
    }
    open(name, folder, None).map(Some)
}

/// The external model in the folder `path`, relative to the project's.
///
/// # Errors
/// A folder without a manifest, or as [`named`].
pub(crate) fn at(name: &str, path: &str) -> Result<ModelKind, ModelError> {
    let folder = project().unwrap_or_default().join(path);
    if !folder.join(MANIFEST).is_file() {
        let problem = format!("path = \"{path}\": there is no {}", folder.join(MANIFEST).display());
        return Err(refused(name, problem));
    }
    open(name, folder, Some(path.to_owned()))
}

fn refused(name: &str, problem: String) -> ModelError {
    ModelError::Parameters { model: name.to_owned(), problem }
}

fn open(name: &str, folder: PathBuf, path: Option<String>) -> Result<ModelKind, ModelError> {
    let problem = |problem: String| refused(name, problem);
    if ModelKind::named(name).is_some() {
        return Err(problem(format!(
            "{} has the name of a model of etcbench, which would be taken in its place; rename the folder",
            folder.display()
        )));
    }
    if !name.chars().all(|character| character.is_ascii_alphanumeric() || "_-".contains(character)) {
        return Err(problem("the name becomes part of file names: letters, digits, `_` and `-` only".to_owned()));
    }
    let manifest_path = folder.join(MANIFEST);
    let text = std::fs::read_to_string(&manifest_path)
        .map_err(|error| problem(format!("{}: {error}", manifest_path.display())))?;
    let manifest = Manifest::parse(&text, &manifest_path.display().to_string()).map_err(problem)?;
    let digest = digest::digest(&folder, &manifest).map_err(problem)?;
    let package = Package { name: name.to_owned(), folder, path, manifest, digest };
    Ok(ModelKind::of(intern(package)))
}

/// The one entry of a package.
fn intern(package: Package) -> &'static ModelEntry {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_with(|| Known { project: PathBuf::new(), entries: Vec::new() });
    if let Some(entry) = known.entries.iter().find(|entry| entry.external == Some(&package)) {
        return entry;
    }
    let package: &'static Package = Box::leak(Box::new(package));
    let entry: &'static ModelEntry = Box::leak(Box::new(ModelEntry {
        name: &package.name,
        summary: &package.manifest.title,
        version: 1,
        inputs: &package.manifest.inputs,
        reads_input: true,
        deep: package.manifest.needs.gpu != Gpu::None,
        proposed: false,
        usual: false,
        agreement: None,
        reference_row_limit: None,
        sequences: |_, _| Ok(()),
        elmo: None,
        external: Some(package),
        build: |spec| Ok(Box::new(External::new(spec)?)),
        load: |_, archive| Ok(Box::new(External::from_archive(archive)?)),
    }));
    known.entries.push(entry);
    entry
}

/// The metadata of a stored model that names its folder where that is not in `models/`.
pub(super) const PATH: &str = "external_path";

/// Makes the external model of a stored one known, where it was given by a path.
pub(crate) fn of_archive(archive: &ModelArchive) -> Result<(), ModelError> {
    match (archive.metadata.get("model"), archive.metadata.get(PATH)) {
        (Some(name), Some(path)) => at(name, path).map(drop),
        _ => Ok(()),
    }
}

/// The last model of this name that became known, in `models/` or by a path.
pub(crate) fn known(name: &str) -> Option<ModelKind> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    known.as_ref()?.entries.iter().rev().find(|entry| entry.name == name).map(|entry| ModelKind::of(entry))
}
