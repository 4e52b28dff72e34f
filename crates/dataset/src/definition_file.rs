//! A dataset definition as written: the tables and keys of its file, and the checks that need no other file.

use std::path::Path;

use indexmap::IndexMap;
use serde::Deserialize;

use super::definition::PublishedParts;
use super::feature_file::FeatureFileRules;
use super::flow_labels::LabelFileScope;
use super::published::{PublishedRules, PublishedSection};
use super::rules::CaptureKey;
use etcbench_storage::declarative;

/// Where a dataset is published and how to get it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// The publisher's page; empty for unpublished data.
    pub url: String,
    /// Instructions for getting the data there.
    pub how: String,
}

impl Publication {
    /// Returns the default for private data.
    fn private() -> Self {
        Self { url: String::new(), how: "put its files there; its definition has no publisher".to_owned() }
    }

    /// Returns the page and the instructions as one text.
    pub fn told(&self) -> String {
        if self.url.is_empty() { self.how.clone() } else { format!("{} ({})", self.url, self.how) }
    }

    /// Returns the same information as an imperative sentence.
    pub fn steps(&self) -> String {
        if self.url.is_empty() { self.how.clone() } else { format!("go to {} and {}", self.url, self.how) }
    }
}

/// Whether packet times are those of the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PacketTimes {
    /// They are.
    #[default]
    Recorded,
    /// Invented when the captures were reconstructed, so models must not learn from them.
    Invented,
}

/// Whether a dataset's flows are complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowExtent {
    /// They are.
    #[default]
    Whole,
    /// Truncated by the publisher to their first packets, so duration and rates are unknown.
    Cut,
}

/// Files that match a pattern but are not used, with the reason.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exclusion {
    /// A case-insensitive glob on the path relative to the dataset's folder.
    pub pattern: String,
    /// Why these files are not used.
    pub reason: String,
}

/// `[files]` of a definition.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FilesSection {
    pub patterns: Vec<String>,
    #[serde(default)]
    pub exclude: Vec<Exclusion>,
}

/// One `[[rule]]` of a definition.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleSection {
    pub stem: Option<String>,
    pub path: Option<String>,
    #[serde(default)]
    pub labels: IndexMap<String, String>,
}

/// `[table]` of a definition.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableSection {
    pub file: String,
    pub key: String,
    #[serde(default)]
    pub by: CaptureKey,
}

/// `[folders]` of a definition: the label columns given by the folders of a capture's path, outermost first.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FoldersSection {
    pub columns: Vec<String>,
}

/// `[host_labels]` of a definition.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostLabelsSection {
    pub rule: Vec<HostLabelRuleSection>,
}

/// One `[[host_labels.rule]]` of a definition.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostLabelRuleSection {
    pub addresses: Vec<String>,
    pub capture: Option<String>,
    pub labels: IndexMap<String, String>,
}

/// A file that is openly published: one `[[download]]` of a definition.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// URL of the file.
    pub url: String,
    /// Target path relative to the dataset's folder.
    pub path: String,
    /// The part of the dataset it belongs to; parts can be downloaded separately.
    pub part: Option<String>,
    /// Size in bytes, if known.
    pub size: Option<u64>,
    /// SHA-256 in hexadecimal, if known.
    pub sha256: Option<String>,
    /// Whether the file is an archive to unpack into its own folder.
    #[serde(default)]
    pub unpack: bool,
}

/// `[flow_labels]` of a definition.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlowLabelsSection {
    pub pattern: String,
    pub format: String,
    #[serde(default)]
    pub scope: LabelFileScope,
    pub time: Option<String>,
    pub utc_offset: Option<String>,
    pub tolerance_seconds: f64,
    pub columns: Option<FlowLabelColumns>,
    #[serde(default)]
    pub rule: Vec<FlowLabelRuleSection>,
}

/// `[flow_labels.columns]` of a definition: the names of a CSV file's columns.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlowLabelColumns {
    pub source_address: String,
    pub source_port: String,
    pub destination_address: String,
    pub destination_port: String,
    pub transport: String,
    pub start: String,
    pub end: Option<String>,
    pub duration: Option<String>,
    pub label: Option<String>,
    pub capture: Option<String>,
}

/// One `[[flow_labels.rule]]` of a definition.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlowLabelRuleSection {
    pub label: String,
    pub capture: Option<String>,
    pub labels: IndexMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DefinitionFile {
    pub name: String,
    /// Defaults to the dataset's name.
    pub title: Option<String>,
    /// Defaults to empty: nothing to cite.
    #[serde(default)]
    pub reference: String,
    #[serde(default = "Publication::private")]
    pub published_at: Publication,
    pub label_columns: Vec<String>,
    #[serde(default)]
    pub notes: Vec<String>,
    pub folder: Option<String>,
    #[serde(default)]
    pub times: PacketTimes,
    #[serde(default)]
    pub flows: FlowExtent,
    pub files: FilesSection,
    #[serde(default)]
    pub rule: Vec<RuleSection>,
    pub table: Option<TableSection>,
    pub folders: Option<FoldersSection>,
    pub flow_labels: Option<FlowLabelsSection>,
    pub host_labels: Option<HostLabelsSection>,
    #[serde(default)]
    pub download: Vec<Download>,
    pub features: Option<FeatureFileRules>,
    published: Option<PublishedSection>,
    pub licence: Option<String>,
    pub parts: Option<PublishedParts>,
}

