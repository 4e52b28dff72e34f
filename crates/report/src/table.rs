//! Tables, and their rendering as CSV, JSON and Markdown (LaTeX and plain text are in separate files).

use super::{ReportError, latex};
use etcbench_evaluate::{Metric, Summary};

/// Above this width (in characters) Markdown cells are no longer padded to align.
const MARKDOWN_WIDTH: usize = 144;

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

    /// Renders the table as CSV in full precision: each number column `x` is followed by `x_standard_deviation` and
    /// `x_note`, the text of the cell's footnote. Undefined and absent values are empty; an undefined one has a note.
    ///
    /// # Errors
    /// A row has more or fewer cells than there are columns.
    pub fn to_csv(&self) -> Result<String, ReportError> {
        let error =
            |problem: &dyn std::fmt::Display| ReportError::Records(format!("table {:?}: {problem}", self.title));
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut header = Vec::new();
        for column in &self.columns {
            header.push(column.name.clone());
            if column.numeric {
                header.push(format!("{}_standard_deviation", column.name));
                header.push(format!("{}_note", column.name));
            }
        }
        writer.write_record(&header).map_err(|problem| error(&problem))?;
        for row in &self.rows {
            if row.len() != self.columns.len() {
                return Err(error(&format!("a row has {} cells for {} columns", row.len(), self.columns.len())));
            }
            let mut record = Vec::new();
            for (cell, column) in row.iter().zip(&self.columns) {
                let note =
                    |footnote: &Option<usize>| footnote.map_or(String::new(), |index| self.footnotes[index].clone());
                let [value, deviation, note] = match cell {
                    Cell::Text(text) => [spreadsheet_text(text), String::new(), String::new()],
                    Cell::Number { value, standard_deviation, footnote, .. } => [
                        value.to_string(),
                        standard_deviation.map_or(String::new(), |deviation| deviation.to_string()),
                        note(footnote),
                    ],
                    Cell::PValue(value) => [value.to_string(), String::new(), String::new()],
                    Cell::Undefined(footnote) => [String::new(), String::new(), note(footnote)],
                    Cell::Absent => [String::new(), String::new(), String::new()],
                };
                record.push(value);
                if column.numeric {
                    record.extend([deviation, note]);
                }
            }
            writer.write_record(&record).map_err(|problem| error(&problem))?;
        }
        let bytes = writer.into_inner().map_err(|problem| error(&problem))?;
        String::from_utf8(bytes).map_err(|problem| error(&problem))
    }

    /// Renders the table as JSON: title, rows as objects with the columns' names in CSV, notes. As in CSV, the standard
    /// deviation and note of a number, if any, have separate keys.
    pub fn to_json(&self) -> serde_json::Value {
        let row = |row: &Vec<Cell>| {
            let mut fields = serde_json::Map::new();
            for (cell, Column { name, .. }) in row.iter().zip(&self.columns) {
                let (value, deviation, note) = match cell {
                    Cell::Text(text) => (text.as_str().into(), None, None),
                    Cell::Number { value, standard_deviation, footnote, .. } => {
                        ((*value).into(), *standard_deviation, *footnote)
                    }
                    Cell::PValue(value) => ((*value).into(), None, None),
                    Cell::Undefined(footnote) => (serde_json::Value::Null, None, *footnote),
                    Cell::Absent => (serde_json::Value::Null, None, None),
                };
                fields.insert(name.clone(), value);
                if let Some(deviation) = deviation {
                    fields.insert(format!("{name}_standard_deviation"), deviation.into());
                }
                if let Some(note) = note {
                    fields.insert(format!("{name}_note"), self.footnotes[note].as_str().into());
                }
            }
            serde_json::Value::Object(fields)
        };
        serde_json::json!({
            "title": self.title,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }

    /// Renders the table as Markdown: title, table, notes, footnotes.
    pub fn to_markdown(&self) -> String {
        let shown = self.shown_columns();
        let mut lines: Vec<Vec<String>> =
            vec![shown.iter().map(|&column| escape(&self.columns[column].heading)).collect()];
        for row in &self.rows {
            lines.push(shown.iter().map(|&column| escape(&self.plain(&row[column]))).collect());
        }
        let mut widths: Vec<usize> = (0..shown.len())
            .map(|index| lines.iter().map(|line| line[index].chars().count()).max().unwrap_or(0).max(3))
            .collect();
        if widths.iter().sum::<usize>() + 3 * widths.len() + 1 > MARKDOWN_WIDTH {
            widths.fill(0);
        }
        let mut text = format!("**{}**\n\n", escape(&self.title));
        for (number, line) in lines.iter().enumerate() {
            for ((cell, &width), &column) in line.iter().zip(&widths).zip(&shown) {
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
                let cell = if self.columns[column].numeric { padding + cell } else { cell.clone() + &padding };
                text += &format!("| {cell} ");
            }
            text += "|\n";
            if number == 0 {
                for (&width, &column) in widths.iter().zip(&shown) {
                    let dashes = "-".repeat(width.saturating_sub(1).max(2));
                    text +=
                        &if self.columns[column].numeric { format!("| {dashes}: ") } else { format!("| {dashes}- ") };
                }
                text += "|\n";
            }
        }
        if !self.notes.is_empty() || !self.footnotes.is_empty() {
            text.push('\n');
        }
        for note in &self.notes {
            text += &format!("- {}\n", escape(note));
        }
        for (index, note) in self.footnotes.iter().enumerate() {
            text += &format!("- [{}] {}\n", mark(index), escape(note));
        }
        text
    }

    /// Renders the table as LaTeX, with the booktabs package.
    pub fn to_latex(&self) -> String {
        latex::render(self)
    }

    /// Returns the indices of the columns shown to readers.
    pub(super) fn shown_columns(&self) -> Vec<usize> {
        (0..self.columns.len()).filter(|&column| !self.columns[column].machine_only).collect()
    }

    pub(super) fn plain(&self, cell: &Cell) -> String {
        let marked = |footnote: &Option<usize>| footnote.map_or(String::new(), |index| format!(" [{}]", mark(index)));
        match cell {
            Cell::Text(text) => visible(text),
            Cell::Number { value, standard_deviation: Some(deviation), decimals, footnote } => {
                format!("{}±{deviation:.decimals$}{}", fixed(*value, *decimals), marked(footnote))
            }
            Cell::Number { value, standard_deviation: None, decimals, footnote } => {
                format!("{}{}", fixed(*value, *decimals), marked(footnote))
            }
            Cell::PValue(value) => p_value(*value),
            Cell::Undefined(footnote) => format!("—{}", marked(footnote)),
            Cell::Absent => String::new(),
        }
    }
}

/// A p-value below this is shown as an upper bound.
const SMALL_P_VALUE: f64 = 0.001;

/// Formats a p-value with three decimals, or as below the smallest that three decimals can show.
pub(super) fn p_value(value: f64) -> String {
    if value < SMALL_P_VALUE { format!("< {SMALL_P_VALUE}") } else { format!("{value:.3}") }
}

/// Formats a number with this many decimals; one that rounds to zero has no sign.
pub(super) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(size) if !size.contains(|character| matches!(character, '1'..='9')) && value.is_finite() => {
            size.to_owned()
        }
        _ => text,
    }
}

