//! Fields of the IP, TCP and UDP headers.

use etcbench_capture::Transport;
use etcbench_flow::FlowPacket;

use super::Mask;
use super::field::{Field, Kind};

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const IPV4_ADDRESS: usize = 4;
const IPV6_ADDRESS: usize = 16;
/// IPv6 extension headers, by their next-header numbers.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
/// The home address option (RFC 6275, section 6.3).
const HOME_ADDRESS: u8 = 201;
/// IPv4 options that list addresses (RFC 791, section 3.1).
const RECORD_ROUTE: u8 = 7;
const IPV4_TIMESTAMP: u8 = 68;
const LOOSE_ROUTE: u8 = 131;
const STRICT_ROUTE: u8 = 137;

const TCP_HEADER: usize = 20;
/// Options of IPv4 and TCP that have no length.
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
/// TCP options, by their kinds.
const SELECTIVE_ACKNOWLEDGEMENT: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// Whether the packet has a TCP or UDP header: fragments after the first have none.
pub(super) fn has_transport_header(packet: &FlowPacket) -> bool {
    packet.layout.payload_offset > packet.layout.transport_offset
}

pub(super) fn is_ipv6(packet: &FlowPacket) -> bool {
    packet.bytes.first().is_some_and(|first| first >> 4 == 6)
}

/// Adds where a field of the headers lies in a packet, as far as the kept bytes tell.
pub(super) fn find(mask: Mask, index: usize, packet: &FlowPacket, fields: &mut Vec<Field>) {
    let bytes = &packet.bytes[..];
    if bytes.is_empty() {
        return;
    }
    let ipv6 = is_ipv6(packet);
    let transport = usize::from(packet.layout.transport_offset);
    let has_header = has_transport_header(packet);
    let is_tcp = packet.layout.transport == Transport::Tcp;
    let mut add = |start: usize, length: usize| fields.push(Field::value(mask, index, start, length));
    match mask {
        Mask::IpAddresses if ipv6 => {
            add(8, IPV6_ADDRESS);
            add(8 + IPV6_ADDRESS, IPV6_ADDRESS);
            for (kind, start, length) in extension_headers(bytes, transport) {
                addresses_of_extension(bytes, kind, start, length).for_each(|start| add(start, IPV6_ADDRESS));
            }
        }
        Mask::IpAddresses => {
            add(12, IPV4_ADDRESS);
            add(12 + IPV4_ADDRESS, IPV4_ADDRESS);
            let end = usize::from(bytes[0] & 0x0f) * 4;
            for (kind, start, length) in options(bytes, IPV4_HEADER, end.min(transport)) {
                // Kind, length and pointer come first, and in a timestamp option what it records.
                let step = match kind {
                    RECORD_ROUTE | LOOSE_ROUTE | STRICT_ROUTE => IPV4_ADDRESS,
                    IPV4_TIMESTAMP if bytes.get(start + 3).is_some_and(|flag| matches!(flag & 0x0f, 1 | 3)) => 8,
                    _ => continue,
                };
                let first = start + if kind == IPV4_TIMESTAMP { 4 } else { 3 };
                (first..(start + length).saturating_sub(IPV4_ADDRESS - 1))
                    .step_by(step)
                    .for_each(|start| add(start, IPV4_ADDRESS));
            }
        }
        Mask::Ports if has_header => {
            add(transport, 2);
            add(transport + 2, 2);
        }
        Mask::IpIdentification if ipv6 => {
            fields.push(Field { mask, packet: index, start: 1, length: 3, kind: Kind::FlowLabel });
            for (kind, start, _) in extension_headers(bytes, transport) {
                if kind == FRAGMENT {
                    fields.push(Field::value(mask, index, start + 4, 4));
                }
            }
        }
        Mask::IpIdentification => add(4, 2),
        Mask::Ttl => add(if ipv6 { 7 } else { 8 }, 1),
        Mask::Checksums => {
            if !ipv6 {
                add(10, 2);
            }
            if has_header {
                add(transport + if is_tcp { 16 } else { 6 }, 2);
            }
        }
        Mask::TcpSequenceNumbers if is_tcp && has_header => {
            add(transport + 4, 4);
            add(transport + 8, 4);
            numbers_of_option(packet, SELECTIVE_ACKNOWLEDGEMENT).for_each(|(start, length)| add(start, length));
        }
        Mask::TcpTimestamps if is_tcp && has_header => {
            numbers_of_option(packet, TIMESTAMPS).for_each(|(start, length)| add(start, length));
        }
        Mask::Ports
        | Mask::TcpSequenceNumbers
        | Mask::TcpTimestamps
        | Mask::TlsServerName
        | Mask::TlsRandom
        | Mask::TlsSessionId => {}
    }
}

