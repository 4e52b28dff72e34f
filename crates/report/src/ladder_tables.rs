//! A ladder as tables and a figure: the scores of every model on every rung, the size and leaks of each rung, and the
//! loss from each step.

use super::drawing::{Figure, LadderLine, LadderPlot, LadderPoint, ladder_figure};
use super::ladder::{Ladder, LadderRow};
use super::leaks::{best_field, duplicate_share, shared_captures};
use super::{Cell, Column, Table};
use etcbench_evaluate::{DISAGREEMENT, Interval, Metric, WITHIN_CAPTURE_CORRELATION, smallest_difference};
use etcbench_experiment::{LeftOutVariant, RUNGS, Rung, SplitLeaks};

fn masks(masked: bool) -> &'static str {
    if masked { "masked" } else { "none" }
}

fn model_cells(row: &LadderRow) -> Vec<Cell> {
    vec![Cell::text(&row.model), Cell::text(&row.input), Cell::text(&row.implementation), Cell::text(masks(row.masked))]
}

fn model_columns() -> Vec<Column> {
    vec![
        Column::text("model", "model"),
        Column::text("input", "input"),
        Column::text("implementation", "implementation").machine_only(),
        Column::text("masks", "masks"),
    ]
}

/// Returns a table with a row per model with and without masks, and a column per rung.
pub(super) fn ladder_table(ladder: &Ladder, left_out: &[LeftOutVariant]) -> Table {
    let rungs = ladder.rungs();
    let mut table = Table { columns: model_columns(), ..Table::default() };
    for &rung in &rungs {
        table.columns.push(Column::text(RUNGS[rung].name, &RUNGS[rung].name.replace('_', " ")));
    }
    for row in &ladder.rows {
        let mut cells = model_cells(row);
        for &rung in &rungs {
            let score = row.rungs.iter().find(|score| score.rung == rung);
            cells.push(score.map_or(Cell::Absent, |score| {
                let interval =
                    score.interval.map_or(String::new(), |Interval { low, high }| format!(" ({low:.2} to {high:.2})"));
                Cell::Text(format!("{:.3}{interval}", score.macro_f1))
            }));
        }
        table.rows.push(cells);
    }
    let repeated = match ladder.repeats {
        1 => String::new(),
        repeats => format!(", means over {repeats} repetitions"),
    };
    table.notes.push(format!(
        "Macro F1 of all flows that {} folds test{repeated} (of one split by time and between datasets), in brackets the 95 % \
         interval of a bootstrap over captures, in which every class keeps as many as it has; there is none where a class is \
         tested on one capture alone.",
        ladder.folds
    ));
    let about: Vec<String> =
        rungs.iter().map(|&rung| format!("{}: {}", RUNGS[rung].name.replace('_', " "), RUNGS[rung].about)).collect();
    table.notes.push(format!("Rungs: {}.", about.join("; ")));
    for left in left_out {
        table.notes.push(format!("Left out, {}: {}", left.variant.replace('_', " "), left.problem));
    }
    table
}

/// Returns a table with a row per variant: its size and its leaks.
pub(super) fn rungs_table(ladder: &Ladder, leaks: &[SplitLeaks]) -> Table {
    let mut table = Table {
        columns: vec![
            Column::text("rung", "rung"),
            Column::text("masks", "masks"),
            Column::number("classes", "classes"),
            Column::number("rows", "tested"),
            Column::number("captures", "captures"),
            Column::number("duplicates", "same bytes in train (%)"),
            Column::number("capture_flows", "capture in train (%)"),
            Column::text("best_field", "best single field"),
            Column::number(Metric::MACRO_F1.key, "its macro F1"),
            Column::number("ceiling", "ceiling, bytes"),
            Column::number("smallest_difference", "can be told apart"),
        ],
        ..Table::default()
    };
    for size in &ladder.sizes {
        let Some((rung, masked)) = Rung::of_variant(&size.variant) else { continue };
        let reports: Vec<_> =
            leaks.iter().filter(|leak| leak.variant == size.variant).map(|leak| &leak.report).collect();
        let best = best_field(&reports);
        let ceiling =
            reports.first().and_then(|report| report.ceilings.iter().find(|ceiling| ceiling.input == "bytes"));
        table.rows.push(vec![
            Cell::text(rung.heading),
            Cell::text(masks(masked)),
            Cell::count(size.classes),
            Cell::count(size.rows),
            Cell::count(size.captures.len()),
            Cell::number_or_absent(duplicate_share(&reports, "bytes").map(|share| 100.0 * share), 1),
            Cell::number_or_absent(shared_captures(&reports).map(|share| 100.0 * share), 1),
            best.as_ref().map_or(Cell::Absent, |(field, _)| Cell::text(field)),
            Cell::number_or_absent(best.as_ref().map(|(_, score)| *score), 3),
            Cell::number_or_absent(ceiling.map(|ceiling| ceiling.accuracy), 3),
            Cell::number_or_absent(smallest_difference(&size.captures), 3),
        ]);
    }
    table.notes.push(
        "From the leak reports, means over the splits. Ceiling: the best accuracy that any classifier of the bytes can have, \
         since identical bytes carry different labels."
            .to_owned(),
    );
    table.notes.push(format!(
        "Can be told apart: the smallest difference in accuracy of two models that these captures show with a chance of 80 % \
         at the level of 5 %, supposing that they disagree on {:.0} % of the flows and that correctness within a capture \
         correlates by {WITHIN_CAPTURE_CORRELATION}. It follows from the design alone, before anything is fitted.",
        100.0 * DISAGREEMENT
    ));
    table
}

