//! Unpacks archives (zip, and tar with or without compression) without trusting their contents: no path outside the
//! target, no links, no devices, no expansion past limits, and no file in place before the whole archive has been read.
//! An interrupted process leaves a marker (see [`super::unpacking`]); running the same command again completes the
//! work.

mod formats;
mod members;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use super::unpacking::Unpacking;
use etcbench_capture::ExpansionLimits;
use etcbench_storage as storage;
use etcbench_storage::WholeFolder;
use members::Work;

/// Limits on the size of an unpacked archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Limits on the total bytes of all members, and on their ratio to the archive's size, which applies above
    /// `free_bytes`.
    pub expansion: ExpansionLimits,
    /// Maximum number of members.
    pub most_members: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self { expansion: ExpansionLimits::default(), most_members: 1_000_000 }
    }
}

/// Contents of an unpacked archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// The files, relative to the target, sorted.
    pub files: Vec<String>,
    /// Total size of the files in bytes.
    pub bytes: u64,
    /// Number of files skipped because macOS or Windows created them.
    pub system_files: u64,
}

/// Reason an archive was not unpacked. Nothing of the archive remains in the target.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The underlying I/O error.
        source: std::io::Error,
    },
    /// The archive is damaged or its format is unknown.
    #[error("{}: {problem}; check that the download is complete", archive.display())]
    Damaged {
        /// The archive.
        archive: PathBuf,
        /// Description of the problem.
        problem: String,
    },
    /// The file is not an archive that etcbench can unpack.
    #[error("{}: {problem}", archive.display())]
    Unusable {
        /// The file.
        archive: PathBuf,
        /// Description of the file and what to do.
        problem: String,
    },
    /// A member that archives of data never contain.
    #[error("{}: member `{member}` {problem}; nothing was unpacked", archive.display())]
    Refused {
        /// The archive.
        archive: PathBuf,
        /// The member.
        member: String,
        /// Description of the problem.
        problem: String,
    },
    /// The archive expands past the limits.
    #[error(
        "{}: {problem}: most likely a decompression bomb; nothing was unpacked; if you trust it, unpack it with another \
         program",
        archive.display()
    )]
    Expands {
        /// The archive.
        archive: PathBuf,
        /// The limit that was exceeded.
        problem: String,
    },
    /// A file already exists.
    #[error(
        "{}: already exists, and the archive contains a file of that name; remove it, or overwrite it with --force",
        path.display()
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

/// Unpacks an archive into `target`, which is created if missing. Calls `advance` with the size of each piece of
/// unpacked data. Existing files with different content are an error unless `force` is set.
///
/// Everything is first unpacked into a temporary folder inside `target`, then moved into place file by file. Until that
/// is done, or if it is interrupted, a marker in the target shows that it is incomplete.
///
/// # Errors
/// See [`UnpackError`].
pub fn unpack(
    archive: &Path,
    target: &Path,
    limits: &UnpackLimits,
    force: bool,
    advance: &dyn Fn(u64),
) -> Result<Unpacked, UnpackError> {
    let archive_size = std::fs::metadata(archive).map_err(io(archive))?.len();
    storage::create_folder(target).map_err(io(target))?;
    // An earlier, interrupted attempt may have moved some of the files.
    let unpacking = Unpacking::begin(archive, target).map_err(io(target))?;
    // Never renamed as a whole: its files are moved into the target one by one.
    let staging = WholeFolder::new(&target.join("unpacked")).map_err(io(target))?;
    let mut work = Work {
        archive,
        archive_size,
        target,
        staging: staging.path(),
        limits,
        force,
        advance,
        members: 0,
        spellings: BTreeMap::new(),
        folders: BTreeSet::new(),
        result: Unpacked::default(),
    };
    let result = work.read_archive().and_then(|()| {
        work.result.files.sort();
        work.refuse_conflicts()
    });
    if let Err(error) = result {
        // Files that an earlier attempt moved into place are still incomplete.
        if !unpacking.resumed {
            unpacking.end().map_err(io(target))?;
        }
        return Err(error);
    }
    let result = work.result;
    for file in &result.files {
        put_in_place(&staging.path().join(file), &target.join(file))?;
    }
    unpacking.end().map_err(io(target))?;
    Ok(result)
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> UnpackError {
    let path = path.to_owned();
    move |source| UnpackError::Io { path, source }
}

fn put_in_place(from: &Path, to: &Path) -> Result<(), UnpackError> {
    if let Some(parent) = to.parent() {
        storage::create_folder(parent).map_err(io(parent))?;
    }
    File::open(from).and_then(|file| file.sync_all()).and_then(|()| storage::rename(from, to)).map_err(io(to))
}
