//! Detects captures that are present twice: unpacked and in an archive, compressed and uncompressed, or as .pcap and
//! .pcapng. One copy is used and the other is reported.

use std::collections::HashMap;

use super::definition::DatasetDefinition;
use super::folder::CaptureFile;
use super::rules::without_compression;

/// A capture that is not used because it duplicates another.
#[derive(Debug, Clone, PartialEq)]
pub struct DuplicateCapture {
    /// The duplicate.
    pub file: CaptureFile,
    /// Path of the capture that is used instead.
    pub used: String,
}

/// Splits captures into used ones and duplicates. Two captures are the same if they have the same row in the label
/// table, or if one would have the other's path once unpacked and decompressed. Plain files take precedence over
/// compressed ones, files over archive members, and .pcap over .pcapng; both lists are sorted by path.
pub(super) fn split_duplicates(
    definition: &DatasetDefinition,
    captures: &[CaptureFile],
) -> (Vec<CaptureFile>, Vec<DuplicateCapture>) {
    let mut order: Vec<&CaptureFile> = captures.iter().collect();
    order.sort_by_key(|file| {
        let plain = without_compression(&file.path);
        let pcapng = plain.to_ascii_lowercase().ends_with(".pcapng");
        (file.archive.is_some(), plain.len() != file.path.len(), pcapng, &file.path)
    });
    let mut used = Vec::new();
    let mut duplicates = Vec::new();
    let mut by_identity: HashMap<String, &str> = HashMap::new();
    for file in order {
        let location = file.location();
        let identities = match definition.rules.table_stem(&location) {
            Some(stem) => vec![format!("table:{stem}")],
            None => file.unpacked_places(),
        };
        match identities.iter().find_map(|identity| by_identity.get(identity)) {
            Some(path) => duplicates.push(DuplicateCapture { file: file.clone(), used: (*path).to_owned() }),
            None => {
                by_identity.extend(identities.into_iter().map(|identity| (identity, file.path.as_str())));
                used.push(file.clone());
            }
        }
    }
    used.sort_by(|a, b| a.path.cmp(&b.path));
    duplicates.sort_by(|a, b| a.file.path.cmp(&b.file.path));
    (used, duplicates)
}

/// Returns a name for a capture that is the same in every copy of a dataset, however it is packed: its stem in the
/// label table, or its path in the folder once unpacked.
pub(super) fn capture_name(definition: &DatasetDefinition, file: &CaptureFile) -> String {
    let location = file.location();
    match definition.rules.table_stem(&location) {
        Some(stem) => stem.to_owned(),
        None => without_compression(&location).to_owned(),
    }
}
