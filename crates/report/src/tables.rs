//! The paper's tables, generated from records: a comparison of models, and the classes of the deep model. Variants are
//! rows below one another, to be compared down a column; published numbers, which are from other data, are a separate
//! block below all measured rows.

use super::aggregate::{Aggregate, Measured, RowKey, TableKey, aggregate};
use super::reproduced::{WITHIN_NOTE, within_cell};
use super::{Cell, Column, Possible, PublishedCell, PublishedTable, ReportError, Table};
use etcbench_evaluate::Metric;
use etcbench_experiment::{Record, TableLayout};
use etcbench_model::{Implementation, ModelKind};
use etcbench_split::SplitSummary;
use etcbench_storage::counted;

/// The `variant` of the paper's numbers.
const PUBLISHED: &str = "published";

/// Builds the tables of all experiments in `records`. The numbers of a published table are added to the tables of the
/// experiment with its name.
///
/// # Errors
/// Two records for the same value.
pub(super) fn tables(
    records: &[Record],
    layout: TableLayout,
    published: &[PublishedTable],
) -> Result<Vec<Table>, ReportError> {
    let mut tables = Vec::new();
    for (key, aggregate) in aggregate(records)? {
        let published = published.iter().find(|table| table.experiment == key.experiment);
        if layout == TableLayout::Classes {
            tables.extend(class_table(&key, &aggregate, published));
        }
        tables.push(model_table(&key, &aggregate, published));
    }
    Ok(tables)
}

/// Returns the name in records of the model whose classes the paper prints.
pub(super) fn class_table_model() -> &'static str {
    ModelKind::proposed().name()
}

fn model_table(key: &TableKey, aggregate: &Aggregate, published: Option<&PublishedTable>) -> Table {
    let rows = aggregate.rows();
    let mut table = Table {
        title: format!("{}: models on {}, size {}", key.experiment, key.dataset, key.size),
        columns: vec![
            Column::text("model", "model"),
            Column::text("input", "input"),
            shown_if_it_tells("implementation", rows.iter().all(RowKey::is_default_implementation)),
            Column::text("variant", "variant"),
            Column::metric(Metric::ACCURACY),
            Column::metric(Metric::MACRO_PRECISION),
            Column::metric(Metric::MACRO_RECALL),
            Column::metric(Metric::MACRO_F1),
            within_column(published),
            Column::metric(Metric::FIT_WALL_SECONDS),
            Column::metric(Metric::PREDICT_WALL_SECONDS),
            Column::number("seeds", "seeds").machine_only(),
        ],
        ..Table::default()
    };
    let mut models: Vec<&str> = rows.iter().map(|row| row.model.as_str()).collect();
    models.extend(published.map(PublishedTable::models).unwrap_or_default());
    models.sort_by_key(|model| (ModelKind::rank(model), *model));
    models.dedup();
    let metrics = [Metric::ACCURACY, Metric::MACRO_PRECISION, Metric::MACRO_RECALL, Metric::MACRO_F1];
    let mut block = Vec::new();
    for model in models {
        if let Some(published) = published.filter(|table| table.models().contains(&model)) {
            let mut cells = vec![Cell::Text(model.to_owned()), Cell::Absent, Cell::Absent];
            cells.push(Cell::Text(PUBLISHED.to_owned()));
            cells.extend(metrics.map(|metric| published_cell(&mut table, published.get(model, metric.key))));
            cells.extend([Cell::Absent, Cell::Absent, Cell::Absent, Cell::Absent]);
            block.push(cells);
        }
        for row in rows.iter().filter(|row| row.model == model) {
            let mut cells: Vec<Cell> =
                [&row.model, &row.input, &row.implementation, &row.variant].map(|text| Cell::Text(text.clone())).into();
            for metric in metrics {
                let mut cell = measured_cell(&mut table, aggregate.get(row, None, metric), metric, "undefined");
                if cell == Cell::Absent && has_failed(aggregate, row) {
                    cell = Cell::text("failed");
                }
                note_undefined_classes(&mut table, &mut cell, aggregate, row, metric);
                cells.push(cell);
            }
            cells.push(within_cell(aggregate, row, None, published, &metrics));
            for metric in [Metric::FIT_WALL_SECONDS, Metric::PREDICT_WALL_SECONDS] {
                cells.push(measured_cell(&mut table, aggregate.get(row, None, metric), metric, "undefined"));
            }
            cells.push(seeds_cell(aggregate, row));
            table.rows.push(cells);
        }
    }
    table.rows.extend(block);
    common_notes(&mut table, key, aggregate, published);
    table.notes.push(
        "Precision, recall and F1 are macro averages: unweighted means over the classes, an undefined value counting \
         as 0. Times are wall times of one fit and of predicting the test set."
            .to_owned(),
    );
    table
}

