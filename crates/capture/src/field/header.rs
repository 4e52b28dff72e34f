//! The structure of IP, TCP and UDP headers, and the fields in them: at fixed places, in options, in extension headers.

use std::ops::Range;

use super::PacketView;
use super::table::{Bits, Header, Place, bytes};
use crate::network::protocol;

/// Length of an IPv4 header without options.
pub(crate) const IPV4_HEADER: usize = 20;
/// Length of an IPv6 header without extension headers.
pub(crate) const IPV6_HEADER: usize = 40;
/// Length of a TCP header without options (RFC 9293).
pub(crate) const TCP_HEADER: usize = 20;
/// Length of a UDP header (RFC 768).
pub(crate) const UDP_HEADER: usize = 8;
/// The byte of an IPv4 header that identifies the next header.
pub(crate) const IPV4_PROTOCOL: usize = 9;
/// The byte of an IPv6 header that identifies the next header.
pub(crate) const IPV6_NEXT_HEADER: usize = 6;
/// The byte of a TCP header whose high bits are the header's length in units of four bytes.
pub(crate) const TCP_DATA_OFFSET: usize = 12;
const IPV4_ADDRESS: usize = 4;
const IPV6_ADDRESS: usize = 16;
/// IPv4 options that list addresses (RFC 791, section 3.1).
const RECORD_ROUTE: u8 = 7;
const IPV4_TIMESTAMP: u8 = 68;
const LOOSE_ROUTE: u8 = 131;
const STRICT_ROUTE: u8 = 137;
/// The home address option (RFC 6275, section 6.3).
const HOME_ADDRESS: u8 = 201;
/// Options of IPv4 and TCP that consist of a single byte.
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;

/// Calls back with first byte and length of each match in the option or extension header at the given range.
pub(super) type Entries = fn(&[u8], Range<usize>, &mut dyn FnMut(usize, usize));

/// Returns the length of an IPv4 header, from its first byte.
pub(crate) const fn header_length(first: u8) -> usize {
    (first & 0x0f) as usize * 4
}

/// Returns the length of an IPv6 extension header (RFC 8200, section 4), from its kind and second byte, or `None` if
/// the kind is not an extension header.
pub(crate) const fn extension_length(kind: u8, length: u8) -> Option<usize> {
    match kind {
        protocol::FRAGMENT => Some(8),
        // RFC 4302 counts in units of four bytes, all others in units of eight.
        protocol::AUTHENTICATION => Some((length as usize + 2) * 4),
        protocol::HOP_BY_HOP
        | protocol::ROUTING
        | protocol::DESTINATION_OPTIONS
        | protocol::MOBILITY
        | protocol::HOST_IDENTITY
        | protocol::SHIM6 => Some((length as usize + 1) * 8),
        _ => None,
    }
}

/// Calls back with the field's places in a packet with at least one byte.
pub(super) fn find(place: &Place, packet: PacketView<'_>, found: &mut dyn FnMut(Bits)) {
    let all = packet.bytes;
    let mut whole = |start: usize, length: usize| found(bytes(start, length));
    match *place {
        Place::Fixed(header, bits) => {
            let start = match header {
                Header::Ipv4 if !packet.is_ipv6() => 0,
                Header::Ipv6 if packet.is_ipv6() => 0,
                Header::Tcp if packet.is_tcp() && packet.has_transport_header() => packet.transport(),
                Header::Udp if !packet.is_tcp() && packet.has_transport_header() => packet.transport(),
                _ => return,
            };
            found(Bits { start: start + bits.start, ..bits });
        }
        Place::Ipv4Options(entries) if !packet.is_ipv6() => {
            let end = header_length(all[0]).min(packet.transport());
            options(all, IPV4_HEADER..end).for_each(|(_, option)| entries(all, option, &mut whole));
        }
        Place::Ipv6Extension(kind, entries) if packet.is_ipv6() => {
            extension_headers(packet)
                .filter(|(found, _)| *found == kind)
                .for_each(|(_, header)| entries(all, header, &mut whole));
        }
        Place::TcpOptions | Place::TcpOptionKinds | Place::TcpOption(..)
            if packet.is_tcp() && packet.has_transport_header() =>
        {
            let range = packet.transport() + TCP_HEADER..packet.payload();
            match *place {
                Place::TcpOption(kind, entries) => options(all, range)
                    .filter(|(found, _)| *found == kind)
                    .for_each(|(_, option)| entries(all, option, &mut whole)),
                Place::TcpOptionKinds => options(all, range).for_each(|(_, option)| whole(option.start, 1)),
                _ if !range.is_empty() => whole(range.start, range.len()),
                _ => {}
            }
        }
        Place::Ipv4Options(_)
        | Place::Ipv6Extension(..)
        | Place::TcpOptions
        | Place::TcpOptionKinds
        | Place::TcpOption(..)
        | Place::Hello(_) => {}
    }
}

