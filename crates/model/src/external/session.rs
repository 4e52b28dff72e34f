//! A conversation with the program of a model: a line out, lines back, within limits of time, memory and output. Whatever
//! way it ends, no process of it is left.

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

/// The longest line of the program.
const LONGEST_LINE: usize = 1 << 20;
/// The most lines that the program may write before it answers.
const MOST_LINES: usize = 1_000_000;
/// The most bytes of standard error.
const MOST_ERRORS: u64 = 256 << 20;
/// Lines of standard error that are kept.
const KEPT_LINES: usize = 20;
/// Between two looks at time and memory.
const LOOK: Duration = Duration::from_millis(100);
/// How long a program has to end after `quit`.
const GRACE: Duration = Duration::from_secs(10);

/// What comes from the program.
enum Event {
    Line(String),
    TooLong,
    Closed,
}

/// The last lines of standard error, and how many bytes there were.
#[derive(Default)]
struct Errors {
    lines: VecDeque<String>,
    bytes: u64,
}

/// What the program told beside its answer.
#[derive(Default)]
pub(super) struct Told {
    pub epochs: Vec<EpochRecord>,
    pub notes: Vec<String>,
}

/// How long and how much.
#[derive(Clone, Copy)]
pub(super) struct Allowance {
    /// The time until the answer.
    pub seconds: f64,
    /// The most memory of all its processes together, in bytes.
    pub memory: Option<u64>,
}

/// A program that runs.
pub(super) struct Session {
    model: String,
    leader: u32,
    requests: Option<Sender<String>>,
    events: Receiver<Event>,
    ended: Receiver<std::io::Result<ExitStatus>>,
    errors: Arc<Mutex<Errors>>,
    usage: Usage,
    mark: String,
    /// What the program is kept from.
    pub confinement: Confinement,
    /// Removes the folders where this process is ended while the session lasts.
    _removed: confine::Removed,
    /// The folders of data and scratch; they go with the session, after its processes.
    folders: TemporaryFolder,
}

/// What a session is started with.
pub(super) struct Start<'a> {
    pub package: &'a Package,
    pub threads: usize,
    pub card: Option<usize>,
    pub memory: Option<u64>,
    /// Whether its processes have numbers of their own where that can be had.
    pub own_processes: bool,
}

