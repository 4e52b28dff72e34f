//! Predictions under the conditions of `[evaluation]` as readable output: a table per kind of condition, curves over
//! packets, and heat maps of the loss from zeroed bytes.

use std::path::Path;

use super::drawing::{Curve, CurvePoint, Curves, Figure, HeatMap, curves, heat_map};
use super::{Cell, Column, ReportError, Table, file_error};
use etcbench_evaluate::{Metric, Summary};
use etcbench_experiment::{EvaluationKind, MEDIAN_WAIT_SECONDS, TEMPERATURE};

/// A line of `evaluation.csv`.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct EvaluationLine {
    /// Variant of the experiment.
    pub variant: String,
    /// The model.
    pub model: String,
    /// What it reads.
    pub input: String,
    /// `fast`, `reference` or `external`.
    pub implementation: String,
    /// Seed of the run.
    pub seed: u64,
    /// The fold, from 0.
    pub fold: usize,
    /// Kind of the condition.
    pub kind: EvaluationKind,
    /// Name of the condition among those of its kind.
    pub condition: String,
    /// Name of the metric.
    pub metric: String,
    /// Its value.
    pub value: f64,
}

/// The title and note of the tables of a kind.
struct Words {
    kind: EvaluationKind,
    title: &'static str,
    note: &'static str,
}

const KINDS: [Words; 9] = [
    Words {
        kind: EvaluationKind::FirstPackets,
        title: "predictions after the first packets",
        note: "Macro F1 of one model after 1, 2, ... packets of each test flow, and with all packets that it reads.",
    },
    Words {
        kind: EvaluationKind::Masked,
        title: "fields masked in test flows only",
        note: "Macro F1 of one model, with one mask on the test flows in addition to those of training.",
    },
    Words {
        kind: EvaluationKind::ZeroedBytes,
        title: "bytes zeroed in test flows only",
        note: "Macro F1 of one model, with a run of bytes of one packet zeroed in the test flows.",
    },
    Words {
        kind: EvaluationKind::Occluded,
        title: "lengths, times and directions occluded in test flows only",
        note: "Macro F1 of one model on test flows in whose packet sequences and statistics a quantity has its mean over \
               the training flows (directions: all forward). Models that read none of these are left out.",
    },
    Words {
        kind: EvaluationKind::Disturbed,
        title: "disturbed traffic",
        note: "Macro F1 of one model on test flows whose traffic is disturbed, within the packets that flows keep. \
               Models that read statistics of whole flows are left out.",
    },
    Words {
        kind: EvaluationKind::Unknown,
        title: "classes unseen in training",
        note: "Test flows of the known classes against flows of the unknown ones. The threshold of the last three \
               columns accepts 95 % of the validation flows; rejected flows are a separate class in macro F1.",
    },
    Words {
        kind: EvaluationKind::Calibration,
        title: "calibration",
        note: "Before and after scaling by the temperature with the lowest log loss on the validation flows.",
    },
    Words {
        kind: EvaluationKind::EarlyDecision,
        title: "early decisions at a confidence threshold",
        note: "A flow is classified at the first packet at which the highest probability reaches the threshold, or at \
               the last packet that the model reads if none does.",
    },
    Words {
        kind: EvaluationKind::Drift,
        title: "drift over time",
        note: "Macro F1 on the test flows of a split by time, in periods from the earliest, class by class.",
    },
];

/// Returns the title of a kind's table.
pub(super) fn title_of(kind: EvaluationKind) -> &'static str {
    KINDS.iter().find(|words| words.kind == kind).map_or("", |words| words.title)
}

/// Reads a run's `evaluation.csv`; returns no lines if the file does not exist.
///
/// # Errors
/// The file cannot be read, or has an invalid line.
pub fn read_evaluation(run: &Path) -> Result<Vec<EvaluationLine>, ReportError> {
    let path = run.join("evaluation.csv");
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let mut reader = csv::Reader::from_path(&path).map_err(|problem| file_error(&path, problem))?;
    reader.deserialize().collect::<Result<_, _>>().map_err(|problem| file_error(&path, problem))
}

/// A row of a table: variant, model, input, implementation.
type Row<'a> = [&'a str; 4];

fn row(line: &EvaluationLine) -> Row<'_> {
    [&line.variant, &line.model, &line.input, &line.implementation]
}

fn in_order<'a, T: PartialEq>(values: impl Iterator<Item = T> + 'a) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

fn summary(lines: &[&EvaluationLine], row_of: &Row<'_>, condition: &str, metric: &str) -> Option<Summary> {
    let matching =
        |line: &&&EvaluationLine| row(line) == *row_of && line.condition == condition && line.metric == metric;
    Summary::of(&lines.iter().filter(matching).map(|line| line.value).collect::<Vec<_>>())
}

