//! Handles Ctrl-C, SIGTERM and SIGHUP: removes what is not in place yet and exits with the code that shells use for the
//! signal, 128 plus its number. What a run has finished is already in the cache.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::external;

/// Whether a caller handles stop requests itself.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// Whether a stop was requested since then.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Reports stop requests to the caller that took over.
pub(super) struct Stopped(());

impl Stopped {
    pub(super) fn is_set(&self) -> bool {
        ASKED.load(Ordering::Acquire)
    }
}

/// From now on, until this is dropped, the first signal is only reported to the caller, who ends the program in order.
pub(super) fn take_over() -> Stopped {
    ASKED.store(false, Ordering::Release);
    TAKEN.store(true, Ordering::Release);
    Stopped(())
}

impl Drop for Stopped {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Release);
    }
}

/// Exits cleanly when the program is asked to stop.
#[cfg(unix)]
pub(super) fn listen() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let names = [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGHUP, "SIGHUP")];
    let wanted = names.into_iter().filter(|(signal, _)| !is_ignored(*signal)).map(|(signal, _)| signal);
    // If signals cannot be handled, they end the program at once; the next start removes what they leave behind.
    let Ok(mut signals) = Signals::new(wanted) else { return };
    let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        // A caller that took over ends the program in order; a second request does not wait for that.
        let taken = |_: &i32| TAKEN.load(Ordering::Acquire) && !ASKED.swap(true, Ordering::AcqRel);
        let Some(signal) = signals.forever().find(|signal| !taken(signal)) else { return };
        leave_nothing();
        let name = names.into_iter().find(|(number, _)| *number == signal).map_or("a signal", |(_, name)| name);
        if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            // Erase the progress bar.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), b"\r\x1b[K");
        }
        complain!("etcbench: stopped by {name}; what a run has finished is kept, and the same command resumes it");
        std::process::exit(128 + signal);
    });
}

/// Exits cleanly when standard input ends. It is a pipe from the process that started this one, so this process does
/// not outlive that one, even if it is killed.
pub(super) fn end_with_standard_input() {
    let _ = std::thread::Builder::new().name("standard input".to_owned()).spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        leave_nothing();
        complain!("etcbench: stopped, because the process that started this one has ended");
        std::process::exit(128 + TERMINATED);
    });
}

/// Ends the programs of external models and removes what is not in place yet.
fn leave_nothing() {
    external::end_all(external::AfterEnd::Exit);
    crate::storage::abandon();
}

/// Number of SIGTERM.
const TERMINATED: i32 = 15;

/// Returns whether the process was started with the signal ignored, as nohup does.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    #[cfg(target_os = "linux")]
    {
        let status = procfs::process::Process::myself().and_then(|process| process.status());
        status.is_ok_and(|status| status.sigign & (1 << (signal - 1)) != 0)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = signal;
        false
    }
}

/// Exits cleanly when the program is asked to stop.
#[cfg(not(unix))]
pub(super) fn listen() {}
