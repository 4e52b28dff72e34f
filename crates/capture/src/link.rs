//! Link layers: locates the IP header in a frame.
//!
//! These headers are a few fixed bytes each, and parsed here rather than with `etherparse`, which supports neither
//! Linux SLL2 nor loopback, raw IP, PPP and MPLS, and rejects SLL frames of unlisted hardware.

use super::summary::SkipReason;
use super::wireless;

/// The supported link types, for messages.
pub(super) const SUPPORTED: &str = "Ethernet (1), raw IP (12, 14, 101, 228, 229), Linux SLL (113) and SLL2 (276), \
     BSD loopback (0, 108), PPP (9, 50, 166, 204) and PPPoE (51), 802.11 (105), with radiotap (127), PPI (192), AVS (163) \
     or Prism (119), Cisco HDLC (104, 205), frame relay (107, 206), token ring (6), SLIP (8), FDDI (10), ATM (100, 123), \
     OpenBSD enc and pflog (109, 117), Fibre Channel (122), FireWire (138), nflog (239), netANALYZER (240), InfiniBand (242) \
     and pktap (258)";

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: [u16; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];
pub(super) const ETHERTYPE_MPLS_UNICAST: u16 = 0x8847;
const ETHERTYPE_MPLS: [u16; 2] = [ETHERTYPE_MPLS_UNICAST, 0x8848];
const ETHERTYPE_PPPOE_SESSION: u16 = 0x8864;
/// Provider backbone bridges (IEEE 802.1ah): four bytes of tag, then the customer's frame.
const ETHERTYPE_BACKBONE: u16 = 0x88e7;
/// GRE's protocol types for PPTP's PPP and for a whole Ethernet frame.
pub(super) const ETHERTYPE_PPP: u16 = 0x880b;
pub(super) const ETHERTYPE_BRIDGED_ETHERNET: u16 = 0x6558;
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

/// The supported link types of <https://www.tcpdump.org/linktypes.html>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkLayer {
    Loopback,
    Ethernet,
    TokenRing,
    Slip,
    Ppp,
    Fddi,
    PppOverEthernet,
    /// LLC without a header before it: RFC 1483 (now 2684) over ATM.
    Llc,
    RawIp,
    CiscoHdlc,
    FrameRelay,
    /// OpenBSD's IPsec interface.
    Enc,
    LinuxSll,
    /// OpenBSD's packet filter.
    PacketFilterLog,
    Prism,
    IpOverFibreChannel,
    SunAtm,
    /// IEEE 802.11.
    Wireless,
    RadioTap,
    FireWire,
    /// PPP with its first byte replaced by a direction.
    PppDaemon,
    Ppi,
    /// The layer below, after one direction byte.
    PppWithDirection,
    CiscoHdlcWithDirection,
    FrameRelayWithDirection,
    NetfilterLog,
    NetAnalyzer,
    IpOverInfiniBand,
    /// Ethernet with a four-byte Marvell switch tag after the addresses.
    SwitchTag,
    /// A four-byte Broadcom tag, then Ethernet.
    SwitchTagBefore,
    /// macOS.
    PacketTap,
    LinuxSll2,
}

