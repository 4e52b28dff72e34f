//! Alarms: the leaks of a report that exceed chance, one line each, so that nobody has to find them in tables of
//! numbers.
//!
//! An alarm about a field is based on a test: the number of test flows that a tree on this field alone predicts
//! correctly is compared, by the exact binomial distribution, with that of always predicting the largest class of the
//! test part, at the level of [`LEVEL`] divided by the number of fields examined (Bonferroni). The other alarms are
//! based on thresholds that no data set without the leak reaches.

use serde::{Deserialize, Serialize};

use super::scores::{FieldKind, FieldScore};
use super::{Ceiling, ClassCaptures, Duplicates, LeakReport, Shared};
use etcbench_feature::FeatureSet;
use etcbench_split::Split;

/// Probability that any field of a data set without a leak raises an alarm.
pub const LEVEL: f64 = 0.001;
/// Fraction of test flows from which duplicates, connections and captures on both sides raise an alarm.
const SHARE: f64 = 0.01;
/// Accuracy from which a single byte or statistic is considered to reveal the classes.
const TELLS: f64 = 0.99;
/// Ceiling below which labels are considered contradictory.
const CEILING: f64 = 0.95;

/// The kind of a leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// Test flows are also in the training part, bit by bit.
    IdenticalFlows,
    /// Test flows differ from a training flow only in identifiers.
    NearIdenticalFlows,
    /// Flows of one connection, or windows of one flow, are in both train and test.
    ConnectionOnBothSides,
    /// Flows of one capture are in both train and test.
    CaptureOnBothSides,
    /// A class comes from a single capture, so that whatever identifies the capture identifies the class.
    ClassFromOneCapture,
    /// A field that identifies endpoints or flow reveals the classes.
    Identifier,
    /// Start times reveal the classes.
    Time,
    /// The captured length of packets reveals the classes.
    CutLength,
    /// A single byte reveals the classes.
    Byte,
    /// A single statistic reveals the classes.
    Statistic,
    /// Columns were standardised over training and test rows together.
    Standardised,
    /// Identical inputs have different labels.
    ContradictoryLabels,
}

impl AlarmKind {
    /// Returns the name used in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::IdenticalFlows => "identical_flows",
            Self::NearIdenticalFlows => "near_identical_flows",
            Self::ConnectionOnBothSides => "connection_on_both_sides",
            Self::CaptureOnBothSides => "capture_on_both_sides",
            Self::ClassFromOneCapture => "class_from_one_capture",
            Self::Identifier => "identifier",
            Self::Time => "time",
            Self::CutLength => "cut_length",
            Self::Byte => "byte",
            Self::Statistic => "statistic",
            Self::Standardised => "standardised",
            Self::ContradictoryLabels => "contradictory_labels",
        }
    }

    /// Whether the kind concerns captures and times, which arrays without captures do not have.
    pub fn is_of_captures(self) -> bool {
        matches!(
            self,
            Self::ConnectionOnBothSides
                | Self::CaptureOnBothSides
                | Self::ClassFromOneCapture
                | Self::Time
                | Self::CutLength
        )
    }

    /// Describes the alarm for a subject and a fraction or score.
    fn text(self, subject: &str, value: f64) -> String {
        let percent = format!("{:.1} %", 100.0 * value);
        match self {
            Self::IdenticalFlows => format!("{percent} of the test flows have the same {subject} as a training flow"),
            Self::NearIdenticalFlows => {
                format!("{percent} of the test flows differ from a training flow only in fields that a mask can zero")
            }
            Self::ConnectionOnBothSides => {
                format!(
                    "{percent} of the test flows are from connections (or windows of flows) that are also in training"
                )
            }
            Self::CaptureOnBothSides => {
                format!("{percent} of the test flows come from captures that are also in training")
            }
            Self::ClassFromOneCapture => format!("class {subject} comes from a single capture"),
            Self::Identifier => format!("identifier {subject} alone predicts {percent} of the test flows"),
            Self::Time => format!("{subject} alone predicts {percent} of the test flows"),
            Self::CutLength => format!("{subject} alone predicts {percent} of the test flows"),
            Self::Byte | Self::Statistic => format!("{subject} alone predicts {percent} of the test flows"),
            Self::Standardised => {
                format!(
                    "{percent} of the columns have mean 0 and standard deviation 1 over training and test rows together"
                )
            }
            Self::ContradictoryLabels => {
                format!(
                    "identical {subject} carry different labels: no classifier can exceed an accuracy of {value:.3}"
                )
            }
        }
    }
}

