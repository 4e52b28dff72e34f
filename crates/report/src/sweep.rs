//! Sweeps, reconstructed from records: the name of a variant contains the coordinates of its point. The table has a row
//! per point and model; [`super::run_figures`] draws the curves.

use super::aggregate::{Aggregate, aggregate};
use super::cell_text::decimals;
use super::run_figures::RunFigures;
use super::tables::measured_cell;
use super::{Cell, Column, Figure, ReportError, Table};
use etcbench_evaluate::Metric;
use etcbench_experiment::{Record, coordinates};

/// The metrics of a sweep's table.
const METRICS: [Metric; 2] = [Metric::ACCURACY, Metric::MACRO_F1];

/// Returns whether records are from a sweep.
pub(super) fn is_sweep(records: &[Record]) -> bool {
    records.iter().any(|record| !coordinates(&record.key.variant).1.is_empty())
}

/// Returns a note on what means and intervals are computed over.
fn interval_note(aggregate: &Aggregate) -> String {
    let range =
        |(fewest, most): (usize, usize)| if fewest == most { format!("{most}") } else { format!("{fewest} to {most}") };
    let count = match (aggregate.seeds(), aggregate.fits()) {
        (Some(seeds), Some(fits)) if seeds != fits => {
            format!("{} seeds ({} fits: every fold of each)", range(seeds), range(fits))
        }
        (Some((_, 1)), _) => return "One seed, so there is no interval.".to_owned(),
        (Some(seeds), _) => format!("{} seeds", range(seeds)),
        (None, _) => return String::new(),
    };
    format!("Means over {count}, with 95 % confidence intervals of the mean (Student's t).")
}

/// Returns the axes, in the order of the records.
fn axes(aggregate: &Aggregate) -> Vec<&str> {
    let mut axes: Vec<&str> = Vec::new();
    for (axis, _) in aggregate.variants.iter().flat_map(|variant| coordinates(variant).1) {
        if !axes.contains(&axis) {
            axes.push(axis);
        }
    }
    axes
}

/// Returns tables with a row per point and model, and the half width of the 95 % confidence interval after each mean;
/// one table per experiment, dataset and size.
///
/// # Errors
/// Two records for the same value.
pub(super) fn sweep_tables(records: &[Record]) -> Result<Vec<Table>, ReportError> {
    let mut tables = Vec::new();
    for (key, aggregate) in aggregate(records)? {
        let axes = axes(&aggregate);
        let rows = aggregate.rows();
        let has_base = rows.iter().any(|row| coordinates(&row.variant).0.is_some());
        let mut columns = vec![Column::text("model", "model"), Column::text("input", "input")];
        let implementation = Column::text("implementation", "implementation");
        let fast = rows.iter().all(|row| row.is_default_implementation());
        columns.push(if fast { implementation.machine_only() } else { implementation });
        let variant = Column::text("variant", "variant");
        columns.push(if has_base { variant } else { variant.machine_only() });
        columns.extend(axes.iter().map(|axis| Column::text(axis, axis)));
        for metric in METRICS {
            columns.push(Column::metric(metric));
            columns.push(Column::number(&format!("{}_interval", metric.key), &format!("{} 95 % ±", metric.heading)));
        }
        columns.push(Column::metric(Metric::FIT_WALL_SECONDS));
        columns.push(Column::number("fits", "fits"));
        let mut table = Table {
            title: format!("{}: sweep on {}, size {}", key.experiment, key.dataset, key.size),
            columns,
            ..Table::default()
        };
        for row in &rows {
            let (base, point) = coordinates(&row.variant);
            let variant = base.unwrap_or_default();
            let mut cells: Vec<Cell> =
                [&row.model, &row.input, &row.implementation].map(|text| Cell::Text(text.clone())).into();
            cells.push(Cell::Text(variant.to_owned()));
            for axis in &axes {
                let value = point.iter().find(|(name, _)| name == axis);
                cells.push(value.map_or(Cell::Absent, |(_, value)| Cell::Text((*value).to_owned())));
            }
            for metric in METRICS {
                let measured = aggregate.get(row, None, metric);
                cells.push(measured_cell(&mut table, measured, metric, "undefined"));
                let interval = measured.and_then(|measured| measured.summary?.interval);
                cells.push(interval.map_or(Cell::Absent, |value| Cell::number(value, decimals(metric, value))));
            }
            let measured = aggregate.get(row, None, Metric::FIT_WALL_SECONDS);
            cells.push(measured_cell(&mut table, measured, Metric::FIT_WALL_SECONDS, "undefined"));
            let fits = aggregate.get(row, None, Metric::ACCURACY).map(|measured| measured.fits);
            cells.push(fits.map_or(Cell::Absent, Cell::count));
            table.rows.push(cells);
        }
        table.notes.push(interval_note(&aggregate));
        tables.push(table);
    }
    Ok(tables)
}

/// Returns the curves of a sweep, each with a part of its file name; empty for other records.
///
/// # Errors
/// Two records for the same value.
pub(super) fn sweep_figures(records: &[Record]) -> Result<Vec<(String, Figure)>, ReportError> {
    if !is_sweep(records) {
        return Ok(Vec::new());
    }
    let drawn = aggregate(records)?.into_values().map(|aggregate| RunFigures::draw(&aggregate, None).scores);
    Ok(drawn.flatten().collect())
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
    fn a_sweep_has_a_curve_and_other_records_have_none() {
        let names: Vec<String> = sweep_figures(&records()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["over-feature.packets"]);
        let other = [record("random_split", "svm", 0, None, "macro_f1", 0.5)];
        assert!(sweep_figures(&other).unwrap().is_empty() && !is_sweep(&other));
    }
}
