//! The section of one run: its tables, figures, one model in detail, leaks, tolerances, the experiment and provenance.

use askama::Template;

use super::provenance::ProvenanceView;
use super::table::{Look, TableView};
use super::{Figures, ReportedRun, Table};
use crate::StoredRun;
use crate::leaks::{LeakSection, leak_sections};
use crate::run_tables::TableRole;

/// Beyond these each is folded of its own, and paper has none of them: a sweep's would take a page per point.
const FEW_LEAK_SECTIONS: usize = 3;

/// `run.html`: the section of a run.
#[derive(Template)]
#[template(path = "run.html", whitespace = "minimize")]
pub(super) struct RunSection<'a> {
    /// The name that links lead to.
    anchor: String,
    title: &'a str,
    /// Experiment, datasets, size and the like in one line.
    facts: String,
    name: &'a str,
    /// What is not as the run wrote it.
    changes: &'a [String],
    /// Its tables: whether they are folded, under which title, and the table.
    tables: Vec<(bool, &'a str, TableView)>,
    scores: Figures<'a>,
    costs: Figures<'a>,
    /// The rows of its main table, each with its figures.
    rows: Vec<(String, Figures<'a>)>,
    leaks: Vec<LeakView>,
    /// What of the expectations is not met, where there are any: a title, and a table where that is something.
    tolerances: Option<(&'a str, Option<TableView>)>,
    experiment_file: &'a str,
    provenance: ProvenanceView,
}

/// `leaks.html`: what splits and features give away in one variant.
#[derive(Template)]
#[template(path = "leaks.html", whitespace = "minimize")]
struct LeakView {
    section: LeakSection,
    fields: TableView,
}

/// The name that links lead to.
pub(super) fn anchor(run: &ReportedRun) -> String {
    let letters = run.stored.name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' });
    format!("run-{}", letters.collect::<String>())
}

impl<'a> RunSection<'a> {
    /// What the page shows of a run.
    pub(super) fn new(run: &'a ReportedRun) -> Self {
        let stored = &run.stored;
        let table = |table: &Table| TableView::new(table, &Look::default());
        let tables = run.tables.iter().map(|shown| {
            let folded = !matches!(shown.role, TableRole::Main(_));
            let look = Look { titled: !folded && run.tables.len() > 1, ..Look::default() };
            (folded, shown.table.title.as_str(), TableView::new(&shown.table, &look))
        });
        let rows = run.rows.iter().map(|drawn| {
            let name = format!("{} · {}", drawn.row.model_name(), drawn.row.variant);
            (name, Figures::of(drawn.figures.iter().map(|(_, figure)| figure)))
        });
        let leaks = leak_sections(&stored.leaks).into_iter().map(|section| {
            let fields = table(&section.fields);
            LeakView { section, fields }
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
            scores: Figures::of(run.figures.scores.iter().map(|(_, figure)| figure)),
            costs: Figures::of(run.figures.costs.iter().map(|(_, figure)| figure)),
            rows: rows.collect(),
            leaks: leaks.collect(),
            tolerances,
            experiment_file: &stored.experiment_file,
            provenance: ProvenanceView::new(&stored.information),
        }
    }

    fn folds_leaks(&self) -> bool {
        self.leaks.len() > FEW_LEAK_SECTIONS
    }
}

fn facts(run: &ReportedRun) -> String {
    let stored = &run.stored;
    let mut facts =
        vec![stored.facts.experiment.clone(), stored.facts.datasets.join(" + "), format!("size {}", stored.facts.size)];
    facts.push(format!("{} fits", run.fits()));
    if StoredRun::is_kept(&stored.folder) {
        facts.push("older run".to_owned());
    } else if stored.is_changed() {
        facts.push("changed on the command line".to_owned());
    }
    facts.join(" · ")
}
