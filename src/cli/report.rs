//! `etcbench report`: all stored runs as one HTML page, and their tables and figures as files for a paper.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::tables::{Heading, RunTable, run_tables, write_table};
use super::{Verdict, find_run, output, progress};
use crate::report::{self, AuditTable, PublishedTable, Report, ReportedRun, StoredRun, Table, ToleranceFile};
use crate::{experiment, storage};

/// `etcbench report`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench report                                  every run under results/
  etcbench report table2-synth-demo -o table2.html one run, by the name of its folder

The page needs no network and no server. Tables go to paper/tables as CSV, Markdown and LaTeX, figures to paper/figures
as SVG; `just paper` makes a PDF of them.")]
pub(super) struct ReportArguments {
    /// Runs: names of folders under results/, or folders; all when not given, older ones that were kept (NAME.1) aside.
    #[arg(value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The page to write; `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The folder that gets tables/ and figures/.
    #[arg(long, value_name = "FOLDER")]
    paper: Option<PathBuf>,
}

/// Reads the runs, writes page, tables and figures.
pub(super) fn report(project: &Path, arguments: &ReportArguments) -> anyhow::Result<Verdict> {
    let results = experiment::results_folder(project);
    let page = arguments.output.clone().unwrap_or_else(|| results.join("report.html"));
    let written_to = output::announce(&page);
    let folders = if arguments.runs.is_empty() {
        let (kept, last) =
            StoredRun::folders(&results)?.into_iter().partition::<Vec<_>, _>(|run| StoredRun::is_kept(run));
        if !kept.is_empty() {
            let runs =
                if kept.len() == 1 { "1 older run is".to_owned() } else { format!("{} older runs are", kept.len()) };
            tell!("{runs} left out (NAME.1 and so on); name a run to see it");
        }
        last
    } else {
        arguments.runs.iter().map(|run| find_run(&results, run)).collect::<anyhow::Result<_>>()?
    };
    let progress = progress::for_standard_error();
    progress.begin("reading runs", folders.len() as u64);
    let mut runs = Vec::new();
    for folder in &folders {
        runs.push(storage::read_folder(folder, || reported(project, folder))?);
        progress.advance(1);
    }
    progress.end();
    let report = Report::new(runs, audits(project)?)?;
    storage::write_whole(&page, report.page().as_bytes()).with_context(|| written_to.clone())?;
    let paper = arguments.paper.clone().unwrap_or_else(|| project.join("paper"));
    let (tables, figures) = write_paper(&report, &paper)?;
    say!(
        "{written_to}: {} runs; {tables} tables in {}, {figures} figures in {}",
        report.runs.len(),
        paper.join("tables").display(),
        paper.join("figures").display()
    );
    Ok(Verdict::Done)
}

fn reported(project: &Path, folder: &Path) -> anyhow::Result<ReportedRun> {
    let stored = StoredRun::read(folder)?;
    let heading = Heading {
        experiment: &stored.facts.experiment,
        title: &stored.facts.title,
        layout: stored.layout(),
        datasets: &stored.facts.datasets,
        size: &stored.facts.size,
    };
    let tables = run_tables(project, &heading, &stored.records, folder)?;
    let tables = tables.into_iter().map(|RunTable { name, table, .. }| (name, table)).collect();
    let path = ToleranceFile::path(
        &experiment::results_folder(project).join("tolerances"),
        &stored.facts.experiment,
        &stored.facts.datasets.join("+"),
        &stored.facts.size,
    );
    // What the command line changed is not what the expectations are of.
    let tolerances = if path.is_file() && !stored.is_changed() {
        Some(report::verdict_table(&report::check(&stored.records, &ToleranceFile::read(&path)?)?))
    } else {
        None
    };
    let published = PublishedTable::read(&project.join("paper/published"), &stored.facts.experiment)?;
    Ok(ReportedRun::new(stored, tables, tolerances, published.as_ref())?)
}

/// The audits of all published tables.
fn audits(project: &Path) -> anyhow::Result<Vec<Table>> {
    let mut tables = Vec::new();
    for path in super::audit::published(project)? {
        let findings =
            AuditTable::read(&path)?.audit().map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        let name = path.file_stem().map_or(String::new(), |stem| stem.to_string_lossy().into_owned());
        tables.push(report::audit_table(&name, &findings));
    }
    Ok(tables)
}

/// A longer table fits no page; it is a file, and not in the document.
const LONGEST_ON_PAPER: usize = 45;

/// Writes every table and figure, and `tables/all.tex`, which includes them; gives how many of each there are.
fn write_paper(report: &Report, paper: &Path) -> anyhow::Result<(usize, usize)> {
    let folder = paper.join("tables");
    let figures = report.figures();
    let mut tables = vec![("runs".to_owned(), report.runs_table()), ("all-results".to_owned(), report.results_table())];
    let mut index = String::from("% Written by `etcbench report`; paper/results.tex includes it.\n");
    let drawn = |run: Option<&str>| -> String {
        let of_run = figures.iter().filter(|figure| figure.run == run && !figure.of_one_row);
        of_run
            .map(|figure| {
                let title = report::latex_text(&figure.figure.title);
                format!("\\titled{{{title}}}\n\\drawn{{figures/{}}}\n", figure.path)
            })
            .collect()
    };
    index += &drawn(None);
    for run in &report.runs {
        index += &format!("\\run{{\\detokenize{{{}}}}}\n", run.stored.name);
        for (name, table) in &run.tables {
            let rest = name.strip_prefix(&run.stored.facts.experiment).unwrap_or(name);
            let name = format!("{}{rest}", run.stored.name);
            if table.rows.len() <= LONGEST_ON_PAPER {
                index += &format!("\\input{{tables/{name}}}\n");
            }
            tables.push((name, table.clone()));
        }
        index += &drawn(Some(&run.stored.name));
    }
    index += "\\run{audit}\n";
    for table in &report.audit {
        let name = format!("audit-{}", table.title.split(':').next().unwrap_or_default());
        index += &format!("\\input{{tables/{name}}}\n");
        tables.push((name, table.clone()));
    }
    for (name, table) in &tables {
        write_table(table, &folder, name)?;
    }
    let path = folder.join("all.tex");
    storage::write_whole(&path, index.as_bytes()).with_context(|| path.display().to_string())?;
    for file in &figures {
        let path = paper.join("figures").join(format!("{}.svg", file.path));
        let content = file.figure.to_svg_file();
        storage::write_whole(&path, content.as_bytes()).with_context(|| path.display().to_string())?;
    }
    Ok((tables.len(), figures.len()))
}
