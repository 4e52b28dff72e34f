//! What subcommands print, and how much: escaping, `--quiet` and `--verbose`, JSON for machines, `-` for standard input
//! and output, and protection against overwriting an input.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::report::Table;
use crate::storage;

static STANDARD_OUTPUT_IS_A_FILE: AtomicBool = AtomicBool::new(false);

/// Returns whether standard output is the file that the subcommand writes, or is reserved for JSON.
pub(super) fn is_standard_output() -> bool {
    STANDARD_OUTPUT_IS_A_FILE.load(Ordering::Relaxed)
}

/// How much is printed in addition to the requested output.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verbosity {
    /// Errors only.
    Quiet,
    /// What a user usually wants to know.
    Normal,
    /// What is computed, what comes from the cache, and where time goes.
    Verbose,
}

static VERBOSITY: OnceLock<Verbosity> = OnceLock::new();

/// Sets the verbosity, once, before anything is printed.
pub(super) fn set_verbosity(verbosity: Verbosity) {
    let _ = VERBOSITY.set(verbosity);
}

/// Returns the verbosity.
pub(super) fn verbosity() -> Verbosity {
    VERBOSITY.get().copied().unwrap_or(Verbosity::Normal)
}

/// Formats a count with its noun, given in the singular: `1 flow`, `2 flows`.
pub(super) fn count(count: usize, one: &str) -> String {
    storage::counted(count as u64, one)
}

/// Formats a duration in suitable units: `0.4 s`, `3 min 12 s`, `2 h 5 min`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// The option for machine-readable output.
#[derive(clap::Args)]
pub(super) struct JsonOption {
    /// Print one JSON object on standard output; other output goes to standard error.
    #[arg(long)]
    json: bool,
}

impl JsonOption {
    /// Returns whether JSON is requested; if so, standard output is reserved for it from now on.
    pub(super) fn is_asked(&self) -> bool {
        if self.json {
            STANDARD_OUTPUT_IS_A_FILE.store(true, Ordering::Relaxed);
        }
        self.json
    }
}

/// Prints a value as one line of JSON.
pub(super) fn json(value: &serde_json::Value) {
    // Control characters in JSON strings are already escaped.
    super::write_line(&mut std::io::stdout().lock(), &value.to_string());
}

/// Makes text safe for a terminal: characters that control it (names in a capture, a model or a definition may contain
/// them) or change the writing direction are replaced with their escapes, except line breaks and tabs.
pub(super) fn shown(text: impl Into<String>) -> String {
    let text = text.into();
    let commands = |letter: char| {
        letter.is_control() && !matches!(letter, '\n' | '\t')
            || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(commands) {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match commands(letter) {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    shown
}

/// Returns whether standard output is a terminal.
pub(super) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Formats a table for standard output: as wide as the terminal, or as Markdown if it is not a terminal.
pub(super) fn table(table: &Table) -> String {
    match is_terminal() {
        true => table.to_text(terminal_size::terminal_size().map(|(width, _)| width.0.into())),
        false => table.to_markdown(),
    }
}

/// Announces the output file before anything else is printed, and returns its name for messages.
pub(super) fn announce(output: &Path) -> String {
    if storage::is_standard_output(output) {
        STANDARD_OUTPUT_IS_A_FILE.store(true, Ordering::Relaxed);
        return "standard output".to_owned();
    }
    output.display().to_string()
}

/// Returns the captures that a subcommand reads, with `-` as standard input. None of them may be the output file.
pub(super) fn captures(given: &[PathBuf], output: Option<&Path>) -> anyhow::Result<Vec<PathBuf>> {
    let standard_input = |path: &&PathBuf| [Path::new("-"), Path::new("/dev/stdin")].contains(&path.as_path());
    if given.iter().filter(standard_input).count() > 1 {
        anyhow::bail!("standard input is listed twice among the captures, but can only be read once");
    }
    if let Some(path) = output.and_then(|output| given.iter().find(|capture| is_same_file(capture, output))) {
        anyhow::bail!("{}: is both an input and the output; choose another output with -o", path.display());
    }
    let named = |path: &PathBuf| if path == Path::new("-") { "/dev/stdin".into() } else { path.clone() };
    Ok(given.iter().map(named).collect())
}

/// Only regular files count: a terminal, for example, may be both.
fn is_same_file(one: &Path, other: &Path) -> bool {
    one.is_file() && matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_fitting_units() {
        let texts = [0.04, 59.4, 59.96, 192.0, 7500.0].map(duration);
        assert_eq!(texts, ["0.0 s", "59.4 s", "1 min 0 s", "3 min 12 s", "2 h 5 min"]);
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(shown("a\tb\nü·…\n".to_owned()), "a\tb\nü·…\n");
        let hostile = "\u{1b}]0;title\u{7}\u{1b}[2Jx\u{9b}31m\r\u{202e}gpj.exe\u{0}".to_owned();
        let expected = "\\u{1b}]0;title\\u{7}\\u{1b}[2Jx\\u{9b}31m\\r\\u{202e}gpj.exe\\u{0}";
        assert_eq!(shown(hostile), expected);
    }
}
