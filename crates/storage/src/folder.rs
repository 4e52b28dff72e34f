//! Folders that appear whole or not at all, also in place of an existing one, and that are read consistently.
//!
//! A process that replaces a folder, or changes files in it, holds a claim on it meanwhile. Readers hold none: after
//! reading they check whether the folder is still the one they started with, and read again if not.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::destination::followed;
use super::partial::{self, Partial};
use super::succession::{self, Succession};
use super::{Claim, Turn, claim, create_folder, folder_of, remove_leftovers, sync_folder};

/// A folder under a temporary name next to its final place, removed when dropped.
pub struct WholeFolder {
    partial: Partial,
    /// Where the path leads after following symbolic links.
    place: PathBuf,
    name: PathBuf,
}

impl WholeFolder {
    /// Creates an empty folder that will become `place`.
    ///
    /// # Errors
    /// Any file system error.
    pub fn new(place: &Path) -> std::io::Result<Self> {
        let name = place.to_owned();
        let place = followed(place);
        let folder = folder_of(&place);
        create_folder(folder)?;
        remove_leftovers(folder);
        put_back(&place)?;
        Ok(Self { partial: Partial::folder(folder)?, place, name })
    }

    /// The temporary folder to fill, with [`create_file`](super::create_file) and [`write_whole`](super::write_whole).
    pub fn path(&self) -> &Path {
        self.partial.path()
    }

    /// Syncs the whole folder and moves it into place; a folder that was there before is removed.
    ///
    /// # Errors
    /// Any file system error; either the old or the new folder is then in place.
    pub fn put_in_place(self) -> std::io::Result<()> {
        self.put_in_place_by(exchange)
    }

    /// Same as [`put_in_place`](Self::put_in_place), but fails if something is there by now.
    ///
    /// # Errors
    /// Something other than an empty folder is in its place (kind `AlreadyExists`); any file system error.
    pub fn put_in_empty_place(self) -> std::io::Result<()> {
        let Self { partial, place, .. } = self;
        sync_all(partial.path())?;
        partial.rename(&place).map_err(|error| match place.symlink_metadata() {
            Ok(_) => std::io::Error::new(std::io::ErrorKind::AlreadyExists, "already exists; choose a new folder"),
            Err(_) => error,
        })?;
        sync_folder(folder_of(&place))
    }

    fn put_in_place_by(self, exchange: fn(&Path, &Path) -> bool) -> std::io::Result<()> {
        sync_all(self.path())?;
        let Self { partial, place, .. } = self;
        let _claim = claim_on(&place);
        put_back_claimed(&place)?;
        partial.replace(&place, &aside(&place), exchange)?;
        // Make the new name durable before the drop removes the old content.
        sync_folder(folder_of(&place))?;
        drop(partial);
        sync_folder(folder_of(&place))
    }

    /// Like [`put_in_place`](Self::put_in_place), but removes only those old files that `decide` names. `decide` gets
    /// the old folder and the new one, to which it may still write. Returns the folder in which the rest is kept, or
    /// `None` if nothing is.
    ///
    /// # Errors
    /// Any error of the file system or of `decide`; either the old or the new folder is then in place.
    pub fn succeed<E: From<std::io::Error>>(
        self,
        decide: impl FnOnce(&Path, &Path) -> Result<Succession, E>,
    ) -> Result<Option<PathBuf>, E> {
        sync_all(self.path())?;
        let Self { partial, place, name } = self;
        let _claim = claim_on(&place);
        put_back_claimed(&place)?;
        let Ok(existing) = place.symlink_metadata() else {
            partial.replace(&place, &aside(&place), exchange)?;
            return Ok(sync_folder(folder_of(&place)).map(|()| None)?);
        };
        if !existing.is_dir() {
            return Err(
                std::io::Error::new(std::io::ErrorKind::NotADirectory, "is not a folder; move it elsewhere").into()
            );
        }
        if existing.permissions().readonly() {
            let problem = "is write-protected; `chmod u+w` it or move it elsewhere";
            return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, problem).into());
        }
        let Succession { mut superseded, keep } = decide(&place, partial.path())?;
        let in_the_way = succession::carry_over(&place, partial.path(), &superseded)?;
        let kept = if keep {
            superseded.extend(in_the_way);
            succession::keep(&place, &name, &superseded)?
        } else {
            succession::keep(&place, &name, &in_the_way)?
        };
        std::fs::set_permissions(partial.path(), existing.permissions())?;
        sync_all(partial.path())?;
        partial.replace(&place, &aside(&place), exchange)?;
        sync_folder(folder_of(&place))?;
        // Carry over files that others put into the old folder in the meantime.
        succession::carry_over(partial.path(), &place, &superseded)?;
        drop(partial);
        sync_folder(folder_of(&place))?;
        Ok(kept)
    }
}

