//! Declarative files: TOML read into typed values, with errors that name the file, the key and the nearest known key.
//! Experiments, datasets and tolerances are all read here.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::hints;

/// Why a declarative file cannot be used: one line that says where the problem is and how to fix it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeclarativeError {
    /// The file cannot be read.
    #[error("{}: {problem}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Error reported by the file system.
        problem: String,
    },
    /// The text is not TOML, or a key or value in it cannot be used.
    #[error("{origin}: {problem}")]
    Content {
        /// The file, with the line or the section if known.
        origin: String,
        /// The problem and how to fix it.
        problem: String,
    },
}

impl DeclarativeError {
    /// Reports that `key` is not among `known`, and suggests the nearest.
    pub fn unknown_key<'a>(key: &str, known: impl IntoIterator<Item = &'a str>, origin: &str) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        Self::Content { origin: origin.to_owned(), problem: unknown("key", key, &known) }
    }
}

/// Reads a TOML file as a table.
///
/// # Errors
/// A file that cannot be read or is not TOML (the error names the line).
pub fn read_table(path: &Path) -> Result<toml::Table, DeclarativeError> {
    parse_table(&read_text(path)?, &path.display().to_string())
}

/// Returns the names of the TOML files in a folder, including its stock files, sorted and without the extension.
pub fn names(folder: &Path) -> Vec<String> {
    let names = super::names_with_stock(folder);
    names.iter().filter_map(|name| Some(name.strip_suffix(".toml")?.to_owned())).collect()
}

/// Upper limit for hand-written files; the parsed form takes some twenty times as much memory.
const MAXIMUM_BYTES: u64 = 8 << 20;

