//! Selects the flows of an experiment, assigns their classes, and builds their features.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use ndarray::Array2;
use rand::seq::index::sample;
use serde::{Deserialize, Serialize};

use super::duplicate::{DuplicateFlows, without_duplicates};
use super::flowpic::{FlowpicError, FlowpicOptions, write_flowpic};
use super::sequence::{SequenceError, SequenceOptions, write_sequence};
use super::set::{FeatureSet, TokenArray};
use super::token::{TokenError, TokenOptions, tokenize};
use etcbench_dataset::{FeatureTable, FlowProvenance, LabelledFlow, Labels, composed};
use etcbench_flow::{Flow, FlowOptions, STATISTIC_NAMES};
use etcbench_storage::declarative::{first_repeated, nearest};
use etcbench_storage::seed;

/// One or several label values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a label value or a list of label values")]
pub enum Values {
    /// Exactly this value.
    One(String),
    /// Any of these values.
    Several(Vec<String>),
}

impl Values {
    fn list(&self) -> &[String] {
        match self {
            Values::One(value) => std::slice::from_ref(value),
            Values::Several(values) => values,
        }
    }
}

/// Label column to allowed values; all columns must match.
type Conditions = IndexMap<String, Values>;

/// The classes of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a list of values of `label`, or a table of class = { label column = value }")]
pub enum Classes {
    /// Values of the label column named by `label`.
    Listed(Vec<String>),
    /// Class names, each with the label values that define it.
    Composed(IndexMap<String, Conditions>),
}

/// `[selection]` of an experiment: which flows are used, and the class of each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Use only flows with these label values.
    #[serde(default)]
    pub filter: IndexMap<String, Values>,
    /// The label column whose values are the classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The classes, in table order; defaults to all values of `label` that pass the filter, in ascending order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
    /// Minimum number of packets of a flow (in the capture, not only among those kept).
    #[serde(default = "one")]
    pub minimum_packets: u64,
    /// Maximum number of flows per class, drawn with the run's seed (purpose `selection`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_flows_per_class: Option<usize>,
    /// How to treat duplicate flows within a class; kept by default.
    #[serde(default, skip_serializing_if = "DuplicateFlows::is_keep")]
    pub duplicates: DuplicateFlows,
    /// What a row is; a flow by default.
    #[serde(default, skip_serializing_if = "Sample::is_flow")]
    pub sample: Sample,
}

/// What a row of the features is, that is, the unit that a model classifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// A flow.
    #[default]
    Flow,
    /// A single packet: each of the first N packets of every selected flow that has bytes.
    Packet,
}

impl Sample {
    fn is_flow(&self) -> bool {
        *self == Self::Flow
    }
}

impl Selection {
    /// Returns the selection with all label values in composed Unicode form, which labels use.
    fn composed(&self) -> Self {
        let text = |value: &String| composed(value).into_owned();
        let conditions = |conditions: &Conditions| -> Conditions {
            let values = |values: &Values| match values {
                Values::One(value) => Values::One(text(value)),
                Values::Several(values) => Values::Several(values.iter().map(text).collect()),
            };
            conditions.iter().map(|(column, of)| (column.clone(), values(of))).collect()
        };
        let classes = self.classes.as_ref().map(|classes| match classes {
            Classes::Listed(values) => Classes::Listed(values.iter().map(text).collect()),
            Classes::Composed(classes) => {
                Classes::Composed(classes.iter().map(|(name, of)| (name.clone(), conditions(of))).collect())
            }
        });
        Self { filter: conditions(&self.filter), classes, ..self.clone() }
    }

    /// Returns the class for these labels; `None` if the filter excludes them or they belong to no class.
    pub fn class_of(&self, labels: &Labels) -> Option<String> {
        let selection = self.composed();
        if !meets(labels, &selection.filter) {
            return None;
        }
        let value = || labels.get(selection.label.as_ref()?);
        match &selection.classes {
            None => value().cloned(),
            Some(Classes::Listed(names)) => value().filter(|value| names.contains(value)).cloned(),
            Some(Classes::Composed(classes)) => {
                classes.iter().find(|(_, conditions)| meets(labels, conditions)).map(|(name, _)| name.clone())
            }
        }
    }

