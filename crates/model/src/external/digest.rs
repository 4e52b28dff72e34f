//! Hashes the content of a model's folder, so that fits of different contents are never confused. Excludes hidden
//! files, the by-products of Python and Cargo, what the manifest ignores, and weight files (which the manifest lists
//! with their own hashes).

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::manifest::Manifest;

/// Names that are never part of a model.
const LEFT_OUT: [&str; 3] = ["__pycache__", "target", "node_modules"];
/// Folders above this size are likely a mistake: weights belong in the manifest.
const MOST_BYTES: u64 = 1 << 30;

/// Returns the hash of a folder's content, 64 hexadecimal digits.
pub(super) fn digest(folder: &Path, manifest: &Manifest) -> Result<String, String> {
    let mut files = Vec::new();
    collect(folder, folder, manifest, &mut files)?;
    files.sort();
    let mut hasher = Sha256::new();
    let mut total = 0;
    for name in files {
        let path = folder.join(&name);
        let length = std::fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?.len();
        total += length;
        if total > MOST_BYTES {
            return Err(format!(
                "{}: over 1 GiB of files; list large ones under [[weights]], and other files that \
                 are not the model under `ignore`",
                folder.display()
            ));
        }
        let name = name.to_string_lossy();
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(of_file(&path)?);
    }
    Ok(hex::encode(hasher.finalize()))
}

fn collect(root: &Path, folder: &Path, manifest: &Manifest, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let problem = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(problem)? {
        let path = entry.map_err(problem)?.path();
        let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ignored = |other: &String| *other == name || Path::new(other) == relative;
        if name.starts_with('.')
            || LEFT_OUT.contains(&name.as_str())
            || manifest.ignore.iter().any(ignored)
            || manifest.weights.iter().any(|weights| Path::new(&weights.file) == relative)
        {
            continue;
        }
        if files.len() > 100_000 || relative.components().count() > 64 {
            return Err(format!(
                "{}: too many files for a model; list what is not part of it under `ignore`",
                root.display()
            ));
        }
        // Follow links to what a program would read.
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => collect(root, &path, manifest, files)?,
            Ok(found) if found.is_file() => files.push(relative),
            Ok(_) => return Err(format!("{}: neither a file nor a folder; remove it", path.display())),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
    Ok(())
}

/// Returns the SHA-256 of a file.
pub(super) fn of_file(path: &Path) -> Result<[u8; 32], String> {
    let problem = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = std::fs::File::open(path).map_err(problem)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(problem)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Checks the hash of every weight file.
pub(super) fn check_weights(folder: &Path, manifest: &Manifest) -> Result<(), String> {
    for weights in &manifest.weights {
        let path = folder.join(&weights.file);
        let found = hex::encode(of_file(&path).map_err(|problem| format!("weights: {problem}"))?);
        if !found.eq_ignore_ascii_case(&weights.sha256) {
            return Err(format!(
                "weights {}: SHA-256 is {found}, but model.toml has {}; download the file again, or correct the \
                 manifest",
                path.display(),
                weights.sha256
            ));
        }
    }
    Ok(())
}
