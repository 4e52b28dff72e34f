//! Fault injection: every file operation of a run fails, the disk fills up, reads fail, or the power is cut; the next
//! start produces the results of an undisturbed run. The program is the ordinary one; `fixtures/faults/faults.c` is
//! preloaded between it and the C library. `scripts/fault-check` tries every change; an ordinary test tries one of each
//! of some kinds, by operation and part of the results.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::common::Project;
use crate::common::every_stage::{self, command, leftovers, results, results_in, same};
use crate::common::faults::{all_faults, chosen, library, succeeded};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A run with faults, and the number of its changes and reads.
fn run(folder: &Path, faults: &[(&str, String)]) -> (Output, u64, u64) {
    let state = tempfile::NamedTempFile::new().unwrap();
    let output = command(folder)
        .env("LD_PRELOAD", library())
        .env("FAULTS_ROOT", folder.join("results"))
        .env("FAULTS_STATE", state.path())
        .envs(faults.iter().map(|(name, value)| (name, value)))
        // One thread, so that the order of changes is fixed.
        .args(["--threads", "1"])
        .output()
        .unwrap();
    let counters = fs::read(state.path()).unwrap();
    let count = |at: usize| u64::from_ne_bytes(counters[at..at + 8].try_into().unwrap());
    (output, count(0), count(8))
}

/// Every stage, with only two models and one variant: the others write the same kinds of files.
fn project() -> Project {
    let project = every_stage::project();
    let whole = every_stage::EXPERIMENT;
    let models = whole.lines().find(|line| line.starts_with("models = ")).unwrap();
    let start = whole.find("[variant.short]").unwrap();
    let text = whole[..start].replace(models, "models = [\"knn\", \"attention_lstm\"]");
    let tune = "[tune]\nsearch = \"grid\"\nbudget = 2\n[tune.space.knn]\nk = [3]\n[tune.space.attention_lstm]\n";
    project.write("experiments/small.toml", text.replace("epochs = 3", "epochs = 2") + tune);
    project
}

struct Undisturbed {
    results: BTreeMap<PathBuf, Vec<u8>>,
    changes: u64,
    /// Returns the middle change of each kind, in order of first appearance of the kinds.
    kinds: Vec<u64>,
    reads: u64,
}

impl Undisturbed {
    /// Every change, or one of each of `few` kinds; `shift` selects other kinds.
    fn changes(&self, few: usize, shift: usize) -> Vec<u64> {
        if all_faults() {
            return (1..=self.changes).collect();
        }
        let last = self.kinds.len() - 1;
        (0..few).map(|index| self.kinds[((last * index).div_ceil(few - 1) + shift).min(last)]).collect()
    }
}

fn undisturbed() -> &'static Undisturbed {
    static UNDISTURBED: OnceLock<Undisturbed> = OnceLock::new();
    UNDISTURBED.get_or_init(|| {
        let project = project();
        let folder = project.path("");
        let trace = tempfile::NamedTempFile::new().unwrap();
        let (output, changes, _) = run(&folder, &[("FAULTS_TRACE", trace.path().to_string_lossy().into_owned())]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut kinds: Vec<(String, Vec<u64>)> = Vec::new();
        for (number, line) in (1..).zip(fs::read_to_string(trace.path()).unwrap().lines()) {
            let (what, path) = line.split_once(' ').unwrap();
            let below = path.split("/results").nth(1).unwrap_or_default();
            let part: String = below.split('/').skip(1).take(2).filter(|part| !part.contains('-')).collect();
            let kind = format!("{what} {part}");
            match kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, numbers)) => numbers.push(number),
                None => kinds.push((kind, vec![number])),
            }
        }
        let traced: usize = kinds.iter().map(|(_, numbers)| numbers.len()).sum();
        assert_eq!(traced as u64, changes);
        let results = results(&folder);
        // Reads are from the cache, so they are counted when it exists.
        fs::remove_dir_all(folder.join("results/small-small-full")).unwrap();
        let never = [("FAULTS_READ", u64::MAX.to_string()), ("FAULTS_ERRNO", EIO.to_string())];
        let (output, _, reads) = run(&folder, &never);
        assert!(output.status.success());
        assert!(changes > 50 && reads > 10 && kinds.len() > 10, "{changes} changes, {reads} reads, {kinds:?}");
        println!("{changes} changes of {} kinds, {reads} reads", kinds.len());
        let kinds = kinds.into_iter().map(|(_, numbers)| numbers[numbers.len() / 2]).collect();
        Undisturbed { results, changes, kinds, reads }
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn every_failing_change_leaves_a_run_that_goes_on() {
    let undisturbed = undisturbed();
    let (mut survived, mut refused, mut tried) = (0, 0, 0);
    for (error, lasting, shift) in [(EIO, "0", 0), (ENOSPC, "1", 1)] {
        for change in undisturbed.changes(6, shift) {
            let project = project();
            let folder = project.path("");
            let what = format!("change {change} fails with {error}");
            let faults = [
                ("FAULTS_FAIL", change.to_string()),
                ("FAULTS_ERRNO", error.to_string()),
                ("FAULTS_LASTING", lasting.to_owned()),
            ];
            tried += 1;
            if succeeded(&run(&folder, &faults).0, &what) {
                survived += 1;
                let found = results(&folder);
                let tables = |results: &BTreeMap<PathBuf, Vec<u8>>| {
                    let run_files = results.iter().filter(|(name, _)| name.starts_with("results/small-small-full"));
                    run_files.map(|(name, content)| (name.clone(), content.clone())).collect::<Vec<_>>()
                };
                assert!(tables(&found) == tables(&undisturbed.results), "{what}: wrong results");
            } else {
                refused += 1;
            }
            let (again, ..) = run(&folder, &[]);
            assert!(again.status.success(), "{what}: {}", String::from_utf8_lossy(&again.stderr));
            same(&undisturbed.results, &folder, &what);
        }
    }
    assert!(refused > 0);
    println!(
        "{tried} faults: {survived} runs finished with the right results, {refused} ended with an error; all went on"
    );
}

