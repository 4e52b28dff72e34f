//! Stores the files in which a program saved its fitted model as parts of a model's file.

use std::path::{Component, Path};

use crate::stored::broken;
use crate::{ModelArchive, ModelError, Tensor, TensorData};

/// Prefix of these files' names in an archive.
const FILE: &str = "file/";
/// Maximum size of a saved model in bytes.
const MOST_SAVED: u64 = 8 << 30;

/// Writes the files of a stored model into `folder`.
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

/// Reads the files that a program saved.
pub(super) fn collect(root: &Path, folder: &Path, total: &mut u64, archive: &mut ModelArchive) -> Result<(), String> {
    let problem = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    for entry in std::fs::read_dir(folder).map_err(|error| problem(folder, error))? {
        let path = entry.map_err(|error| problem(folder, error))?.path();
        let found = std::fs::symlink_metadata(&path).map_err(|error| problem(&path, error))?;
        let name = path.strip_prefix(root).unwrap_or(&path).to_str().map(|name| format!("{FILE}{name}"));
        let name = name.ok_or("a file name is not valid UTF-8")?;
        if found.is_dir() {
            collect(root, &path, total, archive)?;
        } else if found.is_file() {
            *total += found.len();
            if *total > MOST_SAVED || archive.tensors.len() > 10_000 {
                return Err(format!("over {} GiB, or over 10000 files", MOST_SAVED >> 30));
            }
            let content = std::fs::read(&path).map_err(|error| problem(&path, error))?;
            archive.tensors.insert(name, Tensor::u8(content));
        } else {
            return Err(format!("{name} is neither a file nor a folder"));
        }
    }
    Ok(())
}
