//! Feature files: a dataset whose flows are published as rows of features (ARFF or CSV) instead of captures.
//! The labels come out of columns of the file, and from the rules on its name; every other column that is
//! not left out is a feature.
//!
//! Numbers are taken as they are, sentinels such as -1 for "no such time" included. A nominal attribute
//! becomes one column of 0 and 1 per value. A missing value (`?` in ARFF; empty, `?` or not finite in CSV) is an
//! error unless the definition's `missing` names the number to use.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use indexmap::IndexMap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::error::DatasetError;
use super::feature_file_arff::{ArffReader, ArffType, ArffValue};
use super::folder::CaptureFile;
use super::labelled::{FlowProvenance, Labels};
use super::load::Dataset;
use super::rules::{add_label, known_column};
use etcbench_capture::Transport;
use etcbench_flow::FiveTuple;
use etcbench_storage::declarative::{first_repeated, nearest};
use etcbench_storage::progress::Progress;

/// The formats of feature files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureFormat {
    /// Weka's.
    Arff,
    /// Comma-separated values with a header line.
    Csv,
}

/// `[features]` of a definition: its files are feature files, not captures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureFileRules {
    /// The format of all files.
    pub format: FeatureFormat,
    /// Label column to the column of the file whose values it takes.
    pub labels: IndexMap<String, String>,
    /// Columns that are neither features nor labels, such as addresses.
    #[serde(default)]
    pub leave_out: Vec<String>,
    /// The columns that name a flow's endpoints, of CSV files; with them rows can be grouped by host and connection.
    #[serde(default)]
    pub endpoints: Option<EndpointColumns>,
    /// The number that stands for a missing value; without it a missing value is an error.
    #[serde(default)]
    pub missing: Option<f64>,
}

/// `[features.endpoints]` of a definition: the columns of a CSV file, which are then no features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointColumns {
    /// Address of the flow's source.
    pub source_address: String,
    /// Its port.
    pub source_port: String,
    /// Address of the destination.
    pub destination_address: String,
    /// Its port.
    pub destination_port: String,
    /// The transport: `tcp` or 6, `udp` or 17.
    pub transport: String,
}

impl EndpointColumns {
    fn names(&self) -> [&String; 5] {
        [&self.source_address, &self.source_port, &self.destination_address, &self.destination_port, &self.transport]
    }

