//! A conversation with a model's program: requests and answers, one per line, within limits on time, memory and output.
//! However it ends, no process of the program remains.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::FOLDER_PREFIX;
use super::confine::{self, Confinement, Launch, Running};
use super::failure::{Failure, FailureKind};
use super::message::{Level, Reply, Request};
use super::package::Package;
use super::processes::{self, Usage};
use crate::EpochRecord;
use etcbench_storage::TemporaryFolder;
use etcbench_storage::progress::Progress;

/// Maximum length of the program's lines.
const LONGEST_LINE: usize = 1 << 20;
/// Maximum number of lines that the program may write before it answers.
const MOST_LINES: usize = 1_000_000;
/// Maximum number of bytes on standard error.
const MOST_ERRORS: u64 = 256 << 20;
/// Number of lines of standard error to keep.
const KEPT_LINES: usize = 20;
/// Interval between checks of time and memory.
const LOOK: Duration = Duration::from_millis(100);
/// How long a program may take to exit after `quit`.
const GRACE: Duration = Duration::from_secs(10);

/// An event on the program's standard output.
enum Event {
    Line(String),
    TooLong,
    Closed,
}

/// The last lines on standard error, and the total number of bytes.
#[derive(Default)]
struct Errors {
    lines: VecDeque<String>,
    bytes: u64,
}

/// What the program reported in addition to its answer.
#[derive(Default)]
pub(super) struct Told {
    pub epochs: Vec<EpochRecord>,
    pub notes: Vec<String>,
}

/// Receives what the program reports while an answer is awaited.
pub(super) struct Listener<'a> {
    pub told: &'a mut Told,
    pub progress: &'a dyn Progress,
    /// Called about ten times a second.
    pub look: &'a mut dyn FnMut(),
}

/// The limits of a request.
#[derive(Clone, Copy)]
pub(super) struct Allowance {
    /// Maximum time until the answer, and the time that already counts towards it.
    pub seconds: f64,
    pub earlier_seconds: f64,
    /// Maximum memory of all its processes together, in bytes.
    pub memory: Option<u64>,
}

/// A session with a running program.
pub(super) struct Session {
    model: String,
    leader: u32,
    requests: Option<Sender<String>>,
    events: Receiver<Event>,
    ended: Receiver<std::io::Result<ExitStatus>>,
    errors: Arc<Mutex<Errors>>,
    usage: Usage,
    mark: String,
    /// The program's restrictions.
    pub confinement: Confinement,
    /// Removed with the session, after its processes.
    folders: Folders,
}

/// The folders for data and scratch, removed when this is dropped.
pub(super) struct Folders {
    /// Removes them if this process is terminated before.
    _removed: confine::Removed,
    folder: TemporaryFolder,
}

impl Folders {
    /// Creates the folders for a program that is not running yet.
    pub(super) fn new(package: &Package) -> Result<Self, Failure> {
        let problem = |error: std::io::Error| not_started(package, format!("a temporary folder: {error}"));
        let folder = TemporaryFolder::new(FOLDER_PREFIX).map_err(problem)?;
        let folders = Self { _removed: confine::Removed::at_the_end(folder.path()), folder };
        for folder in [folders.data(), folders.scratch(), folders.checkpoint()] {
            std::fs::create_dir(folder).map_err(problem)?;
        }
        Ok(folders)
    }

    /// Returns the folder for arrays; the program cannot write there.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Returns the folder that the program may write to.
    pub(super) fn scratch(&self) -> PathBuf {
        self.folder.path().join("scratch")
    }

    /// Returns the folder of checkpoints, in the scratch folder.
    pub(super) fn checkpoint(&self) -> PathBuf {
        self.scratch().join("checkpoint")
    }
}

/// Builds the failure of a program that cannot be started.
pub(super) fn not_started(package: &Package, problem: String) -> Failure {
    let model = package.name.clone();
    Failure { model, kind: FailureKind::NotStarted, problem, standard_error: Vec::new() }
}

