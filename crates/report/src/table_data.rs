//! Tables as data for other programs: CSV and JSON in full precision.

use super::ReportError;
use super::table::{Cell, Column, Table};

impl Table {
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
                let value = match cell {
                    Cell::Text(text) => spreadsheet_text(text),
                    Cell::Number { value, .. } | Cell::PValue(value) => value.to_string(),
                    Cell::Undefined(_) | Cell::Absent => String::new(),
                };
                record.push(value);
                if column.numeric {
                    let (deviation, note) = self.deviation_and_note(cell);
                    record.push(deviation.map_or(String::new(), |deviation| deviation.to_string()));
                    record.push(note.unwrap_or_default().to_owned());
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
                let value: serde_json::Value = match cell {
                    Cell::Text(text) => text.as_str().into(),
                    Cell::Number { value, .. } | Cell::PValue(value) => (*value).into(),
                    Cell::Undefined(_) | Cell::Absent => serde_json::Value::Null,
                };
                let (deviation, note) = self.deviation_and_note(cell);
                fields.insert(name.clone(), value);
                if let Some(deviation) = deviation {
                    fields.insert(format!("{name}_standard_deviation"), deviation.into());
                }
                if let Some(note) = note {
                    fields.insert(format!("{name}_note"), note.into());
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

    /// Returns the standard deviation of a cell and the text of its footnote.
    fn deviation_and_note(&self, cell: &Cell) -> (Option<f64>, Option<&str>) {
        let (deviation, footnote) = match cell {
            Cell::Number { standard_deviation, footnote, .. } => (*standard_deviation, *footnote),
            Cell::Undefined(footnote) => (None, *footnote),
            Cell::Text(_) | Cell::PValue(_) | Cell::Absent => (None, None),
        };
        (deviation, footnote.map(|index| self.footnotes[index].as_str()))
    }
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

    use super::super::table::tests::example;
    use super::*;

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
