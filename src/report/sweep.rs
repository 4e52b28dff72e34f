//! Sweeps, from records alone: the names of variants say where on its axes a point lies. A table with a row per point
//! and model, and for each axis the curve of a metric with its confidence intervals.

use super::aggregate::{Aggregate, RowKey, TableKey, aggregate, model_rank};
use super::drawing::Figure;
use super::run_figures::RunFigures;
use super::tables::{measured_cell, time_decimals};
use super::{Cell, Column, ReportError, Table};
use crate::experiment::{Record, coordinates};

/// The metrics of a sweep's table.
const METRICS: [(&str, &str); 2] = [("accuracy", "accuracy"), ("macro_f1", "F1")];

/// Whether records are of a sweep.
pub fn is_sweep(records: &[Record]) -> bool {
    records.iter().any(|record| !coordinates(&record.key.variant).1.is_empty())
}

fn is_of(table: &TableKey, Record { key, .. }: &Record) -> bool {
    key.experiment == table.experiment && key.dataset == table.dataset && key.size == table.size
}

/// What means and intervals are of.
fn interval_note(aggregate: &Aggregate) -> String {
    let range =
        |(fewest, most): (usize, usize)| if fewest == most { format!("{most}") } else { format!("{fewest} to {most}") };
    let of = match (aggregate.seeds(), aggregate.fits()) {
        (Some(seeds), Some(fits)) if seeds != fits => {
            format!("{} seeds ({} fits: every fold of each)", range(seeds), range(fits))
        }
        (Some((_, 1)), _) => return "One seed, so there is no interval.".to_owned(),
        (Some(seeds), _) => format!("{} seeds", range(seeds)),
        (None, _) => return String::new(),
    };
    format!("Means over {of}, with 95 % confidence intervals of the mean (Student's t).")
}

/// The axes of one table's records, and every axis' values, both in the order of the records.
struct Axes {
    values: Vec<(String, Vec<String>)>,
    /// Variants in the order of the records.
    variants: Vec<String>,
}

impl Axes {
    fn of(records: &[Record], key: &TableKey) -> Self {
        let mut axes = Self { values: Vec::new(), variants: Vec::new() };
        for record in records.iter().filter(|record| is_of(key, record)) {
            if axes.variants.contains(&record.key.variant) {
                continue;
            }
            axes.variants.push(record.key.variant.clone());
            for (axis, value) in coordinates(&record.key.variant).1 {
                let index = axes.values.iter().position(|(name, _)| name == axis).unwrap_or_else(|| {
                    axes.values.push((axis.to_owned(), Vec::new()));
                    axes.values.len() - 1
                });
                let known = &mut axes.values[index].1;
                if !known.iter().any(|known| known == value) {
                    known.push(value.to_owned());
                }
            }
        }
        axes
    }

    fn rank(&self, variant: &str) -> usize {
        self.variants.iter().position(|known| known == variant).unwrap_or(usize::MAX)
    }

    /// The rows, models together and points in the order of the file.
    fn rows(&self, aggregate: &Aggregate) -> Vec<RowKey> {
        let mut rows = aggregate.rows();
        rows.sort_by_key(|row| {
            let model = (model_rank(&row.model), row.model.clone(), row.input.clone(), row.implementation.clone());
            (model, self.rank(&row.variant))
        });
        rows
    }
}