    /// The endpoints that the fields of a row say, in the order of the columns here.
    fn parse(&self, fields: [&str; 5]) -> Result<FiveTuple, String> {
        let [source, source_port, destination, destination_port, transport] = fields;
        let fault = |column: &str, field: &str, what: &str| {
            let start: String = field.chars().take(60).collect();
            format!("`{column}`: `{start}` is no {what}")
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
    /// The file and the number of the row in it; endpoints are 0 where the definition names no columns for them, and
    /// times always.
    pub provenance: FlowProvenance,
    /// Its labels.
    pub labels: Labels,
    /// One value per name of the table, rounded to single precision; not a number where the row's file has no such
    /// column.
    pub values: Vec<f32>,
}

/// The rows of all feature files of one or several datasets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FeatureTable {
    /// The features' names: every column of every file, in the order of their appearance.
    pub names: Vec<String>,
    /// The rows: datasets as given, files by path, rows in their order.
    pub rows: Vec<FeatureRow>,
    /// One entry per file: the dataset's name, the file as rows name it, the file, its rows.
    pub files: Vec<(String, String, CaptureFile, u64)>,
}

impl FeatureFileRules {
    pub(super) fn check(&self, label_columns: &[String]) -> Result<(), String> {
        if self.labels.is_empty() {
            return Err("`features.labels` is empty: name the file's column of a label column".to_owned());
        }
        for column in self.labels.keys() {
            known_column(column, label_columns)?;
        }
        for (index, column) in self.labels.values().enumerate() {
            if self.labels.values().take(index).any(|other| other == column) {
                return Err(format!("`features.labels` reads column `{column}` twice; one label column is enough"));
            }
            if self.leave_out.contains(column) {
                return Err(format!("column `{column}` is a label and in `features.leave_out`; choose one"));
            }
        }
        if let Some(endpoints) = &self.endpoints {
            if self.format != FeatureFormat::Csv {
                return Err("`features.endpoints` is for format \"csv\" alone".to_owned());
            }
            let names = endpoints.names();
            let other =
                |name: &String| self.leave_out.contains(name) || self.labels.values().any(|label| label == name);
            if let Some(column) = names.iter().find(|name| other(name)).or_else(|| first_repeated(&names)) {
                return Err(format!("column `{column}` of `features.endpoints` is used a second time; choose one"));
            }
        }
        if self.missing.is_some_and(|value| !value.is_finite()) {
            return Err("`features.missing` is not a finite number".to_owned());
        }
        Ok(())
    }
}

/// Reads the feature files of datasets that all have `[features]`, several at a time. With several datasets a
/// file is named `<dataset>/<path>`.
///
/// # Errors
/// A file that is not of its format (with the line), values that are missing, labels that contradict one another
/// or are incomplete.
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
                .find(|column| !labels.contains_key(*column) && !rules.labels.contains_key(*column));
            if let Some(column) = missing {
                return Err(fault(format!("no value for label column `{column}`; add a rule that gives one")));
            }
            let path = dataset.folder.root.join(&file.path);
            let input =
                File::open(&path).map_err(|source| DatasetError::Io { path: path.display().to_string(), source })?;
            let result = read_file(BufReader::new(input), &path, rules, &labels, &name);
            progress.advance(1);
            result.map(|file| (name, file))
        })
        .collect();
    progress.end();
    let files: Vec<(String, OneFile)> = read.into_iter().collect::<Result<_, _>>()?;
    let mut table = FeatureTable::default();
    for name in files.iter().flat_map(|(_, one)| &one.names) {
        if !table.names.contains(name) {
            table.names.push(name.clone());
        }
    }
    for ((name, one), (dataset, _, file)) in files.into_iter().zip(jobs) {
        table.files.push((dataset.definition.name.clone(), name, file.clone(), one.rows.len() as u64));
        if one.names == table.names {
            table.rows.extend(one.rows);
            continue;
        }
        let places: Vec<Option<usize>> =
            table.names.iter().map(|name| one.names.iter().position(|own| own == name)).collect();
        table.rows.extend(one.rows.into_iter().map(|row| {
            let values = places.iter().map(|place| place.map_or(f32::NAN, |place| row.values[place])).collect();
            FeatureRow { values, ..row }
        }));
    }
    Ok(table)
}

struct OneFile {
    names: Vec<String>,
    rows: Vec<FeatureRow>,
}

/// What a column of a file is.
enum Role {
    LeftOut,
    Label(String),
    Number,
    /// One feature per value.
    OneOf(usize),
    /// A part of the endpoints, by its place in [`EndpointColumns::names`].
    Endpoint(usize),
}

fn read_file(
    input: BufReader<File>,
    path: &Path,
    rules: &FeatureFileRules,
    labels: &Labels,
    name: &str,
) -> Result<OneFile, DatasetError> {
    let fault =
        |(line, message): (u64, String)| DatasetError::FlowLabels { file: path.display().to_string(), line, message };
    let rows = Rows { rules, labels, name, rows: Vec::new() };
    match rules.format {
        FeatureFormat::Arff => arff(input, rows),
        FeatureFormat::Csv => csv(input, rows),
    }
    .map_err(fault)
}

type Fault = (u64, String);

/// Rows of one file as they come.
struct Rows<'a> {
    rules: &'a FeatureFileRules,
    labels: &'a Labels,
    name: &'a str,
    rows: Vec<FeatureRow>,
}

