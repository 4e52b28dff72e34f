//! A model's folder, and the external models known by name: those in the project's `models/`, and those that an
//! experiment gives with a path. Each becomes an entry like those of the built-in models. There is one entry per name
//! and content, and it lives as long as the process, because everything else refers to models by reference.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use super::classifier::External;
use super::manifest::{Gpu, Manifest};
use super::{MANIFEST, digest};
use crate::{ModelArchive, ModelEntry, ModelError, ModelKind};

/// A model's folder after reading it.
#[derive(Debug, PartialEq)]
pub struct Package {
    /// Name in experiments, records and tables.
    pub name: String,
    /// Absolute path of the folder.
    pub folder: PathBuf,
    /// Path of the folder in an experiment; `None` if it is in `models/`.
    pub path: Option<String>,
    /// Its `model.toml`.
    pub manifest: Manifest,
    /// Hash of its content.
    pub digest: String,
}

/// The external models known to this process.
struct Known {
    project: PathBuf,
    entries: Vec<&'static ModelEntry>,
}

static KNOWN: RwLock<Option<Known>> = RwLock::new(None);

/// Sets the project's folder, which contains `models/` and to which paths in experiments are relative. No external
/// model is known before this call.
pub fn set_project(folder: &Path) {
    let project = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let entries = known.take().map_or_else(Vec::new, |known| known.entries);
    *known = Some(Known { project, entries });
}

/// Returns the project's folder.
pub(super) fn project() -> Option<PathBuf> {
    KNOWN.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|known| known.project.clone())
}

/// Returns the names of the models in the project's `models/`, sorted.
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

/// Returns the external model with this name in `models/`; `None` if there is no such folder.
///
/// # Errors
/// A folder whose manifest is invalid, or that has the name of a built-in model.
pub(crate) fn named(name: &str) -> Result<Option<ModelKind>, ModelError> {
    // A name must be a single path component.
    let is_plain = Path::new(name).components().count() == 1 && Path::new(name).file_name() == Some(name.as_ref());
    let Some(project) = project().filter(|_| is_plain) else { return Ok(None) };
    let folder = project.join("models").join(name);
    if !folder.join(MANIFEST).is_file() {
        return Ok(None);
    }
    open(name, folder, None).map(Some)
}

/// Returns the external model in the folder `path`, relative to the project's folder.
///
/// # Errors
/// A folder without a manifest, and the errors of [`named`].
pub(crate) fn at(name: &str, path: &str) -> Result<ModelKind, ModelError> {
    let folder = project().unwrap_or_default().join(path);
    if !folder.join(MANIFEST).is_file() {
        let problem = format!("path = \"{path}\": {} does not exist", folder.join(MANIFEST).display());
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
            "{} has the name of a built-in model, which would be used instead; rename the folder",
            folder.display()
        )));
    }
    if !name.chars().all(|character| character.is_ascii_alphanumeric() || "_-".contains(character)) {
        return Err(problem(
            "the name may only contain letters, digits, `_` and `-`, since it becomes part of file names".to_owned(),
        ));
    }
    let manifest_path = folder.join(MANIFEST);
    let text = std::fs::read_to_string(&manifest_path)
        .map_err(|error| problem(format!("{}: {error}", manifest_path.display())))?;
    let manifest = Manifest::parse(&text, &manifest_path.display().to_string()).map_err(problem)?;
    let digest = digest::digest(&folder, &manifest).map_err(problem)?;
    let package = Package { name: name.to_owned(), folder, path, manifest, digest };
    Ok(ModelKind::of(intern(package)))
}

/// Returns the one entry of a package.
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
        pretraining: None,
        external: Some(package),
        build: |spec| Ok(Box::new(External::new(spec)?)),
        load: |_, archive| Ok(Box::new(External::from_archive(archive)?)),
    }));
    known.entries.push(entry);
    entry
}

/// The metadata key of a stored model's folder, if that is not in `models/`.
pub(super) const PATH: &str = "external_path";

/// Registers the external model of a stored one if it was given by a path.
pub(crate) fn of_archive(archive: &ModelArchive) -> Result<(), ModelError> {
    match (archive.metadata.get("model"), archive.metadata.get(PATH)) {
        (Some(name), Some(path)) => at(name, path).map(drop),
        _ => Ok(()),
    }
}

/// Returns the model with this name that was registered last, in `models/` or by a path.
pub(crate) fn known(name: &str) -> Option<ModelKind> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    known.as_ref()?.entries.iter().rev().find(|entry| entry.name == name).map(|entry| ModelKind::of(entry))
}
