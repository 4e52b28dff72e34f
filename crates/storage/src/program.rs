//! How this program is started again, for what it leaves to processes of its own.

use std::ffi::OsString;
use std::sync::OnceLock;

static PROGRAM: OnceLock<Vec<OsString>> = OnceLock::new();

/// Says by which words this program is started, where that is not its own file: an interpreter and what it runs. The first
/// call counts.
pub fn set_program(words: Vec<OsString>) {
    let _ = PROGRAM.set(words);
}

/// The words that start this program once more, to which arguments are added; at least one.
///
/// # Errors
/// A file of this program that the system does not tell.
pub fn program() -> std::io::Result<Vec<OsString>> {
    match PROGRAM.get().filter(|words| !words.is_empty()) {
        Some(words) => Ok(words.clone()),
        None => Ok(vec![std::env::current_exe()?.into()]),
    }
}
