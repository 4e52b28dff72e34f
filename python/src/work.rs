//! Runs long work on a separate thread without the interpreter lock, so that other Python threads continue and Ctrl-C
//! is handled. Progress events are passed to a Python function on the waiting thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcbench::model::external;
use etcbench::progress::Progress;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

/// The interval of checks for signals.
const PATIENCE: Duration = Duration::from_millis(100);

/// Stack size of the worker, the same as on a main thread.
const STACK: usize = 8 << 20;

/// The payload that unwinds abandoned work; without a panic, so nothing is printed.
struct Stopped;

/// Unwinds the work on this thread.
pub(crate) fn stop() -> ! {
    std::panic::resume_unwind(Box::new(Stopped))
}

/// Returns whether the payload of an unwound thread means that it was stopped, as opposed to a panic.
pub(crate) fn was_stopped(payload: &(dyn std::any::Any + Send)) -> bool {
    payload.is::<Stopped>() || payload.is::<external::AfterEnd>()
}

/// A progress event: `begin`, `advance`, `note`, `warn` or `end`, with a text and a number.
type Event = (&'static str, String, u64);

/// Sends progress events to the waiting thread, and stops the work on request.
struct Reporter<'a> {
    events: Sender<Event>,
    stop: &'a AtomicBool,
}

impl Reporter<'_> {
    fn send(&self, kind: &'static str, text: &str, number: u64) {
        if self.stop.load(Ordering::Relaxed) && !std::thread::panicking() {
            stop();
        }
        // Sending fails if the waiting thread has stopped listening.
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

/// Runs `work` and calls `progress(kind, text, number)` with its events. If that raises, or the user presses Ctrl-C,
/// the work stops at its next event, and the exception is raised here.
pub(crate) fn interruptible<T: Send>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&dyn Progress) -> anyhow::Result<T> + Send,
) -> PyResult<T> {
    let stop = AtomicBool::new(false);
    let (events, told) = channel::<Event>();
    // Used without the interpreter lock, so it must be `Sync`.
    let told = Mutex::new(told);
    std::thread::scope(|scope| {
        let reporter = Reporter { events, stop: &stop };
        let thread = std::thread::Builder::new()
            .name("etcbench".to_owned())
            .stack_size(STACK)
            // The reporter is dropped with the work, which closes the channel.
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
                external::end_all(external::AfterEnd::Unwind);
                failed = Some(error);
            }
        }
        let ended = py.detach(|| thread.join());
        if failed.is_some() {
            external::start_again();
        }
        match (failed, ended) {
            (Some(error), _) => Err(error),
            (None, Ok(result)) => result.map_err(crate::raised),
            // Ctrl-C in another thread has ended the models of this one too.
            (None, Err(panic)) if was_stopped(&*panic) => Err(PyKeyboardInterrupt::new_err(())),
            (None, Err(panic)) => std::panic::resume_unwind(panic),
        }
    })
}
