//! ARFF, Weka's format: attributes with their types, then one line per instance. Read as a stream, line by line
//! (<https://waikato.github.io/weka-wiki/formats_and_processing/arff_stable/>).
//!
//! Supports numeric (also `real` and `integer`), nominal, string and date attributes; names and values in single or
//! double quotes with backslash escapes; `?` for missing values; `%` comments, also after an attribute or an instance;
//! ranges of numbers (`real [0,10]`); keywords in any letter case; CR LF line endings. Rejects sparse instances,
//! instance weights and relational attributes.

use std::io::BufRead;

use super::arff_text::{FieldText, attribute, fields, shown, value, without_comment};
use super::csv_text::text_of;
use etcbench_storage::counted;

/// Maximum length of a line in bytes; longer lines do not occur in real ARFF files.
const LONGEST_LINE: usize = 1 << 20;

/// A problem, with its line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ArffError {
    /// The line, from 1.
    pub line: u64,
    /// Description of the problem and what to do.
    pub problem: String,
}

/// The type of an attribute's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArffType {
    /// Numbers.
    Numeric,
    /// One of these values.
    Nominal(Vec<String>),
    /// Any text, including dates.
    Text,
}

/// An attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArffAttribute {
    /// Name of the attribute.
    pub name: String,
    /// Type of its values.
    pub kind: ArffType,
}

/// A value of an instance.
#[derive(Debug, Clone, PartialEq)]
pub enum ArffValue {
    /// Value of a numeric attribute; finite.
    Number(f64),
    /// Value of a numeric attribute: `Infinity` or `NaN`.
    NotFinite,
    /// Value of a nominal attribute: an index into its values.
    Nominal(usize),
    /// Value of a string or date attribute.
    Text(String),
    /// `?`.
    Missing,
}

/// A complete ARFF file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ArffTable {
    /// The attributes, in column order.
    pub attributes: Vec<ArffAttribute>,
    /// The instances, each with one value per attribute.
    pub rows: Vec<Vec<ArffValue>>,
}

/// Parses a complete ARFF file in memory; never panics.
///
/// # Errors
/// [`ArffError`], with the line.
pub fn parse_arff(bytes: &[u8]) -> Result<ArffTable, ArffError> {
    let mut reader = ArffReader::new(bytes)?;
    let mut rows = Vec::new();
    while let Some((_, row)) = reader.next_row()? {
        rows.push(row);
    }
    Ok(ArffTable { attributes: reader.attributes, rows })
}

/// Reads instances one at a time.
pub(super) struct ArffReader<R> {
    lines: Lines<R>,
    /// The attributes, in column order.
    pub attributes: Vec<ArffAttribute>,
    /// Number of lines with trailing commas.
    padded: u64,
}

struct Lines<R> {
    input: R,
    number: u64,
    buffer: Vec<u8>,
    text: String,
    /// Number of lines that are not UTF-8.
    windows_1252: u64,
}

impl<R: BufRead> Lines<R> {
    /// Returns the next line that is neither empty nor a comment, trimmed of whitespace.
    fn next(&mut self) -> Result<Option<(u64, &str)>, ArffError> {
        loop {
            self.buffer.clear();
            self.number += 1;
            let fault = |problem: String| ArffError { line: self.number, problem };
            let mut limited = std::io::Read::take(&mut self.input, LONGEST_LINE as u64 + 1);
            let count = limited.read_until(b'\n', &mut self.buffer).map_err(|error| fault(error.to_string()))?;
            if count == 0 {
                return Ok(None);
            }
            if count > LONGEST_LINE {
                return Err(fault(format!("the line is longer than {LONGEST_LINE} bytes; is this an ARFF file?")));
            }
            if self.number == 1 && self.buffer.starts_with(b"\xef\xbb\xbf") {
                self.buffer.drain(..3);
            }
            let content = self.buffer.trim_ascii();
            if !content.is_empty() && content[0] != b'%' {
                break;
            }
        }
        let line = self.number;
        let fault = |problem: &str| ArffError { line, problem: problem.to_owned() };
        if self.buffer.contains(&0) {
            return Err(fault("the file is UTF-16 or not text; convert it to UTF-8"));
        }
        let (text, is_utf8) = text_of(self.buffer.trim_ascii());
        self.windows_1252 += u64::from(!is_utf8);
        if text.contains('\r') {
            return Err(fault("lines end with CR only; convert the file, for example with tr '\\r' '\\n'"));
        }
        self.text.clear();
        self.text.push_str(&text);
        Ok(Some((line, without_comment(&self.text))))
    }
}

