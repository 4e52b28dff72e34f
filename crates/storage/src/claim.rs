//! Claims: before computing something that other processes may also be computing, a process takes a claim on it, and
//! the others wait for the result. A claim is a file created exclusively, through a hard link to a finished file, which
//! also works on network file systems. It names its process, which touches it every few seconds. The claim of a dead
//! process is removed: at once if the process can be checked from this machine, otherwise after two minutes without a
//! touch, measured by the waiting process's own clock, so that clocks need not agree. The same applies to a suspended
//! process. An empty claim left by a power failure is removed when a run begins, or after five seconds.
//!
//! Claims only save work. Results are whole files that are identical whoever computes them, so if a claim cannot be
//! created (a read-only folder) or two processes hold one (one was suspended for minutes), the same thing is computed
//! twice.
//!
//! Waiting inside a thread pool's task may block on another task of the same thread: use claims in threads that run
//! stages, not in code that runs inside a stage.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::partial::{self, Partial};
use super::process::{self, Life, ProcessName};
use super::{create_folder, folder_of, remove_leftovers};

/// How often a claim is touched.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a claim may go untouched before its process is considered dead. Network file systems may show a touch a
/// minute late.
const SILENCE: Duration = Duration::from_secs(120);
/// The same for a claim without content: its process died while writing it, or the power failed.
const UNWRITTEN: Duration = Duration::from_secs(5);
/// First and longest pause between two checks of a claim.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Content of a claim's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Holder {
    #[serde(flatten)]
    process: ProcessName,
    /// Distinguishes the claims of one process.
    number: u64,
    /// For human readers.
    host: String,
    /// For human readers: seconds since 1970.
    since: u64,
}

/// The claims of this process.
static HELD: Mutex<Vec<(u64, PathBuf)>> = Mutex::new(Vec::new());

/// The right to compute something, until it is dropped.
#[must_use = "a claim ends when it is dropped"]
pub struct Claim(Option<(PathBuf, Holder)>);

/// Whose turn it is.
pub enum Turn<T> {
    /// The result exists.
    Ready(T),
    /// The caller computes the result and drops the claim once the result is stored.
    Ours(Claim),
}

impl Claim {
    /// Returns a claim that excludes nobody: for work that nobody else can be doing.
    pub fn nothing() -> Self {
        Self(None)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some((path, holder)) = self.0.take() else { return };
        HELD.lock().unwrap_or_else(PoisonError::into_inner).retain(|(number, _)| *number != holder.number);
        let _ = partial::owning(&path, false, || {
            // If this process was silent for too long, another one holds the claim by now. Retry a failed read once:
            // otherwise the claim would stay until another run finds its process dead.
            if read(&path).or_else(|| read(&path)).as_ref() == Some(&holder) {
                let _ = std::fs::remove_file(&path);
            }
            Ok(())
        });
    }
}

/// Returns the result as soon as `ready` does, or a claim on it in the file `path` if no other process is computing it;
/// waits while another process is. `waiting` is called once, with the name of that process.
pub fn claim<T>(path: &Path, ready: impl FnMut() -> Option<T>, waiting: impl FnMut(&str)) -> Turn<T> {
    claim_within(path, SILENCE, ready, waiting)
}

