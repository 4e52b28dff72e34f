//! Tables of results: titles, columns, cells and notes, independent of how they are rendered.

use super::cell_text::decimals;
use etcbench_evaluate::{Metric, Summary};

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name in CSV files.
    pub name: String,
    /// The heading in tables for readers.
    pub heading: String,
    /// Whether its cells are numbers: right-aligned, and with two more columns in CSV.
    pub numeric: bool,
    /// Whether only CSV and JSON include it.
    pub machine_only: bool,
}

impl Column {
    /// Creates a column of text.
    pub fn text(name: &str, heading: &str) -> Self {
        Self { name: name.to_owned(), heading: heading.to_owned(), numeric: false, machine_only: false }
    }
    /// Creates a column of numbers.
    pub fn number(name: &str, heading: &str) -> Self {
        Self { numeric: true, ..Self::text(name, heading) }
    }
    /// Creates the column of a metric, with its heading from the table of metrics.
    pub fn metric(metric: Metric) -> Self {
        Self::number(metric.key, metric.heading)
    }
    /// Restricts the column to CSV and JSON.
    pub fn machine_only(self) -> Self {
        Self { machine_only: true, ..self }
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Words.
    Text(String),
    /// A number, or a mean over seeds if it has a standard deviation.
    Number {
        /// The value, or the mean over seeds.
        value: f64,
        /// Sample standard deviation over seeds.
        standard_deviation: Option<f64>,
        /// Decimals shown to readers; CSV has full precision.
        decimals: usize,
        /// Index into the table's footnotes.
        footnote: Option<usize>,
    },
    /// The p-value of a test; a small one is shown as below a limit.
    PValue(f64),
    /// A value that the metric leaves undefined, with an index into the table's footnotes.
    Undefined(Option<usize>),
    /// Nothing was measured or published here.
    Absent,
}

impl Cell {
    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
    /// Creates a number with this many decimals for readers.
    pub fn number(value: f64, decimals: usize) -> Self {
        Self::Number { value, standard_deviation: None, decimals, footnote: None }
    }
    /// Creates a number, or an absent cell for `None`.
    pub fn number_or_absent(value: Option<f64>, decimals: usize) -> Self {
        value.map_or(Self::Absent, |value| Self::number(value, decimals))
    }
    /// Creates a cell with a count.
    pub fn count(count: usize) -> Self {
        Self::number(count as f64, 0)
    }
    /// Creates a cell with a mean and its standard deviation.
    pub fn summary(summary: &Summary, decimals: usize) -> Self {
        let Summary { mean, standard_deviation, .. } = *summary;
        Self::Number { value: mean, standard_deviation, decimals, footnote: None }
    }
    /// Creates a cell with the mean and standard deviation of a metric, in its display unit.
    pub fn measured(metric: Metric, summary: &Summary) -> Self {
        let size = metric.unit.size;
        let (mean, standard_deviation) = (summary.mean / size, summary.standard_deviation.map(|value| value / size));
        Self::summary(&Summary { mean, standard_deviation, ..*summary }, decimals(metric, mean))
    }
    /// Sets or removes the footnote of the cell.
    pub fn noted(self, note: Option<usize>) -> Self {
        match self {
            Self::Number { value, standard_deviation, decimals, .. } => {
                Self::Number { value, standard_deviation, decimals, footnote: note }
            }
            Self::Undefined(_) => Self::Undefined(note),
            other => other,
        }
    }
}

/// A table, independent of its rendering.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Notes on the whole table.
    pub notes: Vec<String>,
    /// Notes on single cells; marked a, b, c, ...
    pub footnotes: Vec<String>,
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows, each with one cell per column.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Returns the index of a footnote, adding it if it is new.
    pub fn footnote(&mut self, text: &str) -> usize {
        self.footnotes.iter().position(|known| known == text).unwrap_or_else(|| {
            self.footnotes.push(text.to_owned());
            self.footnotes.len() - 1
        })
    }

    /// Returns the indices of the columns shown to readers.
    pub(super) fn shown_columns(&self) -> Vec<usize> {
        (0..self.columns.len()).filter(|&column| !self.columns[column].machine_only).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn example() -> Table {
        let mut table = Table {
            title: "50 % of a_b".to_owned(),
            notes: vec!["Means over 2 seeds.".to_owned()],
            columns: vec![
                Column::text("class", "class"),
                Column::number("f1", "F1"),
                Column::number("seeds", "seeds").machine_only(),
            ],
            ..Table::default()
        };
        let never = table.footnote("never predicted");
        let seeds = Cell::count(2);
        let number =
            |value, standard_deviation, footnote| Cell::Number { value, standard_deviation, decimals: 3, footnote };
        table.rows = vec![
            vec![Cell::Text("a|b & c".to_owned()), number(0.123_456_789, Some(0.01), None), seeds.clone()],
            vec![Cell::Text("d".to_owned()), number(1.0, None, Some(never)), seeds.clone()],
            vec![Cell::Text("e".to_owned()), Cell::Undefined(Some(never)), seeds],
        ];
        table
    }
}
