//! The provenance of a run: `run.json` as lists and tables. It is read without a fixed schema so that runs of other
//! versions can be shown; unknown keys are shown as they are.

use askama::Template;
use serde_json::Value;

use super::table::{Look, TableView};
use super::{Cell, Column, Table};

/// `provenance.html`: the content of `run.json`.
#[derive(Template)]
#[template(path = "provenance.html", whitespace = "minimize")]
pub(super) struct ProvenanceView {
    /// Version, machine and similar facts, by name.
    facts: Vec<(String, String)>,
    /// Folded sections, each with its title.
    parts: Vec<(String, Vec<TableView>)>,
    /// The run above with the same captures, which are then not repeated.
    captures_of: Option<String>,
}

impl ProvenanceView {
    /// Builds the view of a `run.json`, without captures if another run already shows the same.
    pub(super) fn new(information: &Value, captures_of: Option<&str>) -> Self {
        let part = |name: &str| information.get(name).and_then(Value::as_object).into_iter().flatten();
        // The invocation distinguishes the run from others; the provenance follows.
        let facts = part("invocation").chain(part("provenance"));
        let parts = [
            ("variants", "Flows of every variant"),
            ("fits", "Fits and their costs"),
            ("captures", "Captures and their SHA-256"),
        ];
        let part = |(key, title): (&str, &str)| {
            if key == "captures" && captures_of.is_some() {
                return None;
            }
            let items = information.get(key)?.as_array()?;
            let shown = |table| TableView::new(&table, &Look::default());
            let tables = match key {
                "variants" => items.iter().map(flows).collect(),
                // These keys are the same for all fits of a run.
                "fits" => vec![shown(items_table(title, items, &["experiment", "dataset", "size"]))],
                _ => vec![shown(items_table(title, items, &[]))],
            };
            let count = if items.len() == 1 { String::new() } else { format!(" ({})", items.len()) };
            Some((format!("{title}{count}"), tables))
        };
        Self {
            facts: facts.map(|(key, value)| fact(key, value)).collect(),
            parts: parts.into_iter().filter_map(part).collect(),
            captures_of: captures_of.map(str::to_owned),
        }
    }
}

fn fact(key: &str, value: &Value) -> (String, String) {
    match (key, value) {
        ("memory_bytes", Value::Number(bytes)) => {
            ("memory".to_owned(), format!("{:.1} GB", bytes.as_f64().unwrap_or(0.0) / 1e9))
        }
        ("wall_seconds", Value::Number(seconds)) => {
            ("elapsed seconds".to_owned(), format!("{:.1}", seconds.as_f64().unwrap_or(0.0)))
        }
        ("memory_bytes", _) => ("memory".to_owned(), plain(value)),
        _ => (key.replace('_', " "), plain(value)),
    }
}

/// Renders a variant: its flows per class, and what was left out.
fn flows(variant: &Value) -> TableView {
    let mut counted = Table {
        title: variant.get("name").map_or(String::new(), plain),
        columns: vec![Column::text("class", "class"), Column::number("flows", "flows")],
        ..Table::default()
    };
    for pair in variant.get("flows_per_class").and_then(Value::as_array).into_iter().flatten() {
        if let (Some(class), Some(flows)) = (pair.get(0), pair.get(1)) {
            counted.rows.push(vec![Cell::Text(plain(class)), cell(flows)]);
        }
    }
    for (key, value) in variant.as_object().into_iter().flatten() {
        let empty = value.as_array().is_some_and(Vec::is_empty);
        if !["name", "flows_per_class"].contains(&key.as_str()) && !empty {
            counted.notes.push(format!("{}: {}", key.replace('_', " "), plain(value)));
        }
    }
    TableView::new(&counted, &Look { titled: true, ..Look::default() })
}

