//! The audit of a published table: finds arithmetically impossible numbers, cell by cell. A printed number represents
//! the range of values that round to it; every check looks for values in these ranges that are consistent.

use std::path::Path;

use serde::Deserialize;

use super::audit_matrix::{ClassNumbers, Conditions, Rounded};
use super::{Cell, Column, Possible, ReportError, Table, file_error};
use etcbench_evaluate::Metric;
use etcbench_storage as storage;

/// A class is reported if an accuracy requires it to have at least this share of the test flows.
const TOLD_SHARE: f64 = 0.8;

/// The largest number of classes for which macro averages are tried.
const MAXIMUM_CLASSES: usize = 1000;

/// The audit result for one number.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The row: a class or a model.
    pub row: String,
    /// The metric.
    pub metric: String,
    /// The number as printed.
    pub printed: String,
    /// Whether it is possible.
    pub possible: Possible,
    /// Why it is impossible, or the condition under which it is possible; empty if it is consistent.
    pub reason: String,
}

/// One line of an audited table.
#[derive(Deserialize)]
struct Line {
    row: String,
    metric: String,
    value: String,
}

/// A number with the range of values it may have been rounded from.
#[derive(Debug, Clone)]
struct Number {
    row: String,
    metric: String,
    printed: String,
    rounded: Rounded,
}

const CLASS_METRICS: [&str; 4] = [Metric::PRECISION.key, Metric::RECALL.key, Metric::F1.key, Metric::SUPPORT.key];
const MODEL_METRICS: [&str; 10] = [
    Metric::ACCURACY.key,
    Metric::MACRO_PRECISION.key,
    Metric::MACRO_RECALL.key,
    Metric::MACRO_F1.key,
    Metric::WEIGHTED_PRECISION.key,
    Metric::WEIGHTED_RECALL.key,
    Metric::WEIGHTED_F1.key,
    Metric::MICRO_PRECISION.key,
    Metric::MICRO_RECALL.key,
    Metric::MICRO_F1.key,
];

/// The columns that a table to audit has.
const COLUMNS: [&str; 3] = ["row", "metric", "value"];

/// A table to audit: CSV with the columns `row`, `metric` and `value`; other columns are ignored.
#[derive(Debug, Clone)]
pub struct AuditTable {
    numbers: Vec<Number>,
    /// Number of classes, if the file states it.
    classes: Option<usize>,
}

