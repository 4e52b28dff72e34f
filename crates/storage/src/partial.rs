//! Temporary names: they identify their process, so that those of dead processes can be removed, and this process's own
//! are recorded, so that an interrupt removes them.
//!
//! Every name that this process creates, in a temporary folder or anywhere else, is created while holding the lock on
//! the state. An interrupt takes the lock and never releases it: from then on nothing is created and nothing is put in
//! place, so what is removed stays removed, whatever other threads are doing.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use super::destination;
use super::process::{self, Life, ProcessName};

const PREFIX: &str = ".partial-";

/// Files left by a process of another machine are considered abandoned if they did not change for this long.
const FORGOTTEN: Duration = Duration::from_secs(24 * 60 * 60);

struct State {
    /// Everything of this process that is not in place yet, and its claims.
    own: BTreeSet<PathBuf>,
    /// Folders already searched for leftovers.
    swept: BTreeSet<PathBuf>,
    /// Makes names unique.
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
    /// Creates a file in `folder`, open for writing, with the mode and owner of the file it will replace.
    pub(crate) fn file(folder: &Path, existing: Option<&Metadata>) -> std::io::Result<(Self, File)> {
        let mut state = state();
        let path = state.name(folder);
        let mut options = File::options();
        options.write(true).create_new(true);
        // The new file must never be readable by users who could not read the old one.
        #[cfg(unix)]
        if existing.is_some() {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        let file = options.open(&path)?;
        state.own.insert(path.clone());
        drop(state);
        let partial = Self { path };
        existing.map_or(Ok(()), |existing| destination::take_after(&file, existing))?;
        Ok((partial, file))
    }

    /// Creates a folder in `folder`.
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

    /// Moves it into place, or removes it if that fails.
    pub(crate) fn rename(self, to: &Path) -> std::io::Result<()> {
        self.try_rename(to).map_err(|(_, error)| error)
    }

    /// Moves it into place, or returns it if that fails.
    pub(crate) fn try_rename(self, to: &Path) -> Result<(), (Self, std::io::Error)> {
        let mut state = state();
        if let Err(error) = std::fs::rename(&self.path, to) {
            drop(state);
            return Err((self, error));
        }
        state.own.remove(&self.path);
        Ok(())
    }

    /// Exchanges this folder with the one at `place`, so that the old one has the temporary name. If the system cannot
    /// exchange two names, the old folder goes through `aside`. If there is no old folder, this one is simply moved.
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
        // A renamed file is no longer listed.
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

/// Performs a change that creates or removes `path`, which belongs to this process while it exists.
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

/// Performs a change that creates a name which needs no cleanup: one inside a temporary folder, or one that stays.
pub(super) fn making<T>(make: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    let _state = state();
    make()
}

/// Removes everything of this process that is not in place yet, and its claims, and blocks all new work: called by an
/// interrupted process before it exits.
pub fn abandon() {
    let mut state = state();
    for path in std::mem::take(&mut state.own) {
        remove(&path);
    }
    // No other thread can pass this point any more.
    std::mem::forget(state);
}

/// Removes leftovers of dead processes from `folder`. Searches each folder only once: listing is cheap, but not for
/// every file written.
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

/// Returns the current time by the clock that stamps files in `folder`: this machine's clock may be days ahead of the
/// others that write there.
fn time_of(folder: &Path) -> Option<SystemTime> {
    let (partial, file) = Partial::file(folder, None).ok()?;
    let time = file.metadata().and_then(|metadata| metadata.modified()).ok();
    drop(partial);
    time
}

/// Returns the owner of a temporary name with this prefix, or `None` for names of another form, such as unfinished
/// downloads.
pub(super) fn owner(prefix: &str, name: &str) -> Option<ProcessName> {
    let mut parts = name.strip_prefix(prefix)?.split('-');
    let machine = parts.next().filter(|machine| machine.len() == 16 && hex::decode(machine).is_ok())?.to_owned();
    let (pid, start) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next()?.parse::<u64>().ok()?;
    parts.next().is_none().then_some(ProcessName { machine, pid, start })
}

fn remove(path: &Path) {
    // If this fails, the next process removes it.
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
    fn only_leftovers_of_dead_processes_are_removed() {
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
