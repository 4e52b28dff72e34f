//! The report as one self-contained HTML page that loads nothing. It is readable without scripts; the script adds
//! sorting, filtering and selection.
//!
//! The markup is in `templates/`: `base.html`, extended by `page.html` or `leaderboard.html`; a `run.html` per run,
//! `table.html`, `figures.html`, `leaks.html` and `provenance.html`. The structs here contain the data of the
//! templates, one per template. Templates escape all text; what is marked `safe` is another template, a drawing, or the
//! page's own style and script.

mod leaderboard;
mod provenance;
mod run;
mod table;

use askama::Template;

pub(super) use leaderboard::leaderboard_page;

use super::cell_text::visible;
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
    /// Style sheet of the figures.
    looks: String,
    /// Parts that several figures share.
    definitions: String,
    script: &'static str,
    version: &'a str,
    /// Links to sections: anchor and text.
    contents: Vec<(String, &'a str)>,
    /// The number of fits and runs, and the datasets.
    about: String,
    /// Whether any run is on generated captures.
    generated: bool,
    /// `None` if there is no run.
    overview: Option<Overview<'a>>,
    runs: Vec<RunSection<'a>>,
    audit: Vec<TableView>,
}

/// The comparison of all runs.
struct Overview<'a> {
    runs: TableView,
    results: TableView,
    critical_differences: Figures,
    /// The same rankings as tables, each with its title.
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
/// Rendering fails; the compiler checks templates, so only writing can fail.
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
    rendered(&page)
}

/// Renders a page. Names of classes, captures and models are other people's: none may change the direction of text.
fn rendered(page: &impl Template) -> Result<String, ReportError> {
    let html = page.render().map_err(|problem| ReportError::Page(problem.to_string()))?;
    Ok(visible(&html))
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

/// Returns the names of the datasets, sorted.
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
