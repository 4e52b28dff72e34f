//! The paper's tables, made from records: models against one another, and the classes of the deep model.
//! Variants and published numbers are rows below one another, so that one looks down a column to compare.

use serde::{Deserialize, Serialize};

use super::aggregate::{Aggregate, Measured, RowKey, TableKey, aggregate, model_rank};
use super::{Cell, Column, Possible, PublishedCell, PublishedTable, ReportError, Table};
use crate::experiment::Record;
use crate::split::SplitSummary;

/// The model whose classes the paper prints, by its name in records.
const CLASS_TABLE_MODEL: &str = "attention_lstm";

/// What stands in the `variant` column of the paper's numbers.
const PUBLISHED: &str = "published";

/// Which tables an experiment becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableLayout {
    /// As table 1: one row per model.
    #[default]
    Models,
    /// As tables 2 to 5: one row per class of the deep model, then one row per model.
    Classes,
}

/// Makes the tables of all experiments in `records`. The numbers of a published table stand in the tables
/// of the experiment that has its name.
///
/// # Errors
/// Two records of the same value.
pub fn tables(
    records: &[Record],
    layout: TableLayout,
    published: &[PublishedTable],
) -> Result<Vec<Table>, ReportError> {
    let mut tables = Vec::new();
    for (key, aggregate) in aggregate(records)? {
        let published = published.iter().find(|table| table.experiment == key.experiment);
        if layout == TableLayout::Classes {
            tables.push(class_table(&key, &aggregate, published));
        }
        tables.push(model_table(&key, &aggregate, published));
    }
    Ok(tables)
}

fn model_table(key: &TableKey, aggregate: &Aggregate, published: Option<&PublishedTable>) -> Table {
    let rows = aggregate.rows();
    let mut table = Table {
        title: format!("{}: models on {}, size {}", key.experiment, key.dataset, key.size),
        columns: vec![
            Column::text("model", "model"),
            Column::text("input", "input"),
            implementation_column(&rows),
            Column::text("variant", "variant"),
            Column::number("accuracy", "accuracy"),
            Column::number("macro_precision", "precision"),
            Column::number("macro_recall", "recall"),
            Column::number("macro_f1", "F1"),
            Column::number("fit_wall_seconds", "fit (s)"),
            Column::number("predict_wall_seconds", "predict (s)"),
            Column::number("seeds", "seeds").machine_only(),
        ],
        ..Table::default()
    };
    let mut models: Vec<&str> = rows.iter().map(|row| row.model.as_str()).collect();
    models.extend(published.map(PublishedTable::models).unwrap_or_default());
    models.sort_by_key(|model| (model_rank(model), *model));
    models.dedup();
    let metrics = ["accuracy", "macro_precision", "macro_recall", "macro_f1"];
    for model in models {
        if let Some(published) = published.filter(|table| table.models().contains(&model)) {
            let mut cells = vec![Cell::Text(model.to_owned()), Cell::Absent, Cell::Absent];
            cells.push(Cell::Text(PUBLISHED.to_owned()));
            cells.extend(metrics.map(|metric| published_cell(&mut table, published.get(model, metric))));
            cells.extend([Cell::Absent, Cell::Absent, Cell::Absent]);
            table.rows.push(cells);
        }
        for row in rows.iter().filter(|row| row.model == model) {
            let mut cells: Vec<Cell> =
                [&row.model, &row.input, &row.implementation, &row.variant].map(|text| Cell::Text(text.clone())).into();
            for metric in metrics {
                let mut cell = measured_cell(&mut table, aggregate.get(row, None, metric), 3, "undefined");
                note_undefined_classes(&mut table, &mut cell, aggregate, row, metric);
                cells.push(cell);
            }
            for metric in ["fit_wall_seconds", "predict_wall_seconds"] {
                let measured = aggregate.get(row, None, metric);
                let seconds = measured.and_then(|measured| measured.summary).map_or(0.0, |summary| summary.mean);
                cells.push(measured_cell(&mut table, measured, time_decimals(seconds), "undefined"));
            }
            cells.push(seeds_cell(aggregate, row));
            table.rows.push(cells);
        }
    }
    common_notes(&mut table, key, aggregate, published);
    table.notes.push(
        "Precision, recall and F1 are macro averages: unweighted means over the classes, an undefined value counting \
         as 0. Times are wall times of one fit and of predicting the test set."
            .to_owned(),
    );
    table
}

