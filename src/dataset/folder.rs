//! A dataset's folder: where it lies, which of its files are captures, their sizes and checksums.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::definition::DatasetDefinition;
use super::error::DatasetError;

/// The environment variable that names a folder of dataset folders.
pub const DATA_VARIABLE: &str = "ETCBENCH_DATA";
/// How many expected files an error names.
const NAMED_FILES: usize = 3;

/// A file of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureFile {
    /// Path relative to the dataset's folder, with `/` as separator.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
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
}

/// Finds the folder of a dataset: `$ETCBENCH_DATA/<name>` where the variable is set, then
/// `data/<name>` under the project's root.
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
        .map(|root| root.join(&definition.name))
        .collect();
    locate_in(definition, &roots, hint)
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

/// Lists what lies in `root`, following links.
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
        let file = CaptureFile { size: entry.metadata().map_err(io)?.len(), path };
        if definition.files.is_match(&file.path) {
            match definition.excluded.matches(&file.path).first() {
                Some(&index) => folder.excluded.push((file, definition.exclusions[index].reason.clone())),
                None => folder.captures.push(file),
            }
        } else if definition.flow_labels.as_ref().is_some_and(|rules| rules.files.is_match(&file.path)) {
            folder.flow_label_files.push(file);
        } else {
            folder.unexpected.push(file);
        }
    }
    folder.captures.sort_by(|a, b| a.path.cmp(&b.path));
    folder.excluded.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    folder.flow_label_files.sort_by(|a, b| a.path.cmp(&b.path));
    folder.unexpected.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(folder)
}

/// SHA-256 of a file in hexadecimal, read in pieces.
///
/// # Errors
/// The file cannot be read.
pub fn file_sha256(path: &Path) -> Result<String, DatasetError> {
    let io = |source| DatasetError::Io { path: path.display().to_string(), source };
    let mut file = std::fs::File::open(path).map_err(io)?;
    let mut buffer = vec![0; 1 << 18];
    let mut hasher = Sha256::new();
    loop {
        match file.read(&mut buffer).map_err(io)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}