/// Returns the result of `read`, which reads several files of the folder `place`, all from one state of the folder: if
/// it is replaced meanwhile, `read` runs again.
///
/// # Errors
/// Those of `read`.
pub fn read_folder<T, E>(place: &Path, read: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    until_unchanged(place, read, put_back)
}

/// Like [`read_folder`], for a `change` that also writes files in the folder. Nobody replaces the folder meanwhile; if
/// that cannot be guaranteed (see [`claim`](super::claim)), the change is repeated on the new folder.
///
/// # Errors
/// Those of `change`.
pub fn update_folder<T, E>(place: &Path, change: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let place = &followed(place);
    // Do not create anything for a folder that does not exist.
    let _claim = if place.exists() || aside(place).exists() { claim_on(place) } else { Claim::nothing() };
    until_unchanged(place, change, put_back_claimed)
}

fn until_unchanged<T, E>(
    place: &Path,
    mut read: impl FnMut() -> Result<T, E>,
    put_back: fn(&Path) -> std::io::Result<()>,
) -> Result<T, E> {
    let place = &followed(place);
    loop {
        let cannot_be_put_back = put_back(place).is_err();
        let before = Identity::of(place);
        let result = read();
        let is_there = place.exists() || !aside(place).exists() || cannot_be_put_back;
        if is_there && before.is_of(place) {
            return result;
        }
    }
}

/// The right to replace a folder or to change files in it.
fn claim_on(place: &Path) -> Claim {
    // Replacing takes a moment, so wait without a message.
    match claim(&named(".claim-", place), || None::<()>, |_| ()) {
        Turn::Ours(claim) => claim,
        Turn::Ready(()) => Claim::nothing(),
    }
}

/// Where the old folder goes for a moment on a file system that cannot exchange two names.
fn aside(place: &Path) -> PathBuf {
    named(".replaced-", place)
}

fn named(prefix: &str, place: &Path) -> PathBuf {
    let mut name = OsString::from(prefix);
    name.push(place.file_name().unwrap_or_default());
    place.with_file_name(name)
}

/// Restores a folder that a killed process had moved aside.
fn put_back(place: &Path) -> std::io::Result<()> {
    if !aside(place).exists() {
        return Ok(());
    }
    // A living process may have moved it there for a moment.
    let _claim = claim_on(place);
    put_back_claimed(place)
}

fn put_back_claimed(place: &Path) -> std::io::Result<()> {
    let aside = aside(place);
    partial::making(|| match (aside.exists(), place.exists()) {
        (true, false) => std::fs::rename(&aside, place),
        (true, true) => std::fs::remove_dir_all(&aside),
        (false, _) => Ok(()),
    })
}

/// Identifies the folder behind a name. While its handle is open, the inode number cannot be reused; a folder that this
/// user may not open has none, and is identified by the number alone.
struct Identity {
    #[cfg(unix)]
    _folder: Option<File>,
    #[cfg(unix)]
    number: Option<(u64, u64)>,
    #[cfg(not(unix))]
    created: Option<std::time::SystemTime>,
}

#[cfg(unix)]
impl Identity {
    fn of(place: &Path) -> Self {
        let folder = File::open(place).ok();
        let metadata = folder.as_ref().map_or_else(|| std::fs::metadata(place), File::metadata);
        Self { number: metadata.ok().as_ref().map(Self::number), _folder: folder }
    }

    fn number(metadata: &std::fs::Metadata) -> (u64, u64) {
        use std::os::unix::fs::MetadataExt;
        (metadata.dev(), metadata.ino())
    }

    fn is_of(&self, place: &Path) -> bool {
        self.number == std::fs::metadata(place).ok().as_ref().map(Self::number)
    }
}

#[cfg(not(unix))]
impl Identity {
    fn of(place: &Path) -> Self {
        Self { created: std::fs::metadata(place).and_then(|metadata| metadata.created()).ok() }
    }

    fn is_of(&self, place: &Path) -> bool {
        self.created == Self::of(place).created
    }
}

