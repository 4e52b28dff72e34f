//! The section of one run: its tables, figures, one model in detail, leaks, tolerances, the experiment and provenance.

use askama::Template;

use super::provenance::ProvenanceView;
use super::table::{Look, TableView};
use super::{Figures, ReportedRun, Table};
use crate::StoredRun;
use crate::drawing::Looks;
use crate::leaks::{LeakSection, leak_sections};
use crate::run_tables::TableRole;
use etcbench_evaluate::Metric;

/// With more sections than this, each is folded separately and none is printed on paper: those of a sweep would take a
/// page per point.
const FEW_LEAK_SECTIONS: usize = 3;

/// `run.html`: the section of a run.
#[derive(Template)]
#[template(path = "run.html", whitespace = "minimize")]
pub(super) struct RunSection<'a> {
    /// The anchor that links refer to.
    anchor: String,
    title: &'a str,
    /// Experiment, datasets, size and the like in one line.
    facts: String,
    name: &'a str,
    /// What was changed since the run wrote it.
    changes: &'a [String],
    /// Its tables: whether the table is folded, its title, and the table.
    tables: Vec<(bool, &'a str, TableView)>,
    scores: Figures,
    costs: Figures,
    /// The rows of its main table, each with its figures.
    rows: Vec<(String, Figures)>,
    leaks: Vec<LeakView>,
    /// The expectations that are not met, if the run has expectations: a title, and a table if any is not met.
    tolerances: Option<(&'a str, Option<TableView>)>,
    experiment_file: &'a str,
    provenance: ProvenanceView,
}

/// `leaks.html`: the leaks of one variant.
#[derive(Template)]
#[template(path = "leaks.html", whitespace = "minimize")]
struct LeakView {
    section: LeakSection,
    /// `None` for reports of versions without verdicts.
    verdicts: Option<TableView>,
    fields: TableView,
}

/// The anchor that links refer to.
pub(super) fn anchor(run: &ReportedRun) -> String {
    let letters = run.stored.name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' });
    format!("run-{}", letters.collect::<String>())
}

impl<'a> RunSection<'a> {
    /// Builds the section of a run; captures that it shares with one of the runs `before` it are only shown there.
    pub(super) fn new(run: &'a ReportedRun, before: &[ReportedRun], looks: &Looks) -> Self {
        let stored = &run.stored;
        let table = |table: &Table| TableView::new(table, &Look::default());
        let tables = run.tables.iter().map(|shown| {
            let folded = !matches!(shown.role, TableRole::Main(_));
            let score = matches!(shown.role, TableRole::Main(_)).then_some(Metric::MACRO_F1.key);
            let look = Look { titled: !folded && run.tables.len() > 1, score, ..Look::default() };
            (folded, shown.table.title.as_str(), TableView::new(&shown.table, &look))
        });
        let rows = run.rows.iter().map(|drawn| {
            let name = format!("{} · {}", drawn.row.model_name(), drawn.row.variant);
            (name, Figures::of(drawn.figures.iter().map(|(_, figure)| figure), looks))
        });
        let leaks = leak_sections(&stored.leaks).into_iter().map(|section| {
            let (verdicts, fields) = (section.verdicts.as_ref().map(table), table(&section.fields));
            LeakView { section, verdicts, fields }
        });
        let tolerances = run.tolerances.as_ref().map(|verdicts| {
            let unmet = (!verdicts.rows.is_empty()).then(|| table(verdicts));
            (verdicts.title.as_str(), unmet)
        });
        Self {
            anchor: anchor(run),
            title: &stored.facts.title,
            facts: facts(run),
            name: &stored.name,
            changes: &run.changes,
            tables: tables.collect(),
            scores: Figures::of(run.figures.scores.iter().map(|(_, figure)| figure), looks),
            costs: Figures::of(run.figures.costs.iter().map(|(_, figure)| figure), looks),
            rows: rows.collect(),
            leaks: leaks.collect(),
            tolerances,
            experiment_file: &stored.experiment_file,
            provenance: ProvenanceView::new(&stored.information, captures_of(run, before)),
        }
    }

    fn folds_leaks(&self) -> bool {
        self.leaks.len() > FEW_LEAK_SECTIONS
    }
}

/// Returns the first of the runs before with the same captures.
fn captures_of<'a>(run: &ReportedRun, before: &'a [ReportedRun]) -> Option<&'a str> {
    let captures = |run: &'a ReportedRun| run.stored.information.get("captures");
    let listed = run
        .stored
        .information
        .get("captures")
        .filter(|listed| listed.as_array().is_some_and(|listed| listed.len() > 3))?;
    before.iter().find(|other| captures(other) == Some(listed)).map(|other| other.stored.name.as_str())
}

/// Formats a time as `2026-03-01 09:30 UTC`, without seconds.
pub(crate) fn minute(started: &str) -> String {
    format!("{} UTC", started.get(..16).unwrap_or(started).replace('T', " "))
}

fn facts(run: &ReportedRun) -> String {
    let stored = &run.stored;
    let mut facts =
        vec![stored.facts.experiment.clone(), stored.facts.datasets.join(" + "), format!("size {}", stored.facts.size)];
    facts.push(match run.fits() {
        1 => "1 fit".to_owned(),
        fits => format!("{fits} fits"),
    });
    facts.extend(stored.facts.invocation.started.as_deref().map(|text| format!("started {}", minute(text))));
    if StoredRun::is_kept(&stored.folder) {
        facts.push("older run".to_owned());
    } else if stored.is_changed() {
        facts.push("changed on the command line".to_owned());
    }
    facts.join(" · ")
}
