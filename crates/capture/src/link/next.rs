//! Headers that several link layers and tunnels share: EtherTypes with tags, LLC and SNAP, network-layer identifiers,
//! frame relay, PPP, MPLS, MACsec, and network service headers.

use super::IpOffset;
use crate::skip::{Protocol, Skip, SkipReason};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: [u16; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];
pub(crate) const ETHERTYPE_MPLS_UNICAST: u16 = 0x8847;
const ETHERTYPE_MPLS: [u16; 2] = [ETHERTYPE_MPLS_UNICAST, 0x8848];
const ETHERTYPE_PPPOE_SESSION: u16 = 0x8864;
/// Provider backbone bridges (IEEE 802.1ah): four bytes of tag, then the customer's frame.
const ETHERTYPE_BACKBONE: u16 = 0x88e7;
/// GRE's protocol types for PPTP's PPP and for a whole Ethernet frame.
pub(crate) const ETHERTYPE_PPP: u16 = 0x880b;
pub(crate) const ETHERTYPE_BRIDGED_ETHERNET: u16 = 0x6558;
/// Tags of virtual interfaces: Cisco's VN-Tag and the E-Tag of IEEE 802.1BR.
const ETHERTYPE_VN_TAG: u16 = 0x8926;
const ETHERTYPE_E_TAG: u16 = 0x893f;
/// Cisco's metadata, with security group tags.
const ETHERTYPE_CISCO_METADATA: u16 = 0x8909;
/// The tag of high-availability seamless redundancy (IEC 62439-3).
const ETHERTYPE_HSR: u16 = 0x892f;
/// Marvell's switch tag, in the variant with an EtherType.
const ETHERTYPE_EDSA: u16 = 0xdada;
const ETHERTYPE_MACSEC: u16 = 0x88e5;
const ETHERTYPE_NSH: u16 = 0x894f;
/// Below this, the two bytes are the length of an IEEE 802.3 frame (IEEE 802.3, 3.2.6).
const SMALLEST_ETHERTYPE: u16 = 0x0600;
/// PPP's protocols of MPLS, unicast and multicast (RFC 3032, section 4.3).
const PPP_MPLS: [u16; 2] = [0x0281, 0x0283];
/// Unnumbered information, the control byte of frame relay and LLC.
pub(super) const UNNUMBERED: u8 = 0x03;

/// Reads the byte at `offset`.
pub(super) fn byte(frame: &[u8], offset: usize) -> Result<u8, SkipReason> {
    frame.get(offset).copied().ok_or(SkipReason::HeadersTruncated)
}

/// Reads the two bytes at `offset`.
pub(crate) fn big_endian_16(frame: &[u8], offset: usize) -> Result<u16, SkipReason> {
    match frame.get(offset..).and_then(<[u8]>::first_chunk) {
        Some(bytes) => Ok(u16::from_be_bytes(*bytes)),
        None => Err(SkipReason::HeadersTruncated),
    }
}

/// Like [`big_endian_16`].
pub(super) fn little_endian_16(frame: &[u8], offset: usize) -> Result<u16, SkipReason> {
    big_endian_16(frame, offset).map(u16::swap_bytes)
}

/// Reads the four bytes at `offset`.
pub(super) fn little_endian_32(frame: &[u8], offset: usize) -> Result<u32, SkipReason> {
    match frame.get(offset..).and_then(<[u8]>::first_chunk) {
        Some(bytes) => Ok(u32::from_le_bytes(*bytes)),
        None => Err(SkipReason::HeadersTruncated),
    }
}

/// Checks that an IP packet begins at `offset`, recognisable only by its version.
pub(crate) fn by_version(frame: &[u8], offset: usize) -> IpOffset {
    match byte(frame, offset)? >> 4 {
        4 | 6 => Ok(offset),
        _ => Err(SkipReason::NotIp.into()),
    }
}

/// Checks an address family in the byte order of the capturing machine. 2 is AF_INET everywhere; AF_INET6 is 10 on
/// Linux, 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on macOS.
pub(super) fn after_family(family: [u8; 4], payload: usize) -> IpOffset {
    let family = u32::from_be_bytes(family);
    let family = if family > 0xffff { family.swap_bytes() } else { family };
    match family {
        2 | 10 | 24 | 28 | 30 => Ok(payload),
        other => Err(Protocol::Family(other).into()),
    }
}

/// Follows an EtherType at `offset`; see [`after`].
pub(super) fn after_ethertype(frame: &[u8], offset: usize) -> IpOffset {
    after(frame, big_endian_16(frame, offset)?, offset + 2)
}

