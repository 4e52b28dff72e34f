//! Feature files: datasets whose flows are published as rows of features (ARFF or CSV) instead of captures. Labels come
//! from columns of the file, directly or by rules on their values, and from rules on the file name; every other column
//! that is not excluded is a feature.
//!
//! Numbers are used as they are, including sentinels such as -1 for "no such time". A nominal attribute becomes one 0/1
//! column per value. A missing value (`?` in ARFF; empty, `?` or not finite in CSV) is an error unless the definition's
//! `missing` specifies a replacement.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use indexmap::{IndexMap, IndexSet};
use rayon::prelude::*;
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::error::DatasetError;
use super::feature_file_arff::{ArffReader, ArffType, ArffValue};
use super::feature_file_csv;
use super::folder::CaptureFile;
use super::labelled::{FlowProvenance, Labels};
use super::load::Dataset;
use super::names::composed;
use super::rules::{add_label, known_column};
use etcbench_capture::Transport;
use etcbench_flow::FiveTuple;
use etcbench_storage::declarative::{first_repeated, nearest};
use etcbench_storage::progress::Progress;

/// The formats of feature files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureFormat {
    /// Weka's format.
    Arff,
    /// Comma-separated values with a header line.
    Csv,
    /// Zeek's logs: tab-separated with the columns in a comment, or one JSON object per line.
    Zeek,
}

/// `[features]` of a definition: its files are feature files, not captures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureFileRules {
    /// The format of all files.
    pub format: FeatureFormat,
    /// Label column to the column of the file that contains its values.
    #[serde(default)]
    pub labels: IndexMap<String, String>,
    /// Labels that are parts of a column's values: `VPN-CHAT` contains a tunnel and a category.
    #[serde(default)]
    pub rule: Vec<ValueRule>,
    /// Columns that are neither features nor labels, such as addresses. A name with `*` stands for all columns that
    /// match it, if any.
    #[serde(default)]
    pub leave_out: Vec<String>,
    /// The columns with a flow's endpoints, for CSV files; they allow rows to be grouped by host and connection.
    #[serde(default)]
    pub endpoints: Option<EndpointColumns>,
    /// Columns whose values together identify the capture of a row, such as a flow or recording number. They are not
    /// features, and `split.group = "capture"` keeps rows with equal values on one side.
    #[serde(default)]
    pub group: Vec<String>,
    /// Replacement for missing values; without it, a missing value is an error.
    #[serde(default)]
    pub missing: Option<f64>,
}

/// `[[features.rule]]` of a definition: rows whose value in a column matches get the labels of the named groups and
/// those in `labels`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueRule {
    /// The column of the file.
    pub column: String,
    /// A regular expression on the value; named groups are label columns.
    pub value: String,
    /// Label column to value.
    #[serde(default)]
    pub labels: IndexMap<String, String>,
}

impl ValueRule {
    fn regex(&self) -> Result<Regex, String> {
        Regex::new(&composed(&self.value)).map_err(|error| {
            let reason = error.to_string();
            format!("[[features.rule]]: `{}`: {}", self.value, reason.lines().last().unwrap_or("not valid").trim())
        })
    }
}

/// `[features.endpoints]` of a definition: columns of a CSV file, which then are not features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointColumns {
    /// Address of the flow's source.
    pub source_address: String,
    /// Port of the source.
    pub source_port: String,
    /// Address of the destination.
    pub destination_address: String,
    /// Port of the destination.
    pub destination_port: String,
    /// The transport: `tcp` or 6, `udp` or 17.
    pub transport: String,
}

impl EndpointColumns {
    fn names(&self) -> [&String; 5] {
        [&self.source_address, &self.source_port, &self.destination_address, &self.destination_port, &self.transport]
    }

