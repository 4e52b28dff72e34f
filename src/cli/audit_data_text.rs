//! The text of `etcbench audit-data`: a verdict per check, findings, and what single columns and bytes predict. Checks that
//! arrays without captures do not allow are listed as not checked, with the reason.

use crate::evaluate::Metric;
use crate::leaks::{AlarmKind, FIELD_TREE_DEPTH, FieldKind, FieldScore, LeakReport};
use crate::report::{Cell, Column, Table};

/// Number of columns and header fields printed, and of byte positions.
const PRINTED_FIELDS: usize = 25;
const PRINTED_POSITIONS: usize = 5;
/// Number of subjects of a check that are named; further ones are only counted.
const NAMED_SUBJECTS: usize = 3;

/// What the rows consist of, which determines the checks.
pub(super) struct Content {
    /// Whether the rows are bytes; else they are columns of numbers.
    pub of_bytes: bool,
    /// Whether the bytes are those of IPv4 packets.
    pub of_packets: bool,
    /// Whether the rows are long enough for windows.
    pub has_windows: bool,
}

/// What a check requires of the rows.
#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    Bytes,
    Packets,
    Columns,
    Captures,
}

impl Needs {
    /// Returns why the check is not possible, or `None` if it is.
    fn lacking(self, content: &Content) -> Option<&'static str> {
        let (possible, reason) = match self {
            Self::Nothing => (true, ""),
            Self::Bytes => (content.of_bytes, "rows are not bytes"),
            Self::Packets => (content.of_packets, "rows do not begin with IPv4 headers"),
            Self::Columns => (!content.of_bytes, "rows are bytes"),
            Self::Captures => (false, "arrays have no captures, addresses and times"),
        };
        (!possible).then_some(reason)
    }
}

/// Every kind of alarm with its description and what it requires.
const CHECKS: [(AlarmKind, &str, Needs); 12] = [
    (AlarmKind::IdenticalFlows, "test rows that train too, bit by bit", Needs::Nothing),
    (AlarmKind::NearIdenticalFlows, "test rows that differ from a training row in identifiers at most", Needs::Packets),
    (AlarmKind::Identifier, "identifiers that tell the classes", Needs::Packets),
    (AlarmKind::Byte, "single bytes that tell the classes", Needs::Bytes),
    (AlarmKind::Statistic, "single columns that tell the classes", Needs::Columns),
    (AlarmKind::Standardised, "columns standardised over training and test", Needs::Columns),
    (AlarmKind::ContradictoryLabels, "identical rows of different labels", Needs::Nothing),
    (AlarmKind::ConnectionOnBothSides, "connections on both sides", Needs::Captures),
    (AlarmKind::CaptureOnBothSides, "captures on both sides", Needs::Captures),
    (AlarmKind::ClassFromOneCapture, "classes from one capture", Needs::Captures),
    (AlarmKind::Time, "times that tell the classes", Needs::Captures),
    (AlarmKind::CutLength, "cut lengths that tell the classes", Needs::Captures),
];