/// Follows an EtherType, whose payload is at `payload`, through VLAN tags, LLC/SNAP, PPPoE and MPLS.
pub(crate) fn after(frame: &[u8], mut ethertype: u16, mut payload: usize) -> IpOffset {
    loop {
        // Every step advances by at least two bytes, so the frame's end ends the loop.
        let next = match ethertype {
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => return Ok(payload),
            ETHERTYPE_PPPOE_SESSION => return after_ppp(frame, payload + 6),
            ETHERTYPE_BACKBONE => payload + 16,
            tag if ETHERTYPE_VLAN.contains(&tag) => payload + 2,
            label if ETHERTYPE_MPLS.contains(&label) => return after_mpls(frame, payload),
            ETHERTYPE_VN_TAG | ETHERTYPE_HSR => payload + 4,
            ETHERTYPE_E_TAG | ETHERTYPE_EDSA => payload + 6,
            // Version, and the length of the options in units of four bytes.
            ETHERTYPE_CISCO_METADATA => payload + 2 + 4 * usize::from(byte(frame, payload + 1)?),
            ETHERTYPE_MACSEC => after_security_tag(frame, payload)?,
            ETHERTYPE_NSH => match after_service_header(frame, payload)? {
                Service::Ip(offset) => return Ok(offset),
                Service::Ethernet(offset) => offset + 12,
            },
            length if length < SMALLEST_ETHERTYPE => match llc(frame, payload)? {
                Llc::Ip(offset) => return Ok(offset),
                Llc::EtherType(offset) => offset,
            },
            other => return Err(Protocol::EtherType(other).into()),
        };
        ethertype = big_endian_16(frame, next)?;
        payload = next + 2;
    }
}

/// What follows an LLC header.
enum Llc {
    /// An IP packet at this offset.
    Ip(usize),
    /// An EtherType at this offset.
    EtherType(usize),
}

/// Follows an LLC header at `offset`.
pub(super) fn after_llc(frame: &[u8], offset: usize) -> IpOffset {
    after_either(frame, llc(frame, offset)?)
}

fn after_either(frame: &[u8], next: Llc) -> IpOffset {
    match next {
        Llc::Ip(offset) => Ok(offset),
        Llc::EtherType(offset) => after_ethertype(frame, offset),
    }
}

/// Parses LLC (IEEE 802.2), with SNAP (IEEE 802, 9.5; RFC 1042), the encapsulation of IEEE 802.1H, IP's own service
/// access point, or a network-layer protocol identifier (RFC 2684, 5.1).
fn llc(frame: &[u8], offset: usize) -> Result<Llc, Skip> {
    match frame.get(offset..offset + 3).ok_or(SkipReason::HeadersTruncated)? {
        [0xaa, 0xaa, UNNUMBERED] => snap(frame, offset + 3),
        [0x06, 0x06, UNNUMBERED] => by_version(frame, offset + 3).map(Llc::Ip),
        [0xfe, 0xfe, UNNUMBERED] => network_identifier(frame, offset + 3),
        // IPX without LLC (Novell's "raw 802.3") has 0xff here.
        other => Err(Protocol::ServiceAccessPoint(other[0]).into()),
    }
}

/// Parses SNAP: an organisation, those of EtherTypes being 0 and IEEE 802.1H's, and its protocol.
fn snap(frame: &[u8], offset: usize) -> Result<Llc, Skip> {
    match *frame.get(offset..).and_then(<[u8]>::first_chunk).ok_or(SkipReason::HeadersTruncated)? {
        [0, 0, 0 | 0xf8] => Ok(Llc::EtherType(offset + 3)),
        organisation => Err(Protocol::Snap(organisation, big_endian_16(frame, offset + 3)?).into()),
    }
}

/// Parses a network-layer protocol identifier (ISO/IEC TR 9577; RFC 2427).
fn network_identifier(frame: &[u8], offset: usize) -> Result<Llc, Skip> {
    match byte(frame, offset)? {
        0xcc | 0x8e => Ok(Llc::Ip(offset + 1)),
        0x80 => snap(frame, offset + 1),
        other => Err(Protocol::NetworkLayer(other).into()),
    }
}

/// Follows a network-layer protocol identifier at `offset`.
pub(super) fn after_network_identifier(frame: &[u8], offset: usize) -> IpOffset {
    after_either(frame, network_identifier(frame, offset)?)
}