    /// Parses the endpoints from a row's fields, in the order of [`EndpointColumns::names`].
    fn parse(&self, fields: [&str; 5]) -> Result<FiveTuple, String> {
        let [source, source_port, destination, destination_port, transport] = fields;
        let fault = |column: &str, field: &str, what: &str| {
            let start: String = field.chars().take(60).collect();
            format!("`{column}`: `{start}` is not a valid {what}")
        };
        let endpoint = |address: &str, port: &str, columns: [&String; 2]| {
            let ip: IpAddr = address.parse().map_err(|_| fault(columns[0], address, "IP address"))?;
            let number: u16 = port.parse().map_err(|_| fault(columns[1], port, "port"))?;
            Ok::<_, String>(SocketAddr::new(ip, number))
        };
        Ok(FiveTuple {
            source: endpoint(source, source_port, [&self.source_address, &self.source_port])?,
            destination: endpoint(destination, destination_port, [&self.destination_address, &self.destination_port])?,
            transport: match transport.to_ascii_lowercase().as_str() {
                "tcp" | "6" => Transport::Tcp,
                "udp" | "17" => Transport::Udp,
                _ => return Err(fault(&self.transport, transport, "transport (tcp, 6, udp or 17)")),
            },
        })
    }
}

/// One row of a feature file.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRow {
    /// The file and the index of the row in it; endpoints are 0 unless the definition specifies columns for them, and
    /// times are always 0.
    pub provenance: FlowProvenance,
    /// The row's labels, shared by rows with the same label values.
    pub labels: Arc<Labels>,
    /// One value per name of the table, rounded to single precision; NaN if the row's file lacks the column.
    pub values: Vec<f32>,
}

/// The rows of all feature files of one or several datasets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FeatureTable {
    /// Names of the features: all columns of all files, in order of first appearance.
    pub names: Vec<String>,
    /// The rows: datasets in the given order, files by path, rows in file order.
    pub rows: Vec<FeatureRow>,
    /// One entry per file: the dataset's name, the file's name in rows, the file, and its number of rows.
    pub files: Vec<(String, String, CaptureFile, u64)>,
    /// Irregularities that were ignored, such as artifacts of spreadsheets and pandas, one line each.
    pub notes: Vec<String>,
}

impl FeatureFileRules {
    /// Checks the rules; `by_file` tells whether labels also come from the files' names.
    pub(super) fn check(&self, label_columns: &[String], by_file: bool) -> Result<(), String> {
        if self.labels.is_empty() && self.rule.is_empty() && !by_file {
            return Err("`features.labels` is empty: name the file's column for a label column".to_owned());
        }
        for column in self.labels.keys() {
            known_column(column, label_columns)?;
        }
        for rule in &self.rule {
            let regex = rule.regex()?;
            let named: Vec<&str> =
                regex.capture_names().flatten().chain(rule.labels.keys().map(String::as_str)).collect();
            if named.is_empty() {
                return Err("[[features.rule]] sets no label: add `labels` or a named group".to_owned());
            }
            for column in named {
                known_column(column, label_columns).map_err(|message| format!("[[features.rule]]: {message}"))?;
            }
        }
        for (index, column) in self.labels.values().enumerate() {
            if self.labels.values().take(index).any(|other| other == column) {
                return Err(format!("`features.labels` reads column `{column}` twice; one label column is enough"));
            }
            if self.leaves_out(column) {
                return Err(format!("column `{column}` is a label and in `features.leave_out`; choose one"));
            }
        }
        if let Some(endpoints) = &self.endpoints {
            if self.format == FeatureFormat::Arff {
                return Err("`features.endpoints` requires format \"csv\" or \"zeek\"".to_owned());
            }
            let names = endpoints.names();
            let other = |name: &String| self.leaves_out(name) || self.is_label(name);
            if let Some(column) = names.iter().find(|name| other(name)).or_else(|| first_repeated(&names)) {
                return Err(format!("column `{column}` of `features.endpoints` is used twice; choose one"));
            }
        }
        let endpoints = self.endpoints.iter().flat_map(EndpointColumns::names);
        let used: Vec<&String> = endpoints.chain(&self.leave_out).chain(&self.group).collect();
        let repeated =
            self.group.iter().find(|name| self.is_label(name) || used.iter().filter(|one| *one == name).count() > 1);
        if let Some(column) = repeated {
            return Err(format!("column `{column}` of `features.group` is used twice; choose one"));
        }
        if self.missing.is_some_and(|value| !value.is_finite()) {
            return Err("`features.missing` is not a finite number".to_owned());
        }
        Ok(())
    }

    /// Returns whether a column is left out.
    fn leaves_out(&self, column: &str) -> bool {
        self.leave_out.iter().any(|pattern| matches(pattern, column))
    }

