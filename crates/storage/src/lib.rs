//! Files and folders that appear whole or not at all, however the process ends: they are written under a temporary name
//! in the same folder, synced and renamed, and then the folder is synced, so that a name that survives a power failure
//! has its content. Temporary files of a dead process are removed by the next process that writes to the folder, and
//! [`claim`] keeps two processes from doing the same work at once. [`Determinants`] lists the facts that determine a
//! result; the name under which it is stored is derived from them.

mod claim;
pub mod declarative;
mod destination;
mod determinants;
mod folder;
mod guard;
mod hints;
mod partial;
mod process;
mod program;
pub mod progress;
mod read;
pub mod seed;
mod stock;
mod succession;
mod temporary;
mod words;

use std::fs::File;
use std::io::Write;
use std::path::Path;

pub use claim::{Claim, Turn, claim, remove_dead_claims};
pub use destination::{Output, is_standard_output, standard_output_is_closed};
pub use determinants::{Determinants, RESULT_VERSION};
pub use folder::{WholeFolder, read_folder, update_folder};
pub use guard::guarded;
pub use partial::{abandon, remove_leftovers};
pub use program::{program, set_program};
pub use read::{read_at_most, read_regular};
pub use stock::{StockFile, bring_stock, is_file_or_stock, names_with_stock, or_stock};
pub use succession::{Succession, kept_of};
pub use temporary::TemporaryFolder;
pub use words::counted;

use destination::Destination;
use partial::Partial;

/// Writes `bytes` to `path` so that a reader sees the old file or the new one, never a mix. Creates the folder if it is
/// missing.
///
/// A symbolic link stays, and its target is written. A replaced file keeps its mode, and its owner if permissions
/// allow. Anything other than a regular file, such as a pipe or a device, is opened and written directly, and `-` means
/// standard output.
///
/// # Errors
/// Any file system error; the temporary file is then removed.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    write_whole_with(path, |file| file.write_all(bytes))
}

/// Like [`write_whole`], for content that `fill` writes piece by piece.
///
/// # Errors
/// Any error of the file system or of `fill`; the temporary file is then removed.
pub fn write_whole_with(
    path: &Path,
    fill: impl FnOnce(&mut std::io::BufWriter<Output>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let written = |output: Output| {
        let mut writer = std::io::BufWriter::new(output);
        fill(&mut writer)?;
        writer.into_inner().map_err(std::io::IntoInnerError::into_error)
    };
    let (path, existing) = match Destination::of(path)? {
        Destination::Whole(path, existing) => (path, existing),
        Destination::Stream(output) => return written(output).map(drop),
    };
    let folder = folder_of(&path);
    create_folder(folder)?;
    remove_leftovers(folder);
    let (partial, file) = Partial::file(folder, existing.as_ref())?;
    written(Output::of_file(file))?.file.sync_all()?;
    partial.rename(&path)?;
    sync_folder(folder)
}

/// Creates a folder and its missing parents, and syncs the folders that list them.
///
/// # Errors
/// Any file system error.
pub fn create_folder(folder: &Path) -> std::io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let above = folder_of(folder);
    create_folder(above)?;
    match partial::making(|| std::fs::create_dir(folder)) {
        // Another process was first.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        result => result.and_then(|()| sync_folder(above)),
    }
}

/// Creates a file inside a [`WholeFolder`], with missing parent folders. Use [`write_whole`] everywhere else.
///
/// # Errors
/// Any file system error; a file that already exists.
pub fn create_file(path: &Path) -> std::io::Result<File> {
    create_folder(folder_of(path))?;
    partial::making(|| File::create_new(path))
}

/// Renames a file whose content is synced, or a folder, and syncs the folder that contains the new name.
///
/// # Errors
/// Any file system error.
pub fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    partial::making(|| std::fs::rename(from, to))?;
    sync_folder(folder_of(to))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the entries of a folder durable.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    // Windows cannot sync folders.
    if cfg!(windows) {
        return Ok(());
    }
    match File::open(folder)?.sync_all() {
        // Some network and user-space file systems do not support syncing folders.
        Err(error) if matches!(error.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::Unsupported) => {
            Ok(())
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        write_whole(&path, b"old").unwrap();
        let failed = write_whole_with(&path, |file| {
            file.write_all(b"half")?;
            Err(std::io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn folders_are_made_as_deep_as_needed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/c/table.csv");
        write_whole(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        std::fs::write(folder.path().join("file"), b"").unwrap();
        assert!(write_whole(&folder.path().join("file/table.csv"), b"new").is_err());
    }
}

// Run the README's example as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
