//! Readable leak reports: the output of `etcbench data leaks`, and the notes under a run's tables.

use std::collections::BTreeSet;
use std::path::Path;

use super::cell_text::visible;
use super::leak_verdicts::verdicts_table;
use super::{Cell, Column, ReportError, Table, file_error};
use etcbench_evaluate::{Metric, Summary};
use etcbench_experiment::SplitLeaks;
use etcbench_leaks::{Alarm, Duplicates, FIELD_TREE_DEPTH, FieldKind, FieldScore, LeakReport};

/// Number of fields printed per variant.
const PRINTED_FIELDS: usize = 25;

/// Reads a `leaks.json`.
///
/// # Errors
/// The file cannot be read or is not a leak report.
pub fn read_leaks(path: &Path) -> Result<Vec<SplitLeaks>, ReportError> {
    let bytes = std::fs::read(path).map_err(|problem| file_error(path, problem))?;
    serde_json::from_slice(&bytes).map_err(|problem| file_error(path, problem))
}

/// Groups reports by variant, in order of first appearance.
fn by_variant(leaks: &[SplitLeaks]) -> Vec<(&str, Vec<&LeakReport>)> {
    let mut variants: Vec<(&str, Vec<&LeakReport>)> = Vec::new();
    for leak in leaks {
        match variants.iter_mut().find(|(name, _)| *name == leak.variant) {
            Some((_, reports)) => reports.push(&leak.report),
            None => variants.push((&leak.variant, vec![&leak.report])),
        }
    }
    variants
}

fn mean(reports: &[&LeakReport], value: impl Fn(&LeakReport) -> f64) -> f64 {
    reports.iter().map(|report| value(report)).sum::<f64>() / reports.len().max(1) as f64
}

/// Formats the share of test flows that `count` returns, as a mean over the reports.
fn share(reports: &[&LeakReport], count: impl Fn(&LeakReport) -> usize) -> String {
    let share = mean(reports, |report| count(report) as f64 / report.test_flows.max(1) as f64);
    format!("{:.1} %", 100.0 * share)
}

/// A field, with its scores over the reports that have it.
struct FieldSummary<'a> {
    first: &'a FieldScore,
    macro_f1: Summary,
    accuracy: Summary,
    packets: Vec<usize>,
}

/// Summarises fields over reports, the best first.
fn field_summaries<'a>(
    reports: &[&'a LeakReport],
    fields: impl Fn(&'a LeakReport) -> &'a [FieldScore],
) -> Vec<FieldSummary<'a>> {
    let mut found: Vec<(&FieldScore, Vec<&FieldScore>)> = Vec::new();
    for report in reports {
        for score in fields(report) {
            let same = |other: &FieldScore| {
                other.field == score.field
                    && other.kind == score.kind
                    && (score.kind != FieldKind::Byte || other.packet == score.packet)
            };
            match found.iter_mut().find(|(first, _)| same(first)) {
                Some((_, scores)) => scores.push(score),
                None => found.push((score, vec![score])),
            }
        }
    }
    let mut summaries: Vec<FieldSummary<'a>> = found
        .into_iter()
        .filter_map(|(first, scores)| {
            let over = |value: fn(&FieldScore) -> f64| {
                Summary::of(&scores.iter().map(|score| value(score)).collect::<Vec<_>>())
            };
            let mut packets: Vec<usize> = scores.iter().filter_map(|score| score.packet).collect();
            packets.sort_unstable();
            packets.dedup();
            Some(FieldSummary {
                first,
                macro_f1: over(|score| score.macro_f1)?,
                accuracy: over(|score| score.accuracy)?,
                packets,
            })
        })
        .collect();
    summaries.sort_by(|left, right| right.macro_f1.mean.total_cmp(&left.macro_f1.mean));
    summaries
}

fn kind_name(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Identifier => "identifier",
        FieldKind::Header => "header",
        FieldKind::Statistic => "statistic",
        FieldKind::Byte => "byte",
        FieldKind::Circumstance => "circumstance",
    }
}