    /// Returns whether a column of the file provides labels.
    fn is_label(&self, column: &str) -> bool {
        self.labels.values().any(|label| label == column) || self.rule.iter().any(|rule| rule.column == column)
    }

    /// Returns whether the file may provide this label column.
    pub(super) fn gives(&self, column: &str) -> bool {
        let by_rule = |rule: &ValueRule| {
            let named = |regex: Regex| regex.capture_names().flatten().any(|name| name == column);
            rule.labels.contains_key(column) || rule.regex().is_ok_and(named)
        };
        self.labels.contains_key(column) || self.rule.iter().any(by_rule)
    }
}

/// Reads the feature files of all datasets that have `[features]`, several files at a time. With several datasets,
/// files are named `<dataset>/<path>`.
///
/// # Errors
/// A file does not follow its format (with the line), values are missing, or labels are contradictory or incomplete.
pub fn load_features(datasets: &[Dataset], progress: &dyn Progress) -> Result<FeatureTable, DatasetError> {
    let jobs: Vec<(&Dataset, &FeatureFileRules, &CaptureFile)> = datasets
        .iter()
        .filter_map(|dataset| Some((dataset, dataset.definition.features.as_ref()?)))
        .flat_map(|(dataset, rules)| dataset.folder.captures.iter().map(move |file| (dataset, rules, file)))
        .collect();
    progress.begin("feature files", jobs.len() as u64);
    let read: Vec<Result<(String, OneFile), DatasetError>> = jobs
        .par_iter()
        .with_max_len(1)
        .map(|(dataset, rules, file)| {
            let name = if datasets.len() > 1 {
                format!("{}/{}", dataset.definition.name, file.path)
            } else {
                file.path.clone()
            };
            let fault = |message: String| DatasetError::Labels {
                dataset: dataset.definition.name.clone(),
                capture: file.path.clone(),
                message,
            };
            let labels = dataset.definition.rules.labels_of(&file.path).map_err(&fault)?;
            let missing = dataset
                .definition
                .label_columns
                .iter()
                .find(|column| !labels.contains_key(*column) && !rules.gives(column));
            if let Some(column) = missing {
                return Err(fault(format!("no value for label column `{column}`; add a rule that sets it")));
            }
            let path = dataset.folder.root.join(&file.path);
            let input =
                File::open(&path).map_err(|source| DatasetError::Io { path: path.display().to_string(), source })?;
            let input = BufReader::with_capacity(BUFFER, input);
            let result = read_file(input, &path, rules, &dataset.definition.label_columns, &labels, &name);
            progress.advance(1);
            result.map(|file| (name, file))
        })
        .collect();
    progress.end();
    let files: Vec<(String, OneFile)> = read.into_iter().collect::<Result<_, _>>()?;
    let names: IndexSet<&String> = files.iter().flat_map(|(_, one)| &one.names).collect();
    let mut table = FeatureTable { names: names.into_iter().cloned().collect(), ..FeatureTable::default() };
    for ((name, one), (dataset, _, file)) in files.into_iter().zip(jobs) {
        let told = one.notes.iter().map(|note| format!("{}: {}: {note}", dataset.definition.name, file.path));
        table.notes.extend(told);
        table.files.push((dataset.definition.name.clone(), name, file.clone(), one.rows.len() as u64));
        if one.names == table.names {
            if table.rows.is_empty() {
                table.rows = one.rows;
            } else {
                table.rows.extend(one.rows);
            }
            continue;
        }
        let own: IndexSet<&String> = one.names.iter().collect();
        let places: Vec<Option<usize>> = table.names.iter().map(|name| own.get_index_of(name)).collect();
        table.rows.extend(one.rows.into_iter().map(|row| {
            let values = places.iter().map(|place| place.map_or(f32::NAN, |place| row.values[place])).collect();
            FeatureRow { values, ..row }
        }));
    }
    Ok(table)
}

/// Size of the read buffer in bytes.
const BUFFER: usize = 1 << 18;

pub(super) struct OneFile {
    names: Vec<String>,
    rows: Vec<FeatureRow>,
    notes: Vec<String>,
}

