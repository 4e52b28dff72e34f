//! Logs of Zeek, such as `conn.log`: tab-separated with the columns in a comment (`#fields`), or one JSON object per
//! line (<https://docs.zeek.org/en/master/log-formats.html>).
//!
//! A field without a value (`-`, `(empty)`, or absent from the object) is a missing value, and T and F are 1 and 0.

use std::collections::HashMap;
use std::io::BufRead;

use indexmap::IndexMap;
use serde_json::Value;

use super::rows::{Fault, KnownLabels, MISSING, Named, OneFile, Role, Rows, single};

/// How a tab-separated log begins.
const START: &[u8] = b"#separator";
/// Maximum number of comment lines before the rows; Zeek writes eight.
const MOST_COMMENTS: usize = 100;
/// Maximum number of keys of all JSON objects; a `conn.log` has about twenty.
const MOST_KEYS: usize = 10_000;

/// The comments at the start of a tab-separated log.
#[derive(Debug, PartialEq)]
pub(super) struct ZeekHeader {
    pub separator: u8,
    /// Names of the columns.
    pub names: Vec<Vec<u8>>,
    /// The texts of fields without a value, and of empty sets.
    unset: Vec<Vec<u8>>,
    empty: Vec<Vec<u8>>,
    /// Number of its lines and bytes.
    pub lines: u64,
    pub bytes: usize,
}

impl ZeekHeader {
    /// Parses the start of a file; returns `None` if it is not a tab-separated log.
    ///
    /// # Errors
    /// It has no `#fields`, or its separator is not a single byte.
    pub(super) fn parse(text: &[u8]) -> Result<Option<Self>, Fault> {
        if !text.starts_with(START) {
            return Ok(None);
        }
        let (names, unset, empty) = (Vec::new(), vec![b"-".to_vec()], Vec::new());
        let mut header = Self { separator: b'\t', names, unset, empty, lines: 0, bytes: 0 };
        let comments = text.split_inclusive(|&byte| byte == b'\n').take_while(|line| line.starts_with(b"#"));
        for line in comments.take(MOST_COMMENTS) {
            header.lines += 1;
            header.bytes += line.len();
            let line = line.trim_ascii_end();
            if let Some(separator) = line.strip_prefix(START) {
                header.separator = separator_of(separator.trim_ascii())
                    .ok_or_else(|| (header.lines, "#separator is not a single byte such as \\x09".to_owned()))?;
                continue;
            }
            let mut fields = line.split(|&byte| byte == header.separator);
            match fields.next() {
                Some(b"#fields") => header.names = fields.map(<[u8]>::to_vec).collect(),
                Some(b"#unset_field") => header.unset = fields.map(<[u8]>::to_vec).collect(),
                Some(b"#empty_field") => header.empty = fields.map(<[u8]>::to_vec).collect(),
                _ => {}
            }
        }
        if header.names.is_empty() {
            return Err((header.lines, "no line before the first row begins with #fields".to_owned()));
        }
        Ok(Some(header))
    }

    /// Whether a field has no value.
    pub(super) fn is_unset(&self, field: &[u8]) -> bool {
        self.unset.iter().chain(&self.empty).any(|text| text == field)
    }

    /// Checks a comment below the header. Where logs were appended to one another, the header of the next one may
    /// differ, and the rows below it would be read as values of other columns.
    pub(super) fn check(&self, comment: &[u8]) -> Result<(), String> {
        let comment = comment.trim_ascii_end();
        let same = match comment.strip_prefix(START) {
            Some(separator) => separator_of(separator.trim_ascii()) == Some(self.separator),
            None => {
                let mut fields = comment.split(|&byte| byte == self.separator);
                let known = match fields.next() {
                    Some(b"#fields") => &self.names,
                    Some(b"#unset_field") => &self.unset,
                    Some(b"#empty_field") => &self.empty,
                    _ => return Ok(()),
                };
                fields.eq(known)
            }
        };
        if same { Ok(()) } else { Err("columns change here; split the file into its logs".to_owned()) }
    }
}

/// Parses a separator, which Zeek writes as `\x09`.
fn separator_of(text: &[u8]) -> Option<u8> {
    match text {
        [byte] => Some(*byte),
        [b'\\', b'x', digits @ ..] if digits.len() == 2 => {
            u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        }
        _ => None,
    }
}

/// A row whose values are complete once all columns are known.
struct Partial {
    line: u64,
    /// The features that the object has, by number: objects need not have the same keys.
    values: Vec<(usize, f32)>,
    named: Named,
}

