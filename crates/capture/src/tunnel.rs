//! Tunnels: locates the IP packet that another IP packet carries. Tunnels are only opened on request.
//!
//! Supported are IP in IP (RFC 2003), IPv6 in IPv4 (RFC 4213) and in IPv6 (RFC 2473), GRE (RFC 2784 and 2890, PPTP's
//! variant of RFC 2637 with PPP inside, NVGRE of RFC 7637, ERSPAN's three types, WCCP), PIM's register messages (RFC
//! 7761), VXLAN (RFC 7348) and its generic protocol extension, Geneve (RFC 8926), L2TP version 2 with PPP (RFC 2661),
//! MPLS in UDP (RFC 7510), GTP-U (3GPP TS 29.281) and Teredo (RFC 4380). Tunnels over UDP are recognised by their ports
//! and headers; a datagram on such a port without such a header is not opened.

use serde::{Deserialize, Serialize};

use super::field::{IPV6_HEADER, UDP_HEADER};
use super::link::{self, IpOffset};
use super::network::{DESTINATION_PORT, IPV6_LENGTH, Network, SOURCE_PORT, UDP_LENGTH, protocol};
use super::skip::{Skip, SkipReason};

/// Maximum number of nested tunnels; a packet with more is skipped.
pub(super) const MOST_TUNNELS: usize = 4;

/// IANA's port, and the port Linux used before IANA assigned one.
const VXLAN_PORTS: [u16; 2] = [4789, 8472];
const VXLAN_GENERIC_PORT: u16 = 4790;
const GENEVE_PORT: u16 = 6081;
const MPLS_PORT: u16 = 6635;
const L2TP_PORT: u16 = 1701;
const GTP_USER_PORT: u16 = 2152;
/// GRE's protocol types for mirrored frames (draft-foschiano-erspan-03): types I and II, and III.
const ERSPAN: u16 = 0x88be;
const ERSPAN_III: u16 = 0x22eb;
/// GRE's protocol type for packets that a router redirects to a web cache (WCCP).
const REDIRECTED: u16 = 0x883e;
const TEREDO_PORT: u16 = 3544;

/// Which of several nested packets belongs to the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tunnels {
    /// The outermost: flows are between the tunnel's ends. Tunnels over neither TCP nor UDP form no flow.
    #[default]
    Outer,
    /// The innermost: flows, lengths and bytes are those of the packets in the tunnel. If a carrier packet is
    /// fragmented, its first fragment shows the inner packet; the others are skipped because they have no ports.
    Inner,
}

/// Returns the offset in `bytes`, an IP packet, of the packet that it carries, if any.
///
/// # Errors
/// The reason why the payload is not an IP packet.
pub(super) fn inner_packet(bytes: &[u8], network: &Network) -> Result<Option<usize>, Skip> {
    let at = network.payload_offset;
    match network.protocol {
        protocol::IPV4 | protocol::IPV6 | protocol::GRE | protocol::MULTICAST if network.is_later_fragment() => {
            Err(SkipReason::FragmentWithoutPorts.into())
        }
        protocol::IPV4 | protocol::IPV6 => link::by_version(bytes, at).map(Some),
        protocol::GRE => generic_routing_encapsulation(bytes, at).map(Some),
        protocol::MULTICAST => multicast_register(bytes, at),
        protocol::UDP if !network.is_later_fragment() => in_udp(bytes, at),
        _ => Ok(None),
    }
}