/// The role of a column in a file.
#[derive(Clone, Copy)]
pub(super) enum Role {
    LeftOut,
    /// A source of labels.
    Label,
    Number,
    /// A nominal attribute with this many values: one feature per value.
    OneOf(usize),
    /// A part of the endpoints, by its index in [`EndpointColumns::names`].
    Endpoint(usize),
    /// A part of the key by which rows are grouped.
    Group,
}

fn read_file(
    input: BufReader<File>,
    path: &Path,
    rules: &FeatureFileRules,
    label_columns: &[String],
    labels: &Labels,
    name: &str,
) -> Result<OneFile, DatasetError> {
    let fault =
        |(line, message): (u64, String)| DatasetError::FlowLabels { file: path.display().to_string(), line, message };
    let regexes = rules.rule.iter().map(ValueRule::regex).collect::<Result<_, _>>().map_err(|why| fault((0, why)))?;
    let rows = Rows { rules, regexes, label_columns, labels, name, rows: Vec::new(), notes: Vec::new() };
    match rules.format {
        FeatureFormat::Arff => arff(input, rows),
        FeatureFormat::Csv | FeatureFormat::Zeek => feature_file_csv::read(input, rows),
    }
    .map_err(fault)
}

pub(super) type Fault = (u64, String);

/// The rows of one file, collected while reading.
pub(super) struct Rows<'a> {
    pub rules: &'a FeatureFileRules,
    regexes: Vec<Regex>,
    label_columns: &'a [String],
    /// Labels from the file's name.
    labels: &'a Labels,
    name: &'a str,
    rows: Vec<FeatureRow>,
    /// Irregularities that were ignored.
    pub notes: Vec<String>,
}

/// The fields of a row that are not features.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Values of the label columns, in file order.
    pub labels: Vec<String>,
    /// In the order of [`EndpointColumns::names`].
    pub endpoints: [String; 5],
    /// Values of the group columns.
    pub group: Vec<String>,
}