fn claim_within<T>(
    path: &Path,
    silence: Duration,
    mut ready: impl FnMut() -> Option<T>,
    mut waiting: impl FnMut(&str),
) -> Turn<T> {
    let mut wait = FIRST_WAIT;
    let mut seen: Option<(Sight, Instant)> = None;
    let mut announced = false;
    loop {
        if let Some(result) = ready() {
            return Turn::Ready(result);
        }
        match take(path) {
            Ok(Some(claim)) => {
                // It may have been finished between the two checks.
                return ready().map_or_else(|| Turn::Ours(claim), Turn::Ready);
            }
            Ok(None) => {}
            // No claims can be created here: do the work anyway.
            Err(_) => return Turn::Ours(Claim::nothing()),
        }
        let Some(sight) = Sight::of(path) else { continue };
        if !seen.as_ref().is_some_and(|(before, _)| *before == sight) {
            seen = Some((sight.clone(), Instant::now()));
        }
        let enough = if sight.is_unwritten() { silence.min(UNWRITTEN) } else { silence };
        let silent = seen.as_ref().is_some_and(|(_, since)| since.elapsed() >= enough);
        if sight.is_dead(silent) {
            remove_dead(path, &sight);
            if Sight::of(path).as_ref() == Some(&sight) {
                // It cannot be removed: a folder, or another user's file in their folder. Do the work anyway.
                return Turn::Ours(Claim::nothing());
            }
            continue;
        }
        if !announced && wait > 4 * FIRST_WAIT {
            announced = true;
            waiting(&sight.description(path));
        }
        std::thread::sleep(wait);
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Removes the claims in `folder` whose processes are known to be dead, and those without content. A claim without
/// content was left by a power failure, or is being written at this moment on a file system without hard links; in that
/// case the work is done twice.
pub fn remove_dead_claims(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if let Some(sight) = Sight::of(&path)
            && sight.is_dead(sight.is_unwritten())
        {
            remove_dead(&path, &sight);
        }
    }
}

/// A claim as another process sees it.
#[derive(Debug, Clone, PartialEq)]
struct Sight {
    /// The bytes, or why they cannot be read, for example because the claim belongs to another user.
    content: Result<Vec<u8>, ErrorKind>,
    touched: Option<SystemTime>,
}

impl Sight {
    /// Returns `None` if the claim no longer exists.
    fn of(path: &Path) -> Option<Self> {
        let touched = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        match std::fs::read(path).map_err(|error| error.kind()) {
            Err(ErrorKind::NotFound) if path.symlink_metadata().is_err() => None,
            content => Some(Self { content, touched }),
        }
    }

    fn holder(&self) -> Option<Holder> {
        serde_json::from_slice(self.content.as_ref().ok()?).ok()
    }

    /// Whether the claim is readable but names no process.
    fn is_unwritten(&self) -> bool {
        self.content.is_ok() && self.holder().is_none()
    }

    fn is_dead(&self, silent: bool) -> bool {
        match self.holder() {
            // A claim this process released but failed to delete.
            Some(holder) if holder.process == *process::this() => {
                let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
                !held.iter().any(|(number, _)| *number == holder.number)
            }
            // A living process that touches nothing is suspended for an unknown time.
            Some(holder) => silent || holder.process.life() == Life::Dead,
            // Not written yet, on a file system without hard links, or unreadable.
            None => silent,
        }
    }

    fn description(&self, path: &Path) -> String {
        match (self.holder(), &self.content) {
            (Some(holder), _) => format!("process {} on {}", holder.process.pid, holder.host),
            (None, Ok(_)) => "another process".to_owned(),
            (None, Err(problem)) => {
                format!("another process, whose claim {} cannot be read ({problem})", path.display())
            }
        }
    }
}

fn read(path: &Path) -> Option<Holder> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Creates the claim; returns `None` if another process holds it.
fn take(path: &Path) -> std::io::Result<Option<Claim>> {
    if path.exists() {
        return Ok(None);
    }
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let holder = Holder { process: process::this().clone(), number, host: process::host(), since };
    let json = serde_json::to_vec(&holder).map_err(std::io::Error::other)?;
    let folder = folder_of(path);
    create_folder(folder)?;
    remove_leftovers(folder);
    // Register the claim before its file exists, so that another thread of this process does not mistake it for a
    // released one.
    HELD.lock().unwrap_or_else(PoisonError::into_inner).push((number, path.to_owned()));
    let taken = create(path, &json);
    if !matches!(taken, Ok(true)) {
        HELD.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, _)| *other != number);
        return taken.map(|_| None);
    }
    keep_alive();
    Ok(Some(Claim(Some((path.to_owned(), holder)))))
}

/// Creates a file together with its content; returns `false` if it already exists.
fn create(path: &Path, content: &[u8]) -> std::io::Result<bool> {
    let (partial, mut file) = Partial::file(folder_of(path), None)?;
    file.write_all(content)?;
    drop(file);
    let linked = partial::owning(path, true, || std::fs::hard_link(partial.path(), path));
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // A network file system may report a link that it made as already existing if its first reply was lost.
            let ours = std::fs::read(path).is_ok_and(|found| found == content);
            if ours {
                partial::owning(path, true, || Ok(()))?;
            }
            Ok(ours)
        }
        // No hard links on this file system.
        Err(_) => match partial::owning(path, true, || File::create_new(path)) {
            Ok(mut file) => file.write_all(content).map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        },
    }
}

/// Removes the claim of a dead process that was seen as `sight`, and no other: it renames the file first, which only
/// one of several waiting processes can do, and then checks the content again.
fn remove_dead(path: &Path, sight: &Sight) {
    let Ok((partial, file)) = Partial::file(folder_of(path), None) else { return };
    drop(file);
    if std::fs::rename(path, partial.path()).is_err() {
        return;
    }
    let found = std::fs::read(partial.path()).map_err(|error| error.kind());
    if found != sight.content {
        // Another process was faster, and this is its new claim: restore the name.
        let _ = std::fs::hard_link(partial.path(), path);
    }
}