fn generic_routing_encapsulation(bytes: &[u8], at: usize) -> IpOffset {
    let flags = link::big_endian_16(bytes, at)?;
    let protocol_type = link::big_endian_16(bytes, at + 2)?;
    let field = |bit: u16| if flags & bit != 0 { 4 } else { 0 };
    // Checksum, key and sequence number; bit 1 was routing (RFC 1701), and packets with it must be discarded.
    let (checksum, routing, key, sequence, acknowledgement) = (0x8000, 0x4000, 0x2000, 0x1000, 0x0080);
    match flags & 7 {
        0 if flags & routing == 0 => {
            let payload = at + 4 + field(checksum) + field(key) + field(sequence);
            match protocol_type {
                link::ETHERTYPE_BRIDGED_ETHERNET => in_ethernet(bytes, payload),
                // Type I has no header and no sequence number.
                ERSPAN => in_ethernet(bytes, payload + if flags & sequence != 0 { 8 } else { 0 }),
                ERSPAN_III => {
                    let optional = *bytes.get(payload + 11).ok_or(SkipReason::HeadersTruncated)? & 1;
                    in_ethernet(bytes, payload + if optional != 0 { 20 } else { 12 })
                }
                // Version 2 has a header of four bytes, version 1 none (draft-wilson-wrec-wccp-v2-01, section 5.2).
                REDIRECTED if bytes.get(payload).is_some_and(|first| first >> 4 != 4) => {
                    link::by_version(bytes, payload + 4)
                }
                REDIRECTED => link::by_version(bytes, payload),
                _ => link::after(bytes, protocol_type, payload),
            }
        }
        // Without a sequence number there is no payload, only an acknowledgement.
        1 if flags & sequence == 0 => Err(SkipReason::NotIp.into()),
        1 if flags & key != 0 && protocol_type == link::ETHERTYPE_PPP => {
            link::after_ppp(bytes, at + 8 + field(sequence) + field(acknowledgement))
        }
        _ => Err(SkipReason::MalformedHeader.into()),
    }
}

/// Parses a register message of protocol independent multicast (RFC 7761, section 4.9.3), which carries the packet of a
/// sender to the rendezvous point; other messages carry none.
fn multicast_register(bytes: &[u8], at: usize) -> Result<Option<usize>, Skip> {
    match bytes.get(at).ok_or(SkipReason::HeadersTruncated)? {
        0x21 => link::by_version(bytes, at + 8).map(Some),
        _ => Ok(None),
    }
}

fn in_ethernet(bytes: &[u8], at: usize) -> IpOffset {
    let frame = bytes.get(at..).ok_or(SkipReason::HeadersTruncated)?;
    Ok(at + link::ethernet(frame)?)
}

fn in_udp(bytes: &[u8], at: usize) -> Result<Option<usize>, Skip> {
    // Missing ports are reported when the transport header is read.
    let port = |field: usize| link::big_endian_16(bytes, at + field);
    let (Ok(source), Ok(destination)) = (port(SOURCE_PORT), port(DESTINATION_PORT)) else {
        return Ok(None);
    };
    let payload = at + UDP_HEADER;
    if VXLAN_PORTS.contains(&destination) {
        return match bytes.get(payload) {
            None if bytes.len() < payload => Err(SkipReason::HeadersTruncated.into()),
            // The flag for a valid network identifier.
            Some(flags) if flags & 0x08 != 0 => in_ethernet(bytes, payload + 8).map(Some),
            _ => Ok(None),
        };
    }
    match destination {
        VXLAN_GENERIC_PORT => return vxlan_generic(bytes, payload),
        GENEVE_PORT => return geneve(bytes, payload),
        MPLS_PORT => return Ok(link::after(bytes, link::ETHERTYPE_MPLS_UNICAST, payload).ok()),
        _ => {}
    }
    if source == L2TP_PORT || destination == L2TP_PORT {
        return layer_two(bytes, payload);
    }
    if source == GTP_USER_PORT || destination == GTP_USER_PORT {
        return gtp_user(bytes, payload);
    }
    if source == TEREDO_PORT || destination == TEREDO_PORT {
        return Ok(teredo(bytes, at));
    }
    Ok(None)
}

/// Parses VXLAN's generic protocol extension (draft-ietf-nvo3-vxlan-gpe-13, section 3): the next protocol is named if
/// the flag is set.
fn vxlan_generic(bytes: &[u8], at: usize) -> Result<Option<usize>, Skip> {
    let Some(&[flags, _, _, next, ..]) = bytes.get(at..) else { return Ok(None) };
    let (instance, named) = (0x08, 0x04);
    if flags & instance == 0 {
        return Ok(None);
    }
    match (flags & named != 0, next) {
        (false, _) | (true, 3) => in_ethernet(bytes, at + 8).map(Some),
        (true, 1 | 2) => link::by_version(bytes, at + 8).map(Some),
        (true, 4) => match link::after_service_header(bytes, at + 8)? {
            link::Service::Ip(offset) => Ok(Some(offset)),
            link::Service::Ethernet(offset) => in_ethernet(bytes, offset).map(Some),
        },
        _ => Ok(None),
    }
}