impl Rows<'_> {
    /// The label column, if any, that takes its values from a column of the file; several may.
    fn role(&self, column: &str) -> Option<Role> {
        if let Some((label, _)) = self.rules.labels.iter().find(|(_, from)| *from == column) {
            return Some(Role::Label(label.clone()));
        }
        let endpoints = self.rules.endpoints.as_ref().map(EndpointColumns::names);
        if let Some(place) = endpoints.and_then(|names| names.iter().position(|name| *name == column)) {
            return Some(Role::Endpoint(place));
        }
        self.rules.leave_out.iter().any(|other| other == column).then_some(Role::LeftOut)
    }

    /// Checks that every column that the definition names is in the file.
    fn check(&self, columns: &[&str]) -> Result<(), String> {
        let endpoints = self.rules.endpoints.iter().flat_map(EndpointColumns::names);
        for wanted in self.rules.labels.values().chain(&self.rules.leave_out).chain(endpoints) {
            if !columns.contains(&wanted.as_str()) {
                let near = nearest(wanted, columns.iter().copied()).unwrap_or_default();
                return Err(format!("there is no column `{wanted}`; the nearest is `{near}`"));
            }
        }
        Ok(())
    }

    /// The number in place of a value that is not there, or that `what` says is none.
    fn missing(&self, column: &str, what: &str) -> Result<f32, String> {
        self.rules.missing.map(|value| value as f32).ok_or_else(|| {
            format!("`{column}` is {what}; say `missing = NUMBER` in [features], or leave the column out")
        })
    }

    fn push(&mut self, values: Vec<f32>, own: Vec<(&str, &str)>, endpoints: [&str; 5]) -> Result<(), String> {
        let mut labels = self.labels.clone();
        for (column, value) in own {
            if value.is_empty() {
                return Err(format!("label column `{column}` is empty"));
            }
            add_label(&mut labels, column, value)?;
        }
        let number = u32::try_from(self.rows.len()).map_err(|_| "more than 4294967295 rows".to_owned())?;
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let five_tuple = match &self.rules.endpoints {
            Some(columns) => columns.parse(endpoints)?,
            None => FiveTuple { source: nowhere, destination: nowhere, transport: Transport::Tcp },
        };
        let provenance =
            FlowProvenance { capture: self.name.to_owned(), number, five_tuple, start: 0, end: 0, packet: None };
        self.rows.push(FeatureRow { provenance, labels, values });
        Ok(())
    }
}

fn single(number: f64) -> Result<f32, String> {
    let single = number as f32;
    if single.is_finite() { Ok(single) } else { Err(format!("{number} is too large for single precision")) }
}

fn arff(input: BufReader<File>, mut rows: Rows<'_>) -> Result<OneFile, Fault> {
    let mut reader = ArffReader::new(input).map_err(|error| (error.line, error.problem))?;
    let attributes = reader.attributes.clone();
    let columns: Vec<&str> = attributes.iter().map(|attribute| attribute.name.as_str()).collect();
    rows.check(&columns).map_err(|problem| (1, problem))?;
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
                let problem = format!("`{}` is text, which is no feature; name it in `leave_out`", attribute.name);
                return Err((1, problem));
            }
        };
        roles.push(role);
    }
    while let Some((line, row)) = reader.next_row().map_err(|error| (error.line, error.problem))? {
        let fault = |problem: String| (line, problem);
        let mut values = Vec::with_capacity(names.len());
        let mut own: Vec<(&str, &str)> = Vec::new();
        for ((value, role), attribute) in row.iter().zip(&roles).zip(&attributes) {
            match (role, value) {
                (Role::LeftOut | Role::Endpoint(_), _) => {}
                (Role::Label(_), ArffValue::Missing) => {
                    return Err(fault(format!("label `{}` is missing", attribute.name)));
                }
                (Role::Label(column), ArffValue::Text(text)) => own.push((column, text)),
                (Role::Label(column), ArffValue::Nominal(index)) => {
                    if let ArffType::Nominal(words) = &attribute.kind {
                        own.push((column, &words[*index]));
                    }
                }
                (Role::Label(_), ArffValue::Number(_) | ArffValue::NotFinite) => {
                    return Err(fault(format!("label `{}` is a number; declare its values", attribute.name)));
                }
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
        rows.push(values, own, [""; 5]).map_err(fault)?;
    }
    finish(names, rows)
}

const MISSING: &str = "missing";
const NOT_FINITE: &str = "not finite";

/// The separator of a table, by its first line: that of two others which it has and the comma not.
fn separator(input: &mut impl BufRead) -> std::io::Result<u8> {
    let start = input.fill_buf()?;
    let line = &start[..start.iter().position(|&byte| byte == b'\n').unwrap_or(start.len())];
    let other = [b';', b'\t'].into_iter().find(|byte| line.contains(byte));
    Ok(other.filter(|_| !line.contains(&b',')).unwrap_or(b','))
}

/// The columns' names as pandas makes them of a header: a nameless column, which pandas writes for its index, is
/// `Unnamed: 0` by its place, and the second of a name has `.1` behind it.
fn column_names(header: &csv::StringRecord) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (place, name) in header.iter().enumerate() {
        let name = name.trim_start_matches('\u{feff}');
        let base = if name.is_empty() { format!("Unnamed: {place}") } else { name.to_owned() };
        let again = (1..).map(|number| format!("{base}.{number}"));
        let free = std::iter::once(base.clone()).chain(again).find(|name| !names.contains(name));
        names.extend(free);
    }
    names
}