/// Renders the report as Markdown; `windows` is the share of the test rows that are windows of training rows, if it is
/// beyond chance.
pub(super) fn audit_text(report: &LeakReport, windows: Option<f64>, content: &Content) -> String {
    let mut text = format!(
        "{} training and {} test rows. Shares are of test rows.\n\n{}\n",
        report.training_flows,
        report.test_flows,
        verdicts(report, windows, content).to_markdown()
    );
    for finding in findings(report, windows) {
        text += &format!("- {finding}\n");
    }
    text + "\n" + fields(report).to_markdown().trim_end()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn verdicts(report: &LeakReport, windows: Option<f64>, content: &Content) -> Table {
    let mut table = Table {
        title: "verdicts".to_owned(),
        columns: vec![
            Column::text("check", "check"),
            Column::text("verdict", "verdict"),
            Column::number("value", "largest"),
            Column::text("subjects", "what"),
        ],
        notes: vec![
            "Largest: the share of test rows, the accuracy of the field alone, or the ceiling of the accuracy."
                .to_owned(),
        ],
        ..Table::default()
    };
    let mut add = |check: &str, lacking: Option<&str>, value: Option<f64>, subjects: String| {
        let (verdict, what) = match lacking {
            Some(reason) => ("not checked", reason.to_owned()),
            None if value.is_some() => ("LEAK", subjects),
            None => ("none found", String::new()),
        };
        table.rows.push(vec![
            Cell::text(check),
            Cell::text(verdict),
            Cell::number_or_absent(value, 3),
            Cell::Text(what),
        ]);
    };
    let too_short =
        (!content.has_windows).then_some(if content.of_bytes { "rows are too short" } else { "rows are not bytes" });
    for (kind, check, needs) in CHECKS {
        let raised: Vec<_> = report.alarms.iter().filter(|alarm| alarm.kind == kind).collect();
        let largest = raised.iter().map(|alarm| alarm.value).max_by(f64::total_cmp);
        let subjects: Vec<&str> =
            raised.iter().map(|alarm| alarm.subject.as_str()).filter(|subject| !subject.is_empty()).collect();
        let mut named = subjects.iter().take(NAMED_SUBJECTS).copied().collect::<Vec<_>>().join(", ");
        if subjects.len() > NAMED_SUBJECTS {
            named += &format!(" and {} more", subjects.len() - NAMED_SUBJECTS);
        }
        add(check, needs.lacking(content), largest, named);
        if kind == AlarmKind::NearIdenticalFlows {
            add("test rows that are windows of training rows", too_short, windows, String::new());
        }
    }
    table.rows.sort_by_key(|row| match &row[1] {
        verdict if *verdict == Cell::text("LEAK") => 0,
        verdict if *verdict == Cell::text("none found") => 1,
        _ => 2,
    });
    table
}

/// Returns what was measured, one sentence each, and the alarms.
fn findings(report: &LeakReport, windows: Option<f64>) -> Vec<String> {
    let of_test = |count: usize| percent(count as f64 / report.test_flows.max(1) as f64);
    let mut findings: Vec<String> = Vec::new();
    for duplicates in &report.duplicates {
        findings.push(format!(
            "same {} as a training row: {}; as one of another class: {}; as such only: {}",
            duplicates.features.replace('_', " "),
            of_test(duplicates.test_flows),
            of_test(duplicates.of_another_class),
            of_test(duplicates.of_other_classes_only)
        ));
    }
    let ceilings: Vec<String> = report
        .ceilings
        .iter()
        .map(|ceiling| format!("{} {:.3}", ceiling.input.replace('_', " "), ceiling.accuracy))
        .collect();
    if !ceilings.is_empty() {
        findings.push(format!(
            "the best accuracy that any classifier can have, since identical inputs carry different labels: {}",
            ceilings.join(", ")
        ));
    }
    findings.extend(report.alarms.iter().map(|alarm| format!("ALARM: {}", alarm.text())));
    if let Some(share) = windows {
        findings.push(format!(
            "ALARM: {} of the test rows, duplicates excluded, share half of their runs of {} bytes with training rows: \
             windows of the same flows, or flows that differ little",
            percent(share),
            super::audit_windows::RUN
        ));
    }
    findings
}

fn fields(report: &LeakReport) -> Table {
    let mut table = Table {
        title: "what one field alone predicts".to_owned(),
        columns: vec![
            Column::text("field", "field"),
            Column::text("kind", "kind"),
            Column::number(Metric::MACRO_F1.key, Metric::MACRO_F1.label),
            Column::metric(Metric::ACCURACY),
        ],
        ..Table::default()
    };
    let row = |score: &FieldScore| {
        let kind = match score.kind {
            FieldKind::Identifier => "identifier",
            FieldKind::Header => "header",
            FieldKind::Statistic => "column",
            FieldKind::Byte => "byte",
            FieldKind::Circumstance => "circumstance",
        };
        vec![
            Cell::text(&score.field),
            Cell::text(kind),
            Cell::number(score.macro_f1, 3),
            Cell::number(score.accuracy, 3),
        ]
    };
    table.rows.extend(report.fields.iter().take(PRINTED_FIELDS).map(row));
    table.rows.extend(report.byte_positions.iter().take(PRINTED_POSITIONS).map(row));
    table.notes.push(format!(
        "A decision tree of depth {FIELD_TREE_DEPTH} on one field, fitted on the training part, measured on the test part; \
         always predicting the largest class gives a macro F1 of {:.3}. Byte positions: the best five.",
        report.majority_macro_f1
    ));
    let hidden = report.fields.len().saturating_sub(PRINTED_FIELDS);
    if hidden > 0 {
        table.notes.push(format!("{hidden} fields that predict less are left out."));
    }
    table
}