/// Parses frame relay (RFC 2427): an address of two to four bytes, whose last has its low bit set, then the control
/// byte and an identifier, or an EtherType in Cisco's variant.
pub(super) fn after_frame_relay(frame: &[u8], start: usize) -> IpOffset {
    let address = frame.get(start..).unwrap_or_default().iter().take(4).position(|byte| byte & 1 == 1);
    let offset = match address {
        Some(0) => return Err(SkipReason::MalformedHeader.into()),
        Some(last) => start + last + 1,
        None if frame.len() < start + 4 => return Err(SkipReason::HeadersTruncated.into()),
        None => return Err(SkipReason::MalformedHeader.into()),
    };
    if byte(frame, offset)? != UNNUMBERED {
        return after_ethertype(frame, offset);
    }
    // One byte of padding may align the identifier.
    let padding = usize::from(frame.get(offset + 1) == Some(&0));
    after_network_identifier(frame, offset + 1 + padding)
}

/// Parses multilink frame relay (FRF.16.1, 2.2): flags for begin, end and control with a sequence number in two bytes,
/// then frame relay in a first fragment or whole frame.
pub(super) fn after_multilink_frame_relay(frame: &[u8], offset: usize) -> IpOffset {
    let (begin, control) = (0x80, 0x20);
    match byte(frame, offset)? {
        flags if flags & control != 0 => Err(SkipReason::NotIp.into()),
        flags if flags & begin == 0 => Err(SkipReason::FragmentWithoutPorts.into()),
        _ => after_frame_relay(frame, offset + 2),
    }
}

/// Skips MPLS labels of four bytes each (RFC 3032); the payload is recognised by its IP version.
pub(super) fn after_mpls(frame: &[u8], mut offset: usize) -> IpOffset {
    loop {
        let label = frame.get(offset..offset + 4).ok_or(SkipReason::HeadersTruncated)?;
        offset += 4;
        if label[2] & 1 == 1 {
            break;
        }
    }
    by_version(frame, offset)
}

/// Parses PPP (RFC 1661): address and control bytes may be absent, and the protocol compressed to one byte.
pub(crate) fn after_ppp(frame: &[u8], mut offset: usize) -> IpOffset {
    match frame.get(offset..) {
        Some([0xff, 0x03, ..]) => offset += 2,
        Some([0xff]) => return Err(SkipReason::HeadersTruncated.into()),
        _ => {}
    }
    let first = byte(frame, offset)?;
    let (protocol, offset) =
        if first & 1 == 1 { (u16::from(first), offset + 1) } else { (big_endian_16(frame, offset)?, offset + 2) };
    match protocol {
        protocol if PPP_MPLS.contains(&protocol) => after_mpls(frame, offset),
        protocol if is_ip_over_ppp(protocol) => Ok(offset),
        other => Err(Protocol::Ppp(other).into()),
    }
}

/// Whether PPP's protocol leads to an IP packet.
pub(super) fn is_ip_over_ppp(protocol: u16) -> bool {
    matches!(protocol, 0x0021 | 0x0057) || PPP_MPLS.contains(&protocol)
}

/// Returns the EtherType's offset after the security tag of a frame that is authenticated but not encrypted (IEEE
/// 802.1AE, 9.3).
fn after_security_tag(frame: &[u8], offset: usize) -> Result<usize, SkipReason> {
    let (encrypted_or_changed, channel) = (0x0c, 0x20);
    let flags = byte(frame, offset)?;
    match flags & encrypted_or_changed {
        0 => Ok(offset + if flags & channel != 0 { 14 } else { 6 }),
        _ => Err(SkipReason::Encrypted),
    }
}

/// What follows a network service header.
pub(crate) enum Service {
    Ip(usize),
    Ethernet(usize),
}

/// Parses a network service header (RFC 8300, section 2): its length in units of four bytes, and what follows.
pub(crate) fn after_service_header(frame: &[u8], offset: usize) -> Result<Service, Skip> {
    let header: &[u8; 4] = frame.get(offset..).and_then(<[u8]>::first_chunk).ok_or(SkipReason::HeadersTruncated)?;
    let length = 4 * usize::from(header[1] & 0x3f);
    if length < 8 {
        return Err(SkipReason::MalformedHeader.into());
    }
    match header[3] {
        1 | 2 => by_version(frame, offset + length).map(Service::Ip),
        3 => Ok(Service::Ethernet(offset + length)),
        5 => after_mpls(frame, offset + length).map(Service::Ip),
        other => Err(Protocol::Service(other).into()),
    }
}
