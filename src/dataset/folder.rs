//! A dataset's folder: where it lies, and which of its files, and of the members of its zip archives, are
//! captures.

use std::path::{Path, PathBuf};

use super::definition::DatasetDefinition;
use super::error::DatasetError;
use super::rules::without_compression;
use crate::capture::{CaptureSource, archive};

/// The environment variable that names a folder of dataset folders.
pub const DATA_VARIABLE: &str = "ETCBENCH_DATA";
/// The list of what was downloaded into a dataset's folder.
pub(super) const DOWNLOADS_FILE: &str = "downloads.json";
/// How the names of unfinished files begin.
pub(super) const PARTIAL_PREFIX: &str = ".partial-";
/// How many expected files an error names.
const NAMED_FILES: usize = 3;

/// A file of a dataset, or a member of a zip archive in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureFile {
    /// Path relative to the dataset's folder, with `/` as separator; `archive.zip!member` for a member.
    pub path: String,
    /// Size in bytes; of a member, unpacked.
    pub size: u64,
    /// The archive that it is a member of, relative to the dataset's folder.
    pub archive: Option<String>,
}

impl CaptureFile {
    /// Where its bytes are, in a dataset's folder.
    pub fn source(&self, root: &Path) -> CaptureSource {
        match &self.archive {
            Some(archive) => CaptureSource::member(root.join(archive), self.member()),
            None => CaptureSource::file(root.join(&self.path)),
        }
    }

    /// The path that patterns match: an archive is a folder.
    pub(super) fn pattern_path(&self) -> String {
        match &self.archive {
            Some(archive) => format!("{archive}/{}", self.member()),
            None => self.path.clone(),
        }
    }

    /// The path that rules read: a member lies where its archive lies, as if it had been unpacked there.
    pub(super) fn location(&self) -> String {
        match self.archive.as_deref().map(|archive| archive.rsplit_once('/')) {
            None => self.path.clone(),
            Some(None) => self.member().to_owned(),
            Some(Some((folder, _))) => format!("{folder}/{}", self.member()),
        }
    }

    /// The places that its unpacked form may have: beside its archive, or in a folder of the archive's name.
    pub(super) fn unpacked_places(&self) -> Vec<String> {
        let mut places = vec![without_compression(&self.location()).to_owned()];
        if let Some(archive) = &self.archive {
            let folder = archive.rsplit_once('.').map_or(archive.as_str(), |(stem, _)| stem);
            places.push(format!("{folder}/{}", without_compression(self.member())));
        }
        places
    }

    fn member(&self) -> &str {
        let archive = self.archive.as_ref().map_or(0, |archive| archive.len() + 1);
        self.path.get(archive..).unwrap_or_default()
    }
}

/// A dataset's folder and what lies in it, every list in ascending order of paths.
#[derive(Debug, Clone)]
pub struct DatasetFolder {
    /// The folder.
    pub root: PathBuf,
    /// The captures.
    pub captures: Vec<CaptureFile>,
    /// Files that match a pattern but are excluded, with the reason.
    pub excluded: Vec<(CaptureFile, String)>,
    /// Files with labels of single flows.
    pub flow_label_files: Vec<CaptureFile>,
    /// Every other file.
    pub unexpected: Vec<CaptureFile>,
    /// Zip archives whose members cannot be listed, with the reason.
    pub damaged_archives: Vec<(CaptureFile, String)>,
}

/// Finds the folder of a dataset: `$ETCBENCH_DATA/<name>` where the variable is set, then
/// `data/<name>` under the project's root (`<name>` being the definition's `folder` where it has one).
///
/// # Errors
/// [`DatasetError::NotHere`] names the folders tried, the files expected, where they are published and
/// `hint`, the command that runs the same table on embedded data.
pub fn locate(definition: &DatasetDefinition, project_root: &Path, hint: &str) -> Result<DatasetFolder, DatasetError> {
    let set = std::env::var_os(DATA_VARIABLE).filter(|value| !value.is_empty());
    let roots: Vec<PathBuf> = set
        .map(PathBuf::from)
        .into_iter()
        .chain([project_root.join("data")])
        .map(|root| root.join(&definition.folder))
        .collect();
    locate_in(definition, &roots, hint)
}

/// The folder that a download of the dataset goes into: the first that [`locate`] looks in.
pub fn download_folder(definition: &DatasetDefinition, project_root: &Path) -> PathBuf {
    let set = std::env::var_os(DATA_VARIABLE).filter(|value| !value.is_empty());
    set.map_or_else(|| project_root.join("data"), PathBuf::from).join(&definition.folder)
}

