//! Flows without a label in captures that have per-flow labels: listed to help find a wrong clock or time offset.

use super::labelled::FlowProvenance;
use etcbench_capture::Transport;

/// Why a flow has no label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WithoutLabel {
    /// No line of the flow-label file matches its five-tuple and time.
    Unmatched,
    /// The lines that overlap the flow, or the labels of its two hosts, disagree.
    Ambiguous,
}

impl WithoutLabel {
    /// Returns the name used in files.
    pub const fn name(self) -> &'static str {
        match self {
            WithoutLabel::Unmatched => "unmatched",
            WithoutLabel::Ambiguous => "ambiguous",
        }
    }
}

/// A flow without a label.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowWithoutLabel {
    /// The dataset.
    pub dataset: String,
    /// Origin of the flow.
    pub provenance: FlowProvenance,
    /// Why it has no label.
    pub reason: WithoutLabel,
}

/// Returns flows without a label as CSV with the columns `dataset`, `flow_id`, `reason`, `transport`, `source_address`,
/// `source_port`, `destination_address`, `destination_port`, `start_seconds` and `end_seconds` (since the Unix epoch,
/// with nanosecond decimals).
pub fn flows_without_label_csv(flows: &[FlowWithoutLabel]) -> String {
    let mut text = "dataset,flow_id,reason,transport,source_address,source_port,destination_address,destination_port,\
                    start_seconds,end_seconds\n"
        .to_owned();
    for FlowWithoutLabel { dataset, provenance, reason } in flows {
        let tuple = provenance.five_tuple;
        let transport = match tuple.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        let seconds = |time: i64| format!("{}.{:09}", time.div_euclid(1_000_000_000), time.rem_euclid(1_000_000_000));
        // Only a capture's name can require quoting (RFC 4180).
        let flow_id = provenance.flow_id();
        let flow_id = if flow_id.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", flow_id.replace('"', "\"\""))
        } else {
            flow_id
        };
        let (source, destination) = (tuple.source, tuple.destination);
        text += &format!(
            "{dataset},{flow_id},{},{transport},{},{},{},{},{},{}\n",
            reason.name(),
            source.ip(),
            source.port(),
            destination.ip(),
            destination.port(),
            seconds(provenance.start),
            seconds(provenance.end)
        );
    }
    text
}