impl AuditTable {
    /// Reads a table.
    ///
    /// # Errors
    /// The file cannot be read, or it has an unknown metric, a number that is not between 0 and 1, or two numbers for
    /// one cell.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let content = storage::or_stock(path, std::fs::read(path)).map_err(|problem| file_error(path, problem))?;
        let mut table = Self { numbers: Vec::new(), classes: None };
        let mut reader = csv::Reader::from_reader(content.as_slice());
        let header = reader.headers().map_err(|problem| file_error(path, problem))?;
        if COLUMNS.iter().any(|column| !header.iter().any(|name| name == *column)) {
            let names: Vec<String> = header.iter().map(|name| format!("`{name}`")).collect();
            let problem = format!(
                "a table to audit has the columns `row`, `metric` and `value`, with one number per line, such as \
                 chat,precision,0.956; this one has {}",
                names.join(", ")
            );
            return Err(file_error(path, problem));
        }
        for (index, line) in reader.deserialize().enumerate() {
            let Line { row, metric, value } = line.map_err(|problem| file_error(path, problem))?;
            let fault =
                |problem: String| file_error(path, format!("record {} ({metric} of {row}): {problem}", index + 1));
            if metric == "classes" {
                let count = value.parse().ok().filter(|&count| count >= 2);
                table.classes = Some(count.ok_or_else(|| fault(format!("{value:?} is not a number of classes")))?);
                continue;
            }
            if !CLASS_METRICS.contains(&metric.as_str()) && !MODEL_METRICS.contains(&metric.as_str()) {
                let known: Vec<&str> = CLASS_METRICS.into_iter().chain(MODEL_METRICS).chain(["classes"]).collect();
                let nearest = etcbench_storage::declarative::did_you_mean(&metric, known.iter().copied());
                return Err(fault(format!("unknown metric{nearest} (known: {})", known.join(", "))));
            }
            let rounded = if metric == Metric::SUPPORT.key {
                let count: u32 = value.parse().map_err(|_| fault(format!("{value:?} is not an integer")))?;
                Rounded { low: f64::from(count), high: f64::from(count) }
            } else {
                rounding(&value).map_err(fault)?
            };
            if table.numbers.iter().any(|other| other.row == row && other.metric == metric) {
                return Err(fault("duplicate entry; keep one".to_owned()));
            }
            table.numbers.push(Number { row, metric, printed: value, rounded });
        }
        if table.numbers.is_empty() {
            return Err(file_error(path, "the table has no number to audit"));
        }
        Ok(table)
    }

    fn get(&self, row: &str, metric: &str) -> Option<&Number> {
        self.numbers.iter().find(|number| number.row == row && number.metric == metric)
    }

    fn rows(&self, metrics: &[&str]) -> Vec<&str> {
        let mut rows: Vec<&str> = Vec::new();
        for number in self.numbers.iter().filter(|number| metrics.contains(&number.metric.as_str())) {
            if !rows.contains(&number.row.as_str()) {
                rows.push(&number.row);
            }
        }
        rows
    }

    /// Checks every number against the others and returns one finding per number, in the order of the file.
    ///
    /// # Errors
    /// The file has more classes than it states, it has several accuracies in addition to classes (so it is unknown
    /// which of them the classes belong to), or a linear program cannot be decided.
    pub fn audit(&self) -> Result<Vec<Finding>, ReportError> {
        let mut findings: Vec<Finding> = self
            .numbers
            .iter()
            .map(|number| Finding {
                row: number.row.clone(),
                metric: number.metric.clone(),
                printed: number.printed.clone(),
                possible: Possible::Yes,
                reason: String::new(),
            })
            .collect();
        let mut found = |row: &str, metric: &str, possible: Possible, reason: String| {
            // The first finding is kept: later checks depend on more numbers.
            if let Some(finding) = findings.iter_mut().find(|finding| finding.row == row && finding.metric == metric)
                && (finding.possible == Possible::Yes
                    || possible == Possible::No && finding.possible == Possible::OnlyIf)
            {
                if !finding.reason.is_empty() {
                    finding.reason += "; ";
                }
                finding.reason += &reason;
                finding.possible = possible;
            }
        };
        for class in self.rows(&CLASS_METRICS) {
            if let Some(reason) = self.harmonic(class) {
                found(class, Metric::F1.key, Possible::No, reason);
            }
        }
        for model in self.rows(&MODEL_METRICS) {
            for (metric, possible, reason) in self.model(model) {
                found(model, metric, possible, reason);
            }
        }
        for (row, metric, possible, reason) in self.classes_and_accuracy()? {
            found(&row, metric, possible, reason);
        }
        Ok(findings)
    }

    /// Checks the F1 of a class against its precision and recall.
    fn harmonic(&self, class: &str) -> Option<String> {
        let [precision, recall, f1] =
            [Metric::PRECISION.key, Metric::RECALL.key, Metric::F1.key].map(|metric| self.get(class, metric));
        let (precision, recall, f1) = (precision?.rounded, recall?.rounded, f1?.rounded);
        let (least, most) = (harmonic(precision.low, recall.low), harmonic(precision.high, recall.high));
        (f1.high < least || f1.low > most)
            .then(|| format!("precision and recall give an F1 from {least:.4} to {most:.4} (rounding counted)"))
    }

    /// Checks the averages of a model against one another.
    fn model(&self, model: &str) -> Vec<(&'static str, Possible, String)> {
        let mut found = Vec::new();
        let number = |metric: &str| self.get(model, metric).map(|number| number.rounded);
        if let Some(accuracy) = number(Metric::ACCURACY.key) {
            for metric in [
                Metric::WEIGHTED_RECALL.key,
                Metric::MICRO_PRECISION.key,
                Metric::MICRO_RECALL.key,
                Metric::MICRO_F1.key,
            ] {
                if number(metric).is_some_and(|value| value.low > accuracy.high || value.high < accuracy.low) {
                    let reason = "with one label per flow it equals the accuracy".to_owned();
                    found.push((metric, Possible::No, reason));
                }
            }
        }
        for kind in [
            [Metric::MACRO_PRECISION.key, Metric::MACRO_RECALL.key, Metric::MACRO_F1.key],
            [Metric::WEIGHTED_PRECISION.key, Metric::WEIGHTED_RECALL.key, Metric::WEIGHTED_F1.key],
        ] {
            let [Some(precision), Some(recall), Some(f1)] = kind.map(number) else { continue };
            let most = (precision.high + recall.high) / 2.0;
            if f1.low > most {
                let average = kind[2].trim_end_matches("_f1");
                found.push((
                    kind[2],
                    Possible::No,
                    format!(
                        "a {average} F1 cannot exceed the mean of {average} precision and {average} recall, here {:.3}",
                        (precision.low + precision.high + recall.low + recall.high) / 4.0
                    ),
                ));
            } else if kind[2] == Metric::MACRO_F1.key {
                found.extend(
                    self.least_macro_f1(precision, recall, f1).map(|(possible, reason)| (kind[2], possible, reason)),
                );
            }
        }
        found
    }

    /// Checks whether a macro F1 is lower than this number of classes allows.
    fn least_macro_f1(&self, precision: Rounded, recall: Rounded, f1: Rounded) -> Option<(Possible, String)> {
        let least = |classes: usize| least_macro_f1(precision.low, recall.low, classes);
        let fewest = self.classes.unwrap_or(2);
        if f1.high >= least(fewest) {
            return None;
        }
        let reason = format!(
            "with {fewest} classes and one run these macro precision and recall give a macro F1 of at least {:.3}",
            floor(least(fewest))
        );
        if self.classes.is_some() {
            return Some((Possible::OnlyIf, format!("{reason}; a lower one needs a mean over several runs")));
        }
        Some(match (fewest..=MAXIMUM_CLASSES).find(|&classes| f1.high >= least(classes)) {
            Some(classes) => (
                Possible::OnlyIf,
                format!("{reason}; a lower one needs a mean over at least {classes} classes or over several runs"),
            ),
            None => (
                Possible::No,
                format!("{reason}, and over any number of classes of at least {:.3}", floor(least(MAXIMUM_CLASSES))),
            ),
        })
    }

    /// Checks the numbers of all classes jointly, and the accuracy with them.
    fn classes_and_accuracy(&self) -> Result<Vec<(String, &'static str, Possible, String)>, ReportError> {
        let names = self.rows(&CLASS_METRICS);
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let unprinted = match self.classes {
            Some(count) if count < names.len() => {
                return Err(ReportError::Records(format!(
                    "audit: the table has {} classes, but states that there are {count}",
                    names.len()
                )));
            }
            count => count.unwrap_or(names.len()) - names.len(),
        };
        let supports: Option<Vec<f64>> =
            names.iter().map(|name| self.get(name, Metric::SUPPORT.key).map(|number| number.rounded.low)).collect();
        let total = supports.as_ref().map_or(0.0, |supports| supports.iter().sum::<f64>());
        let classes: Vec<ClassNumbers> = names
            .iter()
            .enumerate()
            .map(|(index, name)| {
                let number = |metric| self.get(name, metric).map(|number| number.rounded);
                let share =
                    supports.as_ref().filter(|_| unprinted == 0 && total > 0.0).map(|supports| supports[index] / total);
                ClassNumbers {
                    precision: number(Metric::PRECISION.key),
                    recall: number(Metric::RECALL.key),
                    f1: number(Metric::F1.key),
                    share,
                }
            })
            .collect();
        let mut found = Vec::new();
        let base = Conditions { classes: &classes, others: unprinted > 0, ..Conditions::default() };
        let together = Conditions { jointly: true, ..base.clone() }.possible()?;
        if !together {
            for name in &names {
                let reason = "no confusion matrix has the precisions and recalls of these classes together, whatever the supports";
                let metric = if self.get(name, Metric::PRECISION.key).is_some() {
                    Metric::PRECISION.key
                } else {
                    Metric::RECALL.key
                };
                found.push(((*name).to_owned(), metric, Possible::No, reason.to_owned()));
            }
        }
        let accuracies: Vec<&Number> =
            self.numbers.iter().filter(|number| number.metric == Metric::ACCURACY.key).collect();
        let accuracy = match accuracies.as_slice() {
            [] => return Ok(found),
            [one] => one,
            several => {
                return Err(ReportError::Records(format!(
                    "audit: the table has classes and {} accuracies ({}); keep only that of the model with the classes",
                    several.len(),
                    several.iter().map(|number| number.row.as_str()).collect::<Vec<_>>().join(", ")
                )));
            }
        };
        let mut add = |possible, reason| found.push((accuracy.row.clone(), Metric::ACCURACY.key, possible, reason));
        let by_recall = Conditions { accuracy: Some(accuracy.rounded), ..base };
        if !by_recall.possible()? {
            add(Possible::No, self.outside_recalls(&names, accuracy));
            return Ok(found);
        }
        if let Some(condition) = condition(&by_recall, &names, accuracy)? {
            add(Possible::OnlyIf, condition);
        }
        let jointly = Conditions { jointly: true, ..by_recall };
        if together && !jointly.possible()? {
            add(
                Possible::No,
                "with the precisions too no confusion matrix has these numbers, whatever the supports: the flows that the \
                 precisions say were wrongly given to a class are more than the other classes lost"
                    .to_owned(),
            );
        }
        Ok(found)
    }

    fn outside_recalls(&self, names: &[&str], accuracy: &Number) -> String {
        let recalls: Vec<&Number> = names.iter().filter_map(|name| self.get(name, Metric::RECALL.key)).collect();
        let by = |left: &&&Number, right: &&&Number| left.rounded.low.total_cmp(&right.rounded.low);
        let (least, most) = (recalls.iter().min_by(by), recalls.iter().max_by(by));
        match (least, most) {
            (_, Some(most)) if recalls.len() == names.len() && most.rounded.high < accuracy.rounded.low => {
                format!("accuracy cannot exceed the largest recall, here {}", most.printed)
            }
            (Some(least), _) if recalls.len() == names.len() && least.rounded.low > accuracy.rounded.high => {
                format!("accuracy cannot be below the smallest recall, here {}", least.printed)
            }
            _ => "no supports give this accuracy with the recalls".to_owned(),
        }
    }
}

