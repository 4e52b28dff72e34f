//! Ctrl-C, SIGTERM and SIGHUP: what is not in place yet is removed, and the program ends with the exit code that shells
//! give for the signal, 128 and its number. What a run has finished is in the cache already.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether somebody ends the program in order when it is asked to stop.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// Whether it was asked since then.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Says whether the program was asked to stop, to who has taken over.
pub(super) struct Stopped(());

impl Stopped {
    pub(super) fn is_set(&self) -> bool {
        ASKED.load(Ordering::Acquire)
    }
}

/// From now on the first signal is only told to the caller, who ends the program in order, until this is dropped.
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

/// Ends the program cleanly when it is asked to stop.
#[cfg(unix)]
pub(super) fn listen() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let names = [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGHUP, "SIGHUP")];
    let wanted = names.into_iter().filter(|(signal, _)| !is_ignored(*signal)).map(|(signal, _)| signal);
    // Where signals cannot be waited for they end the program at once; what they leave is removed by the next start.
    let Ok(mut signals) = Signals::new(wanted) else { return };
    let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        // Who has taken over ends the program in order; whoever asks twice does not want to wait for that.
        let taken = |_: &i32| TAKEN.load(Ordering::Acquire) && !ASKED.swap(true, Ordering::AcqRel);
        let Some(signal) = signals.forever().find(|signal| !taken(signal)) else { return };
        leave_nothing();
        let name = names.into_iter().find(|(number, _)| *number == signal).map_or("a signal", |(_, name)| name);
        if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            // The bar that stands there.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), b"\r\x1b[K");
        }
        complain!("etcbench: stopped by {name}; what is finished is kept, and the same command goes on from there");
        std::process::exit(128 + signal);
    });
}

/// Ends the program cleanly when standard input ends: a pipe of which the process that started this one holds the other
/// side, so that nothing goes on when that process is gone, even killed.
pub(super) fn end_with_standard_input() {
    let _ = std::thread::Builder::new().name("standard input".to_owned()).spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        leave_nothing();
        complain!("etcbench: stopped, since the process that started this one has ended");
        std::process::exit(128 + TERMINATED);
    });
}

/// Ends the programs of external models and removes what is not in place yet.
fn leave_nothing() {
    crate::model::external::end_all();
    crate::storage::abandon();
}

/// The number of SIGTERM.
const TERMINATED: i32 = 15;

/// Whether whoever started the program wants the signal to be ignored, as nohup does.
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

/// Ends the program cleanly when it is asked to stop.
#[cfg(not(unix))]
pub(super) fn listen() {}
