//! Applies a selection to flows or rows of feature files: which of them are used with which class, and how many are
//! not, by reason.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use rand::seq::index::sample;
use serde::{Deserialize, Serialize};

use super::flowpic::FlowpicError;
use super::selection::{Classes, Conditions, Selection, Values, meets};
use super::sequence::SequenceError;
use super::token::TokenError;
use etcbench_dataset::{FlowProvenance, Labels};
use etcbench_storage::declarative::{first_repeated, nearest};
use etcbench_storage::seed;

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

/// Draws `most` of the `count` flows of a class, as places among them, in no order.
fn draw(class: &str, count: usize, most: usize, seed: u64) -> impl Iterator<Item = usize> {
    // Each class has a separate random stream, so that the draw does not depend on other classes' sizes.
    let mut generator = seed::generator(seed, &format!("selection/{class}"));
    sample(&mut generator, count, most).into_iter()
}

/// Returns which of the `count` flows of a class `maximum_flows_per_class` keeps, as ascending places among them in the
/// order in which they were read; all if there are no more than `most`.
pub fn drawn_flows(class: &str, count: usize, most: usize, seed: u64) -> Vec<usize> {
    if count <= most {
        return (0..count).collect();
    }
    let mut places: Vec<usize> = draw(class, count, most, seed).collect();
    places.sort_unstable();
    places
}

/// Whether a flow that passes the filter can be used, or the reason why not.
pub(super) enum Usable {
    Yes,
    TooFewPackets,
    WithoutBytes,
}

/// The selected flows of an experiment: their indices among all flows, ascending, with the class of each.
pub(super) struct Chosen {
    pub rows: Vec<(usize, u32)>,
    pub class_names: Vec<String>,
    pub unselected: Unselected,
}

/// Applies a selection to flows or feature rows, generically.
pub(super) fn choose<T>(
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
                rows.extend(draw(name, indices.len(), most, seed).map(|place| (indices[place], class as u32)));
            }
            _ => rows.extend(indices.iter().map(|&index| (index, class as u32))),
        }
    }
    rows.sort_unstable();
    Ok(Chosen { rows, class_names: classes.into_keys().collect(), unselected })
}