/// Returns the tables of an evaluation, one per kind.
pub(super) fn evaluation_tables(lines: &[EvaluationLine]) -> Vec<(EvaluationKind, Table)> {
    let tables = KINDS.iter().filter_map(|words| {
        let of_kind: Vec<&EvaluationLine> = lines.iter().filter(|line| line.kind == words.kind).collect();
        (!of_kind.is_empty()).then(|| (words.kind, table(words, &of_kind)))
    });
    tables.collect()
}

fn table(words: &Words, lines: &[&EvaluationLine]) -> Table {
    let rows = in_order(lines.iter().map(|line| row(line)));
    let conditions = in_order(lines.iter().map(|line| line.condition.as_str()));
    let metrics = in_order(lines.iter().map(|line| line.metric.as_str()));
    let several = in_order(rows.iter().map(|row| row[0])).len() > 1;
    let variant = Column::text("variant", "variant");
    let mut table = Table {
        columns: vec![
            if several { variant } else { variant.machine_only() },
            Column::text("model", "model"),
            Column::text("input", "input"),
            Column::text("implementation", "implementation").machine_only(),
        ],
        notes: vec![words.note.to_owned()],
        ..Table::default()
    };
    let heading = |text: &str| text.replace('_', " ");
    match words.kind {
        EvaluationKind::Unknown => {
            table.columns.push(Column::text("score", "score"));
            table.columns.extend(metrics.iter().map(|metric| Column::number(metric, &heading(metric))));
            for row in &rows {
                for condition in &conditions {
                    let mut cells: Vec<Cell> = row.iter().map(|text| Cell::text(*text)).collect();
                    cells.push(Cell::text(heading(condition)));
                    cells.extend(metrics.iter().map(|metric| cell(summary(lines, row, condition, metric))));
                    table.rows.push(cells);
                }
            }
        }
        EvaluationKind::Calibration | EvaluationKind::EarlyDecision => {
            let columns: Vec<(&str, &str)> = metrics
                .iter()
                .flat_map(|metric| conditions.iter().map(move |condition| (*metric, *condition)))
                .filter(|(metric, condition)| {
                    lines.iter().any(|line| line.metric == *metric && line.condition == *condition)
                })
                .collect();
            for (metric, condition) in &columns {
                let text = match *metric {
                    TEMPERATURE => heading(metric),
                    _ => heading(&format!("{metric}, {condition}")),
                };
                table.columns.push(Column::number(&format!("{metric}_{condition}"), &text));
            }
            for row in &rows {
                let mut cells: Vec<Cell> = row.iter().map(|text| Cell::text(*text)).collect();
                cells.extend(columns.iter().map(|(metric, condition)| cell(summary(lines, row, condition, metric))));
                table.rows.push(cells);
            }
        }
        _ => {
            let named = |condition: &str| match (words.kind, condition) {
                (EvaluationKind::FirstPackets, "none") => "all".to_owned(),
                _ => heading(condition),
            };
            table.columns.extend(conditions.iter().map(|condition| Column::number(condition, &named(condition))));
            for row in &rows {
                let mut cells: Vec<Cell> = row.iter().map(|text| Cell::text(*text)).collect();
                let scores =
                    conditions.iter().map(|condition| cell(summary(lines, row, condition, Metric::MACRO_F1.key)));
                cells.extend(scores);
                table.rows.push(cells);
            }
        }
    }
    if words.kind == EvaluationKind::FirstPackets {
        table.notes.extend(waits(lines, &conditions));
    }
    table
}

fn cell(summary: Option<Summary>) -> Cell {
    summary.map_or(Cell::Absent, |summary| Cell::summary(&summary, 3))
}

/// Returns a note on the median time until the given number of packets has arrived, if known.
fn waits(lines: &[&EvaluationLine], conditions: &[&str]) -> Option<String> {
    let medians = conditions.iter().filter_map(|condition| {
        let matching = lines.iter().filter(|line| line.condition == *condition && line.metric == MEDIAN_WAIT_SECONDS);
        let seconds = Summary::of(&matching.map(|line| line.value).collect::<Vec<_>>())?.mean;
        Some(format!("{condition}: {:.1} ms", 1000.0 * seconds))
    });
    let medians: Vec<String> = medians.collect();
    (!medians.is_empty())
        .then(|| format!("Median time from a flow's first packet to the last one seen: {}.", medians.join(", ")))
}

