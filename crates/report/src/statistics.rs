//! The uncertainty of every measured value: mean, standard deviation and 95 % interval over seeds and folds, and the
//! bootstrap interval over one test set.

use super::aggregate::{TableKey, aggregate};
use super::{Cell, Column, ReportError, Table};
use etcbench_evaluate::Metric;
use etcbench_experiment::Record;

/// Returns tables of every metric of every row, first of the whole test set, then class by class; one table per
/// experiment, dataset and size.
///
/// # Errors
/// Two records for the same value.
pub(super) fn statistics_tables(records: &[Record]) -> Result<Vec<Table>, ReportError> {
    let mut tables = Vec::new();
    for (TableKey { experiment, dataset, size }, aggregate) in aggregate(records)? {
        let mut table = Table {
            title: format!("{experiment}: every metric with its intervals, {dataset} in size {size}"),
            columns: vec![
                Column::text("model", "model"),
                Column::text("input", "input"),
                Column::text("implementation", "implementation").machine_only(),
                Column::text("variant", "variant"),
                Column::text("class", "class"),
                Column::text("metric", "metric"),
                Column::number("mean", "mean"),
                Column::number("interval_low", "95 % from"),
                Column::number("interval_high", "to"),
                Column::number("fits", "fits"),
                Column::number("bootstrap_low", "bootstrap from"),
                Column::number("bootstrap_high", "to"),
            ],
            ..Table::default()
        };
        for row in aggregate.rows() {
            let whole = Metric::of_test_set().map(|metric| (None, metric));
            let classes = aggregate.classes.iter();
            let per_class =
                classes.flat_map(|class| Metric::of_class().map(move |metric| (Some(class.as_str()), metric)));
            for (class, metric) in whole.chain(per_class) {
                let Some(measured) = aggregate.get(&row, class, metric) else { continue };
                let names = [&row.model, &row.input, &row.implementation, &row.variant];
                let mut cells: Vec<Cell> = names.map(|text| Cell::Text(text.clone())).into();
                cells.push(class.map_or(Cell::Absent, |class| Cell::Text(class.to_owned())));
                cells.push(Cell::text(metric.key));
                match measured.summary {
                    Some(summary) => {
                        cells.push(Cell::summary(&summary, 3));
                        // Intervals are clamped to the bounds of the metric.
                        let (lowest, highest) = metric.bounds;
                        let end = |sign: f64| {
                            summary.interval.map(|interval| (summary.mean + sign * interval).clamp(lowest, highest))
                        };
                        cells.push(Cell::number_or_absent(end(-1.0), 3));
                        cells.push(Cell::number_or_absent(end(1.0), 3));
                        cells.push(Cell::count(summary.count));
                    }
                    None => {
                        let note = table.footnote("undefined in every fit");
                        cells.extend([Cell::Undefined(Some(note)), Cell::Absent, Cell::Absent, Cell::count(0)]);
                    }
                }
                for end in metric.bootstrap_names() {
                    let end = aggregate.get(&row, class, end);
                    cells.push(Cell::number_or_absent(end.and_then(|end| Some(end.summary?.mean)), 3));
                }
                table.rows.push(cells);
            }
        }
        table.notes.push(
            "95 % interval of the mean over fits (seeds and folds), by Student's t distribution: how the value varies with \
             split and training. Bootstrap: 95 % percentile interval over flows drawn anew from one test set, the mean of \
             its ends over the fits: how the value varies with the flows that happen to be tested. Intervals end where values can."
                .to_owned(),
        );
        tables.push(table);
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::super::tables::tests::record;
    use super::*;

    #[test]
    fn every_metric_has_its_intervals_and_an_undefined_one_says_so() {
        let mut records = Vec::new();
        for (seed, value) in [(0, 0.8), (1, 0.9)] {
            records.push(record("random_split", "svm", seed, None, "accuracy", value));
            records.push(record("random_split", "svm", seed, None, "accuracy_bootstrap_low", value - 0.1));
            records.push(record("random_split", "svm", seed, None, "accuracy_bootstrap_high", value + 0.05));
            let mut undefined = record("random_split", "svm", seed, Some("chat"), "precision", 0.0);
            undefined.value = None;
            records.push(undefined);
        }
        let table = &statistics_tables(&records).unwrap()[0];
        let text = table.to_markdown();
        // t(0.975, 1) = 12.706 times the standard error 0.1 / sqrt(2) / sqrt(2) = 0.05 is 0.635. No accuracy is above
        // 1.
        assert!(
            text.contains("| accuracy  | 0.850±0.071 |     0.215 | 1.000 |    2 |          0.750 | 0.900 |"),
            "{text}"
        );
        assert!(text.contains("| chat  | precision |       — [a] |"), "{text}");
    }
}
