//! The rules that assign labels to captures: regular expressions on the stem or path, and a table.

use indexmap::IndexMap;
use regex::Regex;
use serde::Deserialize;

use super::definition_file::RuleSection;
use super::error::DatasetError;
use super::labelled::Labels;
use super::names::{composed, folded};
use etcbench_storage::declarative::nearest;

/// Extensions of compressed captures; stripped before the stem is determined.
pub(super) const COMPRESSIONS: [&str; 4] = ["gz", "bz2", "xz", "zst"];
/// Extensions of captures.
const CAPTURES: [&str; 3] = ["pcap", "pcapng", "cap"];

/// Returns the stem of a capture: its file name without folder, compression and extension (`vpn_chat` for
/// `a/vpn_chat.pcap.gz`).
pub fn capture_stem(path: &str) -> &str {
    let name = path.rsplit(['/', '!']).next().unwrap_or(path);
    let plain = without_compression(name);
    match plain.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => plain,
    }
}

/// Returns a path without its compression extension.
pub(super) fn without_compression(path: &str) -> &str {
    match path.rsplit_once('.') {
        Some((plain, end)) if COMPRESSIONS.iter().any(|known| end.eq_ignore_ascii_case(known)) => plain,
        _ => path,
    }
}

/// Returns whether a path has no compression extension.
pub(super) fn is_plain(path: &str) -> bool {
    without_compression(path).len() == path.len()
}

/// Returns a name without its capture extension, if any: label tables may list captures with or without it.
fn without_capture_end(name: &str) -> &str {
    let plain = without_compression(name);
    match plain.rsplit_once('.') {
        Some((stem, end)) if CAPTURES.iter().any(|known| end.eq_ignore_ascii_case(known)) => stem,
        _ => name,
    }
}

/// Checks that `column` is one of the definition's label columns.
pub(super) fn known_column(column: &str, columns: &[String]) -> Result<(), String> {
    if columns.iter().any(|known| known == column) {
        return Ok(());
    }
    let near = nearest(column, columns.iter().map(String::as_str)).unwrap_or_default();
    Err(format!("`{column}` is not in `label_columns`; the most similar is `{near}`"))
}

/// Adds `value` for `column`, or fails if it has another value. Values that differ only in Unicode form are equal.
pub(super) fn add_label(labels: &mut Labels, column: &str, value: &str) -> Result<(), String> {
    let value = &*composed(value);
    match labels.get(column) {
        Some(present) if present != value => {
            Err(format!("label column `{column}` is both `{present}` and `{value}`; make the rules consistent"))
        }
        Some(_) => Ok(()),
        None => {
            labels.insert(column.to_owned(), value.to_owned());
            Ok(())
        }
    }
}

#[derive(Debug, Clone)]
struct Rule {
    stem: Option<Regex>,
    path: Option<Regex>,
    labels: IndexMap<String, String>,
}

/// A table of labels by capture stem or path, matched regardless of letter case and Unicode form.
#[derive(Debug, Clone)]
pub(super) struct LabelTable {
    by: CaptureKey,
    /// Folded stem to the original stem and its labels.
    rows: IndexMap<String, (String, Labels)>,
}

/// Which part of a capture's path identifies it in a label table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CaptureKey {
    /// The file name without its extension, in any folder.
    #[default]
    Stem,
    /// The path relative to the dataset's folder, without its extension.
    Path,
}

impl LabelTable {
    /// Reads a CSV table with a header: column `key` contains the stems, all others labels.
    pub(crate) fn parse(
        file: &str,
        bytes: &[u8],
        key: &str,
        by: CaptureKey,
        columns: &[String],
    ) -> Result<Self, DatasetError> {
        let fault = |message: String| DatasetError::Definition { file: file.to_owned(), message };
        if [[0xff, 0xfe], [0xfe, 0xff]].iter().any(|mark| bytes.starts_with(mark)) {
            return Err(fault("it is UTF-16; save it as CSV in UTF-8".to_owned()));
        }
        let mut reader =
            csv::ReaderBuilder::new().terminator(csv::Terminator::Any(b'\n')).trim(csv::Trim::All).from_reader(bytes);
        let headers = reader.headers().map_err(|error| fault(error.to_string()))?.clone();
        let key_index = headers.iter().position(|header| header == key).ok_or_else(|| {
            let near = nearest(key, headers.iter()).unwrap_or_default();
            fault(format!(
                "column `{key}`, named by the definition's `table.key`, is missing; the most similar is `{near}`"
            ))
        })?;
        for (index, header) in headers.iter().enumerate() {
            if index != key_index {
                known_column(header, columns).map_err(&fault)?;
            }
        }
        let mut rows = IndexMap::new();
        for record in reader.records() {
            let record = record.map_err(|error| fault(error.to_string()))?;
            let line = record.position().map_or(0, csv::Position::line);
            let mut labels = Labels::new();
            for (header, value) in headers.iter().zip(record.iter()) {
                if value.is_empty() {
                    return Err(fault(format!("line {line}: column `{header}` is empty")));
                }
                if header != key {
                    add_label(&mut labels, header, value).map_err(&fault)?;
                }
            }
            let stem = relative(without_capture_end(&record[key_index])).map_err(|problem| {
                fault(format!(
                    "line {line}: `{}` {problem}; use a path relative to the dataset's folder",
                    &record[key_index]
                ))
            })?;
            if by == CaptureKey::Stem && stem.contains('/') {
                return Err(fault(format!(
                    "line {line}: `{stem}` is a path; set `by = \"path\"` in [table], or use only the file name"
                )));
            }
            if let Some((other, _)) = rows.insert(folded(&stem), (stem.clone(), labels)) {
                return Err(fault(format!(
                    "line {line}: `{stem}` repeats `{other}` (ignoring letter case and Unicode form)"
                )));
            }
        }
        Ok(Self { by, rows })
    }

