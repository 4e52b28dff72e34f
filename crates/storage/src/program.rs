//! The command that starts this program again, for work in child processes.

use std::ffi::OsString;
use std::sync::OnceLock;

static PROGRAM: OnceLock<Vec<OsString>> = OnceLock::new();

/// Sets the command that starts this program if that is not its own executable: an interpreter and its arguments. Only
/// the first call counts.
pub fn set_program(words: Vec<OsString>) {
    let _ = PROGRAM.set(words);
}

/// Returns the command that starts this program again, to which arguments are appended; never empty.
///
/// # Errors
/// The system does not report the path of the executable.
pub fn program() -> std::io::Result<Vec<OsString>> {
    match PROGRAM.get().filter(|words| !words.is_empty()) {
        Some(words) => Ok(words.clone()),
        None => Ok(vec![std::env::current_exe()?.into()]),
    }
}
