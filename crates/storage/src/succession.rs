//! Replaces a folder that also contains files of others: those files are carried over, and the replaced folder may be
//! kept next to the new one, as `NAME.1`, `NAME.2` and so on.
//!
//! Files are carried over and kept as hard links if the file system supports them, so that nothing is moved before the
//! new folder is in place: whenever the process is killed, every file is in one of the folders.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use super::{WholeFolder, create_file, create_folder, folder_of, partial};

/// What happens to a replaced folder.
pub struct Succession {
    /// Relative paths of its files that the new folder replaces. All others are carried over.
    pub superseded: BTreeSet<PathBuf>,
    /// Whether to keep the superseded files in a separate folder.
    pub keep: bool,
}

/// Returns the path of the `number`th kept predecessor of `place`.
fn kept(place: &Path, number: u64) -> PathBuf {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{number}"));
    place.with_file_name(name)
}

/// Splits the name of a kept folder into the name of its successor and its number; returns `None` for other names.
pub fn kept_of(name: &str) -> Option<(&str, u64)> {
    let (place, number) = name.rsplit_once('.')?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
    Some((place, number.parse().ok().filter(|_| is_number && !place.is_empty())?))
}

/// Returns the highest number of the kept predecessors of `place`, or 0.
fn last_kept(place: &Path) -> std::io::Result<u64> {
    let mut last = 0;
    for entry in std::fs::read_dir(folder_of(place))? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(kept_of).filter(|(of, _)| place.file_name() == Some(of.as_ref()));
        last = last.max(number.map_or(0, |(_, number)| number));
    }
    Ok(last)
}

/// Keeps files of the folder `old` in a separate folder next to `place`, and returns that; `None` if none of the files
/// exists.
pub(super) fn keep(old: &Path, place: &Path, files: &BTreeSet<PathBuf>) -> std::io::Result<Option<PathBuf>> {
    let exists = |path: &&PathBuf| old.join(path).symlink_metadata().is_ok();
    let files: Vec<&PathBuf> = files.iter().filter(exists).collect();
    if files.is_empty() {
        return Ok(None);
    }
    let last = last_kept(place)?;
    let before = kept(place, last);
    // A killed process may have got this far.
    if last > 0 && files.iter().all(|path| is_same(&old.join(path), &before.join(path))) {
        return Ok(Some(before));
    }
    let next = kept(place, last + 1);
    let whole = WholeFolder::new(&next)?;
    for path in files {
        link(&old.join(path), &whole.path().join(path))?;
    }
    whole.put_in_empty_place()?;
    Ok(Some(next))
}

/// Carries files that are not superseded over from the folder `old` to `new`, and returns those that cannot be, because
/// their name is taken.
pub(super) fn carry_over(old: &Path, new: &Path, superseded: &BTreeSet<PathBuf>) -> std::io::Result<BTreeSet<PathBuf>> {
    let mut carrying = Carrying { old, new, superseded, in_the_way: BTreeSet::new() };
    carrying.folder(Path::new(""))?;
    Ok(carrying.in_the_way)
}

struct Carrying<'a> {
    old: &'a Path,
    new: &'a Path,
    superseded: &'a BTreeSet<PathBuf>,
    in_the_way: BTreeSet<PathBuf>,
}

