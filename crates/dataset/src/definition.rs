//! Dataset definitions: `data/<name>.toml` describes a dataset, its files and how they get their labels, so that
//! datasets can be added without changing Rust code.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use indexmap::IndexMap;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::error::DatasetError;
use super::feature_file::FeatureFileRules;
use super::flow_labels::{FlowLabelRules, LabelFileScope};
use super::holds::{HeldTimes, Holds};
use super::host_labels::HostLabelRules;
use super::labelled::Labels;
use super::published::{PublishedRules, PublishedSection};
use super::rules::{COMPRESSIONS, CaptureKey, LabelRules, LabelTable, known_column};
use etcbench_storage as storage;
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
struct DefinitionFile {
    name: String,
    /// Defaults to the dataset's name.
    title: Option<String>,
    /// Defaults to empty: nothing to cite.
    #[serde(default)]
    reference: String,
    #[serde(default = "Publication::private")]
    published_at: Publication,
    label_columns: Vec<String>,
    #[serde(default)]
    notes: Vec<String>,
    folder: Option<String>,
    #[serde(default)]
    times: PacketTimes,
    #[serde(default)]
    flows: FlowExtent,
    files: FilesSection,
    #[serde(default)]
    rule: Vec<RuleSection>,
    table: Option<TableSection>,
    folders: Option<FoldersSection>,
    flow_labels: Option<FlowLabelsSection>,
    host_labels: Option<HostLabelsSection>,
    #[serde(default)]
    download: Vec<Download>,
    features: Option<FeatureFileRules>,
    published: Option<PublishedSection>,
    licence: Option<String>,
    parts: Option<PublishedParts>,
}

/// `[parts]` of a definition: how the publisher divided the flows, by the values of a label column.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedParts {
    /// The label column.
    column: String,
    /// Its values for training.
    train: Vec<String>,
    /// Its values for early stopping; without them, `split.validation` of the training flows are used.
    #[serde(default)]
    validation: Vec<String>,
    /// Its values for testing.
    test: Vec<String>,
}

impl PublishedParts {
    fn check(&self, label_columns: &[String]) -> Result<(), String> {
        known_column(&self.column, label_columns).map_err(|message| format!("`parts.column`: {message}"))?;
        for (key, values) in [("train", &self.train), ("test", &self.test)] {
            if values.is_empty() {
                return Err(format!("`parts.{key}` is empty: list the values of `{}` for it", self.column));
            }
        }
        let all: Vec<&String> = self.train.iter().chain(&self.validation).chain(&self.test).collect();
        match declarative::first_repeated(&all) {
            Some(value) => Err(format!("`{value}` is twice in [parts]; a flow is in one part")),
            None => Ok(()),
        }
    }

    /// Returns whether there is a validation part.
    pub fn has_validation(&self) -> bool {
        !self.validation.is_empty()
    }

    /// Returns whether these labels state the part, or that there is none.
    pub fn is_stated_by(&self, labels: &Labels) -> bool {
        labels.contains_key(&self.column)
    }

    /// Returns `train`, `validation` or `test` for a flow with these labels, or `None` if it is in no part.
    pub fn part_of(&self, labels: &Labels) -> Option<&'static str> {
        let value = labels.get(&self.column)?;
        let parts = [("train", &self.train), ("validation", &self.validation), ("test", &self.test)];
        parts.into_iter().find(|(_, values)| values.contains(value)).map(|(name, _)| name)
    }
}

/// A validated dataset definition.
#[derive(Debug, Clone)]
pub struct DatasetDefinition {
    /// The dataset's name, equal to the name of its definition file and, by default, of its folder.
    pub name: String,
    /// The display name.
    pub title: String,
    /// The publication to cite.
    pub reference: String,
    /// Where to get the dataset.
    pub published_at: Publication,
    /// The label columns of every labelled flow; empty if the captures have no labels.
    pub label_columns: Vec<String>,
    /// What to know before using the dataset.
    pub notes: Vec<String>,
    /// Name or path of its folder: by default its own name; differs if it uses another dataset's captures.
    pub folder: PathBuf,
    /// Whether packet times are real.
    pub times: PacketTimes,
    /// Whether flows are complete.
    pub flows: FlowExtent,
    /// The openly published files.
    pub downloads: Vec<Download>,
    /// SHA-256 of the definition and its label table, in hexadecimal: runs with equal digests assign the same labels to
    /// the same files.
    pub digest: String,
    /// The licence of the published files, as an SPDX identifier where there is one; `None` if it is not confirmed.
    pub licence: Option<String>,
    /// The parts into which the publisher divided the flows.
    pub parts: Option<PublishedParts>,
    /// Rules for reading its files as features, if they are feature files instead of captures.
    pub features: Option<FeatureFileRules>,
    /// Rules for reading its files as flows, if they are in a published layout instead of captures.
    pub published: Option<PublishedRules>,
    pub(super) file_patterns: Vec<String>,
    pub(super) files: GlobSet,
    pub(super) exclusions: Vec<Exclusion>,
    pub(super) excluded: GlobSet,
    pub(super) rules: LabelRules,
    pub(super) flow_labels: Option<FlowLabelRules>,
    pub(super) host_labels: Option<HostLabelRules>,
}

