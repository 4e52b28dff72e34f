//! A dataset's definition: `data/<name>.toml` says what the dataset is, which files belong to it and
//! how they get their labels, so that a dataset is added without touching Rust.

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
use super::rules::{COMPRESSIONS, CaptureKey, LabelRules, LabelTable};
use etcbench_storage as storage;
use etcbench_storage::declarative;

/// Where a dataset is published and how to get it from there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// The publisher's page; empty for data that nobody publishes.
    pub url: String,
    /// What to do there, in words.
    pub how: String,
}

impl Publication {
    /// Data of one's own.
    fn private() -> Self {
        Self { url: String::new(), how: "put its files there; its definition names no publisher".to_owned() }
    }

    /// Where to go and what to do there, in one text.
    pub fn told(&self) -> String {
        if self.url.is_empty() { self.how.clone() } else { format!("{} ({})", self.url, self.how) }
    }

    /// The same as steps.
    pub fn steps(&self) -> String {
        if self.url.is_empty() { self.how.clone() } else { format!("go to {} and {}", self.url, self.how) }
    }
}

/// Whether the times of a dataset's packets are those of the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PacketTimes {
    /// They are.
    #[default]
    Recorded,
    /// Whoever rebuilt the captures made them up, so nothing may be learned from them.
    Invented,
}

/// Whether the flows of a dataset are whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowExtent {
    /// They are.
    #[default]
    Whole,
    /// Whoever published them kept the first packets of each, so how long a flow took and at what rate is not known.
    Cut,
}

/// Files that match a pattern but are not used, and why.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exclusion {
    /// A glob on the path relative to the dataset's folder, in any letter case.
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

/// `[folders]` of a definition: the label columns that the folders of a capture's path name, from the outside in.
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
    /// Where it is published.
    pub url: String,
    /// Where it goes, relative to the dataset's folder.
    pub path: String,
    /// The part of the dataset that it belongs to, by which it can be asked for alone.
    pub part: Option<String>,
    /// Its size in bytes, where known.
    pub size: Option<u64>,
    /// Its SHA-256 in hexadecimal, where known.
    pub sha256: Option<String>,
    /// Whether it is an archive that is unpacked next to itself.
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
    /// The dataset's name where the file gives none.
    title: Option<String>,
    /// Nothing to cite where the file gives none.
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
}

/// A dataset's definition, checked and ready to use.
#[derive(Debug, Clone)]
pub struct DatasetDefinition {
    /// The dataset's name: that of its definition file and of its folder.
    pub name: String,
    /// The name for people.
    pub title: String,
    /// The publication to cite.
    pub reference: String,
    /// Where to get it.
    pub published_at: Publication,
    /// The label columns every labelled flow has; none where the captures have no labels.
    pub label_columns: Vec<String>,
    /// What one has to know before using it.
    pub notes: Vec<String>,
    /// The name of its folder, or a path: its own name, but where it shares another dataset's captures.
    pub folder: PathBuf,
    /// Whether the times of its packets are real.
    pub times: PacketTimes,
    /// Whether its flows are whole.
    pub flows: FlowExtent,
    /// The files that are openly published.
    pub downloads: Vec<Download>,
    /// SHA-256 of the definition and its label table, in hexadecimal: two runs with the same digest
    /// label the same files alike.
    pub digest: String,
    /// How its files become features, where they are feature files and not captures.
    pub features: Option<FeatureFileRules>,
    /// How its files become flows, where they are in a published layout and not captures.
    pub published: Option<PublishedRules>,
    pub(super) file_patterns: Vec<String>,
    pub(super) files: GlobSet,
    pub(super) exclusions: Vec<Exclusion>,
    pub(super) excluded: GlobSet,
    pub(super) rules: LabelRules,
    pub(super) flow_labels: Option<FlowLabelRules>,
    pub(super) host_labels: Option<HostLabelRules>,
}

/// The definition file of dataset `name`: `data/<name>.toml` under the project's root.
pub fn definition_path(project_root: &Path, name: &str) -> PathBuf {
    project_root.join("data").join(format!("{name}.toml"))
}

