//! Byte tokens: the first M bytes of the first N packets of a flow, masked and padded.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use etcbench_flow::{Flow, FlowOptions, FlowPacket, MOST_KEPT_BYTES, MOST_KEPT_PACKETS};
use etcbench_storage::declarative::first_repeated;

use super::mask::{Mask, MaskMethod, mask_flow};
use super::set::PAD;

/// Maximum tokens per flow, N x M; the paper uses 768.
const MOST_TOKENS: usize = 1 << 22;

/// Where a packet's bytes begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PacketStart {
    /// At the IP header, as in the paper's figure 2.
    #[default]
    IpHeader,
    /// At the TCP or UDP header, after IPv4 options and IPv6 extension headers.
    AfterIpHeader,
    /// At the data after the transport header.
    Payload,
}

impl PacketStart {
    /// Returns the offset in a packet's bytes.
    pub fn of(self, packet: &FlowPacket) -> usize {
        usize::from(match self {
            PacketStart::IpHeader => 0,
            PacketStart::AfterIpHeader => packet.layout.transport_offset,
            PacketStart::Payload => packet.layout.payload_offset,
        })
    }

    /// Maximum number of bytes that usually precede the start: an IPv4 header with all options, and a TCP header with
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
    /// Fields that are masked before the bytes are extracted.
    pub masks: Vec<Mask>,
    /// Replacement for masked fields.
    pub mask_method: MaskMethod,
    /// Seed for randomising masks; together with the flow's five-tuple and start it determines every replacement.
    pub mask_seed: u64,
}

impl Default for TokenOptions {
    /// The paper's options: 6 packets of 128 bytes from the IP header on, nothing masked.
    fn default() -> TokenOptions {
        TokenOptions {
            packets: 6,
            bytes: 128,
            packet_start: PacketStart::IpHeader,
            masks: Vec::new(),
            mask_method: MaskMethod::Zero,
            mask_seed: 0,
        }
    }
}

/// Invalid token options, or options that do not fit the flows.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// N or M is zero.
    #[error("token option {option} = 0: must be at least 1")]
    Zero {
        /// The option's key.
        option: &'static str,
    },
    /// N or M exceeds what flows can keep.
    #[error("token option {option} = {value}: must be at most {most}")]
    TooMany {
        /// The option's key.
        option: &'static str,
        /// Its value.
        value: usize,
        /// The maximum.
        most: usize,
    },
    /// N times M is too large to fit more than a few flows into memory.
    #[error("{packets} packets of {bytes} bytes exceed {MOST_TOKENS} tokens per flow; lower packets or bytes")]
    TooManyTokens {
        /// N.
        packets: usize,
        /// M.
        bytes: usize,
    },
    /// A mask is listed twice.
    #[error("token option masks: {} is listed twice; list it once", mask.name())]
    Twice {
        /// The mask.
        mask: Mask,
    },
    /// Flows keep fewer packets than requested.
    #[error("token option packets = {packets}, but flows keep {kept_packets}; raise the flow option kept_packets")]
    Packets {
        /// N.
        packets: usize,
        /// Packets that flows keep.
        kept_packets: usize,
    },
    /// Flows keep fewer bytes of a packet than may be needed.
    #[error(
        "token option bytes = {bytes} needs {needed} bytes of each packet (including headers before its start), but \
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
    /// The output slice has the wrong size.
    #[error("output has room for {given} tokens, but {packets} packets of {bytes} bytes need {}", packets * bytes)]
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
    /// Returns the bytes of each packet that a flow must keep to have M bytes after the headers before the start.
    pub fn needed_bytes(&self) -> usize {
        self.bytes.saturating_add(self.packet_start.header_room())
    }

    /// Validates the options against those of the flows they are used with.
    ///
    /// # Errors
    /// The first option that is invalid or requires more than the flows keep.
    pub fn validate(&self, flows: &FlowOptions) -> Result<(), TokenError> {
        for (option, value) in [("packets", self.packets), ("bytes", self.bytes)] {
            if value == 0 {
                return Err(TokenError::Zero { option });
            }
        }
        let most_bytes = MOST_KEPT_BYTES - self.packet_start.header_room();
        for (option, value, most) in [("packets", self.packets, MOST_KEPT_PACKETS), ("bytes", self.bytes, most_bytes)] {
            if value > most {
                return Err(TokenError::TooMany { option, value, most });
            }
        }
        if self.packets * self.bytes > MOST_TOKENS {
            return Err(TokenError::TooManyTokens { packets: self.packets, bytes: self.bytes });
        }
        if let Some(mask) = first_repeated(&self.masks) {
            return Err(TokenError::Twice { mask: *mask });
        }
        if self.packets > flows.kept_packets {
            return Err(TokenError::Packets { packets: self.packets, kept_packets: flows.kept_packets });
        }
        let needed = self.needed_bytes();
        if needed > flows.kept_bytes {
            return Err(TokenError::Bytes { bytes: self.bytes, needed, kept_bytes: flows.kept_bytes });
        }
        Ok(())
    }
}

