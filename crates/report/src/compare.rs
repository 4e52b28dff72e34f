//! Comparison of two runs: the differences in experiment, data, program and machine, results and times.

use std::collections::{BTreeMap, BTreeSet};

use super::aggregate::{RowKey, aggregate};
use super::{Cell, Column, ReportError, StoredRun, Table};
use etcbench_evaluate::{Metric, Summary};
use etcbench_experiment::{Record, current_variant, has_current_variant, with_current_variants};

/// The differences between two runs.
pub struct RunComparison {
    /// The differing keys of the experiment, captures, versions and machine facts, one row each, then results and
    /// times.
    pub tables: Vec<Table>,
    /// Whether both runs have the same results to the last bit, not counting times and memory.
    pub same_results: bool,
}

/// The metrics whose means are shown.
const METRICS: [Metric; 4] =
    [Metric::ACCURACY, Metric::MACRO_F1, Metric::FIT_WALL_SECONDS, Metric::PREDICT_WALL_SECONDS];

/// Compares two runs.
///
/// # Errors
/// Two records of the same value in one of them.
pub fn compare_runs(first: &StoredRun, second: &StoredRun) -> Result<RunComparison, ReportError> {
    let [first, second] = &[first, second].map(with_current_names);
    let (results, times) = results(first, second)?;
    Ok(RunComparison {
        tables: vec![experiment(first, second), data(first, second), code(first, second), results, times],
        same_results: same_results(&first.records, &second.records),
    })
}

/// Returns a run with today's names of its variants.
fn with_current_names(run: &StoredRun) -> StoredRun {
    let mut run = run.clone();
    run.records = with_current_variants(&run.records).into_owned();
    if let Some(toml::Value::Table(variants)) = run.experiment.get_mut("variant")
        && !has_current_variant(variants.keys().map(String::as_str))
    {
        let renamed = std::mem::take(variants).into_iter();
        variants.extend(renamed.map(|(name, keys)| (current_variant(&name).into_owned(), keys)));
    }
    run
}

/// Returns a table of the keys whose values differ between two maps; a key missing from one is shown as a dash.
fn differing(title: &str, what: &str, first: &BTreeMap<String, String>, second: &BTreeMap<String, String>) -> Table {
    let mut table = Table {
        title: title.to_owned(),
        columns: vec![Column::text(what, what), Column::text("first", "first"), Column::text("second", "second")],
        ..Table::default()
    };
    let keys: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
    for key in keys.into_iter().filter(|key| first.get(*key) != second.get(*key)) {
        let side = |side: &BTreeMap<String, String>| side.get(key).map_or(Cell::text("—"), Cell::text);
        table.rows.push(vec![Cell::text(key), side(first), side(second)]);
    }
    if table.rows.is_empty() {
        table.title += ": no difference";
    }
    table
}

fn experiment(first: &StoredRun, second: &StoredRun) -> Table {
    let keys = |run: &StoredRun| {
        let mut keys = BTreeMap::new();
        flatten("", &toml::Value::Table(run.experiment.clone()), &mut keys);
        keys.insert("(experiment)".to_owned(), run.facts.experiment.clone());
        keys.insert("(size)".to_owned(), run.facts.size.clone());
        keys
    };
    differing("Experiment", "key", &keys(first), &keys(second))
}

/// Collects every key of a table under its dotted path.
fn flatten(path: &str, value: &toml::Value, keys: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, keys);
            }
        }
        value => {
            keys.insert(path.to_owned(), value.to_string());
        }
    }
}

fn data(first: &StoredRun, second: &StoredRun) -> Table {
    let captures = |run: &StoredRun| -> BTreeMap<String, String> {
        let captures = run.facts.captures.iter().map(|capture| {
            let sum = capture.sha256.get(..12).unwrap_or(&capture.sha256);
            (format!("{}/{}", capture.dataset, capture.capture), format!("{sum}…, {} flows", capture.flows))
        });
        captures.collect()
    };
    let (first, second) = (captures(first), captures(second));
    let mut table = differing("Data", "capture", &first, &second);
    let same = first.iter().filter(|(name, facts)| second.get(*name) == Some(facts)).count();
    table.notes.push(format!(
        "{same} captures are identical (SHA-256 and number of flows), of {} in the first and {} in the second.",
        first.len(),
        second.len()
    ));
    table
}

