//! `etcbench tables`: the tables of a stored run, made again from its records.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::run::Target;
use super::{Verdict, find_results, records};
use crate::experiment::{Experiment, Record, TableLayout};
use crate::report::{self, PublishedTable, Table};
use crate::storage;

/// `etcbench tables`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench tables table2
  etcbench tables table2 --data synth --size demo

The tables of the last run; older ones that were kept (NAME.1, ...) stay as they are.")]
pub(super) struct TablesArguments {
    #[command(flatten)]
    target: Target,
}

/// Reads the records of the last run, writes its tables and prints them.
pub(super) fn tables(project: &Path, arguments: &TablesArguments) -> anyhow::Result<Verdict> {
    let (experiment, folder) = find_results(project, &arguments.target)?;
    let write = || {
        let (printed, paths) =
            write_tables(project, &Heading::of(&experiment), &records(&folder)?, &folder.join("tables"))?;
        report::RunFiles::add(&folder, &paths)?;
        anyhow::Ok(printed)
    };
    let printed = storage::update_folder(&folder, write)?;
    say!("{printed}");
    Ok(Verdict::Done)
}

/// What the tables of a run are about.
pub(super) struct Heading<'a> {
    /// The experiment's name.
    pub experiment: &'a str,
    /// Its title.
    pub title: &'a str,
    /// The layout of its tables.
    pub layout: TableLayout,
    /// Its datasets.
    pub datasets: &'a [String],
    /// Its size.
    pub size: &'a str,
}

impl<'a> Heading<'a> {
    /// The heading of an experiment.
    pub(super) fn of(experiment: &'a Experiment) -> Self {
        let Experiment { name, title, layout, datasets, size, .. } = experiment;
        Self { experiment: name, title, layout: *layout, datasets, size }
    }
}

/// Writes a run's tables as CSV, Markdown and LaTeX into `folder`, and a sweep's curves as SVG; gives the Markdown, and what
/// was written.
pub(super) fn write_tables(
    project: &Path,
    heading: &Heading<'_>,
    records: &[Record],
    folder: &Path,
) -> anyhow::Result<(String, Vec<PathBuf>)> {
    let run = folder.parent().unwrap_or(Path::new("."));
    let mut printed = String::new();
    let mut paths = Vec::new();
    for RunTable { name, table, printed: is_printed } in run_tables(project, heading, records, run)? {
        paths.extend(write_table(&table, folder, &name)?);
        if is_printed {
            printed.push_str(&table.to_markdown());
            printed.push('\n');
        }
    }
    for (name, figure) in report::sweep_figures(records)? {
        let path = folder.join(format!("{}-{name}.svg", heading.experiment));
        storage::write_whole(&path, figure.to_svg_file().as_bytes()).with_context(|| path.display().to_string())?;
        paths.push(path);
    }
    Ok((printed, paths))
}

/// Writes a table as `<name>.csv`, `.md` and `.tex`, and gives these files.
pub(super) fn write_table(table: &Table, folder: &Path, name: &str) -> anyhow::Result<Vec<PathBuf>> {
    let contents = [("csv", table.to_csv()?), ("md", table.to_markdown()), ("tex", table.to_latex())];
    let mut paths = Vec::new();
    for (extension, content) in contents {
        let path = folder.join(format!("{name}.{extension}"));
        storage::write_whole(&path, content.as_bytes()).with_context(|| path.display().to_string())?;
        paths.push(path);
    }
    Ok(paths)
}

/// A table of a run.
pub(super) struct RunTable {
    /// The name of its files, without ending.
    pub name: String,
    /// The table.
    pub table: Table,
    /// Whether it is printed; what is long is a file beside the others.
    pub printed: bool,
}

/// The tables of the run in the folder `run`, those that are printed first.
pub(super) fn run_tables(
    project: &Path,
    heading: &Heading<'_>,
    records: &[Record],
    run: &Path,
) -> anyhow::Result<Vec<RunTable>> {
    let experiment = heading.experiment;
    let published = PublishedTable::read(&project.join("paper/published"), experiment)?;
    let published: Vec<PublishedTable> = published.into_iter().collect();
    // Runs of earlier versions have no leak report.
    let leaks = Some(run.join("leaks.json")).filter(|path| path.is_file());
    let mut notes =
        leaks.map_or(Ok(Vec::new()), |path| report::read_leaks(&path).map(|leaks| report::leak_notes(&leaks)))?;
    if run.join("run.json").is_file() {
        notes.extend(report::RunFacts::read(run)?.data_notes);
    }
    let titled = |what: &str| format!("{}{what} ({}, {})", heading.title, heading.datasets.join(" + "), heading.size);
    let mut tables: Vec<RunTable> = Vec::new();
    let mut add = |name: String, mut table: Table, what: &str, printed: bool| {
        table.title = titled(what);
        tables.push(RunTable { name, table, printed });
    };
    let made = match report::is_sweep(records) {
        true => report::sweep_tables(records)?,
        false => report::tables(records, heading.layout, &published)?,
    };
    for (index, mut table) in made.into_iter().enumerate() {
        table.notes.extend(notes.iter().cloned());
        match index {
            0 => add(experiment.to_owned(), table, "", true),
            _ => add(format!("{experiment}-{}", index + 1), table, ": models", true),
        }
    }
    for table in report::tuning_tables(records) {
        add(format!("{experiment}-tuning"), table, ": what was tried", true);
    }
    // Runs of earlier versions have no paired tests.
    let comparisons = Some(run.join("comparisons.csv")).filter(|path| path.is_file());
    let comparisons = comparisons.map_or(Ok(Vec::new()), |path| report::read_comparisons(&path))?;
    if let Some(table) = report::comparison_table(&comparisons, true) {
        // Of a sweep that is a table per point; its own table is read along the axis.
        let printed = !report::is_sweep(records);
        add(format!("{experiment}-differences"), table, ": whether the models differ", printed);
    }
    if let Some(table) = report::comparison_table(&comparisons, false) {
        add(format!("{experiment}-differences-all"), table, ": whether the models differ, all pairs", false);
    }
    for table in report::reproduced_tables(records, &published)? {
        add(format!("{experiment}-published"), table, ": measured beside published", false);
    }
    for table in report::statistics_tables(records)? {
        add(format!("{experiment}-statistics"), table, ": every metric with its intervals", false);
    }
    Ok(tables)
}
