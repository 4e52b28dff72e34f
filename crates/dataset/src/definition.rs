//! Dataset definitions (`data/<name>.toml`): which files belong to a dataset, which labels its flows get, and where to
//! get it.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::definition_file::{
    DefinitionFile, Download, Exclusion, FlowExtent, PacketTimes, Publication, check_downloads, is_below,
};
use super::error::DatasetError;
use super::feature_file::FeatureFileRules;
use super::flow_labels::FlowLabelRules;
use super::holds::{HeldTimes, Holds};
use super::host_labels::HostLabelRules;
use super::labelled::Labels;
use super::published::PublishedRules;
use super::rules::{COMPRESSIONS, LabelRules, LabelTable, known_column};
use etcbench_storage as storage;
use etcbench_storage::declarative;

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
    pub(super) fn check(&self, label_columns: &[String]) -> Result<(), String> {
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
        let published = raw.check(stem).map_err(&fault)?;

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

/// Maximum size of a label table, enough for a million captures.
const MOST_TABLE_BYTES: u64 = 256 << 20;

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
