//! Packet sequences: the signed length and the inter-arrival time of each of the first K packets of a flow, two columns
//! per packet.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use etcbench_capture::PacketField;
use etcbench_flow::{Flow, FlowOptions, FlowPacket, MOST_KEPT_PACKETS, PacketDirection};

/// Bytes of a packet required to determine its length: an IPv6 header up to its payload length.
pub(super) const LENGTH_BYTES: usize = 6;

/// How lengths and times are transformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transformation {
    /// `sign(length) * ln(1 + |length|)` of bytes, `ln(1 + t)` of microseconds: both span orders of magnitude.
    #[default]
    SignedLogarithm,
    /// Signed bytes and seconds, untransformed.
    None,
}

/// `[feature.sequences]` of an experiment: the features for `input = "sequences"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SequenceOptions {
    /// K, packets per flow.
    pub packets: usize,
    /// How lengths and times are transformed.
    pub transformation: Transformation,
    /// Whether times are read; without them their columns are 0.
    #[serde(skip_serializing_if = "is_true")]
    pub times: bool,
}

/// Keys and cards made before `times` was a key stay the same.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_true(value: &bool) -> bool {
    *value
}

impl Default for SequenceOptions {
    /// 20 packets, signed logarithms, with times.
    fn default() -> Self {
        Self { packets: 20, transformation: Transformation::SignedLogarithm, times: true }
    }
}

/// Invalid sequence options, or options that do not fit the flows.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SequenceError {
    /// K is zero.
    #[error("sequences.packets = 0: must be at least 1")]
    Zero,
    /// K is larger than the maximum that flows can keep.
    #[error("sequences.packets = {packets}: must be at most {MOST_KEPT_PACKETS}")]
    TooMany {
        /// K.
        packets: usize,
    },
    /// Flows keep fewer packets than requested.
    #[error("sequences.packets = {packets}, but flows keep {kept_packets}; raise the flow option kept_packets")]
    Packets {
        /// K.
        packets: usize,
        /// Packets that flows keep.
        kept_packets: usize,
    },
    /// Flows do not keep the bytes that contain a packet's length.
    #[error("sequences need {LENGTH_BYTES} bytes of each packet, but flows keep {kept_bytes}; raise kept_bytes")]
    Bytes {
        /// Bytes that flows keep of a packet.
        kept_bytes: usize,
    },
}

impl SequenceOptions {
    /// Validates the options against those of the flows they are used with.
    ///
    /// # Errors
    /// No packets, or more packets or bytes than the flows keep.
    pub fn validate(&self, flows: &FlowOptions) -> Result<(), SequenceError> {
        if self.packets == 0 {
            return Err(SequenceError::Zero);
        }
        if self.packets > MOST_KEPT_PACKETS {
            return Err(SequenceError::TooMany { packets: self.packets });
        }
        if self.packets > flows.kept_packets {
            return Err(SequenceError::Packets { packets: self.packets, kept_packets: flows.kept_packets });
        }
        if flows.kept_bytes < LENGTH_BYTES {
            return Err(SequenceError::Bytes { kept_bytes: flows.kept_bytes });
        }
        Ok(())
    }

    /// Returns the number of columns: 2 K.
    pub fn columns(&self) -> usize {
        2 * self.packets
    }

    /// Raises the flow options to keep as much as these sequences need.
    pub fn widen(&self, flows: &mut FlowOptions) {
        flows.kept_packets = flows.kept_packets.max(self.packets);
        flows.kept_bytes = flows.kept_bytes.max(LENGTH_BYTES);
    }
}

/// Returns the names of the columns of `columns / 2` packets: `packet1_length`, `packet1_interarrival`, ...
pub fn sequence_names(columns: usize) -> Vec<String> {
    (1..=columns / 2)
        .flat_map(|packet| [format!("packet{packet}_length"), format!("packet{packet}_interarrival")])
        .collect()
}

