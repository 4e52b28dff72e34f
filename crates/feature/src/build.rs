//! Builds the features of flows and of rows of feature files, those that an experiment selects or all.

use ndarray::Array2;

use super::duplicate::without_duplicates;
use super::flowpic::{FlowpicOptions, write_flowpic};
use super::selected::{SelectionError, Unselected, Usable, choose};
use super::selection::{Sample, Selection, one};
use super::sequence::{SequenceOptions, write_sequence};
use super::set::{FeatureSet, TokenArray};
use super::token::{TokenOptions, tokenize};
use etcbench_dataset::{FeatureTable, LabelledFlow};
use etcbench_flow::{Flow, FlowOptions, STATISTIC_NAMES};

/// Additional features of a flow's packets besides byte tokens; none by default.
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

/// Selects the flows of an experiment and builds their features; rows keep the order of `flows`. Statistics are those
/// of [`STATISTIC_NAMES`], rounded to single precision; `columns` specifies what else to build.
///
/// # Errors
/// [`SelectionError`]: a column, value or class without a flow, a flow in two classes, or options that do not fit
/// together.
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
            let message = "sample = \"packet\" requires packet bytes, and there are none; remove it".to_owned();
            return Err(SelectionError::Invalid { message });
        }
        Sample::Packet => set.into_packets(),
    };
    Ok((set, Unselected { duplicates, ..chosen.unselected }))
}

/// Returns whether a flow can be used; `scratch` must have room for its tokens.
pub(super) fn usable(
    flow: &LabelledFlow,
    tokens: &TokenOptions,
    minimum_packets: u64,
    scratch: &mut [u16],
) -> Result<Usable, SelectionError> {
    if flow.flow.statistics.len() != STATISTIC_NAMES.len() {
        let id = flow.provenance.flow_id();
        return Err(SelectionError::Invalid {
            message: format!("flow {id} was created by another version (its statistics differ); create it again"),
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

/// Returns whether any packet of a flow has bytes: packets from captures have an IP header, published sequences may
/// have no bytes.
fn has_bytes(flow: &LabelledFlow) -> bool {
    flow.flow.packets.iter().any(|packet| !packet.bytes.is_empty())
}

/// Builds the features of the given flows, row by row; `labels` are indices into `class_names`. If no flow has bytes,
/// there are no tokens.
///
/// # Errors
/// Flows of another version, or too many flows to fit into memory.
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
    let too_many = || invalid("too many flows to fit into memory".to_owned());
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

/// Like [`build_features`], from feature files: the statistics are the columns common to the files of all selected
/// rows, and there are no bytes and no sequences.
///
/// # Errors
/// Same as [`build_features`]; also if `minimum_packets` is set, as feature files contain no packets.
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
    // Files may differ in columns; keep those that every selected row has.
    let in_all = |column: &usize| rows.iter().all(|(index, _)| !table.rows[*index].values[*column].is_nan());
    let kept: Vec<usize> = (0..table.names.len()).filter(in_all).collect();
    if kept.is_empty() {
        return Err(invalid("the files of the selected rows have no column in common; select fewer files".to_owned()));
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
