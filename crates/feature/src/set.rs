//! The in-memory form of features, used by splits, models and reports.

use ndarray::{Array2, Axis};

use etcbench_dataset::FlowProvenance;

/// The padding token, for flows with fewer than N packets and packets with fewer than M bytes.
pub const PAD: u16 = 256;

/// Number of distinct tokens: the 256 byte values and [`PAD`].
pub const VOCABULARY: usize = 257;

/// The first M bytes of the first N packets of every flow, as tokens: shape `[flows, packets, bytes]`,
/// row-major. Padding is always at the end: of a packet's bytes, and of a flow's packets.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenArray {
    /// N, the packets per flow.
    pub packets: usize,
    /// M, the bytes per packet.
    pub bytes: usize,
    /// Byte values 0 to 255, or [`PAD`].
    pub values: Vec<u16>,
}

impl TokenArray {
    /// Returns the tokens of one flow, shape `[packets, bytes]`.
    pub fn flow(&self, row: usize) -> &[u16] {
        let size = self.packets * self.bytes;
        &self.values[row * size..(row + 1) * size]
    }

    /// Returns the number of flows.
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.packets * self.bytes).unwrap_or(0)
    }

    /// Returns the tokens of one packet of a flow, shape `[bytes]`.
    pub fn packet(&self, row: usize, packet: usize) -> &[u16] {
        let start = (row * self.packets + packet) * self.bytes;
        &self.values[start..start + self.bytes]
    }
}

/// Everything that models and splits may use of a set of flows; row `i` is the same flow in every field.
#[derive(Debug, Clone)]
pub struct FeatureSet {
    /// Byte tokens, shape `[flows, packets, bytes]`.
    pub tokens: TokenArray,
    /// Flow statistics, shape `[flows, statistics]`, as computed (not scaled).
    pub statistics: Array2<f32>,
    /// Names of the columns of `statistics`.
    pub statistic_names: Vec<String>,
    /// Packet sequences, shape `[flows, 2 K]`, with the columns of [`super::sequence_names`]; no columns if not
    /// requested.
    pub sequences: Array2<f32>,
    /// FlowPics, shape `[flows, pixels]`, row by row; no columns if not requested.
    pub flowpics: Array2<u8>,
    /// Class of each flow, an index into `class_names`.
    pub labels: Vec<u32>,
    /// The classes, in the order of the experiment file.
    pub class_names: Vec<String>,
    /// Origin of each flow.
    pub provenance: Vec<FlowProvenance>,
}

impl FeatureSet {
    /// Returns the number of flows.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Returns the flows of the classes for which `kept` is true, in the same order; the other classes are removed.
    pub fn with_classes(&self, kept: &[bool]) -> Self {
        let mut numbers = Vec::with_capacity(kept.len());
        let mut next = 0;
        for &kept in kept {
            numbers.push(kept.then_some(next));
            next += u32::from(kept);
        }
        let rows: Vec<usize> = (0..self.len()).filter(|&row| kept[self.labels[row] as usize]).collect();
        let names = self.class_names.iter().zip(kept).filter(|(_, kept)| **kept).map(|(name, _)| name.clone());
        let mut left = Self { class_names: names.collect(), ..self.with_rows(&rows) };
        left.labels = left.labels.iter().filter_map(|&label| numbers[label as usize]).collect();
        left
    }

    /// Returns the given flows in the given order.
    pub fn with_rows(&self, rows: &[usize]) -> Self {
        let size = self.tokens.packets * self.tokens.bytes;
        let mut values = Vec::with_capacity(rows.len() * size);
        for &row in rows {
            values.extend_from_slice(self.tokens.flow(row));
        }
        Self {
            tokens: TokenArray { packets: self.tokens.packets, bytes: self.tokens.bytes, values },
            statistics: self.statistics.select(Axis(0), rows),
            statistic_names: self.statistic_names.clone(),
            sequences: self.sequences.select(Axis(0), rows),
            flowpics: self.flowpics.select(Axis(0), rows),
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
            class_names: self.class_names.clone(),
            provenance: rows.iter().map(|&row| self.provenance[row].clone()).collect(),
        }
    }

    /// Returns one row per packet that has bytes: a flow of a single packet, with its flow's class and no statistics.
    pub(super) fn into_packets(self) -> Self {
        let (packets, bytes) = (self.tokens.packets, self.tokens.bytes);
        let mut values = Vec::with_capacity(self.tokens.values.len());
        let (mut labels, mut provenance) = (Vec::new(), Vec::new());
        for row in 0..self.len() {
            for packet in 0..packets {
                let tokens = self.tokens.packet(row, packet);
                if tokens.first().is_none_or(|&first| first == PAD) {
                    continue;
                }
                values.extend_from_slice(tokens);
                labels.push(self.labels[row]);
                provenance.push(FlowProvenance { packet: Some(packet as u32), ..self.provenance[row].clone() });
            }
        }
        Self {
            tokens: TokenArray { packets: 1, bytes, values },
            statistics: Array2::zeros((labels.len(), 0)),
            statistic_names: Vec::new(),
            sequences: Array2::zeros((labels.len(), 0)),
            flowpics: Array2::zeros((labels.len(), 0)),
            labels,
            class_names: self.class_names,
            provenance,
        }
    }

    /// Returns whether there are no flows.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Removes the statistics that `keep` rejects; returns how many were removed.
    pub fn keep_statistics(&mut self, keep: impl Fn(&str) -> bool) -> usize {
        let kept: Vec<usize> =
            (0..self.statistic_names.len()).filter(|&column| keep(&self.statistic_names[column])).collect();
        let left_out = self.statistic_names.len() - kept.len();
        self.statistics = self.statistics.select(Axis(1), &kept);
        self.statistic_names = kept.into_iter().map(|column| self.statistic_names[column].clone()).collect();
        left_out
    }
}