/// Parses Geneve (RFC 8926, section 3.4): version 0, options with their length in units of four bytes, and an
/// EtherType.
fn geneve(bytes: &[u8], at: usize) -> Result<Option<usize>, Skip> {
    let Some(&[first, ..]) = bytes.get(at..) else { return Ok(None) };
    if first >> 6 != 0 {
        return Ok(None);
    }
    let payload = at + 8 + 4 * usize::from(first & 0x3f);
    match link::big_endian_16(bytes, at + 2)? {
        link::ETHERTYPE_BRIDGED_ETHERNET => in_ethernet(bytes, payload).map(Some),
        ethertype => link::after(bytes, ethertype, payload).map(Some),
    }
}

/// Parses a data message of L2TP version 2 (RFC 2661, section 3.1), which carries PPP; control messages are not opened.
fn layer_two(bytes: &[u8], at: usize) -> Result<Option<usize>, Skip> {
    let Ok(flags) = link::big_endian_16(bytes, at) else { return Ok(None) };
    let (control, length, sequence, offset, version) = (0x8000, 0x4000, 0x0800, 0x0200, 0x000f);
    if flags & control != 0 || flags & version != 2 {
        return Ok(None);
    }
    let mut payload = at + 6 + if flags & length != 0 { 2 } else { 0 } + if flags & sequence != 0 { 4 } else { 0 };
    if flags & offset != 0 {
        payload += 2 + usize::from(link::big_endian_16(bytes, payload)?);
    }
    // Sessions also carry PPP's own messages.
    match link::after_ppp(bytes, payload) {
        Ok(packet) => Ok(Some(packet)),
        Err(Skip { reason: SkipReason::NotIp, .. }) => Ok(None),
        Err(skip) => Err(skip),
    }
}

/// Parses a G-PDU of GTP-U version 1: eight bytes, four more if any of the three flags is set, and then extension
/// headers, each with its length in units of four bytes first and the next one's type last.
fn gtp_user(bytes: &[u8], at: usize) -> Result<Option<usize>, Skip> {
    let Some(&[flags, message, ..]) = bytes.get(at..) else { return Ok(None) };
    let (version_1, gtp, g_pdu) = (0x20, 0x10, 255);
    if flags & 0xf0 != version_1 | gtp || message != g_pdu {
        return Ok(None);
    }
    let mut payload = at + 8;
    if flags & 7 != 0 {
        payload += 4;
        let byte = |offset: usize| bytes.get(offset).copied().ok_or(SkipReason::HeadersTruncated);
        let mut next = if flags & 4 != 0 { byte(payload - 1)? } else { 0 };
        while next != 0 {
            let length = usize::from(byte(payload)?) * 4;
            if length == 0 {
                return Err(SkipReason::MalformedHeader.into());
            }
            payload += length;
            next = byte(payload - 1)?;
        }
    }
    link::by_version(bytes, payload).map(Some)
}

/// Finds an IPv6 packet that fills a datagram on Teredo's port, after optional authentication and origin headers.
fn teredo(bytes: &[u8], at: usize) -> Option<usize> {
    let datagram = usize::from(link::big_endian_16(bytes, at + UDP_LENGTH).ok()?);
    let mut payload = at + UDP_HEADER;
    if let [0, 1, identifier, authentication, ..] = bytes.get(payload..)? {
        payload += 4 + usize::from(*identifier) + usize::from(*authentication) + 9;
    }
    if let [0, 0, ..] = bytes.get(payload..)? {
        payload += 8;
    }
    let length = usize::from(link::big_endian_16(bytes, payload + IPV6_LENGTH).ok()?);
    (bytes[payload] >> 4 == 6 && payload + IPV6_HEADER + length == at + datagram).then_some(payload)
}