/// Returns curves over packets and, per model, a heat map of the loss from zeroed bytes, each with a file name.
pub(super) fn evaluation_figures(lines: &[EvaluationLine], title: &str) -> Vec<(String, Figure)> {
    let mut figures = Vec::new();
    let of_kind =
        |kind: EvaluationKind| lines.iter().filter(|line| line.kind == kind).collect::<Vec<&EvaluationLine>>();
    let early = of_kind(EvaluationKind::FirstPackets);
    for variant in in_order(early.iter().map(|line| line.variant.as_str())) {
        let of_variant: Vec<&EvaluationLine> = early.iter().copied().filter(|line| line.variant == variant).collect();
        let rows = in_order(of_variant.iter().map(|line| row(line)));
        let counts: Vec<usize> = in_order(of_variant.iter().filter_map(|line| line.condition.parse().ok()));
        let curve = |(series, row): (usize, &Row<'_>)| Curve {
            series,
            points: counts
                .iter()
                .filter_map(|count| {
                    let found = summary(&of_variant, row, &count.to_string(), Metric::MACRO_F1.key)?;
                    Some(CurvePoint { x: *count as f64, y: found.mean, interval: found.interval })
                })
                .collect(),
        };
        let figure = curves(&Curves {
            title: format!("{title}: {} ({variant})", title_of(EvaluationKind::FirstPackets)),
            x_axis: "packets seen".to_owned(),
            y_axis: Metric::MACRO_F1.label.to_owned(),
            series: rows.iter().map(|row| format!("{} · {}", row[1], row[2])).collect(),
            curves: rows.iter().enumerate().map(curve).collect(),
            at_points: true,
            shares: true,
        });
        figures.push((format!("first_packets-{variant}"), figure));
    }
    let zeroed = of_kind(EvaluationKind::ZeroedBytes);
    for row in in_order(zeroed.iter().map(|line| row(line))) {
        let Some(whole) = summary(&zeroed, &row, "none", Metric::MACRO_F1.key) else { continue };
        let mut cells: Vec<(usize, usize, f64)> = Vec::new();
        for condition in in_order(zeroed.iter().map(|line| line.condition.as_str())) {
            let place = condition.strip_prefix("packet").and_then(|rest| {
                let (packet, range) = rest.split_once("_bytes")?;
                Some((packet.parse::<usize>().ok()?, range.split_once("_to_")?.0.parse::<usize>().ok()?))
            });
            if let (Some((packet, from)), Some(found)) =
                (place, summary(&zeroed, &row, condition, Metric::MACRO_F1.key))
            {
                cells.push((packet, from, whole.mean - found.mean));
            }
        }
        let figure = heat_map(&HeatMap {
            title: format!("{title}: {} · {}, macro F1 lost by zeroing bytes ({})", row[1], row[2], row[0]),
            y_axis: "packet".to_owned(),
            x_axis: "first byte".to_owned(),
            cells,
        });
        figures.push((format!("zeroed_bytes-{}-{}-{}", row[1], row[2], row[0]), figure));
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: EvaluationKind, condition: &str, metric: &str, value: f64) -> EvaluationLine {
        let text = |text: &str| text.to_owned();
        EvaluationLine {
            variant: text("random_split"),
            model: text("svm"),
            input: text("bytes"),
            implementation: text("fast"),
            seed: 0,
            fold: 0,
            kind,
            condition: text(condition),
            metric: text(metric),
            value,
        }
    }

    #[test]
    fn files_and_table_name_a_kind_alike() {
        for words in &KINDS {
            let read: EvaluationKind = serde_json::from_value(words.kind.name().into()).unwrap();
            assert_eq!(read, words.kind);
            assert_eq!(title_of(read), words.title);
        }
    }

    #[test]
    fn tables_have_a_column_per_condition_and_curves_a_point() {
        let mut lines = vec![line(EvaluationKind::FirstPackets, "none", "macro_f1", 0.9)];
        for (packets, value) in [("1", 0.4), ("2", 0.8)] {
            lines.push(line(EvaluationKind::FirstPackets, packets, "macro_f1", value));
            lines.push(line(EvaluationKind::FirstPackets, packets, "median_wait_seconds", 0.0125));
        }
        for (condition, value) in [("none", 0.9), ("packet1_bytes0_to_16", 0.5), ("packet2_bytes16_to_32", 0.95)] {
            lines.push(line(EvaluationKind::ZeroedBytes, condition, "macro_f1", value));
        }
        lines.push(line(EvaluationKind::Calibration, "before", "log_loss", 0.5));
        lines.push(line(EvaluationKind::Calibration, "after", "log_loss", 0.4));
        lines.push(line(EvaluationKind::Calibration, "after", "temperature", 1.5));
        lines.push(line(EvaluationKind::Unknown, "maximum_probability", "roc_auc", 0.75));
        let tables = evaluation_tables(&lines);
        let kinds: Vec<&str> = tables.iter().map(|(kind, _)| kind.name()).collect();
        assert_eq!(kinds, ["first_packets", "zeroed_bytes", "unknown", "calibration"]);
        let markdown = tables[0].1.to_markdown();
        assert!(markdown.contains("| svm   | bytes | 0.900 | 0.400 | 0.800 |"), "{markdown}");
        assert!(markdown.contains("1: 12.5 ms, 2: 12.5 ms"), "{markdown}");
        assert!(tables[3].1.to_markdown().contains("log loss, before"), "{}", tables[3].1.to_markdown());
        let figures = evaluation_figures(&lines, "t");
        let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["first_packets-random_split", "zeroed_bytes-svm-bytes-random_split"]);
        let drawn = figures[1].1.to_svg_file();
        assert!(drawn.contains("0.400") && drawn.contains("-0.050"), "{drawn}");
    }
}
