//! Claims: whoever is to compute something that others may be computing too takes a claim on it first, and the others
//! wait for the result. A claim is a file that is created exclusively, by a hard link to a finished one, which network
//! file systems keep too; it names its process, which touches it every few seconds. A claim of a process that is dead
//! is removed: at once where its machine can be asked, otherwise when it was not touched for two minutes of the
//! waiting process's own clock, so that no two clocks need agree. So is that of a process that was suspended. One that
//! a power failure left empty is removed when a run begins, or after five seconds.
//!
//! Claims save work and nothing else. Results are whole files that come out the same whoever computes them, so where
//! a claim cannot be had (a read-only folder) or two processes hold one (one was suspended for minutes), the same
//! thing is computed twice.
//!
//! Waiting inside a task of a thread pool can wait for another task on the same thread: claims are for threads that
//! run stages, not for what runs inside a stage.

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
/// When a claim that was not touched is taken for one of the dead. Network file systems may show a touch a minute late.
const SILENCE: Duration = Duration::from_secs(120);
/// The same for one without content: its process died while it wrote it, or the power failed.
const UNWRITTEN: Duration = Duration::from_secs(5);
/// Between two looks at a claim, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What a claim's file holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Holder {
    #[serde(flatten)]
    process: ProcessName,
    /// Tells the claims of one process apart.
    number: u64,
    /// For people.
    host: String,
    /// For people: seconds since 1970.
    since: u64,
}

/// The claims of this process.
static HELD: Mutex<Vec<(u64, PathBuf)>> = Mutex::new(Vec::new());

/// The right to compute something, until it is dropped.
#[must_use = "a claim ends when it is dropped"]
pub struct Claim(Option<(PathBuf, Holder)>);

/// Whose turn it is.
pub enum Turn<T> {
    /// The result is there.
    Ready(T),
    /// It is for the caller to compute, who drops the claim when the result is stored.
    Ours(Claim),
}

impl Claim {
    /// A claim that keeps nobody away: for work that nobody else can be doing.
    pub fn nothing() -> Self {
        Self(None)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some((path, holder)) = self.0.take() else { return };
        HELD.lock().unwrap_or_else(PoisonError::into_inner).retain(|(number, _)| *number != holder.number);
        let _ = partial::owning(&path, false, || {
            // It is another's by now if this process was silent for too long. A read that fails is tried once more: the
            // claim would stay until another run finds its process dead.
            if read(&path).or_else(|| read(&path)).as_ref() == Some(&holder) {
                let _ = std::fs::remove_file(&path);
            }
            Ok(())
        });
    }
}

/// Gives the result as soon as `ready` has it, or a claim on it in the file `path` if nobody else is computing it;
/// while another process is, waits. `waiting` is called once, with the name of the process that is waited for.
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
    let mut told = false;
    loop {
        if let Some(result) = ready() {
            return Turn::Ready(result);
        }
        match take(path) {
            Ok(Some(claim)) => {
                // It may have been finished between the two looks.
                return ready().map_or_else(|| Turn::Ours(claim), Turn::Ready);
            }
            Ok(None) => {}
            // No claims here: the work is still done.
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
                // It cannot be removed: a folder, or another user's in a folder of theirs. The work is done all the same.
                return Turn::Ours(Claim::nothing());
            }
            continue;
        }
        if !told && wait > 4 * FIRST_WAIT {
            told = true;
            waiting(&sight.told(path));
        }
        std::thread::sleep(wait);
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Removes the claims in `folder` whose processes are known to be dead, and those without content: a power failure left
/// them, unless one is being written this very moment where there are no hard links, and then the work is done twice.
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
    /// Or why it cannot be read, as another user's cannot.
    content: Result<Vec<u8>, ErrorKind>,
    touched: Option<SystemTime>,
}

impl Sight {
    /// None where there is no claim any more.
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

    /// Whether it can be read and names nobody.
    fn is_unwritten(&self) -> bool {
        self.content.is_ok() && self.holder().is_none()
    }

    fn is_dead(&self, silent: bool) -> bool {
        match self.holder() {
            // A claim that this process dropped, but could not remove.
            Some(holder) if holder.process == *process::this() => {
                let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
                !held.iter().any(|(number, _)| *number == holder.number)
            }
            // One that lives and touches nothing is suspended, and nobody knows until when.
            Some(holder) => silent || holder.process.life() == Life::Dead,
            // Not written yet, where the file system has no hard links, or not to be read.
            None => silent,
        }
    }

    fn told(&self, path: &Path) -> String {
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

/// Creates the claim; none where another has it.
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
    // Listed before it is there, so that another thread of this process does not take it for one that was dropped.
    HELD.lock().unwrap_or_else(PoisonError::into_inner).push((number, path.to_owned()));
    let taken = create(path, &json);
    if !matches!(taken, Ok(true)) {
        HELD.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, _)| *other != number);
        return taken.map(|_| None);
    }
    keep_alive();
    Ok(Some(Claim(Some((path.to_owned(), holder)))))
}