    /// Returns the label columns that determine whether a flow is used and its class.
    pub fn label_columns(&self) -> BTreeSet<&str> {
        let composed = match &self.classes {
            Some(Classes::Composed(classes)) => Some(classes.values().flat_map(IndexMap::keys)),
            _ => None,
        };
        let columns = self.filter.keys().chain(&self.label).chain(composed.into_iter().flatten());
        columns.map(String::as_str).collect()
    }

    /// Returns the names of the classes in order, if the selection lists them.
    pub fn class_names(&self) -> Option<Vec<String>> {
        match self.composed().classes? {
            Classes::Listed(names) => Some(names),
            Classes::Composed(classes) => Some(classes.into_keys().collect()),
        }
    }

    /// Returns the maximum number of flows that can be selected from `count` flows with these labels, without
    /// inspecting the flows.
    pub fn most_flows<'a>(&self, labels: impl Iterator<Item = &'a Labels>, count: usize) -> usize {
        let Some(most) = self.maximum_flows_per_class else { return count };
        let classes = match (&self.classes, &self.label) {
            (Some(Classes::Listed(names)), _) => names.len(),
            (Some(Classes::Composed(classes)), _) => classes.len(),
            (None, Some(label)) => labels.filter_map(|labels| labels.get(label)).collect::<BTreeSet<_>>().len(),
            (None, None) => return count,
        };
        classes.saturating_mul(most).min(count)
    }
}

fn one() -> u64 {
    1
}

/// Number of flows excluded, by the first reason that applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unselected {
    /// A label value outside the filter.
    pub filtered: u64,
    /// Fewer packets than `minimum_packets`.
    pub too_few_packets: u64,
    /// Belonging to no class.
    pub of_no_class: u64,
    /// No bytes in any packet (for example, no payload at all).
    pub without_bytes: u64,
    /// Beyond `maximum_flows_per_class`.
    pub over_maximum: u64,
    /// Dropped by `duplicates`.
    #[serde(default)]
    pub duplicates: u64,
}

/// Why features cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum SelectionError {
    /// `[selection]` contradicts itself.
    #[error("[selection]: {message}")]
    Invalid {
        /// Description of the problem and what to do.
        message: String,
    },
    /// A label column that no flow has.
    #[error("[selection]: no flow has label column `{column}`; the most similar is `{nearest}` (known: {known})")]
    UnknownColumn {
        /// The column as written.
        column: String,
        /// The most similar existing column.
        nearest: String,
        /// All existing columns.
        known: String,
    },
    /// A label value that no flow has.
    #[error("[selection]: no flow has {column} = \"{value}\"; known: {known}")]
    UnknownValue {
        /// The label column.
        column: String,
        /// The value as written.
        value: String,
        /// The column's values.
        known: String,
    },
    /// No flow of a class remains.
    #[error("[selection]: class `{class}` has no flows after the filter and `minimum_packets`; label values: {known}")]
    EmptyClass {
        /// The class.
        class: String,
        /// The label values among the flows that pass the filter.
        known: String,
    },
    /// A flow belongs to two classes.
    #[error("[selection]: flow {flow} belongs to class `{first}` and to class `{second}`; make the classes exclusive")]
    TwoClasses {
        /// The flow.
        flow: String,
        /// One class.
        first: String,
        /// The other.
        second: String,
    },
    /// The token options do not fit the flows.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The sequence options do not fit the flows.
    #[error(transparent)]
    Sequences(#[from] SequenceError),
    /// The FlowPic options do not fit the flows.
    #[error(transparent)]
    Flowpics(#[from] FlowpicError),
}

/// Additional features of a flow's packets besides byte tokens; none by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct PacketColumns<'a> {
    /// Packet sequences.
    pub sequences: Option<&'a SequenceOptions>,
    /// FlowPics.
    pub flowpic: Option<&'a FlowpicOptions>,
}

