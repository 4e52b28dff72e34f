//! `etcbench sweep`: shows the progress of runs in units, and runs the parts that other processes and Slurm start.

use std::collections::BTreeMap;
use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::JsonOption;
use super::run::cache;
use super::{Verdict, interrupt, output, progress, units};
use crate::experiment::{self, Cache, PlannedRun, Queue, UnitRecord, UnitState};
use crate::report::{Cell, Column, Table};

/// `etcbench sweep`.
#[derive(Subcommand)]
pub(super) enum SweepCommand {
    /// Show every unit of a run: done, running, queued, failed (with the reason), lost or waiting.
    Status(StatusArguments),
    /// Compute one unit.
    #[command(hide = true)]
    Unit(UnitArguments),
    /// Load the flows that units share into the cache.
    #[command(hide = true)]
    Flows(NameArguments),
    /// Collect the results once all units are done.
    #[command(hide = true)]
    Gather(NameArguments),
}

/// `etcbench sweep status`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench sweep status                                   all runs in units, one line each
  etcbench sweep status ablation-n-iscxvpn2016-full       one of them, unit by unit

A unit is done when its results are in the cache; Slurm is only queried for its queue. Exit code 1 if a unit failed
or was lost; repeat the command that started the run to compute or submit only what is missing.")]
pub(super) struct StatusArguments {
    /// The run, by the name that its command printed; all runs by default.
    name: Option<String>,
    #[command(flatten)]
    json: JsonOption,
}

/// `etcbench sweep unit`.
#[derive(Args)]
pub(super) struct UnitArguments {
    /// The plan's name.
    name: String,
    /// Number of the unit, counted from 0.
    #[arg(long)]
    number: usize,
    /// Exit when standard input ends, which means that the process that started this one has ended.
    #[arg(long)]
    attached: bool,
}

/// `etcbench sweep flows` and `gather`.
#[derive(Args)]
pub(super) struct NameArguments {
    /// The plan's name.
    name: String,
}

/// Runs the subcommand.
pub(super) fn sweep(project: &Path, command: &SweepCommand) -> anyhow::Result<Verdict> {
    match command {
        SweepCommand::Status(arguments) => status(project, arguments),
        SweepCommand::Unit(arguments) => {
            if arguments.attached {
                interrupt::end_with_standard_input();
            }
            units::run_unit(project, &PlannedRun::read(project, &arguments.name)?, arguments.number)
        }
        SweepCommand::Flows(arguments) => {
            let planned = PlannedRun::read(project, &arguments.name)?;
            units::load_shared(project, &planned, cache(project), progress::for_standard_error().as_ref())?;
            Ok(Verdict::Done)
        }
        SweepCommand::Gather(arguments) => {
            let planned = PlannedRun::read(project, &arguments.name)?;
            units::gather(project, &planned, progress::for_standard_error().as_ref(), false)
        }
    }
}

/// The state of a unit, for display.
struct Standing {
    word: &'static str,
    detail: String,
}

fn standing(record: Option<&UnitRecord>, queued: Option<&String>, done: bool) -> Standing {
    let standing = |word, detail: String| Standing { word, detail };
    let failure = record.and_then(|record| record.problem.clone());
    match (record, queued) {
        (Some(record), _) if done => standing("done", format!("{:.1} s on {}", record.wall_seconds, record.host)),
        (record, Some(state)) => {
            let word = if state == "running" { "running" } else { "queued" };
            let on = record.filter(|record| word == "running" && record.state == UnitState::Begun);
            let detail = match (on, failure) {
                (Some(record), _) => format!("on {}", record.host),
                (None, Some(problem)) => format!("{state}; failed before: {problem}"),
                (None, None) => state.clone(),
            };
            standing(word, detail)
        }
        (None, None) => standing("waiting", "not begun".to_owned()),
        (Some(record), None) => match record.state {
            UnitState::Failed => standing("failed", failure.unwrap_or_default()),
            UnitState::Begun if is_alive(record) => standing("running", format!("on {}", record.host)),
            UnitState::Begun => standing("lost", format!("its process on {} ended without a result", record.host)),
            UnitState::Done => standing("waiting", "its results are no longer in the cache".to_owned()),
        },
    }
}

