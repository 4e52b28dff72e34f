//! `etcbench explain`: explains the keys of experiments, using `experiments/README.md`, which is embedded in the
//! program.

use clap::Args;

use super::{Verdict, with_models};
use crate::declarative;

/// The reference of all keys: a section for each table of an experiment, with a Markdown table of its keys or with
/// paragraphs.
const REFERENCE: &str = include_str!("../../experiments/README.md");

/// `etcbench explain`.
#[derive(Args)]
#[command(after_help = with_models("Examples:
  etcbench explain model.{MODEL}.cost
  etcbench explain model.{OTHER}          all keys of one table
  etcbench explain split.method
  etcbench explain                        all keys"))]
pub(super) struct ExplainArguments {
    /// A key of an experiment, or a table of keys; all keys by default.
    key: Option<String>,
}

/// Prints the explanation of a key.
pub(super) fn explain(arguments: &ExplainArguments) -> anyhow::Result<Verdict> {
    let reference = Reference::read(REFERENCE);
    let Some(key) = &arguments.key else {
        reference.entries.iter().for_each(|entry| say!("{}", entry.in_one_line()));
        return Ok(Verdict::Done);
    };
    let found = reference.find(key);
    if found.is_empty() {
        let known = reference.entries.iter().map(|entry| entry.key.as_str());
        anyhow::bail!(
            "{key}: no such key{} (`etcbench explain` lists all keys)",
            declarative::did_you_mean(key, known)
        );
    }
    found.iter().for_each(|text| say!("{text}"));
    Ok(Verdict::Done)
}

/// The documentation of a key, from a row of a table.
#[derive(Debug, PartialEq)]
struct Entry {
    key: String,
    default: Option<String>,
    meaning: String,
}

impl Entry {
    fn in_one_line(&self) -> String {
        let default = self.default.as_ref().map_or(String::new(), |default| format!(" (default {default})"));
        format!("{}{default}: {}", self.key, self.meaning)
    }
}

struct Reference {
    entries: Vec<Entry>,
    /// For each section, the table of an experiment that it documents, and its paragraphs.
    sections: Vec<(String, Vec<String>)>,
}

