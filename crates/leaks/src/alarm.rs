//! Alarms: what of a report is a leak beyond chance, a line each, so that nobody has to read it out of tables of numbers.
//!
//! An alarm about a field rests on a test: the flows of the test part that a tree on this field alone predicts right, against
//! those that always predicting the largest class of the test part would, by the exact binomial distribution, at the level of
//! [`LEVEL`] divided by the number of fields that were looked at (Bonferroni). The others rest on shares that no data set
//! without the leak has.

use serde::{Deserialize, Serialize};

use super::scores::{FieldKind, FieldScore};
use super::{Ceiling, ClassCaptures, Duplicates, LeakReport, Shared};
use etcbench_feature::FeatureSet;
use etcbench_split::Split;

/// The chance that any field of a data set without a leak raises an alarm.
pub const LEVEL: f64 = 0.001;
/// The share of test flows from which duplicates, connections and captures on both sides raise one.
const SHARE: f64 = 0.01;
/// The accuracy from which a single byte or statistic tells the classes.
const TELLS: f64 = 0.99;
/// The ceiling below which labels contradict one another.
const CEILING: f64 = 0.95;

/// What leaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// Test flows are there in the training part, bit by bit.
    IdenticalFlows,
    /// Test flows differ from a training flow in identifiers at most.
    NearIdenticalFlows,
    /// Flows of one connection, or windows of one flow, train and test.
    ConnectionOnBothSides,
    /// Flows of one capture train and test.
    CaptureOnBothSides,
    /// A class comes from one capture, so that whatever names the capture names the class.
    ClassFromOneCapture,
    /// A field that names endpoints or flow tells the classes.
    Identifier,
    /// When a flow began tells the classes, among flows of one time.
    Time,
    /// How much of a packet was captured tells the classes.
    CutLength,
    /// A single byte tells the classes.
    Byte,
    /// A single statistic tells the classes.
    Statistic,
    /// Columns were standardised over training and test rows together.
    Standardised,
    /// Identical inputs carry different labels.
    ContradictoryLabels,
}

impl AlarmKind {
    /// The name in files.
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

    /// Whether it tells of captures and times, which arrays without captures have none of.
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

    /// What it means, of a subject and a share or score.
    fn text(self, subject: &str, value: f64) -> String {
        let percent = format!("{:.1} %", 100.0 * value);
        match self {
            Self::IdenticalFlows => format!("{percent} of the test flows have the {subject} of a training flow"),
            Self::NearIdenticalFlows => {
                format!(
                    "{percent} of the test flows differ from a training flow in fields that a mask can zero at most"
                )
            }
            Self::ConnectionOnBothSides => {
                format!("{percent} of the test flows are of a connection (or windows of a flow) that trains too")
            }
            Self::CaptureOnBothSides => format!("{percent} of the test flows are from captures that train too"),
            Self::ClassFromOneCapture => format!("class {subject} comes from one capture"),
            Self::Identifier => format!("identifier {subject} alone predicts {percent} of the test flows"),
            Self::Time => format!("{subject} alone predicts {percent} of the test flows"),
            Self::CutLength => format!("{subject} alone predicts {percent} of the test flows"),
            Self::Byte | Self::Statistic => format!("{subject} alone predicts {percent} of the test flows"),
            Self::Standardised => {
                format!("{percent} of the columns have mean 0 and deviation 1 over training and test rows together")
            }
            Self::ContradictoryLabels => {
                format!(
                    "identical {subject} carry different labels: no classifier can have an accuracy above {value:.3}"
                )
            }
        }
    }
}

/// A leak.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// What leaks.
    pub kind: AlarmKind,
    /// The input, field, class or statistic; empty where the kind says it.
    pub subject: String,
    /// The share of test flows, or the score, that raised it.
    pub value: f64,
    /// The p-value of its test, before correction; none where there is no test.
    pub p_value: Option<f64>,
}

impl Alarm {
    /// The alarm as a sentence.
    pub fn text(&self) -> String {
        self.kind.text(&self.subject, self.value)
    }
}

/// What [`alarms`] looks at beside the report.
pub(super) struct Circumstances<'a> {
    /// Scores of what no model reads: when a flow began, how much of it was captured.
    pub fields: Vec<FieldScore>,
    /// The share of the largest class of the test part.
    pub largest_share: f64,
    pub features: &'a FeatureSet,
    pub split: &'a Split,
}

/// The alarms of a report, by kind.
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
    // Those that are identical are near as well.
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

/// The chance of at least `right` of `flows` where each is right with chance `share`.
fn at_least(right: u64, flows: u64, share: f64) -> f64 {
    if right == 0 || share >= 1.0 {
        return 1.0;
    }
    if share <= 0.0 {
        return 0.0;
    }
    // The logarithm of each term from that of the one before; those beyond the mean fall fast.
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

/// How near to 0 and 1 mean and deviation of a standardised column are.
const NEAR: f64 = 1e-3;

/// Columns whose mean and deviation are 0 and 1 over all rows, and are not over the training rows: they were standardised
/// before the flows were divided.
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
    // What two columns say of a packet is little; that it is not enough is no fault of the data.
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