/// Writes a flow's tokens to `out`, shape `[packets, bytes]`, and returns how many of its packets have any.
///
/// Packets without bytes after the start (acknowledgements, if bytes begin at the payload) are skipped, and the
/// following ones move up: padding is only at the end. Returns 0 if the flow has no tokens.
///
/// # Errors
/// N or M is zero, or `out` has the wrong size.
pub fn tokenize(flow: &Flow, options: &TokenOptions, out: &mut [u16]) -> Result<usize, TokenError> {
    for (option, value) in [("packets", options.packets), ("bytes", options.bytes)] {
        if value == 0 {
            return Err(TokenError::Zero { option });
        }
    }
    if options.packets.checked_mul(options.bytes) != Some(out.len()) {
        return Err(TokenError::Space { given: out.len(), packets: options.packets, bytes: options.bytes });
    }
    let masked = (!options.masks.is_empty()).then(|| {
        let mut masked = flow.clone();
        mask_flow(&mut masked, &options.masks, options.mask_method, options.mask_seed);
        masked
    });
    out.fill(PAD);
    let mut rows = out.chunks_exact_mut(options.bytes);
    for packet in shown_packets(masked.as_ref().unwrap_or(flow), options) {
        let Some(row) = rows.next() else { break };
        for (token, byte) in row.iter_mut().zip(&packet.bytes[options.packet_start.of(packet)..]) {
            *token = u16::from(*byte);
        }
    }
    Ok(options.packets - rows.len())
}

/// Returns the packets of a flow that its tokens come from, in order: the first N that have a byte after the start.
pub fn shown_packets<'a>(flow: &'a Flow, options: &TokenOptions) -> impl Iterator<Item = &'a FlowPacket> {
    let start = options.packet_start;
    flow.packets.iter().filter(move |packet| start.of(packet) < packet.bytes.len()).take(options.packets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcbench_capture::{HeaderLayout, Transport};
    use etcbench_flow::{FiveTuple, PacketDirection};

    /// Creates a flow whose packets have this content after a 20-byte IP and an 8-byte UDP header.
    fn flow(packets: &[Vec<u8>]) -> Flow {
        let endpoint = "1.2.3.4:5".parse().unwrap();
        Flow {
            five_tuple: FiveTuple { source: endpoint, destination: endpoint, transport: Transport::Udp },
            start: 0,
            end: 0,
            packets: packets
                .iter()
                .map(|bytes| FlowPacket {
                    direction: PacketDirection::Forward,
                    timestamp: 0,
                    wire_length: 0,
                    bytes: bytes.clone(),
                    layout: HeaderLayout { transport_offset: 20, payload_offset: 28, transport: Transport::Udp },
                })
                .collect(),
            statistics: Vec::new(),
        }
    }

    fn packet(length: u8) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length).collect();
        bytes[0] = 0x45;
        bytes
    }

    #[test]
    fn padding_is_at_the_end_of_packets_and_of_the_flow() {
        let flow = flow(&[packet(30), packet(28), packet(40)]);
        let mut options = TokenOptions { packets: 4, bytes: 4, ..TokenOptions::default() };
        let mut out = vec![7; 16];
        assert_eq!(tokenize(&flow, &options, &mut out), Ok(3));
        assert_eq!(out[..5], [0x45, 1, 2, 3, 0x45]);
        assert_eq!(out[12..], [PAD; 4]);
        options.packet_start = PacketStart::AfterIpHeader;
        assert_eq!(tokenize(&flow, &options, &mut out), Ok(3));
        assert_eq!(out[..4], [20, 21, 22, 23]);
        // The second packet has no payload, so the third moves up.
        options.packet_start = PacketStart::Payload;
        assert_eq!(tokenize(&flow, &options, &mut out), Ok(2));
        assert_eq!(out[..8], [28, 29, PAD, PAD, 28, 29, 30, 31]);
        assert_eq!(out[8..], [PAD; 8]);
        options.packets = 1;
        assert_eq!(tokenize(&flow, &options, &mut out[..4]), Ok(1));
        options.packet_start = PacketStart::IpHeader;
        options.masks = vec![Mask::IpAddresses];
        options.bytes = 22;
        let mut out = vec![0; 22];
        tokenize(&flow, &options, &mut out).unwrap();
        assert_eq!(out[10..], [10, 11, 0, 0, 0, 0, 0, 0, 0, 0, 20, 21]);
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let flows = FlowOptions::default();
        let options = TokenOptions::default();
        assert_eq!(options.validate(&flows), Ok(()));
        let payload = TokenOptions { packet_start: PacketStart::Payload, ..options.clone() };
        assert_eq!(payload.validate(&flows), Ok(()));
        let message = |options: &TokenOptions| options.validate(&flows).unwrap_err().to_string();
        assert!(message(&TokenOptions { packets: 0, ..options.clone() }).contains("packets = 0"));
        assert!(message(&TokenOptions { packets: 7, ..options.clone() }).contains("kept_packets"));
        assert!(message(&TokenOptions { bytes: 129, ..payload }).contains("needs 249 bytes"));
        let twice = TokenOptions { masks: vec![Mask::Ttl, Mask::Ports, Mask::Ttl], ..options.clone() };
        assert!(message(&twice).contains("ttl is listed twice"));
        let empty = TokenOptions { bytes: 0, ..options.clone() };
        assert_eq!(tokenize(&flow(&[]), &empty, &mut []), Err(TokenError::Zero { option: "bytes" }));
        let error = tokenize(&flow(&[]), &options, &mut [0; 3]).unwrap_err();
        assert_eq!(error.to_string(), "output has room for 3 tokens, but 6 packets of 128 bytes need 768");
    }
}