fn code(first: &StoredRun, second: &StoredRun) -> Table {
    let facts = |run: &StoredRun| {
        let provenance = &run.facts.provenance;
        let or = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
        BTreeMap::from(
            [
                ("version", provenance.version.clone()),
                ("commit", or(&provenance.commit)),
                ("system", provenance.system.clone()),
                ("processor", or(&provenance.processor)),
                ("threads", provenance.threads.to_string()),
                (
                    "memory",
                    or(&provenance.memory_bytes.map(|bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)))),
                ),
                ("device", provenance.device.clone()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        )
    };
    differing("Program and machine", "fact", &facts(first), &facts(second))
}

/// The key that identifies a value.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct ValueKey {
    row: RowKey,
    seed: u64,
    fold: usize,
    class: Option<String>,
    predicted: Option<String>,
    setting: Option<String>,
    epoch: Option<usize>,
    metric: String,
}

/// Returns whether two runs have the same results to the last bit, not counting times and memory.
pub(super) fn same_results(first: &[Record], second: &[Record]) -> bool {
    values(first) == values(second)
}

/// Returns the bits of every result of a run, without those that depend on the machine.
fn values(records: &[Record]) -> BTreeMap<ValueKey, Option<u64>> {
    let of_machine = |name: &str| Metric::named(name).is_some_and(|metric| metric.of_machine);
    let kept = records.iter().filter(|record| !of_machine(&record.metric));
    let entry = |record: &Record| {
        let Record { key, class, predicted, setting, epoch, metric, value } = record.clone();
        let row = RowKey::of(&key);
        let named = ValueKey { row, seed: key.seed, fold: key.fold, class, predicted, setting, epoch, metric };
        (named, value.map(f64::to_bits))
    };
    kept.map(entry).collect()
}

/// Returns the tables of results and of times; rows are in table order, those of the first run first.
fn results(first: &StoredRun, second: &StoredRun) -> Result<(Table, Table), ReportError> {
    let one = |run: &StoredRun| Ok::<_, ReportError>(aggregate(&run.records)?.into_values().next().unwrap_or_default());
    let (left, right) = (one(first)?, one(second)?);
    let mut rows = left.rows();
    rows.extend(right.rows().into_iter().filter(|row| !rows.contains(row)).collect::<Vec<_>>());
    let columns = |first: &str, second: &str, last: Column| {
        vec![
            Column::text("model", "model"),
            Column::text("input", "input"),
            Column::text("implementation", "implementation").machine_only(),
            Column::text("variant", "variant"),
            Column::text("metric", "metric"),
            Column::number("first", first),
            Column::number("second", second),
            last,
        ]
    };
    let mut results = Table {
        title: "Results".to_owned(),
        columns: columns("first", "second", Column::number("difference", "difference")),
        ..Table::default()
    };
    results.columns.push(Column::text("verdict", "verdict"));
    let mut times = Table {
        title: "Times".to_owned(),
        columns: columns("first (s)", "second (s)", Column::number("ratio", "second / first")),
        ..Table::default()
    };
    let (first_values, second_values) = (values(&first.records), values(&second.records));
    for row in &rows {
        for metric in METRICS {
            let (one, two) = (left.get(row, None, metric), right.get(row, None, metric));
            if one.is_none() && two.is_none() {
                continue;
            }
            let (one, two) = (one.and_then(|one| one.summary), two.and_then(|two| two.summary));
            let timed = metric.is_time();
            let cell = |summary: Option<Summary>| match summary {
                Some(summary) => Cell::measured(metric, &summary),
                None => Cell::Absent,
            };
            let mut cells: Vec<Cell> =
                [&row.model, &row.input, &row.implementation, &row.variant].map(Cell::text).into();
            cells.extend([Cell::text(metric.key), cell(one), cell(two)]);
            if timed {
                let ratio = one.zip(two).filter(|(one, _)| one.mean > 0.0).map(|(one, two)| two.mean / one.mean);
                cells.push(Cell::number_or_absent(ratio, 2));
                times.rows.push(cells);
                continue;
            }
            cells.push(Cell::number_or_absent(one.zip(two).map(|(one, two)| two.mean - one.mean), 3));
            cells.push(Cell::text(match (one, two) {
                (None, _) => "only in the second",
                (_, None) => "only in the first",
                (Some(one), Some(two)) => {
                    let values_of = |values: &BTreeMap<ValueKey, Option<u64>>| -> Vec<(u64, usize, Option<u64>)> {
                        let same = |key: &ValueKey| key.row == *row && key.class.is_none() && key.metric == metric.key;
                        let found = values.iter().filter(|(key, _)| same(key));
                        found.map(|(key, value)| (key.seed, key.fold, *value)).collect()
                    };
                    verdict(one, two, values_of(&first_values) == values_of(&second_values))
                }
            }));
            results.rows.push(cells);
        }
    }
    let reused = |run: &StoredRun| format!("{} of {}", run.reused(), run.facts.fits.len());
    results.notes.push(
        "same: every seed and fold has the same bits; within: the means differ by no more than the root sum of squares \
         of their 95 % intervals; apart: they differ by more; differs: a single fit has no interval."
            .to_owned(),
    );
    times.notes.push(format!(
        "Fits from the cache report the times of the run that computed them: {} in the first, {} in the second.",
        reused(first),
        reused(second)
    ));
    Ok((results, times))
}

