//! Loads labelled flows from the captures of one or several datasets.

use rayon::prelude::*;

use super::definition::DatasetDefinition;
use super::duplicate::DuplicateCapture;
use super::error::DatasetError;
use super::flow_labels::{FlowLabelJoin, Joined, MalformedLines, Order, UnknownProtocols, WithoutLine};
use super::folder::{CaptureFile, DatasetFolder};
use super::host_labels::HostLabels;
use super::labelled::{FlowProvenance, LabelledFlow, Labels};
use super::plan::{LabelPlan, PlannedCapture, plan};
use super::published::load_published;
use super::rules::add_label;
use super::unmatched::{FlowWithoutLabel, WithoutLabel};
use etcbench_capture::CaptureSummary;
use etcbench_flow::{Flow, FlowOptions, assemble_capture};
use etcbench_storage::declarative::first_repeated;
use etcbench_storage::progress::Progress;

/// A dataset with its folder.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The dataset's definition.
    pub definition: DatasetDefinition,
    /// The dataset's folder.
    pub folder: DatasetFolder,
}

/// Summary of one capture that was read.
#[derive(Debug, Clone)]
pub struct LoadedCapture {
    /// The dataset's name.
    pub dataset: String,
    /// The capture's name, as in flow IDs.
    pub capture: String,
    /// The file.
    pub file: CaptureFile,
    /// Packets, skipped records by reason, and damage.
    pub summary: CaptureSummary,
    /// Flows that have labels.
    pub flows: u64,
    /// Flows with a label that no rule maps (CTU-13's background).
    pub unused: u64,
    /// Flows without a matching line in the flow-label file.
    pub unmatched: u64,
    /// Flows with conflicting label lines or host labels.
    pub ambiguous: u64,
    /// Lines of the flow-label file that could not be parsed.
    pub malformed_lines: MalformedLines,
    /// Lines of the flow-label file whose protocol is an unknown word.
    pub unknown_protocols: UnknownProtocols,
    /// If no flow matched a line: what to set in the definition so that most flows match.
    pub time_advice: Option<String>,
    /// The flow-label file, relative to the dataset's folder.
    pub flow_label_file: Option<String>,
    /// Largest number of lines of the flow-label file held in memory at once.
    pub most_lines_held: u64,
}

/// Labelled flows, with a summary of how they were obtained.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The flows: datasets in the given order, captures by path, flows by first packet.
    pub flows: Vec<LabelledFlow>,
    /// One entry per capture read, in the same order.
    pub captures: Vec<LoadedCapture>,
    /// Captures without a label rule, with their dataset; not read.
    pub unlabelled: Vec<(String, CaptureFile)>,
    /// Stems in label tables that have no capture, with their dataset.
    pub missing: Vec<(String, String)>,
    /// Duplicate captures, with their dataset; not read.
    pub duplicates: Vec<(String, DuplicateCapture)>,
    /// Flows without a label in captures that have per-flow labels, in the order of the captures; excludes flows with a
    /// label that no rule maps.
    pub without_label: Vec<FlowWithoutLabel>,
}

/// Reads all captures of the datasets, several at a time, and returns their flows in a fixed order. With several
/// datasets, captures are named `<dataset>/<path>`.
///
/// All labelled flows are kept in memory; flows without a label are dropped as they appear.
///
/// # Errors
/// The first capture, in order, that has conflicting labels or cannot be read. A damaged capture is not an error: its
/// flows before the damage are used, and its summary reports the damage.
pub fn load(datasets: &[Dataset], options: &FlowOptions, progress: &dyn Progress) -> Result<Loaded, DatasetError> {
    let mut loaded = Loaded::default();
    let mut jobs: Vec<(&Dataset, PlannedCapture)> = Vec::new();
    let names: Vec<&String> = datasets.iter().map(|dataset| &dataset.definition.name).collect();
    if let Some(name) = first_repeated(&names) {
        return Err(DatasetError::Definition {
            file: (*name).clone(),
            message: "the dataset is listed twice".to_owned(),
        });
    }
    for dataset in datasets {
        let name = &dataset.definition.name;
        if let Some((file, problem)) = dataset.folder.damaged_archives.first() {
            return Err(DatasetError::Archive {
                dataset: name.clone(),
                archive: file.path.clone(),
                message: problem.clone(),
            });
        }
        let LabelPlan { captures, unlabelled, missing, duplicates } = plan(&dataset.definition, &dataset.folder)?;
        loaded.duplicates.extend(duplicates.into_iter().map(|duplicate| (name.clone(), duplicate)));
        jobs.extend(captures.into_iter().map(|capture| (dataset, capture)));
        loaded.unlabelled.extend(unlabelled.into_iter().map(|file| (name.clone(), file)));
        loaded.missing.extend(missing.into_iter().map(|stem| (name.clone(), stem)));
    }
    progress.begin("captures", jobs.len() as u64);
    let results: Vec<Result<CaptureFlows, DatasetError>> = jobs
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
        let CaptureFlows { capture, flows, without_label } = result?;
        loaded.captures.push(capture);
        loaded.flows.extend(flows);
        loaded.without_label.extend(without_label);
    }
    Ok(loaded)
}