impl PacketColumns<'_> {
    fn validate(self, flows: &FlowOptions) -> Result<(), SelectionError> {
        if let Some(sequences) = self.sequences {
            sequences.validate(flows)?;
        }
        if let Some(flowpic) = self.flowpic {
            flowpic.validate(flows)?;
        }
        Ok(())
    }
}

type KnownValues = BTreeMap<String, BTreeSet<String>>;

fn known_values<'a>(labels: impl Iterator<Item = &'a Labels>) -> KnownValues {
    let mut known = KnownValues::new();
    for (column, value) in labels.flatten() {
        let values = known.entry(column.clone()).or_default();
        if !values.contains(value) {
            values.insert(value.clone());
        }
    }
    known
}

fn shown(known: &KnownValues) -> String {
    let columns = known.iter().map(|(column, values)| {
        format!("{column} = {}", values.iter().map(String::as_str).collect::<Vec<_>>().join(" | "))
    });
    columns.collect::<Vec<_>>().join("; ")
}

fn check_column<'a>(known: &'a KnownValues, column: &str) -> Result<&'a BTreeSet<String>, SelectionError> {
    known.get(column).ok_or_else(|| SelectionError::UnknownColumn {
        column: column.to_owned(),
        nearest: nearest(column, known.keys().map(String::as_str)).unwrap_or("none").to_owned(),
        known: known.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
    })
}

fn check_conditions(known: &KnownValues, conditions: &Conditions) -> Result<(), SelectionError> {
    for (column, values) in conditions {
        let present = check_column(known, column)?;
        if values.list().is_empty() {
            return Err(SelectionError::Invalid {
                message: format!("`{column}` lists no values; list one or remove the key"),
            });
        }
        if let Some(value) = values.list().iter().find(|value| !present.contains(*value)) {
            return Err(SelectionError::UnknownValue {
                column: column.clone(),
                value: value.clone(),
                known: present.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
            });
        }
    }
    Ok(())
}

fn meets(labels: &Labels, conditions: &Conditions) -> bool {
    conditions.iter().all(|(column, values)| labels.get(column).is_some_and(|value| values.list().contains(value)))
}

/// Resolves the classes to conditions, in order.
fn resolve(selection: &Selection, known: &KnownValues) -> Result<IndexMap<String, Conditions>, SelectionError> {
    let invalid = |message: &str| SelectionError::Invalid { message: message.to_owned() };
    let by_value = |column: &str, values: Vec<String>| -> IndexMap<String, Conditions> {
        let condition = |value: &String| Conditions::from([(column.to_owned(), Values::One(value.clone()))]);
        values.iter().map(|value| (value.clone(), condition(value))).collect()
    };
    match (&selection.label, &selection.classes) {
        (Some(column), None) => Ok(by_value(column, check_column(known, column)?.iter().cloned().collect())),
        (Some(column), Some(Classes::Listed(values))) => {
            if first_repeated(values).is_some() {
                return Err(invalid("`classes` lists a class twice"));
            }
            Ok(by_value(column, values.clone()))
        }
        (None, Some(Classes::Composed(classes))) => Ok(classes.clone()),
        (Some(_), Some(Classes::Composed(_))) => Err(invalid("set `label` or a table of `classes`, not both")),
        (None, Some(Classes::Listed(_))) => {
            Err(invalid("a list of `classes` requires `label`, the column that contains them"))
        }
        (None, None) => Err(invalid("set `label`, the label column whose values are the classes")),
    }
}

/// Whether a flow that passes the filter can be used, or the reason why not.
pub(super) enum Usable {
    Yes,
    TooFewPackets,
    WithoutBytes,
}