impl<R: BufRead> ArffReader<R> {
    /// Reads the header, up to `@data`.
    ///
    /// # Errors
    /// [`ArffError`], with the line.
    pub(super) fn new(input: R) -> Result<Self, ArffError> {
        let mut lines = Lines { input, number: 0, buffer: Vec::new(), text: String::new(), windows_1252: 0 };
        let mut padded = 0;
        let mut attributes: Vec<ArffAttribute> = Vec::new();
        while let Some((line, text)) = lines.next()? {
            let fault = |problem: String| ArffError { line, problem };
            // Spreadsheets pad all lines to the number of commas of the longest.
            padded += u64::from(text.ends_with(','));
            let text = text.trim_end_matches(',').trim_end();
            if text.is_empty() {
                continue;
            }
            let (keyword, rest) = text.split_once(|c: char| c.is_whitespace()).unwrap_or((text, ""));
            match keyword.to_ascii_lowercase().as_str() {
                "@relation" => {}
                "@attribute" => {
                    let attribute = attribute(rest.trim()).map_err(fault)?;
                    if attributes.iter().any(|other| other.name == attribute.name) {
                        return Err(fault(format!("attribute `{}` is duplicated", attribute.name)));
                    }
                    attributes.push(attribute);
                }
                "@data" if attributes.is_empty() => return Err(fault("@data without any @attribute".to_owned())),
                "@data" => return Ok(Self { lines, attributes, padded }),
                _ => return Err(fault(format!("`{}` is none of @relation, @attribute and @data", shown(keyword)))),
            }
        }
        Err(ArffError { line: lines.number, problem: "the file ends without @data".to_owned() })
    }

    /// Returns the next instance and its line number; `None` at the end.
    ///
    /// # Errors
    /// [`ArffError`]: the number of values differs from the number of attributes, or a value does not have its
    /// attribute's type.
    pub(super) fn next_row(&mut self) -> Result<Option<(u64, Vec<ArffValue>)>, ArffError> {
        let Some((line, text)) = self.lines.next()? else { return Ok(None) };
        let fault = |problem: String| ArffError { line, problem };
        if text.starts_with('{') {
            return Err(fault("sparse instances are not supported; write all values".to_owned()));
        }
        let mut fields = fields(text).map_err(fault)?;
        if fields.len() > self.attributes.len() {
            let is_empty = |field: &FieldText| field.text.is_empty() && !field.quoted;
            if fields[self.attributes.len()..].iter().all(is_empty) {
                fields.truncate(self.attributes.len());
                self.padded += 1;
            }
        }
        if fields.len() != self.attributes.len() {
            let (found, expected) = (fields.len(), self.attributes.len());
            return Err(fault(format!("{found} values for {expected} attributes")));
        }
        let mut row = Vec::with_capacity(fields.len());
        for (field, attribute) in fields.into_iter().zip(&self.attributes) {
            row.push(value(field, attribute).map_err(|problem| fault(format!("`{}`: {problem}", attribute.name)))?);
        }
        Ok(Some((line, row)))
    }