impl Session {
    /// Starts the program of a package, with folders of its own.
    pub(super) fn start(start: &Start<'_>) -> Result<Self, Failure> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let package = start.package;
        let not_started = |problem: String| Failure {
            model: package.name.clone(),
            kind: FailureKind::NotStarted,
            problem,
            standard_error: Vec::new(),
        };
        let folders =
            TemporaryFolder::new(FOLDER_PREFIX).map_err(|error| not_started(format!("a temporary folder: {error}")))?;
        let removed = confine::Removed::at_the_end(folders.path());
        for folder in ["data", "scratch", "scratch/checkpoint"] {
            std::fs::create_dir(folders.path().join(folder))
                .map_err(|error| not_started(format!("a temporary folder: {error}")))?;
        }
        let nonce = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let launch = Launch {
            package,
            command: &package.manifest.run,
            data: &folders.path().join("data"),
            scratch: &folders.path().join("scratch"),
            threads: start.threads,
            card: start.card,
            memory: start.memory,
            own_processes: start.own_processes,
            nonce: &nonce,
        };
        let Running { leader, stdin, stdout, stderr, ended, confinement, mark } =
            confine::start(&launch).map_err(not_started)?;
        let (requests, to_write) = channel::<String>();
        std::thread::spawn(move || {
            let mut stdin = stdin;
            for line in to_write {
                if stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()).is_err() {
                    break;
                }
            }
        });
        // Bounded, so that a program that writes without end waits.
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
            _removed: removed,
            folders,
        })
    }

    /// Where arrays for the program are put; it cannot write there.
    pub(super) fn data(&self) -> PathBuf {
        self.folders.path().join("data")
    }

    /// Where the program may write.
    pub(super) fn scratch(&self) -> PathBuf {
        self.folders.path().join("scratch")
    }

    /// What the program has taken until now.
    pub(super) fn usage(&mut self) -> Usage {
        self.usage.look(self.leader);
        self.usage
    }

    /// A failure of this program.
    pub(super) fn failure(&self, kind: FailureKind, problem: impl Into<String>) -> Failure {
        let lines = self.errors.lock().unwrap_or_else(PoisonError::into_inner).lines.iter().cloned().collect();
        Failure { model: self.model.clone(), kind, problem: problem.into(), standard_error: lines }
    }

    /// Says something and waits for the answer, which must be the message `expected`. What the program tells on the way
    /// goes to `told` and `progress`. After a failure the program is ended.
    pub(super) fn ask(
        &mut self,
        request: &Request<'_>,
        expected: &str,
        allowance: Allowance,
        told: &mut Told,
        progress: &dyn Progress,
    ) -> Result<Reply, Failure> {
        let answer = self.send(request).and_then(|()| self.wait(expected, allowance, told, progress));
        self.usage.look(self.leader);
        answer.map_err(|failure| {
            self.kill();
            // What it wrote last may be read a moment later than what it said.
            std::thread::sleep(Duration::from_millis(20));
            self.failure(failure.kind, failure.problem)
        })
    }

    fn send(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        let line = serde_json::to_string(request)
            .map_err(|error| self.failure(FailureKind::Protocol, format!("a request cannot be written: {error}")))?;
        // A program that reads no more has ended, which waiting for its answer tells.
        let _ = self.requests.as_ref().map(|requests| requests.send(line + "\n"));
        Ok(())
    }

    fn wait(
        &mut self,
        expected: &str,
        allowance: Allowance,
        told: &mut Told,
        progress: &dyn Progress,
    ) -> Result<Reply, Failure> {
        let started = Instant::now();
        let mut looked = Instant::now();
        let mut lines = 0;
        loop {
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.check(started, expected, allowance)?;
            }
            match self.events.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) | Ok(Event::Closed) => return Err(self.over(expected, allowance)),
                Ok(Event::TooLong) => {
                    let problem =
                        format!("a line of over {LONGEST_LINE} bytes on standard output, with no end in sight");
                    return Err(self.failure(FailureKind::EndlessOutput, problem));
                }
                Ok(Event::Line(line)) => {
                    lines += 1;
                    if lines > MOST_LINES {
                        let problem = format!("over {MOST_LINES} lines before `{expected}`");
                        return Err(self.failure(FailureKind::EndlessOutput, problem));
                    }
                    if let Some(reply) = self.read(&line, expected, told, progress)? {
                        return Ok(reply);
                    }
                }
            }
        }
    }

    /// A line of the program: its answer, or something on the way to it.
    fn read(
        &self,
        line: &str,
        expected: &str,
        told: &mut Told,
        progress: &dyn Progress,
    ) -> Result<Option<Reply>, Failure> {
        let reply: Reply = serde_json::from_str(line).map_err(|error| {
            let shown: String = line.chars().take(80).collect();
            let advice = "standard output is for messages alone, print to standard error";
            self.failure(FailureKind::Protocol, format!("`{shown}` is no message ({error}); {advice}"))
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
                let problem = format!("it said `{}` where `{expected}` was to come", reply.name());
                Err(self.failure(FailureKind::Protocol, problem))
            }
        }
    }

    /// Holds the program to its limits.
    fn check(&mut self, started: Instant, expected: &str, allowance: Allowance) -> Result<(), Failure> {
        self.usage.look(self.leader);
        if started.elapsed().as_secs_f64() > allowance.seconds {
            let problem = format!("no `{expected}` within {} s; raise its limit, or do less", allowance.seconds);
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
        let problem = format!("it took more than the {} MiB of memory that it may; raise `memory`", limit >> 20);
        self.failure(FailureKind::MemoryLimit, problem)
    }

    /// Why standard output ended before the answer.
    fn over(&mut self, expected: &str, allowance: Allowance) -> Failure {
        let ended = self.ended.recv_timeout(Duration::from_secs(2));
        // Its last words are on the way.
        std::thread::sleep(Duration::from_millis(50));
        let words = |failure: &Failure| failure.standard_error.join("\n");
        match ended {
            Err(_) => {
                let problem = format!("it closed standard output without `{expected}`, and runs on");
                self.failure(FailureKind::Protocol, problem)
            }
            Ok(status) => {
                let how = status.map_or_else(|error| error.to_string(), ending);
                let problem = format!("it ended with {how} before `{expected}`");
                let failure = self.failure(FailureKind::Crashed, problem);
                // An allocation above the limit fails inside the program, which says so in the words of its language.
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
        // Of what left the group a mark tells, where it was not in process numbers of its own.
        if !self.confinement.processes {
            processes::kill_marked(&self.mark);
        }
    }

    /// Asks the program to end, and ends it where it does not. Gives how many of its processes were left behind, where
    /// that can be seen.
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

    /// The folder of scratch as a file's path.
    pub(super) fn scratch_file(&self, name: &str) -> PathBuf {
        self.scratch().join(name)
    }
}

/// How a program ended after it was asked to.
pub(super) struct Ending {
    /// What was wrong with it; none where nothing was.
    pub word: Option<String>,
    /// Processes that it left behind.
    pub left: usize,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.requests = None;
        self.kill();
        // Its folders are removed next, so that nothing may write there any more.
        let _ = self.ended.recv_timeout(Duration::from_secs(5));
    }
}

/// An exit code or a signal, in words.
fn ending(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("signal {signal}");
    }
    match status.code() {
        // As shells have it, and `unshare` for what it started.
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

/// Removes a file that the program wrote, whatever it is.
pub(super) fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}
