//! The report as one HTML page: everything is in it, nothing is loaded. Without scripts all of it can be read; the
//! script adds sorting, filtering and choosing.

mod provenance;
mod run;
mod table;

use super::drawing::Figure;
use super::results::{Report, ReportedRun};
use super::{Cell, Column, Table};
use table::{Look, figure, push};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Text in which a browser finds no markup.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// What a reader has to know of every number.
const READING: [(&str, &str); 7] = [
    (
        "Mean ± deviation",
        "The mean over seeds and folds and its sample standard deviation. Intervals in figures are 95 % confidence \
         intervals of that mean by Student's t; the folds of one seed share training flows, so theirs are too narrow.",
    ),
    (
        "Precision, recall, F1",
        "Macro averages, unless a row is about one class: unweighted means over the classes, an undefined value counting as 0.",
    ),
    (
        "Published",
        "What the paper prints, on its own data. A letter at a number leads to the reason why it cannot be, or the \
         condition under which it can.",
    ),
    (
        "Confusion matrix",
        "Rows are true classes, columns predicted ones; the number counts flows, the shade is their share of the true class.",
    ),
    (
        "Calibration error",
        "How far the highest probability is from the share predicted right, over 15 bins, weighted by their flows; 0 is best. \
         The dashed line is where both are equal.",
    ),
    (
        "Leaks",
        "What a split and its features give away before any model is trained. A score that one field reaches alone is not \
         the merit of a model.",
    ),
    (
        "Time and memory",
        "Wall time of one fit and of predicting the test part on the machine named under provenance; memory is the largest \
         resident size of the process.",
    ),
];

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let mut html = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; img-src data:\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>etcbench report</title><link rel=\"icon\" href=\"data:,\"><style>",
    );
    html += STYLE;
    html += "</style></head><body><a class=\"skip\" href=\"#main\">Skip to the results</a>";
    html += &navigation(report);
    html += "<main id=\"main\">";
    html += &header(report);
    html += &overview(report);
    for run in &report.runs {
        html += &run::section(run);
    }
    html += &audit(report);
    html += "<section id=\"reading\"><h2>How to read this</h2><dl class=\"reading\">";
    for (word, meaning) in READING {
        push(&mut html, format_args!("<dt>{word}</dt><dd>{meaning}</dd>"));
    }
    push(
        &mut html,
        format_args!(
            "</dl></section><footer>Made by etcbench {} from stored records.</footer></main><script>",
            report.version
        ),
    );
    html += SCRIPT;
    html + "</script></body></html>\n"
}

fn navigation(report: &Report) -> String {
    let mut html = String::from("<nav aria-label=\"Contents\"><p class=\"brand\">etcbench</p><ul>");
    let mut entries = vec![("overview".to_owned(), "Overview".to_owned())];
    if !report.runs.is_empty() {
        entries.push(("results".to_owned(), "All results".to_owned()));
        entries.push(("ranks".to_owned(), "Models over tables".to_owned()));
    }
    entries.extend(report.runs.iter().map(|run| (run::anchor(run), run.stored.name.clone())));
    entries.push(("audit".to_owned(), "Audit of published tables".to_owned()));
    entries.push(("reading".to_owned(), "How to read this".to_owned()));
    for (anchor, name) in entries {
        push(&mut html, format_args!("<li><a href=\"#{}\">{}</a></li>", escape(&anchor), escape(&name)));
    }
    html + "</ul><button type=\"button\" class=\"theme\" hidden>Theme: system</button></nav>"
}

fn header(report: &Report) -> String {
    let mut datasets: Vec<&str> =
        report.runs.iter().flat_map(|run| &run.stored.facts.datasets).map(String::as_str).collect();
    datasets.sort_unstable();
    datasets.dedup();
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let fits = report.runs.iter().map(ReportedRun::fits).sum();
    let about = match report.runs.len() {
        0 => "No stored runs".to_owned(),
        runs => format!("{} of {} on {}", count(fits, "fit"), count(runs, "run"), datasets.join(", ")),
    };
    let generated = datasets.contains(&"synth");
    let warning = if generated {
        "<p class=\"warning\">Runs on <b>synth</b> are on generated captures: they show that everything works, and say \
         nothing about real traffic.</p>"
    } else {
        ""
    };
    format!(
        "<header id=\"overview\"><h1>Encrypted-traffic classification</h1><p class=\"about\">{}</p>{warning}</header>",
        escape(&about)
    )
}

fn overview(report: &Report) -> String {
    if report.runs.is_empty() {
        return "<section><p class=\"empty\">There is no stored run yet. <code>just demo</code> makes five in a few minutes; \
                <code>just reproduce table2</code> runs a table on real captures.</p></section>"
            .to_owned();
    }
    let links: Vec<String> = report.runs.iter().map(|run| format!("#{}", run::anchor(run))).collect();
    let runs = table::table(&report.runs_table(), &Look { links: Some(&links), ..Look::default() });
    let results = table::table(&report.results_table(), &Look { choices: true, ..Look::default() });
    let mut html = format!(
        "<section aria-label=\"Runs\">{runs}</section><section id=\"results\"><h2>All results</h2>\
         <p class=\"lead\">Every row of every run. Click a heading to sort; type several words to narrow the rows.</p>\
         {results}</section><section id=\"ranks\"><h2>Models over tables</h2>"
    );
    if report.rankings.is_empty() {
        html += "<p class=\"empty\">A critical-difference figure needs two tables of the same size that have the same models \
                 in the same variant.</p>";
    } else {
        html += "<p class=\"lead\">Mean ranks by macro F1 (1 is best). Models joined by a bar cannot be told apart at 5 %.</p>\
                 <div class=\"figures\">";
        for ranking in &report.rankings {
            html += &figure(&ranking.figure);
        }
        html += "</div>";
        for ranking in &report.rankings {
            let shown = table::table(&ranking.table, &Look::default());
            html += &table::folded(&ranking.table.title, &shown);
        }
        html +=
            "<p class=\"notes\">The test takes tables as independent; tables that share flows are less than that.</p>";
    }
    html + "</section>"
}

fn audit(report: &Report) -> String {
    let mut html = String::from(
        "<section id=\"audit\"><h2>Audit of published tables</h2><p class=\"lead\">Numbers as printed that no confusion matrix \
         can have together, rounding counted.</p>",
    );
    if report.audit.is_empty() {
        html += "<p class=\"empty\">No published tables were found in <code>paper/published</code>.</p>";
    }
    for (_, audited) in &report.audit {
        html += &table::table(audited, &Look { titled: true, ..Look::default() });
    }
    html + "</section>"
}

/// Figures side by side.
fn figures<'a>(drawn: impl IntoIterator<Item = &'a Figure>) -> String {
    let drawn: String = drawn.into_iter().map(figure).collect();
    if drawn.is_empty() { drawn } else { format!("<div class=\"figures\">{drawn}</div>") }
}