/// Reads a hand-written text file, or the stock file in its place.
///
/// # Errors
/// A file that cannot be read, is not text or has more than 8 MiB.
pub fn read_text(path: &Path) -> Result<String, DeclarativeError> {
    let problem = |problem: String| DeclarativeError::Read { path: path.to_owned(), problem };
    let bytes =
        super::or_stock(path, super::read_at_most(path, MAXIMUM_BYTES)).map_err(|error| problem(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| problem(format!("it is not valid UTF-8 text ({})", error.utf8_error())))
}

/// Parses TOML text; `origin` names it in errors.
///
/// # Errors
/// Text that is not TOML (the error names the line).
pub fn parse_table(text: &str, origin: &str) -> Result<toml::Table, DeclarativeError> {
    parse(text, origin)
}

/// Parses TOML text into a typed value; `origin` names it in errors.
///
/// # Errors
/// Text that is not TOML, and a key that is unknown (the error suggests the nearest known one), missing, or has a value
/// of the wrong type. The error names the line.
pub fn parse<T: DeserializeOwned>(text: &str, origin: &str) -> Result<T, DeclarativeError> {
    toml::from_str(text).map_err(|error| DeclarativeError::Content {
        origin: with_line(origin, text, &error),
        problem: text.parse().map_or_else(|_| description(&error), |table| with_missing::<T>(table, &error)),
    })
}

/// Turns a table into a typed value; `origin` names the file and section in errors.
///
/// # Errors
/// A key that is unknown (the error suggests the nearest known one), missing, or has a value of the wrong type.
pub fn typed<T: DeserializeOwned>(table: toml::Table, origin: &str) -> Result<T, DeclarativeError> {
    T::deserialize(toml::Value::Table(table.clone())).map_err(|error| DeclarativeError::Content {
        origin: origin.to_owned(),
        problem: with_missing::<T>(table, &error),
    })
}

fn description(error: &toml::de::Error) -> String {
    with_nearest_key(&one_line(error.message()))
}

/// Returns the key that serde reports as missing.
fn missing_key(error: &toml::de::Error) -> Option<String> {
    Some(error.message().strip_prefix("missing field `")?.split_once('`')?.0.to_owned())
}

/// Describes why a table is not a `T`; if keys are missing, lists all of them. Serde reports only the first missing key
/// until it is present, so this puts in values of every type until serde names another key.
fn with_missing<T: DeserializeOwned>(mut table: toml::Table, error: &toml::de::Error) -> String {
    let Some(first) = missing_key(error).filter(|key| !table.contains_key(key)) else { return description(error) };
    let mut missing = vec![first];
    while let Some(key) = missing.last().cloned() {
        let path: Vec<&str> = vec![&key];
        match next_missing::<T>(&mut table, &path) {
            Some(next) if !missing.contains(&next) => missing.push(next),
            _ => break,
        }
    }
    match missing.as_slice() {
        [one] => format!("missing key `{one}`"),
        all => format!("missing keys {}", all.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// Puts a value that is accepted at a path, and returns the key of the whole table that serde then reports as missing,
/// or `None` if no value is accepted or nothing else is missing. If the value is a table, its own missing keys are
/// filled in first.
fn next_missing<T: DeserializeOwned>(table: &mut toml::Table, path: &[&str]) -> Option<String> {
    /// Deeper than the deepest section.
    const DEEPEST: usize = 3;
    let text = String::new();
    let any = [toml::Value::String(text), 1.into(), true.into(), toml::Value::Array(Vec::new()), 1.5.into()];
    for value in any.into_iter().chain([toml::Value::Table(toml::Table::new())]) {
        let is_table = value.is_table();
        put(table, path, value);
        let error = T::deserialize(toml::Value::Table(table.clone())).err()?;
        let Some(next) = missing_key(&error) else { continue };
        if !is_table {
            return Some(next).filter(|next| !table.contains_key(next));
        }
        // The key may be missing from the whole table or from the one just inserted: it belongs to the one that knows
        // it.
        let mut extended = table.clone();
        extended.insert(next.clone(), toml::Value::Table(toml::Table::new()));
        let after = T::deserialize(toml::Value::Table(extended)).err();
        let unknown = after.is_some_and(|error| {
            error.message().starts_with("unknown field") || missing_key(&error).as_ref() == Some(&next)
        });
        if !unknown && !table.contains_key(&next) {
            return Some(next);
        }
        return match path.len() < DEEPEST {
            true => next_missing::<T>(table, &[path, &[&next]].concat()),
            false => None,
        };
    }
    None
}

/// Puts a value at a path whose tables exist.
fn put(table: &mut toml::Table, path: &[&str], value: toml::Value) {
    match path {
        [] => {}
        [key] => _ = table.insert((*key).to_owned(), value),
        [key, rest @ ..] => {
            if let Some(toml::Value::Table(below)) = table.get_mut(*key) {
                put(below, rest, value);
            }
        }
    }
}

/// Merges `over` into `base`: tables key by key, anything else is replaced.
pub fn merge(base: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Parses `key.path=value` as given on the command line. The value is TOML; a bare word is a string.
///
/// # Errors
/// Text without `=`, or with an empty key.
pub fn parse_assignment(text: &str) -> Result<toml::Table, DeclarativeError> {
    let problem = |problem: &str| DeclarativeError::Content {
        origin: format!("--set {text}"),
        problem: format!("{problem}; write it as key=value, such as feature.packets=8"),
    };
    let (key, value) = text.split_once('=').ok_or_else(|| problem("there is no '='"))?;
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() || key.split('.').any(|part| part.trim().is_empty()) {
        return Err(problem("a part of the key is empty"));
    }
    let value = toml::from_str::<toml::Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut parts = key.split('.').rev();
    let mut table = toml::Table::new();
    table.insert(parts.next().unwrap_or(key).trim().to_owned(), value);
    for part in parts {
        let mut outer = toml::Table::new();
        outer.insert(part.trim().to_owned(), toml::Value::Table(table));
        table = outer;
    }
    Ok(table)
}

/// Returns the candidate most similar to `name` (case-insensitive Damerau-Levenshtein distance; the first of equally
/// near ones), or `None` if there is no candidate.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    candidates.into_iter().min_by_key(|candidate| strsim::damerau_levenshtein(&name, &candidate.to_lowercase()))
}

/// Returns `, did you mean X?`, where X is our term for `name` if it is a common name elsewhere, else the nearest
/// candidate; empty if no candidate is near enough to be a typo.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(ours) = hints::meant(name, &candidates) {
        return format!(", did you mean `{ours}`?");
    }
    nearest(name, candidates)
        .filter(|known| strsim::normalized_damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()) >= 0.5)
        .map_or(String::new(), |known| format!(", did you mean `{known}`?"))
}

/// Describes an unknown key or value, with the nearest and all known ones.
pub fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    format!("unknown {what} `{name}`{} (known: {})", did_you_mean(name, known.iter().copied()), known.join(", "))
}