/// Returns the path of a dataset's definition file: `data/<name>.toml` under the project's root.
pub fn definition_path(project_root: &Path, name: &str) -> PathBuf {
    project_root.join("data").join(format!("{name}.toml"))
}

impl DatasetDefinition {
    /// Returns the labels of a whole capture, given its path as in a manifest (`archive.zip!member` for a member);
    /// empty if no rule matches.
    ///
    /// # Errors
    /// Rules assign contradictory values to a column.
    pub fn capture_labels(&self, path: &str) -> Result<Labels, String> {
        let (archive, member) = path.split_once(".zip!").map_or(("", path), |(archive, member)| (archive, member));
        let location = match archive.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{member}"),
            None => member.to_owned(),
        };
        self.rules.labels_of(&location)
    }

    /// Reads and validates a definition and its label table, which is in the same folder.
    ///
    /// # Errors
    /// [`DatasetError::Declarative`] and [`DatasetError::Definition`], with the file and the key.
    pub fn read(path: &Path) -> Result<Self, DatasetError> {
        let file = path.display().to_string();
        let text = declarative::read_text(path)?;
        let raw: DefinitionFile = declarative::parse(&text, &file)?;
        let fault = |message: String| DatasetError::Definition { file: file.clone(), message };

        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if raw.name != stem {
            return Err(fault(format!(
                "`name` is `{}` but the file is named `{stem}.toml`; make them equal",
                raw.name
            )));
        }
        if raw.name.is_empty() || !raw.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err(fault(format!("`name` is `{}`: use only letters, digits, `-` and `_`", raw.name)));
        }
        if raw.licence.as_ref().is_some_and(|licence| licence.trim().is_empty()) {
            return Err(fault("`licence` is empty; omit it if the licence is not known".to_owned()));
        }
        if let Some(parts) = &raw.parts {
            parts.check(&raw.label_columns).map_err(&fault)?;
        }
        let empty = raw.label_columns.iter().find(|column| column.is_empty());
        if let Some(column) = empty.or_else(|| declarative::first_repeated(&raw.label_columns)) {
            return Err(fault(format!("`label_columns` contains a duplicate or empty value (`{column}`)")));
        }
        if raw.files.patterns.is_empty() {
            return Err(fault("`files.patterns` is empty: name at least one, such as \"**/*.pcap\"".to_owned()));
        }
        let by_capture = !raw.rule.is_empty() || raw.table.is_some() || raw.folders.is_some();
        if let Some(features) = &raw.features {
            features.check(&raw.label_columns, by_capture).map_err(&fault)?;
            if raw.flow_labels.is_some() || raw.host_labels.is_some() {
                return Err(fault(
                    "[features] cannot be combined with [flow_labels] or [host_labels], which are for captures"
                        .to_owned(),
                ));
            }
        }
        let published = match &raw.published {
            Some(_) if raw.features.is_some() || raw.flow_labels.is_some() || raw.host_labels.is_some() => {
                return Err(fault(
                    "[published] cannot be combined with [features], [flow_labels] or [host_labels]".to_owned(),
                ));
            }
            Some(section) => Some(PublishedRules::new(section, &raw.label_columns).map_err(&fault)?),
            None => None,
        };
        let labels = by_capture
            || raw.flow_labels.is_some()
            || raw.host_labels.is_some()
            || raw.features.is_some()
            || published.as_ref().is_some_and(PublishedRules::gives_any);
        if raw.label_columns.is_empty() && labels {
            return Err(fault(
                "`label_columns` is empty: name at least one, or remove all rules if the captures have no labels"
                    .to_owned(),
            ));
        }
        if !raw.label_columns.is_empty() && !labels {
            return Err(fault(
                "no flow can get a label: add a [[rule]], a [table], [folders], [flow_labels] or [host_labels]"
                    .to_owned(),
            ));
        }
        if raw.flow_labels.is_some() && raw.host_labels.is_some() {
            return Err(fault(
                "[flow_labels] and [host_labels] both assign per-flow labels; keep one of the two".to_owned(),
            ));
        }
        if let Some(folder) = raw.folder.as_ref().filter(|folder| !is_below(folder)) {
            return Err(fault(format!(
                "`folder` is `{folder}`: name a folder inside data/ (or $ETCBENCH_DATA), such as `{}`; link captures \
                 stored elsewhere from there",
                raw.name
            )));
        }
        if let Some(exclusion) = raw.files.exclude.iter().find(|exclusion| exclusion.reason.trim().is_empty()) {
            return Err(fault(format!("`files.exclude` of `{}` has no reason", exclusion.pattern)));
        }

        // Captures may be compressed without the pattern saying so.
        let compressions: &[&str] = if raw.features.is_some() { &[] } else { &COMPRESSIONS };
        let compressed = raw
            .files
            .patterns
            .iter()
            .flat_map(|pattern| compressions.iter().map(move |end| format!("{pattern}.{end}")));
        let patterns: Vec<String> = raw.files.patterns.iter().cloned().chain(compressed).collect();
        let files = globs(patterns.iter().map(String::as_str)).map_err(&fault)?;
        let excluded = globs(raw.files.exclude.iter().map(|exclusion| exclusion.pattern.as_str())).map_err(&fault)?;
        let mut digest = Sha256::new();
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text.as_bytes());
        let table = match &raw.table {
            None => None,
            Some(table) => {
                if !is_below(&table.file) {
                    return Err(fault(format!("`table.file` is `{}`: name a file in the same folder", table.file)));
                }
                let table_path = path.parent().unwrap_or(Path::new("")).join(&table.file);
                let bytes = storage::or_stock(&table_path, storage::read_regular(&table_path, MOST_TABLE_BYTES))
                    .map_err(|source| DatasetError::Io { path: table_path.display().to_string(), source })?;
                digest.update(&bytes);
                Some(LabelTable::parse(
                    &table_path.display().to_string(),
                    &bytes,
                    &table.key,
                    table.by,
                    &raw.label_columns,
                )?)
            }
        };
        let folders = raw.folders.map_or(Vec::new(), |section| section.columns);
        let rules = LabelRules::new(&raw.label_columns, &raw.rule, table, &folders).map_err(&fault)?;
        let host_labels = match &raw.host_labels {
            Some(section) => Some(HostLabelRules::new(&raw.label_columns, section).map_err(&fault)?),
            None => None,
        };
        check_downloads(&raw.download).map_err(&fault)?;
        let flow_labels = match &raw.flow_labels {
            Some(section) => Some(FlowLabelRules::new(&raw.label_columns, section).map_err(&fault)?),
            None => None,
        };
        Ok(Self {
            folder: raw.folder.unwrap_or_else(|| raw.name.clone()).into(),
            times: raw.times,
            flows: raw.flows,
            published,
            downloads: raw.download,
            host_labels,
            title: raw.title.unwrap_or_else(|| raw.name.clone()),
            name: raw.name,
            reference: raw.reference,
            published_at: raw.published_at,
            label_columns: raw.label_columns,
            notes: raw.notes,
            digest: hex::encode(digest.finalize()),
            features: raw.features,
            licence: raw.licence,
            parts: raw.parts,
            file_patterns: raw.files.patterns,
            files,
            exclusions: raw.files.exclude,
            excluded,
            rules,
            flow_labels,
        })
    }

    /// Returns whether its flows have labels; without labels it can only be used for pre-training.
    pub fn is_labelled(&self) -> bool {
        !self.label_columns.is_empty()
    }

    /// Returns the information contained in its flows.
    pub fn holds(&self) -> Holds {
        let holds = self.published.as_ref().map_or(Holds::CAPTURE, |published| published.layout.holds);
        let times = if self.times == PacketTimes::Invented { HeldTimes::None } else { holds.times };
        Holds { times, cut: holds.cut || self.flows == FlowExtent::Cut, ..holds }
    }

    /// Returns whether its files are captures.
    pub fn is_captures(&self) -> bool {
        self.features.is_none() && self.published.is_none()
    }

    /// Returns the same captures with all their flows and without labels.
    #[must_use]
    pub fn without_labels(self) -> Self {
        let digest = Sha256::new().chain_update(b"without labels ").chain_update(&self.digest);
        Self {
            label_columns: Vec::new(),
            parts: None,
            digest: hex::encode(digest.finalize()),
            rules: LabelRules::default(),
            flow_labels: None,
            host_labels: None,
            ..self
        }
    }

    /// Returns the stems of the captures in the label table, in table order; empty without a table.
    pub fn expected_stems(&self) -> Vec<&str> {
        self.rules.table_stems()
    }
}

/// Returns whether a path in a definition stays inside its base folder: definitions may be untrusted.
fn is_below(path: &str) -> bool {
    let mut parts = Path::new(path).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// Maximum size of a label table, enough for a million captures.
const MOST_TABLE_BYTES: u64 = 256 << 20;

fn check_downloads(downloads: &[Download]) -> Result<(), String> {
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

/// Compiles case-insensitive globs on relative paths with `/`; `*` does not cross folders, `**` does.
pub(super) fn globs<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(&super::names::composed(pattern))
            .case_insensitive(true)
            .literal_separator(true)
            .build()
            .map_err(|error| format!("pattern `{pattern}`: {}", error.kind()))?;
        set.add(glob);
    }
    set.build().map_err(|error| format!("patterns: {error}"))
}
