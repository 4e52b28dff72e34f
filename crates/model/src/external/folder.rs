//! Reads files from a folder that a program may change at any moment, without following its links. A program is
//! restricted to what it may read, this process is not: a link in place of a folder or a file, put there at the right
//! moment, would pass captures and labels on to the program. So a folder is opened once, everything below it is opened
//! relative to its folder, and only what was opened counts.
//!
//! A hard link looks like the file itself. Landlock refuses to make one to a file outside the folders that the program
//! may write to; without Landlock the program may read such a file anyway.

use std::fs::File;
use std::io::{Error, Read, Result};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

#[cfg(unix)]
pub(super) use by_descriptor::{Entry, open_file, walk};
#[cfg(not(unix))]
pub(super) use by_path::{Entry, open_file, walk};

/// Maximum number of files and folders in a folder.
const MOST_ENTRIES: usize = 10_000;
/// Maximum number of folders in one another.
const DEEPEST: usize = 32;

/// An opened regular file.
pub(super) struct Opened {
    file: File,
    /// Length in bytes when it was opened.
    pub length: u64,
}

impl Opened {
    fn new(file: File) -> Result<Self> {
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(Error::other("it is not a regular file"));
        }
        Ok(Self { file, length: found.len() })
    }

    /// Reads the bytes that the file had when it was opened, although it may grow while it is read.
    pub(super) fn read(self) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        self.into_reader().read_to_end(&mut content)?;
        Ok(content)
    }

    pub(super) fn into_reader(self) -> impl Read {
        self.file.take(self.length)
    }
}

/// What there is of a file: its path in the folder, its length, and the time of its last change.
pub(super) type Listed = (PathBuf, u64, Option<SystemTime>);

/// Returns what is in a folder and the folders below it, sorted.
///
/// # Errors
/// The folder is a link, or has too many entries.
pub(super) fn list(folder: &Path) -> std::result::Result<Vec<Listed>, String> {
    let mut found = Vec::new();
    walk(folder, &mut |entry: &Entry<'_>| {
        found.push(entry.listed());
        Ok(())
    })?;
    found.sort();
    Ok(found)
}

fn replaced(folder: &Path) -> String {
    format!("{} is no longer a folder", folder.file_name().unwrap_or_default().to_string_lossy())
}

/// Counts the entries of a walk.
#[derive(Default)]
struct Count(usize);

impl Count {
    fn one_more(&mut self, depth: usize) -> std::result::Result<(), String> {
        self.0 += 1;
        if self.0 > MOST_ENTRIES || depth > DEEPEST {
            return Err(format!("over {MOST_ENTRIES} files and folders, or over {DEEPEST} folders in one another"));
        }
        Ok(())
    }
}

#[cfg(unix)]
mod by_descriptor {
    use std::ffi::OsStr;
    use std::os::fd::OwnedFd;
    use std::os::unix::ffi::OsStrExt;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, SystemTime};

    use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat};
    use rustix::io::Errno;

    use super::{Count, Listed, Opened, replaced};

    /// A pipe in place of a file must not block.
    const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
    const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

    /// A file, link or device in a folder.
    pub(in super::super) struct Entry<'a> {
        folder: &'a OwnedFd,
        name: &'a OsStr,
        /// Its path in the folder of the walk.
        pub path: &'a Path,
        stat: Stat,
    }

    impl Entry<'_> {
        /// Returns whether it was a regular file when it was found; only [`open`](Self::open) is a proof.
        pub(in super::super) fn is_file(&self) -> bool {
            FileType::from_raw_mode(self.stat.st_mode) == FileType::RegularFile
        }

        pub(in super::super) fn open(&self) -> std::io::Result<Opened> {
            Opened::new(openat(self.folder, self.name, FILE, Mode::empty())?.into())
        }

        pub(super) fn listed(&self) -> Listed {
            let changed = u64::try_from(self.stat.st_mtime).ok().and_then(|seconds| {
                let nanoseconds = u32::try_from(self.stat.st_mtime_nsec).ok()?;
                SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
            });
            (self.path.to_owned(), u64::try_from(self.stat.st_size).unwrap_or_default(), changed)
        }
    }

    /// Opens a regular file whose folder the program cannot replace.
    pub(in super::super) fn open_file(path: &Path) -> std::io::Result<Opened> {
        Opened::new(openat(CWD, path, FILE, Mode::empty())?.into())
    }

    /// Calls `visit` with everything but folders that is in a folder and the folders below it.
    ///
    /// # Errors
    /// The folder is a link, has too many entries, or cannot be read; and the errors of `visit`.
    pub(in super::super) fn walk(
        folder: &Path,
        visit: &mut dyn FnMut(&Entry<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let opened = openat(CWD, folder, FOLDER, Mode::empty()).map_err(|error| match error {
            Errno::NOTDIR | Errno::LOOP => replaced(folder),
            _ => problem(folder, error),
        })?;
        below(&opened, Path::new(""), 0, &mut Count::default(), visit)
    }

    fn below(
        folder: &OwnedFd,
        path: &Path,
        depth: usize,
        count: &mut Count,
        visit: &mut dyn FnMut(&Entry<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        for entry in Dir::read_from(folder).map_err(|error| problem(path, error))? {
            let entry = entry.map_err(|error| problem(path, error))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            count.one_more(depth)?;
            let path: PathBuf = path.join(name);
            let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // The program has removed or renamed it since the folder was read.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(problem(&path, error)),
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let inner = openat(folder, name, FOLDER, Mode::empty()).map_err(|error| problem(&path, error))?;
                below(&inner, &path, depth + 1, count, visit)?;
            } else {
                visit(&Entry { folder, name, path: &path, stat })?;
            }
        }
        Ok(())
    }

    fn problem(path: &Path, error: Errno) -> String {
        format!("{}: {error}", path.display())
    }
}

