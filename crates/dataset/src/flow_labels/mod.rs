//! Per-flow labels from files that list flows with their labels: a capture's flows are joined to the lines of its file
//! by five-tuple, in either direction, and by time.
//!
//! Two formats are supported: bidirectional netflow files as published with CTU-13, and CSV files with columns named in
//! the definition. Files are streamed alongside the flows, both in time order.

mod join;
mod line;
mod offset;
mod protocol;
mod reader;
mod time;

use globset::GlobSet;
use regex::Regex;

pub(super) use join::{FlowLabelJoin, Joined, Order};
pub(super) use offset::WithoutLine;
pub use protocol::UnknownProtocols;
pub use reader::MalformedLines;
pub(super) use time::civil_time;
use time::{Clock, parse_offset};

use super::definition::globs;
use super::definition_file::{FlowLabelColumns, FlowLabelsSection};
use super::labelled::Labels;
use super::rules::{COMPRESSIONS, capture_stem, known_column};
use etcbench_storage::declarative::did_you_mean;

/// Valid values of `flow_labels.format`.
const FORMATS: [&str; 2] = ["ctu_binetflow", "csv"];
/// Valid values of `flow_labels.time`.
const TIMES: [&str; 3] = ["netflow", "iso8601", "epoch_seconds"];
const NANOSECONDS: f64 = 1e9;

/// Which captures a flow-label file applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LabelFileScope {
    /// The capture whose file name matches the label file's name up to the first dot.
    #[default]
    Capture,
    /// Every capture of the dataset; there is a single label file.
    Dataset,
}

/// The format of a file's lines.
#[derive(Debug, Clone)]
enum Format {
    /// Argus `ra` output with a header line.
    CtuBinetflow,
    /// A header line and the columns named in the definition.
    Csv(Box<FlowLabelColumns>),
}

/// One `[[flow_labels.rule]]`, compiled.
#[derive(Debug, Clone)]
struct Rule {
    label: Regex,
    capture: Option<Regex>,
    labels: Labels,
}

/// `[flow_labels]`, compiled.
#[derive(Debug, Clone)]
pub(super) struct FlowLabelRules {
    pub files: GlobSet,
    pub scope: LabelFileScope,
    format: Format,
    clock: Clock,
    /// Tolerance in nanoseconds when matching a flow and its line by time.
    tolerance: i64,
    rules: Vec<Rule>,
    /// The dataset's label columns, which a CSV file without rules contains itself.
    label_columns: Vec<String>,
}

impl FlowLabelRules {
    pub(crate) fn new(columns: &[String], section: &FlowLabelsSection) -> Result<Self, String> {
        let format = match (section.format.as_str(), &section.columns) {
            ("ctu_binetflow", None) => Format::CtuBinetflow,
            ("ctu_binetflow", Some(_)) => {
                return Err(
                    "[flow_labels.columns] belongs to `format = \"csv\"`; netflow files have fixed columns".to_owned()
                );
            }
            ("csv", Some(named)) => Format::Csv(Box::new(named.clone())),
            ("csv", None) => {
                return Err("`flow_labels.format` is `csv`: name its columns in [flow_labels.columns]".to_owned());
            }
            (other, _) => {
                let near = did_you_mean(other, FORMATS);
                return Err(format!("`flow_labels.format` is `{other}`{near}; known: {}", FORMATS.join(", ")));
            }
        };
        let clock = clock(section)?;
        if !(0.0..=86_400.0).contains(&section.tolerance_seconds) {
            return Err("`flow_labels.tolerance_seconds` must be from 0 to 86400".to_owned());
        }
        let mut rules = Vec::new();
        for (index, rule) in section.rule.iter().enumerate() {
            let place = format!("[[flow_labels.rule]] number {}", index + 1);
            let compile = |text: &str| {
                Regex::new(text).map_err(|_| format!("{place}: `{text}` is not a valid regular expression"))
            };
            if rule.labels.is_empty() {
                return Err(format!("{place} sets no label"));
            }
            for column in rule.labels.keys() {
                known_column(column, columns).map_err(|message| format!("{place}: {message}"))?;
            }
            let capture = rule.capture.as_deref().map(compile).transpose()?;
            rules.push(Rule { label: compile(&rule.label)?, capture, labels: rule.labels.clone() });
        }
        match &format {
            Format::CtuBinetflow if rules.is_empty() => {
                return Err("[[flow_labels.rule]]: at least one is required".to_owned());
            }
            Format::Csv(named) if named.label.is_some() == rules.is_empty() => {
                return Err(
                    "`flow_labels.columns.label` and [[flow_labels.rule]] belong together: set both, or neither and \
                     provide one column per label column"
                        .to_owned(),
                );
            }
            _ => {}
        }
        // Label files may be compressed like captures.
        let compressed = COMPRESSIONS.iter().map(|end| format!("{}.{end}", section.pattern));
        let patterns: Vec<String> = std::iter::once(section.pattern.clone()).chain(compressed).collect();
        Ok(Self {
            files: globs(patterns.iter().map(String::as_str))?,
            scope: section.scope,
            format,
            clock,
            tolerance: (section.tolerance_seconds * NANOSECONDS) as i64,
            rules,
            label_columns: columns.to_vec(),
        })
    }

    /// Returns the rules for one capture, with their indices in the list.
    fn rules_for(&self, capture: &str) -> Vec<(usize, &Regex)> {
        let stem = capture_stem(capture);
        let holds = |rule: &&Rule| rule.capture.as_ref().is_none_or(|regex| regex.is_match(stem));
        self.rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| holds(rule))
            .map(|(index, rule)| (index, &rule.label))
            .collect()
    }
}

fn clock(section: &FlowLabelsSection) -> Result<Clock, String> {
    let default = if section.format == "csv" { "iso8601" } else { "netflow" };
    let form = section.time.as_deref().unwrap_or(default);
    if form == "epoch_seconds" {
        return match section.utc_offset {
            None => Ok(Clock::EpochSeconds),
            Some(_) => {
                Err("`flow_labels.utc_offset` has no effect with `time = \"epoch_seconds\"`; remove it".to_owned())
            }
        };
    }
    let offset =
        section.utc_offset.as_deref().ok_or("`flow_labels.utc_offset` is missing: write it as +02:00, or +00:00")?;
    let offset =
        parse_offset(offset).ok_or_else(|| format!("`flow_labels.utc_offset` is `{offset}`; write it as +02:00"))?;
    match form {
        "netflow" => Ok(Clock::Netflow { utc_offset: offset }),
        "iso8601" => Ok(Clock::Iso8601 { utc_offset: offset }),
        other => {
            let near = did_you_mean(other, TIMES);
            Err(format!("`flow_labels.time` is `{other}`{near}; known: {}", TIMES.join(", ")))
        }
    }
}

/// Returns the name that links a capture to its label file: the file name up to the first dot, ignoring letter case and
/// Unicode form.
pub(super) fn join_name(path: &str) -> String {
    let name = path.rsplit(['/', '!']).next().unwrap_or(path);
    super::names::folded(name.split('.').next().unwrap_or(name))
}

#[cfg(test)]
mod tests;