/// A leak.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// The kind of leak.
    pub kind: AlarmKind,
    /// The input, field, class or statistic; empty if the kind implies it.
    pub subject: String,
    /// The fraction of test flows, or the score, that raised the alarm.
    pub value: f64,
    /// The p-value of its test, before correction; `None` if there is no test.
    pub p_value: Option<f64>,
}

impl Alarm {
    /// Returns the alarm as a sentence.
    pub fn text(&self) -> String {
        self.kind.text(&self.subject, self.value)
    }
}

/// Input of [`alarms`] in addition to the report.
pub(super) struct Circumstances<'a> {
    /// Scores of properties that no model reads: start time and captured length.
    pub fields: Vec<FieldScore>,
    /// Fraction of the test part in its largest class.
    pub largest_share: f64,
    pub features: &'a FeatureSet,
    pub split: &'a Split,
}

/// Returns the alarms of a report, sorted by kind.
pub(super) fn alarms(report: &LeakReport, circumstances: &Circumstances<'_>) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    duplicates(&report.duplicates, &mut alarms);
    shared(&report.shared, report.test_flows, &mut alarms);
    classes(&report.classes, &mut alarms);
    fields(report, circumstances, &mut alarms);
    alarms.extend(standardised(circumstances.features, circumstances.split));
    alarms.extend(report.ceilings.iter().filter_map(contradictory));
    alarms.sort_by_key(|alarm| alarm.kind);
    alarms
}

fn of_share(kind: AlarmKind, subject: &str, value: f64) -> Option<Alarm> {
    (value >= SHARE).then(|| Alarm { kind, subject: subject.to_owned(), value, p_value: None })
}

fn duplicates(found: &[Duplicates], alarms: &mut Vec<Alarm>) {
    let share = |features: &str| found.iter().find(|found| found.features == features).map_or(0.0, |found| found.share);
    for features in ["bytes", "statistics"] {
        alarms.extend(of_share(AlarmKind::IdenticalFlows, features, share(features)));
    }
    // Identical flows are also nearly identical: do not count them twice.
    let near = share("bytes_but_identifiers") - share("bytes");
    alarms.extend(of_share(AlarmKind::NearIdenticalFlows, "bytes", near));
}

fn shared(shared: &Shared, test_flows: usize, alarms: &mut Vec<Alarm>) {
    let share = |flows: usize| flows as f64 / test_flows.max(1) as f64;
    alarms.extend(of_share(AlarmKind::ConnectionOnBothSides, "", share(shared.connection_flows)));
    alarms.extend(of_share(AlarmKind::CaptureOnBothSides, "", share(shared.capture_flows)));
}

fn classes(classes: &[ClassCaptures], alarms: &mut Vec<Alarm>) {
    for class in classes.iter().filter(|class| class.captures == 1) {
        let (kind, subject) = (AlarmKind::ClassFromOneCapture, class.class.clone());
        alarms.push(Alarm { kind, subject, value: 1.0, p_value: None });
    }
}

