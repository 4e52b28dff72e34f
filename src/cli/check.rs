//! `etcbench check`: the last run against its stored tolerances.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::Context;
use clap::Args;
use similar::{ChangeTag, TextDiff};

use super::run::Target;
use super::{Verdict, find_results, records};
use crate::report::{self, ToleranceFile};
use crate::storage;

/// `etcbench check`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench check table2
  etcbench check table2 --data synth --size ci
  etcbench check table2 --bless            what the last run would change in the expectations, as a diff
  etcbench check table2 --bless --write    and store it
  etcbench check table2 --bless --times    hold times too, within three times those of the last run

Older runs that were kept (NAME.1, ...) are not looked at.
The expectations are results/tolerances/EXPERIMENT-DATASET-SIZE.toml; edit them as you like. --bless keeps those that
were met as they are. Exit code 1 when one is not met.")]
pub(super) struct CheckArguments {
    #[command(flatten)]
    target: Target,
    /// Propose the last run's values where expectations were not met or are not there, as a diff.
    #[arg(long)]
    bless: bool,
    /// Store what --bless proposes.
    #[arg(long, requires = "bless")]
    write: bool,
    /// Propose expectations of times too; they hold on this machine.
    #[arg(long, requires = "bless")]
    times: bool,
}

/// Prints what is out of tolerance; proposes new expectations when asked to.
pub(super) fn check(project: &Path, arguments: &CheckArguments) -> anyhow::Result<Verdict> {
    let (experiment, run) = find_results(project, &arguments.target)?;
    let records = storage::read_folder(&run, || records(&run))?;
    let folder = project.join("results/tolerances");
    let dataset = experiment.datasets.join("+");
    let path = ToleranceFile::path(&folder, &experiment.name, &dataset, &experiment.size);
    let stored = path.is_file().then(|| ToleranceFile::read(&path)).transpose()?;
    if arguments.bless {
        let before = if stored.is_some() {
            std::fs::read_to_string(&path).with_context(|| path.display().to_string())?
        } else {
            String::new()
        };
        let proposed = report::bless(&records, stored.as_ref(), arguments.times)?;
        if stored.as_ref() == Some(&proposed) {
            say!("{}: every expectation is met; nothing to change", path.display());
            return Ok(Verdict::Done);
        }
        let proposed = proposed.to_toml()?;
        say!("{}", difference(&path.display().to_string(), &before, &proposed).trim_end());
        if arguments.write {
            storage::write_whole(&path, proposed.as_bytes()).with_context(|| path.display().to_string())?;
            tell!("{} is stored; say in the commit why it moved", path.display());
        } else {
            tell!("nothing is stored; --bless --write stores it");
        }
        return Ok(Verdict::Done);
    }
    let Some(stored) = stored else {
        anyhow::bail!(
            "{}: there are no tolerances for {} on {dataset} at size {}; --bless --write stores the last run as the \
             expectation",
            path.display(),
            experiment.name,
            experiment.size
        );
    };
    let verdicts = report::check(&records, &stored)?;
    let table = report::verdict_table(&verdicts);
    if verdicts.iter().all(|verdict| verdict.within) {
        say!("{}: {}", path.display(), table.title);
        return Ok(Verdict::Done);
    }
    say!("{}", table.to_markdown());
    Ok(Verdict::CheckFailed)
}

/// A unified diff, which `patch` takes too; in colours on a terminal.
fn difference(name: &str, before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    if !std::io::stdout().is_terminal() {
        return diff.unified_diff().context_radius(9).header(name, name).to_string();
    }
    let mut text = format!("--- {name}\n+++ {name}\n");
    for hunk in diff.unified_diff().context_radius(9).iter_hunks() {
        text += &format!("{}\n", hunk.header());
        for change in hunk.iter_changes() {
            let (colour, sign) = match change.tag() {
                ChangeTag::Delete => ("\u{1b}[31m", '-'),
                ChangeTag::Insert => ("\u{1b}[32m", '+'),
                ChangeTag::Equal => ("", ' '),
            };
            let reset = if colour.is_empty() { "" } else { "\u{1b}[0m" };
            text += &format!("{colour}{sign}{}{reset}\n", change.value().trim_end_matches('\n'));
        }
    }
    text
}