/// The leak report of one variant over its splits.
pub(super) struct LeakSection {
    /// The variant, or several variants with the same findings.
    pub variant: String,
    /// The number of splits and their size.
    pub lead: String,
    /// The checks, and whether each found a leak beyond chance; `None` for reports of versions without verdicts.
    pub verdicts: Option<Table>,
    /// The findings, one sentence each.
    pub findings: Vec<String>,
    /// How well single fields predict the class.
    pub fields: Table,
}

/// Returns a section per variant; variants with the same splits and features share one.
pub(super) fn leak_sections(leaks: &[SplitLeaks]) -> Vec<LeakSection> {
    let mut groups: Vec<(Vec<&str>, Vec<&LeakReport>)> = Vec::new();
    for (variant, reports) in by_variant(leaks) {
        match groups.iter_mut().find(|(_, other)| *other == reports) {
            Some((variants, _)) => variants.push(variant),
            None => groups.push((vec![variant], reports)),
        }
    }
    groups.into_iter().map(|(variants, reports)| leak_section(&variants.join(", "), &reports)).collect()
}

/// Renders the report as Markdown.
///
/// # Errors
/// There is no report.
pub fn leak_text(leaks: &[SplitLeaks]) -> Result<String, ReportError> {
    if leaks.is_empty() {
        return Err(ReportError::Records("no split to report on".to_owned()));
    }
    let mut text = String::new();
    for section in leak_sections(leaks) {
        text += &format!("## {}\n\n{}\n\n", section.variant, section.lead);
        if let Some(verdicts) = &section.verdicts {
            text += &format!("{}\n", verdicts.to_markdown());
        }
        for finding in &section.findings {
            text += &format!("- {finding}\n");
        }
        text += &format!("\n{}\n", section.fields.to_markdown());
    }
    Ok(visible(&text))
}

/// Returns what is found about identical inputs, one sentence each; `row` is what a row is called.
pub(super) fn input_findings(reports: &[&LeakReport], row: &str) -> Vec<String> {
    let first = reports[0];
    let mut findings = Vec::new();
    for (index, duplicates) in first.duplicates.iter().enumerate() {
        let count =
            |value: fn(&Duplicates) -> usize| share(reports, |report| report.duplicates.get(index).map_or(0, value));
        findings.push(format!(
            "same {} as a training {row}: {}; as one of another class: {}; as such only: {}",
            duplicates.features.replace('_', " "),
            count(|found| found.test_flows),
            count(|found| found.of_another_class),
            count(|found| found.of_other_classes_only)
        ));
    }
    if let Some(ceilings) = ceilings(first) {
        findings.push(format!(
            "the best accuracy that any classifier can have, since identical inputs carry different labels: {ceilings}"
        ));
    }
    findings
}

fn leak_section(variant: &str, reports: &[&LeakReport]) -> LeakSection {
    let first = reports[0];
    let lead = format!(
        "{}; in the first {} training and {} test flows. Shares are of test flows, means over the splits.",
        if reports.len() == 1 { "1 split".to_owned() } else { format!("{} splits", reports.len()) },
        first.training_flows,
        first.test_flows
    );
    let mut findings = input_findings(reports, "flow");
    findings.push(format!(
        "from a capture with training flows: {}; to a host with training flows: {}; of a connection with training \
         flows: {}; at the same time as a training flow of the capture: {}; between the first and the last training \
         flow of the class: {}",
        share(reports, |report| report.shared.capture_flows),
        share(reports, |report| report.shared.host_flows),
        share(reports, |report| report.shared.connection_flows),
        share(reports, |report| report.shared.concurrent_flows),
        share(reports, |report| report.shared.within_training_time_flows)
    ));
    findings.push(confounding(first));
    findings.extend(alarms(reports));
    let fields = fields_table(format!("{variant}: what one field alone predicts"), reports, "; leaks.json has them");
    LeakSection {
        variant: variant.to_owned(),
        lead,
        verdicts: verdicts_table(format!("{variant}: verdicts"), reports),
        findings,
        fields,
    }
}

/// Formats ceilings as in `bytes 0.998, statistics 1.000`; `None` for reports of versions without ceilings.
pub(super) fn ceilings(report: &LeakReport) -> Option<String> {
    let parts =
        report.ceilings.iter().map(|ceiling| format!("{} {:.3}", ceiling.input.replace('_', " "), ceiling.accuracy));
    (!report.ceilings.is_empty()).then(|| parts.collect::<Vec<_>>().join(", "))
}

