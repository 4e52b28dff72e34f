//! `etcbench tables`: the tables of a stored run, made again from its records.

use std::path::Path;

use anyhow::Context;
use clap::Args;

use super::run::Target;
use super::{Verdict, read_results};
use crate::experiment::{Comparison, Experiment, Record, TableLayout};
use crate::report::{self, PublishedTable, Table};
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
    say!("{}", write_tables(project, &Heading::of(&experiment), &records, &folder.join("tables"))?);
    Ok(Verdict::Done)
}

/// What the tables of a run are about.
pub struct Heading<'a> {
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
    pub fn of(experiment: &'a Experiment) -> Self {
        let Experiment { name, title, layout, datasets, size, .. } = experiment;
        Self { experiment: name, title, layout: *layout, datasets, size }
    }

    /// The title of a table about `what`.
    fn titled(&self, what: &str) -> String {
        format!("{}{what} ({}, {})", self.title, self.datasets.join(" + "), self.size)
    }
}

/// Writes a run's tables as CSV, Markdown and LaTeX into `folder`, and a sweep's curves as SVG; gives the Markdown.
pub fn write_tables(
    project: &Path,
    heading: &Heading<'_>,
    records: &[Record],
    folder: &Path,
) -> anyhow::Result<String> {
    let run = folder.parent().unwrap_or(Path::new("."));
    let mut printed = String::new();
    for (name, table) in run_tables(project, heading, records, run)? {
        write_table(&table, folder, &name)?;
        printed.push_str(&table.to_markdown());
        printed.push('\n');
    }
    for (name, table) in long_tables(project, heading, records, run)? {
        write_table(&table, folder, &name)?;
    }
    for (name, figure) in report::sweep_figures(records)? {
        let path = folder.join(format!("{}-{name}.svg", heading.experiment));
        storage::write_whole(&path, figure.to_svg_file().as_bytes()).with_context(|| path.display().to_string())?;
    }
    Ok(printed)
}

/// Writes a table as `<name>.csv`, `.md` and `.tex`.
pub fn write_table(table: &Table, folder: &Path, name: &str) -> anyhow::Result<()> {
    let contents = [("csv", table.to_csv()?), ("md", table.to_markdown()), ("tex", table.to_latex())];
    for (extension, content) in contents {
        let path = folder.join(format!("{name}.{extension}"));
        storage::write_whole(&path, content.as_bytes()).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The tables of the run in the folder `run`, with the names of their files.
pub fn run_tables(
    project: &Path,
    heading: &Heading<'_>,
    records: &[Record],
    run: &Path,
) -> anyhow::Result<Vec<(String, Table)>> {
    let published = PublishedTable::read(&project.join("paper/published"), heading.experiment)?;
    let published: Vec<PublishedTable> = published.into_iter().collect();
    // Runs of earlier versions have no leak report.
    let leaks = Some(run.join("leaks.json")).filter(|path| path.is_file());
    let notes =
        leaks.map_or(Ok(Vec::new()), |path| report::read_leaks(&path).map(|leaks| report::leak_notes(&leaks)))?;
    let titled = |what: &str| heading.titled(what);
    let mut tables = Vec::new();
    let sweep = report::is_sweep(records);
    let made = match sweep {
        true => report::sweep_tables(records)?,
        false => report::tables(records, heading.layout, &published)?,
    };
    for (index, mut table) in made.into_iter().enumerate() {
        table.title = titled(if index == 0 { "" } else { ": models" });
        table.notes.extend(notes.iter().cloned());
        let name =
            if index == 0 { heading.experiment.to_owned() } else { format!("{}-{}", heading.experiment, index + 1) };
        tables.push((name, table));
    }
    for mut table in report::tuning_tables(records) {
        table.title = titled(": what was tried");
        tables.push((format!("{}-tuning", heading.experiment), table));
    }
    // The points of a sweep are compared along its axis, not its models at every point.
    if !sweep && let Some(mut table) = report::comparison_table(&comparisons(run)?, true) {
        table.title = titled(": whether the models differ");
        tables.push((format!("{}-differences", heading.experiment), table));
    }
    Ok(tables)
}

/// Tables that are files only, as they are too long to be read at one go.
fn long_tables(
    project: &Path,
    heading: &Heading<'_>,
    records: &[Record],
    run: &Path,
) -> anyhow::Result<Vec<(String, Table)>> {
    let published = PublishedTable::read(&project.join("paper/published"), heading.experiment)?;
    let published: Vec<PublishedTable> = published.into_iter().collect();
    let mut tables = Vec::new();
    let mut add = |name: &str, title: &str, mut table: Table| {
        table.title = heading.titled(title);
        tables.push((format!("{}-{name}", heading.experiment), table));
    };
    if let Some(table) = report::comparison_table(&comparisons(run)?, false) {
        add("differences-all", ": whether the models differ, all pairs", table);
    }
    for table in report::reproduced_tables(records, &published)? {
        add("published", ": measured beside published", table);
    }
    for table in report::statistics_tables(records)? {
        add("statistics", ": every metric with its intervals", table);
    }
    Ok(tables)
}

/// The paired tests of a run; runs of earlier versions have none.
fn comparisons(run: &Path) -> anyhow::Result<Vec<Comparison>> {
    let path = run.join("comparisons.csv");
    Ok(if path.is_file() { report::read_comparisons(&path)? } else { Vec::new() })
}
