//! Folders that appear whole or not at all, also in the place of another.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::partial::Partial;
use super::{create_folder, folder_of, remove_leftovers, sync_folder};

/// A folder under a temporary name beside its place, removed when dropped.
pub struct WholeFolder {
    partial: Partial,
    place: PathBuf,
}

impl WholeFolder {
    /// An empty folder that will be `place`.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn new(place: &Path) -> std::io::Result<Self> {
        let folder = folder_of(place);
        create_folder(folder)?;
        remove_leftovers(folder);
        put_back(place)?;
        Ok(Self { partial: Partial::folder(folder)?, place: place.to_owned() })
    }

    /// Where it is filled.
    pub fn path(&self) -> &Path {
        self.partial.path()
    }

    /// Syncs everything in it and moves it into place; what was there before is removed.
    ///
    /// # Errors
    /// Any error of the file system; the old folder is in place then, or the new one.
    pub fn put_in_place(self) -> std::io::Result<()> {
        sync_all(self.path())?;
        let Self { partial, place } = self;
        let folder = folder_of(&place);
        if exchange(partial.path(), &place) {
            // The new name is durable before the old content goes, which dropping does.
            sync_folder(folder)?;
            drop(partial);
            return sync_folder(folder);
        }
        if place.exists() {
            let aside = aside(&place);
            std::fs::rename(&place, &aside)?;
            partial.rename(&place)?;
            sync_folder(folder)?;
            std::fs::remove_dir_all(&aside)?;
        } else if let Err((partial, error)) = partial.try_rename(&place) {
            // Another process was first: this one's takes the place of that.
            if !exchange(partial.path(), &place) {
                return Err(error);
            }
        }
        sync_folder(folder)
    }
}

/// Where the old folder waits in a file system that cannot exchange two.
fn aside(place: &Path) -> PathBuf {
    let mut name = OsString::from(".replaced-");
    name.push(place.file_name().unwrap_or_default());
    place.with_file_name(name)
}

/// Puts a folder back that a killed process had moved aside.
fn put_back(place: &Path) -> std::io::Result<()> {
    let aside = aside(place);
    match (aside.exists(), place.exists()) {
        (true, false) => std::fs::rename(&aside, place),
        (true, true) => std::fs::remove_dir_all(&aside),
        (false, _) => Ok(()),
    }
}

/// Exchanges two names at once; false where the system cannot.
#[cfg(target_os = "linux")]
fn exchange(first: &Path, second: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, first, CWD, second, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

fn sync_all(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_takes_the_place_of_another_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("table");
        for content in ["old", "new"] {
            let whole = WholeFolder::new(&place).unwrap();
            std::fs::create_dir(whole.path().join(content)).unwrap();
            std::fs::write(whole.path().join(content).join("a"), content).unwrap();
            whole.put_in_place().unwrap();
            assert_eq!(names(folder.path()), ["table"]);
            assert_eq!(names(&place), [content]);
        }
        let dropped = WholeFolder::new(&place).unwrap();
        std::fs::write(dropped.path().join("b"), "half").unwrap();
        drop(dropped);
        assert_eq!(names(folder.path()), ["table"]);
        assert_eq!(names(&place), ["new"]);
    }

    #[test]
    fn a_folder_that_was_moved_aside_is_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("table");
        std::fs::create_dir(aside(&place)).unwrap();
        std::fs::write(aside(&place).join("a"), "old").unwrap();
        let whole = WholeFolder::new(&place).unwrap();
        assert_eq!(names(&place), ["a"]);
        std::fs::create_dir(aside(&place)).unwrap();
        drop(whole);
        WholeFolder::new(&place).unwrap().put_in_place().unwrap();
        assert_eq!(names(folder.path()), ["table"]);
        assert!(names(&place).is_empty());
    }
}
