//! Which flows of a dataset are used, and what their classes are (`[selection]` in an experiment).

use std::fmt;

use indexmap::{IndexMap, IndexSet};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::FeatureError;
use crate::dataset::{LabelledFlow, Labels};
use crate::declarative::did_you_mean;
use crate::seed;

/// Which flows are used, and what their classes are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// Label column to allowed values; a flow must have one of them in every column named.
    pub filter: IndexMap<String, OneOrMore>,
    /// The label column whose values are the classes.
    pub label: Option<String>,
    /// Either the values of `label` that are classes (all, sorted, when absent), or class name to the label
    /// values that make it.
    pub classes: Option<Classes>,
    /// Flows with fewer packets are left out; 0 and 1 leave none out.
    pub minimum_packets: usize,
    /// At most this many flows of each class, drawn at random with the purpose "selection".
    pub maximum_flows_per_class: Option<usize>,
}

/// The classes of a selection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Classes {
    /// Values of the label column, in this order.
    Values(Vec<String>),
    /// Class name to label column to allowed values, in this order.
    Named(IndexMap<String, IndexMap<String, OneOrMore>>),
}

/// One value, or any of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMore {
    /// Exactly this.
    One(String),
    /// Any of these.
    More(Vec<String>),
}

impl OneOrMore {
    fn allows(&self, value: &str) -> bool {
        match self {
            OneOrMore::One(only) => only == value,
            OneOrMore::More(values) => values.iter().any(|allowed| allowed == value),
        }
    }
}

/// What a selection took and left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SelectionSummary {
    /// Flows before the selection.
    pub flows: usize,
    /// Flows taken.
    pub selected: usize,
    /// Flows whose labels the filter does not allow.
    pub filtered: usize,
    /// Flows of no class.
    pub without_class: usize,
    /// Flows with fewer packets than `minimum_packets`.
    pub too_short: usize,
    /// Flows over `maximum_flows_per_class`.
    pub over_maximum: usize,
    /// Flows without a byte to show (only where bytes begin after a header).
    pub without_bytes: usize,
}

impl fmt::Display for SelectionSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of {} flows", self.selected, self.flows)?;
        let left = [
            (self.filtered, "other labels"),
            (self.without_class, "no class"),
            (self.too_short, "too few packets"),
            (self.over_maximum, "over the maximum per class"),
            (self.without_bytes, "no bytes to show"),
        ];
        for (count, reason) in left {
            if count > 0 {
                write!(formatter, ", {count} left out: {reason}")?;
            }
        }
        Ok(())
    }
}

/// Rows of `flows` that are used, in their order, with their classes.
pub(super) struct Selected {
    pub rows: Vec<usize>,
    pub labels: Vec<u32>,
    pub class_names: Vec<String>,
    pub summary: SelectionSummary,
}

pub(super) fn select(flows: &[LabelledFlow], selection: &Selection, seed: u64) -> Result<Selected, FeatureError> {
    let columns: IndexSet<&str> = flows.iter().flat_map(|flow| flow.labels.keys().map(String::as_str)).collect();
    let known = |column: &str| {
        if columns.contains(column) {
            return Ok(());
        }
        Err(FeatureError::Selection {
            problem: format!(
                "there is no label column `{column}`{} (known: {})",
                did_you_mean(column, columns.iter().copied()),
                columns.iter().copied().collect::<Vec<_>>().join(", ")
            ),
        })
    };
    selection.filter.keys().try_for_each(|column| known(column))?;
    let rules = class_rules(flows, selection, &known)?;
    let mut summary = SelectionSummary { flows: flows.len(), ..SelectionSummary::default() };
    let mut chosen: Vec<Vec<usize>> = vec![Vec::new(); rules.len()];
    for (row, flow) in flows.iter().enumerate() {
        if !matches(&selection.filter, &flow.labels) {
            summary.filtered += 1;
            continue;
        }
        let mut classes = rules.iter().enumerate().filter(|(_, (_, rule))| matches(rule, &flow.labels));
        let Some((class, (name, _))) = classes.next() else {
            summary.without_class += 1;
            continue;
        };
        if let Some((_, (other, _))) = classes.next() {
            return Err(FeatureError::Selection {
                problem: format!(
                    "{} is of both `{name}` and `{other}`; classes must exclude one another",
                    flow.provenance.flow_id()
                ),
            });
        }
        // The first packets are all that is kept of a flow; `kept_packets` is at least the minimum asked for.
        if flow.flow.packets.len() < selection.minimum_packets {
            summary.too_short += 1;
            continue;
        }
        chosen[class].push(row);
    }
    for ((name, rule), rows) in rules.iter().zip(&chosen) {
        if rows.is_empty() {
            return Err(no_flows(flows, selection, name, rule));
        }
    }
    if rules.len() < 2 {
        return Err(FeatureError::Selection {
            problem: format!("there is one class only, `{}`; a classifier needs at least two", rules[0].0),
        });
    }
    let mut picked: Vec<(usize, u32)> = Vec::new();
    for (class, mut rows) in chosen.into_iter().enumerate() {
        if let Some(maximum) = selection.maximum_flows_per_class
            && rows.len() > maximum
        {
            summary.over_maximum += rows.len() - maximum;
            rows.shuffle(&mut seed::generator(seed, &format!("selection {class}")));
            rows.truncate(maximum);
        }
        picked.extend(rows.into_iter().map(|row| (row, class as u32)));
    }
    picked.sort_unstable();
    summary.selected = picked.len();
    let (rows, labels) = picked.into_iter().unzip();
    Ok(Selected { rows, labels, class_names: rules.into_iter().map(|(name, _)| name).collect(), summary })
}