/// Returns kind and range of each IPv6 extension header before the transport header.
fn extension_headers(packet: PacketView<'_>) -> impl Iterator<Item = (u8, Range<usize>)> + '_ {
    let bytes = packet.bytes;
    let mut next_header = bytes.get(IPV6_NEXT_HEADER).copied();
    let mut start = IPV6_HEADER;
    std::iter::from_fn(move || {
        let kind = next_header?;
        // Every extension header has at least eight bytes, so the offset grows.
        if start >= packet.transport() {
            return None;
        }
        let &[following, length, ..] = bytes.get(start..)? else { return None };
        let header = start..start + extension_length(kind, length)?;
        next_header = Some(following);
        start = header.end;
        Some((kind, header))
    })
}

/// Returns kind and range (including the kind and length bytes) of the options of an IPv4 or TCP header.
fn options(bytes: &[u8], range: Range<usize>) -> impl Iterator<Item = (u8, Range<usize>)> + '_ {
    let Range { start: mut offset, end } = range;
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
                    let option = offset..end.min(offset + length);
                    offset = option.end;
                    return Some((kind, option));
                }
            }
        }
        None
    })
}

/// Calls back for every complete entry of the given length in a range.
fn every(range: Range<usize>, step: usize, length: usize, found: &mut dyn FnMut(usize, usize)) {
    (range.start..(range.end + 1).saturating_sub(length)).step_by(step).for_each(|start| found(start, length));
}

/// Finds the addresses that an IPv4 option lists: in a route, after kind, length and pointer; in a timestamp option,
/// before each time, if its flag says that addresses are recorded.
pub(super) fn listed_addresses(bytes: &[u8], option: Range<usize>, found: &mut dyn FnMut(usize, usize)) {
    match bytes.get(option.start) {
        Some(&(RECORD_ROUTE | LOOSE_ROUTE | STRICT_ROUTE)) => {
            every(option.start + 3..option.end, IPV4_ADDRESS, IPV4_ADDRESS, found);
        }
        Some(&IPV4_TIMESTAMP) if bytes.get(option.start + 3).is_some_and(|flag| matches!(flag & 0x0f, 1 | 3)) => {
            every(option.start + 4..option.end, 2 * IPV4_ADDRESS, IPV4_ADDRESS, found);
        }
        _ => {}
    }
}

/// Finds the addresses of a routing header, as many as its type declares.
pub(super) fn routing_addresses(bytes: &[u8], header: Range<usize>, found: &mut dyn FnMut(usize, usize)) {
    let first = header.start + 8;
    let count = match (bytes.get(header.start + 2), bytes.get(header.start + 4)) {
        (Some(0), _) => usize::MAX,
        (Some(2), _) => 1,
        (Some(4), Some(last_entry)) => usize::from(*last_entry) + 1,
        _ => 0,
    };
    let end = header.end.min(first.saturating_add(count.saturating_mul(IPV6_ADDRESS)));
    every(first..end, IPV6_ADDRESS, IPV6_ADDRESS, found);
}

/// Finds the home address in destination options.
pub(super) fn home_addresses(bytes: &[u8], header: Range<usize>, found: &mut dyn FnMut(usize, usize)) {
    let mut offset = header.start + 2;
    while let Some(&kind) = bytes.get(offset).filter(|_| offset < header.end) {
        // Pad1 has no length.
        let Some(&length) = bytes.get(offset + 1).filter(|_| kind != 0) else {
            offset += 1;
            continue;
        };
        let value = offset + 2;
        offset = value + usize::from(length);
        if kind == HOME_ADDRESS && usize::from(length) == IPV6_ADDRESS && offset <= header.end {
            found(value, IPV6_ADDRESS);
        }
    }
}

pub(super) fn fragment_offset(_: &[u8], header: Range<usize>, found: &mut dyn FnMut(usize, usize)) {
    found(header.start + 2, 2);
}

pub(super) fn fragment_identification(_: &[u8], header: Range<usize>, found: &mut dyn FnMut(usize, usize)) {
    found(header.start + 4, 4);
}

/// Finds the 32-bit numbers of an option (RFC 9293, section 3.1); a malformed option may end with a shorter one.
pub(super) fn numbers(_: &[u8], option: Range<usize>, found: &mut dyn FnMut(usize, usize)) {
    (option.start + 2..option.end).step_by(4).for_each(|start| found(start, 4.min(option.end - start)));
}

/// Finds the first of the numbers.
pub(super) fn first_number(bytes: &[u8], option: Range<usize>, found: &mut dyn FnMut(usize, usize)) {
    numbers(bytes, option.start..option.end.min(option.start + 6), found);
}

/// Finds all numbers but the first.
pub(super) fn later_numbers(bytes: &[u8], option: Range<usize>, found: &mut dyn FnMut(usize, usize)) {
    numbers(bytes, option.start + 4..option.end, found);
}