/// Returns `None` if the records have no fit of the model: published numbers alone are not a result.
fn class_table(key: &TableKey, aggregate: &Aggregate, published: Option<&PublishedTable>) -> Option<Table> {
    let model = class_table_model();
    let rows: Vec<RowKey> = aggregate.rows().into_iter().filter(|row| row.model == model).collect();
    let first = rows.first()?;
    let mut table = Table {
        title: format!("{}: classes of {model} on {}, size {}", key.experiment, key.dataset, key.size),
        columns: vec![
            Column::text("class", "class"),
            shown_if_it_tells("input", rows.iter().all(|row| row.input == first.input)),
            shown_if_it_tells("implementation", rows.iter().all(RowKey::is_default_implementation)),
            Column::text("variant", "variant"),
            Column::metric(Metric::PRECISION),
            Column::metric(Metric::RECALL),
            Column::metric(Metric::F1),
            within_column(published),
            Column::metric(Metric::SUPPORT),
            Column::number("seeds", "seeds").machine_only(),
        ],
        ..Table::default()
    };
    let mut classes: Vec<&str> = aggregate.classes.iter().map(String::as_str).collect();
    for class in published.map(PublishedTable::classes).unwrap_or_default() {
        if !classes.contains(&class) {
            classes.push(class);
        }
    }
    let metrics = [Metric::PRECISION, Metric::RECALL, Metric::F1];
    let mut block = Vec::new();
    for class in classes {
        if let Some(published) = published.filter(|table| table.classes().contains(&class)) {
            let mut cells = vec![Cell::Text(class.to_owned()), Cell::Absent, Cell::Absent];
            cells.push(Cell::Text(PUBLISHED.to_owned()));
            cells.extend(metrics.map(|metric| published_cell(&mut table, published.get(class, metric.key))));
            cells.extend([Cell::Absent, Cell::Absent, Cell::Absent]);
            block.push(cells);
        }
        for row in rows.iter().filter(|row| aggregate.get(row, Some(class), Metric::SUPPORT).is_some()) {
            let mut cells = vec![Cell::Text(class.to_owned())];
            cells.extend([&row.input, &row.implementation, &row.variant].map(|text| Cell::Text(text.clone())));
            for metric in metrics {
                let undefined = format!("undefined: the class {}", metric.undefined);
                cells.push(measured_cell(&mut table, aggregate.get(row, Some(class), metric), metric, &undefined));
            }
            cells.push(within_cell(aggregate, row, Some(class), published, &metrics));
            let support = aggregate.get(row, Some(class), Metric::SUPPORT);
            let varies = support
                .and_then(|support| support.summary?.standard_deviation)
                .is_some_and(|deviation| deviation > 0.0);
            cells.push(match measured_cell(&mut table, support, Metric::SUPPORT, "undefined") {
                // A mean over splits of different sizes need not be an integer.
                Cell::Number { value, standard_deviation, footnote, .. } if varies => {
                    Cell::Number { value, standard_deviation, decimals: 1, footnote }
                }
                // If all splits have the same support, a standard deviation of zero is omitted.
                Cell::Number { value, decimals, footnote, .. } => Cell::number(value, decimals).noted(footnote),
                cell => cell,
            });
            cells.push(seeds_cell(aggregate, row));
            table.rows.push(cells);
        }
    }
    table.rows.extend(block);
    common_notes(&mut table, key, aggregate, published);
    Some(table)
}