type Rule = IndexMap<String, OneOrMore>;

fn matches(rule: &Rule, labels: &Labels) -> bool {
    rule.iter().all(|(column, allowed)| labels.get(column).is_some_and(|value| allowed.allows(value)))
}

fn class_rules(
    flows: &[LabelledFlow],
    selection: &Selection,
    known: &dyn Fn(&str) -> Result<(), FeatureError>,
) -> Result<Vec<(String, Rule)>, FeatureError> {
    let problem = |problem: &str| FeatureError::Selection { problem: problem.to_owned() };
    if let Some(Classes::Named(named)) = &selection.classes {
        if selection.label.is_some() {
            return Err(problem("give either `label` or a table of named classes, not both"));
        }
        for (name, rule) in named {
            if rule.is_empty() {
                return Err(FeatureError::Selection { problem: format!("class `{name}` names no label value") });
            }
            rule.keys().try_for_each(|column| known(column))?;
        }
        if named.is_empty() {
            return Err(problem("`classes` is empty; name at least two classes"));
        }
        return Ok(named.iter().map(|(name, rule)| (name.clone(), rule.clone())).collect());
    }
    let label = selection.label.as_deref().ok_or_else(|| {
        problem("there is neither `label`, the column whose values are the classes, nor named classes")
    })?;
    known(label)?;
    let values = match &selection.classes {
        Some(Classes::Values(values)) if values.is_empty() => {
            return Err(problem("`classes` is empty; name at least two classes"));
        }
        Some(Classes::Values(values)) => {
            if let Some(index) = (1..values.len()).find(|&index| values[..index].contains(&values[index])) {
                return Err(FeatureError::Selection { problem: format!("class `{}` is listed twice", values[index]) });
            }
            values.clone()
        }
        _ => {
            let used = flows.iter().filter(|flow| matches(&selection.filter, &flow.labels));
            let mut values: Vec<String> =
                used.filter_map(|flow| flow.labels.get(label).cloned()).collect::<IndexSet<_>>().into_iter().collect();
            values.sort();
            if values.is_empty() {
                return Err(problem("the filter leaves no flow; compare its values with the dataset's labels"));
            }
            values
        }
    };
    let rule = |value: &String| Rule::from([(label.to_owned(), OneOrMore::One(value.clone()))]);
    Ok(values.iter().map(|value| (value.clone(), rule(value))).collect())
}

fn no_flows(flows: &[LabelledFlow], selection: &Selection, name: &str, rule: &Rule) -> FeatureError {
    let there: Vec<String> = rule
        .keys()
        .map(|column| {
            let used = flows.iter().filter(|flow| matches(&selection.filter, &flow.labels));
            let mut values: Vec<&str> = used
                .filter_map(|flow| flow.labels.get(column).map(String::as_str))
                .collect::<IndexSet<_>>()
                .into_iter()
                .collect();
            values.sort_unstable();
            format!("{column} has {}", values.join(", "))
        })
        .collect();
    FeatureError::Selection { problem: format!("class `{name}` has no flow; after the filter {}", there.join("; ")) }
}
