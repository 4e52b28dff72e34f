//! The paper's numbers (`paper/published/<experiment>.csv`), each marked as possible or not.

use std::path::Path;

use serde::Deserialize;

use super::{ReportError, file_error};
use etcbench_evaluate::Metric;
use etcbench_storage as storage;

/// Whether a published number is consistent with the others of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Possible {
    /// It is consistent.
    Yes,
    /// It is possible only under the condition in the note.
    OnlyIf,
    /// No test set and predictions yield it together with the others.
    No,
}

/// One published number.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedCell {
    /// A model for `accuracy` and the `macro_` metrics; a class for `precision`, `recall` and `f1`.
    pub row: String,
    /// The metric's name, as in records.
    pub metric: String,
    /// The number as printed.
    pub value: f64,
    /// Whether it is possible.
    pub possible: Possible,
    /// Why it is impossible, or the condition under which it is possible; empty for [`Possible::Yes`].
    pub note: String,
}

/// The numbers of one published table.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedTable {
    /// The experiment that reproduces the table, such as `table3`: the file's name without its extension.
    pub experiment: String,
    /// Its numbers, in the order of the file.
    pub cells: Vec<PublishedCell>,
}

impl PublishedTable {
    /// Reads `<folder>/<experiment>.csv`; returns `None` if the file does not exist, that is, the paper has no such
    /// table.
    ///
    /// # Errors
    /// The file has other columns, a value that is not between 0 and 1, an impossible number without a note, or two
    /// numbers for one cell.
    pub fn read(folder: &Path, experiment: &str) -> Result<Option<Self>, ReportError> {
        let path = folder.join(format!("{experiment}.csv"));
        let content = match storage::or_stock(&path, std::fs::read(&path)) {
            Ok(content) => content,
            Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(problem) => return Err(file_error(&path, problem)),
        };
        let mut cells: Vec<PublishedCell> = Vec::new();
        for (index, cell) in csv::Reader::from_reader(content.as_slice()).deserialize().enumerate() {
            let cell: PublishedCell = cell.map_err(|problem| file_error(&path, problem))?;
            // A fact for the audit, not a number of the table.
            if cell.metric == "classes" {
                continue;
            }
            let place = format!("record {} ({} of {})", index + 1, cell.metric, cell.row);
            if !(0.0..=1.0).contains(&cell.value) {
                return Err(file_error(&path, format!("{place}: {} is not between 0 and 1", cell.value)));
            }
            if (cell.possible == Possible::Yes) != cell.note.is_empty() {
                return Err(file_error(
                    &path,
                    format!("{place}: a note is needed if and only if `possible` is not yes"),
                ));
            }
            if cells.iter().any(|other| other.row == cell.row && other.metric == cell.metric) {
                return Err(file_error(&path, format!("{place} is a duplicate; keep one")));
            }
            cells.push(cell);
        }
        Ok(Some(Self { experiment: experiment.to_owned(), cells }))
    }

    /// Returns the published number of a row and metric.
    pub fn get(&self, row: &str, metric: &str) -> Option<&PublishedCell> {
        self.cells.iter().find(|cell| cell.row == row && cell.metric == metric)
    }

    /// Returns the classes, in the order of the file.
    pub fn classes(&self) -> Vec<&str> {
        self.rows(true)
    }

    /// Returns the models, in the order of the file.
    pub fn models(&self) -> Vec<&str> {
        self.rows(false)
    }

