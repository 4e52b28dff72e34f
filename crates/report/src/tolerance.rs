//! Tolerances: checks records against the expectations of a tolerance file, and proposes expectations from records.

use super::aggregate::{Measured, aggregate};
use super::tolerance_file::{Tolerance, ToleranceFile};
use super::{Cell, Column, ReportError, Table};
use etcbench_evaluate::Metric;
use etcbench_experiment::{Record, with_current_variants};

/// The metrics for which [`proposed_tolerances`] proposes expectations.
const PROPOSED: [Metric; 2] = [Metric::ACCURACY, Metric::MACRO_F1];

/// The smallest deviation that [`proposed_tolerances`] allows, for the effect of one more seed or another machine.
const MINIMUM_DEVIATION: f64 = 0.02;

/// The times for which [`proposed_tolerances`] proposes expectations on request, and their largest ratio to the
/// expected time.
const PROPOSED_TIMES: [Metric; 2] = [Metric::FIT_WALL_SECONDS, Metric::PREDICT_WALL_SECONDS];
const PROPOSED_RATIO: f64 = 3.0;

/// The result of checking one expectation.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The expectation.
    pub tolerance: Tolerance,
    /// The measured mean over seeds; `None` if there is no record or the value is undefined.
    pub measured: Option<f64>,
    /// Number of measured seeds.
    pub seeds: usize,
    /// Whether the measured mean is within the deviation or the ratio; false without a measured value.
    pub within: bool,
    /// How far the measured mean exceeds what is allowed; `None` if it is within or not measured.
    pub out_by: Option<f64>,
}

/// Checks records against expectations and returns one verdict each, in the file's order. Ignores records of other
/// experiments, datasets and sizes; an expectation without a record is not met.
///
/// # Errors
/// There are two records for the same value, or the file has no expectations, so that any run would pass.
pub fn check(records: &[Record], file: &ToleranceFile) -> Result<Vec<Verdict>, ReportError> {
    if file.tolerance.is_empty() {
        let ToleranceFile { experiment, dataset, size, .. } = file;
        return Err(ReportError::Records(format!(
            "the tolerances of {experiment} on {dataset} at size {size} are empty: the file has no [[tolerance]]; was \
             it truncated? `etcbench check {experiment} --update --write` stores the last run as the expectation"
        )));
    }
    verdicts(records, file)
}

fn verdicts(records: &[Record], file: &ToleranceFile) -> Result<Vec<Verdict>, ReportError> {
    let tables = aggregate(&with_current_variants(records))?;
    let table = tables
        .iter()
        .find(|(key, _)| key.experiment == file.experiment && key.dataset == file.dataset && key.size == file.size);
    let verdict = |tolerance: &Tolerance| {
        let measured: Option<Measured> =
            table.and_then(|(_, table)| table.get(&tolerance.row(), tolerance.class.as_deref(), &tolerance.metric));
        // A value that is undefined for some seeds does not meet the expectation.
        let mean = measured
            .and_then(|measured| measured.summary.filter(|summary| summary.count == measured.fits))
            .map(|summary| summary.mean);
        Verdict {
            tolerance: tolerance.clone(),
            measured: mean,
            seeds: measured.map_or(0, |measured| measured.seeds),
            // Allows for rounding, so that 0.52 is within a deviation of 0.02 from 0.5.
            within: mean.is_some_and(|mean| tolerance.outside(mean) <= 1e-9),
            out_by: mean.map(|mean| tolerance.outside(mean)).filter(|&outside| outside > 1e-9),
        }
    };
    Ok(file.current().iter().map(verdict).collect())
}

/// Returns the rows of the records without an expectation, which the verdicts do not cover.
///
/// # Errors
/// Two records for the same value.
pub fn rows_without_expectation(records: &[Record], file: &ToleranceFile) -> Result<Vec<String>, ReportError> {
    let mut names = Vec::new();
    let tolerances = file.current();
    for (key, table) in aggregate(&with_current_variants(records))? {
        if key.experiment == file.experiment && key.dataset == file.dataset && key.size == file.size {
            let rows = table.rows().into_iter().filter(|row| tolerances.iter().all(|known| known.row() != *row));
            names.extend(rows.map(|row| format!("{} on {}, {}", row.model_name(), row.input, row.variant)));
        }
    }
    Ok(names)
}