/// Returns the condition on supports, or on the classes that are not printed, under which the recalls allow the
/// accuracy.
fn condition(conditions: &Conditions<'_>, names: &[&str], accuracy: &Number) -> Result<Option<String>, ReportError> {
    for (class, name) in names.iter().enumerate().filter(|(class, _)| conditions.classes[*class].share.is_none()) {
        if let Some(share) = conditions.smallest_share(class)?.filter(|&share| share >= TOLD_SHARE) {
            return Ok(Some(format!(
                "accuracy is the mean of the recalls weighted by support: {} needs {name} to be at least {:.1} % of the \
                 test flows (rounding counted)",
                accuracy.printed,
                floor(share * 100.0 * 100.0 / 1000.0) * 10.0
            )));
        }
    }
    let without_others = Conditions { others: false, ..conditions.clone() };
    if conditions.others && !without_others.possible()? {
        // Finds the smallest sufficient recall of the other classes by bisection.
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..30 {
            let middle = (low + high) / 2.0;
            let tried = Conditions { largest_other_recall: Some(middle), ..conditions.clone() };
            if tried.possible()? { high = middle } else { low = middle }
        }
        return Ok(Some(format!(
            "accuracy is the mean of the recalls weighted by support: {} needs the class(es) that the table does not print to \
             have a recall of at least {:.4} (rounding counted)",
            accuracy.printed,
            (low * 10_000.0).floor() / 10_000.0
        )));
    }
    Ok(None)
}

