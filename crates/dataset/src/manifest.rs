//! Manifests: the contents of a copy of a dataset, capture by capture, to compare copies of a dataset and to record the
//! data a run was computed on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::labelled::Labels;
use etcbench_storage::counted;

/// The format version of manifests. Bump whenever the meaning of their fields changes.
pub(super) const MANIFEST_FORMAT: &str = "etcbench-manifest-1";

/// The status of a file in a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// A capture that is used.
    Used,
    /// A capture without a label rule; not used.
    WithoutLabel,
    /// A duplicate capture; `note` names the one that is used.
    Duplicate,
    /// A capture excluded by the definition; `note` has the reason.
    Excluded,
    /// A capture in the label table that is missing.
    Missing,
    /// A flow-label file.
    FlowLabels,
    /// An archive that cannot be opened.
    DamagedArchive,
    /// A file that is not part of the dataset.
    Unexpected,
}

impl EntryState {
    /// All states, in manifest order.
    pub const ALL: [EntryState; 8] = [
        EntryState::Used,
        EntryState::WithoutLabel,
        EntryState::Duplicate,
        EntryState::Excluded,
        EntryState::Missing,
        EntryState::FlowLabels,
        EntryState::DamagedArchive,
        EntryState::Unexpected,
    ];

    /// Returns the name used in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            EntryState::Used => "used",
            EntryState::WithoutLabel => "without_label",
            EntryState::Duplicate => "duplicate",
            EntryState::Excluded => "excluded",
            EntryState::Missing => "missing",
            EntryState::FlowLabels => "flow_labels",
            EntryState::DamagedArchive => "damaged_archive",
            EntryState::Unexpected => "unexpected",
        }
    }
}

/// A file in a manifest. Fields that were not read are absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestEntry {
    /// The status of the file.
    pub state: EntryState,
    /// A name that is the same in every copy, however it is packed: its stem in the label table, or its path once
    /// unpacked and decompressed.
    pub name: String,
    /// Path relative to the dataset's folder; `archive.zip!member` for a member; empty if missing.
    pub path: String,
    /// For captures, bytes without archive and compression; for other files, bytes on disk.
    pub size: Option<u64>,
    /// SHA-256 of those bytes in hexadecimal.
    pub sha256: Option<String>,
    /// Packets in the capture; if it is damaged, those before the damage.
    pub packets: Option<u64>,
    /// Link types, as numbered in <https://www.tcpdump.org/linktypes.html>.
    pub link_types: Vec<u32>,
    /// Description and location of the damage.
    pub damage: Option<String>,
    /// Packets that are earlier than a packet before them; not stored.
    #[serde(skip)]
    pub out_of_order: u64,
    /// Packets whose fraction of a second is beyond the file's resolution; not stored.
    #[serde(skip)]
    pub fractions_out_of_range: u64,
    /// Why the file has this status.
    pub note: Option<String>,
    /// Labels of the whole capture.
    pub labels: Labels,
}

impl ManifestEntry {
    /// Creates an entry with only a state, a name and a path.
    pub(super) fn new(state: EntryState, name: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            state,
            name: name.into(),
            path: path.into(),
            size: None,
            sha256: None,
            packets: None,
            link_types: Vec::new(),
            damage: None,
            out_of_order: 0,
            fractions_out_of_range: 0,
            note: None,
            labels: Labels::new(),
        }
    }
}

/// Contents of a copy of a dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `etcbench-manifest-1`.
    pub format: String,
    /// The dataset.
    pub dataset: String,
    /// SHA-256 of the dataset's definition and label table.
    pub definition: String,
    /// The files: by state, then by name and path.
    pub entries: Vec<ManifestEntry>,
}

impl Manifest {
    pub(super) fn new(dataset: &str, definition: &str, mut entries: Vec<ManifestEntry>) -> Self {
        entries.sort_by(|a, b| (a.state, &a.name, &a.path).cmp(&(b.state, &b.name, &b.path)));
        Self {
            format: MANIFEST_FORMAT.to_owned(),
            dataset: dataset.to_owned(),
            definition: definition.to_owned(),
            entries,
        }
    }

