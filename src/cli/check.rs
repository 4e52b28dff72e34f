//! `etcbench check`: compares the last run with its stored tolerances.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::output::{JsonOption, shown};
use super::run::Target;
use super::{Verdict, find_results, output, records};
use crate::report::{self, StoredRun, ToleranceFile};
use crate::storage;

/// `etcbench check`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench check table2
  etcbench check table2 --data synth --size ci
  etcbench check table2-synth-ci            the same run, by name
  etcbench check table2 --json              the verdicts, for machines
  etcbench check table2 --update            how the last run would change the expectations, as a diff
  etcbench check table2 --update --write    and store it
  etcbench check table2 --update --times    also expect times within three times those of the last run

Older runs that were kept (NAME.1, ...) are ignored.
The expectations are results/tolerances/EXPERIMENT-DATASET-SIZE.toml; you can edit them. --update keeps those that
were met. Exit code 1 if one is not met.")]
pub(super) struct CheckArguments {
    #[command(flatten)]
    target: Target,
    /// Propose the last run's values where expectations were not met or are missing, as a diff.
    #[arg(long, alias = OLD_NAME)]
    update: bool,
    /// Store the changes that --update proposes.
    #[arg(long, requires = "update")]
    write: bool,
    /// Propose expectations of times too; they apply to this machine.
    #[arg(long, requires = "update")]
    times: bool,
    #[command(flatten)]
    json: JsonOption,
}

/// The former name of `--update`.
const OLD_NAME: &str = "bless";

/// Prints what is out of tolerance; proposes new expectations if requested.
pub(super) fn check(project: &Path, arguments: &CheckArguments) -> anyhow::Result<Verdict> {
    let as_json = arguments.json.is_asked();
    anyhow::ensure!(!(as_json && arguments.update), "--json cannot be used with --update, which proposes a diff");
    let run = find_results(project, &arguments.target)?;
    let (records, facts, changes) = storage::read_folder(&run, || {
        let records = records(&run)?;
        let stored = StoredRun::read(&run)?;
        let changes = report::integrity(&stored)?;
        anyhow::Ok((records, stored.facts, changes))
    })?;
    if !changes.is_empty() {
        for change in &changes {
            say!("{}: {change}", run.display());
        }
        say!("The run was modified after it was written; run the experiment again.");
        if as_json {
            output::json(&json!({"run": run.display().to_string(), "met": false, "changes": changes}));
        }
        return Ok(Verdict::CheckFailed);
    }
    let folder = project.join("results/tolerances");
    let dataset = facts.datasets.join("+");
    let path = ToleranceFile::path(&folder, &facts.experiment, &dataset, &facts.size);
    let stored = path.is_file().then(|| ToleranceFile::read(&path)).transpose()?;
    if arguments.update {
        if std::env::args_os().any(|argument| argument == "--bless") {
            tell!("--bless is deprecated; use --update");
        }
        let before = match stored {
            Some(_) => crate::declarative::read_text(&path)?,
            None => String::new(),
        };
        let proposed = report::proposed_tolerances(&records, stored.as_ref(), arguments.times)?;
        if stored.as_ref() == Some(&proposed) {
            say!("{}: every expectation is met; nothing to change", path.display());
            return Ok(Verdict::Done);
        }
        let proposed = proposed.to_toml()?;
        // Contains colour codes, so it must not be escaped.
        let difference = difference(&path.display().to_string(), &before, &proposed);
        super::write_line(&mut std::io::stdout().lock(), difference.trim_end());
        if arguments.write {
            storage::write_whole(&path, proposed.as_bytes()).with_context(|| path.display().to_string())?;
            tell!("{} is stored; explain the change in the commit message", path.display());
        } else {
            tell!("nothing is stored; add --write to store it");
        }
        return Ok(Verdict::Done);
    }
    let Some(stored) = stored else {
        anyhow::bail!(
            "{}: there are no tolerances for {} on {dataset} at size {}; use --update --write to store the last run as \
             the expectation",
            path.display(),
            facts.experiment,
            facts.size
        );
    };
    let verdicts = report::check(&records, &stored)?;
    let table = report::verdict_table(&verdicts);
    let without = report::rows_without_expectation(&records, &stored)?;
    if let Some(first) = without.first() {
        tell!(
            "{}: no expectations for {} of the run, such as {first}",
            path.display(),
            output::count(without.len(), "row")
        );
    }
    let met = verdicts.iter().all(|verdict| verdict.within);
    if as_json {
        output::json(&json!({
            "run": run.display().to_string(),
            "tolerances": path.display().to_string(),
            "met": met,
            "changes": changes,
            "expectations": verdicts.len(),
            "not_met": table.to_json()["rows"],
            "rows_without_expectation": without,
        }));
    }
    if met {
        say!("{}: {}", path.display(), table.title);
        return Ok(Verdict::Done);
    }
    say!("{}", output::table(&table));
    Ok(Verdict::CheckFailed)
}