    /// Returns the row of the capture at `path` (relative, with `/`).
    fn row(&self, path: &str) -> Option<&(String, Labels)> {
        match self.by {
            CaptureKey::Stem => self.rows.get(&folded(capture_stem(path))),
            CaptureKey::Path => self.rows.get(&folded(without_capture_end(path))),
        }
    }
}

/// Normalizes a path from a table to the form of capture paths: with `/`, without the `./` that `find` writes.
fn relative(path: &str) -> Result<String, &'static str> {
    // Spreadsheets on Windows may contain backslashes.
    let path = path.replace('\\', "/");
    let drive = path.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) && path[1..].starts_with(":/");
    if path.starts_with('/') || drive {
        return Err("is an absolute path");
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err("points outside the dataset's folder");
    }
    Ok(parts.join("/"))
}

/// All rules of a definition.
#[derive(Debug, Clone, Default)]
pub(super) struct LabelRules {
    rules: Vec<Rule>,
    table: Option<LabelTable>,
    /// The label columns given by the folders of a path, outermost first.
    folders: Vec<String>,
}

impl LabelRules {
    /// Compiles the rules; errors identify the rule and the problem.
    pub(crate) fn new(
        columns: &[String],
        sections: &[RuleSection],
        table: Option<LabelTable>,
        folders: &[String],
    ) -> Result<Self, String> {
        for column in folders {
            known_column(column, columns).map_err(|message| format!("[folders]: {message}"))?;
        }
        let mut rules = Vec::with_capacity(sections.len());
        for (index, section) in sections.iter().enumerate() {
            let place = format!("[[rule]] number {}", index + 1);
            if section.stem.is_none() && section.path.is_none() {
                return Err(format!("{place} has neither `stem` nor `path`"));
            }
            let compile = |pattern: &Option<String>| match pattern {
                None => Ok(None),
                Some(pattern) => Regex::new(&composed(pattern)).map(Some).map_err(|error| {
                    format!("{place}: `{pattern}`: {}", error.to_string().lines().last().unwrap_or("not valid").trim())
                }),
            };
            let rule =
                Rule { stem: compile(&section.stem)?, path: compile(&section.path)?, labels: section.labels.clone() };
            let groups = rule.stem.iter().chain(&rule.path).flat_map(|regex| regex.capture_names().flatten());
            let named: Vec<&str> = groups.chain(rule.labels.keys().map(String::as_str)).collect();
            if named.is_empty() {
                return Err(format!("{place} sets no label: add `labels` or a named group"));
            }
            for column in named {
                known_column(column, columns).map_err(|message| format!("{place}: {message}"))?;
            }
            rules.push(rule);
        }
        Ok(Self { rules, table, folders: folders.to_vec() })
    }

    /// Returns the labels of the capture at `path` (relative, with `/`); empty if no rule matches.
    pub(crate) fn labels_of(&self, path: &str) -> Result<Labels, String> {
        let path = &*composed(path);
        let stem = capture_stem(path);
        let mut labels = Labels::new();
        if let Some((_, row)) = self.table.as_ref().and_then(|table| table.row(path)) {
            labels.clone_from(row);
        }
        let parts: Vec<&str> = path.split('/').collect();
        if parts.len() > self.folders.len() {
            for (column, part) in self.folders.iter().zip(parts) {
                add_label(&mut labels, column, part)?;
            }
        }
        for rule in &self.rules {
            let mut groups = Vec::new();
            let matched = [(&rule.stem, stem), (&rule.path, path)].into_iter().all(|(regex, text)| match regex {
                None => true,
                Some(regex) => regex.captures(text).is_some_and(|captures| {
                    for name in regex.capture_names().flatten() {
                        if let Some(value) = captures.name(name) {
                            groups.push((name.to_owned(), value.as_str().to_owned()));
                        }
                    }
                    true
                }),
            });
            if matched {
                let fixed = rule.labels.iter().map(|(column, value)| (column.clone(), value.clone()));
                for (column, value) in fixed.chain(groups) {
                    add_label(&mut labels, &column, &value)?;
                }
            }
        }
        Ok(labels)
    }

    /// Returns the table's stem for the capture at `path`, if the table contains it.
    pub(crate) fn table_stem(&self, path: &str) -> Option<&str> {
        Some(&self.table.as_ref()?.row(path)?.0)
    }