/// Kind, first byte and length of each IPv6 extension header before the transport header (RFC 8200, section 4).
pub(super) fn extension_headers(bytes: &[u8], transport: usize) -> impl Iterator<Item = (u8, usize, usize)> + '_ {
    let mut next_header = bytes.get(6).copied();
    let mut offset = IPV6_HEADER;
    std::iter::from_fn(move || {
        let kind = next_header?;
        // Every extension header has eight bytes or more, so the offset grows.
        if offset >= transport {
            return None;
        }
        let &[following, length, ..] = bytes.get(offset..)? else { return None };
        let length = match kind {
            FRAGMENT => 8,
            AUTHENTICATION => (usize::from(length) + 2) * 4,
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => (usize::from(length) + 1) * 8,
            _ => return None,
        };
        let start = offset;
        next_header = Some(following);
        offset += length;
        Some((kind, start, length))
    })
}

/// First bytes of the addresses in a routing header, or in the home address option of destination options.
fn addresses_of_extension(bytes: &[u8], kind: u8, start: usize, length: usize) -> impl Iterator<Item = usize> {
    let end = start + length;
    let mut found = Vec::new();
    match kind {
        ROUTING => {
            // RFC 2460, section 4.4; RFC 6275, section 6.4; RFC 8754, section 2.
            let count = match (bytes.get(start + 2), bytes.get(start + 4)) {
                (Some(0), _) => (length - 8) / IPV6_ADDRESS,
                (Some(2), _) => 1,
                (Some(4), Some(last_entry)) => usize::from(*last_entry) + 1,
                _ => 0,
            };
            found.extend((0..count).map(|entry| start + 8 + entry * IPV6_ADDRESS));
        }
        DESTINATION_OPTIONS => {
            let mut offset = start + 2;
            while let Some(&kind) = bytes.get(offset).filter(|_| offset < end) {
                // Pad1 has no length.
                let Some(&length) = bytes.get(offset + 1).filter(|_| kind != 0) else {
                    offset += 1;
                    continue;
                };
                if kind == HOME_ADDRESS && usize::from(length) == IPV6_ADDRESS {
                    found.push(offset + 2);
                }
                offset += 2 + usize::from(length);
            }
        }
        _ => {}
    }
    found.retain(|start| start + IPV6_ADDRESS <= end);
    found.into_iter()
}

/// Kind, first byte and length (both bytes of kind and length included) of the options of an IPv4 or TCP header.
fn options(bytes: &[u8], start: usize, end: usize) -> impl Iterator<Item = (u8, usize, usize)> + '_ {
    let mut offset = start;
    std::iter::from_fn(move || {
        while offset < end {
            let kind = *bytes.get(offset)?;
            match kind {
                END_OF_OPTIONS => return None,
                NO_OPERATION => offset += 1,
                _ => {
                    let length = usize::from(*bytes.get(offset + 1)?);
                    if length < 2 {
                        return None;
                    }
                    let start = offset;
                    let length = length.min(end - start);
                    offset += length;
                    return Some((kind, start, length));
                }
            }
        }
        None
    })
}

/// The 32-bit numbers in the TCP options of a kind (RFC 9293, section 3.1); a malformed option ends in a shorter one.
fn numbers_of_option(packet: &FlowPacket, kind: u8) -> impl Iterator<Item = (usize, usize)> + '_ {
    let start = usize::from(packet.layout.transport_offset) + TCP_HEADER;
    options(&packet.bytes, start, usize::from(packet.layout.payload_offset))
        .filter(move |(found, _, _)| *found == kind)
        .flat_map(|(_, start, length)| {
            let end = start + length;
            (start + 2..end).step_by(4).map(move |start| (start, 4.min(end - start)))
        })
}
