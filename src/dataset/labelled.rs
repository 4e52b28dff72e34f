//! A flow with its labels and where it came from.

use indexmap::IndexMap;

use crate::flow::{FiveTuple, Flow};

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
}

impl FlowProvenance {
    /// The name of the flow in files and messages: `capture#number`.
    pub fn flow_id(&self) -> String {
        format!("{}#{}", self.capture, self.number)
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
