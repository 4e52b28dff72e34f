//! Where a dataset's captures are: `data/NAME` in the project, or `$ETCBENCH_DATA/NAME`.

use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::definition::{Definition, Verdict, stem};
use super::{DatasetError, Labels};

/// A labelled capture of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct CaptureFile {
    /// Path relative to the dataset's folder, with `/` as separator.
    pub relative: String,
    /// Where it is.
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// Its labels.
    pub labels: Labels,
}

/// What a dataset's folder holds, in order of the relative paths.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    /// The folder.
    pub folder: PathBuf,
    /// Captures with labels.
    pub captures: Vec<CaptureFile>,
    /// Captures that the definition leaves out, with its reason.
    pub excluded: Vec<(String, String)>,
    /// Captures that no rule gives every label; they are not used.
    pub unlabelled: Vec<String>,
    /// Stems in the label table without a capture here.
    pub missing: Vec<String>,
}

/// The folders that may hold the dataset, in order of preference.
pub fn folders(project: &Path, name: &str) -> Vec<PathBuf> {
    let mut folders = vec![project.join("data").join(name)];
    if let Some(data) = std::env::var_os("ETCBENCH_DATA").filter(|data| !data.is_empty()) {
        folders.push(PathBuf::from(data).join(name));
    }
    folders
}

/// Looks for the dataset's captures; `advice` says what can be run without them.
///
/// # Errors
/// No capture in any of the folders, a folder that cannot be read, rules that contradict one another.
pub fn locate(project: &Path, definition: &Definition, advice: &str) -> Result<Inventory, DatasetError> {
    let folders = folders(project, &definition.name);
    for folder in &folders {
        if folder.is_dir() {
            let inventory = inventory(folder, definition)?;
            if !inventory.captures.is_empty() {
                return Ok(inventory);
            }
            if let Some(first) = inventory.unlabelled.first() {
                return Err(DatasetError::Definition {
                    origin: format!("data/{}.toml", definition.name),
                    problem: format!(
                        "none of the {} captures in {} gets every label (columns: {}), {first} for one; mend the rules",
                        inventory.unlabelled.len(),
                        folder.display(),
                        definition.columns.join(", ")
                    ),
                });
            }
        }
    }
    let published = definition.published_at.as_ref().map_or(String::new(), |at| format!("published at {at}; "));
    Err(DatasetError::Missing {
        name: definition.name.clone(),
        patterns: definition.patterns.clone(),
        folders,
        advice: format!("{published}{advice}"),
    })
}

fn inventory(folder: &Path, definition: &Definition) -> Result<Inventory, DatasetError> {
    let mut found = Inventory {
        folder: folder.to_owned(),
        captures: Vec::new(),
        excluded: Vec::new(),
        unlabelled: Vec::new(),
        missing: Vec::new(),
    };
    for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| DatasetError::Read {
            path: error.path().unwrap_or(folder).to_owned(),
            problem: error.io_error().map_or("a link that leads in a circle".to_owned(), ToString::to_string),
        })?;
        if !entry.file_type().is_file() {
            continue;
        }
        let parts: Option<Vec<&str>> =
            entry.path().strip_prefix(folder).ok().and_then(|path| path.iter().map(|part| part.to_str()).collect());
        // A name that is not Unicode cannot be matched by a pattern.
        let Some(relative) = parts.map(|parts| parts.join("/")) else { continue };
        match definition.verdict(&relative)? {
            Verdict::NotACapture => {}
            Verdict::Excluded(reason) => found.excluded.push((relative, reason)),
            Verdict::Unlabelled => found.unlabelled.push(relative),
            Verdict::Labelled(labels) => {
                let size = entry.metadata().map_or(0, |metadata| metadata.len());
                found.captures.push(CaptureFile { relative, path: entry.into_path(), size, labels });
            }
        }
    }
    found.captures.sort_by(|left, right| left.relative.cmp(&right.relative));
    let stems: std::collections::HashSet<String> =
        found.captures.iter().map(|capture| stem(&capture.relative).to_lowercase()).collect();
    found.missing =
        definition.expected_stems().into_iter().filter(|stem| !stems.contains(*stem)).map(str::to_owned).collect();
    Ok(found)
}
