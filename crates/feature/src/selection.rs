//! `[selection]` of an experiment: which flows are used, and the class of each.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::duplicate::DuplicateFlows;
use etcbench_dataset::{Labels, composed};

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
    pub(super) fn list(&self) -> &[String] {
        match self {
            Values::One(value) => std::slice::from_ref(value),
            Values::Several(values) => values,
        }
    }
}

/// Label column to allowed values; all columns must match.
pub(super) type Conditions = IndexMap<String, Values>;

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
    pub(super) fn composed(&self) -> Self {
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

pub(super) fn one() -> u64 {
    1
}

pub(super) fn meets(labels: &Labels, conditions: &Conditions) -> bool {
    conditions.iter().all(|(column, values)| labels.get(column).is_some_and(|value| values.list().contains(value)))
}