/// Returns the leaks beyond chance in any of the splits, with the text of the first split and the number of splits
/// affected.
pub(super) fn alarms(reports: &[&LeakReport]) -> Vec<String> {
    let mut found: Vec<(&Alarm, usize)> = Vec::new();
    for alarm in reports.iter().flat_map(|report| &report.alarms) {
        match found.iter_mut().find(|(other, _)| (other.kind, &other.subject) == (alarm.kind, &alarm.subject)) {
            Some((_, count)) => *count += 1,
            None => found.push((alarm, 1)),
        }
    }
    let line = |(alarm, count): (&Alarm, usize)| match reports.len() {
        1 => format!("ALARM: {}", alarm.text()),
        splits => format!("ALARM in {count} of {splits} splits: {}", alarm.text()),
    };
    found.into_iter().map(line).collect()
}

/// Returns the mean share of test flows whose `input` equals that of a training flow; `None` if this was not checked.
pub(super) fn duplicate_share(reports: &[&LeakReport], input: &str) -> Option<f64> {
    let share_of =
        |report: &LeakReport| report.duplicates.iter().find(|found| found.features == input).map(|found| found.share);
    let shares: Vec<f64> = reports.iter().filter_map(|report| share_of(report)).collect();
    Some(Summary::of(&shares)?.mean)
}

/// Returns the mean share of test flows from a capture with training flows.
pub(super) fn shared_captures(reports: &[&LeakReport]) -> Option<f64> {
    let share = |report: &LeakReport| report.shared.capture_flows as f64 / report.test_flows.max(1) as f64;
    (!reports.is_empty()).then(|| mean(reports, share))
}

/// Returns the single field that predicts best, and its macro F1.
pub(super) fn best_field(reports: &[&LeakReport]) -> Option<(String, f64)> {
    let best = field_summaries(reports, |report| &report.fields).into_iter().next()?;
    Some((best.first.field.clone(), best.macro_f1.mean))
}

/// Describes which classes cannot be distinguished from the captures they come from.
fn confounding(report: &LeakReport) -> String {
    let single: Vec<&str> =
        report.classes.iter().filter(|class| class.captures == 1).map(|class| class.class.as_str()).collect();
    let exclusive = report.classes.iter().filter(|class| class.captures == class.captures_of_its_own).count();
    let from_one = match single.len() {
        0 => "every class comes from several captures".to_owned(),
        count if count == report.classes.len() => "every class comes from one capture".to_owned(),
        _ => format!("from one capture only: {}", single.join(", ")),
    };
    format!(
        "{from_one}; {exclusive} of {} classes share no capture with another class, so that whatever names the \
         capture names the class",
        report.classes.len()
    )
}

/// Returns a table of how well single fields predict the class; `rest` is where those that are not printed are.
pub(super) fn fields_table(title: String, reports: &[&LeakReport], rest: &str) -> Table {
    let mut table = Table {
        title,
        columns: vec![
            Column::text("field", "field"),
            Column::text("kind", "kind"),
            Column::text("packet", "packet"),
            Column::number(Metric::MACRO_F1.key, Metric::MACRO_F1.label),
            Column::metric(Metric::ACCURACY),
        ],
        ..Table::default()
    };
    let mut add = |summary: FieldSummary<'_>| {
        let packets: Vec<String> = summary.packets.iter().map(usize::to_string).collect();
        table.rows.push(vec![
            Cell::Text(summary.first.field.clone()),
            Cell::Text(kind_name(summary.first.kind).to_owned()),
            Cell::Text(packets.join(", ")),
            Cell::summary(&summary.macro_f1, 3),
            Cell::summary(&summary.accuracy, 3),
        ]);
    };
    let fields = field_summaries(reports, |report| &report.fields);
    let hidden = fields.len().saturating_sub(PRINTED_FIELDS);
    fields.into_iter().take(PRINTED_FIELDS).for_each(&mut add);
    field_summaries(reports, |report| &report.byte_positions).into_iter().take(5).for_each(&mut add);
    table.notes.push(format!(
        "A decision tree of depth {FIELD_TREE_DEPTH} on one field, fitted on the training part, measured on the test part; \
         always predicting the largest class gives a macro F1 of {:.3}. Of several packets the one that predicts the \
         training part best; byte positions: the best five.",
        mean(reports, |report| report.majority_macro_f1)
    ));
    if hidden > 0 {
        table.notes.push(format!("{hidden} fields that predict less are left out here{rest}."));
    }
    table
}