#[test]
fn every_failing_read_is_an_error_or_does_not_matter() {
    let undisturbed = undisturbed();
    let finished = project();
    run(&finished.path(""), &[]);
    let mut tried = 0;
    for read in chosen(undisturbed.reads, 4) {
        let project = project();
        let folder = project.path("");
        fs::create_dir_all(folder.join("results")).unwrap();
        copy(&finished.path("results/cache"), &folder.join("results/cache"));
        let what = format!("read {read} fails");
        let faults = [("FAULTS_READ", read.to_string()), ("FAULTS_ERRNO", EIO.to_string())];
        if succeeded(&run(&folder, &faults).0, &what) {
            same(&undisturbed.results, &folder, &what);
        }
        let (again, ..) = run(&folder, &[]);
        assert!(again.status.success(), "{what}");
        same(&undisturbed.results, &folder, &what);
        tried += 1;
    }
    println!("{tried} failing reads, all survived");
}

#[test]
fn a_capture_that_cannot_be_read_is_an_error_and_no_shorter_capture() {
    let project = project();
    let folder = project.path("");
    let state = tempfile::NamedTempFile::new().unwrap();
    let mut failures = 0;
    for read in 1..=6 {
        let output = command(&folder)
            .env("LD_PRELOAD", library())
            .env("FAULTS_ROOT", folder.join("data/small"))
            .env("FAULTS_STATE", state.path())
            .env("FAULTS_READ", read.to_string())
            .env("FAULTS_ERRNO", EIO.to_string())
            .args(["--threads", "1", "--no-cache", "--models", "knn"])
            .output()
            .unwrap();
        fs::write(state.path(), [0; 16]).unwrap();
        if !succeeded(&output, &format!("read {read} of a capture")) {
            failures += 1;
            let printed = String::from_utf8_lossy(&output.stderr).into_owned();
            // The definition next to the captures is read first.
            assert!(printed.contains("data/small"), "read {read}: {printed}");
        }
    }
    assert!(failures > 0);
}

/// The content of a disk after a power failure: the names in folders and the content of files at their last sync.
/// Folders and files from before the run are complete.
struct Disk {
    log: PathBuf,
    before: HashMap<u64, Before>,
}

/// The files from before the run; names may have moved since.
enum Before {
    Folder(Vec<(u64, bool, String)>),
    File(Vec<u8>),
}