impl DefinitionFile {
    /// Checks the keys that need no other file; `stem` is the file's name without its ending. Returns the rules of
    /// `[published]`.
    ///
    /// # Errors
    /// A key is invalid, or contradicts another one.
    pub(super) fn check(&self, stem: &str) -> Result<Option<PublishedRules>, String> {
        if self.name != stem {
            return Err(format!("`name` is `{}` but the file is named `{stem}.toml`; make them equal", self.name));
        }
        if self.name.is_empty() || !self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err(format!("`name` is `{}`: use only letters, digits, `-` and `_`", self.name));
        }
        if self.licence.as_ref().is_some_and(|licence| licence.trim().is_empty()) {
            return Err("`licence` is empty; omit it if the licence is not known".to_owned());
        }
        if let Some(parts) = &self.parts {
            parts.check(&self.label_columns)?;
        }
        let empty = self.label_columns.iter().find(|column| column.is_empty());
        if let Some(column) = empty.or_else(|| declarative::first_repeated(&self.label_columns)) {
            return Err(format!("`label_columns` contains a duplicate or empty value (`{column}`)"));
        }
        if self.files.patterns.is_empty() {
            return Err("`files.patterns` is empty: name at least one, such as \"**/*.pcap\"".to_owned());
        }
        let by_capture = !self.rule.is_empty() || self.table.is_some() || self.folders.is_some();
        if let Some(features) = &self.features {
            features.check(&self.label_columns, by_capture)?;
            if self.flow_labels.is_some() || self.host_labels.is_some() {
                return Err(
                    "[features] cannot be combined with [flow_labels] or [host_labels], which are for captures"
                        .to_owned(),
                );
            }
        }
        let published = match &self.published {
            Some(_) if self.features.is_some() || self.flow_labels.is_some() || self.host_labels.is_some() => {
                return Err("[published] cannot be combined with [features], [flow_labels] or [host_labels]".to_owned());
            }
            Some(section) => Some(PublishedRules::new(section, &self.label_columns)?),
            None => None,
        };
        let labels = by_capture
            || self.flow_labels.is_some()
            || self.host_labels.is_some()
            || self.features.is_some()
            || published.as_ref().is_some_and(PublishedRules::gives_any);
        if self.label_columns.is_empty() && labels {
            return Err(
                "`label_columns` is empty: name at least one, or remove all rules if the captures have no labels"
                    .to_owned(),
            );
        }
        if !self.label_columns.is_empty() && !labels {
            return Err(
                "no flow can get a label: add a [[rule]], a [table], [folders], [flow_labels] or [host_labels]"
                    .to_owned(),
            );
        }
        if self.flow_labels.is_some() && self.host_labels.is_some() {
            return Err("[flow_labels] and [host_labels] both assign per-flow labels; keep one of the two".to_owned());
        }
        if let Some(folder) = self.folder.as_ref().filter(|folder| !is_below(folder)) {
            return Err(format!(
                "`folder` is `{folder}`: name a folder inside data/ (or $ETCBENCH_DATA), such as `{}`; link captures \
                 stored elsewhere from there",
                self.name
            ));
        }
        if let Some(exclusion) = self.files.exclude.iter().find(|exclusion| exclusion.reason.trim().is_empty()) {
            return Err(format!("`files.exclude` of `{}` has no reason", exclusion.pattern));
        }
        Ok(published)
    }
}

/// Returns whether a path in a definition stays inside its base folder: definitions may be untrusted.
pub(super) fn is_below(path: &str) -> bool {
    let mut parts = Path::new(path).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, std::path::Component::Normal(_)))
}

pub(super) fn check_downloads(downloads: &[Download]) -> Result<(), String> {
    for (index, download) in downloads.iter().enumerate() {
        let place = format!("[[download]] number {}", index + 1);
        if !["https://", "http://"].iter().any(|scheme| download.url.starts_with(scheme)) {
            return Err(format!("{place}: `url` is `{}`; it must begin with https:// or http://", download.url));
        }
        if !is_below(&download.path) || download.path.ends_with('/') {
            return Err(format!("{place}: `path` is `{}`; name a file inside the dataset's folder", download.path));
        }
        if downloads[..index].iter().any(|other| other.path == download.path) {
            return Err(format!("{place}: `path` `{}` is used by another download", download.path));
        }
        let hexadecimal = |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if download.sha256.as_ref().is_some_and(|text| !hexadecimal(text)) {
            return Err(format!("{place}: `sha256` is not 64 hexadecimal digits"));
        }
    }
    Ok(())
}