/// Returns notes for a run's tables; variants with the same note share one.
pub(super) fn leak_notes(leaks: &[SplitLeaks]) -> Vec<String> {
    let leaks_found: Vec<(&str, String)> = by_variant(leaks)
        .into_iter()
        .map(|(variant, reports)| {
            let bytes = reports[0].duplicates.iter().position(|found| found.features == "bytes");
            let same = bytes.map_or(String::new(), |index| {
                let same = share(&reports, |report| report.duplicates.get(index).map_or(0, |found| found.test_flows));
                format!("{same} of the test flows have the bytes of a training flow, ")
            });
            let captures = share(&reports, |report| report.shared.capture_flows);
            let best = |wanted: &[FieldKind]| {
                field_summaries(&reports, |report| &report.fields)
                    .into_iter()
                    .find(|summary| wanted.contains(&summary.first.kind))
                    .map_or("none".to_owned(), |summary| {
                        format!("{} ({:.3})", summary.first.field, summary.macro_f1.mean)
                    })
            };
            let note = format!(
                "{same}{captures} come from a capture with training flows; the best single identifier by \
                 macro F1 is {}, the best other field {}, always the largest class gives {:.3}.",
                best(&[FieldKind::Identifier]),
                best(&[FieldKind::Header, FieldKind::Statistic]),
                mean(&reports, |report| report.majority_macro_f1)
            );
            (variant, note)
        })
        .collect();
    let tested: Vec<(&str, String)> = by_variant(leaks)
        .into_iter()
        .filter_map(|(variant, reports)| {
            let folds = leaks.iter().any(|leak| leak.fold > 0);
            let over = |count: usize| match (folds, count) {
                (false, 1) => "seed",
                (false, _) => "seeds",
                (true, _) => "splits",
            };
            Some((variant, format!("over {} {} {}.", reports.len(), over(reports.len()), tested_captures(&reports)?)))
        })
        .collect();
    let ceilings: Vec<(&str, String)> = by_variant(leaks)
        .into_iter()
        .filter_map(|(variant, reports)| Some((variant, format!("{}.", ceilings(reports[0])?))))
        .collect();
    let mut notes = Vec::new();
    let subjects = [
        ("Leaks", &leaks_found),
        ("Ceiling of the accuracy, since identical inputs carry different labels", &ceilings),
        ("Captures tested", &tested),
    ];
    for (subject, variant_notes) in subjects {
        let mut same: Vec<(Vec<&str>, &str)> = Vec::new();
        for (variant, note) in variant_notes {
            match same.iter_mut().find(|(_, other)| other == note) {
                Some((variants, _)) => variants.push(variant),
                None => same.push((vec![variant], note)),
            }
        }
        let named = |variants: &[&str]| {
            if variants.len() > 2 && variants.len() == variant_notes.len() {
                format!("each of the {} variants", variant_notes.len())
            } else {
                variants.join(" and ")
            }
        };
        notes.extend(same.into_iter().map(|(variants, note)| format!("{subject}, {}: {note}", named(&variants))));
    }
    notes
}