/// Length limit for a user-given name that becomes part of a file name; file systems allow 255 bytes in total.
const MAXIMUM_NAME_BYTES: usize = 120;

/// Checks that a user-given name can be part of a file name on every system.
///
/// # Errors
/// Description of the problem.
pub fn as_file_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.starts_with('.') {
        return Err("it becomes part of file names, so it must not be empty or begin with a dot".to_owned());
    }
    if let Some(letter) = name.chars().find(|&letter| letter.is_control() || matches!(letter, '/' | '\\')) {
        return Err(format!("it becomes part of file names, which cannot contain {letter:?}; give it another `name`"));
    }
    if name.len() > MAXIMUM_NAME_BYTES {
        let bytes = name.len();
        return Err(format!(
            "it becomes part of file names, and has {bytes} bytes (at most {MAXIMUM_NAME_BYTES}); give it a shorter \
             `name`"
        ));
    }
    Ok(())
}

/// Returns the first duplicate in a list, or `None` if all values are distinct.
pub fn first_repeated<T: PartialEq>(values: &[T]) -> Option<&T> {
    (1..values.len()).find(|&index| values[..index].contains(&values[index])).map(|index| &values[index])
}

/// Rephrases a serde message for the author of the file: names the unknown key or value and the nearest known one, and
/// replaces Rust type names by what is expected.
pub fn with_nearest_key(message: &str) -> String {
    for kind in ["field", "variant"] {
        let Some(rest) = message.strip_prefix(&format!("unknown {kind} `")) else { continue };
        let Some((name, known)) = rest.split_once('`') else { continue };
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        let what = if kind == "field" { "key" } else { "value" };
        return unknown(what, name, &known);
    }
    let message = WORDS.iter().fold(message.to_owned(), |message, (types, words)| message.replace(types, words));
    // Users do not know the names of our structs.
    match message.split_once("expected struct ") {
        Some((before, rest)) => {
            let after = rest.find(' ').map_or("", |end| &rest[end..]);
            format!("{before}expected a table{after}")
        }
        None => message,
    }
}

/// Serde's wording and ours.
const WORDS: [(&str, &str); 16] = [
    ("missing field", "missing key"),
    ("expected usize", "expected a non-negative integer"),
    ("expected u64", "expected a non-negative integer"),
    ("expected u32", "expected a non-negative integer"),
    ("expected u16", "expected a non-negative integer"),
    ("expected u8", "expected a non-negative integer"),
    ("expected i64", "expected an integer"),
    ("expected f64", "expected a number"),
    ("expected f32", "expected a number"),
    ("expected a sequence", "expected a list"),
    ("expected a map", "expected a table"),
    ("expected a boolean", "expected true or false"),
    ("expected struct Line with 15 elements", "expected a record"),
    ("type: floating point", "type: number"),
    ("type: sequence", "type: list"),
    ("type: map", "type: table"),
];