impl LinkLayer {
    pub(super) fn from_link_type(link_type: u32) -> Option<LinkLayer> {
        Some(match link_type {
            0 | 108 => LinkLayer::Loopback,
            1 => LinkLayer::Ethernet,
            6 => LinkLayer::TokenRing,
            8 => LinkLayer::Slip,
            9 | 50 => LinkLayer::Ppp,
            10 => LinkLayer::Fddi,
            51 => LinkLayer::PppOverEthernet,
            100 => LinkLayer::Llc,
            12 | 14 | 101 | 228 | 229 => LinkLayer::RawIp,
            104 => LinkLayer::CiscoHdlc,
            105 => LinkLayer::Wireless,
            107 => LinkLayer::FrameRelay,
            109 => LinkLayer::Enc,
            113 => LinkLayer::LinuxSll,
            117 => LinkLayer::PacketFilterLog,
            119 | 163 => LinkLayer::Prism,
            122 => LinkLayer::IpOverFibreChannel,
            123 => LinkLayer::SunAtm,
            127 => LinkLayer::RadioTap,
            138 => LinkLayer::FireWire,
            166 => LinkLayer::PppDaemon,
            192 => LinkLayer::Ppi,
            204 => LinkLayer::PppWithDirection,
            205 => LinkLayer::CiscoHdlcWithDirection,
            206 => LinkLayer::FrameRelayWithDirection,
            239 => LinkLayer::NetfilterLog,
            240 => LinkLayer::NetAnalyzer,
            242 => LinkLayer::IpOverInfiniBand,
            258 => LinkLayer::PacketTap,
            276 => LinkLayer::LinuxSll2,
            281 | 284 => LinkLayer::SwitchTag,
            282 => LinkLayer::SwitchTagBefore,
            // Marvell's tag with its own EtherType.
            285 => LinkLayer::Ethernet,
            _ => return None,
        })
    }

    /// Returns the offset of the IP header in a frame; it may be past the captured bytes.
    pub(super) fn ip_offset(self, frame: &[u8]) -> Result<usize, SkipReason> {
        let llc = |offset: usize| match after_llc(frame, offset)? {
            Llc::Ip(offset) => Ok(offset),
            Llc::EtherType(offset) => after_ethertype(frame, offset),
        };
        match self {
            LinkLayer::RawIp => by_version(frame, 0),
            LinkLayer::Ethernet => after_ethertype(frame, 12),
            LinkLayer::LinuxSll => after_ethertype(frame, 14),
            LinkLayer::LinuxSll2 => after(frame, big_endian_16(frame, 0)?, 20),
            LinkLayer::Loopback => {
                let family = frame.first_chunk().ok_or(SkipReason::HeadersTruncated)?;
                after_family(family, 4)
            }
            LinkLayer::Enc => {
                let family = frame.first_chunk().ok_or(SkipReason::HeadersTruncated)?;
                after_family(family, 12)
            }
            LinkLayer::PacketFilterLog => match *frame {
                // The header's length, without its padding to four bytes.
                [length, family, ..] => after_family(&[0, 0, 0, family], usize::from(length).next_multiple_of(4)),
                _ => Err(SkipReason::HeadersTruncated),
            },
            LinkLayer::Ppp => match frame.first() {
                // A serial line may use Cisco's framing instead (unicast or broadcast).
                Some(0x0f | 0x8f) => after_ethertype(frame, 2),
                _ => after_ppp(frame, 0),
            },
            LinkLayer::PppOverEthernet => after_ppp(frame, 6),
            LinkLayer::PppDaemon => after_ppp(frame, 2),
            LinkLayer::PppWithDirection => after_ppp(frame, 1),
            LinkLayer::CiscoHdlc => after_ethertype(frame, 2),
            LinkLayer::CiscoHdlcWithDirection => after_ethertype(frame, 3),
            LinkLayer::FrameRelay => after_frame_relay(frame, 0),
            LinkLayer::FrameRelayWithDirection => after_frame_relay(frame, 1),
            LinkLayer::Slip => by_version(frame, 16),
            LinkLayer::Llc => llc(0),
            LinkLayer::Fddi => llc(13),
            LinkLayer::IpOverFibreChannel => llc(16),
            LinkLayer::TokenRing => {
                // Source routing follows if the sender's group bit is set; its length includes itself.
                let sender = *frame.get(8).ok_or(SkipReason::HeadersTruncated)?;
                let routing = *frame.get(14).ok_or(SkipReason::HeadersTruncated)?;
                llc(14 + if sender & 0x80 != 0 { usize::from(routing & 0x1f) } else { 0 })
            }
            LinkLayer::SunAtm => match frame.first().ok_or(SkipReason::HeadersTruncated)? & 0x0f {
                2 => llc(4),
                _ => Err(SkipReason::NotIp),
            },
            LinkLayer::FireWire | LinkLayer::NetAnalyzer | LinkLayer::SwitchTag | LinkLayer::SwitchTagBefore => {
                after_ethertype(frame, 16)
            }
            LinkLayer::IpOverInfiniBand => after(frame, big_endian_16(frame, 40)?, 44),
            LinkLayer::NetfilterLog => after_netfilter_log(frame),
            LinkLayer::PacketTap => {
                let length = wireless::little_endian_32(frame, 0)? as usize;
                let link_type = wireless::little_endian_32(frame, 8)?;
                let inner = frame.get(length..).ok_or(SkipReason::HeadersTruncated)?;
                match LinkLayer::from_link_type(link_type) {
                    Some(LinkLayer::Ppi | LinkLayer::PacketTap) | None => Err(SkipReason::UnknownLinkType),
                    Some(layer) => Ok(length + layer.ip_offset(inner)?),
                }
            }
            LinkLayer::Wireless => wireless::after_80211(frame, 0, false),
            LinkLayer::RadioTap => wireless::after_radiotap(frame),
            LinkLayer::Ppi => wireless::after_ppi(frame),
            LinkLayer::Prism => wireless::after_avs_or_prism(frame),
        }
    }
}

