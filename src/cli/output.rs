//! What subcommands that read captures or write a file share: `-` for standard input and output, and an output that is
//! also read.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::storage;

static STANDARD_OUTPUT_IS_A_FILE: AtomicBool = AtomicBool::new(false);

/// Whether standard output is the file that the subcommand writes.
pub(super) fn is_standard_output() -> bool {
    STANDARD_OUTPUT_IS_A_FILE.load(Ordering::Relaxed)
}

/// Says where a subcommand will write a file, before it says anything else; gives the file's name for people.
pub(super) fn announce(output: &Path) -> String {
    if storage::is_standard_output(output) {
        STANDARD_OUTPUT_IS_A_FILE.store(true, Ordering::Relaxed);
        return "standard output".to_owned();
    }
    output.display().to_string()
}

/// The captures that a subcommand reads, `-` being standard input. None of them may be the file to write.
pub(super) fn captures(given: &[PathBuf], output: Option<&Path>) -> anyhow::Result<Vec<PathBuf>> {
    let standard_input = |path: &&PathBuf| [Path::new("-"), Path::new("/dev/stdin")].contains(&path.as_path());
    if given.iter().filter(standard_input).count() > 1 {
        anyhow::bail!("standard input is named twice among the captures, but can be read once only");
    }
    if let Some(path) = output.and_then(|output| given.iter().find(|capture| is_same_file(capture, output))) {
        anyhow::bail!("{}: is a capture to read and the file to write; choose another with -o", path.display());
    }
    let named = |path: &PathBuf| if path == Path::new("-") { "/dev/stdin".into() } else { path.clone() };
    Ok(given.iter().map(named).collect())
}

/// What is no regular file, such as a terminal, may be both.
fn is_same_file(one: &Path, other: &Path) -> bool {
    one.is_file() && matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
