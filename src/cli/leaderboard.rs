//! `etcbench leaderboard`: writes a page of checked bundles.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::Verdict;
use crate::storage::write_whole;
use crate::submission::{bundles_in, leaderboard};

/// `etcbench leaderboard`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench leaderboard leaderboard -o site

Writes index.html, which needs no network, and leaderboard.csv; the same bundles produce the same bytes. Bundles that
fail the check are left out and listed on the page; exit code 1 if there are any.")]
pub(super) struct LeaderboardArguments {
    /// The folder of the bundles (*.etcbundle).
    #[arg(value_name = "BUNDLES")]
    bundles: PathBuf,
    /// The folder for the page and the table; other files in it stay.
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
}

/// Checks the bundles of a folder and writes their leaderboard.
pub(super) fn write(project: &Path, arguments: &LeaderboardArguments) -> anyhow::Result<Verdict> {
    let bundles = bundles_in(&arguments.bundles)?;
    if bundles.is_empty() {
        anyhow::bail!(
            "{}: contains no bundles (*.etcbundle); create one with `etcbench submission pack`",
            arguments.bundles.display()
        );
    }
    let (board, left_out) = leaderboard(&bundles, project)?;
    for (name, content) in [("index.html", board.page()?), ("leaderboard.csv", board.csv()?)] {
        let path = arguments.output.join(name);
        write_whole(&path, content.as_bytes()).with_context(|| path.display().to_string())?;
    }
    let entries = bundles.len() - left_out;
    say!("{}: {entries} of {} bundles", arguments.output.join("index.html").display(), bundles.len());
    if left_out > 0 {
        tell!("{left_out} bundles are left out; the page and `etcbench submission check` show why");
        return Ok(Verdict::CheckFailed);
    }
    Ok(Verdict::Done)
}
