//! `etcbench compare` and `etcbench rank`: compare runs with one another.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::output::JsonOption;
use super::{Verdict, output};
use crate::evaluate::Metric;
use crate::experiment::results_folder;
use crate::report::{self, StoredRun, Table};
use crate::runs::find_run;
use crate::storage;

/// `etcbench compare`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench compare table2-synth-ci table2-synth-demo
  etcbench compare results/table2-synth-ci ../before/results/table2-synth-ci
  etcbench compare table2-synth-ci.1 table2-synth-ci          an older run that was kept, and the last one
  etcbench compare table2-synth-ci table2-synth-demo --json   the same tables for machines

A run is its folder, or the folder's name under results/ (see `etcbench list runs`). Exit code 1 if a result differs
in any bit or a run was modified after it was written; times and memory do not count.")]
pub(super) struct CompareArguments {
    /// A run.
    first: PathBuf,
    /// Another run.
    second: PathBuf,
    #[command(flatten)]
    json: JsonOption,
}

/// `etcbench rank`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench rank table1-synth-demo table2-synth-demo table3-synth-demo table4-synth-demo table5-synth-demo
  etcbench rank results/table?-synth-demo --metric accuracy

A run is its folder, or the folder's name under results/. Each variant is ranked on its own.")]
pub(super) struct RankArguments {
    /// Runs of different experiments or datasets, two or more.
    #[arg(required = true, num_args = 2..)]
    runs: Vec<PathBuf>,
    /// A metric of the whole test set or of a fit; smaller is better for losses, times and sizes, larger for others.
    #[arg(long, default_value = Metric::MACRO_F1.key, value_name = "NAME")]
    metric: String,
    #[command(flatten)]
    json: JsonOption,
}

/// Prints the differences between two runs.
pub(super) fn compare(project: &Path, arguments: &CompareArguments) -> anyhow::Result<Verdict> {
    let as_json = arguments.json.is_asked();
    let results = results_folder(project);
    let first = StoredRun::read(&find_run(&results, &arguments.first)?)?;
    let second = StoredRun::read(&find_run(&results, &arguments.second)?)?;
    let compared = report::compare_runs(&first, &second)?;
    say!("First:  {}\nSecond: {}\n", described(&first), described(&second));
    let mut changes = Vec::new();
    for run in [&first, &second] {
        let of_run = storage::read_folder(&run.folder, || report::integrity(run))?;
        changes.extend(of_run.iter().map(|change| format!("{}: {change}", run.folder.display())));
    }
    changes.iter().for_each(|change| say!("{change}"));
    let sound = changes.is_empty();
    if as_json {
        output::json(&json!({
            "first": first.folder.display().to_string(),
            "second": second.folder.display().to_string(),
            "changes": changes,
            "same_results": compared.same_results,
            "tables": compared.tables.iter().map(Table::to_json).collect::<Vec<_>>(),
        }));
    }
    if !sound {
        say!("");
    }
    for table in &compared.tables {
        if table.rows.is_empty() {
            let (title, notes) = (&table.title, &table.notes);
            say!("{}\n", if output::is_terminal() { title.clone() } else { format!("**{title}**") });
            notes.iter().for_each(|note| say!("- {note}\n"));
        } else {
            say!("{}", output::table(table));
        }
    }
    if !sound {
        say!("A run was modified after it was written; its numbers are not those that were computed.");
        return Ok(Verdict::CheckFailed);
    }
    if compared.same_results {
        say!("All results are bit-identical.");
        return Ok(Verdict::Done);
    }
    say!("Results differ.");
    Ok(Verdict::CheckFailed)
}

/// Describes a run by its folder, its start time, and its command line.
fn described(run: &StoredRun) -> String {
    let invocation = &run.facts.invocation;
    let details: Vec<&str> =
        [&invocation.started, &invocation.command].into_iter().filter_map(Option::as_deref).collect();
    match details.is_empty() {
        true => run.folder.display().to_string(),
        false => format!("{} ({})", run.folder.display(), details.join(", ")),
    }
}

/// Reports on standard error what was changed in a run after it was written.
pub(super) fn warn_of_changes(folder: &Path) -> anyhow::Result<()> {
    for change in storage::read_folder(folder, || report::integrity(&StoredRun::read(folder)?))? {
        tell!("warning: {}: {change}", folder.display());
    }
    Ok(())
}

/// Prints the models of several runs by mean rank.
pub(super) fn rank(project: &Path, arguments: &RankArguments) -> anyhow::Result<Verdict> {
    let mut records = Vec::new();
    for run in &arguments.runs {
        let folder = find_run(&results_folder(project), run)?;
        warn_of_changes(&folder)?;
        records.extend(storage::read_folder(&folder, || report::read_records(&folder.join("records.jsonl")))?);
    }
    let known = |record: &crate::experiment::Record| {
        record.class.is_none() && record.epoch.is_none() && record.metric == arguments.metric
    };
    if !records.iter().any(known) {
        let mut names: Vec<&str> = Vec::new();
        for record in records.iter().filter(|record| record.class.is_none() && record.epoch.is_none()) {
            if !names.contains(&record.metric.as_str()) {
                names.push(&record.metric);
            }
        }
        let nearest = crate::declarative::did_you_mean(&arguments.metric, names.iter().copied());
        anyhow::bail!("--metric {}: the runs have no such metric{nearest}", arguments.metric);
    }
    let rankings = report::rankings(&records, &arguments.metric)?;
    if rankings.is_empty() {
        anyhow::bail!("no variant has two models in two of the runs, which is the minimum for ranks");
    }
    let tables: Vec<Table> = rankings.iter().map(report::ranking_table).collect();
    if arguments.json.is_asked() {
        output::json(&json!({"rankings": tables.iter().map(Table::to_json).collect::<Vec<_>>()}));
        return Ok(Verdict::Done);
    }
    tables.iter().for_each(|table| say!("{}", output::table(table)));
    Ok(Verdict::Done)
}