    /// Returns the irregularities ignored so far, one line each.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.padded > 0 {
            notes.push(format!(
                "ignored trailing commas, as written by spreadsheets, in {}",
                counted(self.padded, "line")
            ));
        }
        if self.lines.windows_1252 > 0 {
            notes.push(format!("{}, not UTF-8, read as windows-1252", counted(self.lines.windows_1252, "line")));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_real_files_hold_is_read() {
        let text = "\u{feff}% made by hand\r\n@RELATION <flows>\r\n\r\n@attribute 'total fiat' NUMERIC\r\n\
                    @Attribute \"class\\\"1\" {Non-VPN, 'V P N' ,\"x,y\"}\r\n@ATTRIBUTE when DATE \"yyyy-MM-dd\"\r\n\
                    @attribute low{a,b}\r\n@DATA\r\n% the flows\r\n-1 , 'V P N', \"2016-01-01\",a\r\n\r\n\
                    1e3,\"x,y\",?,b\r\n?,Non-VPN,'?',?";
        let table = parse_arff(text.as_bytes()).unwrap();
        let names: Vec<&str> = table.attributes.iter().map(|attribute| attribute.name.as_str()).collect();
        assert_eq!(names, ["total fiat", "class\"1", "when", "low"]);
        use ArffValue::{Missing, Nominal, Number, Text};
        let text = |text: &str| Text(text.to_owned());
        assert_eq!(
            table.rows,
            [
                vec![Number(-1.0), Nominal(1), text("2016-01-01"), Nominal(0)],
                vec![Number(1000.0), Nominal(2), Missing, Nominal(1)],
                vec![Missing, Nominal(0), text("?"), Missing],
            ]
        );
    }

    #[test]
    fn comments_end_lines_and_numbers_may_have_ranges() {
        let text = "@relation r % of flows\n@attribute a real [0,10] % seconds\n@attribute 'b % c' integer\n\
                    @attribute c {x, 'y % z'} % classes\n@attribute don't string\n@data % rows\n\
                    1,2,x,it's % checked\n  % nothing\n-Infinity,nan,'y % z','50 %' % x\n";
        let table = parse_arff(text.as_bytes()).unwrap();
        let names: Vec<&str> = table.attributes.iter().map(|attribute| attribute.name.as_str()).collect();
        assert_eq!(names, ["a", "b % c", "c", "don't"]);
        use ArffValue::{Nominal, NotFinite, Number, Text};
        let text = |text: &str| Text(text.to_owned());
        assert_eq!(
            table.rows,
            [
                vec![Number(1.0), Number(2.0), Nominal(0), text("it's")],
                vec![NotFinite, NotFinite, Nominal(1), text("50 %")],
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let header = "@relation r\n@attribute a numeric\n@attribute c {x,y}\n@data\n";
        let problem = |text: String| parse_arff(text.as_bytes()).unwrap_err().to_string();
        for (row, words) in [
            ("1", "line 5: 1 values for 2 attributes"),
            ("1,x,2", "line 5: 3 values for 2 attributes"),
            ("one,x", "line 5: `a`: `one` is not a finite number"),
            ("1,x\r2,y", "line 5: lines end with CR only"),
            ("1,z", "line 5: `c`: `z` is none of its values (x, y)"),
            ("1,'x", "line 5: a quote is not closed"),
            ("1,'x'y", "follows a closing quote"),
            ("{0 1, 1 x}", "sparse"),
            ("1,x,{5}", "3 values"),
        ] {
            let message = problem(format!("{header}{row}\n"));
            assert!(message.contains(words), "{row}: {message}");
        }
        for (text, words) in [
            ("", "ends without @data"),
            ("@relation r\n@data\n", "line 2: @data without any @attribute"),
            ("hello\n", "line 1: `hello` is none of"),
            ("@attribute a\n", "line 1: `a` has type ``"),
            ("@attribute\n", "without a name"),
            ("@attribute a {x,y\n", "lack a closing brace"),
            ("@attribute a {x,x}\n", "contain a duplicate or empty value"),
            ("@attribute a numeric\n@attribute a real\n", "line 2: attribute `a` is duplicated"),
            ("@attribute a relational\n", "supported are numeric"),
        ] {
            let message = problem(text.to_owned());
            assert!(message.contains(words), "{text}: {message}");
        }
        let wide: Vec<u8> = header.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(parse_arff(&wide).unwrap_err().to_string().contains("line 1: the file is UTF-16 or not text"));
        let long = format!("{header}{}", "1".repeat(LONGEST_LINE + 10));
        assert!(parse_arff(long.as_bytes()).unwrap_err().to_string().contains("longer than 1048576 bytes"));
    }

    fn quote(text: &str) -> String {
        format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n").replace('\r', "\\r"))
    }

    proptest! {
        #[test]
        fn tables_survive_being_written(
            names in prop::collection::btree_set("[ -~]{1,8}", 1..6),
            values in prop::collection::btree_set("[^\u{0}]{1,6}", 1..4),
            rows in prop::collection::vec(
                prop::collection::vec((any::<prop::sample::Index>(), proptest::option::of(-1e9f64..1e9)), 6), 0..12,
            ),
        ) {
            let values: Vec<String> = values.into_iter().collect();
            let mut text = "@RELATION 'a b'\n".to_owned();
            let attributes: Vec<ArffAttribute> = names
                .into_iter()
                .enumerate()
                .map(|(index, name)| match index % 3 {
                    0 => ArffAttribute { name, kind: ArffType::Numeric },
                    1 => ArffAttribute { name, kind: ArffType::Nominal(values.clone()) },
                    _ => ArffAttribute { name, kind: ArffType::Text },
                })
                .collect();
            for attribute in &attributes {
                let kind = match &attribute.kind {
                    ArffType::Numeric => "real".to_owned(),
                    ArffType::Text => "string".to_owned(),
                    ArffType::Nominal(values) => {
                        format!("{{{}}}", values.iter().map(|value| quote(value)).collect::<Vec<_>>().join(" , "))
                    }
                };
                text += &format!("@attribute {} {kind}\n", quote(&attribute.name));
            }
            text += "@data\n";
            let rows: Vec<Vec<ArffValue>> = rows
                .iter()
                .map(|row| {
                    let value = |(attribute, (index, number)): (&ArffAttribute, &(prop::sample::Index, Option<f64>))| {
                        match (&attribute.kind, number) {
                            (_, None) => ArffValue::Missing,
                            (ArffType::Numeric, Some(number)) => ArffValue::Number(*number),
                            (ArffType::Nominal(values), _) => ArffValue::Nominal(index.index(values.len())),
                            (ArffType::Text, _) => ArffValue::Text(values[index.index(values.len())].clone()),
                        }
                    };
                    attributes.iter().zip(row).map(value).collect()
                })
                .collect();
            for row in &rows {
                let written: Vec<String> = row
                    .iter()
                    .zip(&attributes)
                    .map(|(value, attribute)| match (value, &attribute.kind) {
                        (ArffValue::Number(number), _) => number.to_string(),
                        (ArffValue::Nominal(index), ArffType::Nominal(values)) => quote(&values[*index]),
                        (ArffValue::Text(text), _) => quote(text),
                        _ => "?".to_owned(),
                    })
                    .collect();
                text += &written.join(",");
                text += "\r\n";
            }
            let table = parse_arff(text.as_bytes()).unwrap();
            prop_assert_eq!(table, ArffTable { attributes, rows });
        }

        #[test]
        fn nothing_panics(start in any::<bool>(), text in "[@a-z{}',\"\\\\?%\\r\\n 0-9.-]{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut whole = if start { b"@attribute a numeric\n@attribute c {x}\n@data\n".to_vec() } else { Vec::new() };
            whole.extend(text.into_bytes());
            whole.extend(bytes);
            let _ = parse_arff(&whole);
        }
    }
}