/// As [`locate`], in given folders, the first that holds a capture.
///
/// # Errors
/// As [`locate`].
pub fn locate_in(definition: &DatasetDefinition, roots: &[PathBuf], hint: &str) -> Result<DatasetFolder, DatasetError> {
    let mut tried = Vec::new();
    for root in roots {
        if !root.is_dir() {
            tried.push(format!("{} (no such folder)", root.display()));
            continue;
        }
        let folder = open_folder(definition, root)?;
        if !folder.captures.is_empty() {
            return Ok(folder);
        }
        tried.push(format!("{} (no capture in it)", root.display()));
    }
    let stems = definition.expected_stems();
    let patterns = definition.file_patterns.join(", ");
    let expected = match stems.len() {
        0 => format!("files {patterns}"),
        count => format!(
            "{count} captures ({patterns}) such as {}",
            stems.iter().take(NAMED_FILES).copied().collect::<Vec<_>>().join(", ")
        ),
    };
    Err(DatasetError::NotHere {
        name: definition.name.clone(),
        tried: tried.join(" and "),
        expected,
        url: definition.published_at.url.clone(),
        how: definition.published_at.how.clone(),
        hint: hint.to_owned(),
    })
}

/// Lists what lies in `root` and in its zip archives, following links. What etcbench itself leaves in a dataset's
/// folder (unfinished downloads, the list of downloads) is not listed.
///
/// # Errors
/// A folder that cannot be listed, or a file whose name is not UTF-8.
pub fn open_folder(definition: &DatasetDefinition, root: &Path) -> Result<DatasetFolder, DatasetError> {
    let mut folder = DatasetFolder {
        root: root.to_owned(),
        captures: Vec::new(),
        excluded: Vec::new(),
        flow_label_files: Vec::new(),
        unexpected: Vec::new(),
        damaged_archives: Vec::new(),
    };
    for entry in walkdir::WalkDir::new(root).follow_links(true).sort_by_file_name() {
        let io = |error: walkdir::Error| DatasetError::Io {
            path: error.path().unwrap_or(root).display().to_string(),
            source: error.into(),
        };
        let entry = entry.map_err(io)?;
        if !entry.file_type().is_file() {
            continue;
        }
        let parts: Option<Vec<&str>> = entry
            .path()
            .strip_prefix(root)
            .ok()
            .and_then(|relative| relative.components().map(|part| part.as_os_str().to_str()).collect());
        let path = parts
            .ok_or_else(|| DatasetError::Io {
                path: entry.path().display().to_string(),
                source: std::io::Error::other("the name is not UTF-8; rename the file"),
            })?
            .join("/");
        let file = CaptureFile { size: entry.metadata().map_err(io)?.len(), path, archive: None };
        let name = file.path.rsplit('/').next().unwrap_or_default();
        if name == DOWNLOADS_FILE || name.starts_with(PARTIAL_PREFIX) {
            continue;
        }
        if !folder.sort_in(definition, &file) && !folder.open_archive(definition, &file) {
            folder.unexpected.push(file);
        }
    }
    folder.captures.sort_by(|a, b| a.path.cmp(&b.path));
    folder.excluded.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    folder.flow_label_files.sort_by(|a, b| a.path.cmp(&b.path));
    folder.unexpected.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(folder)
}

impl DatasetFolder {
    /// Puts a file where the definition has it; false where it has no place for it.
    fn sort_in(&mut self, definition: &DatasetDefinition, file: &CaptureFile) -> bool {
        let path = file.pattern_path();
        if definition.files.is_match(&path) {
            match definition.excluded.matches(&path).first() {
                Some(&index) => self.excluded.push((file.clone(), definition.exclusions[index].reason.clone())),
                None => self.captures.push(file.clone()),
            }
            return true;
        }
        let labels =
            file.archive.is_none() && definition.flow_labels.as_ref().is_some_and(|rules| rules.files.is_match(&path));
        if labels {
            self.flow_label_files.push(file.clone());
        }
        labels
    }

    /// Puts the members of a zip archive in their places; false where it is none or holds nothing of the dataset.
    fn open_archive(&mut self, definition: &DatasetDefinition, file: &CaptureFile) -> bool {
        // Feature files are read as they are.
        if definition.features.is_some() || !file.path.to_ascii_lowercase().ends_with(".zip") {
            return false;
        }
        let members = match archive::members(&self.root.join(&file.path)) {
            Ok(members) => members,
            Err(error) => {
                self.damaged_archives.push((file.clone(), error.to_string()));
                return true;
            }
        };
        let mut used = false;
        for member in members {
            let path = format!("{}!{}", file.path, member.name);
            let member = CaptureFile { path, size: member.size, archive: Some(file.path.clone()) };
            used |= self.sort_in(definition, &member);
        }
        used
    }
}
