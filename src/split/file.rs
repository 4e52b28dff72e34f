//! Split files: CSV with a `flow_id` and a `part` column, one line per flow, so that others can train on
//! the same flows.

use std::collections::HashMap;
use std::path::Path;

use super::{Part, Split, SplitError, canonical_order};
use crate::feature::FeatureSet;
use crate::storage::write_whole;

const COLUMNS: [&str; 2] = ["flow_id", "part"];

fn error(path: &Path, problem: impl std::fmt::Display) -> SplitError {
    SplitError::File { path: path.display().to_string(), problem: problem.to_string() }
}

/// Writes which part each flow of `features` has, in the order of flow ids.
///
/// # Errors
/// A split that leaves out flows of `features`, or any error of the file system.
pub fn write_split(path: &Path, features: &FeatureSet, split: &Split) -> Result<(), SplitError> {
    let mut parts = vec![None; features.len()];
    for part in Part::ALL {
        for &row in split.part(part) {
            *parts.get_mut(row).ok_or_else(|| error(path, format!("row {row} is not in the feature set")))? =
                Some(part);
        }
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS).map_err(|problem| error(path, problem))?;
    for row in canonical_order(&features.provenance) {
        let id = features.provenance[row].flow_id();
        let part: Part = parts[row].ok_or_else(|| error(path, format!("flow {id} is in no part of the split")))?;
        writer.write_record([&id, part.name()]).map_err(|problem| error(path, problem))?;
    }
    let bytes = writer.into_inner().map_err(|problem| error(path, problem))?;
    write_whole(path, &bytes).map_err(|problem| error(path, problem))
}

/// Reads a split of exactly the flows of `features`.
///
/// # Errors
/// A file that is not a split file, names a flow that is not there or one twice, or leaves one out.
pub fn read_split(path: &Path, features: &FeatureSet) -> Result<Split, SplitError> {
    let mut rows: HashMap<String, usize> = HashMap::with_capacity(features.len());
    for (row, provenance) in features.provenance.iter().enumerate() {
        rows.insert(provenance.flow_id(), row);
    }
    let mut reader = csv::Reader::from_path(path).map_err(|problem| error(path, problem))?;
    let header = reader.headers().map_err(|problem| error(path, problem))?;
    if header.iter().ne(COLUMNS) {
        let found: Vec<&str> = header.iter().collect();
        return Err(error(path, format!("the columns are {found:?}, expected {COLUMNS:?}")));
    }
    let mut parts = vec![None; features.len()];
    for record in reader.records() {
        let record = record.map_err(|problem| error(path, problem))?;
        let line = record.position().map_or(0, csv::Position::line);
        let (id, name) = (&record[0], &record[1]);
        let part = Part::ALL.into_iter().find(|part| part.name() == name).ok_or_else(|| {
            error(path, format!("line {line}: part {name:?} is not one of train, validation and test"))
        })?;
        let &row = rows.get(id).ok_or_else(|| {
            error(path, format!("line {line}: flow {id} is not in the feature set; was the split made of other data?"))
        })?;
        if parts[row].replace(part).is_some() {
            return Err(error(path, format!("line {line}: flow {id} is named a second time")));
        }
    }
    let mut complete = Vec::with_capacity(parts.len());
    for (row, part) in parts.into_iter().enumerate() {
        complete.push(part.ok_or_else(|| {
            let id = features.provenance[row].flow_id();
            error(path, format!("flow {id} is missing; a split must name every flow"))
        })?);
    }
    Ok(Split::from_parts(&complete))
}
