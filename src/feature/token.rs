//! Byte tokens: the first M bytes of the first N packets of a flow, masked and padded.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::flow::{Flow, FlowOptions};

use super::mask::Mask;
use super::set::PAD;

/// Where a packet's bytes begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PacketStart {
    /// At the IP header, as the paper's figure 2 draws it.
    #[default]
    IpHeader,
    /// At the TCP or UDP header, after IPv4 options and IPv6 extension headers.
    AfterIpHeader,
    /// At the data after the transport header.
    Payload,
}

impl PacketStart {
    /// Most bytes that usually lie before the start: an IPv4 header with all options, and a TCP header with
    /// all options.
    const fn header_room(self) -> usize {
        match self {
            PacketStart::IpHeader => 0,
            PacketStart::AfterIpHeader => 60,
            PacketStart::Payload => 120,
        }
    }
}

/// Which bytes of a flow become tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenOptions {
    /// N, packets per flow.
    pub packets: usize,
    /// M, bytes per packet.
    pub bytes: usize,
    /// Where a packet's bytes begin.
    pub packet_start: PacketStart,
    /// Fields that are set to zero.
    pub masks: Vec<Mask>,
}

impl Default for TokenOptions {
    /// The paper's: 6 packets of 128 bytes from the IP header on, nothing masked.
    fn default() -> TokenOptions {
        TokenOptions { packets: 6, bytes: 128, packet_start: PacketStart::IpHeader, masks: Vec::new() }
    }
}

/// Token options that make no sense, or do not fit the flows.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// N or M is zero.
    #[error("token option {option} = 0: must be at least 1")]
    Zero {
        /// The option's key.
        option: &'static str,
    },
    /// A mask is listed twice.
    #[error("token option masks: {} is listed twice; list it once", mask.name())]
    Twice {
        /// The mask.
        mask: Mask,
    },
    /// Flows keep fewer packets than asked for.
    #[error("token option packets = {packets}, but flows keep {kept_packets}; raise the flow option kept_packets")]
    Packets {
        /// N.
        packets: usize,
        /// Packets that flows keep.
        kept_packets: usize,
    },
    /// Flows keep fewer bytes of a packet than may be needed.
    #[error(
        "token option bytes = {bytes} needs {needed} bytes of each packet (with the headers before its start), but \
         flows keep {kept_bytes}; raise the flow option kept_bytes"
    )]
    Bytes {
        /// M.
        bytes: usize,
        /// Bytes of each packet that may be needed.
        needed: usize,
        /// Bytes that flows keep.
        kept_bytes: usize,
    },
    /// The slice to write to has another size.
    #[error("{given} tokens of space were given where {packets} packets of {bytes} bytes need {}", packets * bytes)]
    Space {
        /// Length of the slice.
        given: usize,
        /// N.
        packets: usize,
        /// M.
        bytes: usize,
    },
}

impl TokenOptions {
    /// Checks the options against those of the flows they will read.
    ///
    /// # Errors
    /// The first option that makes no sense, or would ask for more than the flows keep.
    pub fn validate(&self, flows: &FlowOptions) -> Result<(), TokenError> {
        for (option, value) in [("packets", self.packets), ("bytes", self.bytes)] {
            if value == 0 {
                return Err(TokenError::Zero { option });
            }
        }
        for (index, mask) in self.masks.iter().enumerate() {
            if self.masks[..index].contains(mask) {
                return Err(TokenError::Twice { mask: *mask });
            }
        }
        if self.packets > flows.kept_packets {
            return Err(TokenError::Packets { packets: self.packets, kept_packets: flows.kept_packets });
        }
        let needed = self.bytes.saturating_add(self.packet_start.header_room());
        if needed > flows.kept_bytes {
            return Err(TokenError::Bytes { bytes: self.bytes, needed, kept_bytes: flows.kept_bytes });
        }
        Ok(())
    }
}

/// Writes a flow's tokens to `out`, shape `[packets, bytes]`, and gives how many of its packets have any.
///
/// Packets without bytes after the start (acknowledgements, when bytes begin at the payload) are left out, and the
/// next ones move up: padding is at the end only. 0 means that the flow has nothing to show.
///
/// # Errors
/// N or M is zero, or `out` has another size.
pub fn tokenize(flow: &Flow, options: &TokenOptions, out: &mut [u16]) -> Result<usize, TokenError> {
    for (option, value) in [("packets", options.packets), ("bytes", options.bytes)] {
        if value == 0 {
            return Err(TokenError::Zero { option });
        }
    }
    if options.packets.checked_mul(options.bytes) != Some(out.len()) {
        return Err(TokenError::Space { given: out.len(), packets: options.packets, bytes: options.bytes });
    }
    out.fill(PAD);
    let mut rows = out.chunks_exact_mut(options.bytes);
    for packet in &flow.packets {
        let start = usize::from(match options.packet_start {
            PacketStart::IpHeader => 0,
            PacketStart::AfterIpHeader => packet.layout.transport_offset,
            PacketStart::Payload => packet.layout.payload_offset,
        });
        if start >= packet.bytes.len() {
            continue;
        }
        let Some(row) = rows.next() else { break };
        let mut masked = packet.clone();
        options.masks.iter().for_each(|mask| mask.apply(&mut masked));
        for (token, byte) in row.iter_mut().zip(&masked.bytes[start..]) {
            *token = u16::from(*byte);
        }
    }
    Ok(options.packets - rows.len())
}
