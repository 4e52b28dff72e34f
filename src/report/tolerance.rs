//! Tolerances: what an experiment is expected to measure, and how far off it may be
//! (`results/tolerances/<experiment>-<dataset>-<size>.toml`).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::aggregate::{Measured, RowKey, aggregate};
use super::{Cell, Column, ReportError, Table, file_error};
use crate::declarative::did_you_mean;
use crate::experiment::Record;

/// Metrics that [`bless`] proposes to hold. Times depend on the machine and are never held.
const BLESSED: [&str; 2] = ["accuracy", "macro_f1"];

/// [`bless`] allows at least this deviation: what one more seed or another machine may change.
const LEAST_DEVIATION: f64 = 0.02;

/// The expectations of one experiment on one dataset in one size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToleranceFile {
    /// The experiment's name.
    pub experiment: String,
    /// The dataset's name.
    pub dataset: String,
    /// The size's name.
    pub size: String,
    /// The expectations.
    #[serde(default)]
    pub tolerance: Vec<Tolerance>,
}

/// One expectation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// The variant of the experiment.
    pub variant: String,
    /// The model's name.
    pub model: String,
    /// What the model reads.
    pub input: String,
    /// `fast`, the default, or `reference`.
    #[serde(default = "fast", skip_serializing_if = "is_fast")]
    pub implementation: String,
    /// The class, for a metric of one class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The metric's name.
    pub metric: String,
    /// The mean over seeds that is expected.
    pub expected: f64,
    /// How far the measured mean may be from it.
    pub deviation: f64,
    /// How many seeds the expectation was made from.
    pub seeds: usize,
}

fn fast() -> String {
    "fast".to_owned()
}

fn is_fast(implementation: &str) -> bool {
    implementation == "fast"
}

const FILE_KEYS: [&str; 4] = ["experiment", "dataset", "size", "tolerance"];
const KEYS: [&str; 9] =
    ["variant", "model", "input", "implementation", "class", "metric", "expected", "deviation", "seeds"];

/// What became of one expectation.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The expectation.
    pub tolerance: Tolerance,
    /// The measured mean over seeds; none where there is no record or the value is undefined.
    pub measured: Option<f64>,
    /// How many seeds were measured.
    pub seeds: usize,
    /// Whether the measured mean is within the deviation; never without a measured value.
    pub within: bool,
}

impl ToleranceFile {
    /// Where the tolerances of an experiment are: `<folder>/<experiment>-<dataset>-<size>.toml`.
    pub fn path(folder: &Path, experiment: &str, dataset: &str, size: &str) -> PathBuf {
        folder.join(format!("{experiment}-{dataset}-{size}.toml"))
    }

    /// Reads a tolerance file.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key, a deviation that is not a number from 0, an expectation
    /// of a time, two expectations of one value.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let text = std::fs::read_to_string(path).map_err(|problem| file_error(path, problem))?;
        let raw: toml::Table = toml::from_str(&text).map_err(|problem| file_error(path, problem))?;
        for key in raw.keys() {
            known(path, key, &FILE_KEYS)?;
        }
        let entries = raw.get("tolerance").and_then(toml::Value::as_array).into_iter().flatten();
        for key in entries.filter_map(toml::Value::as_table).flat_map(toml::Table::keys) {
            known(path, key, &KEYS)?;
        }
        let file: Self = toml::from_str(&text).map_err(|problem| file_error(path, problem))?;
        for (index, tolerance) in file.tolerance.iter().enumerate() {
            let place = format!("[[tolerance]] {} ({} of {})", index + 1, tolerance.metric, tolerance.model);
            if !(tolerance.expected.is_finite() && tolerance.deviation.is_finite() && tolerance.deviation >= 0.0) {
                let problem = format!("{place}: expected must be a number and deviation a number from 0");
                return Err(file_error(path, problem));
            }
            if tolerance.metric.ends_with("_seconds") || tolerance.metric.ends_with("_per_second") {
                let problem = format!("{place}: times depend on the machine and cannot be held; remove it");
                return Err(file_error(path, problem));
            }
            if file.tolerance[..index].iter().any(|other| other.same_value(tolerance)) {
                return Err(file_error(path, format!("{place}: the same value has an expectation above")));
            }
        }
        Ok(file)
    }

    /// The file's content.
    ///
    /// # Errors
    /// None that is known: every field has a form in TOML.
    pub fn to_toml(&self) -> Result<String, ReportError> {
        let body = toml::to_string(self).map_err(|problem| ReportError::Records(problem.to_string()))?;
        Ok(format!(
            "# What this experiment is expected to measure: means over seeds, and how far off they may be.\n\n{body}"
        ))
    }
}