/// Reads the two bytes at `offset`.
pub(super) fn big_endian_16(frame: &[u8], offset: usize) -> Result<u16, SkipReason> {
    match frame.get(offset..).and_then(<[u8]>::first_chunk) {
        Some(bytes) => Ok(u16::from_be_bytes(*bytes)),
        None => Err(SkipReason::HeadersTruncated),
    }
}

/// Like [`big_endian_16`].
pub(super) fn little_endian_16(frame: &[u8], offset: usize) -> Result<u16, SkipReason> {
    big_endian_16(frame, offset).map(u16::swap_bytes)
}

/// Checks that an IP packet begins at `offset`, recognisable only by its version.
pub(super) fn by_version(frame: &[u8], offset: usize) -> Result<usize, SkipReason> {
    match frame.get(offset).ok_or(SkipReason::HeadersTruncated)? >> 4 {
        4 | 6 => Ok(offset),
        _ => Err(SkipReason::NotIp),
    }
}

/// Checks an address family in the byte order of the capturing machine. 2 is AF_INET everywhere; AF_INET6 is 10 on
/// Linux, 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on macOS.
fn after_family(family: &[u8; 4], payload: usize) -> Result<usize, SkipReason> {
    let family = u32::from_be_bytes(*family);
    let family = if family > 0xffff { family.swap_bytes() } else { family };
    match family {
        2 | 10 | 24 | 28 | 30 => Ok(payload),
        _ => Err(SkipReason::NotIp),
    }
}

/// Follows an EtherType at `offset`; see [`after`].
pub(super) fn after_ethertype(frame: &[u8], offset: usize) -> Result<usize, SkipReason> {
    after(frame, big_endian_16(frame, offset)?, offset + 2)
}

/// Follows an EtherType, whose payload is at `payload`, through VLAN tags, LLC/SNAP, PPPoE and MPLS.
pub(super) fn after(frame: &[u8], mut ethertype: u16, mut payload: usize) -> Result<usize, SkipReason> {
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
            ETHERTYPE_CISCO_METADATA => {
                // Version, and the length of the options in units of four bytes.
                let length = frame.get(payload + 1).ok_or(SkipReason::HeadersTruncated)?;
                payload + 2 + 4 * usize::from(*length)
            }
            ETHERTYPE_MACSEC => after_security_tag(frame, payload)?,
            ETHERTYPE_NSH => match after_service_header(frame, payload)? {
                Service::Ip(offset) => return Ok(offset),
                Service::Ethernet(offset) => offset + 12,
            },
            length if length < SMALLEST_ETHERTYPE => match after_llc(frame, payload)? {
                Llc::Ip(offset) => return Ok(offset),
                Llc::EtherType(offset) => offset,
            },
            _ => return Err(SkipReason::NotIp),
        };
        ethertype = big_endian_16(frame, next)?;
        payload = next + 2;
    }
}