    /// Returns the entries with a given state.
    pub fn of(&self, state: EntryState) -> impl Iterator<Item = &ManifestEntry> {
        self.entries.iter().filter(move |entry| entry.state == state)
    }

    /// Returns groups of paths of captures with identical bytes under different names, sorted; captures already
    /// reported as duplicates are excluded.
    pub fn same_bytes(&self) -> Vec<Vec<&str>> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for entry in self.of(EntryState::Used).chain(self.of(EntryState::WithoutLabel)) {
            if let Some(sha256) = &entry.sha256 {
                groups.entry(sha256).or_default().push(&entry.path);
            }
        }
        groups.into_values().filter(|paths| paths.len() > 1).collect()
    }
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The underlying I/O error.
        source: std::io::Error,
    },
    /// The file is not a manifest.
    #[error("{}{}: {problem}", path.display(), line.map_or(String::new(), |line| format!(", line {line}")))]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, if known.
        line: Option<u64>,
        /// Description of the problem and what to do.
        problem: String,
    },
}

/// Lists the differences between two manifests of a dataset, one line each; empty if a run on either computes the same.
/// Ignores where captures are and how they are packed.
pub fn compare_manifests(first: &Manifest, second: &Manifest) -> Vec<String> {
    let mut differences = Vec::new();
    if first.dataset != second.dataset {
        differences.push(format!("the first is for dataset {}, the second for {}", first.dataset, second.dataset));
    }
    if first.definition != second.definition {
        differences
            .push("the definitions of the dataset differ; the same capture may have different labels".to_owned());
    }
    let relevant = |manifest: &'_ Manifest| -> BTreeMap<(bool, String), ManifestEntry> {
        let mut entries = BTreeMap::new();
        for entry in &manifest.entries {
            let labels = entry.state == EntryState::FlowLabels;
            // If a capture is present twice, the one that is used comes first.
            if !matches!(entry.state, EntryState::Unexpected | EntryState::Missing) {
                entries.entry((labels, entry.name.clone())).or_insert_with(|| entry.clone());
            }
        }
        entries
    };
    let (ours, theirs) = (relevant(first), relevant(second));
    let names: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    for key in names {
        let name = &key.1;
        match (ours.get(key), theirs.get(key)) {
            (Some(_), None) => differences.push(format!("{name}: only in the first")),
            (None, Some(_)) => differences.push(format!("{name}: only in the second")),
            (Some(a), Some(b)) => differences.extend(entry_difference(a, b).map(|text| format!("{name}: {text}"))),
            (None, None) => {}
        }
    }
    differences
}

fn entry_difference(a: &ManifestEntry, b: &ManifestEntry) -> Option<String> {
    if a.state != b.state {
        return Some(format!("{} in the first, {} in the second", a.state.name(), b.state.name()));
    }
    let bytes = match (&a.sha256, &b.sha256) {
        (Some(x), Some(y)) => x != y,
        // Without checksums, compare what is known.
        _ => (a.size, a.packets, &a.damage) != (b.size, b.packets, &b.damage),
    };
    if bytes {
        return Some(format!("different bytes: {} in the first, {} in the second", describe(a), describe(b)));
    }
    (a.labels != b.labels).then(|| "different labels".to_owned())
}

fn describe(entry: &ManifestEntry) -> String {
    let mut parts = Vec::new();
    parts.extend(entry.size.map(|size| counted(size, "byte")));
    parts.extend(entry.packets.map(|packets| counted(packets, "packet")));
    parts.extend(entry.sha256.as_ref().map(|sha256| format!("sha256 {}", sha256.get(..12).unwrap_or(sha256))));
    parts.extend(entry.damage.as_ref().map(|_| "damaged".to_owned()));
    parts.join(", ")
}