fn with_line(origin: &str, text: &str, error: &toml::de::Error) -> String {
    match error.span() {
        Some(span) => {
            let line = 1 + text.as_bytes()[..span.start.min(text.len())].iter().filter(|&&byte| byte == b'\n').count();
            format!("{origin}, line {line}")
        }
        None => origin.to_owned(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Section {
        #[expect(dead_code, reason = "only its name matters here")]
        packets: usize,
    }

    #[test]
    fn an_unknown_key_names_the_file_and_the_nearest_known_key() {
        let table = parse_table("pakets = 3", "table2.toml").unwrap();
        let error = typed::<Section>(table, "table2.toml: [feature]").unwrap_err().to_string();
        assert_eq!(error, "table2.toml: [feature]: unknown key `pakets`, did you mean `packets`? (known: packets)");
    }

    #[test]
    fn errors_in_a_file_are_reported_with_their_line() {
        let error = parse::<Section>("\npakets = 3", "x.toml").unwrap_err().to_string();
        assert!(error.starts_with("x.toml, line 2: unknown key `pakets`, did you mean `packets`?"), "{error}");
        let error = parse::<Section>("packets = \"many\"", "x.toml").unwrap_err().to_string();
        assert!(error.starts_with("x.toml, line 1: "), "{error}");
        assert!(parse::<Section>("", "x.toml").unwrap_err().to_string().contains("missing key `packets`"));
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only their names matter here")]
    struct Sections {
        title: String,
        flows: u64,
        #[serde(default)]
        notes: Vec<String>,
        section: Section,
        names: Vec<String>,
        whole: bool,
    }

    #[test]
    fn all_missing_keys_are_named_at_once() {
        let problem = |text: &str| parse::<Sections>(text, "x.toml").unwrap_err().to_string();
        let all = "x.toml: missing keys `title`, `flows`, `section`, `names`, `whole`";
        assert_eq!(problem("").replace(", line 1", ""), all);
        let message = typed::<Sections>("flows = 1\nwhole = true".parse().unwrap(), "x.toml").unwrap_err().to_string();
        assert_eq!(message, "x.toml: missing keys `title`, `section`, `names`");
        // A key missing from a section is reported for the section.
        let rest = "title = \"t\"\nflows = 1\nnames = []\nwhole = true\n[section]\n";
        assert!(problem(rest).ends_with("missing key `packets`"), "{}", problem(rest));
        assert!(problem("title = 1").contains("expected a string"), "{}", problem("title = 1"));
    }

    #[test]
    fn nearest_ignores_case_and_takes_the_first_of_equals() {
        assert_eq!(nearest("Catgory", ["tunnel", "category"]), Some("category"));
        assert_eq!(nearest("a", ["b", "c"]), Some("b"));
        assert_eq!(nearest("a", []), None);
        assert_eq!(did_you_mean("kinds", ["kind"]), ", did you mean `kind`?");
        assert_eq!(did_you_mean("statistics", ["bytes"]), "");
    }

    #[test]
    fn the_first_repeated_value_is_named() {
        assert_eq!(first_repeated(&["a", "b", "c", "b", "a"]), Some(&"b"));
        assert_eq!(first_repeated(&["a", "b"]), None);
        assert_eq!(first_repeated::<u64>(&[]), None);
    }

    #[test]
    fn a_syntax_error_names_the_line() {
        let error = parse_table("a = 1\nb = = 2\n", "x.toml").unwrap_err().to_string();
        assert!(error.starts_with("x.toml, line 2: "), "{error}");
        assert_eq!(error.lines().count(), 1);
    }

    #[test]
    fn assignments_make_nested_tables_and_bare_words_are_strings() {
        let mut table = parse_assignment("model.svm.cost=10").unwrap();
        merge(&mut table, &parse_assignment("split.method = grouped").unwrap());
        merge(&mut table, &parse_assignment("feature.masks=[\"ports\"]").unwrap());
        assert_eq!(
            toml::to_string(&table).unwrap(),
            "[model.svm]\ncost = 10\n\n[split]\nmethod = \"grouped\"\n\n[feature]\nmasks = [\"ports\"]\n"
        );
        for bad in ["feature.packets", "=3", "a..b=1"] {
            assert!(parse_assignment(bad).is_err(), "{bad}");
        }
    }
}