/// Proposes expectations from records: accuracy and macro F1 of every row, with a deviation of three sample standard
/// deviations over the seeds and at least 0.02; with `times`, also the times of a fit and its predictions.
///
/// An expectation of `stored` that is met is unchanged; one that is not met is set to the measured value; one without a
/// measured value is dropped. The difference to the stored file therefore shows what has changed.
///
/// # Errors
/// The records belong to no or several experiments, datasets or sizes, or there are two records for the same value.
pub fn proposed_tolerances(
    records: &[Record],
    stored: Option<&ToleranceFile>,
    times: bool,
) -> Result<ToleranceFile, ReportError> {
    let tables = aggregate(&with_current_variants(records))?;
    let mut tables = tables.into_iter();
    let (Some((key, table)), None) = (tables.next(), tables.next()) else {
        return Err(ReportError::Records(
            "tolerances need the records of exactly one experiment, dataset and size".to_owned(),
        ));
    };
    let measured = |tolerance: &Tolerance| {
        let measured = table.get(&tolerance.row(), tolerance.class.as_deref(), &tolerance.metric)?;
        Some((measured.summary?, measured.seeds))
    };
    let renewed = |tolerance: &Tolerance| {
        let (summary, seeds) = measured(tolerance)?;
        if tolerance.ratio.is_some() {
            return Some(Tolerance { expected: three_digits(summary.mean), seeds, ..tolerance.clone() });
        }
        let spread = 3.0 * summary.standard_deviation.unwrap_or(0.0);
        let round = |value: f64| (value * 1e4).round() / 1e4;
        let (expected, deviation) = (round(summary.mean), round(spread.max(MINIMUM_DEVIATION)));
        Some(Tolerance { expected, deviation, seeds, ..tolerance.clone() })
    };
    let mut tolerance = Vec::new();
    for verdict in stored.map_or(Ok(Vec::new()), |stored| verdicts(records, stored))? {
        tolerance.extend(if verdict.within { Some(verdict.tolerance) } else { renewed(&verdict.tolerance) });
    }
    for row in table.rows() {
        let metrics = PROPOSED.map(|metric| (metric, None)).into_iter();
        let timed = PROPOSED_TIMES.map(|metric| (metric, Some(PROPOSED_RATIO))).into_iter().filter(|_| times);
        for (metric, ratio) in metrics.chain(timed) {
            let wanted = Tolerance {
                variant: row.variant.clone(),
                model: row.model.clone(),
                input: row.input.clone(),
                implementation: row.implementation.clone(),
                class: None,
                metric: metric.key.to_owned(),
                expected: 0.0,
                deviation: 0.0,
                ratio,
                seeds: 0,
            };
            if !tolerance.iter().any(|known: &Tolerance| known.same_value(&wanted)) {
                tolerance.extend(renewed(&wanted));
            }
        }
    }
    Ok(ToleranceFile { experiment: key.experiment, dataset: key.dataset, size: key.size, tolerance })
}

