//! Assigns labels to the captures of a folder before any of them is opened.

use std::collections::{HashMap, HashSet};

use super::definition::DatasetDefinition;
use super::duplicate::{DuplicateCapture, split_duplicates};
use super::error::DatasetError;
use super::flow_labels::{LabelFileScope, join_name};
use super::folder::{CaptureFile, DatasetFolder};
use super::labelled::Labels;

/// A capture with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedCapture {
    /// The file.
    pub file: CaptureFile,
    /// Labels of all its flows.
    pub labels: Labels,
    /// The file with its per-flow labels, relative to the dataset's folder.
    pub flow_label_file: Option<String>,
}

/// The captures of a dataset in a folder.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelPlan {
    /// Captures that are used.
    pub captures: Vec<PlannedCapture>,
    /// Captures without a label rule; not used.
    pub unlabelled: Vec<CaptureFile>,
    /// Stems in the label table that have no capture.
    pub missing: Vec<String>,
    /// Duplicate captures; not used.
    pub duplicates: Vec<DuplicateCapture>,
}

/// Assigns labels to every capture of a folder.
///
/// # Errors
/// [`DatasetError::Labels`]: a capture has contradictory values or no value for a column, or two flow-label files
/// belong to the same capture.
pub fn plan(definition: &DatasetDefinition, folder: &DatasetFolder) -> Result<LabelPlan, DatasetError> {
    let fault = |capture: &str, message: String| DatasetError::Labels {
        dataset: definition.name.clone(),
        capture: capture.to_owned(),
        message,
    };
    let whole_dataset = definition.flow_labels.as_ref().is_some_and(|rules| rules.scope == LabelFileScope::Dataset);
    let mut label_files: HashMap<String, &str> = HashMap::new();
    for file in folder.flow_label_files.iter().filter(|_| definition.flow_labels.is_some()) {
        let name = if whole_dataset { String::new() } else { join_name(&file.path) };
        if let Some(other) = label_files.insert(name, &file.path) {
            return Err(fault(&file.path, format!("{other} labels the same captures; keep one of the two")));
        }
    }
    let (used, duplicates) = split_duplicates(definition, &folder.captures);
    let mut plan = LabelPlan { captures: Vec::new(), unlabelled: Vec::new(), missing: Vec::new(), duplicates };
    let mut present: HashSet<&str> = HashSet::new();
    for file in &used {
        let location = file.location();
        let labels = definition.rules.labels_of(&location).map_err(|message| fault(&file.path, message))?;
        present.extend(definition.rules.table_stem(&location));
        let by_hosts = |column: &String| definition.host_labels.as_ref().is_some_and(|rules| rules.gives(column));
        let in_file = |column: &String| definition.features.as_ref().is_some_and(|features| features.gives(column));
        let published =
            |column: &String| definition.published.as_ref().is_some_and(|published| published.gives(column));
        let given =
            |column: &String| labels.contains_key(column) || by_hosts(column) || in_file(column) || published(column);
        if definition.label_columns.iter().all(given) {
            plan.captures.push(PlannedCapture { file: file.clone(), labels, flow_label_file: None });
            continue;
        }
        let name = if whole_dataset { String::new() } else { join_name(&file.path) };
        let label_file = label_files.get(&name).map(|path| (*path).to_owned());
        match label_file {
            Some(path) => {
                plan.captures.push(PlannedCapture { file: file.clone(), labels, flow_label_file: Some(path) });
            }
            None if labels.is_empty() => plan.unlabelled.push(file.clone()),
            None => {
                let column = definition.label_columns.iter().find(|column| !labels.contains_key(*column));
                let column = column.map_or("", String::as_str);
                let advice = if whole_dataset {
                    "add the dataset's flow-label file".to_owned()
                } else if definition.flow_labels.is_some() {
                    format!("add its flow-label file, named {}.*", join_name(&file.path))
                } else {
                    "add a rule that sets it".to_owned()
                };
                return Err(fault(&file.path, format!("no value for label column `{column}`; {advice}")));
            }
        }
    }
    let missing = definition.rules.table_stems().into_iter().filter(|stem| !present.contains(stem));
    plan.missing = missing.map(str::to_owned).collect();
    Ok(plan)
}
