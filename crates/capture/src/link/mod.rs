//! Link layers: locates the IP packet in a frame. One table lists the supported link types; the modules below read the
//! headers that several of them share.
//!
//! These headers are a few fixed bytes each, and parsed here rather than with `etherparse`, which supports neither
//! Linux SLL2 nor loopback, raw IP, PPP and MPLS, and rejects SLL frames of unlisted hardware.

mod juniper;
mod next;
#[cfg(test)]
mod tests;
mod wireless;

use juniper::Card;
pub(super) use next::{
    ETHERTYPE_BRIDGED_ETHERNET, ETHERTYPE_MPLS_UNICAST, ETHERTYPE_PPP, Service, after, after_ppp, after_service_header,
    big_endian_16, by_version,
};
use next::{
    after_ethertype, after_family, after_frame_relay, after_llc, after_multilink_frame_relay, byte, little_endian_16,
    little_endian_32,
};

use super::skip::{Protocol, Skip, SkipReason};

/// The offset of the IP header in a frame, which may be past the captured bytes, or why there is none.
pub(super) type IpOffset = Result<usize, Skip>;

/// A link layer and its numbers in the registry of link types, <https://www.tcpdump.org/linktypes.html>.
pub(super) struct LinkLayer {
    /// Name for messages.
    name: &'static str,
    numbers: &'static [u32],
    locate: fn(&[u8]) -> IpOffset,
}

const fn row(name: &'static str, numbers: &'static [u32], locate: fn(&[u8]) -> IpOffset) -> LinkLayer {
    LinkLayer { name, numbers, locate }
}

/// macOS's header of a packet filter that sees several interfaces, and the user link type that macOS writes it with.
const PACKET_TAP: u32 = 258;
const USER_2: u32 = 149;
const PER_PACKET_INFORMATION: u32 = 192;

/// The supported link types.
const LINK_LAYERS: &[LinkLayer] = &[
    row("Ethernet", &[1], ethernet),
    row("raw IP", &[12, 14, 101, 228, 229], |frame| by_version(frame, 0)),
    row("Linux SLL", &[113], |frame| after_ethertype(frame, 14)),
    row("Linux SLL2", &[276], |frame| after(frame, big_endian_16(frame, 0)?, 20)),
    row("BSD loopback", &[0, 108], |frame| after_family(first_four(frame)?, 4)),
    row("PPP", &[9, 50], serial_ppp),
    row("PPP with a direction", &[204], |frame| after_ppp(frame, 1)),
    row("pppd", &[166], |frame| after_ppp(frame, 2)),
    row("PPPoE", &[51], |frame| after_ppp(frame, 6)),
    row("802.11", &[105], |frame| wireless::after_80211(frame, 0, false)),
    row("802.11 with radiotap", &[127], wireless::after_radiotap),
    row("AVS or Prism", &[163, 119], wireless::after_avs_or_prism),
    row("PPI", &[PER_PACKET_INFORMATION], per_packet_information),
    row("Cisco HDLC", &[104], |frame| after_ethertype(frame, 2)),
    row("Cisco HDLC with a direction", &[205], |frame| after_ethertype(frame, 3)),
    row("frame relay", &[107], |frame| after_frame_relay(frame, 0)),
    row("frame relay with a direction", &[206], |frame| after_frame_relay(frame, 1)),
    row("multilink frame relay", &[182], |frame| after_multilink_frame_relay(frame, 0)),
    row("token ring", &[6], token_ring),
    row("FDDI", &[10], |frame| after_llc(frame, 13)),
    row("ARCNET (BSD)", &[7], arcnet_bsd),
    row("ARCNET (Linux)", &[129], arcnet_linux),
    row("SLIP", &[8], |frame| by_version(frame, 16)),
    row("ATM (RFC 2684)", &[100], |frame| after_llc(frame, 0)),
    row("classical IP over ATM", &[106], classical_ip),
    row("SunATM", &[123], sun_atm),
    row("OpenBSD enc", &[109], |frame| after_family(first_four(frame)?, 12)),
    row("OpenBSD pflog", &[117], packet_filter_log),
    row("Fibre Channel", &[122], |frame| after_llc(frame, 16)),
    row("FireWire", &[138], |frame| after_ethertype(frame, 16)),
    row("Solaris ipnet", &[226], solaris_ipnet),
    row("nflog", &[239], netfilter_log),
    row("netANALYZER", &[240], |frame| after_ethertype(frame, 16)),
    row("InfiniBand", &[242], |frame| after(frame, big_endian_16(frame, 40)?, 44)),
    // Four bytes after the addresses (Marvell, Broadcom) or before the frame (Broadcom), or a tag with an EtherType.
    row("switch tags", &[281, 282, 284], |frame| after_ethertype(frame, 16)),
    row("switch tags with an EtherType", &[285], ethernet),
    row("pktap", &[PACKET_TAP], packet_tap),
    row("pktap of macOS", &[USER_2], user_packet_tap),
    row("Juniper Ethernet", &[178, 167], |frame| juniper::locate(frame, Card::Ethernet)),
    row("Juniper PPP", &[179], |frame| juniper::locate(frame, Card::Ppp)),
    row("Juniper frame relay", &[180], |frame| juniper::locate(frame, Card::FrameRelay)),
    row("Juniper Cisco HDLC", &[181], |frame| juniper::locate(frame, Card::CiscoHdlc)),
    row("Juniper PPPoE over ATM", &[168], |frame| juniper::locate(frame, Card::EtherType)),
    row("Juniper ATM", &[137], |frame| juniper::locate(frame, Card::Atm1)),
    row("Juniper ATM2", &[135], |frame| juniper::locate(frame, Card::Atm2)),
    row("Juniper multilink PPP", &[130], |frame| juniper::locate(frame, Card::MultilinkPpp)),
    row("Juniper multilink frame relay", &[131], |frame| juniper::locate(frame, Card::MultilinkFrameRelay)),
    row("Juniper multilink frame relay, user to network", &[134], |frame| {
        juniper::locate(frame, Card::UserMultilinkFrameRelay)
    }),
    row("Juniper IPsec", &[132], |frame| juniper::locate(frame, Card::Ipsec)),
    row("Juniper services and monitor", &[136, 164], |frame| juniper::locate(frame, Card::Services)),
    row("Juniper GGSN", &[133], |frame| juniper::locate(frame, Card::Gateway)),
    row("Juniper voice", &[183], |frame| juniper::locate(frame, Card::Voice)),
];

