//! Which flows an experiment uses, which class each has, and their features.

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

/// One label value or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a label value or a list of label values")]
pub enum Values {
    /// Exactly this value.
    One(String),
    /// Any of these.
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

/// Label column to the values it may have; all columns must agree.
type Conditions = IndexMap<String, Values>;

/// The classes of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a list of values of `label`, or a table of class = { label column = value }")]
pub enum Classes {
    /// Values of the label column that `label` names.
    Listed(Vec<String>),
    /// Class names, each with the label values that make it.
    Composed(IndexMap<String, Conditions>),
}

/// `[selection]` of an experiment: which flows are used and which class each has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Only flows with these label values are used.
    #[serde(default)]
    pub filter: IndexMap<String, Values>,
    /// The label column whose values are the classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The classes, in the order of tables; all values of `label` that the filter leaves, in ascending order,
    /// when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
    /// Flows with fewer packets (in the capture, not only among those kept) are left out.
    #[serde(default = "one")]
    pub minimum_packets: u64,
    /// At most so many flows of each class, drawn with the run's seed (purpose `selection`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_flows_per_class: Option<usize>,
    /// What becomes of chosen flows that equal another one of their class; they stay by default.
    #[serde(default, skip_serializing_if = "DuplicateFlows::is_keep")]
    pub duplicates: DuplicateFlows,
    /// What a row is; a flow by default.
    #[serde(default, skip_serializing_if = "Sample::is_flow")]
    pub sample: Sample,
}

/// What a row of the features is, which a model predicts the class of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// A flow.
    #[default]
    Flow,
    /// A packet alone: every one of the first N of each chosen flow that has bytes.
    Packet,
}

impl Sample {
    fn is_flow(&self) -> bool {
        *self == Self::Flow
    }
}

impl Selection {
    /// With all label values in the Unicode form that labels have, however the experiment spells them.
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

    /// The class of what has these labels; none where the filter leaves it out, or where it is of none of the classes.
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

    /// The label columns that decide whether a flow is used and which class it has.
    pub fn label_columns(&self) -> BTreeSet<&str> {
        let composed = match &self.classes {
            Some(Classes::Composed(classes)) => Some(classes.values().flat_map(IndexMap::keys)),
            _ => None,
        };
        let columns = self.filter.keys().chain(&self.label).chain(composed.into_iter().flatten());
        columns.map(String::as_str).collect()
    }

    /// The names of the classes in their order, where the selection lists them.
    pub fn class_names(&self) -> Option<Vec<String>> {
        match self.composed().classes? {
            Classes::Listed(names) => Some(names),
            Classes::Composed(classes) => Some(classes.into_keys().collect()),
        }
    }

    /// The most flows that can be selected of `count` flows with these labels, without looking at the flows.
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

/// How many flows were left out, by the first reason that applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unselected {
    /// A label value that `filter` does not name.
    pub filtered: u64,
    /// Fewer packets than `minimum_packets`.
    pub too_few_packets: u64,
    /// Of none of the classes.
    pub of_no_class: u64,
    /// No byte of any packet to show (such as no payload at all).
    pub without_bytes: u64,
    /// Left over by `maximum_flows_per_class`.
    pub over_maximum: u64,
    /// Dropped by `duplicates`.
    #[serde(default)]
    pub duplicates: u64,
}

/// Why no features can be made.
#[derive(Debug, thiserror::Error)]
pub enum SelectionError {
    /// `[selection]` contradicts itself.
    #[error("[selection]: {message}")]
    Invalid {
        /// What is wrong and what to do.
        message: String,
    },
    /// A label column that no flow has.
    #[error("[selection]: no flow has label column `{column}`; the nearest is `{nearest}` (there are: {known})")]
    UnknownColumn {
        /// As written.
        column: String,
        /// The nearest that exists.
        nearest: String,
        /// All that exist.
        known: String,
    },
    /// A label value that no flow has.
    #[error("[selection]: no flow has {column} = \"{value}\"; there are: {known}")]
    UnknownValue {
        /// The label column.
        column: String,
        /// As written.
        value: String,
        /// The column's values.
        known: String,
    },
    /// No flow of a class is left.
    #[error(
        "[selection]: class `{class}` has no flow after the filter and `minimum_packets`; used label values: {known}"
    )]
    EmptyClass {
        /// The class.
        class: String,
        /// The label values among the flows that pass the filter.
        known: String,
    },
    /// A flow is of two classes.
    #[error(
        "[selection]: flow {flow} is of class `{first}` and of class `{second}`; make the classes exclude each other"
    )]
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

