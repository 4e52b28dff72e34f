//! The marker file that exists in a folder while an archive is unpacked into it. An interrupted process leaves it
//! behind, so that a later run does not mistake a partly unpacked archive for a complete one: see
//! [`super::open_folder`].

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::folder::UNPACKING_PREFIX;
use etcbench_storage as storage;

/// An archive that is being unpacked.
pub(super) struct Unpacking {
    marker: PathBuf,
    /// Whether an earlier attempt was interrupted.
    pub resumed: bool,
}

impl Unpacking {
    /// Marks `target`, which must exist, as being unpacked from `archive`.
    ///
    /// # Errors
    /// Any I/O error.
    pub(crate) fn begin(archive: &Path, target: &Path) -> std::io::Result<Self> {
        let marker = target.join(marker_name(archive));
        let resumed = marker.exists();
        storage::write_whole(&marker, archive.display().to_string().as_bytes())?;
        Ok(Self { marker, resumed })
    }

    /// Removes the marker. Call it when all files are in place, or none.
    ///
    /// # Errors
    /// Any I/O error, except that another process removed the marker first.
    pub(crate) fn end(self) -> std::io::Result<()> {
        match std::fs::remove_file(&self.marker) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Returns a marker name that is unique to the archive, which need not exist yet, so that the same command finds it
/// again.
fn marker_name(archive: &Path) -> String {
    let folder = archive.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let whole = folder.join(archive.file_name().unwrap_or_default());
    let hash = hex::encode(Sha256::digest(whole.as_os_str().as_encoded_bytes()));
    let name: String = archive.file_name().unwrap_or_default().to_string_lossy().chars().take(60).collect();
    format!("{UNPACKING_PREFIX}{name}-{}", &hash[..8])
}

/// Returns whether two files have the same contents.
pub(super) fn same_content(first: &Path, second: &Path) -> std::io::Result<bool> {
    let (first, second) = (File::open(first)?, File::open(second)?);
    if first.metadata()?.len() != second.metadata()?.len() {
        return Ok(false);
    }
    let (mut first, mut second) = (std::io::BufReader::new(first), std::io::BufReader::new(second));
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let count = first.read(&mut left)?;
        if count == 0 {
            return Ok(true);
        }
        second.read_exact(&mut right[..count])?;
        if left[..count] != right[..count] {
            return Ok(false);
        }
    }
}