impl Carrying<'_> {
    fn folder(&mut self, below: &Path) -> std::io::Result<()> {
        let folder = self.old.join(below);
        for entry in std::fs::read_dir(&folder).map_err(|error| at(&folder, &error))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            let (from, to) = (entry.path(), self.new.join(&path));
            let existing = to.symlink_metadata().ok();
            if entry.file_type()?.is_dir() {
                if existing.as_ref().is_some_and(|existing| !existing.is_dir()) {
                    self.all_in_the_way(&path)?;
                    continue;
                }
                // A folder that the program wrote to is only created if something in it is carried over.
                let is_own = self.superseded.range(path.clone()..).next().is_some_and(|next| next.starts_with(&path));
                let is_made = existing.is_none() && !is_own;
                if is_made {
                    create_folder(&to)?;
                }
                self.folder(&path)?;
                if is_made {
                    std::fs::set_permissions(&to, entry.metadata()?.permissions())?;
                }
            } else if !self.superseded.contains(&path) {
                match existing {
                    Some(_) if is_same(&from, &to) => {}
                    Some(_) => _ = self.in_the_way.insert(path),
                    None => link(&from, &to)?,
                }
            }
        }
        Ok(())
    }

    fn all_in_the_way(&mut self, below: &Path) -> std::io::Result<()> {
        for entry in std::fs::read_dir(self.old.join(below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.all_in_the_way(&path)?;
            } else if !self.superseded.contains(&path) {
                self.in_the_way.insert(path);
            }
        }
        Ok(())
    }
}

/// Gives a file a second name, or copies it if the file system has no hard links. A symbolic link is not followed.
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    create_folder(folder_of(to))?;
    match partial::making(|| std::fs::hard_link(from, to)) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => copy(from, to).map_err(|error| at(from, &error)),
        linked => linked,
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let metadata = from.symlink_metadata()?;
    #[cfg(unix)]
    if metadata.is_symlink() {
        return partial::making(|| std::os::unix::fs::symlink(std::fs::read_link(from)?, to));
    }
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::Unsupported, "cannot be carried over; move it elsewhere"));
    }
    let mut file = create_file(to)?;
    std::io::copy(&mut std::fs::File::open(from)?, &mut file)?;
    if let Ok(modified) = metadata.modified() {
        file.set_modified(modified)?;
    }
    file.set_permissions(metadata.permissions())
}