impl LinkLayer {
    /// Returns the link layer with this number.
    pub(super) fn from_link_type(link_type: u32) -> Option<&'static LinkLayer> {
        LINK_LAYERS.iter().find(|layer| layer.numbers.contains(&link_type))
    }

    /// Locates the IP header in a frame.
    pub(super) fn ip_offset(&self, frame: &[u8]) -> IpOffset {
        (self.locate)(frame)
    }
}

/// Lists the supported link types with their numbers, for messages.
pub(super) fn supported() -> String {
    let numbers = |layer: &LinkLayer| layer.numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let rows: Vec<String> = LINK_LAYERS.iter().map(|layer| format!("{} ({})", layer.name, numbers(layer))).collect();
    rows.join(", ")
}

/// Locates the IP header in an Ethernet frame.
pub(super) fn ethernet(frame: &[u8]) -> IpOffset {
    after_ethertype(frame, 12)
}

/// Returns the address family, or another number, at the start of a frame.
fn first_four(frame: &[u8]) -> Result<[u8; 4], SkipReason> {
    frame.first_chunk().copied().ok_or(SkipReason::HeadersTruncated)
}

/// Locates the IP header after `length` bytes that name the link type of the rest.
fn of_link_type(frame: &[u8], link_type: u32, length: usize) -> IpOffset {
    let inner = frame.get(length..).ok_or(SkipReason::HeadersTruncated)?;
    match LinkLayer::from_link_type(link_type) {
        Some(layer) if ![PER_PACKET_INFORMATION, PACKET_TAP, USER_2].contains(&link_type) => {
            Ok(length + layer.ip_offset(inner)?)
        }
        _ => Err(Protocol::LinkType(link_type).into()),
    }
}

/// Parses a per-packet information header (CACE, "PPI Header format"), which names the next link type.
fn per_packet_information(frame: &[u8]) -> IpOffset {
    let length = usize::from(little_endian_16(frame, 2)?);
    of_link_type(frame, little_endian_32(frame, 4)?, length)
}

/// Parses macOS's packet tap header (bsd/net/pktap.h): its length, the kind of record, and the next link type.
fn packet_tap(frame: &[u8]) -> IpOffset {
    let length = little_endian_32(frame, 0)? as usize;
    of_link_type(frame, little_endian_32(frame, 8)?, length)
}

/// Like [`packet_tap`] under a link type that anyone may use: the header must be one of a packet.
fn user_packet_tap(frame: &[u8]) -> IpOffset {
    let (packet, shortest, longest) = (1, 108, 1024);
    let is_header =
        (shortest..=longest).contains(&little_endian_32(frame, 0)?) && little_endian_32(frame, 4)? == packet;
    if is_header { packet_tap(frame) } else { Err(Protocol::LinkType(USER_2).into()) }
}