/// Returns a table with a row per item and a column per key.
fn items_table(title: &str, items: &[Value], left_out: &[&str]) -> Table {
    // The keys of a nested object, such as the cost of a stage, become separate columns.
    let mut flat: Vec<Vec<(String, &Value)>> = Vec::new();
    for item in items {
        let mut fields = Vec::new();
        for (key, value) in item.as_object().into_iter().flatten() {
            match value {
                Value::Object(inner) => {
                    fields.extend(inner.iter().map(|(name, value)| (format!("{key} {name}"), value)));
                }
                _ => fields.push((key.clone(), value)),
            }
        }
        flat.push(fields);
    }
    let mut keys: Vec<&String> = Vec::new();
    for (key, value) in flat.iter().flatten() {
        let has_content = !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty());
        if has_content && !left_out.contains(&key.as_str()) && !keys.contains(&key) {
            keys.push(key);
        }
    }
    // A value that is the same in all of many rows is stated once.
    let mut same = Vec::new();
    if flat.len() > FEW_ROWS {
        keys.retain(|key| {
            let mut values =
                flat.iter().map(|fields| fields.iter().find(|(name, _)| name == *key).map(|(_, value)| *value));
            let first = values.next().flatten();
            let varies = first.is_none() || values.any(|value| value != first);
            if let (Some(first), false) = (first, varies) {
                same.push(format!("{} {}", key.replace('_', " "), plain(first)));
            }
            varies
        });
    }
    let field = |fields: &'_ [(String, &'_ Value)], key: &String| {
        fields.iter().find(|(name, _)| name == key).map_or(Cell::Absent, |(_, value)| cell(value))
    };
    let rows: Vec<Vec<Cell>> = flat.iter().map(|fields| keys.iter().map(|key| field(fields, key)).collect()).collect();
    let column = |(index, key): (usize, &&String)| {
        let numeric = rows.iter().all(|row| !matches!(row[index], Cell::Text(_)));
        let heading = key.replace('_', " ");
        if numeric { Column::number(key, &heading) } else { Column::text(key, &heading) }
    };
    let columns = keys.iter().enumerate().map(column).collect();
    let mut notes = Vec::new();
    if !same.is_empty() {
        notes.push(format!("In every row: {}.", same.join("; ")));
    }
    if flat.iter().flatten().any(|(_, value)| value.as_str().is_some_and(|text| shortened(text).is_some())) {
        notes.push(format!("Checksums and keys are truncated to {SHOWN_DIGITS} digits; run.json has them in full."));
    }
    Table { title: title.to_owned(), columns, rows, notes, ..Table::default() }
}

/// Tables with at most this many rows keep all of their columns.
const FEW_ROWS: usize = 3;

/// Number of digits shown of a checksum, enough to distinguish it.
const SHOWN_DIGITS: usize = 12;

/// Truncates a checksum, cache key or commit for display; returns `None` for any other text.
fn shortened(text: &str) -> Option<String> {
    let (digits, rest) =
        text.split_once('-').map_or((text, String::new()), |(digits, rest)| (digits, format!("-{rest}")));
    let hash = digits.len() >= 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    hash.then(|| format!("{}{rest}", &digits[..SHOWN_DIGITS]))
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Absent,
        Value::Number(number) => {
            let value = number.as_f64().unwrap_or(0.0);
            let decimals = if number.is_f64() { 3 } else { 0 };
            Cell::number(value, decimals)
        }
        _ => Cell::Text(plain(value)),
    }
}

/// Formats a value as text.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "unknown".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) => shortened(text).unwrap_or_else(|| text.clone()),
        Value::Number(number) => number.to_string(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join("; "),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| format!("{} {}", key.replace('_', " "), plain(value));
            fields.iter().map(field).collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_facts_are_shown_too() {
        let information = serde_json::json!({
            "provenance": {"version": "0.1.0", "commit": null, "memory_bytes": 2_000_000_000_u64},
            "variants": [{"name": "a", "flows_per_class": [["x<y", 3]], "new_key": {"left_out": 4}}],
            "fits": [{"model": "svm", "fit": {"wall_seconds": 1.5}, "notes": []}, {"model": "knn", "surprise": [1, 2]}],
        });
        let html = ProvenanceView::new(&information, None).to_string();
        for part in
            ["<dd>2.0 GB</dd>", "<dd>unknown</dd>", "x&#60;y", "new key: left out 4", "fit wall seconds", "1; 2"]
        {
            assert!(html.contains(part), "{part} is not in {html}");
        }
        let hash = "0123456789abcdef".repeat(4);
        let captures: Vec<Value> =
            (0..5).map(|number| serde_json::json!({"capture": number, "sha256": hash, "skipped": 0})).collect();
        let shown = ProvenanceView::new(&serde_json::json!({"captures": captures}), None).to_string();
        let again = ProvenanceView::new(&serde_json::json!({"captures": captures}), Some("table1")).to_string();
        assert!(!again.contains("sha256") && again.contains("The captures are the same as those of table1"), "{again}");
        for part in ["In every row: sha256 0123456789ab; skipped 0.", "truncated to 12 digits"] {
            assert!(shown.contains(part) && !shown.contains(&hash), "{part} is not in {shown}");
        }
        assert!(!html.contains("notes</th>"), "a column without content: {html}");
        assert_eq!(ProvenanceView::new(&serde_json::json!({}), None).to_string().trim(), "");
    }
}