/// Exchanges two names atomically; returns `false` if the system cannot.
#[cfg(target_os = "linux")]
fn exchange(first: &Path, second: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, first, CWD, second, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

/// From this number of entries on, the whole file system is synced at once, which takes less time than file by file.
const MANY: usize = 1000;

fn sync_all(folder: &Path) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    if std::fs::read_dir(folder)?.nth(MANY).is_some() {
        return Ok(rustix::fs::syncfs(File::open(folder)?)?);
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_all(&entry.path())?;
        } else if kind.is_file() {
            // Links and pipes need no sync of their own; another user's unreadable file was not written here.
            match File::open(entry.path()) {
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
                file => file?.sync_all()?,
            }
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
    fn a_folder_made_for_an_empty_place_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("flows");
        let whole = || {
            let whole = WholeFolder::new(&place).unwrap();
            std::fs::write(whole.path().join("a"), "new").unwrap();
            whole
        };
        let late = whole();
        std::fs::create_dir(&place).unwrap();
        std::fs::write(place.join("mine"), "old").unwrap();
        assert_eq!(late.put_in_empty_place().unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!((names(folder.path()), names(&place)), (vec!["flows".to_owned()], vec!["mine".to_owned()]));
        std::fs::remove_dir_all(&place).unwrap();
        let late = whole();
        std::fs::write(&place, "old").unwrap();
        assert!(late.put_in_empty_place().is_err());
        assert_eq!(std::fs::read(&place).unwrap(), b"old");
        std::fs::remove_file(&place).unwrap();
        whole().put_in_empty_place().unwrap();
        assert_eq!(names(&place), ["a"]);
    }

    #[test]
    fn a_folder_of_many_files_is_put_in_place_whole() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("flows");
        let whole = WholeFolder::new(&place).unwrap();
        for number in 0..MANY + 2 {
            std::fs::write(whole.path().join(number.to_string()), "x").unwrap();
        }
        whole.put_in_place().unwrap();
        assert_eq!(names(&place).len(), MANY + 2);
    }

    #[test]
    fn a_file_system_that_cannot_exchange_two_names_does_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("table");
        for content in ["old", "new"] {
            let whole = WholeFolder::new(&place).unwrap();
            std::fs::write(whole.path().join(content), content).unwrap();
            whole.put_in_place_by(|_, _| false).unwrap();
            assert_eq!(names(folder.path()), ["table"]);
            assert_eq!(names(&place), [content]);
        }
    }

    #[test]
    fn a_folder_that_was_moved_aside_is_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("table");
        std::fs::create_dir(aside(&place)).unwrap();
        std::fs::write(aside(&place).join("a"), "old").unwrap();
        // Readers restore it too.
        assert_eq!(read_folder(&place, || std::fs::read(place.join("a"))).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["table"]);
        std::fs::create_dir(aside(&place)).unwrap();
        WholeFolder::new(&place).unwrap().put_in_place().unwrap();
        assert_eq!(names(folder.path()), ["table"]);
        assert!(names(&place).is_empty());
        // A missing folder is an error, not something to wait for.
        let missing = folder.path().join("none");
        assert!(read_folder(&missing, || std::fs::read(missing.join("a"))).is_err());
    }

    /// Reads two files that always have the same content while one thread replaces the folder and another changes files
    /// in it.
    fn replaced_while_read(exchange: fn(&Path, &Path) -> bool) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("table");
        let replace = |content: &str| {
            let whole = WholeFolder::new(&place).unwrap();
            for name in ["a", "b"] {
                std::fs::write(whole.path().join(name), content).unwrap();
            }
            whole.put_in_place_by(exchange).unwrap();
        };
        let pair = || ["a", "b"].map(|name| std::fs::read_to_string(place.join(name)));
        replace("0");
        let done = std::sync::atomic::AtomicBool::new(false);
        let is_done = || done.load(std::sync::atomic::Ordering::Relaxed);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut reads = 0;
                while !is_done() {
                    let [first, second] = read_folder(&place, || {
                        let [first, second] = pair();
                        Ok::<_, std::io::Error>([first?, second?])
                    })
                    .unwrap();
                    assert_eq!(first, second);
                    reads += 1;
                }
                reads
            });
            scope.spawn(|| {
                while !is_done() {
                    update_folder(&place, || {
                        let text = std::fs::read_to_string(place.join("a"))?;
                        super::super::write_whole(&place.join("sub/c"), text.as_bytes())
                    })
                    .unwrap();
                    // Let the others take a turn.
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            });
            for number in 1..60 {
                replace(&number.to_string());
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(reader.join().unwrap() > 0);
        });
        if let Ok(text) = std::fs::read_to_string(place.join("sub/c")) {
            assert_eq!(text, "59");
        }
        assert_eq!(names(folder.path()), ["table"]);
    }

    #[test]
    fn a_reader_never_sees_two_folders_in_one() {
        replaced_while_read(exchange);
        replaced_while_read(|_, _| false);
    }
}
