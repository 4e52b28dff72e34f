//! `[features]` of a definition: the format of feature files, and which columns are labels, endpoints, groups or left
//! out.

use std::net::{IpAddr, SocketAddr};

use indexmap::IndexMap;
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::names::composed;
use crate::rules::known_column;
use etcbench_capture::Transport;
use etcbench_flow::FiveTuple;
use etcbench_storage::declarative::first_repeated;

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
    pub(super) fn regex(&self) -> Result<Regex, String> {
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
    pub(super) fn names(&self) -> [&String; 5] {
        [&self.source_address, &self.source_port, &self.destination_address, &self.destination_port, &self.transport]
    }

    /// Parses the endpoints from a row's fields, in the order of [`EndpointColumns::names`].
    pub(super) fn parse(&self, fields: [&str; 5]) -> Result<FiveTuple, String> {
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

impl FeatureFileRules {
    /// Checks the rules; `by_file` tells whether labels also come from the files' names.
    pub(crate) fn check(&self, label_columns: &[String], by_file: bool) -> Result<(), String> {
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
    pub(super) fn leaves_out(&self, column: &str) -> bool {
        self.leave_out.iter().any(|pattern| matches(pattern, column))
    }

    /// Returns whether a column of the file provides labels.
    pub(super) fn is_label(&self, column: &str) -> bool {
        self.labels.values().any(|label| label == column) || self.rule.iter().any(|rule| rule.column == column)
    }

    /// Returns whether the file may provide this label column.
    pub(crate) fn gives(&self, column: &str) -> bool {
        let by_rule = |rule: &ValueRule| {
            let named = |regex: Regex| regex.capture_names().flatten().any(|name| name == column);
            rule.labels.contains_key(column) || rule.regex().is_ok_and(named)
        };
        self.labels.contains_key(column) || self.rule.iter().any(by_rule)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("src_*", "src_ip", true),
            ("src_*", "dst_ip", false),
            ("*_ip", "src_ip", true),
            ("*_ip", "src_ip6", false),
            ("a*b*c", "a--b--c", true),
            ("a*b*c", "a--c", false),
            ("*", "", true),
            ("ab*ba", "aba", false),
            ("exact", "exact", true),
            ("exact", "exact.1", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