/// Creates a file with its content at once; false where it is there already.
fn create(path: &Path, content: &[u8]) -> std::io::Result<bool> {
    let (partial, mut file) = Partial::file(folder_of(path), None)?;
    file.write_all(content)?;
    drop(file);
    let linked = partial::owning(path, true, || std::fs::hard_link(partial.path(), path));
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // A network file system may report a link that it made as one that was there, when its answer was lost.
            let ours = std::fs::read(path).is_ok_and(|found| found == content);
            if ours {
                partial::owning(path, true, || Ok(()))?;
            }
            Ok(ours)
        }
        // No hard links here.
        Err(_) => match partial::owning(path, true, || File::create_new(path)) {
            Ok(mut file) => file.write_all(content).map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        },
    }
}

/// Removes the claim that was seen and is of a dead process, and no other: renamed first, which only one of several
/// waiting processes can do, and looked at again.
fn remove_dead(path: &Path, sight: &Sight) {
    let Ok((partial, file)) = Partial::file(folder_of(path), None) else { return };
    drop(file);
    if std::fs::rename(path, partial.path()).is_err() {
        return;
    }
    let found = std::fs::read(partial.path()).map_err(|error| error.kind());
    if found != sight.content {
        // Another process was faster, and this is the claim that it took: it gets its name back.
        let _ = std::fs::hard_link(partial.path(), path);
    }
}

/// Touches the claims of this process for as long as it lives.
fn keep_alive() {
    static START: Once = Once::new();
    START.call_once(|| {
        // Without this thread claims look abandoned to other machines, which then do the work twice.
        let _ = std::thread::Builder::new().name("claims".to_owned()).spawn(|| {
            loop {
                std::thread::sleep(HEARTBEAT);
                let held: Vec<PathBuf> = {
                    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
                    held.iter().map(|(_, path)| path.clone()).collect()
                };
                for path in held {
                    // One that was dropped in between is not there any more.
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
    fn a_claim_that_cannot_be_read_or_removed_ends_in_work_done_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fit");
        let none = || None::<()>;
        let short = Duration::from_millis(400);
        // A folder in its place cannot be read, nor removed as a file; so is a link that leads nowhere.
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("own"), "").unwrap();
        let (mut whom, mut looks) = (Vec::new(), 0);
        let counted = || {
            looks += 1;
            none()
        };
        let started = Instant::now();
        drop(ours(claim_within(&path, short, counted, |name| whom.push(name.to_owned()))));
        assert!(started.elapsed() >= short && looks < 40, "{looks} looks in {:?}", started.elapsed());
        assert!(whom.len() == 1 && whom[0].contains("cannot be read"), "{whom:?}");
        assert!(path.join("own").exists());
        #[cfg(unix)]
        {
            let link = folder.path().join("link");
            std::os::unix::fs::symlink("nowhere", &link).unwrap();
            drop(ours(claim_within(&link, short, none, |_| ())));
        }
    }

    #[test]
    fn claims_of_the_dead_are_taken_over_and_those_of_the_living_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fit");
        let nothing = || None::<()>;
        let this = process::this();
        let holder = |process: ProcessName| Holder { process, number: 7, host: "h".to_owned(), since: 0 };
        let write = |holder: &Holder| std::fs::write(&path, serde_json::to_vec(holder).unwrap()).unwrap();

        // Another start time: dead, where the system tells.
        if this.start > 0 {
            write(&holder(ProcessName { start: this.start + 1, ..this.clone() }));
            drop(ours(claim(&path, nothing, |_| ())));
            assert_eq!(files(folder.path()), 0);
        }
        // A claim of this process that it does not hold any more.
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

        // Another machine: waited for as long as it is touched, and then for the silence.
        let elsewhere = holder(ProcessName { machine: "0".repeat(16), ..this.clone() });
        write(&elsewhere);
        let beat = Duration::from_millis(100);
        let (silence, beats) = (Duration::from_millis(1500), 6);
        let mut told = Vec::new();
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..beats {
                    std::thread::sleep(beat);
                    File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now()).unwrap();
                }
            });
            drop(ours(claim_within(&path, silence, nothing, |whom| told.push(whom.to_owned()))));
        });
        assert!(start.elapsed() >= beat * beats + silence, "{:?}", start.elapsed());
        assert_eq!(told, [format!("process {} on h", this.pid)]);
        // A file that never got its content goes when a run begins, and is not waited for as long.
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
    fn a_claim_that_was_lost_is_not_removed_by_who_lost_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fit");
        let claimed = ours(claim(&path, || None::<()>, |_| ()));
        std::fs::write(&path, "another's").unwrap();
        drop(claimed);
        assert_eq!(std::fs::read(&path).unwrap(), b"another's");
        // Nor by one that saw the claim before.
        let before = Sight { content: Ok(b"the dead's".to_vec()), touched: None };
        remove_dead(&path, &before);
        assert_eq!(std::fs::read(&path).unwrap(), b"another's");
        assert_eq!(files(folder.path()), 1);
        // Where there can be no claims, the work is done.
        std::fs::write(folder.path().join("file"), "").unwrap();
        drop(ours(claim(&folder.path().join("file/fit"), || None::<()>, |_| ())));
    }
}