/// Touches the claims of this process for as long as it lives.
fn keep_alive() {
    static START: Once = Once::new();
    START.call_once(|| {
        // Without this thread, claims look abandoned to other machines, which then repeat the work.
        let _ = std::thread::Builder::new().name("claims".to_owned()).spawn(|| {
            loop {
                std::thread::sleep(HEARTBEAT);
                let held: Vec<PathBuf> = {
                    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
                    held.iter().map(|(_, path)| path.clone()).collect()
                };
                for path in held {
                    // A claim released in between no longer exists.
                    let file = File::options().write(true).open(&path);
                    let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn ours<T>(turn: Turn<T>) -> Claim {
        match turn {
            Turn::Ours(claim) => claim,
            Turn::Ready(_) => panic!("there is no result"),
        }
    }

    fn files(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn many_threads_do_the_work_once() {
        let folder = tempfile::tempdir().unwrap();
        let (path, result) = (folder.path().join("claims/fit"), folder.path().join("result"));
        let computed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| match claim(&path, || std::fs::read(&result).ok(), |_| ()) {
                    Turn::Ready(content) => assert_eq!(content, b"done"),
                    Turn::Ours(_claim) => {
                        computed.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(50));
                        crate::write_whole(&result, b"done").unwrap();
                    }
                });
            }
        });
        assert_eq!(computed.into_inner(), 1);
        assert_eq!(files(&folder.path().join("claims")), 0);
    }

    #[test]
    fn work_is_done_even_if_a_claim_cannot_be_read_or_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fit");
        let none = || None::<()>;
        let short = Duration::from_millis(400);
        // A folder in its place can be neither read nor removed as a file; nor can a dangling link be read.
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("own"), "").unwrap();
        let (mut names, mut looks) = (Vec::new(), 0);
        let counted = || {
            looks += 1;
            none()
        };
        let started = Instant::now();
        drop(ours(claim_within(&path, short, counted, |name| names.push(name.to_owned()))));
        assert!(started.elapsed() >= short && looks < 40, "{looks} looks in {:?}", started.elapsed());
        assert!(names.len() == 1 && names[0].contains("cannot be read"), "{names:?}");
        assert!(path.join("own").exists());
        #[cfg(unix)]
        {
            let link = folder.path().join("link");
            std::os::unix::fs::symlink("nowhere", &link).unwrap();
            drop(ours(claim_within(&link, short, none, |_| ())));
        }
    }

    #[test]
    fn only_claims_of_dead_processes_are_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fit");
        let nothing = || None::<()>;
        let this = process::this();
        let holder = |process: ProcessName| Holder { process, number: 7, host: "h".to_owned(), since: 0 };
        let write = |holder: &Holder| std::fs::write(&path, serde_json::to_vec(holder).unwrap()).unwrap();

        // Another start time: dead, if the system reports start times.
        if this.start > 0 {
            write(&holder(ProcessName { start: this.start + 1, ..this.clone() }));
            drop(ours(claim(&path, nothing, |_| ())));
            assert_eq!(files(folder.path()), 0);
        }
        // A claim of this process that it no longer holds.
        write(&Holder { number: u64::MAX, ..holder(this.clone()) });
        drop(ours(claim(&path, nothing, |_| ())));

        // A living process that touches nothing is suspended.
        if this.start > 0 {
            let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            let living = ProcessName { pid: child.id(), start: process::started(child.id()), ..this.clone() };
            write(&holder(living));
            let start = Instant::now();
            let silence = Duration::from_millis(300);
            drop(ours(claim_within(&path, silence, nothing, |_| ())));
            assert!(start.elapsed() >= silence, "{:?}", start.elapsed());
            child.kill().unwrap();
            child.wait().unwrap();
        }

        // Another machine: wait for as long as it touches the claim, and then for the silence.
        let elsewhere = holder(ProcessName { machine: "0".repeat(16), ..this.clone() });
        write(&elsewhere);
        let beat = Duration::from_millis(100);
        let (silence, beats) = (Duration::from_millis(1500), 6);
        let mut waited_for = Vec::new();
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..beats {
                    std::thread::sleep(beat);
                    File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now()).unwrap();
                }
            });
            drop(ours(claim_within(&path, silence, nothing, |name| waited_for.push(name.to_owned()))));
        });
        assert!(start.elapsed() >= beat * beats + silence, "{:?}", start.elapsed());
        assert_eq!(waited_for, [format!("process {} on h", this.pid)]);
        // A file that never got its content is removed when a run begins, and otherwise waited for only briefly.
        std::fs::write(&path, "").unwrap();
        remove_dead_claims(folder.path());
        assert_eq!(files(folder.path()), 0);
        std::fs::write(&path, "").unwrap();
        let start = Instant::now();
        drop(ours(claim(&path, nothing, |_| ())));
        assert!(start.elapsed() >= UNWRITTEN && start.elapsed() < SILENCE, "{:?}", start.elapsed());
        assert_eq!(files(folder.path()), 0);
    }

    #[test]
    fn a_lost_claim_is_not_removed_by_its_former_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fit");
        let claimed = ours(claim(&path, || None::<()>, |_| ()));
        std::fs::write(&path, "another's").unwrap();
        drop(claimed);
        assert_eq!(std::fs::read(&path).unwrap(), b"another's");
        // Nor by a process that saw the earlier claim.
        let before = Sight { content: Ok(b"the dead's".to_vec()), touched: None };
        remove_dead(&path, &before);
        assert_eq!(std::fs::read(&path).unwrap(), b"another's");
        assert_eq!(files(folder.path()), 1);
        // If no claims can be created, the work is done.
        std::fs::write(folder.path().join("file"), "").unwrap();
        drop(ours(claim(&folder.path().join("file/fit"), || None::<()>, |_| ())));
    }
}
