//! Long work: on a thread of its own, without the interpreter lock, so that other Python threads go on and Ctrl-C is
//! heard. What the work tells of its progress reaches a Python function on the thread that waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcbench::progress::Progress;
use pyo3::prelude::*;

/// How often the interpreter is asked whether the user wants to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// Room for the work's calls, as on a main thread.
const STACK: usize = 8 << 20;

/// What unwinds work that nobody waits for any longer; no panic, so nothing is printed.
struct Stopped;

/// Ends the work on this thread.
pub(crate) fn stop() -> ! {
    std::panic::resume_unwind(Box::new(Stopped))
}

/// What a thread ended with that was stopped, or panicked.
pub(crate) fn was_stopped(payload: &(dyn std::any::Any + Send)) -> bool {
    payload.is::<Stopped>()
}

/// What work tells: `begin`, `advance`, `note`, `warn` or `end`, with a text and a number.
type Event = (&'static str, String, u64);

/// Sends what work tells to the thread that waits, and ends the work once it is to stop.
struct Reporter<'a> {
    events: Sender<Event>,
    stop: &'a AtomicBool,
}

impl Reporter<'_> {
    fn send(&self, kind: &'static str, text: &str, number: u64) {
        if self.stop.load(Ordering::Relaxed) && !std::thread::panicking() {
            stop();
        }
        // Nobody listens once the work is to stop.
        let _ = self.events.send((kind, text.to_owned(), number));
    }
}

impl Progress for Reporter<'_> {
    fn begin(&self, stage: &str, steps: u64) {
        self.send("begin", stage, steps);
    }
    fn advance(&self, steps: u64) {
        self.send("advance", "", steps);
    }
    fn note(&self, text: &str) {
        self.send("note", text, 0);
    }
    fn warn(&self, text: &str) {
        self.send("warn", text, 0);
    }
    fn end(&self) {
        self.send("end", "", 0);
    }
}

/// Does `work` and calls `progress(kind, text, number)` with all that it tells. Where that raises, or the user presses
/// Ctrl-C, the work stops at the next thing that it tells, and the exception is raised here.
pub(crate) fn interruptible<T: Send>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&dyn Progress) -> anyhow::Result<T> + Send,
) -> PyResult<T> {
    let stop = AtomicBool::new(false);
    let (events, told) = channel::<Event>();
    // Waited for without the interpreter lock, which asks that what is used then may be shared.
    let told = Mutex::new(told);
    std::thread::scope(|scope| {
        let reporter = Reporter { events, stop: &stop };
        let thread = std::thread::Builder::new()
            .name("etcbench".to_owned())
            .stack_size(STACK)
            // The reporter ends with the work, and then the channel.
            .spawn_scoped(scope, move || work(&reporter))
            .map_err(crate::raised)?;
        let mut failed = None;
        loop {
            let event = py.detach(|| told.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(PATIENCE));
            let heard = match event {
                Ok(event) => progress.map_or(Ok(()), |progress| progress.call1(event).map(drop)),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if failed.is_none()
                && let Err(error) = heard.and_then(|()| py.check_signals())
            {
                stop.store(true, Ordering::Relaxed);
                etcbench::model::external::end_all();
                failed = Some(error);
            }
        }
        let ended = py.detach(|| thread.join());
        match (failed, ended) {
            (Some(error), _) => Err(error),
            (None, Ok(result)) => result.map_err(crate::raised),
            (None, Err(panic)) => std::panic::resume_unwind(panic),
        }
    })
}