impl Rows<'_> {
    /// Returns the role of a column named in the definition; several label columns may use the same column.
    pub(super) fn role(&self, column: &str) -> Option<Role> {
        if self.rules.is_label(column) {
            return Some(Role::Label);
        }
        let endpoints = self.rules.endpoints.as_ref().map(EndpointColumns::names);
        if let Some(place) = endpoints.and_then(|names| names.iter().position(|name| *name == column)) {
            return Some(Role::Endpoint(place));
        }
        if self.rules.group.iter().any(|other| other == column) {
            return Some(Role::Group);
        }
        self.rules.leaves_out(column).then_some(Role::LeftOut)
    }

    /// Returns the columns that labels come from, in a fixed order.
    pub(super) fn label_sources(&self) -> Vec<String> {
        let by_rules = self.rules.rule.iter().map(|rule| &rule.column);
        let mut names: Vec<String> = Vec::new();
        for name in self.rules.labels.values().chain(by_rules) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// Returns whether the definition leaves out columns without a name.
    pub(super) fn leaves_out_unnamed(&self) -> bool {
        self.rules.leave_out.iter().any(String::is_empty)
    }

    /// Checks that the file contains every column named in the definition; `unnamed` tells whether it has columns
    /// without a name, which an empty name in `leave_out` refers to.
    pub(super) fn check(&self, columns: &[&str], unnamed: bool) -> Result<(), String> {
        let endpoints = self.rules.endpoints.iter().flat_map(EndpointColumns::names);
        let by_rules = self.rules.rule.iter().map(|rule| &rule.column);
        let left_out = self.rules.leave_out.iter().filter(|name| !(name.contains('*') || unnamed && name.is_empty()));
        let named = self.rules.labels.values().chain(by_rules).chain(left_out);
        for wanted in named.chain(endpoints).chain(&self.rules.group) {
            if !columns.contains(&wanted.as_str()) {
                let near = nearest(wanted, columns.iter().copied()).unwrap_or_default();
                return Err(format!("column `{wanted}` is missing; the most similar is `{near}`"));
            }
        }
        Ok(())
    }

    /// Returns the replacement for a value that is missing or unusable; `what` describes the problem.
    pub(super) fn missing(&self, column: &str, what: &str) -> Result<f32, String> {
        self.rules.missing.map(|value| value as f32).ok_or_else(|| {
            format!("`{column}` is {what}; set `missing = NUMBER` in [features], or add the column to `leave_out`")
        })
    }

    /// Returns the labels given by the values of `columns`, together with those of the file.
    fn labels_of(&self, columns: &[&str], values: &[String]) -> Result<Labels, String> {
        let mut labels = self.labels.clone();
        for (column, value) in columns.iter().zip(values) {
            for (label, _) in self.rules.labels.iter().filter(|(_, from)| from == column) {
                if value.is_empty() {
                    return Err(format!("label column `{label}` is empty"));
                }
                add_label(&mut labels, label, value)?;
            }
            let value = composed(value);
            for (rule, regex) in self.rules.rule.iter().zip(&self.regexes).filter(|(rule, _)| rule.column == **column) {
                let Some(found) = regex.captures(&value) else { continue };
                for (label, value) in &rule.labels {
                    add_label(&mut labels, label, value)?;
                }
                for label in regex.capture_names().flatten() {
                    if let Some(value) = found.name(label) {
                        add_label(&mut labels, label, value.as_str())?;
                    }
                }
            }
        }
        if let Some(label) = self.label_columns.iter().find(|label| !labels.contains_key(*label)) {
            let values: Vec<String> = values.iter().map(|value| format!("`{}`", value.escape_debug())).collect();
            let values = values.join(" and ");
            return Err(format!(
                "label column `{label}` has no value: no [[features.rule]] that sets it matches {values}"
            ));
        }
        Ok(labels)
    }

    /// Creates a row without a number; `label_columns` are the file's label columns, in the order of `named`.
    pub(super) fn make(
        &self,
        values: Vec<f32>,
        label_columns: &[&str],
        named: &Named,
        known: &mut KnownLabels,
    ) -> Result<FeatureRow, String> {
        let labels = match known.get(&named.labels) {
            Some(labels) => labels.clone(),
            None => {
                let labels = Arc::new(self.labels_of(label_columns, &named.labels)?);
                if known.len() < MOST_KNOWN {
                    known.insert(named.labels.clone(), labels.clone());
                }
                labels
            }
        };
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let five_tuple = match &self.rules.endpoints {
            Some(columns) => columns.parse(named.endpoints.each_ref().map(String::as_str))?,
            None => FiveTuple { source: nowhere, destination: nowhere, transport: Transport::Tcp },
        };
        let capture = match &named.group[..] {
            [] => self.name.to_owned(),
            group => format!("{}!{}", self.name, group.join(" ")),
        };
        let provenance = FlowProvenance { capture, number: 0, five_tuple, start: 0, end: 0, packet: None };
        Ok(FeatureRow { provenance, labels, values })
    }

    /// Adds a row with the next number.
    pub(super) fn add(&mut self, mut row: FeatureRow) -> Result<(), String> {
        row.provenance.number = u32::try_from(self.rows.len()).map_err(|_| "more than 4294967295 rows".to_owned())?;
        self.rows.push(row);
        Ok(())
    }

    /// Adds rows with the next numbers.
    pub(super) fn add_all(&mut self, rows: Vec<FeatureRow>) -> Result<(), String> {
        self.rows.reserve(rows.len());
        rows.into_iter().try_for_each(|row| self.add(row))
    }

    /// Returns the file with the given features.
    ///
    /// # Errors
    /// There is no feature or no row: a class may consist of this file alone, and would be missing without a word.
    pub(super) fn finish(self, names: Vec<String>) -> Result<OneFile, Fault> {
        if names.is_empty() {
            return Err((1, "no column is a feature; shorten `leave_out`".to_owned()));
        }
        if self.rows.is_empty() {
            let problem = "no row is below its header; complete the file, or name it in `exclude` of [files]";
            return Err((1, problem.to_owned()));
        }
        Ok(OneFile { names, rows: self.rows, notes: self.notes })
    }
}

/// Returns whether a name matches a pattern, in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(place) = rest.find(part) else { return false };
        rest = &rest[place + part.len()..];
    }
    rest.ends_with(last)
}

/// Labels of rows, by their label values.
pub(super) type KnownLabels = HashMap<Vec<String>, Arc<Labels>>;

/// Maximum number of label sets to cache.
const MOST_KNOWN: usize = 4096;