impl DatasetDefinition {
    /// The labels that the capture at `path` has as a whole, as a manifest names it (`archive.zip!member` for a member); none
    /// where no rule names it.
    ///
    /// # Errors
    /// Rules that give it two values of a column.
    pub fn capture_labels(&self, path: &str) -> Result<Labels, String> {
        let (archive, member) = path.split_once(".zip!").map_or(("", path), |(archive, member)| (archive, member));
        let location = match archive.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{member}"),
            None => member.to_owned(),
        };
        self.rules.labels_of(&location)
    }

    /// Reads and checks a definition and the label table it names, which is in the same folder.
    ///
    /// # Errors
    /// [`DatasetError::Declarative`] and [`DatasetError::Definition`], naming the file and the key.
    pub fn read(path: &Path) -> Result<Self, DatasetError> {
        let file = path.display().to_string();
        let text = declarative::read_text(path)?;
        let raw: DefinitionFile = declarative::parse(&text, &file)?;
        let fault = |message: String| DatasetError::Definition { file: file.clone(), message };

        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if raw.name != stem {
            return Err(fault(format!(
                "`name` is `{}` but the file is called `{stem}.toml`; make them agree",
                raw.name
            )));
        }
        if raw.name.is_empty() || !raw.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err(fault(format!("`name` is `{}`: use letters, digits, `-` and `_` only", raw.name)));
        }
        let empty = raw.label_columns.iter().find(|column| column.is_empty());
        if let Some(column) = empty.or_else(|| declarative::first_repeated(&raw.label_columns)) {
            return Err(fault(format!("`label_columns` has `{column}` twice or empty")));
        }
        if raw.files.patterns.is_empty() {
            return Err(fault("`files.patterns` is empty: name at least one, such as \"**/*.pcap\"".to_owned()));
        }
        if let Some(features) = &raw.features {
            features.check(&raw.label_columns).map_err(&fault)?;
            if raw.flow_labels.is_some() || raw.host_labels.is_some() {
                return Err(fault(
                    "[features] goes with neither [flow_labels] nor [host_labels], which are for captures".to_owned(),
                ));
            }
        }
        let published = match &raw.published {
            Some(_) if raw.features.is_some() || raw.flow_labels.is_some() || raw.host_labels.is_some() => {
                return Err(fault(
                    "[published] goes with none of [features], [flow_labels] and [host_labels]".to_owned(),
                ));
            }
            Some(section) => Some(PublishedRules::new(section, &raw.label_columns).map_err(&fault)?),
            None => None,
        };
        let by_capture = !raw.rule.is_empty() || raw.table.is_some() || raw.folders.is_some();
        let labels = by_capture
            || raw.flow_labels.is_some()
            || raw.host_labels.is_some()
            || raw.features.is_some()
            || published.as_ref().is_some_and(PublishedRules::gives_any);
        if raw.label_columns.is_empty() && labels {
            return Err(fault(
                "`label_columns` is empty: name at least one, or leave out all rules where the captures have no labels"
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
                "[flow_labels] and [host_labels] both label single flows; keep one of the two".to_owned(),
            ));
        }
        if let Some(folder) = raw.folder.as_ref().filter(|folder| !is_below(folder)) {
            return Err(fault(format!(
                "`folder` is `{folder}`: name a folder inside data/ (or $ETCBENCH_DATA), such as `{}`; captures that lie \
                 elsewhere are reached by a link there",
                raw.name
            )));
        }
        if let Some(exclusion) = raw.files.exclude.iter().find(|exclusion| exclusion.reason.trim().is_empty()) {
            return Err(fault(format!("`files.exclude` of `{}` gives no reason", exclusion.pattern)));
        }

        // A capture may be compressed; its pattern need not say so.
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
                    return Err(fault(format!("`table.file` is `{}`: name a file beside this one", table.file)));
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
            file_patterns: raw.files.patterns,
            files,
            exclusions: raw.files.exclude,
            excluded,
            rules,
            flow_labels,
        })
    }

    /// Whether its flows get labels; without them it serves only to pre-train.
    pub fn is_labelled(&self) -> bool {
        !self.label_columns.is_empty()
    }

    /// What its flows hold.
    pub fn holds(&self) -> Holds {
        let holds = self.published.as_ref().map_or(Holds::CAPTURE, |published| published.layout.holds);
        let times = if self.times == PacketTimes::Invented { HeldTimes::None } else { holds.times };
        Holds { times, cut: holds.cut || self.flows == FlowExtent::Cut, ..holds }
    }

    /// Whether its files are captures.
    pub fn is_captures(&self) -> bool {
        self.features.is_none() && self.published.is_none()
    }

    /// The same captures with every flow in them and without any label.
    #[must_use]
    pub fn without_labels(self) -> Self {
        let digest = Sha256::new().chain_update(b"without labels ").chain_update(&self.digest);
        Self {
            label_columns: Vec::new(),
            digest: hex::encode(digest.finalize()),
            rules: LabelRules::default(),
            flow_labels: None,
            host_labels: None,
            ..self
        }
    }

    /// The stems of the captures that the label table names, in the table's order; empty without one.
    pub fn expected_stems(&self) -> Vec<&str> {
        self.rules.table_stems()
    }
}

/// Whether a path that a definition gives stays below where it begins: a definition may come from a stranger.
fn is_below(path: &str) -> bool {
    let mut parts = Path::new(path).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// The largest table of labels: a million captures.
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
            return Err(format!("{place}: `path` `{}` is another download's too", download.path));
        }
        let hexadecimal = |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if download.sha256.as_ref().is_some_and(|text| !hexadecimal(text)) {
            return Err(format!("{place}: `sha256` is not 64 hexadecimal digits"));
        }
    }
    Ok(())
}

/// Globs on relative paths with `/`, in any letter case; `*` does not cross folders, `**` does.
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