/// Rounds down to three decimals: a printed bound must not exceed the real one.
fn floor(value: f64) -> f64 {
    (value * 1000.0).floor() / 1000.0
}

/// Returns the range that rounds to a printed number: half a unit of its last decimal on either side, within 0 and 1.
fn rounding(printed: &str) -> Result<Rounded, String> {
    let plain = printed.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let value: f64 =
        printed.parse().ok().filter(|_| plain).ok_or_else(|| format!("{printed:?} is not a number such as 0.951"))?;
    if !(0.0..=1.0).contains(&value) {
        return Err(format!("{printed} is not between 0 and 1; write 95.1 % as 0.951"));
    }
    let decimals = printed.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    // Slightly more than half a unit, to allow for any rounding mode and for binary fractions.
    let half = 0.5 * 10_f64.powi(-(decimals as i32)) + 1e-9;
    Ok(Rounded { low: (value - half).max(0.0), high: (value + half).min(1.0) })
}

fn harmonic(precision: f64, recall: f64) -> f64 {
    if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 }
}

/// Returns the smallest mean F1 over `classes` classes with these mean precision and recall, ignoring that the
/// confusion matrix couples them. F1 is concave in precision and in recall, so its sum is least at a corner: all
/// precisions but one are 0 or 1, and likewise all recalls.
fn least_macro_f1(precision: f64, recall: f64, classes: usize) -> f64 {
    let corner = |mean: f64| {
        let sum = mean * classes as f64;
        let ones = (sum.floor() as usize).min(classes);
        (ones, if ones < classes { sum - ones as f64 } else { 0.0 })
    };
    let ((precise, precision_rest), (recalled, recall_rest)) = (corner(precision), corner(recall));
    // Try every number of classes that have both precision 1 and recall 1.
    let mut least = f64::INFINITY;
    for both in precise.saturating_add(recalled).saturating_sub(classes)..=precise.min(recalled) {
        // Classes with precision 1 alone, recall 1 alone, and neither.
        let (only_precise, only_recalled) = (precise - both, recalled - both);
        let Some(neither) = classes.checked_sub(both + only_precise + only_recalled) else { continue };
        let rests = [(precision_rest > 0.0, only_recalled), (recall_rest > 0.0, only_precise)];
        // The fractional precision belongs to a class without precision 1, with either recall 1 or recall 0.
        for precision_with_recalled in [true, false] {
            for recall_with_precise in [true, false] {
                let mut sum = both as f64;
                let mut free = neither;
                let mut places = |with: bool, rest: f64, (needed, partners): (bool, usize)| -> Option<f64> {
                    match (needed, with) {
                        (false, _) => Some(0.0),
                        (true, true) if partners > 0 => Some(harmonic(rest, 1.0)),
                        (true, true) => None,
                        (true, false) => {
                            free = free.checked_sub(1)?;
                            Some(0.0)
                        }
                    }
                };
                let Some(first) = places(precision_with_recalled, precision_rest, rests[0]) else { continue };
                let second = places(recall_with_precise, recall_rest, rests[1]);
                let second = match second {
                    Some(second) => second,
                    // One class with neither has both fractions.
                    None if !recall_with_precise && !precision_with_recalled && rests[0].0 && rests[1].0 => {
                        harmonic(precision_rest, recall_rest)
                    }
                    None => continue,
                };
                sum += first + second;
                least = least.min(sum / classes as f64);
            }
        }
    }
    least
}

/// Returns the findings as a table of numbers that are impossible or possible only under a condition, with the counts
/// of each verdict.
pub fn audit_table(name: &str, findings: &[Finding]) -> Table {
    let mut table = Table {
        title: format!("{name}: numbers that arithmetic rules out or allows only under a condition"),
        columns: vec![
            Column::text("row", "row"),
            Column::text("metric", "metric"),
            Column::text("value", "value"),
            Column::text("possible", "possible"),
            Column::text("reason", "reason"),
        ],
        ..Table::default()
    };
    for finding in findings.iter().filter(|finding| finding.possible != Possible::Yes) {
        let possible = if finding.possible == Possible::No { "no" } else { "only if" };
        let cells = [&finding.row, &finding.metric, &finding.printed, possible, &finding.reason];
        table.rows.push(cells.map(|text| Cell::Text(text.to_owned())).into());
    }
    let count = |possible| findings.iter().filter(|finding| finding.possible == possible).count();
    table.notes.push(format!(
        "{} numbers: {} consistent, {} possible only under a condition, {} impossible.",
        findings.len(),
        count(Possible::Yes),
        count(Possible::OnlyIf),
        count(Possible::No)
    ));
    table
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