/// What follows an LLC header.
pub(super) enum Llc {
    /// An IP packet at this offset.
    Ip(usize),
    /// An EtherType at this offset.
    EtherType(usize),
}

/// Parses LLC (IEEE 802.2), with SNAP (IEEE 802, 9.5; RFC 1042), the encapsulation of IEEE 802.1H, IP's own service
/// access point, or a network-layer protocol identifier (RFC 2684, 5.1).
pub(super) fn after_llc(frame: &[u8], offset: usize) -> Result<Llc, SkipReason> {
    match frame.get(offset..offset + 3).ok_or(SkipReason::HeadersTruncated)? {
        [0xaa, 0xaa, 0x03] => match frame.get(offset + 3..offset + 6).ok_or(SkipReason::HeadersTruncated)? {
            [0, 0, 0 | 0xf8] => Ok(Llc::EtherType(offset + 6)),
            _ => Err(SkipReason::NotIp),
        },
        [0x06, 0x06, 0x03] => by_version(frame, offset + 3).map(Llc::Ip),
        [0xfe, 0xfe, 0x03] => after_network_identifier(frame, offset + 3),
        _ => Err(SkipReason::NotIp),
    }
}

/// Parses a network-layer protocol identifier (ISO/IEC TR 9577; RFC 2427).
fn after_network_identifier(frame: &[u8], offset: usize) -> Result<Llc, SkipReason> {
    match frame.get(offset).ok_or(SkipReason::HeadersTruncated)? {
        0xcc | 0x8e => Ok(Llc::Ip(offset + 1)),
        0x80 => match frame.get(offset + 1..offset + 4).ok_or(SkipReason::HeadersTruncated)? {
            [0, 0, 0] => Ok(Llc::EtherType(offset + 4)),
            _ => Err(SkipReason::NotIp),
        },
        _ => Err(SkipReason::NotIp),
    }
}

/// Parses frame relay (RFC 2427): an address of two to four bytes, whose last has its low bit set, then the control
/// byte and an identifier, or an EtherType in Cisco's variant.
fn after_frame_relay(frame: &[u8], start: usize) -> Result<usize, SkipReason> {
    let address = frame.get(start..).unwrap_or_default().iter().take(4).position(|byte| byte & 1 == 1);
    let offset = match address {
        Some(0) => return Err(SkipReason::MalformedHeader),
        Some(last) => start + last + 1,
        None if frame.len() < start + 4 => return Err(SkipReason::HeadersTruncated),
        None => return Err(SkipReason::MalformedHeader),
    };
    if *frame.get(offset).ok_or(SkipReason::HeadersTruncated)? != 0x03 {
        return after_ethertype(frame, offset);
    }
    // One byte of padding may align the identifier.
    let padding = usize::from(frame.get(offset + 1) == Some(&0));
    match after_network_identifier(frame, offset + 1 + padding)? {
        Llc::Ip(offset) => Ok(offset),
        Llc::EtherType(offset) => after_ethertype(frame, offset),
    }
}

/// Parses Linux's netfilter log: a family, then attributes, one of which is the packet.
fn after_netfilter_log(frame: &[u8]) -> Result<usize, SkipReason> {
    let payload_attribute = 9;
    let family = *frame.first().ok_or(SkipReason::HeadersTruncated)?;
    let mut offset = 4;
    loop {
        let length = usize::from(little_endian_16(frame, offset)?);
        // The two high bits are flags.
        if little_endian_16(frame, offset + 2)? & 0x3fff == payload_attribute {
            return after_family(&[0, 0, 0, family], offset + 4);
        }
        if length < 4 {
            return Err(SkipReason::MalformedHeader);
        }
        offset += length.next_multiple_of(4);
    }
}