/// The flows of one capture.
struct CaptureFlows {
    capture: LoadedCapture,
    flows: Vec<LabelledFlow>,
    without_label: Vec<FlowWithoutLabel>,
}

fn load_capture(
    dataset: &Dataset,
    planned: PlannedCapture,
    prefixed: bool,
    options: &FlowOptions,
) -> Result<CaptureFlows, DatasetError> {
    if let Some(rules) = &dataset.definition.published {
        let path = &planned.file.path;
        let name = if prefixed { format!("{}/{path}", dataset.definition.name) } else { path.clone() };
        let read = load_published(dataset, rules, &planned, &name, options)?;
        let (packets, damage) = (read.packets, read.damage);
        let summary = CaptureSummary { packets, decoded: packets, damage, ..CaptureSummary::default() };
        let capture = LoadedCapture {
            dataset: dataset.definition.name.clone(),
            capture: name,
            file: planned.file,
            summary,
            flows: read.flows.len() as u64,
            unused: read.passed_over,
            unmatched: 0,
            ambiguous: 0,
            malformed_lines: MalformedLines::default(),
            unknown_protocols: UnknownProtocols::default(),
            time_advice: None,
            flow_label_file: None,
            most_lines_held: 0,
        };
        return Ok(CaptureFlows { capture, flows: read.flows, without_label: Vec::new() });
    }
    // Lines and flows are usually in time order; if they are not, the capture is read again with the whole flow-label
    // file in memory.
    if let Some(flows) = load_capture_in(Order::ByTime, dataset, &planned, prefixed, options)? {
        return Ok(flows);
    }
    load_capture_in(Order::Any, dataset, &planned, prefixed, options)?.ok_or_else(|| DatasetError::Labels {
        dataset: dataset.definition.name.clone(),
        capture: planned.file.path.clone(),
        message: "its flows could not be joined to its file of flow labels".to_owned(),
    })
}

/// Labels a capture's flows one at a time.
struct Labeller<'a> {
    definition: &'a DatasetDefinition,
    path: &'a str,
    labels: &'a Labels,
    join: Option<FlowLabelJoin<'a>>,
}

/// Result of labelling a flow.
enum Outcome {
    Labelled(Labels),
    Unused,
    Without(WithoutLabel),
}

impl Labeller<'_> {
    /// Returns the flow's labels, or an error if they contradict the capture's labels.
    fn label(&mut self, flow: &Flow) -> Result<Outcome, LabelFault> {
        let mut labels = self.labels.clone();
        let mut add = |more: &Labels| {
            more.iter()
                .try_for_each(|(column, value)| add_label(&mut labels, column, value))
                .map_err(LabelFault::Message)
        };
        if let Some(join) = &mut self.join {
            match join.join(flow).map_err(LabelFault::Error)? {
                Joined::Labels(more) => add(more)?,
                Joined::Unused => return Ok(Outcome::Unused),
                Joined::Unmatched => return Ok(Outcome::Without(WithoutLabel::Unmatched)),
                Joined::Ambiguous => return Ok(Outcome::Without(WithoutLabel::Ambiguous)),
            }
        }
        if let Some(hosts) = &self.definition.host_labels {
            match hosts.labels_of(&flow.five_tuple, self.path) {
                HostLabels::Labels(more) => add(&more)?,
                HostLabels::Unused => return Ok(Outcome::Unused),
                HostLabels::Ambiguous => return Ok(Outcome::Without(WithoutLabel::Ambiguous)),
            }
        }
        match self.definition.label_columns.iter().find(|column| !labels.contains_key(*column)) {
            None => Ok(Outcome::Labelled(labels)),
            Some(column) => Err(LabelFault::Message(format!(
                "a flow has no value for label column `{column}`; add a rule that sets it"
            ))),
        }
    }
}