/// How to start a session.
pub(super) struct Start<'a> {
    pub package: &'a Package,
    pub threads: usize,
    pub card: Option<usize>,
    pub memory: Option<u64>,
    /// Whether to use a separate PID namespace, if available.
    pub own_processes: bool,
}

impl Session {
    /// Starts the program of a package, with its own folders.
    pub(super) fn start(start: &Start<'_>, folders: Folders) -> Result<Self, Failure> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let package = start.package;
        let nonce = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let launch = Launch {
            package,
            command: &package.manifest.run,
            data: &folders.data(),
            scratch: &folders.scratch(),
            threads: start.threads,
            card: start.card,
            memory: start.memory,
            own_processes: start.own_processes,
            nonce: &nonce,
        };
        let Running { leader, stdin, stdout, stderr, ended, confinement, mark } =
            confine::start(&launch).map_err(|problem| not_started(package, problem))?;
        let (requests, to_write) = channel::<String>();
        std::thread::spawn(move || {
            let mut stdin = stdin;
            for line in to_write {
                if stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()).is_err() {
                    break;
                }
            }
        });
        // Bounded, so that a program that keeps writing blocks.
        let (lines, events) = sync_channel(1024);
        std::thread::spawn(move || read_lines(stdout, &lines));
        let errors: Arc<Mutex<Errors>> = Arc::default();
        let kept = Arc::clone(&errors);
        std::thread::spawn(move || read_errors(stderr, &kept));
        Ok(Self {
            model: package.name.clone(),
            leader,
            requests: Some(requests),
            events,
            ended,
            errors,
            usage: Usage::default(),
            mark,
            confinement,
            folders,
        })
    }

    /// Returns its folders.
    pub(super) fn folders(&self) -> &Folders {
        &self.folders
    }

    /// Returns the resources that the program has used so far.
    pub(super) fn usage(&mut self) -> Usage {
        self.usage.look(self.leader);
        self.usage
    }

    /// Builds a failure of this program.
    pub(super) fn failure(&self, kind: FailureKind, problem: impl Into<String>) -> Failure {
        let lines = self.errors.lock().unwrap_or_else(PoisonError::into_inner).lines.iter().cloned().collect();
        Failure { model: self.model.clone(), kind, problem: problem.into(), standard_error: lines }
    }

    /// Sends a request and waits for the answer, which must be the message `expected`. What the program reports in the
    /// meantime goes to `told` and `progress`. A failure kills the program.
    pub(super) fn ask(
        &mut self,
        request: &Request<'_>,
        expected: &str,
        allowance: Allowance,
        told: &mut Told,
        progress: &dyn Progress,
    ) -> Result<Reply, Failure> {
        self.ask_and_look(request, expected, allowance, &mut Listener { told, progress, look: &mut || {} })
    }

    /// Same as [`ask`](Self::ask), but calls the listener's `look` in the meantime.
    pub(super) fn ask_and_look(
        &mut self,
        request: &Request<'_>,
        expected: &str,
        allowance: Allowance,
        listener: &mut Listener<'_>,
    ) -> Result<Reply, Failure> {
        let answer = self.send(request).and_then(|()| self.wait(expected, allowance, listener));
        self.usage.look(self.leader);
        answer.map_err(|failure| {
            confine::return_unless_ended();
            self.kill();
            // The last lines on standard error may arrive slightly later than the messages.
            std::thread::sleep(Duration::from_millis(20));
            self.failure(failure.kind, failure.problem)
        })
    }

    fn send(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        let line = serde_json::to_string(request)
            .map_err(|error| self.failure(FailureKind::Protocol, format!("cannot write a request: {error}")))?;
        // A program that no longer reads has ended, which waiting for its answer detects.
        let _ = self.requests.as_ref().map(|requests| requests.send(line + "\n"));
        Ok(())
    }

    fn wait(&mut self, expected: &str, allowance: Allowance, listener: &mut Listener<'_>) -> Result<Reply, Failure> {
        let started = Instant::now();
        let mut looked = Instant::now();
        let mut lines = 0;
        loop {
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.check(started, expected, allowance)?;
                (listener.look)();
            }
            match self.events.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) | Ok(Event::Closed) => return Err(self.over(expected, allowance)),
                Ok(Event::TooLong) => {
                    let problem = format!("a line of over {LONGEST_LINE} bytes on standard output");
                    return Err(self.failure(FailureKind::EndlessOutput, problem));
                }
                Ok(Event::Line(line)) => {
                    lines += 1;
                    if lines > MOST_LINES {
                        let problem = format!("over {MOST_LINES} lines before `{expected}`");
                        return Err(self.failure(FailureKind::EndlessOutput, problem));
                    }
                    if let Some(reply) = self.read(&line, expected, listener)? {
                        return Ok(reply);
                    }
                }
            }
        }
    }

    /// Handles a line from the program: the answer, or a report on the way to it.
    fn read(&self, line: &str, expected: &str, listener: &mut Listener<'_>) -> Result<Option<Reply>, Failure> {
        let Listener { told, progress, .. } = listener;
        let reply: Reply = serde_json::from_str(line).map_err(|error| {
            let shown: String = line.chars().take(80).collect();
            let advice = "standard output is for messages only; print to standard error";
            self.failure(FailureKind::Protocol, format!("`{shown}` is not a message ({error}); {advice}"))
        })?;
        match reply {
            Reply::Progress { .. } => {
                if let Reply::Progress { stage, epoch, .. } = &reply {
                    progress.note(&epoch.map_or_else(|| stage.clone(), |epoch| format!("{stage}: epoch {epoch}")));
                }
                told.epochs.extend(reply.epoch());
                Ok(None)
            }
            Reply::Log { level, text } => {
                let text: String = text.chars().take(1000).collect();
                progress.note(&text);
                if level == Level::Warning && told.notes.len() < 100 {
                    told.notes.push(format!("{}: {text}", self.model));
                }
                Ok(None)
            }
            Reply::Error { text } => {
                Err(self.failure(FailureKind::Reported, text.chars().take(1000).collect::<String>()))
            }
            reply if reply.name() == expected => Ok(Some(reply)),
            reply => {
                let problem = format!("it sent `{}` instead of `{expected}`", reply.name());
                Err(self.failure(FailureKind::Protocol, problem))
            }
        }
    }

    /// Checks that the program stays within its limits.
    fn check(&mut self, started: Instant, expected: &str, allowance: Allowance) -> Result<(), Failure> {
        self.usage.look(self.leader);
        let Allowance { seconds, earlier_seconds, .. } = allowance;
        if earlier_seconds + started.elapsed().as_secs_f64() > seconds {
            let earlier = match earlier_seconds {
                0.0 => String::new(),
                _ => format!(", of which {earlier_seconds:.1} s were before it was interrupted"),
            };
            let problem = format!("no `{expected}` within {seconds} s{earlier}; raise its limit, or reduce the work");
            return Err(self.failure(FailureKind::TimeLimit, problem));
        }
        if let Some(limit) = allowance.memory.filter(|&limit| self.usage.memory_bytes > limit) {
            return Err(self.too_much(limit));
        }
        if self.errors.lock().unwrap_or_else(PoisonError::into_inner).bytes > MOST_ERRORS {
            let problem = format!("over {} MiB on standard error", MOST_ERRORS >> 20);
            return Err(self.failure(FailureKind::EndlessOutput, problem));
        }
        Ok(())
    }

    fn too_much(&self, limit: u64) -> Failure {
        let problem = format!("it used more than its {} MiB of memory; raise `memory`", limit >> 20);
        self.failure(FailureKind::MemoryLimit, problem)
    }

    /// Returns why standard output ended before the answer.
    fn over(&mut self, expected: &str, allowance: Allowance) -> Failure {
        let ended = self.ended.recv_timeout(Duration::from_secs(2));
        // Its last lines on standard error may still be on the way.
        std::thread::sleep(Duration::from_millis(50));
        let words = |failure: &Failure| failure.standard_error.join("\n");
        match ended {
            Err(_) => {
                let problem = format!("it closed standard output without `{expected}` but is still running");
                self.failure(FailureKind::Protocol, problem)
            }
            Ok(status) => {
                let how = status.map_or_else(|error| error.to_string(), ending);
                let problem = format!("it ended with {how} before `{expected}`");
                let failure = self.failure(FailureKind::Crashed, problem);
                // An allocation above the limit fails inside the program, which reports it in the wording of its
                // language.
                let out_of_memory = ["MemoryError", "bad_alloc", "Cannot allocate memory", "memory allocation of"];
                match allowance.memory {
                    Some(limit) if out_of_memory.iter().any(|word| words(&failure).contains(word)) => {
                        self.too_much(limit)
                    }
                    _ => failure,
                }
            }
        }
    }

    fn kill(&mut self) {
        processes::kill_group(self.leader);
        // Outside a separate PID namespace, processes that left the group are found by the mark.
        if !self.confinement.processes {
            processes::kill_marked(&self.mark);
        }
    }

    /// Asks the program to exit, and kills it if it does not. Returns how many processes it left behind, if that can be
    /// determined.
    pub(super) fn quit(mut self) -> Ending {
        let _ = self.send(&Request::Quit);
        self.requests = None;
        let answer = self.ended.recv_timeout(GRACE);
        let left = if self.confinement.processes { 0 } else { processes::kill_marked(&self.mark) };
        match answer {
            Ok(Ok(status)) if status.success() => Ending { word: None, left },
            Ok(Ok(status)) => Ending { word: Some(format!("it ended with {} after `quit`", ending(status))), left },
            Ok(Err(error)) => Ending { word: Some(error.to_string()), left },
            Err(_) => Ending { word: Some(format!("it did not end within {} s of `quit`", GRACE.as_secs())), left },
        }
    }

    /// Returns the path of a file in the scratch folder.
    pub(super) fn scratch_file(&self, name: &str) -> PathBuf {
        self.folders.scratch().join(name)
    }
}

