//! The cost of decisions, measured if `[evaluation] cost` is set: a table of times, energy and memory by batch size,
//! and a figure of macro F1 over the time of a decision with its Pareto front.

use super::aggregate::{Aggregate, RowKey, aggregate};
use super::drawing::{Figure, ScatterPoint, scatter};
use super::{Cell, Column, ReportError, Table};
use etcbench_evaluate::Metric;
use etcbench_experiment::Record;

/// A table, and figures with the names of their files.
type Costs = (Table, Vec<(String, Figure)>);

/// The metric on the horizontal axis of the figure.
const COST: Metric = Metric::DECISION_1_MICROSECONDS;

fn mean(aggregate: &Aggregate, row: &RowKey, metric: Metric) -> Option<f64> {
    Some(aggregate.get(row, None, metric)?.summary?.mean)
}

/// Returns the rows whose decisions were measured.
fn measured(aggregate: &Aggregate) -> Vec<RowKey> {
    aggregate.rows().into_iter().filter(|row| mean(aggregate, row, COST).is_some()).collect()
}

/// Returns the table of a run and, for each variant, its figure with a file name; `None` if nothing was measured.
///
/// # Errors
/// Records that contradict one another.
pub(super) fn decision_costs(records: &[Record], title: &str) -> Result<Option<Costs>, ReportError> {
    let Some(aggregate) = aggregate(records)?.into_values().next() else { return Ok(None) };
    let rows = measured(&aggregate);
    if rows.is_empty() {
        return Ok(None);
    }
    let shown = |metric: &Metric| rows.iter().any(|row| mean(&aggregate, row, *metric).is_some());
    let times = Metric::DECISIONS.iter().flatten().copied().chain([Metric::DECISION_MEMORY_BYTES]);
    let metrics: Vec<Metric> = times.filter(shown).collect();
    let energy = Metric::DECISIONS.iter().any(|[.., joules]| shown(joules));
    let mut table = Table {
        columns: vec![
            Column::number("row", "row"),
            Column::text("model", "model"),
            Column::text("input", "input"),
            Column::text("variant", "variant"),
        ],
        ..Table::default()
    };
    table.columns.push(Column::metric(Metric::MACRO_F1));
    table.columns.extend(metrics.iter().copied().map(Column::metric));
    for (place, row) in rows.iter().enumerate() {
        let mut cells = vec![Cell::number((place + 1) as f64, 0)];
        cells.extend([&row.model, &row.input, &row.variant].map(|text| Cell::Text(text.clone())));
        for &metric in [Metric::MACRO_F1].iter().chain(&metrics) {
            let summary = aggregate.get(row, None, metric).and_then(|measured| measured.summary);
            cells.push(summary.map_or(Cell::Absent, |summary| Cell::measured(metric, &summary)));
        }
        table.rows.push(cells);
    }
    table.notes.push(
        "Time per flow from features in memory to probabilities, by batch size: median and 99th percentile of many \
         calls on this machine, including the effects of other load. Feature extraction is not included."
            .to_owned(),
    );
    table.notes.push(
        "Memory is what the loaded model uses after its first prediction; an external model runs in its own process \
         and is not measured."
            .to_owned(),
    );
    if !energy {
        table.notes.push("Energy was not measured: this machine has no readable energy counter.".to_owned());
    }
    let mut variants: Vec<&str> = Vec::new();
    for row in &rows {
        if !variants.contains(&row.variant.as_str()) {
            variants.push(&row.variant);
        }
    }
    let figure = |variant: &&str| {
        let of_variant = rows.iter().enumerate().filter(|(_, row)| row.variant == *variant);
        let point = |(place, row): (usize, &RowKey)| {
            let (cost, score) = (mean(&aggregate, row, COST)?, mean(&aggregate, row, Metric::MACRO_F1)?);
            Some(ScatterPoint { number: place + 1, name: row.model_name(), cost, score })
        };
        let points: Vec<ScatterPoint> = of_variant.filter_map(point).collect();
        let title = format!("{title}: cost of a decision ({variant}); numbers refer to the table's rows");
        let cost = "microseconds per decision, one flow at a time";
        (format!("cost-{variant}"), scatter(title, cost, Metric::MACRO_F1.label, &points))
    };
    let figures = variants.iter().map(figure).collect();
    Ok(Some((table, figures)))
}