/// Skips MPLS labels of four bytes each (RFC 3032); the payload is recognised by its IP version.
fn after_mpls(frame: &[u8], mut offset: usize) -> Result<usize, SkipReason> {
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
pub(super) fn after_ppp(frame: &[u8], mut offset: usize) -> Result<usize, SkipReason> {
    match frame.get(offset..) {
        Some([0xff, 0x03, ..]) => offset += 2,
        Some([0xff]) => return Err(SkipReason::HeadersTruncated),
        _ => {}
    }
    let first = *frame.get(offset).ok_or(SkipReason::HeadersTruncated)?;
    let (protocol, offset) =
        if first & 1 == 1 { (u16::from(first), offset + 1) } else { (big_endian_16(frame, offset)?, offset + 2) };
    match protocol {
        0x0021 | 0x0057 => Ok(offset),
        // MPLS, unicast and multicast (RFC 3032, section 4.3).
        0x0281 | 0x0283 => after_mpls(frame, offset),
        _ => Err(SkipReason::NotIp),
    }
}

/// Returns the EtherType's offset after the security tag of a frame that is authenticated but not encrypted (IEEE
/// 802.1AE, 9.3).
fn after_security_tag(frame: &[u8], offset: usize) -> Result<usize, SkipReason> {
    let (encrypted_or_changed, channel) = (0x0c, 0x20);
    let flags = *frame.get(offset).ok_or(SkipReason::HeadersTruncated)?;
    match flags & encrypted_or_changed {
        0 => Ok(offset + if flags & channel != 0 { 14 } else { 6 }),
        _ => Err(SkipReason::Encrypted),
    }
}

/// What follows a network service header.
pub(super) enum Service {
    Ip(usize),
    Ethernet(usize),
}

/// Parses a network service header (RFC 8300, section 2): its length in units of four bytes, and what follows.
pub(super) fn after_service_header(frame: &[u8], offset: usize) -> Result<Service, SkipReason> {
    let header: &[u8; 4] = frame.get(offset..).and_then(<[u8]>::first_chunk).ok_or(SkipReason::HeadersTruncated)?;
    let length = 4 * usize::from(header[1] & 0x3f);
    if length < 8 {
        return Err(SkipReason::MalformedHeader);
    }
    match header[3] {
        1 | 2 => by_version(frame, offset + length).map(Service::Ip),
        3 => Ok(Service::Ethernet(offset + length)),
        5 => after_mpls(frame, offset + length).map(Service::Ip),
        _ => Err(SkipReason::NotIp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(link_type: u32, header: &[u8]) -> Result<usize, SkipReason> {
        let mut frame = header.to_vec();
        frame.push(0x45);
        LinkLayer::from_link_type(link_type).unwrap().ip_offset(&frame)
    }

    #[test]
    fn every_link_layer_leads_to_the_ip_header() {
        let mac = [0u8; 12];
        let ethernet = |rest: &[u8]| offset(1, &[&mac[..], rest].concat());
        assert_eq!(ethernet(&[0x08, 0x00]), Ok(14));
        assert_eq!(ethernet(&[0x86, 0xdd]), Ok(14));
        assert_eq!(ethernet(&[0x81, 0x00, 0, 5, 0x08, 0x00]), Ok(18));
        assert_eq!(ethernet(&[0x88, 0xa8, 0, 5, 0x81, 0x00, 0, 6, 0x86, 0xdd]), Ok(22));
        assert_eq!(ethernet(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 40, 0, 0x21]), Ok(22));
        assert_eq!(ethernet(&[0x88, 0x47, 0, 0, 0, 64, 0, 0, 0x11, 64]), Ok(22));
        assert_eq!(ethernet(&[0, 60, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0]), Ok(22));
        let tagged =
            |ethertype: u16, tag: &[u8]| ethernet(&[&ethertype.to_be_bytes()[..], tag, &[0x86, 0xdd]].concat());
        assert_eq!(tagged(0x8926, &[0; 4]), Ok(20), "VN-Tag");
        assert_eq!(tagged(0x892f, &[0, 0x3c, 0, 1]), Ok(20), "HSR");
        assert_eq!(tagged(0x893f, &[0; 6]), Ok(22), "E-Tag");
        assert_eq!(tagged(0xdada, &[0; 6]), Ok(22), "EtherType DSA");
        assert_eq!(tagged(0x8909, &[1, 1, 0, 1, 0, 1]), Ok(22), "Cisco metadata");
        assert_eq!(tagged(0x8909, &[1, 2, 0, 1, 0, 1, 0, 1, 0, 1]), Ok(26), "Cisco metadata with two options");
        assert_eq!(tagged(0x88e5, &[0, 0, 0, 0, 0, 1]), Ok(22), "MACsec that authenticates");
        assert_eq!(tagged(0x88e5, &[0x20, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), Ok(30));
        assert_eq!(tagged(0x88e5, &[0x0c, 0, 0, 0, 0, 1]), Err(SkipReason::Encrypted), "MACsec that encrypts");
        assert_eq!(ethernet(&[0x89, 0x4f, 0, 2, 1, 1, 0, 0, 0, 0]), Ok(22), "NSH");
        let bridged = [&[0x89, 0x4f, 0, 2, 1, 3, 0, 0, 0, 0][..], &mac, &[8, 0]].concat();
        assert_eq!(ethernet(&bridged), Ok(36), "NSH with Ethernet");
        assert_eq!(ethernet(&[0x89, 0x4f, 0, 1, 1, 1, 0, 0, 0, 0]), Err(SkipReason::MalformedHeader));
        assert_eq!(ethernet(&[0x89, 0x4f, 0, 2, 1, 9, 0, 0, 0, 0]), Err(SkipReason::NotIp));
        for (link_type, expected) in [(281, 18), (282, 18), (284, 18)] {
            assert_eq!(offset(link_type, &[&[0; 16][..], &[8, 0]].concat()), Ok(expected));
        }
        assert_eq!(offset(285, &[&mac[..], &[0xda, 0xda], &[0; 6], &[8, 0]].concat()), Ok(22));
        assert_eq!(offset(9, &[0xff, 3, 2, 0x81, 0, 0, 0x11, 64]), Ok(8));
        assert_eq!(ethernet(&[0, 60, 0x42, 0x42, 3, 0, 0, 0]), Err(SkipReason::NotIp));
        assert_eq!(ethernet(&[0x08, 0x06]), Err(SkipReason::NotIp));
        assert_eq!(ethernet(&[]), Err(SkipReason::HeadersTruncated));
        assert_eq!(ethernet(&[0x81, 0x00, 0]), Err(SkipReason::HeadersTruncated));
        for raw in [12, 14, 101, 228, 229] {
            assert_eq!(offset(raw, &[]), Ok(0));
            assert_eq!(offset(raw, &[0x10]), Err(SkipReason::NotIp));
        }
        assert_eq!(offset(113, &[&[0; 14][..], &[8, 0]].concat()), Ok(16));
        assert_eq!(offset(276, &[&[0x86, 0xdd][..], &[0; 18]].concat()), Ok(20));
        assert_eq!(offset(0, &[2, 0, 0, 0]), Ok(4));
        assert_eq!(offset(0, &[0, 0, 0, 30]), Ok(4));
        assert_eq!(offset(108, &[0, 0, 0, 2]), Ok(4));
        assert_eq!(offset(108, &[0, 0, 0, 7]), Err(SkipReason::NotIp));
        assert_eq!(offset(9, &[0xff, 3, 0, 0x21]), Ok(4));
        assert_eq!(offset(9, &[0x21]), Ok(1));
        assert_eq!(offset(51, &[0x11, 0, 0, 1, 0, 40, 0, 0x57]), Ok(8));
        assert_eq!(LinkLayer::from_link_type(147), None);
    }
}
