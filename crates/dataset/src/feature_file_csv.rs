//! Tables of features with a header line, as flow meters, pandas and spreadsheets write them: separated by commas,
//! semicolons or tabs.
//!
//! What these programs leave in a table is read around, and said: a byte order mark, CR LF, the index column without a name
//! that pandas writes first, names that are there twice, header lines in the middle, empty rows, separators at the end of
//! rows, decimal commas (where the separator is none), and windows-1252 where the text is not UTF-8.

use std::borrow::Cow;
use std::io::BufRead;

use super::feature_file::{Fault, MISSING, NOT_FINITE, Named, OneFile, Role, Rows, label_columns, single};

/// The characters of windows-1252 from 0x80 to 0x9f; the others are those of Unicode, and five stand for nothing.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Bytes as text, and whether they are UTF-8; those that are not are windows-1252.
pub(super) fn text_of(bytes: &[u8]) -> (Cow<'_, str>, bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text), true),
        Err(_) => {
            let character = |&byte: &u8| match byte {
                0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
                _ => char::from(byte),
            };
            (Cow::Owned(bytes.iter().map(character).collect()), false)
        }
    }
}

/// The separator of a table, by its first line: that of two others which it has and the comma not.
fn separator(input: &mut impl BufRead) -> std::io::Result<u8> {
    let start = input.fill_buf()?;
    let line = &start[..start.iter().position(|&byte| byte == b'\n').unwrap_or(start.len())];
    let other = [b';', b'\t'].into_iter().find(|byte| line.contains(byte));
    Ok(other.filter(|_| !line.contains(&b',')).unwrap_or(b','))
}

/// The columns' names as pandas makes them of a header: a nameless column, which pandas writes for its index, is
/// `Unnamed: 0` by its place, and the second of a name has `.1` behind it.
fn column_names(header: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (place, name) in header.iter().enumerate() {
        let base = if name.is_empty() { format!("Unnamed: {place}") } else { name.clone() };
        let again = (1..).map(|number| format!("{base}.{number}"));
        let free = std::iter::once(base.clone()).chain(again).find(|name| !names.contains(name));
        names.extend(free);
    }
    names
}

/// What was read around, by how often.
#[derive(Default)]
struct Traces {
    headers: u64,
    empty_rows: u64,
    separators: u64,
    decimal_commas: u64,
    windows_1252: u64,
    index: bool,
}

impl Traces {
    fn notes(&self) -> Vec<String> {
        let counted = [
            (self.headers, "lines repeat the header and are passed over"),
            (self.empty_rows, "rows are empty and are passed over"),
            (self.separators, "rows have separators behind their last value, which are passed over"),
            (self.decimal_commas, "numbers have a decimal comma and are read so"),
            (self.windows_1252, "values are not UTF-8 and are read as windows-1252"),
        ];
        let index = "the first column has no name and is left out, as the index that pandas writes";
        let counted =
            counted.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        self.index.then(|| index.to_owned()).into_iter().chain(counted).collect()
    }
}

