//! Which captures of a folder are used with which labels, before any of them is opened.

use std::collections::HashMap;

use rayon::prelude::*;

use super::definition::DatasetDefinition;
use super::error::DatasetError;
use super::flow_labels::join_name;
use super::folder::{CaptureFile, DatasetFolder, file_sha256};
use super::labelled::Labels;

/// A capture with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedCapture {
    /// The file.
    pub file: CaptureFile,
    /// The labels all its flows have.
    pub labels: Labels,
    /// The file that labels its flows one by one, relative to the dataset's folder.
    pub flow_label_file: Option<String>,
}

/// What a folder holds of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelPlan {
    /// The captures that are used.
    pub captures: Vec<PlannedCapture>,
    /// Captures that no rule names; they are not used.
    pub unlabelled: Vec<CaptureFile>,
    /// Stems of the label table without a capture.
    pub missing: Vec<String>,
}

/// A capture as an inventory lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct InventoryCapture {
    /// The file.
    pub file: CaptureFile,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// Its labels; empty where it has none and is not used.
    pub labels: Labels,
}

/// What is there, what is missing, and what does not belong.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    /// Every capture that is not excluded.
    pub found: Vec<InventoryCapture>,
    /// Stems of the label table without a capture.
    pub missing: Vec<String>,
    /// Excluded captures with the reason.
    pub excluded: Vec<(CaptureFile, String)>,
    /// Files that match no pattern.
    pub unexpected: Vec<CaptureFile>,
}

/// Gives every capture of a folder its labels.
///
/// # Errors
/// [`DatasetError::Labels`]: a capture has two values for a column or none, or two captures have the
/// same row of the label table.
pub fn plan(definition: &DatasetDefinition, folder: &DatasetFolder) -> Result<LabelPlan, DatasetError> {
    let fault = |capture: &str, message: String| DatasetError::Labels {
        dataset: definition.name.clone(),
        capture: capture.to_owned(),
        message,
    };
    let mut label_files: HashMap<String, &str> = HashMap::new();
    for file in &folder.flow_label_files {
        if let Some(other) = label_files.insert(join_name(&file.path), &file.path) {
            return Err(fault(&file.path, format!("{other} labels the same captures; keep one of the two")));
        }
    }
    let mut plan = LabelPlan { captures: Vec::new(), unlabelled: Vec::new(), missing: Vec::new() };
    let mut by_stem: HashMap<&str, &str> = HashMap::new();
    for file in &folder.captures {
        let labels = definition.rules.labels_of(&file.path).map_err(|message| fault(&file.path, message))?;
        if let Some(stem) = definition.rules.table_stem(&file.path)
            && let Some(other) = by_stem.insert(stem, &file.path)
        {
            let message = format!(
                "{other} has the same stem, and its flows would count twice; name one of the two in `files.exclude`"
            );
            return Err(fault(&file.path, message));
        }
        let in_file =
            |column: &String| definition.features.as_ref().is_some_and(|features| features.labels.contains_key(column));
        if definition.label_columns.iter().all(|column| labels.contains_key(column) || in_file(column)) {
            plan.captures.push(PlannedCapture { file: file.clone(), labels, flow_label_file: None });
            continue;
        }
        let label_file = label_files.get(&join_name(&file.path)).map(|path| (*path).to_owned());
        match label_file {
            Some(path) => {
                plan.captures.push(PlannedCapture { file: file.clone(), labels, flow_label_file: Some(path) });
            }
            None if labels.is_empty() => plan.unlabelled.push(file.clone()),
            None => {
                let column = definition.label_columns.iter().find(|column| !labels.contains_key(*column));
                let column = column.map_or("", String::as_str);
                let advice = if definition.flow_labels.is_some() {
                    format!("add its file of flow labels, called {}.*", join_name(&file.path))
                } else {
                    "add a rule that gives one".to_owned()
                };
                return Err(fault(&file.path, format!("no value for label column `{column}`; {advice}")));
            }
        }
    }
    let missing = definition.rules.table_stems().into_iter().filter(|stem| !by_stem.contains_key(stem));
    plan.missing = missing.map(str::to_owned).collect();
    Ok(plan)
}

/// Lists a folder with labels and checksums; reads every capture once, several at a time.
///
/// # Errors
/// As [`plan`], and a capture that cannot be read.
pub fn inventory(definition: &DatasetDefinition, folder: &DatasetFolder) -> Result<Inventory, DatasetError> {
    let plan = plan(definition, folder)?;
    let used = plan.captures.into_iter().map(|capture| (capture.file, capture.labels));
    let mut files: Vec<_> = used.chain(plan.unlabelled.into_iter().map(|file| (file, Labels::new()))).collect();
    files.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    let found: Vec<Result<InventoryCapture, DatasetError>> = files
        .into_par_iter()
        .with_max_len(1)
        .map(|(file, labels)| {
            Ok(InventoryCapture { sha256: file_sha256(&folder.root.join(&file.path))?, file, labels })
        })
        .collect();
    Ok(Inventory {
        found: found.into_iter().collect::<Result<_, _>>()?,
        missing: plan.missing,
        excluded: folder.excluded.clone(),
        unexpected: folder.unexpected.clone(),
    })
}