/// A row per point and model, with the half width of the 95 % confidence interval beside each mean; one table per
/// experiment, dataset and size.
///
/// # Errors
/// Two records of the same value.
pub fn sweep_tables(records: &[Record]) -> Result<Vec<Table>, ReportError> {
    let mut tables = Vec::new();
    for (key, aggregate) in aggregate(records)? {
        let axes = Axes::of(records, &key);
        let rows = axes.rows(&aggregate);
        let own = rows.iter().any(|row| coordinates(&row.variant).0.is_some());
        let mut columns = vec![Column::text("model", "model"), Column::text("input", "input")];
        let implementation = Column::text("implementation", "implementation");
        let fast = rows.iter().all(|row| row.implementation == "fast");
        columns.push(if fast { implementation.machine_only() } else { implementation });
        let variant = Column::text("variant", "variant");
        columns.push(if own { variant } else { variant.machine_only() });
        columns.extend(axes.values.iter().map(|(axis, _)| Column::text(axis, axis)));
        for (metric, heading) in METRICS {
            columns.push(Column::number(metric, heading));
            columns.push(Column::number(&format!("{metric}_interval"), &format!("{heading} 95 % ±")));
        }
        columns.push(Column::number("fit_wall_seconds", "fit (s)"));
        columns.push(Column::number("fits", "fits"));
        let mut table = Table {
            title: format!("{}: sweep on {}, size {}", key.experiment, key.dataset, key.size),
            columns,
            ..Table::default()
        };
        for row in &rows {
            let (own, point) = coordinates(&row.variant);
            let variant = own.unwrap_or_default();
            let mut cells: Vec<Cell> =
                [&row.model, &row.input, &row.implementation].map(|text| Cell::Text(text.clone())).into();
            cells.push(Cell::Text(variant.to_owned()));
            for (axis, _) in &axes.values {
                let value = point.iter().find(|(name, _)| name == axis);
                cells.push(value.map_or(Cell::Absent, |(_, value)| Cell::Text((*value).to_owned())));
            }
            for (metric, _) in METRICS {
                let measured = aggregate.get(row, None, metric);
                cells.push(measured_cell(&mut table, measured, 3, "undefined"));
                cells.push(match measured.and_then(|measured| measured.summary?.interval) {
                    Some(value) => Cell::Number { value, standard_deviation: None, decimals: 3, footnote: None },
                    None => Cell::Absent,
                });
            }
            let measured = aggregate.get(row, None, "fit_wall_seconds");
            let seconds = measured.and_then(|measured| measured.summary).map_or(0.0, |summary| summary.mean);
            cells.push(measured_cell(&mut table, measured, time_decimals(seconds), "undefined"));
            cells.push(match aggregate.get(row, None, "accuracy") {
                Some(measured) => {
                    Cell::Number { value: measured.fits as f64, standard_deviation: None, decimals: 0, footnote: None }
                }
                None => Cell::Absent,
            });
            table.rows.push(cells);
        }
        table.notes.push(interval_note(&aggregate));
        tables.push(table);
    }
    Ok(tables)
}

/// The figures of a sweep, each with a name that says its axis (`over-feature.packets`): a curve with confidence bands
/// where values are numbers, marks with bars where they are names.
///
/// # Errors
/// Two records of the same value.
pub fn sweep_figures(records: &[Record]) -> Result<Vec<(String, Figure)>, ReportError> {
    let mut figures = Vec::new();
    for (key, aggregate) in aggregate(records)? {
        let drawn = RunFigures::draw(&aggregate, None).scores;
        figures.extend(drawn.into_iter().map(|(name, figure)| (format!("{}-{name}", key.experiment), figure)));
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::super::tables::tests::record;
    use super::*;

    fn records() -> Vec<Record> {
        let mut records = Vec::new();
        for (packets, score) in [(2, 0.5), (12, 0.9), (1, 0.4)] {
            for seed in 0..3 {
                for (metric, value) in [("accuracy", score), ("macro_f1", score + 0.01 * seed as f64)] {
                    let variant = format!("feature.packets={packets}");
                    records.push(record(&variant, "svm", seed, None, metric, value));
                }
            }
        }
        records
    }

    #[test]
    fn points_stand_in_the_order_of_the_file_with_their_intervals() {
        let records = records();
        assert!(is_sweep(&records));
        let table = &sweep_tables(&records).unwrap()[0];
        let column = |name: &str| table.columns.iter().position(|column| column.name == name).unwrap();
        let packets: Vec<&Cell> = table.rows.iter().map(|row| &row[column("feature.packets")]).collect();
        assert_eq!(packets, ["2", "12", "1"].map(|text| Cell::Text(text.to_owned())).iter().collect::<Vec<_>>());
        let Cell::Number { value, .. } = table.rows[0][column("macro_f1_interval")] else { panic!("no interval") };
        // Three values 0.01 apart: t(0.975, 2) x 0.01 / sqrt(3).
        assert!((value - 4.302_652_729_911_275 * 0.01 / 3_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn an_axis_has_a_figure() {
        let figures = sweep_figures(&records()).unwrap();
        let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["table3-over-feature.packets"]);
        // Three points of one model and its mark in the legend.
        assert_eq!(figures[0].1.to_svg_file().matches("fill-opacity").count(), 1);
    }
}
