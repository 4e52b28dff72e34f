//! The section of one run: its tables, figures, one model in detail, leaks, tolerances, the experiment and provenance.

use super::provenance::provenance;
use super::table::{Look, folded, push, table};
use super::{ReportedRun, escape, figures};
use crate::StoredRun;
use crate::leaks::leak_sections;
use crate::run_tables::{RunTable, TableRole};

/// The name that links lead to.
pub(super) fn anchor(run: &ReportedRun) -> String {
    let letters = run.stored.name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' });
    format!("run-{}", letters.collect::<String>())
}

/// The section.
pub(super) fn section(run: &ReportedRun) -> String {
    let stored = &run.stored;
    let anchor = anchor(run);
    let mut html =
        format!("<section class=\"run\" id=\"{anchor}\"><h2>{}</h2><p class=\"about\">", escape(&stored.facts.title));
    let mut facts =
        vec![stored.facts.experiment.clone(), stored.facts.datasets.join(" + "), format!("size {}", stored.facts.size)];
    facts.push(format!("{} fits", run.fits()));
    if StoredRun::is_kept(&stored.folder) {
        facts.push("older run".to_owned());
    } else if stored.is_changed() {
        facts.push("changed on the command line".to_owned());
    }
    push(&mut html, format_args!("{} <code>results/{}</code></p>", escape(&facts.join(" · ")), escape(&stored.name)));
    for RunTable { role, table: shown, .. } in &run.tables {
        // What the experiment is about is shown; what stands beside it is asked for.
        if matches!(role, TableRole::Main(_)) {
            html += &table(shown, &Look { titled: run.tables.len() > 1, ..Look::default() });
        } else {
            html += &folded(&shown.title, &table(shown, &Look::default()));
        }
    }
    html += &figures(run.figures.scores.iter().map(|(_, figure)| figure));
    if !run.figures.costs.is_empty() {
        html += &folded("Time and memory", &figures(run.figures.costs.iter().map(|(_, figure)| figure)));
    }
    html += &detail(run, &anchor);
    html += &leaks(run);
    html += &tolerances(run);
    let file = format!("<pre tabindex=\"0\">{}</pre>", escape(&stored.experiment_file));
    html += &folded("Experiment file, with everything it extends", &file);
    html += &folded("Provenance", &provenance(&stored.information));
    html + "</section>"
}

/// One model at a time: a list chooses, all stand below one another without a script.
fn detail(run: &ReportedRun, anchor: &str) -> String {
    if run.rows.is_empty() {
        return String::new();
    }
    let mut html = format!(
        "<div class=\"detail\"><h3>One model in detail</h3><p class=\"chooser\" hidden><label for=\"{anchor}-row\">Model, input \
         and variant</label> <select id=\"{anchor}-row\">"
    );
    for (index, drawn) in run.rows.iter().enumerate() {
        let name = format!("{} · {}", drawn.row.model_name(), drawn.row.variant);
        push(&mut html, format_args!("<option value=\"{index}\">{}</option>", escape(&name)));
    }
    html += "</select></p>";
    for (index, drawn) in run.rows.iter().enumerate() {
        let name = format!("{} · {}", drawn.row.model_name(), drawn.row.variant);
        let shown = figures(drawn.figures.iter().map(|(_, figure)| figure));
        push(
            &mut html,
            format_args!("<div class=\"panel\" data-row=\"{index}\"><h4>{}</h4>{shown}</div>", escape(&name)),
        );
    }
    html + "</div>"
}

/// Beyond these each is folded of its own, and paper has none of them: a sweep's would take a page per point.
const FEW_LEAK_SECTIONS: usize = 3;

fn leaks(run: &ReportedRun) -> String {
    let mut shown = String::new();
    let sections = leak_sections(&run.stored.leaks);
    for section in &sections {
        let mut one = format!("<p>{}</p><ul>", escape(&section.lead));
        for finding in &section.findings {
            push(&mut one, format_args!("<li>{}</li>", escape(finding)));
        }
        one += "</ul>";
        one += &table(&section.fields, &Look::default());
        if sections.len() > FEW_LEAK_SECTIONS {
            shown += &folded(&section.variant, &one);
        } else {
            push(&mut shown, format_args!("<h4>{}</h4>{one}", escape(&section.variant)));
        }
    }
    if shown.is_empty() {
        shown += "<p class=\"empty\">This run has no leak report; run the experiment again to get one.</p>";
    }
    folded("Leaks: what split and features give away", &shown)
}

fn tolerances(run: &ReportedRun) -> String {
    match &run.tolerances {
        Some(verdicts) => {
            let content = match verdicts.rows.is_empty() {
                true => "<p class=\"empty\">Every expectation is met.</p>".to_owned(),
                false => table(verdicts, &Look::default()),
            };
            folded(&format!("Tolerances: {}", verdicts.title), &content)
        }
        None => String::new(),
    }
}
