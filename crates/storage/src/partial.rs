//! Temporary names: whose they are, so that those of dead processes can be removed, and which are this process's own,
//! so that an interrupt removes them.
//!
//! Every name that this process makes, in a folder under a temporary name or anywhere else, it makes while it holds the
//! state. An interrupt takes the state and never gives it back: from then on nothing is made and nothing is put in place,
//! so what is removed stays removed, whatever other threads are in the middle of.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use super::destination;
use super::process::{self, Life, ProcessName};

const PREFIX: &str = ".partial-";

/// What a process of another machine left is taken for dead when nothing in it changed for so long.
const FORGOTTEN: Duration = Duration::from_secs(24 * 60 * 60);

struct State {
    /// Everything of this process that is not in place yet, and its claims.
    own: BTreeSet<PathBuf>,
    /// Folders where leftovers were looked for.
    swept: BTreeSet<PathBuf>,
    /// Makes names distinct.
    next: u64,
}

static STATE: Mutex<State> = Mutex::new(State { own: BTreeSet::new(), swept: BTreeSet::new(), next: 0 });

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A file or folder under a temporary name, removed when dropped.
pub(super) struct Partial {
    path: PathBuf,
}

impl Partial {
    /// A new file in `folder`, open for writing, with the mode and owner of the file whose place it is to take.
    pub(crate) fn file(folder: &Path, there: Option<&Metadata>) -> std::io::Result<(Self, File)> {
        let mut state = state();
        let path = state.name(folder);
        let mut options = File::options();
        options.write(true).create_new(true);
        // At no moment may others read what they could not read before.
        #[cfg(unix)]
        if there.is_some() {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        let file = options.open(&path)?;
        state.own.insert(path.clone());
        drop(state);
        let partial = Self { path };
        there.map_or(Ok(()), |there| destination::take_after(&file, there))?;
        Ok((partial, file))
    }

    /// A new folder in `folder`.
    pub(crate) fn folder(folder: &Path) -> std::io::Result<Self> {
        let mut state = state();
        let path = state.name(folder);
        std::fs::create_dir(&path)?;
        state.own.insert(path.clone());
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it into place; where that fails it is removed.
    pub(crate) fn rename(self, to: &Path) -> std::io::Result<()> {
        self.try_rename(to).map_err(|(_, error)| error)
    }

    /// Moves it into place; where that fails it is given back.
    pub(crate) fn try_rename(self, to: &Path) -> Result<(), (Self, std::io::Error)> {
        let mut state = state();
        if let Err(error) = std::fs::rename(&self.path, to) {
            drop(state);
            return Err((self, error));
        }
        state.own.remove(&self.path);
        Ok(())
    }

    /// Puts a folder in the place of another, which is under the temporary name then. Where the system cannot exchange
    /// two names, the other goes by way of `aside`. Where there is no other the folder is moved.
    pub(crate) fn replace(
        &self,
        place: &Path,
        aside: &Path,
        exchange: impl Fn(&Path, &Path) -> bool,
    ) -> std::io::Result<()> {
        let mut state = state();
        if exchange(&self.path, place) {
            return Ok(());
        }
        if !place.exists() {
            match std::fs::rename(&self.path, place) {
                Ok(()) => {
                    state.own.remove(&self.path);
                    return Ok(());
                }
                // Another process was first.
                Err(_) if place.exists() => {}
                Err(error) => return Err(error),
            }
            if exchange(&self.path, place) {
                return Ok(());
            }
        }
        std::fs::rename(place, aside)?;
        if let Err(error) = std::fs::rename(&self.path, place) {
            let _ = std::fs::rename(aside, place);
            return Err(error);
        }
        std::fs::rename(aside, &self.path)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let mut state = state();
        // It is not there any more when it was renamed.
        if state.own.remove(&self.path) {
            remove(&self.path);
        }
    }
}

impl State {
    fn name(&mut self, folder: &Path) -> PathBuf {
        let ProcessName { machine, pid, start } = process::this();
        self.next += 1;
        folder.join(format!("{PREFIX}{machine}-{pid}-{start}-{}", self.next))
    }
}

/// Does something that creates or removes `path`, which belongs to this process while it is there.
pub(super) fn owning<T>(path: &Path, owned: bool, change: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    let mut state = state();
    let result = change();
    if result.is_ok() {
        if owned {
            state.own.insert(path.to_owned());
        } else {
            state.own.remove(path);
        }
    }
    result
}

/// Does something that makes a name which is nobody's to remove: one inside a folder that is not in place yet, or one
/// that stays.
pub(super) fn making<T>(make: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    let _state = state();
    make()
}

/// Removes everything of this process that is not in place yet, and its claims, and lets nothing new begin: what an
/// interrupted process does before it exits.
pub fn abandon() {
    let mut state = state();
    for path in std::mem::take(&mut state.own) {
        remove(&path);
    }
    // No other thread gets past here any more.
    std::mem::forget(state);
}

/// Removes what dead processes left under temporary names in `folder`. Looks once only: a folder is cheap to list, but
/// not for every file that is written.
pub fn remove_leftovers(folder: &Path) {
    if !state().swept.insert(folder.to_owned()) {
        return;
    }
    let mut now = None;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(|name| owner(PREFIX, name)) else { continue };
        let gone = match owner.life() {
            Life::Alive => false,
            Life::Dead => true,
            Life::Elsewhere => {
                let now = *now.get_or_insert_with(|| time_of(folder));
                let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
                let age = now.zip(modified).and_then(|(now, time)| now.duration_since(time).ok());
                age.is_some_and(|age| age > FORGOTTEN)
            }
        };
        if gone {
            remove(&entry.path());
        }
    }
}

/// The time of a file that is made in `folder` now, by the clock that gives files there their times: that of this machine
/// may be days ahead of the others that write there.
fn time_of(folder: &Path) -> Option<SystemTime> {
    let (partial, file) = Partial::file(folder, None).ok()?;
    let time = file.metadata().and_then(|metadata| metadata.modified()).ok();
    drop(partial);
    time
}

/// Whose a temporary name with this prefix is; none for names that are not of this form, such as unfinished downloads.
pub(super) fn owner(prefix: &str, name: &str) -> Option<ProcessName> {
    let mut parts = name.strip_prefix(prefix)?.split('-');
    let machine = parts.next().filter(|machine| machine.len() == 16 && hex::decode(machine).is_ok())?.to_owned();
    let (pid, start) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next()?.parse::<u64>().ok()?;
    parts.next().is_none().then_some(ProcessName { machine, pid, start })
}

fn remove(path: &Path) {
    // What cannot be removed now is removed by the next process.
    let _ = if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_the_dead_go_and_everything_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let ProcessName { machine, pid, start } = process::this();
        let dead = format!("{PREFIX}{machine}-{pid}-{}-1", start + 1);
        let dead_folder = format!("{PREFIX}{machine}-{pid}-{}-2", start + 1);
        let kept = [
            format!("{PREFIX}{machine}-{pid}-{start}-0"),
            format!("{PREFIX}0123456789abcdef-{pid}-{start}-1"),
            ".partial-Tor.tar.xz".to_owned(),
            format!("{dead}-more"),
            "fit".to_owned(),
        ];
        let forgotten = format!("{PREFIX}0123456789abcdef-1-1-1");
        for name in kept.iter().chain([&dead, &forgotten]) {
            std::fs::write(folder.path().join(name), "half").unwrap();
        }
        let file = File::options().write(true).open(folder.path().join(&forgotten)).unwrap();
        file.set_modified(SystemTime::now() - 2 * FORGOTTEN).unwrap();
        std::fs::create_dir_all(folder.path().join(&dead_folder).join("tables")).unwrap();
        remove_leftovers(folder.path());
        let mut left: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| cfg!(target_os = "linux") || !name.starts_with(&dead[..dead.len() - 1]))
            .collect();
        left.sort();
        let mut kept = kept.to_vec();
        kept.sort();
        assert_eq!(left, kept);
    }
}
