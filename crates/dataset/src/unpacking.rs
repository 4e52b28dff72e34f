//! The marker file that is in a folder while an archive is unpacked into it. A process that is stopped leaves it there, and
//! then a run does not take the part that was unpacked for the whole: see [`super::open_folder`].

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::folder::UNPACKING_PREFIX;
use etcbench_storage as storage;

/// An archive that is being unpacked.
pub(super) struct Unpacking {
    marker: PathBuf,
    /// Whether it was begun before and did not end.
    pub resumed: bool,
}

impl Unpacking {
    /// Says in `target`, which exists, that `archive` is being unpacked there, for readers that come from now on.
    ///
    /// # Errors
    /// Any error of the file system.
    pub(crate) fn begin(archive: &Path, target: &Path) -> std::io::Result<Self> {
        let marker = target.join(marker_name(archive));
        let resumed = marker.exists();
        storage::write_whole(&marker, archive.display().to_string().as_bytes())?;
        Ok(Self { marker, resumed })
    }

    /// Everything is in place, or nothing is.
    ///
    /// # Errors
    /// Any error of the file system but that another process was faster.
    pub(crate) fn end(self) -> std::io::Result<()> {
        match std::fs::remove_file(&self.marker) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The same for the same archive, which may not be there yet, and another for every other one: the same command again
/// finds it.
fn marker_name(archive: &Path) -> String {
    let folder = archive.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let whole = folder.join(archive.file_name().unwrap_or_default());
    let hash = hex::encode(Sha256::digest(whole.as_os_str().as_encoded_bytes()));
    let name: String = archive.file_name().unwrap_or_default().to_string_lossy().chars().take(60).collect();
    format!("{UNPACKING_PREFIX}{name}-{}", &hash[..8])
}

/// Whether two files hold the same bytes.
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