pub(super) fn single(number: f64) -> Result<f32, String> {
    let single = number as f32;
    if single.is_finite() { Ok(single) } else { Err(format!("{number} is too large for single precision")) }
}

fn arff(input: BufReader<File>, mut rows: Rows<'_>) -> Result<OneFile, Fault> {
    let mut reader = ArffReader::new(input).map_err(|error| (error.line, error.problem))?;
    let attributes = reader.attributes.clone();
    let columns: Vec<&str> = attributes.iter().map(|attribute| attribute.name.as_str()).collect();
    rows.check(&columns, false).map_err(|problem| (1, problem))?;
    let mut names = Vec::new();
    let mut roles = Vec::new();
    for attribute in &attributes {
        let role = match (rows.role(&attribute.name), &attribute.kind) {
            (Some(role), _) => role,
            (None, ArffType::Numeric) => {
                names.push(attribute.name.clone());
                Role::Number
            }
            (None, ArffType::Nominal(values)) => {
                names.extend(values.iter().map(|value| format!("{}={value}", attribute.name)));
                Role::OneOf(values.len())
            }
            (None, ArffType::Text) => {
                let problem =
                    format!("`{}` is text, which cannot be a feature; list it in `leave_out`", attribute.name);
                return Err((1, problem));
            }
        };
        roles.push(role);
    }
    let label_columns = label_columns(&columns, &roles);
    let mut known = KnownLabels::new();
    while let Some((line, row)) = reader.next_row().map_err(|error| (error.line, error.problem))? {
        let fault = |problem: String| (line, problem);
        let mut values = Vec::with_capacity(names.len());
        let mut named = Named::default();
        for ((value, role), attribute) in row.iter().zip(&roles).zip(&attributes) {
            match (role, value) {
                (Role::LeftOut | Role::Endpoint(_), _) => {}
                (Role::Label, ArffValue::Missing) => {
                    return Err(fault(format!("label `{}` is missing", attribute.name)));
                }
                (Role::Label, ArffValue::Number(_) | ArffValue::NotFinite) => {
                    return Err(fault(format!("label `{}` is a number; declare its values", attribute.name)));
                }
                (Role::Label, value) => named.labels.push(text_of(value, &attribute.kind)),
                (Role::Group, value) => named.group.push(text_of(value, &attribute.kind)),
                (Role::Number, ArffValue::Number(number)) => values.push(single(*number).map_err(fault)?),
                (Role::OneOf(count), ArffValue::Nominal(index)) => {
                    values.extend((0..*count).map(|place| f32::from(u8::from(place == *index))));
                }
                (Role::OneOf(count), _) => {
                    let value = rows.missing(&attribute.name, MISSING).map_err(fault)?;
                    values.extend(std::iter::repeat_n(value, *count));
                }
                (Role::Number, ArffValue::NotFinite) => {
                    values.push(rows.missing(&attribute.name, NOT_FINITE).map_err(fault)?);
                }
                (Role::Number, _) => values.push(rows.missing(&attribute.name, MISSING).map_err(fault)?),
            }
        }
        let row = rows.make(values, &label_columns, &named, &mut known).map_err(fault)?;
        rows.add(row).map_err(fault)?;
    }
    rows.notes.extend(reader.notes());
    rows.finish(names)
}

/// Returns a value as written in the file.
fn text_of(value: &ArffValue, kind: &ArffType) -> String {
    match (value, kind) {
        (ArffValue::Text(text), _) => text.clone(),
        (ArffValue::Nominal(index), ArffType::Nominal(words)) => words[*index].clone(),
        (ArffValue::Number(number), _) => number.to_string(),
        _ => "?".to_owned(),
    }
}

/// Returns the label columns.
pub(super) fn label_columns<'a>(columns: &[&'a str], roles: &[Role]) -> Vec<&'a str> {
    let labels = columns.iter().zip(roles).filter(|(_, role)| matches!(role, Role::Label));
    labels.map(|(column, _)| *column).collect()
}

pub(super) const MISSING: &str = "missing";
pub(super) const NOT_FINITE: &str = "not finite";

#[cfg(test)]
#[path = "feature_file_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "feature_table_tests.rs"]
mod table_tests;
