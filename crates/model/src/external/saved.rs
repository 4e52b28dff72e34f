//! Stores the files in which a program saved its fitted model as parts of a model's file.

use std::path::{Component, Path};

use super::folder::{self, Entry};
use crate::stored::broken;
use crate::{ModelArchive, ModelError, Tensor, TensorData};

/// Prefix of these files' names in an archive.
const FILE: &str = "file/";
/// Maximum size of a saved model in bytes.
const MOST_SAVED: u64 = 8 << 30;

/// Writes the files of a stored model into `folder`, which no program can change meanwhile.
pub(super) fn restore(archive: &ModelArchive, folder: &Path) -> Result<(), ModelError> {
    let problem = |path: &Path, error: std::io::Error| broken(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(folder).map_err(|error| problem(folder, error))?;
    for (name, tensor) in archive.tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(FILE)?, tensor))) {
        let TensorData::U8(content) = &tensor.data else {
            return Err(broken(format!("{FILE}{name} does not contain bytes")));
        };
        let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || name.is_empty() {
            return Err(broken(format!("{FILE}{name}: the file name leads out of its folder")));
        }
        let path = folder.join(name);
        let written =
            std::fs::create_dir_all(path.parent().unwrap_or(folder)).and_then(|()| std::fs::write(&path, content));
        written.map_err(|error| problem(&path, error))?;
    }
    Ok(())
}

/// Reads the files that a program has written to a folder, which it may still change.
pub(super) fn collect(folder: &Path, archive: &mut ModelArchive) -> Result<(), String> {
    let mut total = 0;
    folder::walk(folder, &mut |entry: &Entry<'_>| {
        let name = entry.path.to_str().ok_or("a file name is not valid UTF-8")?;
        if !entry.is_file() {
            return Err(format!("{FILE}{name} is neither a file nor a folder"));
        }
        let problem = |error: std::io::Error| format!("{FILE}{name}: {error}");
        let opened = entry.open().map_err(problem)?;
        total += opened.length;
        if total > MOST_SAVED {
            return Err(format!("over {} GiB", MOST_SAVED >> 30));
        }
        archive.tensors.insert(format!("{FILE}{name}"), Tensor::u8(opened.read().map_err(problem)?));
        Ok(())
    })
}