fn known(path: &Path, key: &str, keys: &[&str]) -> Result<(), ReportError> {
    if keys.contains(&key) {
        return Ok(());
    }
    Err(file_error(path, format!("unknown key `{key}`{}", did_you_mean(key, keys.iter().copied()))))
}

impl Tolerance {
    fn row(&self) -> RowKey {
        RowKey {
            model: self.model.clone(),
            input: self.input.clone(),
            implementation: self.implementation.clone(),
            variant: self.variant.clone(),
        }
    }

    fn same_value(&self, other: &Self) -> bool {
        self.row() == other.row() && self.class == other.class && self.metric == other.metric
    }
}

/// Holds records against expectations, one verdict each, in the file's order. Records of other
/// experiments, datasets and sizes are not looked at; an expectation without a record is not met.
///
/// # Errors
/// Two records of the same value.
pub fn check(records: &[Record], file: &ToleranceFile) -> Result<Vec<Verdict>, ReportError> {
    let tables = aggregate(records)?;
    let table = tables
        .iter()
        .find(|(key, _)| key.experiment == file.experiment && key.dataset == file.dataset && key.size == file.size);
    let verdict = |tolerance: &Tolerance| {
        let measured: Option<Measured> =
            table.and_then(|(_, table)| table.get(&tolerance.row(), tolerance.class.as_deref(), &tolerance.metric));
        // A value that is undefined for some seeds is not the value that was expected.
        let mean = measured
            .and_then(|measured| measured.summary.filter(|summary| summary.count == measured.fits))
            .map(|summary| summary.mean);
        Verdict {
            tolerance: tolerance.clone(),
            measured: mean,
            seeds: measured.map_or(0, |measured| measured.seeds),
            // A billionth, so that a deviation of 0.02 holds 0.52 against 0.5.
            within: mean.is_some_and(|mean| (mean - tolerance.expected).abs() <= tolerance.deviation + 1e-9),
        }
    };
    Ok(file.tolerance.iter().map(verdict).collect())
}

/// Proposes expectations from records: accuracy and macro F1 of every row, to be held within three sample
/// standard deviations over the seeds, and at least 0.02.
///
/// # Errors
/// Records of no or of several experiments, datasets or sizes; two records of the same value.
pub fn bless(records: &[Record]) -> Result<ToleranceFile, ReportError> {
    let tables = aggregate(records)?;
    let mut tables = tables.into_iter();
    let (Some((key, table)), None) = (tables.next(), tables.next()) else {
        return Err(ReportError::Records(
            "tolerances are made from the records of exactly one experiment, dataset and size".to_owned(),
        ));
    };
    let mut tolerance = Vec::new();
    for row in table.rows() {
        for metric in BLESSED {
            let Some(measured) = table.get(&row, None, metric) else { continue };
            let Some(summary) = measured.summary else { continue };
            let spread = 3.0 * summary.standard_deviation.unwrap_or(0.0);
            tolerance.push(Tolerance {
                variant: row.variant.clone(),
                model: row.model.clone(),
                input: row.input.clone(),
                implementation: row.implementation.clone(),
                class: None,
                metric: metric.to_owned(),
                expected: (summary.mean * 1e4).round() / 1e4,
                deviation: (spread.max(LEAST_DEVIATION) * 1e4).round() / 1e4,
                seeds: measured.seeds,
            });
        }
    }
    Ok(ToleranceFile { experiment: key.experiment, dataset: key.dataset, size: key.size, tolerance })
}

