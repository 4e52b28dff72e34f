//! Loads labelled flows from a file in a published layout, with sampling per class if there are more than the limit.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rand::RngExt;

use super::{Fault, PublishedFile, PublishedFlow, PublishedRules};
use crate::error::DatasetError;
use crate::labelled::{FlowProvenance, LabelledFlow, Labels};
use crate::load::Dataset;
use crate::plan::PlannedCapture;
use crate::rules::add_label;
use etcbench_capture::{Damage, Transport};
use etcbench_flow::{FiveTuple, FlowOptions, SequencePacket, flow_of_sequence};
use etcbench_storage::seed;

/// Flows read from one file.
pub(crate) struct PublishedFlows {
    /// The selected flows, in file order.
    pub flows: Vec<LabelledFlow>,
    /// Number of flows not selected because their class had reached its limit.
    pub passed_over: u64,
    /// Number of packets in all flows of the file.
    pub packets: u64,
    /// Where the file ends early, if it is a damaged capture.
    pub damage: Option<Damage>,
}

/// The selected flows of a file: all, or a sample of each class.
#[derive(Default)]
struct Kept {
    flows: Vec<LabelledFlow>,
    /// By labels: number of flows seen, and the indices of the selected ones.
    classes: HashMap<Vec<String>, (u64, Vec<usize>)>,
}

/// Reads a file; `name` is the capture name in its flows' IDs.
///
/// # Errors
/// The file does not follow its layout, or a flow has no value or contradictory values for a label column.
pub(crate) fn load_published(
    dataset: &Dataset,
    rules: &PublishedRules,
    planned: &PlannedCapture,
    name: &str,
    options: &FlowOptions,
) -> Result<PublishedFlows, DatasetError> {
    let PlannedCapture { file, labels, .. } = planned;
    let definition = &dataset.definition;
    let timed = definition.times != crate::PacketTimes::Invented;
    let published =
        PublishedFile { root: &dataset.folder.root, file, layout: rules.layout, options, damage: RefCell::default() };
    let mut all = Kept::default();
    let mut generator = rules.most_flows_per_class.map(|(_, seed)| seed::generator(seed, &format!("published/{name}")));
    let (mut number, mut passed_over, mut packets) = (0_u32, 0_u64, 0_u64);
    let mut sink = |flow: PublishedFlow| {
        let this = number;
        number = number.checked_add(1).ok_or("more than 4294967295 flows in one file; split the file")?;
        packets += flow.flow.as_ref().map_or(flow.packets.len(), |flow| flow.packets.len()) as u64;
        let labels = labels_of(&flow, rules, labels, &definition.label_columns)?;
        let mut place = None;
        if let (Some((most, _)), Some(generator)) = (rules.most_flows_per_class, &mut generator) {
            let key: Vec<String> = definition.label_columns.iter().map(|column| labels[column].clone()).collect();
            let (seen, places) = all.classes.entry(key).or_default();
            *seen += 1;
            if places.len() < most as usize {
                places.push(all.flows.len());
            } else {
                passed_over += 1;
                // Reservoir sampling: every flow of the class has the same chance of being selected.
                match usize::try_from(generator.random_range(0..*seen)) {
                    Ok(drawn) if drawn < places.len() => place = Some(places[drawn]),
                    _ => return Ok(()),
                }
            }
        }
        let flow = labelled(flow, labels, name, this, timed, options);
        match place {
            Some(place) => all.flows[place] = flow,
            None => all.flows.push(flow),
        }
        Ok(())
    };
    (rules.layout.read)(&published, &mut sink).map_err(|fault| damaged(dataset, planned, &fault))?;
    all.flows.sort_by_key(|flow| flow.provenance.number);
    Ok(PublishedFlows { flows: all.flows, passed_over, packets, damage: published.damage.into_inner() })
}

fn damaged(dataset: &Dataset, planned: &PlannedCapture, fault: &Fault) -> DatasetError {
    let path = planned.file.source(&dataset.folder.root).to_string();
    DatasetError::Published { file: path, message: fault.to_string() }
}

/// Returns a flow's labels: those of its file, and those from its fields.
fn labels_of(
    flow: &PublishedFlow,
    rules: &PublishedRules,
    of_file: &Labels,
    columns: &[String],
) -> Result<Labels, String> {
    let mut labels = of_file.clone();
    for (column, field) in &rules.labels {
        let value =
            rules.layout.fields.iter().position(|known| known == field).and_then(|place| flow.fields.get(place));
        let value = value.filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| format!("a flow has no `{field}`, the source of label column `{column}`"))?;
        add_label(&mut labels, column, value)?;
    }
    match columns.iter().find(|column| !labels.contains_key(*column)) {
        Some(column) => Err(format!("a flow has no value for label column `{column}`; add a rule that sets it")),
        None => Ok(labels),
    }
}

fn labelled(
    flow: PublishedFlow,
    labels: Labels,
    name: &str,
    number: u32,
    timed: bool,
    options: &FlowOptions,
) -> LabelledFlow {
    let capture = match &flow.group {
        None => name.to_owned(),
        Some(group) => format!("{name}!{group}"),
    };
    let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let unknown = FiveTuple { source: nowhere, destination: nowhere, transport: Transport::Tcp };
    let five_tuple = flow.five_tuple.unwrap_or(unknown);
    if let Some(flow) = flow.flow {
        let provenance = FlowProvenance {
            capture,
            number,
            five_tuple: flow.five_tuple,
            start: flow.start,
            end: flow.end,
            packet: None,
        };
        return LabelledFlow { provenance, labels, flow };
    }
    let packets = if timed { flow.packets } else { flow.packets.into_iter().map(without_time).collect() };
    let flow = flow_of_sequence(five_tuple, packets, options);
    let provenance = FlowProvenance { capture, number, five_tuple, start: flow.start, end: flow.end, packet: None };
    LabelledFlow { provenance, labels, flow }
}

/// Removes an invented time from a packet, so that models cannot learn from it.
fn without_time(packet: SequencePacket) -> SequencePacket {
    SequencePacket { timestamp: 0, ..packet }
}