/// Where folders cannot be opened: links are refused as they are found, but may be put there a moment later.
#[cfg(not(unix))]
mod by_path {
    use std::fs::Metadata;
    use std::path::Path;

    use super::{Count, Listed, Opened, replaced};

    /// A file or link in a folder.
    pub(in super::super) struct Entry<'a> {
        /// Its path in the folder of the walk.
        pub path: &'a Path,
        whole: &'a Path,
        found: Metadata,
    }

    impl Entry<'_> {
        pub(in super::super) fn is_file(&self) -> bool {
            self.found.is_file()
        }

        pub(in super::super) fn open(&self) -> std::io::Result<Opened> {
            open_file(self.whole)
        }

        pub(super) fn listed(&self) -> Listed {
            (self.path.to_owned(), self.found.len(), self.found.modified().ok())
        }
    }

    pub(in super::super) fn open_file(path: &Path) -> std::io::Result<Opened> {
        if !std::fs::symlink_metadata(path)?.is_file() {
            return Err(std::io::Error::other("it is not a regular file"));
        }
        Opened::new(std::fs::File::open(path)?)
    }

    pub(in super::super) fn walk(
        folder: &Path,
        visit: &mut dyn FnMut(&Entry<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        below(folder, folder, 0, &mut Count::default(), visit)
    }

    fn below(
        root: &Path,
        folder: &Path,
        depth: usize,
        count: &mut Count,
        visit: &mut dyn FnMut(&Entry<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let problem = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        let found = std::fs::symlink_metadata(folder).map_err(|error| problem(folder, error))?;
        if !found.is_dir() {
            return Err(replaced(folder));
        }
        for entry in std::fs::read_dir(folder).map_err(|error| problem(folder, error))? {
            let whole = entry.map_err(|error| problem(folder, error))?.path();
            count.one_more(depth)?;
            let found = match std::fs::symlink_metadata(&whole) {
                Ok(found) => found,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(problem(&whole, error)),
            };
            if found.is_dir() {
                below(root, &whole, depth + 1, count, visit)?;
            } else {
                let path = whole.strip_prefix(root).unwrap_or(&whole);
                visit(&Entry { path, whole: &whole, found })?;
            }
        }
        Ok(())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_and_pipes_are_not_opened() {
        let place = tempfile::tempdir().unwrap();
        let secret = place.path().join("labels");
        std::fs::create_dir(&secret).unwrap();
        std::fs::write(secret.join("labels.csv"), "secret").unwrap();
        let folder = place.path().join("folder");
        std::fs::create_dir_all(folder.join("inner")).unwrap();
        std::fs::write(folder.join("inner/step"), "17").unwrap();
        symlink(&secret, folder.join("linked-folder")).unwrap();
        symlink(secret.join("labels.csv"), folder.join("linked-file")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, folder.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let mut seen = Vec::new();
        walk(&folder, &mut |entry: &Entry<'_>| {
            let content = entry.open().and_then(Opened::read).ok();
            seen.push((entry.path.to_owned(), entry.is_file(), content));
            Ok(())
        })
        .unwrap();
        seen.sort();
        let refused = |name: &str| (PathBuf::from(name), false, None);
        let step = (PathBuf::from("inner/step"), true, Some(b"17".to_vec()));
        assert_eq!(seen, [step, refused("linked-file"), refused("linked-folder"), refused("pipe")]);
        assert_eq!(list(&folder).unwrap().len(), 4);
        assert!(open_file(&folder.join("linked-file")).is_err() && open_file(&folder.join("pipe")).is_err());
        symlink(&secret, place.path().join("replaced")).unwrap();
        let refusal = list(&place.path().join("replaced")).unwrap_err();
        assert!(refusal.contains("no longer a folder"), "{refusal}");
    }

    #[test]
    fn a_file_that_is_replaced_by_a_link_after_it_was_found_is_not_read() {
        let place = tempfile::tempdir().unwrap();
        let secret = place.path().join("labels.csv");
        std::fs::write(&secret, "secret").unwrap();
        let folder = place.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("step"), "17").unwrap();
        let read = walk(&folder, &mut |entry: &Entry<'_>| {
            assert!(entry.is_file());
            std::fs::remove_file(folder.join("step")).unwrap();
            symlink(&secret, folder.join("step")).unwrap();
            entry.open().map(drop).map_err(|error| error.to_string())
        });
        assert!(read.is_err());
        // A growing file is read up to the length that it had.
        std::fs::remove_file(folder.join("step")).unwrap();
        std::fs::write(folder.join("step"), "17").unwrap();
        let opened = open_file(&folder.join("step")).unwrap();
        std::fs::write(folder.join("step"), "1718").unwrap();
        assert_eq!(opened.read().unwrap(), b"17");
    }

    #[test]
    fn a_folder_of_endless_folders_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = place.path().to_owned();
        for _ in 0..DEEPEST + 2 {
            folder.push("x");
        }
        std::fs::create_dir_all(&folder).unwrap();
        assert!(list(place.path()).unwrap_err().contains("in one another"));
    }
}
