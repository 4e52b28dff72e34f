//! `etcbench tables`: the tables of a stored run, made again from its records.

use std::path::Path;

use anyhow::Context;
use clap::Args;

use super::run::Target;
use super::{Verdict, read_results};
use crate::experiment::{Experiment, Record};
use crate::report::{self, PublishedTable};
use crate::storage;

/// `etcbench tables`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench tables table2
  etcbench tables table2 --data synth --size demo")]
pub struct TablesArguments {
    #[command(flatten)]
    target: Target,
}

/// Reads the records of the last run, writes its tables and prints them.
pub fn tables(project: &Path, arguments: &TablesArguments) -> anyhow::Result<Verdict> {
    let (experiment, folder, records) = read_results(project, &arguments.target)?;
    say!("{}", write_tables(project, &experiment, &records, &folder.join("tables"))?);
    Ok(Verdict::Done)
}

/// Writes a run's tables as CSV, Markdown and LaTeX into `folder`; gives the Markdown.
pub fn write_tables(
    project: &Path,
    experiment: &Experiment,
    records: &[Record],
    folder: &Path,
) -> anyhow::Result<String> {
    let published = PublishedTable::read(&project.join("paper/published"), &experiment.name)?;
    let published: Vec<PublishedTable> = published.into_iter().collect();
    // A run's leak report lies beside its tables; runs of earlier versions have none.
    let leaks = folder.parent().map(|run| run.join("leaks.json")).filter(|path| path.is_file());
    let notes =
        leaks.map_or(Ok(Vec::new()), |path| report::read_leaks(&path).map(|leaks| report::leak_notes(&leaks)))?;
    let mut printed = String::new();
    let titled =
        |what: &str| format!("{}{what} ({}, {})", experiment.title, experiment.datasets.join(" + "), experiment.size);
    let mut tables = Vec::new();
    for (index, mut table) in report::tables(records, experiment.layout, &published)?.into_iter().enumerate() {
        table.title = titled("");
        table.notes.extend(notes.iter().cloned());
        let name = if index == 0 { experiment.name.clone() } else { format!("{}-{}", experiment.name, index + 1) };
        tables.push((name, table));
    }
    for mut table in report::tuning_tables(records) {
        table.title = titled(": what was tried");
        tables.push((format!("{}-tuning", experiment.name), table));
    }
    // What is long is a file beside the tables, and its name is told.
    let mut files = Vec::new();
    let comparisons = folder.parent().map(|run| run.join("comparisons.csv")).filter(|path| path.is_file());
    if let Some(path) = comparisons {
        let comparisons = report::read_comparisons(&path)?;
        if let Some(mut table) = report::comparison_table(&comparisons, true) {
            table.title = titled(": whether the models differ");
            tables.push((format!("{}-differences", experiment.name), table));
        }
        if let Some(mut table) = report::comparison_table(&comparisons, false) {
            table.title = titled(": whether the models differ, all pairs");
            files.push((format!("{}-differences-all", experiment.name), table));
        }
    }
    for mut table in report::reproduced_tables(records, &published)? {
        table.title = titled(": measured beside published");
        files.push((format!("{}-published", experiment.name), table));
    }
    for mut table in report::statistics_tables(records)? {
        table.title = titled(": every metric with its intervals");
        files.push((format!("{}-statistics", experiment.name), table));
    }
    let shown = tables.len();
    for (index, (name, table)) in tables.into_iter().chain(files).enumerate() {
        let markdown = table.to_markdown();
        let contents = [("csv", table.to_csv()?), ("md", markdown.clone()), ("tex", table.to_latex())];
        for (extension, content) in contents {
            let path = folder.join(format!("{name}.{extension}"));
            storage::write_whole(&path, content.as_bytes()).with_context(|| path.display().to_string())?;
        }
        if index < shown {
            printed.push_str(&markdown);
            printed.push('\n');
        }
    }
    Ok(printed)
}