/// What is made of a flow's packets beside the tokens of their bytes; nothing by default.
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

fn told(known: &KnownValues) -> String {
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
                message: format!("`{column}` lists no value; list one or drop the key"),
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

/// The classes as conditions, in order.
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
        (Some(_), Some(Classes::Composed(_))) => Err(invalid("give `label` or a table of `classes`, not both")),
        (None, Some(Classes::Listed(_))) => {
            Err(invalid("a list of `classes` needs `label`, the column they are values of"))
        }
        (None, None) => Err(invalid("give `label`, the label column whose values are the classes")),
    }
}

/// Whether a flow that the filter leaves can be used, and if not why.
pub(super) enum Usable {
    Yes,
    TooFewPackets,
    WithoutBytes,
}

/// The flows of an experiment: their places among all, ascending, and the class of each.
struct Chosen {
    rows: Vec<(usize, u32)>,
    class_names: Vec<String>,
    unselected: Unselected,
}

/// Applies a selection to labelled things, whatever is known of them beside their labels.
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
        return Err(invalid("`maximum_flows_per_class` is 0; leave it out to use all".to_owned()));
    }
    if items.is_empty() {
        return Err(invalid("the dataset has no labelled flow; look at its inventory".to_owned()));
    }
    let known = known_values(items.iter().map(&labels));
    check_conditions(&known, &selection.filter)?;
    // Classes that are not listed are the values that the filter leaves.
    let left = known_values(items.iter().map(&labels).filter(|labels| meets(labels, &selection.filter)));
    if left.is_empty() {
        return Err(invalid(format!("the filter leaves no flow; there are: {}", told(&known))));
    }
    let listed = selection.classes.is_some();
    let classes = resolve(selection, if listed { &known } else { &left })?;
    if classes.is_empty() {
        return Err(invalid("`classes` names no class; name one or leave it out".to_owned()));
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
            return Err(SelectionError::EmptyClass { class: name.clone(), known: told(&left) });
        }
        match selection.maximum_flows_per_class {
            Some(most) if most < indices.len() => {
                unselected.over_maximum += (indices.len() - most) as u64;
                // A stream of its own for each class: another class's size must not change the draw.
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

/// Chooses the flows an experiment uses and makes their features; rows keep the order of `flows`.
/// Statistics are those of [`STATISTIC_NAMES`], rounded to single precision; `columns` says what else is made.
///
/// # Errors
/// [`SelectionError`]: a column, value or class without a flow, a flow of two classes, options that do
/// not fit together.
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
            let message = "sample = \"packet\" needs the bytes of packets, and there are none; remove it".to_owned();
            return Err(SelectionError::Invalid { message });
        }
        Sample::Packet => set.into_packets(),
    };
    Ok((set, Unselected { duplicates, ..chosen.unselected }))
}

/// Whether a flow can be used, and if not why; `scratch` has room for its tokens.
pub(super) fn usable(
    flow: &LabelledFlow,
    tokens: &TokenOptions,
    minimum_packets: u64,
    scratch: &mut [u16],
) -> Result<Usable, SelectionError> {
    if flow.flow.statistics.len() != STATISTIC_NAMES.len() {
        let id = flow.provenance.flow_id();
        return Err(SelectionError::Invalid {
            message: format!("flow {id} was made by another version (its statistics differ); make it again"),
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

/// Whether any byte of a flow's packets is there: those of captures have an IP header, a published sequence has none.
fn has_bytes(flow: &LabelledFlow) -> bool {
    flow.flow.packets.iter().any(|packet| !packet.bytes.is_empty())
}

/// The features of these flows, whatever they are chosen by, row by row; classes are places in `class_names`. Where no flow
/// has bytes, there are no tokens.
///
/// # Errors
/// Flows of another version, and more of them than fit into memory.
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
    let too_many = || invalid("too many flows for the memory".to_owned());
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

/// Like [`build_features`], from feature files: the statistics are the columns that the files of all chosen rows have,
/// and there are no bytes and no sequences.
///
/// # Errors
/// [`SelectionError`], as there; `minimum_packets`, as feature files do not say what a flow's packets are.
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
    // Files may differ in columns; those that every chosen row has are kept.
    let in_all = |column: &usize| rows.iter().all(|(index, _)| !table.rows[*index].values[*column].is_nan());
    let kept: Vec<usize> = (0..table.names.len()).filter(in_all).collect();
    if kept.is_empty() {
        return Err(invalid("the files of the chosen rows have no column in common; choose fewer files".to_owned()));
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