/// The selected flows of an experiment: their indices among all flows, ascending, with the class of each.
struct Chosen {
    rows: Vec<(usize, u32)>,
    class_names: Vec<String>,
    unselected: Unselected,
}

/// Applies a selection to flows or feature rows, generically.
fn choose<T>(
    items: &[T],
    labels: impl Fn(&T) -> &Labels,
    provenance: impl Fn(&T) -> &FlowProvenance,
    mut usable: impl FnMut(&T) -> Result<Usable, SelectionError>,
    selection: &Selection,
    seed: u64,
) -> Result<Chosen, SelectionError> {
    let invalid = |message: String| SelectionError::Invalid { message };
    let selection = &selection.composed();
    if selection.maximum_flows_per_class == Some(0) {
        return Err(invalid("`maximum_flows_per_class` is 0; omit it to use all".to_owned()));
    }
    if items.is_empty() {
        return Err(invalid("the dataset has no labelled flows; check its inventory".to_owned()));
    }
    let known = known_values(items.iter().map(&labels));
    check_conditions(&known, &selection.filter)?;
    // By default, the classes are the values that pass the filter.
    let left = known_values(items.iter().map(&labels).filter(|labels| meets(labels, &selection.filter)));
    if left.is_empty() {
        return Err(invalid(format!("no flow passes the filter; label values: {}", shown(&known))));
    }
    let listed = selection.classes.is_some();
    let classes = resolve(selection, if listed { &known } else { &left })?;
    if classes.is_empty() {
        return Err(invalid("`classes` is empty; list a class or omit it".to_owned()));
    }
    for conditions in classes.values() {
        check_conditions(&known, conditions)?;
    }
    let mut unselected = Unselected::default();
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); classes.len()];
    for (index, item) in items.iter().enumerate() {
        if !meets(labels(item), &selection.filter) {
            unselected.filtered += 1;
            continue;
        }
        let usable = usable(item)?;
        if matches!(usable, Usable::TooFewPackets) {
            unselected.too_few_packets += 1;
            continue;
        }
        let mut of = classes.iter().enumerate().filter(|(_, (_, conditions))| meets(labels(item), conditions));
        let Some((class, (first, _))) = of.next() else {
            unselected.of_no_class += 1;
            continue;
        };
        if let Some((_, (second, _))) = of.next() {
            return Err(SelectionError::TwoClasses {
                flow: provenance(item).flow_id(),
                first: first.clone(),
                second: second.clone(),
            });
        }
        if matches!(usable, Usable::WithoutBytes) {
            unselected.without_bytes += 1;
            continue;
        }
        members[class].push(index);
    }
    let mut rows: Vec<(usize, u32)> = Vec::new();
    for (class, (name, indices)) in classes.keys().zip(&members).enumerate() {
        if indices.is_empty() {
            return Err(SelectionError::EmptyClass { class: name.clone(), known: shown(&left) });
        }
        match selection.maximum_flows_per_class {
            Some(most) if most < indices.len() => {
                unselected.over_maximum += (indices.len() - most) as u64;
                // Each class has a separate random stream, so that the draw does not depend on other classes' sizes.
                let mut generator = seed::generator(seed, &format!("selection/{name}"));
                let drawn = sample(&mut generator, indices.len(), most);
                rows.extend(drawn.into_iter().map(|place| (indices[place], class as u32)));
            }
            _ => rows.extend(indices.iter().map(|&index| (index, class as u32))),
        }
    }
    rows.sort_unstable();
    Ok(Chosen { rows, class_names: classes.into_keys().collect(), unselected })
}