/// Whether two paths lead to the same file, or to files with the same content.
fn is_same(one: &Path, other: &Path) -> bool {
    let (Ok(first), Ok(second)) = (one.symlink_metadata(), other.symlink_metadata()) else { return false };
    is_one(&first, &second)
        || first.is_file()
            && second.is_file()
            && first.len() == second.len()
            && matches!((std::fs::read(one), std::fs::read(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(unix)]
fn is_one(first: &Metadata, second: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (first.dev(), first.ino()) == (second.dev(), second.ino())
}

#[cfg(not(unix))]
fn is_one(_: &Metadata, _: &Metadata) -> bool {
    false
}

fn at(path: &Path, error: &Error) -> Error {
    Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn succeed(place: &Path, content: &str, keep: bool) -> Option<PathBuf> {
        let whole = WholeFolder::new(place).unwrap();
        for name in ["records", "tables/a"] {
            super::super::write_whole(&whole.path().join(name), content.as_bytes()).unwrap();
        }
        let superseded = ["records", "tables/a", "models/m"].map(PathBuf::from).into();
        whole.succeed::<Error>(|_, _| Ok(Succession { superseded, keep })).unwrap()
    }

    #[test]
    fn what_others_put_into_a_folder_is_carried_over() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("table");
        assert_eq!(succeed(&place, "old", true), None);
        std::fs::write(place.join("notes.md"), "mine").unwrap();
        std::fs::write(place.join("tables/mine.csv"), "mine").unwrap();
        std::fs::create_dir_all(place.join("plots/empty")).unwrap();
        std::fs::write(place.join("plots/a.svg"), "mine").unwrap();
        symlink("nowhere", place.join("link")).unwrap();
        for (name, mode) in [("notes.md", 0o600), ("plots", 0o700), ("", 0o750)] {
            std::fs::set_permissions(place.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let number = place.join("notes.md").metadata().unwrap().ino();
        for (content, keep) in [("new", true), ("newer", false)] {
            let kept = succeed(&place, content, keep);
            assert_eq!(kept, keep.then(|| folder.path().join("table.1")));
            assert_eq!(names(folder.path()), ["table", "table.1"]);
            assert_eq!(names(&place), ["link", "notes.md", "plots", "records", "tables"]);
            assert_eq!(names(&place.join("tables")), ["a", "mine.csv"]);
            assert_eq!(names(&place.join("plots")), ["a.svg", "empty"]);
            assert_eq!(std::fs::read_to_string(place.join("records")).unwrap(), content);
            // It is still the same file, also for processes that have it open.
            assert_eq!(place.join("notes.md").metadata().unwrap().ino(), number);
            let mode = |name: &str| place.join(name).metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(["notes.md", "plots", ""].map(mode), [0o600, 0o700, 0o750]);
            // The older folder contains only what the program wrote.
            assert_eq!(names(&folder.path().join("table.1")), ["records", "tables"]);
            assert_eq!(std::fs::read_to_string(folder.path().join("table.1/tables/a")).unwrap(), "old");
        }
    }

    #[test]
    fn files_in_the_way_stay_with_the_older_folder() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("table");
        std::fs::create_dir_all(place.join("records")).unwrap();
        std::fs::write(place.join("records/deep"), "mine").unwrap();
        symlink("nowhere", place.join("tables")).unwrap();
        assert_eq!(succeed(&place, "new", false), Some(folder.path().join("table.1")));
        assert_eq!(names(&place), ["records", "tables"]);
        assert_eq!(std::fs::read_to_string(place.join("tables/a")).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(folder.path().join("table.1/records/deep")).unwrap(), "mine");
        assert!(folder.path().join("table.1/tables").is_symlink());
        // Numbering continues from the highest.
        std::fs::create_dir(folder.path().join("table.7")).unwrap();
        assert_eq!(succeed(&place, "newer", true), Some(folder.path().join("table.8")));
        // A file in the folder's place does not belong to the program.
        std::fs::remove_dir_all(&place).unwrap();
        std::fs::write(&place, "mine").unwrap();
        let whole = WholeFolder::new(&place).unwrap();
        assert!(whole.succeed::<Error>(|_, _| unreachable!()).unwrap_err().to_string().contains("is not a folder"));
        assert_eq!(std::fs::read_to_string(&place).unwrap(), "mine");
    }

    #[test]
    fn a_write_protected_folder_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("table");
        succeed(&place, "old", true);
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o555)).unwrap();
        let whole = WholeFolder::new(&place).unwrap();
        assert!(whole.succeed::<Error>(|_, _| unreachable!()).unwrap_err().to_string().contains("write-protected"));
        assert_eq!(std::fs::read_to_string(place.join("records")).unwrap(), "old");
        assert_eq!(names(folder.path()), ["table"]);
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_link_to_a_folder_stays() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("results/table");
        std::fs::create_dir_all(folder.path().join("disk/table")).unwrap();
        std::fs::create_dir(folder.path().join("results")).unwrap();
        symlink("../disk/table", &place).unwrap();
        for (content, kept) in [("old", None), ("new", Some(folder.path().join("results/table.1")))] {
            assert_eq!(succeed(&place, content, true), kept);
            assert!(place.is_symlink());
            assert_eq!(std::fs::read_to_string(folder.path().join("disk/table/records")).unwrap(), content);
        }
        assert_eq!(names(&folder.path().join("disk")), ["table"]);
    }

    #[test]
    fn a_folder_is_kept_once() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("table");
        succeed(&place, "old", true);
        let files = ["records", "tables/a"].map(PathBuf::from).into();
        // If killed after this, the next process keeps the same folder again.
        let first = keep(&place, &place, &files).unwrap();
        assert_eq!(first, Some(folder.path().join("table.1")));
        assert_eq!(succeed(&place, "new", true), first);
        assert_eq!(names(folder.path()), ["table", "table.1"]);
    }

    #[test]
    fn names_of_kept_folders_are_known() {
        assert_eq!(kept_of("table2-lab-demo.12"), Some(("table2-lab-demo", 12)));
        for name in ["table2-lab-demo", "a.toml", "a.", ".1", "a.01", "a.+1", "a.1x", "a.99999999999999999999"] {
            assert_eq!(kept_of(name), None, "{name}");
        }
    }
}
