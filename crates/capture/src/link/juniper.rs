//! Frames that Juniper's routers mirror to their routing engine: a header with a magic number and flags, then, depending
//! on the interface card, a cookie of the card and the packet. Juniper publishes no definition; the layouts are those
//! that tcpdump (print-juniper.c) and Wireshark (packet-juniper.c) agree on.

use super::IpOffset;
use super::next::{
    UNNUMBERED, after_ethertype, after_frame_relay, after_llc, after_mpls, after_multilink_frame_relay,
    after_network_identifier, after_ppp, big_endian_16, by_version, byte, is_ip_over_ppp,
};
use crate::skip::SkipReason;

const MAGIC: [u8; 3] = *b"MGC";
/// Flags of the fourth byte: the packet came in; it has no link layer; extensions follow.
const INCOMING: u8 = 0x01;
const WITHOUT_LINK_LAYER: u8 = 0x02;
const EXTENDED: u8 = 0x80;
/// First bytes of cookies: of link services, four or six bytes long, and of adaptive services, eight bytes long.
const LINK_SERVICES: u8 = 0x54;
const ADAPTIVE_SERVICES: u8 = 0x47;

/// What an interface card puts before the packet.
#[derive(Clone, Copy)]
pub(super) enum Card {
    Ethernet,
    Ppp,
    FrameRelay,
    CiscoHdlc,
    /// An EtherType and its payload, such as PPPoE.
    EtherType,
    Atm1,
    Atm2,
    MultilinkPpp,
    MultilinkFrameRelay,
    /// Multilink frame relay between a user and a network.
    UserMultilinkFrameRelay,
    Ipsec,
    /// Eight bytes of services or monitoring.
    Services,
    /// GGSN: the gateway between a mobile network and others.
    Gateway,
    Voice,
}

/// Locates the IP header in a frame of a card.
pub(super) fn locate(frame: &[u8], card: Card) -> IpOffset {
    let header: [u8; 4] = *frame.first_chunk().ok_or(SkipReason::HeadersTruncated)?;
    let [a, b, c, flags] = header;
    if [a, b, c] != MAGIC {
        return Err(SkipReason::MalformedHeader.into());
    }
    let at = if flags & EXTENDED != 0 { 6 + usize::from(big_endian_16(frame, 4)?) } else { 4 };
    if flags & WITHOUT_LINK_LAYER != 0 {
        // Four bytes of protocol, in the byte order of the router.
        return by_version(frame, at + 4);
    }
    match card {
        Card::Ethernet => after_ethertype(frame, at + 12),
        Card::Ppp => after_ppp(frame, at),
        Card::FrameRelay => after_frame_relay(frame, at),
        Card::CiscoHdlc => after_ethertype(frame, at + 2),
        Card::EtherType => after_ethertype(frame, at),
        // The first byte of the cookie marks cells of operation and maintenance.
        Card::Atm1 if byte(frame, at)? == 0x80 => Err(SkipReason::NotIp.into()),
        Card::Atm1 => after_atm(frame, at + 4, false, false),
        // So do three bits of the last byte.
        Card::Atm2 if byte(frame, at + 7)? & 0x70 != 0 => Err(SkipReason::NotIp.into()),
        Card::Atm2 => {
            let is_bridged = flags & INCOMING == 0 && byte(frame, at + 3)? & 0x3f != 0;
            after_atm(frame, at + 8, is_bridged, true)
        }
        Card::MultilinkPpp => match byte(frame, at)? {
            ADAPTIVE_SERVICES => after_adaptive_cookie(frame, at),
            LINK_SERVICES => after_ppp(frame, at + 4),
            // A member of a bundle has no cookie, only PPP with its address.
            0xff => after_ppp(frame, at),
            _ => after_ppp(frame, at + 2),
        },
        Card::MultilinkFrameRelay => match byte(frame, at)? {
            ADAPTIVE_SERVICES => after_adaptive_cookie(frame, at),
            LINK_SERVICES => after_unnumbered(frame, at + 4),
            _ => after_unnumbered(frame, at + 2),
        },
        Card::UserMultilinkFrameRelay => match byte(frame, at)? {
            ADAPTIVE_SERVICES => after_adaptive_cookie(frame, at),
            LINK_SERVICES => after_unnumbered(frame, at + 6),
            // A member of a bundle has no cookie: begin and end are set in the multilink header.
            flags if flags & 0xc0 == 0xc0 => after_multilink_frame_relay(frame, at),
            _ => Err(SkipReason::NotIp.into()),
        },
        // Types of security associations that keep the packet as it is inside.
        Card::Ipsec => match byte(frame, at + 3)? {
            3..=5 => by_version(frame, at + 16),
            _ => Err(SkipReason::NotIp.into()),
        },
        // Eight bytes in tcpdump; in Wireshark sixteen before an incoming packet and twelve before another.
        Card::Services => match by_version(frame, at + 8) {
            Err(skip) if skip.reason == SkipReason::NotIp => {
                by_version(frame, at + if flags & INCOMING != 0 { 16 } else { 12 })
            }
            found => found,
        },
        // The third byte of eight is the IP version or 2 in tcpdump; in Wireshark there are only four bytes.
        Card::Gateway if matches!((byte(frame, at + 2)?, byte(frame, at + 8)? >> 4), (2, 4) | (6, 6)) => Ok(at + 8),
        Card::Gateway => by_version(frame, at + 4),
        Card::Voice => by_version(frame, at + 18),
    }
}

/// Parses the cookie of adaptive services, whose sixth byte names the protocol.
fn after_adaptive_cookie(frame: &[u8], at: usize) -> IpOffset {
    let payload = at + 8;
    match byte(frame, at + 5)? >> 4 & 7 {
        // Both bits are set for what goes to the routing engine, which is PPP.
        0 if byte(frame, at + 4)? & 0x0c == 0x0c => after_ppp(frame, payload),
        0 | 1 => by_version(frame, payload),
        2 => after_mpls(frame, payload),
        _ => Err(SkipReason::NotIp.into()),
    }
}

/// Follows the control byte and the network-layer identifier of frame relay.
fn after_unnumbered(frame: &[u8], at: usize) -> IpOffset {
    match byte(frame, at)? {
        UNNUMBERED => after_network_identifier(frame, at + 1),
        _ => Err(SkipReason::NotIp.into()),
    }
}

/// Recognises what a virtual circuit carries: LLC, bridged Ethernet, an identifier alone (Cisco), PPP, or IP.
fn after_atm(frame: &[u8], at: usize, is_bridged: bool, is_ppp_possible: bool) -> IpOffset {
    let start: [u8; 3] = *frame.get(at..).and_then(<[u8]>::first_chunk).ok_or(SkipReason::HeadersTruncated)?;
    match start {
        [0xaa, 0xaa, UNNUMBERED] | [0xfe, 0xfe, UNNUMBERED] => after_llc(frame, at),
        _ if is_bridged => after_ethertype(frame, at + 12),
        [UNNUMBERED, ..] => after_network_identifier(frame, at + 1),
        [high, low, _] if is_ppp_possible && is_ip_over_ppp(u16::from_be_bytes([high, low])) => after_ppp(frame, at),
        _ => by_version(frame, at),
    }
}
