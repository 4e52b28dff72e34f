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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{CaptureReader, craft};
    use crate::flow::PacketDirection;
    use proptest::prelude::*;
    use std::ops::Range;

    /// The packet, as a capture reader and a flow would keep it.
    fn kept(packet: &[u8], kept_bytes: usize) -> FlowPacket {
        let file = craft::pcap(craft::Order::Little, false, 101, 65_535, &[(0, packet.to_vec())]);
        let mut reader = CaptureReader::from_reader(std::io::Cursor::new(file), "mask").unwrap();
        let packet = reader.next_packet().unwrap().expect("a packet that is decoded");
        FlowPacket {
            direction: PacketDirection::Forward,
            timestamp: 0,
            wire_length: packet.wire_length,
            bytes: packet.bytes[..packet.bytes.len().min(kept_bytes)].to_vec(),
            layout: packet.layout,
        }
    }

    /// The ranges of bits that a mask covers.
    type MaskedBits = Vec<(Mask, Vec<Range<usize>>)>;

    /// One of the shapes of packet, and by mask the ranges of its bits (counted from the first byte's high bit).
    fn shape(index: usize) -> (Vec<u8>, MaskedBits) {
        let options = [1, 1, 8, 10, 9, 9, 9, 9, 8, 8, 8, 8, 1, 1, 5, 10, 3, 3, 3, 3, 4, 4, 4, 4];
        let tcp = craft::tcp((1000, 443), 0x10, 77, &options, b"payload");
        let udp = craft::udp((1000, 53), b"query");
        let (packet, transport, is_ipv6, is_tcp) = match index {
            0 => (craft::ipv4([1, 2, 3, 4], [5, 6, 7, 8], 6, &tcp), 20, false, true),
            1 => (craft::ipv4([1, 2, 3, 4], [5, 6, 7, 8], 17, &udp), 20, false, false),
            2 => {
                let mut packet = craft::ipv4([1, 2, 3, 4], [5, 6, 7, 8], 6, &[&[1, 1, 1, 0][..], &tcp].concat());
                packet[0] = 0x46;
                (packet, 24, false, true)
            }
            3 => (craft::ipv6([1; 16], [2; 16], 6, &tcp), 40, true, true),
            4 => {
                let fragment = [&[44, 0, 1, 4, 0, 0, 0, 0][..], &[17, 0, 0, 1, 6, 6, 6, 6], &udp].concat();
                (craft::ipv6([1; 16], [2; 16], 0, &fragment), 56, true, false)
            }
            _ => {
                let mut authentication = vec![6, 4, 0, 0];
                authentication.resize(24, 0x77);
                (craft::ipv6([1; 16], [2; 16], 51, &[&authentication[..], &tcp].concat()), 64, true, true)
            }
        };
        let flow_label = 12..32;
        let at = |offset: usize, length: usize| offset * 8..(offset + length) * 8;
        let mut fields = vec![
            (Mask::IpAddresses, vec![if is_ipv6 { at(8, 32) } else { at(12, 8) }]),
            (Mask::Ports, vec![at(transport, 4)]),
            (Mask::Ttl, vec![if is_ipv6 { at(7, 1) } else { at(8, 1) }]),
        ];
        fields.push((
            Mask::IpIdentification,
            match index {
                4 => vec![flow_label, at(52, 4)],
                _ if is_ipv6 => vec![flow_label],
                _ => vec![at(4, 2)],
            },
        ));
        let mut checksums = vec![at(transport + if is_tcp { 16 } else { 6 }, 2)];
        if !is_ipv6 {
            checksums.push(at(10, 2));
        }
        fields.push((Mask::Checksums, checksums));
        fields.push((
            Mask::TcpSequenceNumbers,
            if is_tcp { vec![at(transport + 4, 8), at(transport + 36, 8)] } else { vec![] },
        ));
        fields.push((Mask::TcpTimestamps, if is_tcp { vec![at(transport + 24, 8)] } else { vec![] }));
        (packet, fields)
    }

    proptest! {
        #[test]
        fn masks_change_their_fields_and_nothing_else(
            index in 0usize..6,
            mask in 0usize..7,
            kept_bytes in 1usize..140,
            noise in prop::collection::vec(any::<u8>(), 140),
        ) {
            let (bytes, fields) = shape(index);
            let ranges = &fields.iter().find(|(other, _)| *other == Mask::ALL[mask]).unwrap().1;
            let original = kept(&bytes, kept_bytes);
            let in_field = |bit: usize| ranges.iter().any(|range| range.contains(&bit));
            let mut differs = original.clone();
            let mut expected = original.clone();
            for bit in 0..original.bytes.len() * 8 {
                if in_field(bit) {
                    let place = 0x80 >> (bit % 8);
                    differs.bytes[bit / 8] = (differs.bytes[bit / 8] & !place) | (noise[bit / 8] & place);
                    expected.bytes[bit / 8] &= !place;
                }
            }
            let mut masked = original;
            Mask::ALL[mask].apply(&mut masked);
            Mask::ALL[mask].apply(&mut differs);
            prop_assert_eq!(&masked.bytes, &expected.bytes);
            prop_assert_eq!(masked, differs);
        }

        #[test]
        fn no_mask_panics_or_changes_the_length_on_any_bytes(
            bytes in prop::collection::vec(any::<u8>(), 0..150),
            transport_offset: u16,
            near: bool,
            is_tcp: bool,
        ) {
            let transport_offset = if near { transport_offset % 100 } else { transport_offset.min(65_000) };
            let layout = crate::capture::HeaderLayout {
                transport_offset,
                payload_offset: transport_offset + 60,
                transport: if is_tcp { Transport::Tcp } else { Transport::Udp },
            };
            let length = bytes.len();
            let mut packet =
                FlowPacket { direction: PacketDirection::Forward, timestamp: 0, wire_length: 0, bytes, layout };
            Mask::ALL.iter().for_each(|mask| mask.apply(&mut packet));
            prop_assert_eq!(packet.bytes.len(), length);
        }
    }

    #[test]
    fn names_are_those_in_files() {
        for mask in Mask::ALL {
            assert_eq!(serde_json::to_value(mask).unwrap(), mask.name());
        }
    }
}