/// Selects the flows of an experiment and builds their features; rows keep the order of `flows`. Statistics are those
/// of [`STATISTIC_NAMES`], rounded to single precision; `columns` specifies what else to build.
///
/// # Errors
/// [`SelectionError`]: a column, value or class without a flow, a flow in two classes, or options that do not fit
/// together.
pub fn build_features(
    flows: &[LabelledFlow],
    selection: &Selection,
    tokens: &TokenOptions,
    columns: PacketColumns<'_>,
    flow_options: &FlowOptions,
    seed: u64,
) -> Result<(FeatureSet, Unselected), SelectionError> {
    tokens.validate(flow_options)?;
    columns.validate(flow_options)?;
    let mut scratch = vec![0; tokens.packets.saturating_mul(tokens.bytes)];
    let usable = |flow: &LabelledFlow| usable(flow, tokens, selection.minimum_packets, &mut scratch);
    let chosen = choose(flows, |flow| &flow.labels, |flow| &flow.provenance, usable, selection, seed)?;
    let rows: Vec<&LabelledFlow> = chosen.rows.iter().map(|(index, _)| &flows[*index]).collect();
    let labels = chosen.rows.iter().map(|(_, class)| *class).collect();
    let set = features_of(&rows, labels, chosen.class_names, tokens, columns)?;
    let flows: Vec<&Flow> = rows.iter().map(|row| &row.flow).collect();
    let (set, duplicates) = without_duplicates(set, Some((&flows, tokens)), selection.duplicates);
    let set = match selection.sample {
        Sample::Flow => set,
        Sample::Packet if set.tokens.packets * set.tokens.bytes == 0 => {
            let message = "sample = \"packet\" requires packet bytes, and there are none; remove it".to_owned();
            return Err(SelectionError::Invalid { message });
        }
        Sample::Packet => set.into_packets(),
    };
    Ok((set, Unselected { duplicates, ..chosen.unselected }))
}

/// Returns whether a flow can be used; `scratch` must have room for its tokens.
pub(super) fn usable(
    flow: &LabelledFlow,
    tokens: &TokenOptions,
    minimum_packets: u64,
    scratch: &mut [u16],
) -> Result<Usable, SelectionError> {
    if flow.flow.statistics.len() != STATISTIC_NAMES.len() {
        let id = flow.provenance.flow_id();
        return Err(SelectionError::Invalid {
            message: format!("flow {id} was created by another version (its statistics differ); create it again"),
        });
    }
    let packets_column = STATISTIC_NAMES.iter().position(|name| *name == "packets");
    let packets = packets_column.map_or(flow.flow.packets.len() as f64, |column| flow.flow.statistics[column]);
    if packets < minimum_packets as f64 {
        return Ok(Usable::TooFewPackets);
    }
    let shown = tokenize(&flow.flow, tokens, scratch)?;
    let published_without = !flow.flow.packets.is_empty() && !has_bytes(flow);
    Ok(if shown == 0 && !published_without { Usable::WithoutBytes } else { Usable::Yes })
}

/// Returns whether any packet of a flow has bytes: packets from captures have an IP header, published sequences may
/// have no bytes.
fn has_bytes(flow: &LabelledFlow) -> bool {
    flow.flow.packets.iter().any(|packet| !packet.bytes.is_empty())
}