    fn rows(&self, classes: bool) -> Vec<&str> {
        let mut rows: Vec<&str> = Vec::new();
        for cell in &self.cells {
            let of_class = Metric::named(&cell.metric).is_some_and(|metric| metric.is_of_class());
            if of_class == classes && !rows.contains(&cell.row.as_str()) {
                rows.push(&cell.row);
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a unit of the last printed decimal.
    const ROUNDING: f64 = 0.0005;

    fn published(experiment: &str) -> PublishedTable {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../paper/published");
        PublishedTable::read(&folder, experiment).unwrap().unwrap()
    }

    fn harmonic(precision: f64, recall: f64) -> f64 {
        2.0 * precision * recall / (precision + recall)
    }

    #[test]
    fn only_impossible_numbers_of_the_class_tables_are_marked() {
        for (experiment, classes) in [("table2", 10), ("table3", 4), ("table4", 4), ("table5", 3)] {
            let table = published(experiment);
            assert_eq!(table.classes().len(), classes);
            let mut largest_recall: f64 = 0.0;
            for class in table.classes() {
                let value = |metric| table.get(class, metric).unwrap().value;
                let (precision, recall) = (value("precision"), value("recall"));
                largest_recall = largest_recall.max(recall);
                assert!((harmonic(precision, recall) - value("f1")).abs() <= 2.0 * ROUNDING, "{experiment} {class}");
                for metric in ["precision", "recall", "f1"] {
                    // The precisions of table 3 are inconsistent with its recalls; see `audit`.
                    let ruled_out = experiment == "table3" && metric == "precision";
                    let expected = if ruled_out { Possible::No } else { Possible::Yes };
                    assert_eq!(table.get(class, metric).unwrap().possible, expected, "{experiment} {class} {metric}");
                }
            }
            let accuracy = table.get("attention_lstm", "accuracy").unwrap();
            // In table 2 the accuracy is below the largest recall, but only just: a condition remains.
            assert_eq!(accuracy.value - ROUNDING > largest_recall + ROUNDING, experiment != "table2");
            // In table 2 the precisions rule out what the recalls would allow.
            let expected = if experiment == "table4" { Possible::OnlyIf } else { Possible::No };
            assert_eq!(accuracy.possible, expected, "{experiment}");
        }
        let share = (0.986 - ROUNDING - (0.974 + ROUNDING)) / (0.987 + ROUNDING - (0.974 + ROUNDING));
        assert!((share - 0.846).abs() < 0.001, "the share in the note of table 2: {share}");
    }

    #[test]
    fn only_impossible_numbers_of_table_1_are_marked() {
        let table = published("table1");
        assert_eq!(table.models().len(), 5);
        for model in table.models() {
            let value = |metric| table.get(model, metric).unwrap().value;
            let (precision, recall) = (value("macro_precision"), value("macro_recall"));
            // F1 is concave in precision and recall: for two classes with these means, the sum of F1 is least if each
            // mean is split into extreme values.
            let (low_precision, low_recall) = (2.0 * (precision - ROUNDING) - 1.0, 2.0 * (recall - ROUNDING) - 1.0);
            let least = f64::min(
                harmonic(low_precision, low_recall) + 1.0,
                harmonic(low_precision, 1.0) + harmonic(1.0, low_recall),
            ) / 2.0;
            let most = (precision + recall) / 2.0;
            let f1 = table.get(model, "macro_f1").unwrap();
            let expected = if f1.value - ROUNDING > most + ROUNDING {
                Possible::No
            } else if f1.value + ROUNDING < least {
                Possible::OnlyIf
            } else {
                Possible::Yes
            };
            assert_eq!(f1.possible, expected, "{model}: F1 between {least} and {most}");
            if expected == Possible::OnlyIf {
                let bound = f1.note.split("at least ").nth(1).unwrap().split(';').next().unwrap();
                let bound: f64 = bound.parse().unwrap();
                assert!(bound <= least && least < bound + 0.001, "{model}: {least}");
            }
        }
    }

    #[test]
    fn tables_without_a_file_are_not_published_and_broken_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(PublishedTable::read(folder.path(), "table9").unwrap(), None);
        let problem = |line: &str| {
            std::fs::write(folder.path().join("t.csv"), format!("row,metric,value,possible,note\n{line}\n")).unwrap();
            PublishedTable::read(folder.path(), "t").unwrap_err().to_string()
        };
        assert!(problem("a,f1,95.1,yes,").contains("95.1 is not between 0 and 1"));
        assert!(problem("a,f1,0.9,maybe,").contains("maybe"));
        assert!(problem("a,f1,0.9,no,").contains("a note is needed"));
        assert!(problem("a,f1,0.9,yes,\na,f1,0.8,yes,").contains("record 2 (f1 of a) is a duplicate"));
    }
}
