//! The rows of a table with a header line: a quick way for typical rows, and another one for all others.

use super::FeatureRow;
use super::csv_text::{Traces, text_of};
use super::number::plain_number;
use super::rows::{KnownLabels, MISSING, NOT_FINITE, Named, Role, Rows, single};
use super::zeek::{ZeekHeader, boolean};

/// The layout of a table, from its header.
pub(super) struct Table<'a> {
    pub separator: u8,
    /// The header's fields, trimmed of whitespace.
    pub header: Vec<Vec<u8>>,
    /// The names of the columns, without unnamed columns at the end of the header.
    pub columns: Vec<&'a str>,
    pub roles: Vec<Role>,
    /// The label columns.
    pub labels: Vec<&'a str>,
    pub features: usize,
    /// Whether some feature name is not a number, so that a repeated header line cannot be a row of numbers.
    pub names_are_words: bool,
    /// For Zeek's logs, their header; their lines with `#` are comments, and quotes have no meaning.
    pub zeek: Option<ZeekHeader>,
}

impl Table<'_> {
    /// Checks a line that is not part of the table; returns `None` if it is.
    pub(super) fn comment(&self, line: &[u8]) -> Option<Result<(), String>> {
        self.zeek.as_ref().filter(|_| line.first() == Some(&b'#')).map(|zeek| zeek.check(line))
    }

    /// Whether a field has no value.
    fn is_unset(&self, field: &[u8]) -> bool {
        self.zeek.as_ref().is_some_and(|zeek| zeek.is_unset(field))
    }

    /// Parses a field as a number.
    fn number(&self, field: &[u8], traces: &mut Traces) -> Option<f64> {
        match &self.zeek {
            Some(_) => boolean(field).or_else(|| number(field, b',', traces)),
            None => number(field, self.separator, traces),
        }
    }

    /// Whether a line ends the table: nfdump writes totals after it.
    pub(super) fn is_end(&self, line: &[u8]) -> bool {
        line.trim_ascii_end() == b"Summary" && self.columns.len() > 1
    }
}

/// Parses a typical row: as many fields as columns, plain numbers for all features, and UTF-8. Returns `None` for all
/// other rows.
pub(super) fn plain_row(
    table: &Table<'_>,
    rows: &Rows<'_>,
    line: &[u8],
    named: &mut Named,
    known: &mut KnownLabels,
) -> Option<Result<FeatureRow, String>> {
    if !table.names_are_words {
        return None;
    }
    let mut rest = Some(line.strip_suffix(b"\r").unwrap_or(line));
    let mut values = Vec::with_capacity(table.features);
    let (mut labels, mut groups) = (0, 0);
    for role in &table.roles {
        let text = rest?;
        if let Role::Number = role {
            let (number, length) = plain_number(text)?;
            rest = match text.get(length) {
                None => None,
                Some(&byte) if byte == table.separator => Some(&text[length + 1..]),
                Some(_) => return None,
            };
            let single = number as f32;
            values.push(Some(single).filter(|single| single.is_finite())?);
            continue;
        }
        let end = text.iter().position(|&byte| byte == table.separator);
        let field = std::str::from_utf8(text[..end.unwrap_or(text.len())].trim_ascii()).ok()?;
        rest = end.map(|end| &text[end + 1..]);
        match role {
            Role::Label => set(&mut named.labels, &mut labels, field),
            Role::Group => set(&mut named.group, &mut groups, field),
            Role::Endpoint(place) => field.clone_into(&mut named.endpoints[*place]),
            Role::LeftOut | Role::OneOf(_) | Role::Number => {}
        }
    }
    if rest.is_some() {
        return None;
    }
    Some(rows.make(values, &table.labels, named, known))
}

/// Stores a text at the next position of a list, reusing its memory for every row.
fn set(list: &mut Vec<String>, place: &mut usize, text: &str) {
    match list.get_mut(*place) {
        Some(old) => text.clone_into(old),
        None => list.push(text.to_owned()),
    }
    *place += 1;
}

/// Parses any row; returns `None` for a line that is not a row.
pub(super) fn any_row<'f>(
    table: &Table<'_>,
    rows: &Rows<'_>,
    fields: impl Iterator<Item = &'f [u8]> + Clone,
    traces: &mut Traces,
    known: &mut KnownLabels,
) -> Result<Option<FeatureRow>, String> {
    let count = fields.clone().count();
    if fields.clone().all(|field| field.trim_ascii().is_empty()) {
        // A completely empty line is not a row.
        traces.empty_rows += u64::from(count > 1);
        return Ok(None);
    }
    if count == table.header.len() && fields.clone().zip(&table.header).all(|(field, name)| field.trim_ascii() == name)
    {
        traces.headers += 1;
        return Ok(None);
    }
    let named_columns = table.columns.len();
    if count < named_columns {
        return Err(format!("{count} values for {named_columns} columns"));
    }
    if count > named_columns {
        if let Some(more) = fields.clone().skip(named_columns).find(|field| !field.trim_ascii().is_empty()) {
            let more: String = text_of(more).0.chars().take(60).collect();
            return Err(format!("{count} values for {named_columns} named columns: `{more}` has no column"));
        }
        traces.separators += 1;
    }
    let mut values = Vec::with_capacity(table.features);
    let mut named = Named::default();
    for ((field, role), column) in fields.zip(&table.roles).zip(&table.columns) {
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
            Role::Number => values.push(match table.number(field, traces) {
                Some(number) if number.is_finite() => single(number)?,
                Some(_) => rows.missing(column, NOT_FINITE)?,
                None if field.is_empty() || field == b"?" || table.is_unset(field) => rows.missing(column, MISSING)?,
                None => {
                    let start: String = text_of(field).0.chars().take(60).collect();
                    let decimal_comma = start.contains(',') && start.replace(',', ".").parse::<f64>().is_ok();
                    let what = if decimal_comma { " (a decimal comma? use a point)" } else { "" };
                    return Err(format!(
                        "`{column}`: `{start}` is not a number{what}; or list the column in `leave_out`"
                    ));
                }
            }),
        }
    }
    rows.make(values, &table.labels, &named, known).map(Some)
}

/// Parses a field as a number. A single comma counts as a decimal comma if the separator is another character and there
/// is no decimal point.
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