    /// Returns all stems of the table, in order.
    pub(crate) fn table_stems(&self) -> Vec<&str> {
        self.table.iter().flat_map(|table| table.rows.values().map(|(stem, _)| stem.as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<String> {
        ["tunnel", "category"].map(str::to_owned).to_vec()
    }

    fn rule(stem: Option<&str>, path: Option<&str>, labels: &[(&str, &str)]) -> RuleSection {
        RuleSection {
            stem: stem.map(str::to_owned),
            path: path.map(str::to_owned),
            labels: labels.iter().map(|(c, v)| ((*c).to_owned(), (*v).to_owned())).collect(),
        }
    }

    #[test]
    fn stems_lose_folder_compression_and_extension() {
        assert_eq!(capture_stem("a/b/vpn_chat.pcap"), "vpn_chat");
        assert_eq!(capture_stem("vpn_chat.PCAPNG.GZ"), "vpn_chat");
        assert_eq!(capture_stem("capture20110810.truncated.pcap"), "capture20110810.truncated");
        assert_eq!(capture_stem("noextension"), "noextension");
    }

    #[test]
    fn directory_stem_and_table_rules_join() {
        let table =
            LabelTable::parse("t.csv", b"stem,tunnel\nCall1,vpn\n", "stem", CaptureKey::Stem, &columns()).unwrap();
        let rules = LabelRules::new(
            &columns(),
            &[
                rule(None, Some("^vpn/(?<category>[^/]+)/"), &[("tunnel", "vpn")]),
                rule(Some("^x-(?<category>.+)$"), None, &[]),
            ],
            Some(table),
            &[],
        )
        .unwrap();
        let labels = rules.labels_of("vpn/voip/call1.pcap").unwrap();
        assert_eq!((labels["tunnel"].as_str(), labels["category"].as_str()), ("vpn", "voip"));
        assert_eq!(rules.labels_of("any/x-chat.pcap").unwrap()["category"], "chat");
        assert!(rules.labels_of("other.pcap").unwrap().is_empty());
        let conflict = rules.labels_of("vpn/voip/x-chat.pcap").unwrap_err();
        assert!(conflict.contains("`category` is both `voip` and `chat`"), "{conflict}");
        assert_eq!(rules.table_stem("CALL1.pcapng"), Some("Call1"));
    }

    #[test]
    fn folders_and_paths_give_labels() {
        let folders = ["tunnel".to_owned(), "category".to_owned()];
        let rules = LabelRules::new(&columns(), &[], None, &folders).unwrap();
        let labels = rules.labels_of("vpn/chat/deep/1.pcap").unwrap();
        assert_eq!((labels["tunnel"].as_str(), labels["category"].as_str()), ("vpn", "chat"));
        assert!(rules.labels_of("vpn/1.pcap").unwrap().is_empty());

        let text = b"file,tunnel\nA\\1.pcap,vpn\nb/1.PCAPNG.gz,tor\n";
        let table = LabelTable::parse("t.csv", text, "file", CaptureKey::Path, &columns()).unwrap();
        let rules = LabelRules::new(&columns(), &[], Some(table), &[]).unwrap();
        assert_eq!(rules.labels_of("a/1.pcap").unwrap()["tunnel"], "vpn");
        assert_eq!(rules.labels_of("B/1.pcap").unwrap()["tunnel"], "tor");
        assert!(rules.labels_of("1.pcap").unwrap().is_empty());
        let path = LabelTable::parse("t.csv", text, "file", CaptureKey::Stem, &columns()).unwrap_err();
        assert!(path.to_string().contains("line 2: `A/1` is a path"), "{path}");
    }

    #[test]
    fn a_rule_that_cannot_work_is_an_error() {
        let fault = |section| LabelRules::new(&columns(), &[section], None, &[]).unwrap_err();
        assert!(fault(rule(None, None, &[("tunnel", "vpn")])).contains("neither `stem` nor `path`"));
        assert!(fault(rule(Some("("), None, &[("tunnel", "vpn")])).contains("[[rule]] number 1"));
        assert!(fault(rule(Some("a"), None, &[])).contains("sets no label"));
        assert!(fault(rule(Some("(?<catgory>a)"), None, &[])).contains("most similar is `category`"));
    }

    #[test]
    fn a_table_with_a_repeated_stem_or_unknown_column_is_an_error() {
        let repeated = LabelTable::parse("t.csv", b"stem,tunnel\nA,vpn\na,tor\n", "stem", CaptureKey::Stem, &columns())
            .unwrap_err();
        assert!(repeated.to_string().contains("`a` repeats `A`"), "{repeated}");
        let unknown =
            LabelTable::parse("t.csv", b"stem,tunel\nA,vpn\n", "stem", CaptureKey::Stem, &columns()).unwrap_err();
        assert!(unknown.to_string().contains("most similar is `tunnel`"), "{unknown}");
        let key = LabelTable::parse("t.csv", b"stem,tunnel\n", "stme", CaptureKey::Stem, &columns()).unwrap_err();
        assert!(key.to_string().contains("the most similar is `stem`"), "{key}");
    }
}