fn three_digits(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

/// Returns a table of the expectations that are not met, with their number in the title.
pub fn verdict_table(verdicts: &[Verdict]) -> Table {
    let out: Vec<&Verdict> = verdicts.iter().filter(|verdict| !verdict.within).collect();
    let title = match out.len() {
        0 => format!("all {} expectations are met", verdicts.len()),
        unmet => format!("{unmet} of {} expectations are not met", verdicts.len()),
    };
    let mut table = Table {
        title,
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
            Column::number("out_by", "out by"),
            Column::number("seeds", "seeds"),
        ],
        ..Table::default()
    };
    for Verdict { tolerance, measured, seeds, out_by, .. } in out {
        let measured = match measured {
            Some(value) if *seeds < tolerance.seeds => {
                let footnote = table.footnote("over fewer seeds than the expectation was made from");
                Cell::number(*value, 4).noted(Some(footnote))
            }
            Some(value) => Cell::number(*value, 4),
            None if *seeds == 0 => Cell::Undefined(Some(table.footnote("no record of it"))),
            None => Cell::Undefined(Some(table.footnote("undefined in at least one seed"))),
        };
        table.rows.push(vec![
            Cell::text(&tolerance.model),
            Cell::text(&tolerance.input),
            Cell::text(&tolerance.implementation),
            Cell::text(&tolerance.variant),
            tolerance.class.as_deref().map_or(Cell::Absent, Cell::text),
            Cell::text(&tolerance.metric),
            Cell::number(tolerance.expected, 4),
            match tolerance.ratio {
                Some(ratio) => Cell::Text(format!("at most {ratio} times")),
                None => Cell::number(tolerance.deviation, 4),
            },
            measured,
            Cell::number_or_absent(*out_by, 4),
            Cell::count(*seeds),
        ]);
    }
    table
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tables::tests::record;
    use super::*;

    pub(crate) fn records() -> Vec<Record> {
        let mut records = Vec::new();
        for (seed, accuracy) in [(0, 0.9), (1, 0.92)] {
            records.push(record("random_split", "svm", seed, None, "accuracy", accuracy));
            records.push(record("random_split", "svm", seed, None, "macro_f1", accuracy - 0.1));
            records.push(record("random_split", "svm", seed, None, "fit_wall_seconds", 3.0));
        }
        records
    }

    #[test]
    fn proposed_tolerances_round_trip_through_their_file_and_pass() {
        let file = proposed_tolerances(&records(), None, false).unwrap();
        let text = file.to_toml().unwrap();
        let expected = "\
# What this experiment is expected to measure: means over seeds, and how far off they may be.

experiment = \"table3\"
dataset = \"iscxvpn2016\"
size = \"full\"

[[tolerance]]
variant = \"random_split\"
model = \"svm\"
input = \"bytes\"
metric = \"accuracy\"
expected = 0.91
deviation = 0.0424
seeds = 2

[[tolerance]]
variant = \"random_split\"
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

        // The variant's former name, in the file or in the records.
        let mut former = file.clone();
        former.tolerance.iter_mut().for_each(|tolerance| tolerance.variant = "as_published".to_owned());
        let mut old = records();
        old.iter_mut().for_each(|record| record.key.variant = "as_published".to_owned());
        for (records, file) in [(&records(), &former), (&old, &file)] {
            assert!(check(records, file).unwrap().iter().all(|verdict| verdict.within && verdict.seeds == 2));
            assert!(rows_without_expectation(records, file).unwrap().is_empty());
        }
        let table = verdict_table(&verdicts);
        assert_eq!((table.title.as_str(), table.rows.len()), ("all 2 expectations are met", 0));
    }

    #[test]
    fn deviating_missing_and_undefined_values_fail() {
        let file = proposed_tolerances(&records(), None, false).unwrap();
        let mut changed = records();
        changed.retain(|record| record.metric != "macro_f1");
        for record in changed.iter_mut().filter(|record| record.metric == "accuracy") {
            record.value = record.value.map(|value| value - 0.05);
        }
        let table = verdict_table(&check(&changed, &file).unwrap());
        let expected = "\
**2 of 2 expectations are not met**

| model | input | variant      | class | metric   | expected | deviation | measured | out by | seeds |
| ----- | ----- | ------------ | ----- | -------- | -------: | --------: | -------: | -----: | ----: |
| svm   | bytes | random_split |       | accuracy |   0.9100 |    0.0424 |   0.8600 | 0.0076 |     2 |
| svm   | bytes | random_split |       | macro_f1 |   0.8100 |    0.0424 |    — [a] |        |     0 |

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
        assert!(proposed_tolerances(&other, None, false).unwrap_err().to_string().contains("exactly one experiment"));
        assert!(proposed_tolerances(&[], None, false).is_err());
    }

    #[test]
    fn times_are_checked_by_their_ratio_and_a_faster_run_passes() {
        let file = proposed_tolerances(&records(), None, true).unwrap();
        let text = file.to_toml().unwrap();
        assert!(text.contains("metric = \"fit_wall_seconds\"\nexpected = 3.0\nratio = 3.0\nseeds = 2"), "{text}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        std::fs::write(&path, text).unwrap();
        assert_eq!(ToleranceFile::read(&path).unwrap(), file);
        let timed = |seconds: f64| {
            let mut timed = records();
            for record in timed.iter_mut().filter(|record| record.metric == "fit_wall_seconds") {
                record.value = Some(seconds);
            }
            check(&timed, &file).unwrap().into_iter().find(|verdict| verdict.tolerance.ratio.is_some()).unwrap()
        };
        assert!(timed(0.1).within && timed(9.0).within && !timed(9.5).within);
        assert_eq!(timed(9.5).out_by, Some(0.5));
        let table = verdict_table(&[timed(9.5)]).to_markdown();
        assert!(table.contains("at most 3 times |   9.5000 | 0.5000"), "{table}");
    }

    #[test]
    fn an_update_changes_only_expectations_that_were_not_met() {
        let mut stored = proposed_tolerances(&records(), None, true).unwrap();
        stored.tolerance[0].deviation = 0.3;
        stored.tolerance[1].expected = 0.5;
        let mut gone = stored.tolerance[0].clone();
        gone.model = "knn".to_owned();
        stored.tolerance.push(gone);
        let proposed = proposed_tolerances(&records(), Some(&stored), false).unwrap();
        let fresh = proposed_tolerances(&records(), None, true).unwrap();
        assert_eq!(proposed.tolerance.len(), 3);
        assert_eq!(proposed.tolerance[0], stored.tolerance[0]);
        assert_eq!(proposed.tolerance[1..], fresh.tolerance[1..]);
    }
}