impl Disk {
    fn new(folder: &Path, log: &Path) -> Self {
        let mut before = HashMap::new();
        let mut pending = vec![folder.to_owned()];
        while let Some(path) = pending.pop() {
            let metadata = fs::metadata(&path).unwrap();
            let content = if metadata.is_dir() {
                let entries = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap());
                let facts = entries.map(|entry| {
                    pending.push(entry.path());
                    let data = entry.metadata().unwrap();
                    (data.ino(), data.is_dir(), entry.file_name().into_string().unwrap())
                });
                Before::Folder(facts.collect())
            } else {
                Before::File(fs::read(&path).unwrap())
            };
            before.insert(metadata.ino(), content);
        }
        Self { log: log.to_owned(), before }
    }

    /// Keeps only what was synced.
    fn synced(&self, inode: u64, to: &Path) {
        fs::create_dir_all(to).unwrap();
        let listing: Vec<(u64, bool, String)> = match fs::read_to_string(self.log.join(inode.to_string())) {
            Ok(text) => text
                .lines()
                .map(|line| {
                    let mut parts = line.splitn(3, ' ');
                    let mut part = || parts.next().unwrap().to_owned();
                    (part().parse().unwrap(), part() == "1", part())
                })
                .collect(),
            Err(_) => match self.before.get(&inode) {
                Some(Before::Folder(listing)) => listing.clone(),
                _ => Vec::new(),
            },
        };
        for (inode, is_folder, name) in listing {
            if is_folder {
                self.synced(inode, &to.join(name));
            } else {
                fs::write(to.join(name), self.content(inode).unwrap_or_default()).unwrap();
            }
        }
    }

    /// Keeps all names, but only the synced content of files, or half of the content if nothing was synced.
    fn named(&self, from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let target = to.join(path.file_name().unwrap());
            if path.is_dir() {
                self.named(&path, &target);
            } else {
                let content = self.content(fs::metadata(&path).unwrap().ino()).unwrap_or_else(|| {
                    let whole = fs::read(&path).unwrap();
                    whole[..whole.len() / 2].to_vec()
                });
                fs::write(target, content).unwrap();
            }
        }
    }

    fn content(&self, inode: u64) -> Option<Vec<u8>> {
        let synced = fs::read(self.log.join(inode.to_string())).ok();
        synced.or_else(|| match self.before.get(&inode)? {
            Before::File(content) => Some(content.clone()),
            Before::Folder(_) => None,
        })
    }
}

#[test]
fn a_power_failure_at_any_change_loses_no_reported_result() {
    let undisturbed = undisturbed();
    let mut tried = 0;
    for change in undisturbed.changes(5, 2) {
        let project = project();
        let folder = fs::canonicalize(project.path("")).unwrap();
        fs::create_dir_all(folder.join("results")).unwrap();
        let log = tempfile::tempdir().unwrap();
        let disk = Disk::new(&folder, log.path());
        let inode = fs::metadata(&folder).unwrap().ino();
        let faults = [("FAULTS_CRASH", change.to_string()), ("FAULTS_LOG", log.path().to_string_lossy().into_owned())];
        let (output, ..) = run(&folder, &faults);
        assert_eq!(output.status.code(), Some(137), "{}", String::from_utf8_lossy(&output.stderr));
        for names_survive in [false, true] {
            let rebuilt = tempfile::tempdir().unwrap();
            let rebuilt = rebuilt.path();
            if names_survive {
                disk.named(&folder, rebuilt);
            } else {
                disk.synced(inode, rebuilt);
            }
            let what = format!("power failure before change {change}, names survive: {names_survive}");
            let (again, ..) = run(rebuilt, &[]);
            assert!(again.status.success(), "{what}: {}", String::from_utf8_lossy(&again.stderr));
            same(&undisturbed.results, rebuilt, &what);
            tried += 1;
        }
    }
    // What a run has reported as done exists after a power failure.
    let project = project();
    let folder = fs::canonicalize(project.path("")).unwrap();
    fs::create_dir_all(folder.join("results")).unwrap();
    let log = tempfile::tempdir().unwrap();
    let disk = Disk::new(&folder, log.path());
    let (output, ..) = run(&folder, &[("FAULTS_LOG", log.path().to_string_lossy().into_owned())]);
    assert!(output.status.success());
    let rebuilt = tempfile::tempdir().unwrap();
    disk.synced(fs::metadata(&folder).unwrap().ino(), rebuilt.path());
    assert!(results(rebuilt.path()) == undisturbed.results, "a finished run was not durable");
    println!("{tried} power failures, all survived");
}

/// A run whose results differ from the existing ones, next to which a user has put files.
struct Replacement {
    project: Project,
    older: BTreeMap<PathBuf, Vec<u8>>,
    newer: BTreeMap<PathBuf, Vec<u8>>,
}

const RUN_FOLDER: &str = "results/small-small-full";
const OWN: [&str; 3] = ["notes.md", "plots/mine.svg", "tables/mine.csv"];

/// Returns the results of a run in one of the folders, by path, without the user's files.
fn run_in(folder: &Path, run: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let found = results_in(folder, &[run]).into_iter();
    let below = found.map(|(path, content)| (path.strip_prefix(run).unwrap().to_owned(), content));
    below.filter(|(path, _)| !OWN.iter().any(|own| path == Path::new(own))).collect()
}