/// Describes on how many of its captures each class is tested, naming the classes with the fewest. Returns `None` if
/// captures are on both sides of a split or reports do not list the tested captures.
fn tested_captures(reports: &[&LeakReport]) -> Option<String> {
    let says = |report: &&LeakReport| report.classes.iter().all(|class| !class.tested.is_empty());
    if reports.iter().any(|report| report.shared.captures > 0) || !reports.iter().all(says) {
        return None;
    }
    let classes = reports[0].classes.iter().enumerate().map(|(index, class)| {
        let captures_of =
            |report: &'_ &LeakReport| report.classes.get(index).map_or(Vec::new(), |class| class.tested.clone());
        let tested: BTreeSet<String> = reports.iter().flat_map(captures_of).collect();
        (class.class.as_str(), tested.len(), class.captures)
    });
    let classes: Vec<(&str, usize, usize)> = classes.collect();
    if classes.iter().all(|&(_, tested, captures)| tested == captures) {
        return Some("all of every class".to_owned());
    }
    let least = classes.iter().map(|&(_, tested, _)| tested).min()?;
    let (fewest, others): (Vec<_>, Vec<_>) = classes.iter().partition(|(_, tested, _)| *tested == least);
    let fewest: Vec<String> =
        fewest.iter().map(|(class, tested, captures)| format!("{tested} of {captures} of {class}")).collect();
    Some(format!("{}{}", fewest.join(", "), if others.is_empty() { "" } else { ", more of every other class" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_with_the_same_findings_share_a_section() {
        let leak = |variant: &str, seed: u64, test_flows: usize| -> SplitLeaks {
            let shared = serde_json::json!({
                "captures": 1, "capture_flows": 2, "hosts": 0, "host_flows": 0, "connection_flows": 0,
                "concurrent_flows": 0, "within_training_time_flows": 1
            });
            let report = serde_json::json!({
                "variant": variant, "seed": seed, "fold": 0, "training_flows": 8, "test_flows": test_flows,
                "duplicates": [], "majority_macro_f1": 0.25, "fields": [], "byte_positions": [], "shared": shared,
                "classes": []
            });
            serde_json::from_value(report).unwrap()
        };
        let leaks = [leak("a", 0, 4), leak("b", 0, 4), leak("a", 1, 5), leak("b", 1, 5), leak("c", 0, 4)];
        let sections: Vec<String> = leak_sections(&leaks).into_iter().map(|section| section.variant).collect();
        // The third variant has only one of the two splits.
        assert_eq!(sections, ["a, b", "c"]);
    }

    #[test]
    fn notes_say_how_many_captures_the_seeds_test() {
        let leak = |variant: &str, seed: u64, shared: usize, tested: [&[&str]; 2]| -> SplitLeaks {
            let class = |name: &str, captures: usize, tested: &[&str]| {
                serde_json::json!({ "class": name, "flows": 9, "captures": captures, "captures_of_its_own": captures,
                    "tested": tested })
            };
            serde_json::from_value(serde_json::json!({
                "variant": variant, "seed": seed, "fold": 0, "training_flows": 8, "test_flows": 4,
                "duplicates": [], "majority_macro_f1": 0.25, "fields": [], "byte_positions": [],
                "shared": { "captures": shared, "capture_flows": 0, "hosts": 0, "host_flows": 0, "connection_flows": 0,
                    "concurrent_flows": 0, "within_training_time_flows": 1 },
                "classes": [class("chat", 4, tested[0]), class("video", 3, tested[1])]
            }))
            .unwrap()
        };
        let notes = |leaks: &[SplitLeaks]| -> Vec<String> {
            leak_notes(leaks).into_iter().filter(|note| note.starts_with("Captures tested")).collect()
        };
        let grouped = [
            leak("grouped", 0, 0, [&["a"], &["x"]]),
            leak("grouped", 1, 0, [&["a"], &["y", "z"]]),
            leak("grouped", 2, 0, [&["b"], &["y"]]),
            // A random split of flows tests every capture with enough flows, so there is no note.
            leak("random", 0, 2, [&["a", "b", "c"], &["x"]]),
        ];
        assert_eq!(
            notes(&grouped),
            ["Captures tested, grouped: over 3 seeds 2 of 4 of chat, more of every other class."]
        );
        assert_eq!(notes(&grouped[..1]), ["Captures tested, grouped: over 1 seed 1 of 4 of chat, 1 of 3 of video."]);
        let all = [leak("a", 0, 0, [&["a", "b", "c", "d"], &["x", "y", "z"]])];
        assert_eq!(notes(&all), ["Captures tested, a: over 1 seed all of every class."]);
        // Reports of earlier versions do not list tested captures.
        assert_eq!(notes(&[leak("a", 0, 0, [&[], &[]])]), [""; 0]);
    }
}