/// Reads one JSON object per line. Columns are the keys of all objects, in order of first appearance.
pub(super) fn read_objects(input: &mut impl BufRead, mut rows: Rows<'_>) -> Result<OneFile, Fault> {
    // Number of the feature, or the role of another column.
    let mut columns: IndexMap<String, Result<usize, Role>> = IndexMap::new();
    let mut features: Vec<String> = Vec::new();
    let mut partial: Vec<Partial> = Vec::new();
    let label_names: Vec<String> = rows.label_sources();
    let group_names: Vec<String> = rows.rules.group.clone();
    let (mut text, mut line) = (String::new(), 0);
    loop {
        text.clear();
        let read = input.read_line(&mut text).map_err(|error| (line + 1, error.to_string()))?;
        line += 1;
        if read == 0 {
            break;
        }
        if text.trim().is_empty() {
            continue;
        }
        let fault = |problem: String| (line, problem);
        let object: IndexMap<String, Value> = serde_json::from_str(&text).map_err(|error| {
            let error = error.to_string();
            fault(format!("it is not a JSON object: {}", error.split(" at line").next().unwrap_or_default()))
        })?;
        let mut row = Partial { line, values: Vec::with_capacity(object.len()), named: Named::default() };
        row.named.labels = vec![String::new(); label_names.len()];
        row.named.group = vec!["-".to_owned(); group_names.len()];
        for (name, value) in &object {
            if !columns.contains_key(name) {
                if columns.len() == MOST_KEYS {
                    let name: String = name.chars().take(60).collect();
                    let which = format!("`{name}` is key {} of the file", MOST_KEYS + 1);
                    return Err(fault(format!("{which}; keys must be names of columns, not values such as addresses")));
                }
                let kind = rows.role(name).map_or(Ok(features.len()), Err);
                if kind.is_ok() {
                    features.push(name.clone());
                }
                columns.insert(name.clone(), kind);
            }
            let place = |names: &[String]| names.iter().position(|other| other == name);
            match columns[name] {
                Ok(place) => row.values.extend(number(value, name).map_err(fault)?.map(|value| (place, value))),
                Err(Role::Label) => {
                    if let Some(place) = place(&label_names) {
                        row.named.labels[place] = shown(value);
                    }
                }
                Err(Role::Group) => {
                    if let Some(place) = place(&group_names) {
                        row.named.group[place] = shown(value);
                    }
                }
                Err(Role::Endpoint(place)) => row.named.endpoints[place] = shown(value),
                Err(Role::LeftOut | Role::Number | Role::OneOf(_)) => {}
            }
        }
        partial.push(row);
    }
    let names: Vec<&str> = columns.keys().map(String::as_str).collect();
    rows.check(&names, false).map_err(|problem| (1, problem))?;
    let labels: Vec<&str> = label_names.iter().map(String::as_str).collect();
    let mut known: KnownLabels = HashMap::new();
    for Partial { line, values, named } in partial {
        let fault = |problem: String| (line, problem);
        let mut given = vec![None; features.len()];
        values.into_iter().for_each(|(place, value)| given[place] = Some(value));
        let value = |(value, name): (Option<f32>, &String)| value.map_or_else(|| rows.missing(name, MISSING), Ok);
        let values = given.into_iter().zip(&features).map(value).collect::<Result<_, _>>().map_err(fault)?;
        let row = rows.make(values, &labels, &named, &mut known).map_err(fault)?;
        rows.add(row).map_err(fault)?;
    }
    rows.finish(features)
}

/// Returns a feature's value; `None` if it is null.
fn number(value: &Value, name: &str) -> Result<Option<f32>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(is_true) => Ok(Some(f32::from(u8::from(*is_true)))),
        Value::Number(number) => single(number.as_f64().unwrap_or(f64::NAN)).map(Some),
        Value::String(_) | Value::Array(_) | Value::Object(_) => {
            let start: String = value.to_string().chars().take(60).collect();
            Err(format!("`{name}`: `{start}` is not a number; list the column in `leave_out`"))
        }
    }
}

/// Returns a value as text.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Returns the value of a field that Zeek writes for a boolean.
pub(super) fn boolean(field: &[u8]) -> Option<f64> {
    match field {
        b"T" => Some(1.0),
        b"F" => Some(0.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_parsed() {
        let text = b"#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n\
                     #open\t2024-01-01-00-00-00\n#fields\tts\tuid\n#types\ttime\tstring\n1.5\tC\n";
        let header = ZeekHeader::parse(text).unwrap().unwrap();
        assert_eq!((header.separator, header.lines), (b'\t', 8));
        assert_eq!(header.names, [b"ts".to_vec(), b"uid".to_vec()]);
        assert_eq!(&text[header.bytes..], b"1.5\tC\n");
        assert!(header.is_unset(b"-") && header.is_unset(b"(empty)") && !header.is_unset(b""));
        let lines = || text.split(|&byte| byte == b'\n').take_while(|line| line.starts_with(b"#"));
        assert!(lines().all(|line| header.check(line).is_ok()));
        for (from, to) in [
            ("\\x09", ","),
            ("uid", "uid2"),
            ("ts\tuid", "uid\tts"),
            ("unset_field\t-", "unset_field\t?"),
            ("(empty)", "-"),
        ] {
            let changed = std::str::from_utf8(text).unwrap().replacen(from, to, 1);
            let refused =
                changed.lines().filter(|line| line.starts_with('#') && header.check(line.as_bytes()).is_err());
            assert_eq!(refused.count(), 1, "{from} {to}");
        }
        assert!(ZeekHeader::parse(b"ts,uid\n").unwrap().is_none());
        assert!(ZeekHeader::parse(b"#separator \\x09\n1\n").unwrap_err().1.contains("#fields"));
        assert!(ZeekHeader::parse(b"#separator tab\n").unwrap_err().1.contains("#separator"));
    }
}