enum LabelFault {
    Message(String),
    Error(DatasetError),
}

/// Reads a capture; returns `None` if lines or flows are too far out of order for [`Order::ByTime`].
fn load_capture_in(
    order: Order,
    dataset: &Dataset,
    planned: &PlannedCapture,
    prefixed: bool,
    options: &FlowOptions,
) -> Result<Option<CaptureFlows>, DatasetError> {
    let definition = &dataset.definition;
    let PlannedCapture { file, labels, flow_label_file } = planned;
    let name = if prefixed { format!("{}/{}", definition.name, file.path) } else { file.path.clone() };
    let join = match (flow_label_file, &definition.flow_labels) {
        (Some(path), Some(rules)) => {
            Some(FlowLabelJoin::open(&dataset.folder.root.join(path), rules, &file.location(), order)?)
        }
        _ => None,
    };
    let location = file.location();
    let mut labeller = Labeller { definition, path: &location, labels, join };
    let mut flows = Vec::new();
    let mut without_label = Vec::new();
    let mut number: u32 = 0;
    let (mut unused, mut unmatched, mut ambiguous) = (0, 0, 0);
    let mut without_line = WithoutLine::default();
    let mut fault = None;
    let mut sink = |flow: Flow| {
        let this = number;
        match number.checked_add(1) {
            Some(next) => number = next,
            None => {
                let message = "more than 4294967295 flows in one capture; split the capture".to_owned();
                fault.get_or_insert(LabelFault::Message(message));
            }
        }
        if fault.is_some() {
            return;
        }
        let provenance = FlowProvenance {
            capture: name.clone(),
            number: this,
            five_tuple: flow.five_tuple,
            start: flow.start,
            end: flow.end,
            packet: None,
        };
        match labeller.label(&flow) {
            Ok(Outcome::Labelled(labels)) => flows.push(LabelledFlow { provenance, labels, flow }),
            Ok(Outcome::Unused) => unused += 1,
            Ok(Outcome::Without(reason)) => {
                match reason {
                    WithoutLabel::Unmatched => {
                        unmatched += 1;
                        without_line.add(&flow);
                    }
                    WithoutLabel::Ambiguous => ambiguous += 1,
                }
                without_label.push(FlowWithoutLabel { dataset: definition.name.clone(), provenance, reason });
            }
            Err(found) => fault = Some(found),
        }
    };
    let summary = assemble_capture(&dataset.folder.root.join(&file.path), options, &mut sink)
        .map_err(|error| DatasetError::Capture { dataset: definition.name.clone(), message: error.to_string() })?;
    match fault {
        None => {}
        Some(LabelFault::Error(error)) => return Err(error),
        Some(LabelFault::Message(message)) => {
            let (dataset, capture) = (definition.name.clone(), file.path.clone());
            return Err(DatasetError::Labels { dataset, capture, message });
        }
    }
    let (mut malformed_lines, mut most_lines_held) = (MalformedLines::default(), 0);
    let mut unknown_protocols = UnknownProtocols::default();
    if let Some(join) = &mut labeller.join {
        join.finish()?;
        if order == Order::ByTime && join.disorder() {
            return Ok(None);
        }
        malformed_lines = join.malformed().clone();
        unknown_protocols = join.unknown_protocols().clone();
        most_lines_held = join.most_held as u64;
    }
    let time_advice = match (flow_label_file, &definition.flow_labels) {
        (Some(path), Some(rules)) if unmatched > 0 && flows.is_empty() && unused + ambiguous == 0 => {
            without_line.advice(&dataset.folder.root.join(path), rules, &file.location())?
        }
        _ => None,
    };
    let capture = LoadedCapture {
        dataset: definition.name.clone(),
        capture: name,
        summary,
        flows: flows.len() as u64,
        unused,
        unmatched,
        ambiguous,
        malformed_lines,
        unknown_protocols,
        time_advice,
        flow_label_file: flow_label_file.clone(),
        most_lines_held,
        file: file.clone(),
    };
    Ok(Some(CaptureFlows { capture, flows, without_label }))
}