/// The rows of a table.
pub(super) fn read(mut input: impl BufRead, mut rows: Rows<'_>) -> Result<OneFile, Fault> {
    let separator = separator(&mut input).map_err(|error| (1, error.to_string()))?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .terminator(csv::Terminator::Any(b'\n'))
        .has_headers(false)
        .flexible(true)
        .from_reader(input);
    let told = |error: csv::Error| {
        let line = error.position().map_or(0, csv::Position::line);
        (line, error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let mut record = csv::ByteRecord::new();
    reader.read_byte_record(&mut record).map_err(told)?;
    if record.iter().any(|field| field.contains(&0)) {
        return Err((1, "the text is UTF-16 or no text; save the file as CSV in UTF-8".to_owned()));
    }
    let mut traces = Traces::default();
    let header: Vec<Vec<u8>> = record.iter().map(|field| field.trim_ascii().to_vec()).collect();
    let names = header.iter().map(|field| text_of(field).0.trim_start_matches('\u{feff}').trim().to_owned());
    let mut names: Vec<String> = names.collect();
    // A separator ends the header and each row: a column without a name or values.
    let width = names.len();
    while names.len() > 1 && names.last().is_some_and(String::is_empty) {
        names.pop();
    }
    let columns = column_names(&names);
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    rows.check(&columns).map_err(|problem| (1, problem))?;
    let mut roles: Vec<Role> = columns.iter().map(|column| rows.role(column).unwrap_or(Role::Number)).collect();
    if names[0].is_empty() && matches!(roles[0], Role::Number) && roles.len() > 1 {
        roles[0] = Role::LeftOut;
        traces.index = true;
    }
    let features = columns.iter().zip(&roles).filter(|(_, role)| matches!(role, Role::Number));
    let features: Vec<String> = features.map(|(column, _)| (*column).to_owned()).collect();
    let labels = label_columns(&columns, &roles);
    while reader.read_byte_record(&mut record).map_err(told)? {
        let line = record.position().map_or(0, csv::Position::line);
        let fault = |problem: String| (line, problem);
        if record.iter().all(|field| field.trim_ascii().is_empty()) {
            // A line without anything is none.
            traces.empty_rows += u64::from(record.len() > 1);
            continue;
        }
        if record.len() == width && record.iter().zip(&header).all(|(field, name)| field.trim_ascii() == name) {
            traces.headers += 1;
            continue;
        }
        if record.len() < columns.len() {
            return Err(fault(format!("{} values for {} columns", record.len(), columns.len())));
        }
        if record.len() > columns.len() {
            if let Some(more) = record.iter().skip(columns.len()).find(|field| !field.trim_ascii().is_empty()) {
                let more: String = text_of(more).0.chars().take(60).collect();
                let (found, named) = (record.len(), columns.len());
                return Err(fault(format!("{found} values for {named} columns that have a name: `{more}` has none")));
            }
            traces.separators += 1;
        }
        let mut values = Vec::with_capacity(features.len());
        let mut named = Named::default();
        for ((field, role), column) in record.iter().zip(&roles).zip(&columns) {
            let field = field.trim_ascii();
            let mut text = || {
                let (text, is_utf8) = text_of(field);
                traces.windows_1252 += u64::from(!is_utf8);
                text.into_owned()
            };
            match role {
                Role::Label => named.labels.push(text()),
                Role::Endpoint(place) => named.endpoints[*place] = text(),
                Role::Group => named.group.push(text()),
                Role::LeftOut | Role::OneOf(_) => {}
                Role::Number => values.push(match number(field, separator, &mut traces) {
                    Some(number) if number.is_finite() => single(number).map_err(fault)?,
                    Some(_) => rows.missing(column, NOT_FINITE).map_err(fault)?,
                    None if field.is_empty() || field == b"?" => rows.missing(column, MISSING).map_err(fault)?,
                    None => {
                        let start: String = text_of(field).0.chars().take(60).collect();
                        let decimal_comma = start.contains(',') && start.replace(',', ".").parse::<f64>().is_ok();
                        let what = if decimal_comma { " (a decimal comma? write a point)" } else { "" };
                        let problem = format!("`{column}`: `{start}` is not a number{what}; or name it in `leave_out`");
                        return Err(fault(problem));
                    }
                }),
            }
        }
        rows.push(values, &labels, named).map_err(fault)?;
    }
    rows.notes.extend(traces.notes());
    rows.finish(features)
}

/// The number that a field is. A comma is a decimal one where the separator is another, and there is no point.
fn number(field: &[u8], separator: u8, traces: &mut Traces) -> Option<f64> {
    let text = std::str::from_utf8(field).ok()?;
    if let Ok(number) = text.parse::<f64>() {
        return Some(number);
    }
    if separator == b',' || text.contains('.') || text.bytes().filter(|&byte| byte == b',').count() != 1 {
        return None;
    }
    let number = text.replace(',', ".").parse::<f64>().ok()?;
    traces.decimal_commas += 1;
    Some(number)
}