/// Returns a text column, restricted to CSV if all rows have the same value.
fn shown_if_it_tells(name: &str, same: bool) -> Column {
    let column = Column::text(name, name);
    if same { column.machine_only() } else { column }
}

fn seeds_cell(aggregate: &Aggregate, row: &RowKey) -> Cell {
    let seeds = aggregate.get(row, None, Metric::ACCURACY).map(|measured| measured.seeds);
    seeds.map_or(Cell::Absent, Cell::count)
}

/// Returns the column of published numbers within the interval over a row's seeds, restricted to CSV if nothing is
/// published.
fn within_column(published: Option<&PublishedTable>) -> Column {
    let column = Column::text("published_within", "in CI");
    if published.is_some() { column } else { column.machine_only() }
}

pub(super) fn measured_cell(table: &mut Table, measured: Option<Measured>, metric: Metric, undefined: &str) -> Cell {
    let Some(Measured { summary, fits, seeds }) = measured else { return Cell::Absent };
    let Some(summary) = summary else { return Cell::Undefined(Some(table.footnote(undefined))) };
    let footnote = (summary.count < fits).then(|| {
        let unit = if fits == seeds { "seeds" } else { "fits" };
        table.footnote(&format!("{undefined} in {} of {fits} {unit}; mean of the others", fits - summary.count))
    });
    Cell::measured(metric, &summary).noted(footnote)
}

/// Adds a footnote to a macro average in which a class without a defined value counts as 0.
fn note_undefined_classes(table: &mut Table, cell: &mut Cell, aggregate: &Aggregate, row: &RowKey, metric: Metric) {
    let Some((of_class, count)) = metric.mean_of else { return };
    let undefined = aggregate.get(row, None, *count).and_then(|measured| measured.summary);
    if let Cell::Number { footnote: footnote @ None, .. } = cell
        && undefined.is_some_and(|summary| summary.mean > 0.0)
    {
        let reason = format!("a class {}: its {} counts as 0", of_class.undefined, of_class.heading);
        *footnote = Some(table.footnote(&reason));
    }
}

fn published_cell(table: &mut Table, published: Option<&PublishedCell>) -> Cell {
    let Some(published) = published else { return Cell::Absent };
    let footnote = match published.possible {
        Possible::Yes => None,
        Possible::OnlyIf => Some(table.footnote(&format!("possible only under a condition: {}", published.note))),
        Possible::No => Some(table.footnote(&format!("impossible: {}", published.note))),
    };
    Cell::number(published.value, 3).noted(footnote)
}

fn common_notes(table: &mut Table, key: &TableKey, aggregate: &Aggregate, published: Option<&PublishedTable>) {
    pretraining_notes(table, aggregate);
    failure_notes(table, aggregate);
    if aggregate.rows().iter().any(|row| row.implementation == Implementation::IMPORTED) {
        table.notes.push(
            "Rows \"imported\" are of predictions that were made elsewhere and only scored here: what they were trained on, \
             and how long it took, is not known."
                .to_owned(),
        );
    }
    if let Some((fewest, most)) = aggregate.seeds() {
        let range = |fewest, most| if fewest == most { format!("{most}") } else { format!("{fewest} to {most}") };
        let fits = aggregate.fits().filter(|fits| *fits != (fewest, most));
        table.notes.push(match (fits, most) {
            (None, 1) => "One seed.".to_owned(),
            (None, _) => format!("Mean±sample standard deviation over {} seeds.", range(fewest, most)),
            (Some((least, largest)), _) => format!(
                "Mean±sample standard deviation over {} test sets: every fold of {}. The folds of a seed share \
                 training flows, so they vary less than new data would.",
                range(least, largest),
                if most == 1 { "one seed".to_owned() } else { format!("{} seeds", range(fewest, most)) }
            ),
        });
    }
    if published.is_some() {
        table.notes.push(format!(
            "Rows \"{PUBLISHED}\" are the numbers that the paper prints, on its own data; all others are measured here, \
             on {} in size {}.",
            key.dataset, key.size
        ));
        if aggregate.fits().is_some_and(|(_, most)| most > 1) {
            table.notes.push(WITHIN_NOTE.to_owned());
        }
    }
}