/// Returns whether the process of a unit that this machine started is still running. Units started by Slurm would be in
/// its queue.
fn is_alive(record: &UnitRecord) -> bool {
    let command = std::fs::read(format!("/proc/{}/cmdline", record.process)).unwrap_or_default();
    let words: Vec<&[u8]> = command.split(|&byte| byte == 0).collect();
    record.slurm.is_none() && record.host == experiment::host() && words.contains(&b"sweep".as_slice())
}

fn status(project: &Path, arguments: &StatusArguments) -> anyhow::Result<Verdict> {
    let (name, as_json) = (arguments.name.as_deref(), arguments.json.is_asked());
    let cache = cache(project);
    let names = experiment::plan_names(project);
    if names.is_empty() && name.is_none() && !as_json {
        say!("no runs in units yet; start one with `etcbench run FILE --jobs N` or `--slurm`");
        return Ok(Verdict::Done);
    }
    let wanted = match name {
        Some(name) => vec![PlannedRun::read(project, name)?],
        None => {
            let mut wanted = Vec::new();
            for name in &names {
                match PlannedRun::read(project, name) {
                    Ok(planned) => wanted.push(planned),
                    Err(error) => complain!("{error}"),
                }
            }
            wanted
        }
    };
    let submitted = wanted.iter().any(|planned| !planned.submissions().is_empty());
    let mut notes = Vec::new();
    let queue = if submitted { Queue::ask() } else { Ok(Queue::default()) };
    let queue = queue.unwrap_or_else(|error| {
        notes.push(format!(
            "Slurm's queue is not available here ({error}), so units that it runs are shown as lost or waiting."
        ));
        Queue::default()
    });
    let mut bad = false;
    let mut summary = Table {
        title: "Runs in units".to_owned(),
        columns: vec![Column::text("run", "run"), Column::text("units", "units")],
        notes: notes.clone(),
        ..Table::default()
    };
    let mut listed = Vec::new();
    for planned in &wanted {
        let (mut table, counts) = unit_table(planned, &queue, &cache);
        bad |= counts.contains_key("failed") || counts.contains_key("lost");
        let count = |(word, count): (&&str, &usize)| format!("{count} {word}");
        let counted = counts.iter().map(count).collect::<Vec<_>>().join(", ");
        if as_json {
            listed.push(json!({"run": planned.plan.name, "counts": counts, "units": table.to_json()["rows"]}));
        } else if name.is_some() {
            let units = output::count(planned.units.len(), "unit");
            table.title = format!("{}: {units}: {counted}", planned.plan.name);
            table.notes.clone_from(&notes);
            say!("{}", output::table(&table));
        } else {
            summary.rows.push(vec![Cell::Text(planned.plan.name.clone()), Cell::Text(counted)]);
        }
    }
    if as_json {
        output::json(&json!({"runs": listed, "notes": notes}));
    } else if name.is_none() {
        say!("{}", output::table(&summary));
    }
    Ok(if bad { Verdict::CheckFailed } else { Verdict::Done })
}

fn unit_table(planned: &PlannedRun, queue: &Queue, cache: &Cache) -> (Table, BTreeMap<&'static str, usize>) {
    let mut counts = BTreeMap::new();
    let mut table = Table {
        columns: ["number", "experiment", "variant", "seed", "state", "detail"]
            .map(|name| Column::text(name, name))
            .into(),
        ..Table::default()
    };
    let queued = queue.units(&planned.submissions());
    for (number, unit) in planned.units.iter().enumerate() {
        let record = planned.record(number);
        let done = planned.done(number, cache).is_some();
        let Standing { word, detail } = standing(record.as_ref(), queued.get(&number), done);
        *counts.entry(word).or_insert(0) += 1;
        let cells = [
            number.to_string(),
            planned.experiments[unit.experiment].name.clone(),
            unit.unit.variant.clone(),
            unit.unit.seed.to_string(),
            word.to_owned(),
            detail,
        ];
        table.rows.push(cells.map(Cell::Text).into());
    }
    (table, counts)
}
