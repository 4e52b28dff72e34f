//! Sweeps, from records alone: the names of variants say where on its axes a point lies. A table with a row per point
//! and model, and for each axis the curve of a metric with its confidence intervals.

use std::collections::BTreeMap;

use super::aggregate::{Aggregate, RowKey, TableKey, aggregate, model_rank};
use super::figure::{Curve, CurvePoint, Position, Series};
use super::tables::{measured_cell, time_decimals};
use super::{Cell, Column, ReportError, Table};
use crate::evaluate::Summary;
use crate::experiment::{Record, coordinates};

/// The metrics of a sweep's table, which is also what there are curves of.
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

/// One figure for each axis with more than one value and each metric: its name (`feature.packets-macro_f1`), and what
/// it shows. Where there are several axes, a line is one combination of the others.
///
/// # Errors
/// Two records of the same value.
pub fn sweep_curves(records: &[Record]) -> Result<Vec<(String, Curve)>, ReportError> {
    let mut curves = Vec::new();
    for (key, aggregate) in aggregate(records)? {
        let axes = Axes::of(records, &key);
        let rows = axes.rows(&aggregate);
        for (axis, values) in axes.values.iter().filter(|(_, values)| values.len() > 1) {
            for (metric, heading) in METRICS {
                let mut series: Vec<Series> = Vec::new();
                let mut lines: BTreeMap<String, usize> = BTreeMap::new();
                for row in &rows {
                    let (own, point) = coordinates(&row.variant);
                    let Some((_, value)) = point.iter().find(|(name, _)| name == axis) else { continue };
                    let Some(position) = values.iter().position(|known| known == value) else { continue };
                    let measured = aggregate.get(row, None, metric).and_then(|measured| measured.summary);
                    let Some(Summary { mean, interval, .. }) = measured else { continue };
                    let name = line_name(row, own, &point, axis);
                    let line = *lines.entry(name.clone()).or_insert_with(|| {
                        series.push(Series { name, points: Vec::new() });
                        series.len() - 1
                    });
                    series[line].points.push(CurvePoint { position, mean, interval });
                }
                let position = |label: &String| Position { label: label.clone(), value: label.parse().ok() };
                let curve = Curve {
                    title: format!("{} ({}, {})", key.experiment, key.dataset, key.size),
                    axis: axis.clone(),
                    metric: if metric == "macro_f1" { "macro F1".to_owned() } else { heading.to_owned() },
                    positions: values.iter().map(position).collect(),
                    series,
                    note: interval_note(&aggregate),
                };
                curves.push((format!("{}-{axis}-{metric}", key.experiment), curve));
            }
        }
    }
    Ok(curves)
}

/// What a line is: the model and its input, and whatever else its points share.
fn line_name(row: &RowKey, own: Option<&str>, point: &[(&str, &str)], axis: &str) -> String {
    let mut parts = vec![format!("{} on {}", row.model, row.input)];
    if row.implementation != "fast" {
        parts.push(row.implementation.clone());
    }
    parts.extend(own.map(str::to_owned));
    parts.extend(point.iter().filter(|(name, _)| *name != axis).map(|(name, value)| format!("{name}={value}")));
    parts.join(", ")
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
    fn a_curve_has_a_line_per_model_and_a_point_per_value() {
        let curves = sweep_curves(&records()).unwrap();
        let names: Vec<&str> = curves.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["table3-feature.packets-accuracy", "table3-feature.packets-macro_f1"]);
        let curve = &curves[1].1;
        assert_eq!(curve.series.len(), 1);
        assert_eq!(curve.series[0].points.len(), 3);
        assert_eq!(curve.positions[1].value, Some(12.0));
        assert!((curve.series[0].points[1].mean - 0.91).abs() < 1e-12);
    }
}