fn has_failed(aggregate: &Aggregate, row: &RowKey) -> bool {
    aggregate.of_parts(row, Metric::FAILED).next().is_some()
}

/// Adds notes on which fits failed, and how.
fn failure_notes(table: &mut Table, aggregate: &Aggregate) {
    for row in aggregate.rows() {
        let parts = aggregate.of_parts(&row, Metric::FAILED);
        let parts: Vec<(String, usize)> =
            parts.map(|(kind, measured)| (kind.replace('_', " "), measured.fits)).collect();
        let failed: usize = parts.iter().map(|(_, fits)| fits).sum();
        if failed == 0 {
            continue;
        }
        let good = aggregate.get(&row, None, Metric::ACCURACY).map_or(0, |measured| measured.fits);
        let kinds: Vec<String> = parts.iter().map(|(kind, fits)| format!("{kind} ({fits})")).collect();
        table.notes.push(format!(
            "{} ({}, {}) failed in {failed} of {} fits: {}. `failures` of run.json says more.",
            row.model,
            row.input,
            row.variant,
            failed + good,
            kinds.join(", ")
        ));
    }
}

/// Adds notes on what models were pre-trained on, unless it was the training part alone, and on whether pre-training
/// included flows that they are tested on.
fn pretraining_notes(table: &mut Table, aggregate: &Aggregate) {
    for row in aggregate.rows() {
        let mean = |measured: Measured| measured.summary.map_or(0.0, |summary| summary.mean);
        let count = |metric: Metric| aggregate.get(&row, None, metric).map_or(0.0, mean);
        let parts: Vec<String> = aggregate
            .of_parts(&row, Metric::PRETRAINING_PACKETS_OF_PART)
            .map(|(part, measured)| {
                let name = if part == "training_part" { "training part" } else { part };
                format!("{} {name}", mean(measured).round())
            })
            .collect();
        if parts.is_empty() {
            continue;
        }
        let name = format!("{} ({}, {})", row.model, row.input, row.variant);
        table.notes.push(format!("{name} was pre-trained on these packets (mean): {}.", parts.join(", ")));
        let seen = [Metric::PRETRAINING_SEEN_TEST_FLOWS, Metric::PRETRAINING_SEEN_VALIDATION_FLOWS].map(count);
        if seen != [0.0; 2] {
            table.notes.push(format!(
                "It has seen {:.1} test flows and {:.1} validation flows (means) in its pre-training: the scores of {name} \
                 may be too high.",
                seen[0], seen[1]
            ));
        }
    }
}

/// Returns a table of a split's flows by class and part, with notes on what the parts share.
pub fn split_table(summary: &SplitSummary) -> Table {
    let mut table = Table {
        title: "Flows by class and part".to_owned(),
        columns: vec![
            Column::text("class", "class"),
            Column::number("train", "train"),
            Column::number("validation", "validation"),
            Column::number("test", "test"),
        ],
        ..Table::default()
    };
    let mut total = [0; 3];
    let row = |name: &str, counts: &[usize; 3]| {
        let mut cells = vec![Cell::Text(name.to_owned())];
        cells.extend(counts.iter().map(|&count| Cell::count(count)));
        cells
    };
    for (class, counts) in summary.class_names.iter().zip(&summary.counts) {
        table.rows.push(row(class, counts));
        for (total, count) in total.iter_mut().zip(counts) {
            *total += count;
        }
    }
    table.rows.push(row("(all)", &total));
    for shared in &summary.shared {
        table.notes.push(format!(
            "{} and {}: {} in both ({} of the {} flows come from them), {} in both ({} flows).",
            shared.first.name(),
            shared.second.name(),
            counted(shared.captures.len() as u64, "capture"),
            shared.capture_flows,
            shared.second.name(),
            counted(shared.hosts as u64, "destination host"),
            shared.host_flows
        ));
    }
    table
}

#[cfg(test)]
pub(super) mod tests;
