//! Masks: fields that identify the endpoints or the flow rather than the application are set to zero.

use serde::{Deserialize, Serialize};

use crate::capture::Transport;
use crate::flow::FlowPacket;

/// A field, or a few that belong together, to set to zero in a packet's bytes. Lengths stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// Source and destination address of the IP header.
    IpAddresses,
    /// Source and destination port.
    Ports,
    /// IPv4 identification; for IPv6 the flow label and the identification of a fragment header.
    IpIdentification,
    /// IPv4 time to live, IPv6 hop limit.
    Ttl,
    /// Checksums of the IPv4, TCP and UDP headers: they depend on addresses and ports.
    Checksums,
    /// TCP sequence and acknowledgement number, and those in selective acknowledgements (RFC 2018).
    TcpSequenceNumbers,
    /// Both values of the TCP timestamps option (RFC 7323).
    TcpTimestamps,
}

const IPV6_HEADER: usize = 40;
/// IPv6 extension headers, by their next-header numbers.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

const TCP_HEADER: usize = 20;
/// TCP options, by their kinds.
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const SELECTIVE_ACKNOWLEDGEMENT: u8 = 5;
const TIMESTAMPS: u8 = 8;

impl Mask {
    /// All masks: what "without shortcuts" masks.
    pub const ALL: [Mask; 7] = [
        Mask::IpAddresses,
        Mask::Ports,
        Mask::IpIdentification,
        Mask::Ttl,
        Mask::Checksums,
        Mask::TcpSequenceNumbers,
        Mask::TcpTimestamps,
    ];

    /// The name in files and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Mask::IpAddresses => "ip_addresses",
            Mask::Ports => "ports",
            Mask::IpIdentification => "ip_identification",
            Mask::Ttl => "ttl",
            Mask::Checksums => "checksums",
            Mask::TcpSequenceNumbers => "tcp_sequence_numbers",
            Mask::TcpTimestamps => "tcp_timestamps",
        }
    }

    /// Sets the field to zero in the packet's bytes, as far as they were kept; changes no other byte.
    pub fn apply(self, packet: &mut FlowPacket) {
        let Some(first) = packet.bytes.first() else { return };
        let is_ipv6 = first >> 4 == 6;
        let is_tcp = packet.layout.transport == Transport::Tcp;
        let transport = usize::from(packet.layout.transport_offset);
        let payload = usize::from(packet.layout.payload_offset);
        let bytes = &mut packet.bytes[..];
        match self {
            Mask::IpAddresses if is_ipv6 => zero(bytes, 8, 32),
            Mask::IpAddresses => zero(bytes, 12, 8),
            Mask::Ports => zero(bytes, transport, 4),
            Mask::IpIdentification if is_ipv6 => {
                // The flow label takes the low half of the second byte and the next two.
                if let Some(byte) = bytes.get_mut(1) {
                    *byte &= 0xf0;
                }
                zero(bytes, 2, 2);
                zero_fragment_identification(bytes, transport);
            }
            Mask::IpIdentification => zero(bytes, 4, 2),
            Mask::Ttl if is_ipv6 => zero(bytes, 7, 1),
            Mask::Ttl => zero(bytes, 8, 1),
            Mask::Checksums => {
                if !is_ipv6 {
                    zero(bytes, 10, 2);
                }
                zero(bytes, transport + if is_tcp { 16 } else { 6 }, 2);
            }
            Mask::TcpSequenceNumbers if is_tcp => {
                zero(bytes, transport + 4, 8);
                zero_tcp_option(bytes, transport, payload, SELECTIVE_ACKNOWLEDGEMENT);
            }
            Mask::TcpTimestamps if is_tcp => zero_tcp_option(bytes, transport, payload, TIMESTAMPS),
            Mask::TcpSequenceNumbers | Mask::TcpTimestamps => {}
        }
    }
}

/// Sets `length` bytes from `start` to zero, or as many of them as there are.
fn zero(bytes: &mut [u8], start: usize, length: usize) {
    let end = bytes.len().min(start + length);
    if let Some(field) = bytes.get_mut(start..end) {
        field.fill(0);
    }
}

/// Finds a fragment header among IPv6 extension headers (RFC 8200, section 4) and masks its identification.
fn zero_fragment_identification(bytes: &mut [u8], transport: usize) {
    let mut next_header = match bytes.get(6) {
        Some(next_header) => *next_header,
        None => return,
    };
    let mut offset = IPV6_HEADER;
    // Every extension header has eight bytes or more, so the offset grows.
    while offset < transport {
        let &[following, length, ..] = bytes.get(offset..).unwrap_or_default() else { return };
        let length = match next_header {
            FRAGMENT => {
                zero(bytes, offset + 4, 4);
                8
            }
            AUTHENTICATION => (usize::from(length) + 2) * 4,
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => (usize::from(length) + 1) * 8,
            _ => return,
        };
        next_header = following;
        offset += length;
    }
}

/// Masks the value of every TCP option of a kind (RFC 9293, section 3.1).
fn zero_tcp_option(bytes: &mut [u8], transport: usize, payload: usize, kind: u8) {
    let mut offset = transport + TCP_HEADER;
    while offset < payload {
        let length = match bytes.get(offset) {
            None | Some(&END_OF_OPTIONS) => return,
            Some(&NO_OPERATION) => 1,
            Some(&found) => match bytes.get(offset + 1) {
                Some(&length) if length >= 2 => {
                    let length = usize::from(length).min(payload - offset);
                    if found == kind {
                        zero(bytes, offset + 2, length - 2);
                    }
                    length
                }
                _ => return,
            },
        };
        offset += length;
    }
}
