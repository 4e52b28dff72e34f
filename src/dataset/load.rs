//! From the captures of one or several datasets to labelled flows.

use rayon::prelude::*;

use super::definition::DatasetDefinition;
use super::error::DatasetError;
use super::flow_labels::{FlowLabelIndex, Joined};
use super::folder::{CaptureFile, DatasetFolder};
use super::labelled::{FlowProvenance, LabelledFlow};
use super::plan::{LabelPlan, PlannedCapture, plan};
use super::rules::add_label;
use crate::capture::CaptureSummary;
use crate::flow::{Flow, FlowOptions, assemble_capture};
use crate::progress::Progress;

/// A dataset whose folder is known.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// What the dataset is.
    pub definition: DatasetDefinition,
    /// Where its files are.
    pub folder: DatasetFolder,
}

/// What was read of one capture.
#[derive(Debug, Clone)]
pub struct LoadedCapture {
    /// The dataset's name.
    pub dataset: String,
    /// The capture as flows name it.
    pub capture: String,
    /// The file.
    pub file: CaptureFile,
    /// Packets, skipped records by reason, and damage.
    pub summary: CaptureSummary,
    /// Flows that have labels.
    pub flows: u64,
    /// Flows whose label no rule uses (CTU-13's background).
    pub unused: u64,
    /// Flows without a line in the file of flow labels.
    pub unjoined: u64,
    /// Flows whose lines disagree.
    pub ambiguous: u64,
    /// Lines of the file of flow labels that could not be understood.
    pub malformed_lines: u64,
}

/// Labelled flows and how they came about.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The flows: datasets as given, captures by path, flows by their first packets.
    pub flows: Vec<LabelledFlow>,
    /// One entry per capture that was read, in the same order.
    pub captures: Vec<LoadedCapture>,
    /// Captures that no rule names, with their dataset; not read.
    pub unlabelled: Vec<(String, CaptureFile)>,
    /// Stems of label tables without a capture, with their dataset.
    pub missing: Vec<(String, String)>,
}

/// Reads all captures of the datasets, several at a time, and gives their flows in a fixed order.
/// With several datasets a capture is named `<dataset>/<path>`.
///
/// Memory holds every labelled flow; flows that get no label are dropped as they appear.
///
/// # Errors
/// The first capture, in order, whose labels contradict each other or that cannot be read. A damaged
/// capture is no error: its flows before the damage are used and its summary tells of it.
pub fn load(datasets: &[Dataset], options: &FlowOptions, progress: &dyn Progress) -> Result<Loaded, DatasetError> {
    let mut loaded = Loaded::default();
    let mut jobs: Vec<(&Dataset, PlannedCapture)> = Vec::new();
    for (index, dataset) in datasets.iter().enumerate() {
        let name = &dataset.definition.name;
        if datasets[..index].iter().any(|other| other.definition.name == *name) {
            return Err(DatasetError::Definition {
                file: name.clone(),
                message: "the dataset is listed twice".to_owned(),
            });
        }
        let LabelPlan { captures, unlabelled, missing } = plan(&dataset.definition, &dataset.folder)?;
        jobs.extend(captures.into_iter().map(|capture| (dataset, capture)));
        loaded.unlabelled.extend(unlabelled.into_iter().map(|file| (name.clone(), file)));
        loaded.missing.extend(missing.into_iter().map(|stem| (name.clone(), stem)));
    }
    progress.begin("captures", jobs.len() as u64);
    let results: Vec<Result<(LoadedCapture, Vec<LabelledFlow>), DatasetError>> = jobs
        .into_par_iter()
        .with_max_len(1)
        .map(|(dataset, capture)| {
            let result = load_capture(dataset, capture, datasets.len() > 1, options);
            progress.advance(1);
            result
        })
        .collect();
    progress.end();
    for result in results {
        let (capture, flows) = result?;
        loaded.captures.push(capture);
        loaded.flows.extend(flows);
    }
    Ok(loaded)
}

fn load_capture(
    dataset: &Dataset,
    planned: PlannedCapture,
    prefixed: bool,
    options: &FlowOptions,
) -> Result<(LoadedCapture, Vec<LabelledFlow>), DatasetError> {
    let definition = &dataset.definition;
    let PlannedCapture { file, labels, flow_label_file } = planned;
    let capture = if prefixed { format!("{}/{}", definition.name, file.path) } else { file.path.clone() };
    let labels_fault = |message: String| DatasetError::Labels {
        dataset: definition.name.clone(),
        capture: file.path.clone(),
        message,
    };
    let index = match (&flow_label_file, &definition.flow_labels) {
        (Some(path), Some(rules)) => Some(FlowLabelIndex::read(&dataset.folder.root.join(path), rules)?),
        _ => None,
    };
    let mut flows = Vec::new();
    let mut number: u32 = 0;
    let (mut unused, mut unjoined, mut ambiguous) = (0, 0, 0);
    let mut fault = None;
    let mut sink = |flow: Flow| {
        let mut labels = labels.clone();
        let this = number;
        match number.checked_add(1) {
            Some(next) => number = next,
            None => fault = Some("more than 4294967295 flows in one capture; split the capture".to_owned()),
        }
        match index.as_ref().map(|index| index.join(&flow)) {
            None => {}
            Some(Joined::Labels(more)) => {
                for (column, value) in more {
                    if let Err(message) = add_label(&mut labels, column, value) {
                        fault = Some(message);
                    }
                }
            }
            Some(Joined::Unused) => return unused += 1,
            Some(Joined::Unjoined) => return unjoined += 1,
            Some(Joined::Ambiguous) => return ambiguous += 1,
        }
        if let Some(column) = definition.label_columns.iter().find(|column| !labels.contains_key(*column)) {
            fault = Some(format!("a flow has no value for label column `{column}`; add a rule that gives one"));
        }
        let provenance = FlowProvenance {
            capture: capture.clone(),
            number: this,
            five_tuple: flow.five_tuple,
            start: flow.start,
            end: flow.end,
        };
        flows.push(LabelledFlow { provenance, labels, flow });
    };
    let summary = assemble_capture(&dataset.folder.root.join(&file.path), options, &mut sink)
        .map_err(|error| DatasetError::Capture { dataset: definition.name.clone(), message: error.to_string() })?;
    if let Some(message) = fault {
        return Err(labels_fault(message));
    }
    let loaded = LoadedCapture {
        dataset: definition.name.clone(),
        capture,
        summary,
        flows: flows.len() as u64,
        unused,
        unjoined,
        ambiguous,
        malformed_lines: index.map_or(0, |index| index.malformed),
        file,
    };
    Ok((loaded, flows))
}
