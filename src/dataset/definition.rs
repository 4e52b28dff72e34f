//! The declarative definition of a dataset: `data/NAME.toml`.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use indexmap::IndexMap;
use regex::Regex;
use serde::Deserialize;

use super::{DatasetError, Labels};
use crate::declarative;

/// A dataset: which files belong to it and how each gets its labels.
#[derive(Debug)]
pub struct Definition {
    /// Its name, the same as the file's stem and the folder's name.
    pub name: String,
    /// One line on what it is.
    pub title: String,
    /// Where the captures are published and how to get them.
    pub published_at: Option<String>,
    /// The publication to cite.
    pub reference: Option<String>,
    /// Patterns of the captures' relative paths, as in the file.
    pub patterns: Vec<String>,
    /// The label columns that rules and tables give.
    pub columns: Vec<String>,
    /// The text of the definition and its label table, for cache keys.
    pub text: String,
    matcher: GlobSet,
    exclusions: Vec<(GlobSet, String)>,
    rules: Vec<Rule>,
    table: Option<Table>,
}

#[derive(Debug)]
struct Rule {
    pattern: Regex,
    on: On,
    labels: IndexMap<String, String>,
}

#[derive(Debug, Clone, Copy)]
enum On {
    Stem,
    Path,
}

#[derive(Debug)]
struct Table {
    /// Lower-case stem to labels, in the table's order.
    rows: IndexMap<String, Labels>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    name: String,
    title: String,
    published_at: Option<Publication>,
    reference: Option<String>,
    #[serde(default, rename = "notes")]
    _notes: Vec<String>,
    #[serde(rename = "flow_labels")]
    _flow_labels: Option<toml::Value>,
    files: Files,
    label_columns: Vec<String>,
    #[serde(default, rename = "rule")]
    rules: Vec<RuleSection>,
    table: Option<TableSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Files {
    patterns: Vec<String>,
    #[serde(default)]
    exclude: Vec<Exclusion>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exclusion {
    pattern: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publication {
    url: String,
    how: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleSection {
    stem: Option<String>,
    path: Option<String>,
    #[serde(default)]
    labels: IndexMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableSection {
    file: String,
    key: String,
}

/// What the definition says of one file.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Not one of the dataset's captures.
    NotACapture,
    /// Left out, with the definition's reason.
    Excluded(String),
    /// A capture that no rule gives every label.
    Unlabelled,
    /// A capture with its labels.
    Labelled(Labels),
}

impl Definition {
    /// Reads `data/NAME.toml` of the project, and the label table it names.
    ///
    /// # Errors
    /// A name without a definition (the known ones are listed), unknown keys, patterns that are not globs or
    /// regular expressions, a rule that names no label column, a label table that cannot be used.
    pub fn read(project: &Path, name: &str) -> Result<Self, DatasetError> {
        let folder = project.join("data");
        let path = folder.join(format!("{name}.toml"));
        if !path.is_file() {
            let known = Self::names(project);
            let nearest = declarative::did_you_mean(name, known.iter().map(String::as_str));
            return Err(DatasetError::Unknown {
                name: name.to_owned(),
                problem: format!("there is no {}{nearest} (known: {})", path.display(), known.join(", ")),
            });
        }
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| DatasetError::Definition { origin: origin.clone(), problem: error.to_string() })?;
        let document: Document = declarative::typed(declarative::parse_table(&text, &origin)?, &origin)?;
        Self::build(document, text, &folder, &path)
    }

    /// Names of all defined datasets, sorted.
    pub fn names(project: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(project.join("data"))
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                (path.extension()? == "toml").then(|| path.file_stem()?.to_str().map(str::to_owned))?
            })
            .collect();
        names.sort();
        names
    }

    fn build(document: Document, mut text: String, folder: &Path, path: &Path) -> Result<Self, DatasetError> {
        let origin = path.display().to_string();
        let problem = |problem: String| DatasetError::Definition { origin: origin.clone(), problem };
        if path.file_stem().and_then(|stem| stem.to_str()) != Some(document.name.as_str()) {
            return Err(problem(format!("name = \"{}\" differs from the file's name; make them equal", document.name)));
        }
        let columns = document.label_columns;
        if columns.is_empty() {
            return Err(problem("label_columns is empty; name at least one label column".to_owned()));
        }
        let matcher =
            glob_set(&document.files.patterns).map_err(|error| problem(format!("files.patterns: {error}")))?;
        let exclusions = document
            .files
            .exclude
            .into_iter()
            .map(|exclusion| Ok((glob_set(std::slice::from_ref(&exclusion.pattern))?, exclusion.reason)))
            .collect::<Result<_, globset::Error>>()
            .map_err(|error| problem(format!("files.exclude: {error}")))?;
        let rules = document
            .rules
            .into_iter()
            .enumerate()
            .map(|(index, rule)| {
                Rule::build(rule, &columns).map_err(|error| problem(format!("rule {}: {error}", index + 1)))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let table = match document.table {
            None => None,
            Some(section) => {
                let path = folder.join(&section.file);
                let content = std::fs::read_to_string(&path).map_err(|error| DatasetError::Definition {
                    origin: path.display().to_string(),
                    problem: format!("label table of {origin}: {error}"),
                })?;
                let table = Table::parse(&content, &section.key, &columns, &path)?;
                text.push_str(&content);
                Some(table)
            }
        };
        if rules.is_empty() && table.is_none() {
            return Err(problem("there is neither a [[rule]] nor a [table], so no capture gets a label".to_owned()));
        }
        Ok(Self {
            name: document.name,
            title: document.title,
            published_at: document.published_at.map(|at| format!("{} ({})", at.url, at.how)),
            reference: document.reference,
            patterns: document.files.patterns,
            columns,
            text,
            matcher,
            exclusions,
            rules,
            table,
        })
    }

    /// What the definition says of a file, by its path relative to the dataset's folder, with `/` as
    /// separator. Rules are tried in order and may each give some of the columns.
    ///
    /// # Errors
    /// Two rules, or a rule and the table, that give one column different values.
    pub fn verdict(&self, relative: &str) -> Result<Verdict, DatasetError> {
        if !self.matcher.is_match(relative) {
            return Ok(Verdict::NotACapture);
        }
        if let Some((_, reason)) = self.exclusions.iter().find(|(pattern, _)| pattern.is_match(relative)) {
            return Ok(Verdict::Excluded(reason.clone()));
        }
        let stem = stem(relative);
        let mut labels = Labels::new();
        let mut put = |column: &str, value: &str| match labels.insert(column.to_owned(), value.to_owned()) {
            Some(old) if old != value => Err(DatasetError::Definition {
                origin: format!("data/{}.toml", self.name),
                problem: format!("{relative}: `{column}` is both `{old}` and `{value}`; make the rules agree"),
            }),
            _ => Ok(()),
        };
        for rule in &self.rules {
            let text = match rule.on {
                On::Stem => stem,
                On::Path => relative,
            };
            let Some(captures) = rule.pattern.captures(text) else { continue };
            for column in rule.pattern.capture_names().flatten() {
                if let Some(value) = captures.name(column) {
                    put(column, value.as_str())?;
                }
            }
            for (column, value) in &rule.labels {
                put(column, value)?;
            }
        }
        if let Some(row) = self.table.as_ref().and_then(|table| table.rows.get(&stem.to_lowercase())) {
            for (column, value) in row {
                put(column, value)?;
            }
        }
        let ordered: Option<Labels> =
            self.columns.iter().map(|column| Some((column.clone(), labels.get(column)?.clone()))).collect();
        Ok(ordered.map_or(Verdict::Unlabelled, Verdict::Labelled))
    }

    /// The stems that the label table lists, in its order and in lower case; empty without a table.
    pub fn expected_stems(&self) -> Vec<&str> {
        self.table.iter().flat_map(|table| table.rows.keys().map(String::as_str)).collect()
    }
}

/// The file name without folders and without what follows the last dot.
pub(super) fn stem(relative: &str) -> &str {
    let name = relative.rsplit('/').next().unwrap_or(relative);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

impl Rule {
    fn build(section: RuleSection, columns: &[String]) -> Result<Self, String> {
        let (on, text) = match (section.stem, section.path) {
            (Some(stem), None) => (On::Stem, stem),
            (None, Some(path)) => (On::Path, path),
            _ => return Err("give exactly one of `stem` and `path`, a regular expression".to_owned()),
        };
        let pattern = Regex::new(&text).map_err(|error| {
            format!("`{text}` is not a regular expression: {}", error.to_string().lines().last().unwrap_or_default())
        })?;
        let mut given: Vec<&str> = pattern.capture_names().flatten().collect();
        given.extend(section.labels.keys().map(String::as_str));
        if given.is_empty() {
            return Err("it gives no label; add a named group such as (?<class>...) or `labels`".to_owned());
        }
        if let Some(unknown) = given.iter().find(|given| !columns.iter().any(|column| column == *given)) {
            let nearest = declarative::did_you_mean(unknown, columns.iter().map(String::as_str));
            return Err(format!("`{unknown}` is not in label_columns{nearest}"));
        }
        Ok(Self { pattern, on, labels: section.labels })
    }
}

impl Table {
    fn parse(content: &str, key: &str, columns: &[String], path: &Path) -> Result<Self, DatasetError> {
        let origin: PathBuf = path.to_owned();
        let problem = |line: u64, problem: String| DatasetError::Definition {
            origin: format!("{}, line {line}", origin.display()),
            problem,
        };
        let mut reader = csv::Reader::from_reader(content.as_bytes());
        let header = reader.headers().map_err(|error| problem(1, error.to_string()))?.clone();
        let position = |name: &str| header.iter().position(|found| found == name);
        let key_position = position(key).ok_or_else(|| {
            problem(1, format!("there is no column `{key}`{}", declarative::did_you_mean(key, header.iter())))
        })?;
        let given: Vec<(usize, &String)> =
            columns.iter().filter_map(|column| Some((position(column)?, column))).collect();
        let mut rows = IndexMap::new();
        for record in reader.records() {
            let record = record.map_err(|error| {
                problem(error.position().map_or(0, csv::Position::line), "not a row of the table's columns".to_owned())
            })?;
            let line = record.position().map_or(0, csv::Position::line);
            let labels = given.iter().map(|&(index, column)| (column.clone(), record[index].to_owned())).collect();
            let stem = record[key_position].to_lowercase();
            if rows.insert(stem, labels).is_some() {
                return Err(problem(line, format!("`{}` stands in the table twice", &record[key_position])));
            }
        }
        Ok(Self { rows })
    }
}

fn glob_set(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(GlobBuilder::new(pattern).case_insensitive(true).literal_separator(true).build()?);
    }
    set.build()
}