/// How a program ended after it was asked to exit.
pub(super) struct Ending {
    /// The problem, or `None` if there was none.
    pub word: Option<String>,
    /// Number of processes that it left behind.
    pub left: usize,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.requests = None;
        self.kill();
        // Its folders are removed next, so nothing may still write there.
        let _ = self.ended.recv_timeout(Duration::from_secs(5));
    }
}

/// Describes an exit code or a signal.
fn ending(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("signal {signal}");
    }
    match status.code() {
        // The convention of shells, which `unshare` also follows for its child.
        Some(code) if code > 128 => format!("signal {}", code - 128),
        Some(code) => format!("exit code {code}"),
        None => "no exit code".to_owned(),
    }
}

fn read_lines(stdout: impl Read, lines: &SyncSender<Event>) {
    let mut reader = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let event = match (&mut reader).take(LONGEST_LINE as u64 + 1).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => Event::Closed,
            Ok(_) if line.len() > LONGEST_LINE => Event::TooLong,
            Ok(_) => Event::Line(String::from_utf8_lossy(&line).trim_end().to_owned()),
        };
        let last = !matches!(event, Event::Line(_));
        if matches!(&event, Event::Line(line) if line.is_empty()) {
            continue;
        }
        if lines.send(event).is_err() || last {
            return;
        }
    }
}

fn read_errors(stderr: impl Read, errors: &Mutex<Errors>) {
    let mut reader = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(1 << 16).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                let mut errors = errors.lock().unwrap_or_else(PoisonError::into_inner);
                errors.bytes += count as u64;
                let text = String::from_utf8_lossy(&line);
                errors.lines.push_back(text.trim_end().chars().take(500).collect());
                if errors.lines.len() > KEPT_LINES {
                    errors.lines.pop_front();
                }
            }
        }
    }
}

/// Removes a file that the program wrote, whatever its type.
pub(super) fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}