fn verdict(one: Summary, two: Summary, same: bool) -> &'static str {
    if same {
        return "same";
    }
    match (one.interval, two.interval) {
        (Some(left), Some(right)) if (one.mean - two.mean).abs() <= left.hypot(right) => "within",
        (Some(_), Some(_)) => "apart",
        _ => "differs",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::tests::record;
    use super::*;
    use crate::{FitFacts, RunFacts};
    use etcbench_experiment::Invocation;

    fn run(experiment: &str, commit: &str, values: &[f64]) -> StoredRun {
        let mut records = Vec::new();
        for (seed, value) in values.iter().enumerate() {
            records.push(record("random_split", "svm", seed as u64, None, "accuracy", *value));
            records.push(record("random_split", "svm", seed as u64, None, "fit_wall_seconds", 2.0 * value));
        }
        let provenance = serde_json::from_value(serde_json::json!({
            "version": "0.1.0", "commit": commit, "system": "linux x86_64", "processor": null, "threads": 2,
            "memory_bytes": null, "device": "cpu",
        }));
        StoredRun {
            folder: "results/a".into(),
            name: "a".to_owned(),
            experiment_file: experiment.to_owned(),
            experiment: experiment.parse().unwrap(),
            information: serde_json::Value::Null,
            leaks: Vec::new(),
            facts: RunFacts {
                experiment: "table3".to_owned(),
                title: "T".to_owned(),
                datasets: vec!["mine".to_owned()],
                size: "full".to_owned(),
                seeds: vec![0, 1],
                invocation: Invocation::default(),
                best: None,
                provenance: provenance.unwrap(),
                captures: Vec::new(),
                data_notes: Vec::new(),
                left_out: Vec::new(),
                variants: Vec::new(),
                fits: vec![FitFacts { reused: true }],
            },
            records,
        }
    }

    #[test]
    fn only_changes_are_reported() {
        let first = run("title = \"T\"\n[feature]\npackets = 6\nbytes = 128", "a", &[0.9, 0.92]);
        let second = run("title = \"T\"\n[feature]\npackets = 8\nmasks = [\"ports\"]\nbytes = 128", "b", &[0.5, 0.52]);
        let compared = compare_runs(&first, &second).unwrap();
        assert!(!compared.same_results);
        let text: Vec<String> = compared.tables.iter().map(Table::to_markdown).collect();
        assert!(text[0].contains("| feature.packets | 6     | 8         |"), "{}", text[0]);
        assert!(
            text[0].contains("| feature.masks   | —     | [\"ports\"] |") && !text[0].contains("bytes"),
            "{}",
            text[0]
        );
        assert!(text[1].starts_with("**Data: no difference**"), "{}", text[1]);
        assert!(text[2].contains("| commit | a     | b      |") && !text[2].contains("device"), "{}", text[2]);
        assert!(text[3].contains("-0.400 | apart"), "{}", text[3]);
        assert!(text[4].contains("0.56 |") && text[4].contains("1 of 1 in the first"), "{}", text[4]);

        let mut other_times = first.clone();
        other_times.records[1].value = Some(9.0);
        let compared = compare_runs(&first, &other_times).unwrap();
        assert!(compared.same_results);
        assert!(compared.tables[0].title.ends_with("no difference"));
        assert!(compared.tables[3].to_markdown().contains(" 0.000 | same"), "{}", compared.tables[3].to_markdown());
        let near = compare_runs(&first, &run("", "a", &[0.9, 0.93])).unwrap();
        assert!(!near.same_results && near.tables[3].to_markdown().contains("| within"));
        let fewer = compare_runs(&first, &run("", "a", &[0.9])).unwrap();
        assert!(!fewer.same_results && fewer.tables[3].to_markdown().contains("| differs"));
    }
}
