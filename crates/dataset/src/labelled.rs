//! Flows with their labels and provenance.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use super::names::folded;
use etcbench_flow::{FiveTuple, Flow};

/// A flow's labels: label column (`tunnel`, `category`, `application`, ...) to value.
pub type Labels = IndexMap<String, String>;

/// The origin of a flow, detailed enough to find it again in the capture.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowProvenance {
    /// The capture's path relative to the dataset's folder, with `/` as separator.
    pub capture: String,
    /// Index of the flow within its capture, from 0, ordered by first packet.
    pub number: u32,
    /// Endpoints, oriented by the first packet.
    pub five_tuple: FiveTuple,
    /// Time of the first packet, nanoseconds since the Unix epoch.
    pub start: i64,
    /// Time of the last packet, nanoseconds since the Unix epoch.
    pub end: i64,
    /// Index of the packet within the flow, from 0, if each packet is a separate sample.
    pub packet: Option<u32>,
}

impl FlowProvenance {
    /// Returns the flow's ID in files and messages: `capture#number`, or `capture#number.packet` for a single packet.
    pub fn flow_id(&self) -> String {
        match self.packet {
            None => format!("{}#{}", self.capture, self.number),
            Some(packet) => format!("{}#{}.{packet}", self.capture, self.number),
        }
    }
}

/// One flow of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledFlow {
    /// Origin of the flow.
    pub provenance: FlowProvenance,
    /// The flow's labels, by label column.
    pub labels: Labels,
    /// The flow's packets.
    pub flow: Flow,
}

/// Returns one message per group of label values that differ only in letter case: etcbench treats them as separate
/// classes, which may not be intended.
pub fn labels_alike<'a>(labels: impl IntoIterator<Item = &'a Labels>) -> Vec<String> {
    let mut values: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (column, value) in labels.into_iter().flatten() {
        values.insert((column, value));
    }
    let mut groups: BTreeMap<(&str, String), Vec<String>> = BTreeMap::new();
    for (column, value) in values {
        groups.entry((column, folded(value))).or_default().push(format!("`{}`", value.escape_debug()));
    }
    let alike = groups.into_iter().filter(|(_, spellings)| spellings.len() > 1);
    alike
        .map(|((column, _), spellings)| {
            format!(
                "label column `{column}`: {} differ only in letter case and are {} classes; use one spelling if \
                 they are the same class",
                spellings.join(" and "),
                spellings.len()
            )
        })
        .collect()
}
