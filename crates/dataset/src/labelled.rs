//! A flow with its labels and where it came from.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use super::names::folded;
use etcbench_flow::{FiveTuple, Flow};

/// A flow's labels: label column (`tunnel`, `category`, `application`, ...) to value.
pub type Labels = IndexMap<String, String>;

/// Where a flow came from: enough to find it again in the capture.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowProvenance {
    /// The capture's path relative to the dataset's folder, with `/` as separator.
    pub capture: String,
    /// Number of the flow within its capture, from 0, in order of first packets.
    pub number: u32,
    /// Endpoints, oriented by the first packet.
    pub five_tuple: FiveTuple,
    /// Time of the first packet, nanoseconds since the Unix epoch.
    pub start: i64,
    /// Time of the last packet, nanoseconds since the Unix epoch.
    pub end: i64,
    /// Which of the flow's packets this is, from 0, where each packet is a sample of its own.
    pub packet: Option<u32>,
}

impl FlowProvenance {
    /// The name of the flow in files and messages: `capture#number`, and `capture#number.packet` of a single packet.
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
    /// Where the flow came from.
    pub provenance: FlowProvenance,
    /// Its labels, by label column.
    pub labels: Labels,
    /// The flow itself.
    pub flow: Flow,
}

/// The values of a label column that differ in letter case only, each group in one line: two classes to etcbench, and
/// perhaps one to who named them.
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
                "label column `{column}`: {} differ in letter case only and are {} classes; give them one spelling where \
                 they are one",
                spellings.join(" and "),
                spellings.len()
            )
        })
        .collect()
}
