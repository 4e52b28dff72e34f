//! Measured against published numbers, cell by cell: the difference, and whether the published number is within the
//! interval over seeds.

use super::aggregate::{Aggregate, Measured, RowKey, TableKey, aggregate};
use super::tables::class_table_model;
use super::{Cell, Column, Possible, PublishedCell, PublishedTable, ReportError, Table};
use etcbench_evaluate::Metric;
use etcbench_experiment::Record;

/// Half a unit of the last decimal that the paper prints.
const ROUNDING: f64 = 0.0005;

/// The comparison of a published number with a measured one.
pub(super) struct Reproduced {
    /// Published minus measured.
    pub difference: f64,
    /// Whether the published number, or one that it may have been rounded from, is within the 95 % interval of the
    /// mean; `None` for a single fit, which has no interval.
    pub within: Option<bool>,
}

pub(super) fn reproduced(published: &PublishedCell, measured: Measured) -> Option<Reproduced> {
    let summary = measured.summary?;
    let difference = published.value - summary.mean;
    let within = summary.interval.map(|interval| difference.abs() <= interval + ROUNDING + 1e-12);
    Some(Reproduced { difference, within })
}

/// Explains the letters of [`within_cell`].
pub(super) const WITHIN_NOTE: &str = "In CI: which published numbers lie in the 95 % interval of the row's mean over seeds and \
     folds, rounding counted (A accuracy, P precision, R recall, F F1; in parentheses where the number cannot be; – none).";

/// Returns the published numbers of a row that are within the interval over its seeds, a letter each. The cell is
/// absent if nothing is published for the row or it has a single fit.
pub(super) fn within_cell(
    aggregate: &Aggregate,
    row: &RowKey,
    class: Option<&str>,
    published: Option<&PublishedTable>,
    metrics: &[Metric],
) -> Cell {
    let name = class.unwrap_or(&row.model);
    let mut known = false;
    let mut within = Vec::new();
    for &metric in metrics {
        let Some(cell) = published.and_then(|table| table.get(name, metric.key)) else { continue };
        let Some(measured) = aggregate.get(row, class, metric) else { continue };
        if let Some(Reproduced { within: Some(inside), .. }) = reproduced(cell, measured) {
            known = true;
            let letter: String = metric.heading.chars().take(1).flat_map(char::to_uppercase).collect();
            if inside {
                within.push(if cell.possible == Possible::No { format!("({letter})") } else { letter });
            }
        }
    }
    match (known, within.is_empty()) {
        (false, _) => Cell::Absent,
        (true, true) => Cell::Text("–".to_owned()),
        (true, false) => Cell::Text(within.concat()),
    }
}

/// Returns tables with a row per number that is both published and measured, one table per experiment, dataset and size
/// that has any.
///
/// # Errors
/// Two records for the same value.
pub(super) fn reproduced_tables(records: &[Record], published: &[PublishedTable]) -> Result<Vec<Table>, ReportError> {
    let tables = aggregate(records)?;
    let compared = |(key, aggregate): (&TableKey, &Aggregate)| {
        let published = published.iter().find(|table| table.experiment == key.experiment)?;
        let table = reproduced_table(key, aggregate, published);
        (!table.rows.is_empty()).then_some(table)
    };
    Ok(tables.iter().filter_map(compared).collect())
}

fn reproduced_table(key: &TableKey, aggregate: &Aggregate, published: &PublishedTable) -> Table {
    let mut table = Table {
        title: format!("{}: measured beside published, {} in size {}", key.experiment, key.dataset, key.size),
        columns: vec![
            Column::text("row", "row"),
            Column::text("metric", "metric"),
            Column::text("variant", "variant"),
            Column::text("input", "input"),
            Column::text("implementation", "implementation").machine_only(),
            Column::number("published", "published"),
            Column::number("measured", "measured"),
            Column::number("interval", "± 95 %"),
            Column::number("difference", "difference"),
            Column::text("within", "within"),
            Column::text("possible", "possible"),
        ],
        ..Table::default()
    };
    for cell in &published.cells {
        let class = published.classes().contains(&cell.row.as_str());
        let model = if class { class_table_model() } else { &cell.row };
        for row in aggregate.rows().iter().filter(|row| row.model == model) {
            let measured = aggregate.get(row, class.then_some(cell.row.as_str()), &cell.metric);
            let Some((measured, found)) = measured.and_then(|measured| Some((measured, reproduced(cell, measured)?)))
            else {
                continue;
            };
            let Some(summary) = measured.summary else { continue };
            let possible = match cell.possible {
                Possible::Yes => Cell::text("yes"),
                Possible::OnlyIf => Cell::text("only if"),
                Possible::No => Cell::text("no"),
            };
            table.rows.push(vec![
                Cell::text(&cell.row),
                Cell::text(&cell.metric),
                Cell::text(&row.variant),
                Cell::text(&row.input),
                Cell::text(&row.implementation),
                Cell::number(cell.value, 3),
                Cell::summary(&summary, 3),
                Cell::number_or_absent(summary.interval, 3),
                Cell::number(found.difference, 3),
                found.within.map_or(Cell::Absent, |within| Cell::text(if within { "yes" } else { "no" })),
                possible,
            ]);
        }
    }
    table.notes.push(
        "Within: whether the published number, rounding counted, lies in the 95 % interval of the measured mean (Student's \
         t over seeds and folds); empty for one fit. A number that is not possible cannot be reproduced: lying within says \
         nothing for it. The difference is the published number less the measured one."
            .to_owned(),
    );
    table
}

#[cfg(test)]
mod tests {
    use super::super::tables::tests::record;
    use super::*;

    #[test]
    fn a_published_number_is_compared_with_the_interval_of_the_seeds() {
        let published = PublishedTable {
            experiment: "table3".to_owned(),
            cells: [
                ("svm", "accuracy", 0.91, Possible::Yes),
                ("chat", "f1", 0.7, Possible::No),
                ("knn", "accuracy", 0.5, Possible::Yes),
            ]
            .map(|(row, metric, value, possible)| PublishedCell {
                row: row.to_owned(),
                metric: metric.to_owned(),
                value,
                possible,
                note: String::new(),
            })
            .into(),
        };
        let mut records = Vec::new();
        for (seed, value) in [(0, 0.90), (1, 0.92), (2, 0.94)] {
            // The interval of svm is 0.92 ± 4.303 * 0.02 / sqrt(3) = 0.92 ± 0.0497.
            records.push(record("random_split", "svm", seed, None, "accuracy", value));
            records.push(record("without_shortcuts", "svm", seed, None, "accuracy", value - 0.06));
            records.push(record("random_split", "attention_lstm", seed, Some("chat"), "f1", value));
        }
        records.push(record("random_split", "knn", 0, None, "accuracy", 0.5));
        let table = &reproduced_tables(&records, &[published]).unwrap()[0];
        let lines: Vec<String> = table.to_csv().unwrap().lines().skip(1).map(str::to_owned).collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].starts_with("svm,accuracy,random_split") && lines[0].ends_with(",yes,yes"), "{}", lines[0]);
        // 0.86 + 0.0497 is 0.0003 below 0.91, which is within rounding.
        assert!(lines[1].contains("without_shortcuts") && lines[1].ends_with(",yes,yes"), "{}", lines[1]);
        assert!(lines[2].starts_with("chat,f1") && lines[2].ends_with(",no,no"), "{}", lines[2]);
        assert!(lines[3].starts_with("knn,accuracy") && lines[3].ends_with(",,yes"), "{}", lines[3]);
        assert!(reproduced_tables(&records, &[]).unwrap().is_empty());
    }
}