/// Returns the number of decimals for a metric's value, given in its display unit.
pub(super) fn decimals(metric: Metric, value: f64) -> usize {
    metric.unit.decimals.unwrap_or_else(|| significant_decimals(value))
}

/// Returns the number of decimals for three significant digits, at most three.
pub(super) fn significant_decimals(value: f64) -> usize {
    match value {
        _ if value >= 100.0 => 0,
        _ if value >= 10.0 => 1,
        _ if value >= 1.0 => 2,
        _ => 3,
    }
}

/// Returns the mark of a footnote: a to z, then aa, ab, ...
pub(super) fn mark(index: usize) -> String {
    let letter = char::from(b'a' + (index % 26) as u8);
    if index < 26 { letter.to_string() } else { mark(index / 26 - 1) + &letter.to_string() }
}

/// Writes the characters that override the direction of the text after them by their numbers, such as `[U+202E]`: a
/// label could otherwise make the rest of its row unreadable, and LaTeX knows no such characters.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                shown.push_str(&format!("[U+{:04X}]", u32::from(character)));
            }
            _ => shown.push(character),
        }
    }
    shown
}

/// Escapes text for Markdown: bars do not end a cell, tags are shown as text, and control characters become escapes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let begins_tag = |next: &char| next.is_ascii_alphabetic() || "/!?".contains(*next);
        match letter {
            '|' => escaped.push_str("\\|"),
            '<' if letters.peek().is_some_and(begins_tag) => escaped.push_str("\\<"),
            '\n' | '\r' => escaped.push(' '),
            letter if letter.is_control() => escaped.extend(letter.escape_default()),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// Prevents a spreadsheet from evaluating text: formulas (`=cmd`) get a leading apostrophe, as spreadsheets write it
/// themselves.
fn spreadsheet_text(text: &str) -> String {
    let computed = text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err();
    if computed { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> Table {
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

    #[test]
    fn harmful_names_are_escaped() {
        let mut table = example();
        table.title = "<img src=x> \u{1b}[2J".to_owned();
        for text in ["=cmd|' /C calc'!A0", "+1", "-1.5", "a < b", "</td><script>"] {
            table.rows.push(vec![Cell::text(text), Cell::Absent, Cell::Absent]);
        }
        let markdown = table.to_markdown();
        for expected in ["**\\<img src=x> \\u{1b}[2J**", "=cmd\\|' /C", "a < b", "\\</td>\\<script>"] {
            assert!(markdown.contains(expected), "{expected} is not in {markdown}");
        }
        let csv = table.to_csv().unwrap();
        for expected in ["\n'=cmd|", "\n+1,", "\n-1.5,", "\na < b,"] {
            assert!(csv.contains(expected), "{expected} is not in {csv}");
        }
    }

    #[test]
    fn markdown_is_aligned_and_escaped() {
        let expected = "\
**50 % of a_b**

| class    |          F1 |
| -------- | ----------: |
| a\\|b & c | 0.123±0.010 |
| d        |   1.000 [a] |
| e        |       — [a] |

- Means over 2 seeds.
- [a] never predicted
";
        assert_eq!(example().to_markdown(), expected);
    }

    #[test]
    fn csv_has_full_precision() {
        let expected = "\
class,f1,f1_standard_deviation,f1_note,seeds,seeds_standard_deviation,seeds_note
a|b & c,0.123456789,0.01,,2,,
d,1,,never predicted,2,,
e,,,never predicted,2,,
";
        assert_eq!(example().to_csv().unwrap(), expected);
        let mut short = example();
        short.rows[1].pop();
        assert!(short.to_csv().unwrap_err().to_string().contains("2 cells for 3 columns"));
    }

    #[test]
    fn a_small_p_value_is_below_a_limit_for_people_and_exact_for_machines() {
        assert_eq!([0.000_999, 0.001, 0.0456, 1.0].map(p_value), ["< 0.001", "0.001", "0.046", "1.000"]);
        let table = Table {
            columns: vec![Column::number("p", "p")],
            rows: vec![vec![Cell::PValue(1.5e-7)]],
            ..Table::default()
        };
        assert!(table.to_csv().unwrap().ends_with("\n0.00000015,,\n"), "{}", table.to_csv().unwrap());
        assert!(table.to_markdown().contains("| < 0.001 |") && table.to_latex().contains("$<$ 0.001"));
    }

    #[test]
    fn json_has_the_names_of_csv() {
        let expected = serde_json::json!({
            "title": "50 % of a_b",
            "rows": [
                {"class": "a|b & c", "f1": 0.123_456_789, "f1_standard_deviation": 0.01, "seeds": 2.0},
                {"class": "d", "f1": 1.0, "f1_note": "never predicted", "seeds": 2.0},
                {"class": "e", "f1": null, "f1_note": "never predicted", "seeds": 2.0},
            ],
            "notes": ["Means over 2 seeds."],
        });
        assert_eq!(example().to_json(), expected);
    }

    #[test]
    fn latex_is_escaped() {
        let expected = "\
\\begin{table}
\\caption{50 \\% of a\\_b}
\\begin{tabular}{lr}
\\toprule
class & F1 \\\\
\\midrule
a|b \\& c & $0.123 \\pm 0.010$ \\\\
d & $1.000$\\textsuperscript{a} \\\\
e & ---\\textsuperscript{a} \\\\
\\bottomrule
\\end{tabular}

\\footnotesize
Means over 2 seeds.\\\\
\\textsuperscript{a} never predicted
\\end{table}
";
        assert_eq!(example().to_latex(), expected);
    }

    #[test]
    fn characters_that_reverse_text_are_shown_as_codes() {
        assert_eq!(visible("a\u{202e}b\u{2066}c \u{200f}שלום"), "a[U+202E]b[U+2066]c \u{200f}שלום");
        let mut table = example();
        table.rows[0][0] = Cell::Text("chat\u{202e}".to_owned());
        for text in [table.to_markdown(), table.to_latex()] {
            assert!(text.contains("chat[U+202E]") && !text.contains('\u{202e}'), "{text}");
        }
    }

    #[test]
    fn values_that_round_to_zero_have_no_sign() {
        let shown = [-0.0004, -0.0, -0.0006, 0.0004, -1.0, f64::NEG_INFINITY].map(|value| fixed(value, 3));
        assert_eq!(shown, ["0.000", "0.000", "-0.001", "0.000", "-1.000", "-inf"]);
        assert_eq!(fixed(-0.3, 0), "0");
    }

    #[test]
    fn marks_of_notes_continue_after_z() {
        assert_eq!([0, 25, 26, 27, 52].map(mark), ["a", "z", "aa", "ab", "ba"]);
    }

    proptest! {
        #[test]
        fn csv_parses_back(
            rows in prop::collection::vec((".{0,12}", proptest::option::of((-1e6f64..1e6, 0f64..1.0))), 1..12),
        ) {
            let mut table = example();
            table.columns.truncate(2);
            table.rows = rows
                .iter()
                .map(|(text, number)| {
                    let number = number.map_or(Cell::Absent, |(value, deviation)| Cell::Number {
                        value, standard_deviation: Some(deviation), decimals: 3, footnote: None,
                    });
                    vec![Cell::Text(text.clone()), number]
                })
                .collect();
            let csv = table.to_csv().unwrap();
            let mut reader = csv::Reader::from_reader(csv.as_bytes());
            let mut count = 0;
            for (record, (text, number)) in reader.records().zip(&rows) {
                let record = record.unwrap();
                prop_assert_eq!(&record[0], &spreadsheet_text(text));
                match number {
                    Some((value, deviation)) => {
                        prop_assert_eq!(record[1].parse::<f64>().unwrap(), *value);
                        prop_assert_eq!(record[2].parse::<f64>().unwrap(), *deviation);
                    }
                    None => prop_assert_eq!(&record[1], ""),
                }
                count += 1;
            }
            prop_assert_eq!(count, rows.len());
            // No cell breaks the shape of the Markdown table.
            let markdown = table.to_markdown();
            let lines = markdown.split('\n').filter(|line| line.starts_with('|')).count();
            prop_assert_eq!(lines, rows.len() + 2);
        }
    }
}