/// Writes the sequence of a flow to `out`, shape `[2 K]`: for each packet its length, positive from the sender of the
/// first packet and negative towards it, and the time since the previous packet (0 for the first packet and for earlier
/// timestamps, as in the flow statistics, and if the options leave times out). Missing packets are 0, which is not the length of any packet.
pub fn write_sequence(flow: &Flow, options: &SequenceOptions, out: &mut [f32]) {
    out.fill(0.0);
    let mut latest = flow.start;
    for (packet, out) in flow.packets.iter().zip(out.chunks_exact_mut(2)) {
        let length = f64::from(packet_length(packet));
        let length = if packet.direction == PacketDirection::Forward { length } else { -length };
        let nanoseconds = packet.timestamp.saturating_sub(latest).max(0) as f64;
        latest = latest.max(packet.timestamp);
        let (length, time) = match options.transformation {
            Transformation::SignedLogarithm => (length.signum() * length.abs().ln_1p(), (nanoseconds / 1000.0).ln_1p()),
            Transformation::None => (length, nanoseconds / 1e9),
        };
        out[0] = length as f32;
        out[1] = if options.times { time as f32 } else { 0.0 };
    }
}

/// Returns the length declared in the IP header, so that neither the link layer nor the snap length matters; the
/// frame's length if the header leaves it open (segmentation offload, jumbograms).
pub(super) fn packet_length(packet: &FlowPacket) -> u32 {
    let field = PacketField::IpLength.number(packet.view());
    let declared = match packet.view().ip_version() {
        Some(4) => field,
        Some(6) => field.filter(|&payload| payload > 0).map(|payload| payload + 40),
        _ => None,
    };
    declared.filter(|&length| length > 0).unwrap_or(packet.wire_length).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcbench_capture::{HeaderLayout, Transport};
    use etcbench_flow::FiveTuple;

    fn flow(packets: &[(PacketDirection, i64, Vec<u8>)]) -> Flow {
        let endpoint = "1.2.3.4:5".parse().unwrap();
        let layout = HeaderLayout { transport_offset: 20, payload_offset: 28, transport: Transport::Udp };
        let packet = |(direction, timestamp, bytes): &(PacketDirection, i64, Vec<u8>)| FlowPacket {
            direction: *direction,
            timestamp: *timestamp,
            wire_length: 1514,
            bytes: bytes.clone(),
            layout,
        };
        Flow {
            five_tuple: FiveTuple { source: endpoint, destination: endpoint, transport: Transport::Udp },
            start: packets.first().map_or(0, |packet| packet.1),
            end: 0,
            packets: packets.iter().map(packet).collect(),
            statistics: Vec::new(),
        }
    }

    #[test]
    fn lengths_are_signed_and_absent_packets_are_zero() {
        use PacketDirection::{Backward, Forward};
        let flow = flow(&[
            (Forward, 5_000_000_000, vec![0x45, 0, 1, 0]),
            (Backward, 5_500_000_000, vec![0x60, 0, 0, 0, 0, 20]),
            (Forward, 5_250_000_000, vec![0x45, 0, 0, 0]),
            (Backward, 6_500_000_000, vec![0x45, 0, 0, 40]),
        ]);
        let mut out = [9.0; 10];
        let plain = SequenceOptions { packets: 5, transformation: Transformation::None, times: true };
        write_sequence(&flow, &plain, &mut out);
        assert_eq!(out, [256.0, 0.0, -60.0, 0.5, 1514.0, 0.0, -40.0, 1.0, 0.0, 0.0]);
        write_sequence(&flow, &SequenceOptions { times: false, ..plain }, &mut out);
        assert_eq!(out, [256.0, 0.0, -60.0, 0.0, 1514.0, 0.0, -40.0, 0.0, 0.0, 0.0]);
        let scaled = SequenceOptions { packets: 2, ..SequenceOptions::default() };
        let mut out = [9.0; 4];
        write_sequence(&flow, &scaled, &mut out);
        let expected = [257_f64.ln() as f32, 0.0, -(61_f64.ln()) as f32, 500_001_f64.ln() as f32];
        assert_eq!(out, expected);
        assert_eq!(
            sequence_names(4),
            ["packet1_length", "packet1_interarrival", "packet2_length", "packet2_interarrival"]
        );
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let flows = FlowOptions::default();
        let options = SequenceOptions { packets: 20, ..SequenceOptions::default() };
        assert!(options.validate(&flows).unwrap_err().to_string().contains("kept_packets"));
        let mut wide = flows.clone();
        options.widen(&mut wide);
        assert_eq!(options.validate(&wide), Ok(()));
        assert_eq!(SequenceOptions { packets: 0, ..options }.validate(&wide), Err(SequenceError::Zero));
    }
}