/// Returns a unified diff with nine lines of context, which `patch` accepts; coloured on a terminal.
fn difference(name: &str, before: &str, after: &str) -> String {
    const CONTEXT: usize = 9;
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let lines = diff::slice(&before, &after);
    let changed = |line: &diff::Result<&&str>| !matches!(line, diff::Result::Both(..));
    let in_colours = std::io::stdout().is_terminal();
    let mut text = format!("--- {name}\n+++ {name}\n");
    // Number of the next line of each text, counted from 1.
    let (mut old, mut new) = (1, 1);
    let mut next = 0;
    while let Some(first) = lines[next..].iter().position(changed).map(|offset| next + offset) {
        let start = first.saturating_sub(CONTEXT).max(next);
        (old, new) = (old + start - next, new + start - next);
        // A hunk ends at a gap of unchanged lines longer than the context of this hunk and the next.
        let mut end = first + 1;
        while let Some(offset) = lines[end..].iter().take(2 * CONTEXT + 1).position(changed) {
            end += offset + 1;
        }
        let end = (end + CONTEXT).min(lines.len());
        let hunk = &lines[start..end];
        let olds = hunk.iter().filter(|line| !matches!(line, diff::Result::Right(_))).count();
        let news = hunk.iter().filter(|line| !matches!(line, diff::Result::Left(_))).count();
        // If a side has no lines, the hunk refers to the line before.
        let place = |line: usize, count: usize| if count == 0 { line - 1 } else { line };
        text += &format!("@@ -{},{olds} +{},{news} @@\n", place(old, olds), place(new, news));
        for line in hunk {
            let (colour, sign, line) = match line {
                diff::Result::Left(line) => ("\u{1b}[31m", '-', line),
                diff::Result::Right(line) => ("\u{1b}[32m", '+', line),
                diff::Result::Both(line, _) => ("", ' ', line),
            };
            let line = shown(**line);
            match in_colours && !colour.is_empty() {
                true => text += &format!("{colour}{sign}{line}\u{1b}[0m\n"),
                false => text += &format!("{sign}{line}\n"),
            }
        }
        (old, new, next) = (old + olds, new + news, end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Applies a unified diff like `patch`.
    fn patched(before: &str, diff: &str) -> String {
        let old: Vec<&str> = before.lines().collect();
        let (mut text, mut taken, mut left) = (String::new(), 0, (0, 0));
        for line in diff.lines().skip(2) {
            if let Some(header) = line.strip_prefix("@@ -") {
                assert_eq!(left, (0, 0), "{diff}");
                let numbers: Vec<usize> =
                    header.split(['-', '+', ',', ' ', '@']).filter_map(|number| number.parse().ok()).collect();
                let [start, olds, new_start, news] = numbers[..] else { panic!("{header}") };
                let start = if olds == 0 { start } else { start - 1 };
                old[taken..start].iter().for_each(|line| text += &format!("{line}\n"));
                assert_eq!(text.lines().count(), if news == 0 { new_start } else { new_start - 1 }, "{diff}");
                (taken, left) = (start, (olds, news));
                continue;
            }
            let (sign, line) = line.split_at(1);
            if sign != "+" {
                assert_eq!(old[taken], line, "{diff}");
                (taken, left.0) = (taken + 1, left.0 - 1);
            }
            if sign != "-" {
                text += &format!("{line}\n");
                left.1 -= 1;
            }
        }
        old[taken..].iter().for_each(|line| text += &format!("{line}\n"));
        text
    }

    proptest! {
        #[test]
        fn a_difference_turns_one_text_into_the_other(
            before in prop::collection::vec(0..6u8, 0..80),
            changes in prop::collection::vec((0..80usize, 0..3u8, 0..6u8), 0..6),
        ) {
            let mut after = before.clone();
            for (place, kind, value) in changes {
                match kind {
                    0 => after.insert(place.min(after.len()), value),
                    1 if place < after.len() => { after.remove(place); }
                    _ if place < after.len() => after[place] = value,
                    _ => {}
                }
            }
            let text = |lines: &[u8]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            let (before, after) = (text(&before), text(&after));
            prop_assert_eq!(patched(&before, &difference("file", &before, &after)), after);
        }
    }
}