impl Reference {
    fn read(text: &str) -> Self {
        let mut reference = Self { entries: Vec::new(), sections: vec![(String::new(), Vec::new())] };
        for block in text.split("\n\n") {
            let mut table: Option<(String, bool)> = None;
            for line in block.lines() {
                if let Some(heading) = line.strip_prefix("## ") {
                    let about = code(heading).next().unwrap_or_default();
                    reference.sections.push((about.trim_matches(['[', ']']).to_owned(), Vec::new()));
                    table = None;
                } else if let Some(row) = line.strip_prefix("| ") {
                    reference.add_row(row, &mut table);
                } else if !line.starts_with("|--") {
                    table = None;
                }
            }
            let is_text = !block.starts_with(['#', '|', '`']) && !block.trim().is_empty();
            if let (true, Some((_, paragraphs))) = (is_text || block.starts_with('`'), reference.sections.last_mut()) {
                paragraphs.push(block.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
        reference
    }

    /// Adds a row: the header of a table of keys, or one of its rows.
    fn add_row(&mut self, row: &str, table: &mut Option<(String, bool)>) {
        let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
        let section = self.sections.last().map_or("", |section| section.0.as_str());
        let Some((prefix, has_default)) = table else {
            let is_external = cells[0].ends_with("external model");
            let named = code(cells[0]).next().map(|name| name.trim_matches(['[', ']']).to_owned());
            let about = if is_external { Some("model.NAME".to_owned()) } else { named };
            let is_of_keys =
                cells[0].starts_with("key") || about.as_ref().is_some_and(|name| name.starts_with("model."));
            if is_of_keys {
                *table = Some((about.unwrap_or_else(|| section.to_owned()), cells.get(1) == Some(&"default")));
            }
            return;
        };
        let default = cells.get(1).filter(|default| *has_default && !default.is_empty());
        let defaults = default.map(|default| separate(default)).unwrap_or_default();
        let keys = code(cells[0]).count();
        let meaning = cells.get(if *has_default { 2 } else { 1 }).copied().unwrap_or_default();
        for (number, name) in code(cells[0]).enumerate() {
            let name = name.trim_start_matches('[').replace("] ", ".").replace(']', "");
            let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            // Several keys in a row have one default each, or share one.
            let stated = if defaults.len() == keys { defaults.get(number) } else { default };
            self.entries.push(Entry { key, default: stated.map(|&text| text.to_owned()), meaning: meaning.to_owned() });
        }
    }

    /// Returns everything documented about a key or a table of keys.
    fn find(&self, query: &str) -> Vec<String> {
        let is_it = |entry: &&Entry| entry.key == query || entry.key == in_general(query);
        let below = format!("{query}.");
        let exact: Vec<&Entry> = self.entries.iter().filter(is_it).collect();
        let entries = self.entries.iter().filter(|entry| entry.key.starts_with(&below));
        let found: Vec<String> = exact.into_iter().chain(entries).map(Entry::in_one_line).collect();
        // A section about the key itself, or tables whose keys are documented in paragraphs.
        let (about, name) = query.split_once('.').unwrap_or((query, ""));
        let named = format!("`{name}`");
        let general = in_general(query);
        let describes = |section: &str, text: &str| {
            section == general && general.contains('.')
                || section == about && (name.is_empty() || text.contains(&named))
        };
        let described: Vec<String> = self
            .sections
            .iter()
            .flat_map(|(section, paragraphs)| paragraphs.iter().filter(|text| describes(section, text)).cloned())
            .collect();
        let has_section = self.sections.iter().any(|(section, _)| section == &general && general.contains('.'));
        if found.is_empty() || has_section { described } else { found }
    }
}

/// Converts a model's key to the form that the reference uses for keys of every model: `model.NAME.input`.
fn in_general(key: &str) -> String {
    match key.strip_prefix("model.").and_then(|rest| rest.split_once('.')) {
        Some((_, rest)) => format!("model.NAME.{rest}"),
        None => key.to_owned(),
    }
}

/// Splits a list at its commas, except those in brackets.
fn separate(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let is_end = |letter: char| {
        depth += i32::from(letter == '[') - i32::from(letter == ']');
        letter == ',' && depth == 0
    };
    text.split(is_end).map(str::trim).collect()
}

/// Returns the texts between backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn keys(table: &toml::Table, prefix: &str, keys: &mut Vec<String>) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match value {
                // Keys of a sweep, below a name for each alternative.
                toml::Value::Table(axes) if key == "alternatives" => {
                    let named = axes.values().flat_map(|axis| axis.as_table().unwrap().values());
                    named.for_each(|alternative| self::keys(alternative.as_table().unwrap(), "", keys));
                }
                // Tables that contain names chosen by the user.
                toml::Value::Table(below)
                    if !["selection.classes", "selection.filter", "tune.space"].contains(&key.as_str()) =>
                {
                    self::keys(below, &key, keys);
                }
                _ => keys.push(key),
            }
        }
    }

    #[test]
    fn every_key_of_the_experiments_is_explained() {
        let reference = Reference::read(REFERENCE);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
        let mut all = Vec::new();
        for name in declarative::names(&folder) {
            let mut table = declarative::read_table(&folder.join(format!("{name}.toml"))).unwrap();
            for nested in ["variant", "on"] {
                let named = table.remove(nested).and_then(|value| value.try_into::<toml::Table>().ok());
                for (_, value) in named.unwrap_or_default() {
                    keys(value.as_table().unwrap(), "", &mut all);
                }
            }
            // The keys of a sweep are those that it varies.
            if let Some(toml::Value::Table(sweep)) = table.remove("sweep") {
                keys(&sweep, "", &mut all);
            }
            keys(&table, "", &mut all);
        }
        all.sort();
        all.dedup();
        assert!(all.len() > 60, "{all:?}");
        let unknown: Vec<&String> = all.iter().filter(|key| reference.find(key).is_empty()).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn a_key_is_explained_with_its_default() {
        let reference = Reference::read(REFERENCE);
        assert_eq!(
            reference.find("model.svm.cost"),
            ["model.svm.cost (default 1.0): price of a training row on the wrong side of its margin"]
        );
        assert!(reference.find("model.svm").len() > 8);
        assert!(reference.find("feature.bytes")[0].starts_with("feature.bytes (default 128): N and M"));
        assert!(reference.find("model.byte_cnn.kernel")[0].starts_with("model.byte_cnn.kernel (default 25): "));
        assert!(reference.find("split.method")[0].contains("`stratified`"));
        assert!(reference.find("model.svm.costs").is_empty());
        assert!(reference.find("model.decision_tree.minimum_samples_leaf")[0].contains("(default 1)"));
        assert!(reference.entries.iter().all(|entry| entry.key.matches("model.").count() < 2));
    }
}