fn fields(report: &LeakReport, circumstances: &Circumstances<'_>, alarms: &mut Vec<Alarm>) {
    let tested = report.fields.iter().filter(|score| score.kind == FieldKind::Identifier).count();
    let tested = tested + circumstances.fields.len();
    let level = LEVEL / tested.max(1) as f64;
    let p_value = |score: &FieldScore| {
        let right = (score.accuracy * report.test_flows as f64).round() as u64;
        at_least(right, report.test_flows as u64, circumstances.largest_share)
    };
    let significant = |score: &FieldScore| Some(p_value(score)).filter(|&p_value| p_value < level);
    let mut raise = |kind: AlarmKind, score: &FieldScore, p_value: Option<f64>| {
        alarms.push(Alarm { kind, subject: score.field.clone(), value: score.accuracy, p_value });
    };
    for score in report.fields.iter().filter(|score| score.kind == FieldKind::Identifier) {
        if let Some(p_value) = significant(score) {
            raise(AlarmKind::Identifier, score, Some(p_value));
        }
    }
    for score in &circumstances.fields {
        let kind = if score.field == super::START_TIME { AlarmKind::Time } else { AlarmKind::CutLength };
        if let Some(p_value) = significant(score) {
            raise(kind, score, Some(p_value));
        }
    }
    if let Some(score) = report.byte_positions.iter().find(|score| score.accuracy >= TELLS && p_value(score) < level) {
        raise(AlarmKind::Byte, score, None);
    }
    let statistics = report.fields.iter().filter(|score| score.kind == FieldKind::Statistic);
    if let Some(score) = statistics.clone().find(|score| score.accuracy >= TELLS && p_value(score) < level) {
        raise(AlarmKind::Statistic, score, None);
    }
}

/// Returns the probability of at least `right` successes in `flows` trials with success probability `share`.
fn at_least(right: u64, flows: u64, share: f64) -> f64 {
    if right == 0 || share >= 1.0 {
        return 1.0;
    }
    if share <= 0.0 {
        return 0.0;
    }
    // Each term's logarithm follows from the previous one; terms beyond the mean fall quickly.
    let mut logarithm = flows as f64 * (1.0 - share).ln();
    let odds = (share / (1.0 - share)).ln();
    let mut sum = 0.0;
    for count in 0..=flows {
        if count > 0 {
            logarithm += ((flows - count + 1) as f64 / count as f64).ln() + odds;
        }
        if count >= right {
            sum += logarithm.exp();
        }
    }
    sum.min(1.0)
}

/// Tolerance for the mean and standard deviation of a standardised column.
const NEAR: f64 = 1e-3;

/// Finds columns with mean 0 and standard deviation 1 over all rows, but not over the training rows: they were
/// standardised before the flows were divided.
fn standardised(features: &FeatureSet, split: &Split) -> Option<Alarm> {
    let all: Vec<usize> = [&split.train[..], &split.validation, &split.test].concat();
    let columns = features.statistics.ncols();
    if columns == 0 || split.train.len() < 2 {
        return None;
    }
    let is_standard = |column: usize, rows: &[usize]| {
        let values = || rows.iter().map(|&row| f64::from(features.statistics[[row, column]]));
        let mean = values().sum::<f64>() / rows.len() as f64;
        let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / rows.len() as f64;
        mean.abs() < NEAR && (variance.sqrt() - 1.0).abs() < NEAR
    };
    let found = (0..columns).filter(|&column| is_standard(column, &all) && !is_standard(column, &split.train)).count();
    let value = found as f64 / columns as f64;
    (found > 0).then(|| Alarm { kind: AlarmKind::Standardised, subject: String::new(), value, p_value: None })
}

fn contradictory(ceiling: &Ceiling) -> Option<Alarm> {
    // Lengths and directions alone carry little information; contradictions there are no fault of the data.
    let counted = ceiling.input != "lengths_and_directions" && ceiling.accuracy < CEILING;
    counted.then(|| Alarm {
        kind: AlarmKind::ContradictoryLabels,
        subject: ceiling.input.clone(),
        value: ceiling.accuracy,
        p_value: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_that_of_the_binomial_distribution() {
        // scipy.stats.binom.sf(right - 1, flows, share).
        for (right, flows, share, expected) in [
            (3, 10, 0.2, 0.322_200_473_6),
            (60, 100, 0.5, 0.028_443_966_820_490_4),
            (400, 1000, 0.3, 1.104_129_819_055_663e-11),
            (0, 5, 0.4, 1.0),
        ] {
            let found = at_least(right, flows, share);
            assert!((found / expected - 1.0).abs() < 1e-6, "{right} of {flows}: {found}, expected {expected}");
        }
        assert_eq!(at_least(5, 10, 1.0), 1.0);
        assert_eq!(at_least(5, 10, 0.0), 0.0);
    }
}
