//! Checks an experiment's inputs against the contents of a dataset's flows: information that is missing or invented is
//! refused or left out with a message, and never computed.

use super::flows::LoadedFlows;
use super::{ExperimentError, Variant};
use etcbench_dataset::{DatasetDefinition, HeldBytes, HeldLengths, HeldTimes, Holds, PacketTimes};
use etcbench_feature::{PacketStart, TokenOptions};
use etcbench_model::{Input, ModelSpec};
use etcbench_split::{GroupBy, SplitMethod};

/// Refuses a variant that reads information the flows do not contain.
pub(super) fn require_held(variant: &Variant, flows: &LoadedFlows) -> Result<(), ExperimentError> {
    let problem = |problem: String| Err(ExperimentError::Features { problem });
    let any = |lacks: &dyn Fn(&Holds) -> bool| flows.holds.iter().any(lacks);
    if flows.invented_times {
        require_no_times(variant)?;
    }
    if variant.split.method == SplitMethod::Temporal && any(&|holds| holds.times != HeldTimes::Absolute) {
        return problem(
            "a dataset's flows have no absolute times, which split method \"temporal\" requires; use \"stratified\", \
             \"grouped\" or \"k_fold\""
                .to_owned(),
        );
    }
    if variant.used_flowpic().is_some() && any(&|holds| holds.times == HeldTimes::None) {
        return problem(
            "a dataset's flows are published without times, which flowpics require; use input = \"sequences\""
                .to_owned(),
        );
    }
    if let Some(group @ (GroupBy::Host | GroupBy::Connection)) = variant.split.group
        && any(&|holds| !holds.addresses)
    {
        return problem(format!(
            "a dataset's flows have no addresses to split by {}; split by capture, or without `group`",
            group.name()
        ));
    }
    let lengths = |holds: &Holds| holds.lengths;
    if let Some(first) = flows.holds.first().map(lengths)
        && any(&|holds| holds.lengths != first)
    {
        return problem(
            "packet lengths are those of packets in one dataset but those of payloads, or unknown, in another; use \
             datasets of one kind"
                .to_owned(),
        );
    }
    let reads = |spec: &&ModelSpec| spec.reads_bytes() && spec.kind.entry().reads_input;
    let Some(spec) = variant.models.iter().find(reads) else { return Ok(()) };
    let (model, input) = (spec.kind.name(), spec.input.name());
    if any(&|holds| holds.bytes == HeldBytes::None) {
        let sequences = spec.kind.entry().inputs.contains(&Input::Sequences);
        return problem(match sequences {
            true => format!(
                "{model} has input = \"{input}\", but a dataset's flows are published without bytes; set \
                 model.{model}.input = \"sequences\""
            ),
            false => format!(
                "{model} reads packet bytes, but a dataset's flows are published without bytes; remove it from `models`"
            ),
        });
    }
    require_bytes(&variant.feature, flows)
}

/// Bytes that do not start with the IP header are read from their start, and no fields are located in them.
fn require_bytes(tokens: &TokenOptions, flows: &LoadedFlows) -> Result<(), ExperimentError> {
    let problem = |problem: &str| Err(ExperimentError::Features { problem: problem.to_owned() });
    for holds in &flows.holds {
        match holds.bytes {
            HeldBytes::Payload if tokens.packet_start != PacketStart::Payload => {
                return problem(
                    "a dataset is published with only the bytes of payloads; set feature.packet_start = \"payload\"",
                );
            }
            HeldBytes::AsPublished if tokens.packet_start != PacketStart::IpHeader || !tokens.masks.is_empty() => {
                return problem(
                    "a dataset is published with bytes in which no header can be located; remove feature.packet_start \
                     and feature.masks, which require one",
                );
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses variants that learn from invented times or split by them.
fn require_no_times(variant: &Variant) -> Result<(), ExperimentError> {
    let problem = |what: &str| {
        let problem = format!("a dataset's packet times are invented (`times` in its definition), and {what}");
        Err(ExperimentError::Features { problem })
    };
    if variant.split.method == SplitMethod::Temporal {
        return problem("split method \"temporal\" divides by them; use \"stratified\", \"grouped\" or \"k_fold\"");
    }
    if variant.reads_packet_times {
        return problem(
            "input = \"sequences\" or \"flowpic\" and packet_metadata = [\"time\"] read them; set \
             feature.sequences.times = false, remove models that read \"flowpic\", and use only \"length\" and \
             \"direction\" as metadata",
        );
    }
    Ok(())
}

/// Returns notes for readers of the results on information that a dataset's flows lack.
pub(super) fn notes(definition: &DatasetDefinition) -> Vec<String> {
    let (name, holds) = (&definition.name, definition.holds());
    let mut notes = Vec::new();
    if definition.times == PacketTimes::Invented {
        notes
            .push(format!("Data: the packet times of {name} are invented, so statistics that read them are left out."));
    } else if holds.times == HeldTimes::None {
        notes.push(format!("Data: {name} is published without times, so statistics that read them are left out."));
    }
    if holds.cut {
        notes.push(format!(
            "Data: flows of {name} are truncated to their first packets; durations and rates are left out, and other \
             statistics cover only these packets."
        ));
    }
    match holds.lengths {
        HeldLengths::Packets => {}
        HeldLengths::Payloads => notes.push(format!("Data: lengths of packets of {name} are those of their payloads.")),
        HeldLengths::None => {
            notes.push(format!("Data: {name} is published without lengths; every packet counts as one byte."));
        }
    }
    notes
}