/// What is out of tolerance, as a table; its title tells how many of how many.
pub fn verdict_table(verdicts: &[Verdict]) -> Table {
    let out: Vec<&Verdict> = verdicts.iter().filter(|verdict| !verdict.within).collect();
    let mut table = Table {
        title: format!("{} of {} expectations are not met", out.len(), verdicts.len()),
        columns: vec![
            Column::text("model", "model"),
            Column::text("input", "input"),
            Column::text("implementation", "implementation").machine_only(),
            Column::text("variant", "variant"),
            Column::text("class", "class"),
            Column::text("metric", "metric"),
            Column::number("expected", "expected"),
            Column::number("deviation", "deviation"),
            Column::number("measured", "measured"),
            Column::number("seeds", "seeds"),
        ],
        ..Table::default()
    };
    for Verdict { tolerance, measured, seeds, .. } in out {
        let number = |value, decimals| Cell::Number { value, standard_deviation: None, decimals, footnote: None };
        let text = |text: &str| Cell::Text(text.to_owned());
        let measured = match measured {
            Some(value) => number(*value, 4),
            None if *seeds == 0 => Cell::Undefined(Some(table.footnote("no record of it"))),
            None => Cell::Undefined(Some(table.footnote("undefined in at least one seed"))),
        };
        table.rows.push(vec![
            text(&tolerance.model),
            text(&tolerance.input),
            text(&tolerance.implementation),
            text(&tolerance.variant),
            tolerance.class.as_deref().map_or(Cell::Absent, text),
            text(&tolerance.metric),
            number(tolerance.expected, 4),
            number(tolerance.deviation, 4),
            measured,
            number(*seeds as f64, 0),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::tables::tests::record;
    use super::*;

    fn records() -> Vec<Record> {
        let mut records = Vec::new();
        for (seed, accuracy) in [(0, 0.9), (1, 0.92)] {
            records.push(record("as_published", "svm", seed, None, "accuracy", accuracy));
            records.push(record("as_published", "svm", seed, None, "macro_f1", accuracy - 0.1));
            records.push(record("as_published", "svm", seed, None, "fit_wall_seconds", 3.0));
        }
        records
    }

    #[test]
    fn what_was_blessed_is_within_and_survives_its_file() {
        let file = bless(&records()).unwrap();
        let text = file.to_toml().unwrap();
        let expected = "\
# What this experiment is expected to measure: means over seeds, and how far off they may be.

experiment = \"table3\"
dataset = \"iscxvpn2016\"
size = \"full\"

[[tolerance]]
variant = \"as_published\"
model = \"svm\"
input = \"bytes\"
metric = \"accuracy\"
expected = 0.91
deviation = 0.0424
seeds = 2

[[tolerance]]
variant = \"as_published\"
model = \"svm\"
input = \"bytes\"
metric = \"macro_f1\"
expected = 0.81
deviation = 0.0424
seeds = 2
";
        assert_eq!(text, expected);
        let folder = tempfile::tempdir().unwrap();
        let path = ToleranceFile::path(folder.path(), "table3", "iscxvpn2016", "full");
        assert!(path.ends_with("table3-iscxvpn2016-full.toml"));
        std::fs::write(&path, text).unwrap();
        assert_eq!(ToleranceFile::read(&path).unwrap(), file);
        let verdicts = check(&records(), &file).unwrap();
        assert!(verdicts.len() == 2 && verdicts.iter().all(|verdict| verdict.within && verdict.seeds == 2));
        assert_eq!(verdict_table(&verdicts).rows.len(), 0);
    }

    #[test]
    fn what_is_off_missing_or_undefined_is_out() {
        let file = bless(&records()).unwrap();
        let mut changed = records();
        changed.retain(|record| record.metric != "macro_f1");
        for record in changed.iter_mut().filter(|record| record.metric == "accuracy") {
            record.value = record.value.map(|value| value - 0.05);
        }
        let table = verdict_table(&check(&changed, &file).unwrap());
        let expected = "\
**2 of 2 expectations are not met**

| model | input | variant      | class | metric   | expected | deviation | measured | seeds |
| ----- | ----- | ------------ | ----- | -------- | -------: | --------: | -------: | ----: |
| svm   | bytes | as_published |       | accuracy |   0.9100 |    0.0424 |   0.8600 |     2 |
| svm   | bytes | as_published |       | macro_f1 |   0.8100 |    0.0424 |    — [a] |     0 |

- [a] no record of it
";
        assert_eq!(table.to_markdown(), expected);
        let mut undefined = records();
        undefined[0].value = None;
        let verdict = &check(&undefined, &file).unwrap()[0];
        assert_eq!((verdict.within, verdict.measured, verdict.seeds), (false, None, 2));
        let mut other = records();
        for record in &mut other {
            record.key.size = "smoke".to_owned();
        }
        assert!(check(&other, &file).unwrap().iter().all(|verdict| !verdict.within && verdict.seeds == 0));
        other.extend(records());
        assert!(bless(&other).unwrap_err().to_string().contains("exactly one experiment"));
        assert!(bless(&[]).is_err());
    }

    #[test]
    fn broken_files_are_errors_that_name_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        let good = bless(&records()).unwrap().to_toml().unwrap();
        let problem = |text: String| {
            std::fs::write(&path, text).unwrap();
            ToleranceFile::read(&path).unwrap_err().to_string()
        };
        let unknown = problem(good.replacen("deviation", "deviaton", 1));
        assert!(unknown.contains("t.toml: unknown key `deviaton`, did you mean `deviation`?"), "{unknown}");
        assert!(problem(good.replacen("size", "sizes", 1)).contains("did you mean `size`"));
        assert!(problem(good.replacen("deviation = 0", "deviation = -0", 1)).contains("a number from 0"));
        assert!(problem(good.replacen("\"macro_f1\"", "\"accuracy\"", 1)).contains("the same value"));
        assert!(problem(good.replacen("\"macro_f1\"", "\"fit_wall_seconds\"", 1)).contains("times depend"));
        assert!(problem(good.replacen("expected = 0.91\n", "", 1)).contains("missing field `expected`"));
    }
}