/// Builds the features of the given flows, row by row; `labels` are indices into `class_names`. If no flow has bytes,
/// there are no tokens.
///
/// # Errors
/// Flows of another version, or too many flows to fit into memory.
pub fn features_of(
    flows: &[&LabelledFlow],
    labels: Vec<u32>,
    class_names: Vec<String>,
    tokens: &TokenOptions,
    columns: PacketColumns<'_>,
) -> Result<FeatureSet, SelectionError> {
    let invalid = |message: String| SelectionError::Invalid { message };
    let without = flows.iter().all(|flow| !has_bytes(flow));
    let (packets, bytes) = if without { (0, 0) } else { (tokens.packets, tokens.bytes) };
    let size = packets.saturating_mul(bytes);
    let too_many = || invalid("too many flows to fit into memory".to_owned());
    let mut values = vec![0; flows.len().checked_mul(size).ok_or_else(too_many)?];
    if size > 0 {
        for (flow, out) in flows.iter().zip(values.chunks_exact_mut(size)) {
            tokenize(&flow.flow, tokens, out)?;
        }
    }
    let statistics = Array2::from_shape_fn((flows.len(), STATISTIC_NAMES.len()), |(row, column)| {
        flows[row].flow.statistics[column] as f32
    });
    let sequence_columns = columns.sequences.map_or(0, SequenceOptions::columns);
    let mut sequence = vec![0.0; flows.len().checked_mul(sequence_columns).ok_or_else(too_many)?];
    if let Some(options) = columns.sequences {
        for (flow, out) in flows.iter().zip(sequence.chunks_exact_mut(sequence_columns)) {
            write_sequence(&flow.flow, options, out);
        }
    }
    let pixels = columns.flowpic.map_or(0, FlowpicOptions::columns);
    let mut flowpics = vec![0; flows.len().checked_mul(pixels).ok_or_else(too_many)?];
    if let Some(options) = columns.flowpic {
        for (flow, out) in flows.iter().zip(flowpics.chunks_exact_mut(pixels)) {
            write_flowpic(&flow.flow, options, out);
        }
    }
    Ok(FeatureSet {
        tokens: TokenArray { packets, bytes, values },
        statistics,
        statistic_names: STATISTIC_NAMES.iter().map(|name| (*name).to_owned()).collect(),
        sequences: Array2::from_shape_vec((flows.len(), sequence_columns), sequence)
            .map_err(|error| invalid(error.to_string()))?,
        flowpics: Array2::from_shape_vec((flows.len(), pixels), flowpics)
            .map_err(|error| invalid(error.to_string()))?,
        labels,
        class_names,
        provenance: flows.iter().map(|flow| flow.provenance.clone()).collect(),
    })
}

/// Like [`build_features`], from feature files: the statistics are the columns common to the files of all selected
/// rows, and there are no bytes and no sequences.
///
/// # Errors
/// Same as [`build_features`]; also if `minimum_packets` is set, as feature files contain no packets.
pub fn build_table_features(
    table: &FeatureTable,
    selection: &Selection,
    seed: u64,
) -> Result<(FeatureSet, Unselected), SelectionError> {
    let invalid = |message: String| SelectionError::Invalid { message };
    if selection.minimum_packets != one() {
        return Err(invalid("`minimum_packets` is for captures; feature files have no packets, remove it".to_owned()));
    }
    if selection.sample == Sample::Packet {
        return Err(invalid(
            "sample = \"packet\" is for captures; feature files have no packets, remove it".to_owned(),
        ));
    }
    let usable = |_: &_| Ok(Usable::Yes);
    let chosen = choose(&table.rows, |row| &row.labels, |row| &row.provenance, usable, selection, seed)?;
    let rows = chosen.rows;
    // Files may differ in columns; keep those that every selected row has.
    let in_all = |column: &usize| rows.iter().all(|(index, _)| !table.rows[*index].values[*column].is_nan());
    let kept: Vec<usize> = (0..table.names.len()).filter(in_all).collect();
    if kept.is_empty() {
        return Err(invalid("the files of the selected rows have no column in common; select fewer files".to_owned()));
    }
    let statistics =
        Array2::from_shape_fn((rows.len(), kept.len()), |(row, column)| table.rows[rows[row].0].values[kept[column]]);
    let set = FeatureSet {
        tokens: TokenArray { packets: 0, bytes: 0, values: Vec::new() },
        statistics,
        statistic_names: kept.iter().map(|&column| table.names[column].clone()).collect(),
        sequences: Array2::zeros((rows.len(), 0)),
        flowpics: Array2::zeros((rows.len(), 0)),
        labels: rows.iter().map(|(_, class)| *class).collect(),
        class_names: chosen.class_names,
        provenance: rows.iter().map(|(index, _)| table.rows[*index].provenance.clone()).collect(),
    };
    let (set, duplicates) = without_duplicates(set, None, selection.duplicates);
    Ok((set, Unselected { duplicates, ..chosen.unselected }))
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
