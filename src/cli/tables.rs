//! `etcbench tables`: rebuilds the tables of a stored run from its records.

use std::path::Path;

use clap::Args;

use super::compare::warn_of_changes;
use super::output::JsonOption;
use super::run::Target;
use super::{Verdict, find_results, output, records};
use crate::report::{self, RunHeading, StoredRun, Table};
use crate::runs::published_folder;
use crate::storage;

/// `etcbench tables`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench tables table2
  etcbench tables table2 --data synth --size demo
  etcbench tables table2-synth-demo

Rebuilds the tables of the last run; older runs that were kept (NAME.1, ...) are not changed.")]
pub(super) struct TablesArguments {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    json: JsonOption,
}

/// Reads the records of the last run, writes its tables and prints them.
pub(super) fn tables(project: &Path, arguments: &TablesArguments) -> anyhow::Result<Verdict> {
    let folder = find_results(project, &arguments.target)?;
    if folder.join("records.jsonl").is_file() {
        warn_of_changes(&folder)?;
    }
    let write = || {
        let records = records(&folder)?;
        let stored = StoredRun::read(&folder)?;
        let heading = RunHeading::of_stored(&stored);
        let published = published_folder(project);
        let (printed, paths) = report::write_run_tables(&published, &heading, &records, &folder.join("tables"))?;
        report::RunFiles::add(&folder, &paths)?;
        anyhow::Ok(printed)
    };
    let printed = storage::update_folder(&folder, write)?;
    if arguments.json.is_asked() {
        output::json(&serde_json::json!({"tables": printed.iter().map(Table::to_json).collect::<Vec<_>>()}));
        return Ok(Verdict::Done);
    }
    for table in &printed {
        say!("{}", output::table(table));
    }
    Ok(Verdict::Done)
}