/// Parses PPP of a serial line, which may use Cisco's framing instead (unicast or broadcast).
fn serial_ppp(frame: &[u8]) -> IpOffset {
    match frame.first() {
        Some(0x0f | 0x8f) => after_ethertype(frame, 2),
        _ => after_ppp(frame, 0),
    }
}

/// Parses token ring (IEEE 802.5). Source routing follows if the sender's group bit is set; its length includes itself.
fn token_ring(frame: &[u8]) -> IpOffset {
    let (sender, routing) = (byte(frame, 8)?, byte(frame, 14)?);
    after_llc(frame, 14 + if sender & 0x80 != 0 { usize::from(routing & 0x1f) } else { 0 })
}

/// Protocols of ARCNET: IPv4 of RFC 1201 and 1051, and IPv6 (RFC 2497).
const ARCNET_IPV4: u8 = 212;
const ARCNET_IPV4_OLD: u8 = 240;
const ARCNET_IPV6: u8 = 196;
/// ARP of RFC 1051 and diagnosis, which have the short header too.
const ARCNET_SHORT: [u8; 3] = [ARCNET_IPV4_OLD, 241, 128];

fn arcnet(protocol: u8, payload: usize) -> IpOffset {
    match protocol {
        ARCNET_IPV4 | ARCNET_IPV4_OLD | ARCNET_IPV6 => Ok(payload),
        other => Err(Protocol::Arcnet(other).into()),
    }
}

/// Parses ARCNET as BSD delivers it: addresses, protocol, and in the long header (RFC 1201) a split flag with a sequence
/// number, repeated after an exception frame's. An even flag other than 0 is a fragment after the first.
fn arcnet_bsd(frame: &[u8]) -> IpOffset {
    let protocol = byte(frame, 2)?;
    if ARCNET_SHORT.contains(&protocol) {
        return arcnet(protocol, 3);
    }
    let (flag, payload) = match byte(frame, 3)? {
        0xff => (byte(frame, 7)?, 10),
        flag => (flag, 6),
    };
    if flag != 0 && flag & 1 == 0 {
        return Err(SkipReason::FragmentWithoutPorts.into());
    }
    arcnet(protocol, payload)
}

/// Parses ARCNET as Linux delivers it, reassembled: two bytes of offset before the protocol.
fn arcnet_linux(frame: &[u8]) -> IpOffset {
    let protocol = byte(frame, 4)?;
    arcnet(protocol, if ARCNET_SHORT.contains(&protocol) { 5 } else { 8 })
}

/// Parses classical IP over ATM (RFC 2225): LLC and SNAP, or an IP packet alone.
fn classical_ip(frame: &[u8]) -> IpOffset {
    match byte(frame, 0)? {
        0xaa => after_llc(frame, 0),
        _ => by_version(frame, 0),
    }
}

/// Parses SunATM: the low bits of the first byte name the content, 2 being LLC.
fn sun_atm(frame: &[u8]) -> IpOffset {
    match byte(frame, 0)? & 0x0f {
        2 => after_llc(frame, 4),
        _ => Err(SkipReason::NotIp.into()),
    }
}

/// Parses OpenBSD's packet filter log: the header's length, without its padding to four bytes, and the address family.
fn packet_filter_log(frame: &[u8]) -> IpOffset {
    let (length, family) = (byte(frame, 0)?, byte(frame, 1)?);
    after_family([0, 0, 0, family], usize::from(length).next_multiple_of(4))
}

/// Parses the header of Solaris's ipnet devices, whose family is 2 for IPv4 and 26 for IPv6.
fn solaris_ipnet(frame: &[u8]) -> IpOffset {
    match byte(frame, 1)? {
        2 | 26 => Ok(24),
        family => Err(Protocol::Family(u32::from(family)).into()),
    }
}

/// Parses Linux's netfilter log: a family, then attributes, one of which is the packet.
fn netfilter_log(frame: &[u8]) -> IpOffset {
    let payload_attribute = 9;
    let family = byte(frame, 0)?;
    let mut offset = 4;
    loop {
        let length = usize::from(little_endian_16(frame, offset)?);
        // The two high bits are flags.
        if little_endian_16(frame, offset + 2)? & 0x3fff == payload_attribute {
            return after_family([0, 0, 0, family], offset + 4);
        }
        if length < 4 {
            return Err(SkipReason::MalformedHeader.into());
        }
        offset += length.next_multiple_of(4);
    }
}