/// Returns a table with a row per model and rung: the score and the loss from the step, with intervals.
pub(super) fn steps_table(ladder: &Ladder) -> Table {
    let mut columns = model_columns();
    columns.push(Column::text("rung", "rung"));
    columns.push(Column::number("classes", "classes"));
    columns.push(Column::number(Metric::MACRO_F1.key, Metric::MACRO_F1.label));
    columns.push(Column::number("macro_f1_low", "from"));
    columns.push(Column::number("macro_f1_high", "to"));
    columns.push(Column::text("step_from", "step from"));
    columns.push(Column::number("loss", "takes"));
    columns.push(Column::number("loss_low", "from"));
    columns.push(Column::number("loss_high", "to"));
    let mut table = Table { columns, ..Table::default() };
    for row in &ladder.rows {
        for score in &row.rungs {
            let mut cells = model_cells(row);
            cells.push(Cell::text(RUNGS[score.rung].heading));
            cells.push(Cell::count(score.classes));
            let ends = |interval: Option<Interval>| {
                [interval.map(|interval| interval.low), interval.map(|interval| interval.high)]
            };
            let numbers = |value: f64, interval: Option<Interval>| {
                let [low, high] = ends(interval);
                [Some(value), low, high].map(|value| Cell::number_or_absent(value, 3))
            };
            cells.extend(numbers(score.macro_f1, score.interval));
            match &score.loss {
                Some(loss) => {
                    cells.push(Cell::text(RUNGS[loss.from].heading));
                    cells.extend(numbers(loss.macro_f1, loss.interval));
                }
                None => cells.extend([const { Cell::Absent }; 4]),
            }
            table.rows.push(cells);
        }
    }
    table.notes.push(
        "A step takes the macro F1 of the rung that it starts from less that of its own, over the classes that both have; \
         its interval is of the same draws of captures where both test the same captures. A step whose interval holds 0 takes nothing that shows here."
            .to_owned(),
    );
    table
}

/// Draws a line per model and a step per rung, without and with masks.
pub(super) fn figure(ladder: &Ladder, title: &str) -> Figure {
    let name = |row: &LadderRow| format!("{} · {}", row.model, row.input);
    let mut series: Vec<String> = Vec::new();
    for row in &ladder.rows {
        if !series.contains(&name(row)) {
            series.push(name(row));
        }
    }
    let rungs = ladder.rungs();
    let line = |row: &LadderRow| LadderLine {
        series: series.iter().position(|other| *other == name(row)).unwrap_or_default(),
        points: row
            .rungs
            .iter()
            .filter_map(|score| {
                let step = rungs.iter().position(|rung| *rung == score.rung)?;
                Some(LadderPoint {
                    step,
                    value: score.macro_f1,
                    interval: score.interval.map(|ends| (ends.low, ends.high)),
                })
            })
            .collect(),
    };
    let panel = |masked: bool| ladder.rows.iter().filter(|row| row.masked == masked).map(line).collect::<Vec<_>>();
    ladder_figure(&LadderPlot {
        title: title.to_owned(),
        steps: rungs.iter().map(|&rung| RUNGS[rung].heading.to_owned()).collect(),
        panels: vec![("bytes as they are".to_owned(), panel(false)), ("bytes masked".to_owned(), panel(true))],
        series,
    })
}
