//! The verdict of every check of a leak report: whether it found a leak beyond chance in flows, or in the rows of a split
//! that others released as arrays, for which some checks are not possible.

use super::released::ReleasedRows;
use super::{Cell, Column, Table};
use etcbench_leaks::{Alarm, AlarmKind, LeakReport};

/// A kind of alarm, what it is called for flows and for released rows, and what it requires of the latter.
struct Check {
    kind: AlarmKind,
    of_flows: &'static str,
    of_rows: &'static str,
    needs: Needs,
}

/// What a check requires of released rows.
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
    fn lacking(self, rows: &ReleasedRows) -> Option<&'static str> {
        let (possible, reason) = match self {
            Self::Nothing => (true, ""),
            Self::Bytes => (rows.are_bytes, "rows are not bytes"),
            Self::Packets => (rows.are_packets, "rows do not begin with IPv4 headers"),
            Self::Columns => (!rows.are_bytes, "rows are bytes"),
            Self::Captures => (false, "arrays have no captures, addresses and times"),
        };
        (!possible).then_some(reason)
    }
}

const fn check(kind: AlarmKind, of_flows: &'static str, of_rows: &'static str, needs: Needs) -> Check {
    Check { kind, of_flows, of_rows, needs }
}

/// Every kind of alarm.
const CHECKS: [Check; 12] = [
    check(
        AlarmKind::IdenticalFlows,
        "test flows that train too, bit by bit",
        "test rows that train too, bit by bit",
        Needs::Nothing,
    ),
    check(
        AlarmKind::NearIdenticalFlows,
        "test flows that differ from a training flow in identifiers at most",
        "test rows that differ from a training row in identifiers at most",
        Needs::Packets,
    ),
    check(
        AlarmKind::ConnectionOnBothSides,
        "connections (or windows of a flow) on both sides",
        "connections on both sides",
        Needs::Captures,
    ),
    check(AlarmKind::CaptureOnBothSides, "captures on both sides", "captures on both sides", Needs::Captures),
    check(AlarmKind::ClassFromOneCapture, "classes from one capture", "classes from one capture", Needs::Captures),
    check(
        AlarmKind::Identifier,
        "identifiers that tell the classes",
        "identifiers that tell the classes",
        Needs::Packets,
    ),
    check(AlarmKind::Time, "times that tell the classes", "times that tell the classes", Needs::Captures),
    check(
        AlarmKind::CutLength,
        "cut lengths that tell the classes",
        "cut lengths that tell the classes",
        Needs::Captures,
    ),
    check(AlarmKind::Byte, "single bytes that tell the classes", "single bytes that tell the classes", Needs::Bytes),
    check(
        AlarmKind::Statistic,
        "single statistics that tell the classes",
        "single columns that tell the classes",
        Needs::Columns,
    ),
    check(
        AlarmKind::Standardised,
        "columns standardised over training and test",
        "columns standardised over training and test",
        Needs::Columns,
    ),
    check(
        AlarmKind::ContradictoryLabels,
        "identical inputs of different labels",
        "identical rows of different labels",
        Needs::Nothing,
    ),
];

/// Number of subjects of a check that are named; further ones are only counted.
const NAMED_SUBJECTS: usize = 3;

const LEAK: &str = "LEAK";
const NONE_FOUND: &str = "none found";
const NOT_CHECKED: &str = "not checked";

/// The alarms of one kind: in how many splits, the largest value, and what it is about.
struct Raised {
    splits: usize,
    largest: Option<f64>,
    subjects: String,
}

fn raised(kind: AlarmKind, reports: &[&LeakReport]) -> Raised {
    let of_kind = |report: &&&LeakReport| report.alarms.iter().any(|alarm| alarm.kind == kind);
    let splits = reports.iter().filter(of_kind).count();
    let mut raised: Vec<&Alarm> = reports.iter().flat_map(|report| &report.alarms).collect();
    raised.retain(|alarm| alarm.kind == kind);
    raised.sort_by(|left, right| right.value.total_cmp(&left.value));
    let mut subjects: Vec<&str> = Vec::new();
    for alarm in raised.iter().filter(|alarm| !alarm.subject.is_empty()) {
        if !subjects.contains(&alarm.subject.as_str()) {
            subjects.push(&alarm.subject);
        }
    }
    let more = subjects.len().saturating_sub(NAMED_SUBJECTS);
    let mut named = subjects.into_iter().take(NAMED_SUBJECTS).collect::<Vec<_>>().join(", ");
    if more > 0 {
        named += &format!(" and {more} more");
    }
    Raised { splits, largest: raised.first().map(|alarm| alarm.value), subjects: named }
}

/// Returns a table with a row per check, leaks first; `None` for reports of versions without verdicts.
pub(super) fn verdicts_table(title: String, reports: &[&LeakReport]) -> Option<Table> {
    if reports.iter().all(|report| report.alarms.is_empty() && report.ceilings.is_empty()) {
        return None;
    }
    let mut table = Table {
        title,
        columns: vec![
            Column::text("check", "check"),
            Column::text("verdict", "verdict"),
            Column::number("splits", "splits"),
            Column::number("value", "largest"),
            Column::text("subjects", "what"),
        ],
        notes: vec![
            "Largest: the share of test flows, the accuracy of the field alone, or the ceiling of the accuracy. Splits: in how \
             many it is a leak beyond chance."
                .to_owned(),
        ],
        ..Table::default()
    };
    for check in CHECKS {
        let Raised { splits, largest, subjects } = raised(check.kind, reports);
        table.rows.push(vec![
            Cell::text(check.of_flows),
            Cell::text(if splits > 0 { LEAK } else { NONE_FOUND }),
            Cell::count(splits),
            Cell::number_or_absent(largest, 3),
            Cell::Text(subjects),
        ]);
    }
    table.rows.sort_by_key(|row| row[1] != Cell::text(LEAK));
    Some(table)
}

/// Returns a table with a row per check of released rows: leaks, then what was not found, then what was not checked.
pub(super) fn released_verdicts(report: &LeakReport, rows: &ReleasedRows) -> Table {
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
            Some(reason) => (NOT_CHECKED, reason.to_owned()),
            None if value.is_some() => (LEAK, subjects),
            None => (NONE_FOUND, String::new()),
        };
        let value = Cell::number_or_absent(value, 3);
        table.rows.push(vec![Cell::text(check), Cell::text(verdict), value, Cell::Text(what)]);
    };
    for check in CHECKS {
        let Raised { largest, subjects, .. } = raised(check.kind, &[report]);
        add(check.of_rows, check.needs.lacking(rows), largest, subjects);
    }
    let lacking = match (rows.are_bytes, rows.run_length) {
        (false, _) => Some("rows are not bytes"),
        (true, None) => Some("rows are too short"),
        (true, Some(_)) => None,
    };
    add("test rows that are windows of training rows", lacking, rows.windows, String::new());
    let order = [LEAK, NONE_FOUND, NOT_CHECKED].map(Cell::text);
    table.rows.sort_by_key(|row| order.iter().position(|verdict| *verdict == row[1]));
    table
}