fn class_table(key: &TableKey, aggregate: &Aggregate, published: Option<&PublishedTable>) -> Table {
    let rows: Vec<RowKey> = aggregate.rows().into_iter().filter(|row| row.model == CLASS_TABLE_MODEL).collect();
    let mut table = Table {
        title: format!("{}: classes of {CLASS_TABLE_MODEL} on {}, size {}", key.experiment, key.dataset, key.size),
        columns: vec![
            Column::text("class", "class"),
            Column::text("input", "input").machine_only(),
            implementation_column(&rows),
            Column::text("variant", "variant"),
            Column::number("precision", "precision"),
            Column::number("recall", "recall"),
            Column::number("f1", "F1"),
            Column::number("support", "support"),
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
    let metrics = [
        ("precision", "undefined: the class was never predicted"),
        ("recall", "undefined: the class has no test flow"),
        ("f1", "undefined: the class has no test flow and was never predicted"),
    ];
    for class in classes {
        if let Some(published) = published.filter(|table| table.classes().contains(&class)) {
            let mut cells = vec![Cell::Text(class.to_owned()), Cell::Absent, Cell::Absent];
            cells.push(Cell::Text(PUBLISHED.to_owned()));
            cells.extend(metrics.map(|(metric, _)| published_cell(&mut table, published.get(class, metric))));
            cells.extend([Cell::Absent, Cell::Absent]);
            table.rows.push(cells);
        }
        for row in rows.iter().filter(|row| aggregate.get(row, Some(class), "support").is_some()) {
            let mut cells = vec![Cell::Text(class.to_owned())];
            cells.extend([&row.input, &row.implementation, &row.variant].map(|text| Cell::Text(text.clone())));
            for (metric, undefined) in metrics {
                cells.push(measured_cell(&mut table, aggregate.get(row, Some(class), metric), 3, undefined));
            }
            let support = aggregate.get(row, Some(class), "support");
            let varies = support
                .and_then(|support| support.summary?.standard_deviation)
                .is_some_and(|deviation| deviation > 0.0);
            cells.push(match measured_cell(&mut table, support, usize::from(varies), "undefined") {
                // Splits of one data set have one support; a zero after it would only be in the way.
                Cell::Number { value, decimals, footnote, .. } if !varies => {
                    Cell::Number { value, standard_deviation: None, decimals, footnote }
                }
                cell => cell,
            });
            cells.push(seeds_cell(aggregate, row));
            table.rows.push(cells);
        }
    }
    common_notes(&mut table, key, aggregate, published);
    if rows.is_empty() {
        table.notes.push(format!("These records have no run of {CLASS_TABLE_MODEL}."));
    }
    table
}

/// Shown only where not all rows are of the default implementation.
fn implementation_column(rows: &[RowKey]) -> Column {
    let column = Column::text("implementation", "implementation");
    if rows.iter().all(|row| row.implementation == "fast") { column.machine_only() } else { column }
}

fn seeds_cell(aggregate: &Aggregate, row: &RowKey) -> Cell {
    match aggregate.get(row, None, "accuracy") {
        Some(measured) => number(measured.seeds as f64, 0),
        None => Cell::Absent,
    }
}

fn number(value: f64, decimals: usize) -> Cell {
    Cell::Number { value, standard_deviation: None, decimals, footnote: None }
}

fn measured_cell(table: &mut Table, measured: Option<Measured>, decimals: usize, undefined: &str) -> Cell {
    let Some(Measured { summary, seeds }) = measured else { return Cell::Absent };
    let Some(summary) = summary else { return Cell::Undefined(Some(table.footnote(undefined))) };
    let footnote = (summary.count < seeds).then(|| {
        table.footnote(&format!("{undefined} in {} of {seeds} seeds; mean of the others", seeds - summary.count))
    });
    Cell::Number { value: summary.mean, standard_deviation: summary.standard_deviation, decimals, footnote }
}

/// Marks a macro average in which a class without a defined value counts as 0.
fn note_undefined_classes(table: &mut Table, cell: &mut Cell, aggregate: &Aggregate, row: &RowKey, metric: &str) {
    let (count, reason) = match metric {
        "macro_precision" => ("undefined_precision_classes", "a class was never predicted: its precision counts as 0"),
        "macro_recall" => ("undefined_recall_classes", "a class has no test flow: its recall counts as 0"),
        "macro_f1" => ("undefined_f1_classes", "a class has no test flow and was never predicted: its F1 counts as 0"),
        _ => return,
    };
    let undefined = aggregate.get(row, None, count).and_then(|measured| measured.summary);
    if let Cell::Number { footnote: footnote @ None, .. } = cell
        && undefined.is_some_and(|summary| summary.mean > 0.0)
    {
        *footnote = Some(table.footnote(reason));
    }
}

fn published_cell(table: &mut Table, published: Option<&PublishedCell>) -> Cell {
    let Some(published) = published else { return Cell::Absent };
    let footnote = match published.possible {
        Possible::Yes => None,
        Possible::OnlyIf => Some(table.footnote(&format!("possible only under a condition: {}", published.note))),
        Possible::No => Some(table.footnote(&format!("impossible: {}", published.note))),
    };
    Cell::Number { value: published.value, standard_deviation: None, decimals: 3, footnote }
}

/// Three digits that matter, at most three decimals.
fn time_decimals(seconds: f64) -> usize {
    match seconds {
        _ if seconds >= 100.0 => 0,
        _ if seconds >= 10.0 => 1,
        _ if seconds >= 1.0 => 2,
        _ => 3,
    }
}

fn common_notes(table: &mut Table, key: &TableKey, aggregate: &Aggregate, published: Option<&PublishedTable>) {
    match aggregate.seeds() {
        Some((1, 1)) => table.notes.push("One seed.".to_owned()),
        Some((fewest, most)) => {
            let seeds = if fewest == most { format!("{most}") } else { format!("{fewest} to {most}") };
            table.notes.push(format!("Mean±sample standard deviation over {seeds} seeds."));
        }
        None => {}
    }
    if published.is_some() {
        table.notes.push(format!(
            "Rows \"{PUBLISHED}\" are the numbers that the paper prints, on its own data; all others are measured here, \
             on {} in size {}.",
            key.dataset, key.size
        ));
    }
}

/// Flows of a split by class and part, with notes on what the parts share.
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
        cells.extend(counts.iter().map(|&count| number(count as f64, 0)));
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
            "{} and {}: {} captures in both ({} of the {} flows come from them), {} destination hosts in both ({} flows).",
            shared.first.name(),
            shared.second.name(),
            shared.captures.len(),
            shared.capture_flows,
            shared.second.name(),
            shared.hosts,
            shared.host_flows
        ));
    }
    table
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;
    use crate::experiment::RunKey;

    /// One record of experiment `table3`.
    pub fn record(variant: &str, model: &str, seed: u64, class: Option<&str>, metric: &str, value: f64) -> Record {
        Record {
            key: RunKey {
                experiment: "table3".to_owned(),
                dataset: "iscxvpn2016".to_owned(),
                size: "full".to_owned(),
                variant: variant.to_owned(),
                model: model.to_owned(),
                input: "bytes".to_owned(),
                implementation: "fast".to_owned(),
                seed,
            },
            class: class.map(str::to_owned),
            predicted: None,
            metric: metric.to_owned(),
            value: Some(value),
        }
    }

    fn published(experiment: &str) -> PublishedTable {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("paper/published");
        PublishedTable::read(&folder, experiment).unwrap().unwrap()
    }

    fn model_records(variant: &str, model: &str, seed: u64, accuracy: f64) -> Vec<Record> {
        ["accuracy", "macro_precision", "macro_recall", "macro_f1"]
            .iter()
            .enumerate()
            .map(|(index, metric)| (*metric, accuracy - index as f64 / 100.0))
            .chain([("fit_wall_seconds", 1000.0 * accuracy), ("predict_wall_seconds", accuracy)])
            .map(|(metric, value)| record(variant, model, seed, None, metric, value))
            .collect()
    }

    fn seeded_records() -> Vec<Record> {
        let mut records = Vec::new();
        for seed in 0..2 {
            let change = seed as f64 / 50.0;
            for model in ["attention_lstm", "svm"] {
                records.extend(model_records("as_published", model, seed, 0.9 + change));
                records.extend(model_records("without_shortcuts", model, seed, 0.7 + change));
            }
            for variant in ["as_published", "without_shortcuts"] {
                for (class, precision) in [("voip", 0.5), ("chat", 0.75)] {
                    records.push(record(variant, "attention_lstm", seed, Some(class), "precision", precision + change));
                    records.push(record(variant, "attention_lstm", seed, Some(class), "recall", 0.25));
                    records.push(record(variant, "attention_lstm", seed, Some(class), "f1", 0.3 + change));
                    records.push(record(variant, "attention_lstm", seed, Some(class), "support", 40.0));
                }
            }
        }
        records
    }

    #[test]
    fn tables_show_models_variants_and_published_numbers() {
        let mut records = seeded_records();
        records.reverse();
        records.sort_by_key(|record| record.class.as_deref() == Some("chat"));
        let tables = tables(&records, TableLayout::Classes, &[published("table3")]).unwrap();
        assert_eq!(tables.len(), 2);
        let classes = "\
**table3: classes of attention_lstm on iscxvpn2016, size full**

| class     | variant           |   precision |      recall |          F1 | support |
| --------- | ----------------- | ----------: | ----------: | ----------: | ------: |
| voip      | published         |       0.898 |       0.902 |       0.900 |         |
| voip      | as_published      | 0.510±0.014 | 0.250±0.000 | 0.310±0.014 |      40 |
| voip      | without_shortcuts | 0.510±0.014 | 0.250±0.000 | 0.310±0.014 |      40 |
| chat      | published         |       0.956 |       0.892 |       0.923 |         |
| chat      | as_published      | 0.760±0.014 | 0.250±0.000 | 0.310±0.014 |      40 |
| chat      | without_shortcuts | 0.760±0.014 | 0.250±0.000 | 0.310±0.014 |      40 |
| filetrans | published         |       0.923 |       0.874 |       0.898 |         |
| video     | published         |       0.967 |       0.936 |       0.951 |         |

- Mean±sample standard deviation over 2 seeds.
- Rows \"published\" are the numbers that the paper prints, on its own data; all others are measured here, on \
iscxvpn2016 in size full.
";
        assert_eq!(tables[0].to_markdown(), classes);
        let models = "\
**table3: models on iscxvpn2016, size full**

| model          | input | variant           |    accuracy |   precision |      recall |          F1 | fit (s) | predict (s) |
| -------------- | ----- | ----------------- | ----------: | ----------: | ----------: | ----------: | ------: | ----------: |
| svm            | bytes | as_published      | 0.910±0.014 | 0.900±0.014 | 0.890±0.014 | 0.880±0.014 |  910±14 | 0.910±0.014 |
| svm            | bytes | without_shortcuts | 0.710±0.014 | 0.700±0.014 | 0.690±0.014 | 0.680±0.014 |  710±14 | 0.710±0.014 |
| attention_lstm |       | published         |   0.942 [a] |             |             |             |         |             |
| attention_lstm | bytes | as_published      | 0.910±0.014 | 0.900±0.014 | 0.890±0.014 | 0.880±0.014 |  910±14 | 0.910±0.014 |
| attention_lstm | bytes | without_shortcuts | 0.710±0.014 | 0.700±0.014 | 0.690±0.014 | 0.680±0.014 |  710±14 | 0.710±0.014 |
";
        let markdown = tables[1].to_markdown();
        assert!(markdown.starts_with(models), "{markdown}");
        assert!(markdown.contains("- [a] impossible: accuracy cannot exceed the largest recall, here 0.936\n"));
        assert!(markdown.lines().all(|line| !line.starts_with('|') || line.chars().count() <= 140));
        assert!(tables[1].to_latex().contains("attention\\_lstm &  & published & $0.942$\\textsuperscript{a} & "));
    }

    #[test]
    fn table_1_of_the_paper_fits_a_page() {
        let mut records = Vec::new();
        for (seed, model) in [0, 1].into_iter().flat_map(|seed| [(seed, "gradient_boosting"), (seed, "attention_lstm")])
        {
            for input in ["bytes", "statistics"] {
                for mut record in model_records("without_shortcuts", model, seed, 0.9 + 0.02 * seed as f64) {
                    record.key.experiment = "table1".to_owned();
                    record.key.input = input.to_owned();
                    records.push(record);
                }
            }
        }
        let tables = tables(&records, TableLayout::Models, &[published("table1"), published("table2")]).unwrap();
        assert_eq!(tables.len(), 1);
        let markdown = tables[0].to_markdown();
        let lines: Vec<&str> = markdown.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(lines.len(), 2 + 5 + 4);
        let width = lines[0].chars().count();
        assert!(width <= 140 && lines.iter().all(|line| line.chars().count() == width), "{markdown}");
        assert!(
            markdown.contains("| knn               |            | published         |       0.834 |"),
            "{markdown}"
        );
        assert!(markdown.contains("0.889 [b]") && markdown.contains("- [b] impossible:"), "{markdown}");
    }

    #[test]
    fn one_seed_has_no_deviation_and_undefined_values_are_explained() {
        let mut records = seeded_records();
        records.retain(|record| record.key.seed == 0);
        for record in &mut records {
            if record.class.as_deref() == Some("voip") && record.metric == "precision" {
                record.value = None;
            }
        }
        records.push(record("as_published", "attention_lstm", 0, None, "undefined_precision_classes", 1.0));
        let tables = tables(&records, TableLayout::Classes, &[]).unwrap();
        let classes = tables[0].to_markdown();
        assert!(!classes.contains('±'), "{classes}");
        assert!(classes.contains("| voip  | as_published      |     — [a] |  0.250 | 0.300 |      40 |"), "{classes}");
        assert!(classes.contains("- [a] undefined: the class was never predicted\n"), "{classes}");
        let models = tables[1].to_markdown();
        assert!(models.contains("- [a] a class was never predicted: its precision counts as 0\n"), "{models}");
        assert_eq!(models.matches("[a]").count(), 2, "{models}");
        let csv = tables[0].to_csv().unwrap();
        assert!(csv.contains("voip,bytes,fast,as_published,,,undefined: the class was never predicted,0.25,"), "{csv}");

        let mut two = seeded_records();
        let index = two.iter().position(|record| record.metric == "precision").unwrap();
        two[index].value = None;
        let table = &super::tables(&two, TableLayout::Classes, &[]).unwrap()[0];
        assert_eq!(table.footnotes, ["undefined: the class was never predicted in 1 of 2 seeds; mean of the others"]);
    }

    #[test]
    fn a_record_given_twice_is_an_error() {
        let records = vec![record("as_published", "svm", 0, None, "accuracy", 0.5); 2];
        let error = tables(&records, TableLayout::Models, &[]).unwrap_err().to_string();
        assert!(error.contains("accuracy of svm (bytes, as_published) class (all) seed 0"), "{error}");
    }

    #[test]
    fn runs_of_other_data_are_other_tables_and_the_reference_is_named() {
        let mut records = seeded_records();
        for mut record in model_records("as_published", "svm", 0, 0.5) {
            record.key.size = "smoke".to_owned();
            record.key.implementation = "reference".to_owned();
            records.push(record);
        }
        let tables = tables(&records, TableLayout::Models, &[]).unwrap();
        assert_eq!(tables.len(), 2);
        assert!(!tables[0].to_markdown().contains("| implementation |"));
        assert!(tables[1].title.ends_with("size smoke"));
        assert!(tables[1].to_markdown().contains("| reference      |"));
    }

    #[test]
    fn the_split_table_counts_and_tells_what_is_shared() {
        use crate::split::{Part, SharedProvenance};
        let shared = |first, second| SharedProvenance {
            first,
            second,
            captures: vec!["a.pcap".to_owned()],
            capture_flows: 3,
            hosts: 2,
            host_flows: 4,
        };
        let summary = SplitSummary {
            class_names: vec!["chat".to_owned(), "voip".to_owned()],
            counts: vec![[8, 1, 1], [16, 2, 2]],
            shared: [
                shared(Part::Train, Part::Validation),
                shared(Part::Train, Part::Test),
                shared(Part::Validation, Part::Test),
            ],
        };
        let table = split_table(&summary);
        assert!(table.to_markdown().contains("| (all) |    24 |          3 |    3 |"), "{}", table.to_markdown());
        assert_eq!(
            table.notes[1],
            "train and test: 1 captures in both (3 of the test flows come from them), 2 destination hosts in both (4 \
             flows)."
        );
    }
}