impl Replacement {
    fn new() -> Self {
        let project = project();
        let folder = project.path("");
        let place = project.path(RUN_FOLDER);
        assert!(run(&folder, &[]).0.status.success());
        let older = run_in(&folder, RUN_FOLDER);
        fs::rename(&place, project.path("older")).unwrap();
        let text = fs::read_to_string(project.path("experiments/small.toml")).unwrap();
        project.write("experiments/small.toml", text.replace("seeds = [0]", "seeds = [1]"));
        assert!(run(&folder, &[]).0.status.success());
        let newer = run_in(&folder, RUN_FOLDER);
        assert!(older != newer);
        fs::remove_dir_all(&place).unwrap();
        fs::rename(project.path("older"), &place).unwrap();
        for name in OWN {
            project.write(&format!("{RUN_FOLDER}/{name}"), name);
        }
        Self { project, older, newer }
    }

    fn copy(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        // Preserves the files' times, by which the cache identifies them.
        let source = self.project.path(".");
        assert!(Command::new("cp").arg("-a").arg(source).arg(folder.path()).status().unwrap().success());
        folder
    }

    /// In any case the older run is complete in one folder, and so are the user's files.
    #[track_caller]
    fn nothing_is_lost(&self, folder: &Path, what: &str) {
        let runs = [RUN_FOLDER, &format!("{RUN_FOLDER}.1")].map(|run| run_in(folder, run));
        assert!(runs.contains(&self.older), "{what}: the older run is gone");
        assert!(runs[0] == self.older || runs[0] == self.newer, "{what}: a mixture");
        for name in OWN {
            let path = folder.join(RUN_FOLDER).join(name);
            assert_eq!(fs::read_to_string(path).unwrap_or_default(), name, "{what}: {name}");
        }
    }

    /// Runs it again, undisturbed.
    #[track_caller]
    fn goes_on(&self, folder: &Path, what: &str) {
        let (again, ..) = run(folder, &[]);
        assert!(again.status.success(), "{what}: {}", String::from_utf8_lossy(&again.stderr));
        self.nothing_is_lost(folder, what);
        assert!(run_in(folder, RUN_FOLDER) == self.newer, "{what}");
        assert!(!folder.join(format!("{RUN_FOLDER}.2")).exists(), "{what}: kept twice");
        assert_eq!(leftovers(folder), Vec::<PathBuf>::new(), "{what}");
    }
}

#[test]
fn a_fault_while_a_run_replaces_another_loses_neither_nor_what_is_the_users() {
    let replacement = Replacement::new();
    let folder = replacement.copy();
    let (output, changes, _) = run(folder.path(), &[("FAULTS_CRASH", u64::MAX.to_string())]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    replacement.goes_on(folder.path(), "undisturbed");
    let mut tried = 0;
    for change in chosen(changes, 8) {
        for fault in ["FAULTS_FAIL", "FAULTS_CRASH"] {
            let folder = replacement.copy();
            let what = format!("change {change} of {changes}, {fault}");
            let (output, ..) = run(folder.path(), &[(fault, change.to_string()), ("FAULTS_ERRNO", EIO.to_string())]);
            if fault == "FAULTS_FAIL" {
                succeeded(&output, &what);
            } else {
                assert_eq!(output.status.code(), Some(137), "{what}");
            }
            replacement.nothing_is_lost(folder.path(), &what);
            replacement.goes_on(folder.path(), &what);
            tried += 1;
        }
    }
    for change in chosen(changes, 4) {
        let folder = replacement.copy();
        let path = fs::canonicalize(folder.path()).unwrap();
        let log = tempfile::tempdir().unwrap();
        let disk = Disk::new(&path, log.path());
        let inode = fs::metadata(&path).unwrap().ino();
        let log_folder = log.path().to_string_lossy().into_owned();
        run(&path, &[("FAULTS_CRASH", change.to_string()), ("FAULTS_LOG", log_folder)]);
        for names_survive in [false, true] {
            let rebuilt = tempfile::tempdir().unwrap();
            if names_survive {
                disk.named(&path, rebuilt.path());
            } else {
                disk.synced(inode, rebuilt.path());
            }
            let what = format!("power failure before change {change} of {changes}, names survive: {names_survive}");
            replacement.nothing_is_lost(rebuilt.path(), &what);
            replacement.goes_on(rebuilt.path(), &what);
            tried += 1;
        }
    }
    println!("{tried} faults of {changes} changes while a run replaced another: nothing was lost");
}