fn csv(mut input: impl BufRead, mut rows: Rows<'_>) -> Result<OneFile, Fault> {
    let told = |error: &csv::Error| {
        let line = error.position().map_or(0, csv::Position::line);
        let problem = match error.kind() {
            csv::ErrorKind::Utf8 { .. } => {
                "the text is not UTF-8; convert the file, such as by iconv -f windows-1252 -t utf-8".to_owned()
            }
            _ => error.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
        };
        (line, problem)
    };
    let separator = separator(&mut input).map_err(|error| (1, error.to_string()))?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .terminator(csv::Terminator::Any(b'\n'))
        .trim(csv::Trim::All)
        .from_reader(input);
    let header = reader.headers().map_err(|error| told(&error))?.clone();
    let columns = column_names(&header);
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    rows.check(&columns).map_err(|problem| (1, problem))?;
    let roles: Vec<Role> = columns.iter().map(|column| rows.role(column).unwrap_or(Role::Number)).collect();
    let names: Vec<String> = columns
        .iter()
        .zip(&roles)
        .filter(|(_, role)| matches!(role, Role::Number))
        .map(|(column, _)| (*column).to_owned())
        .collect();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(|error| told(&error))? {
        let line = record.position().map_or(0, csv::Position::line);
        let fault = |problem: String| (line, problem);
        let mut values = Vec::with_capacity(names.len());
        let mut own: Vec<(&str, &str)> = Vec::new();
        let mut endpoints = [""; 5];
        if record.iter().all(str::is_empty) {
            return Err(fault("the row is empty; remove it".to_owned()));
        }
        if record == header {
            return Err(fault("the line repeats the header; remove it".to_owned()));
        }
        for ((field, role), column) in record.iter().zip(&roles).zip(&columns) {
            match role {
                Role::Label(label) => own.push((label, field)),
                Role::Number => values.push(match field.parse::<f64>() {
                    Ok(number) if number.is_finite() => single(number).map_err(fault)?,
                    Ok(_) => rows.missing(column, NOT_FINITE).map_err(fault)?,
                    Err(_) if field.is_empty() || field == "?" => rows.missing(column, MISSING).map_err(fault)?,
                    Err(_) => {
                        let start: String = field.chars().take(60).collect();
                        let decimal_comma = field.contains(',') && field.replace(',', ".").parse::<f64>().is_ok();
                        let what = if decimal_comma { " (a decimal comma? write a point)" } else { "" };
                        let problem = format!("`{column}`: `{start}` is not a number{what}; or name it in `leave_out`");
                        return Err(fault(problem));
                    }
                }),
                Role::Endpoint(place) => endpoints[*place] = field,
                Role::LeftOut | Role::OneOf(_) => {}
            }
        }
        rows.push(values, own, endpoints).map_err(fault)?;
    }
    finish(names, rows)
}

fn finish(names: Vec<String>, rows: Rows<'_>) -> Result<OneFile, Fault> {
    if names.is_empty() {
        return Err((1, "no column is a feature; shorten `leave_out`".to_owned()));
    }
    Ok(OneFile { names, rows: rows.rows })
}

#[cfg(test)]
#[path = "feature_file_tests.rs"]
mod tests;
