//! The rows of one feature file, collected while its format is read: the role of each column, labels, and what is
//! missing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use regex::Regex;

use super::FeatureRow;
use super::rules::{EndpointColumns, FeatureFileRules, ValueRule};
use crate::labelled::{FlowProvenance, Labels};
use crate::names::composed;
use crate::rules::add_label;
use etcbench_capture::Transport;
use etcbench_flow::FiveTuple;
use etcbench_storage::declarative::nearest;

/// A problem, with its line.
pub(super) type Fault = (u64, String);

/// The features, rows and notes of a file.
pub(super) struct OneFile {
    pub names: Vec<String>,
    pub rows: Vec<FeatureRow>,
    pub notes: Vec<String>,
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

impl<'a> Rows<'a> {
    /// Creates an empty file; `labels` are those from the file's name.
    ///
    /// # Errors
    /// A rule's regular expression is invalid.
    pub(super) fn new(
        rules: &'a FeatureFileRules,
        label_columns: &'a [String],
        labels: &'a Labels,
        name: &'a str,
    ) -> Result<Self, String> {
        let regexes = rules.rule.iter().map(ValueRule::regex).collect::<Result<_, _>>()?;
        Ok(Self { rules, regexes, label_columns, labels, name, rows: Vec::new(), notes: Vec::new() })
    }

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

/// Labels of rows, by their label values.
pub(super) type KnownLabels = HashMap<Vec<String>, Arc<Labels>>;

/// Maximum number of label sets to cache.
const MOST_KNOWN: usize = 4096;

/// Rounds a number to single precision, in which features are kept.
pub(super) fn single(number: f64) -> Result<f32, String> {
    let single = number as f32;
    if single.is_finite() { Ok(single) } else { Err(format!("{number} is too large for single precision")) }
}

/// Returns the label columns.
pub(super) fn label_columns<'a>(columns: &[&'a str], roles: &[Role]) -> Vec<&'a str> {
    let labels = columns.iter().zip(roles).filter(|(_, role)| matches!(role, Role::Label));
    labels.map(|(column, _)| *column).collect()
}

/// What [`Rows::missing`] says of a value.
pub(super) const MISSING: &str = "missing";
pub(super) const NOT_FINITE: &str = "not finite";
