//! `etcbench report`: writes all stored runs as one HTML page, and their tables and figures as files for a paper.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::audit::published;
use super::{Verdict, output, progress};
use crate::report::{self, AuditTable, PaperFiles, Report, ReportedRun, StoredRun, Table};
use crate::runs::{find_run, published_folder};
use crate::{experiment, storage};

/// `etcbench report`.
#[derive(Args)]
#[command(after_help = "Examples:
  etcbench report                                  every run under results/
  etcbench report table2-synth-demo -o table2.html   one run, by the name of its folder

The page needs no network and no server. Exit code 1 if a run cannot be read or was modified after it was written;
the page then shows the others. Tables go to paper/tables as CSV, Markdown and LaTeX, figures to paper/figures as
SVG; `just paper` builds a PDF from them.")]
pub(super) struct ReportArguments {
    /// Runs: names of folders under results/, or folders; by default all, except older ones that were kept (NAME.1).
    #[arg(value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The page to write; `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The folder for tables/ and figures/.
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
            tell!("{} left out (NAME.1 and so on); name a run to include it", output::count(kept.len(), "older run"));
        }
        last
    } else {
        arguments.runs.iter().map(|run| find_run(&results, run)).collect::<anyhow::Result<_>>()?
    };
    let progress = progress::for_standard_error();
    progress.begin("reading runs", folders.len() as u64);
    let (published, tolerances) = (published_folder(project), results.join("tolerances"));
    let mut runs = Vec::new();
    let mut sound = true;
    for folder in &folders {
        match storage::read_folder(folder, || ReportedRun::read(folder, &published, &tolerances)) {
            Ok(run) => {
                if let Some(first) = run.changes.first() {
                    let more = run.changes.len() - 1;
                    let more = if more > 0 { format!(" (and {more} more, see the page)") } else { String::new() };
                    progress.warn(&format!("{}: modified after it was written: {first}{more}", folder.display()));
                    sound = false;
                }
                runs.push(run);
            }
            // A broken run among all of them is skipped; one that was requested is an error.
            Err(error) if arguments.runs.is_empty() => {
                progress.warn(&format!("{}: left out: {error}", folder.display()));
                sound = false;
            }
            Err(error) => return Err(error.into()),
        }
        progress.advance(1);
    }
    progress.end();
    let report = Report::new(runs, audits(project)?)?;
    storage::write_whole(&page, report.page()?.as_bytes()).with_context(|| written_to.clone())?;
    let paper = arguments.paper.clone().unwrap_or_else(|| project.join("paper"));
    let PaperFiles { tables, figures } = report.write_paper(&paper)?;
    say!(
        "{written_to}: {}; {} in {}, {} in {}",
        output::count(report.runs.len(), "run"),
        output::count(tables, "table"),
        paper.join("tables").display(),
        output::count(figures, "figure"),
        paper.join("figures").display()
    );
    Ok(if sound { Verdict::Done } else { Verdict::CheckFailed })
}

/// Returns the audits of all published tables.
fn audits(project: &Path) -> anyhow::Result<Vec<(String, Table)>> {
    let mut tables = Vec::new();
    for path in published(project) {
        let findings =
            AuditTable::read(&path)?.audit().map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        let name = path.file_stem().map_or(String::new(), |stem| stem.to_string_lossy().into_owned());
        let table = report::audit_table(&name, &findings);
        tables.push((name, table));
    }
    Ok(tables)
}
