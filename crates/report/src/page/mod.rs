//! The report as one HTML page: everything is in it, nothing is loaded. Without scripts all of it can be read; the
//! script adds sorting, filtering and choosing.
//!
//! What the page looks like is in `templates/`: `base.html` with `page.html` in it, or `leaderboard.html`; a `run.html`
//! per run, `table.html`, `figures.html`, `leaks.html` and `provenance.html`. The structures here hold what fills them,
//! one per template. Templates escape all text; what a template says is `safe` is another template, a drawing, or the
//! page's own style and script.

mod leaderboard;
mod provenance;
mod run;
mod table;

use askama::Template;

pub(super) use leaderboard::leaderboard_page;

use super::drawing::{Figure, Looks};
use super::results::{Report, ReportedRun};
use super::{Cell, Column, ReportError, Table};
use run::RunSection;
pub(super) use run::minute;
use table::{Look, TableView};

/// `page.html`: the whole page.
#[derive(Template)]
#[template(path = "page.html", whitespace = "minimize")]
struct Page<'a> {
    style: &'static str,
    /// How the elements of figures look.
    looks: String,
    /// The parts of figures that several have.
    definitions: String,
    script: &'static str,
    version: &'a str,
    /// Where links lead, and what they say.
    contents: Vec<(String, &'a str)>,
    /// How many fits of how many runs on what.
    about: String,
    /// Whether a run is on generated captures.
    generated: bool,
    /// None where there is no run.
    overview: Option<Overview<'a>>,
    runs: Vec<RunSection<'a>>,
    audit: Vec<TableView>,
}

/// The runs beside one another.
struct Overview<'a> {
    runs: TableView,
    results: TableView,
    critical_differences: Figures,
    /// The same as tables, each with its title.
    rankings: Vec<(&'a str, TableView)>,
}

/// `figures.html`: figures side by side, each with its caption.
#[derive(Template)]
#[template(path = "figures.html", whitespace = "minimize")]
struct Figures {
    /// Title and drawing.
    figures: Vec<(String, String)>,
}

impl Figures {
    fn of<'a>(figures: impl IntoIterator<Item = &'a Figure>, looks: &Looks) -> Self {
        let drawn = |figure: &Figure| (figure.title.clone(), figure.to_html(looks));
        Self { figures: figures.into_iter().map(drawn).collect() }
    }
}

/// The whole page.
///
/// # Errors
/// A template that cannot be filled, which the compiler rules out but for a failure to write.
pub(super) fn page(report: &Report) -> Result<String, ReportError> {
    let looks = Looks::of(report.figures().iter().map(|file| file.figure));
    let page = Page {
        looks: looks.to_css(),
        definitions: looks.to_definitions(),
        style: include_str!("style.css"),
        script: include_str!("script.js"),
        version: &report.version,
        contents: contents(report),
        about: about(report),
        generated: datasets(report).contains(&"synth"),
        overview: (!report.runs.is_empty()).then(|| overview(report, &looks)),
        runs: report
            .runs
            .iter()
            .enumerate()
            .map(|(place, run)| RunSection::new(run, &report.runs[..place], &looks))
            .collect(),
        audit: report
            .audit
            .iter()
            .map(|(_, table)| TableView::new(table, &Look { titled: true, ..Look::default() }))
            .collect(),
    };
    page.render().map_err(|problem| ReportError::Page(problem.to_string()))
}

fn contents(report: &Report) -> Vec<(String, &str)> {
    let mut entries = vec![("overview".to_owned(), "Overview")];
    if !report.runs.is_empty() {
        entries.push(("results".to_owned(), "All results"));
        entries.push(("ranks".to_owned(), "Models over tables"));
    }
    entries.extend(report.runs.iter().map(|run| (run::anchor(run), run.stored.name.as_str())));
    entries.push(("audit".to_owned(), "Audit of published tables"));
    entries.push(("reading".to_owned(), "How to read this"));
    entries
}

/// The names of the datasets, in their order.
fn datasets(report: &Report) -> Vec<&str> {
    let mut datasets: Vec<&str> =
        report.runs.iter().flat_map(|run| &run.stored.facts.datasets).map(String::as_str).collect();
    datasets.sort_unstable();
    datasets.dedup();
    datasets
}

fn about(report: &Report) -> String {
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let fits = report.runs.iter().map(ReportedRun::fits).sum();
    match report.runs.len() {
        0 => "No stored runs".to_owned(),
        runs => format!("{} of {} on {}", count(fits, "fit"), count(runs, "run"), datasets(report).join(", ")),
    }
}

fn overview<'a>(report: &'a Report, looks: &Looks) -> Overview<'a> {
    let links: Vec<String> = report.runs.iter().map(|run| format!("#{}", run::anchor(run))).collect();
    let ranking = |table| TableView::new(table, &Look::default());
    Overview {
        runs: TableView::new(&report.runs_table(), &Look { links: Some(&links), ..Look::default() }),
        results: TableView::new(&report.results_table(), &Look { choices: true, ..Look::default() }),
        critical_differences: Figures::of(report.rankings.iter().map(|ranking| &ranking.figure), looks),
        rankings: report.rankings.iter().map(|drawn| (drawn.table.title.as_str(), ranking(&drawn.table))).collect(),
    }
}
