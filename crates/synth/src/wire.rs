//! Frames on the wire: Ethernet (with or without an 802.1Q tag) or raw IP, IPv4 (RFC 791) or IPv6 (RFC 8200), with
//! checksums as defined by RFC 1071.

use std::net::IpAddr;

/// The sender: the side that opened the conversation, or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Opened the conversation; the capture is taken next to it.
    Client,
    /// Answers.
    Server,
}

impl Side {
    /// Returns the other side.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// The bytes before the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// Ethernet II, with an 802.1Q tag of this VLAN if given.
    Ethernet(Option<u16>),
    /// Nothing: captured on a tunnel interface.
    RawIp,
}

impl Link {
    /// Returns the link type for a pcap file's header (LINKTYPE_ETHERNET, LINKTYPE_RAW).
    pub(super) fn link_type(self) -> u32 {
        match self {
            Self::Ethernet(_) => 1,
            Self::RawIp => 101,
        }
    }
}

/// One end of a conversation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// Link-layer address; for the server, that of the gateway.
    pub(super) hardware: [u8; 6],
    /// Time to live on arrival at the capture.
    pub(super) ttl: u8,
    /// The DSCP and ECN byte.
    pub(super) service: u8,
}

/// One frame of a capture.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// Nanoseconds since the Unix epoch.
    pub(super) at: i64,
    /// The bytes, from the link layer on.
    pub(super) bytes: Vec<u8>,
    /// Where the IP header begins in `bytes`.
    pub(super) network_offset: usize,
    /// The sender.
    pub(super) from: Side,
}

/// IP protocol number of TCP.
pub(super) const TCP: u8 = 6;
/// IP protocol number of UDP.
pub(super) const UDP: u8 = 17;
/// Ethernet frames are at least this long without the frame check sequence.
const ETHERNET_MINIMUM: usize = 60;

/// Adds big-endian 16-bit words to a running ones' complement sum; an odd last byte counts as a high byte.
fn sum_words(mut sum: u32, bytes: &[u8]) -> u32 {
    let mut words = bytes.chunks_exact(2);
    for word in &mut words {
        sum += u32::from(u16::from_be_bytes([word[0], word[1]]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    if let [last] = words.remainder() {
        sum += u32::from(*last) << 8;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// Computes the checksum of a transport segment with its pseudo-header (RFC 9293, 768, 8200 section 8.1). The segment's
/// checksum field must be zero.
fn transport_checksum(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let mut sum = 0;
    for address in [source, destination] {
        sum = match address {
            IpAddr::V4(address) => sum_words(sum, &address.octets()),
            IpAddr::V6(address) => sum_words(sum, &address.octets()),
        };
    }
    sum = sum_words(sum, &[0, protocol]);
    sum = sum_words(sum, &(segment.len() as u32).to_be_bytes());
    let checksum = !(sum_words(sum, segment) as u16);
    // A UDP checksum of zero would mean "none".
    if protocol == UDP && checksum == 0 { 0xffff } else { checksum }
}

/// Updates a checksum after a change of one 16-bit word that it covers (RFC 1624, equation 3).
pub(super) fn updated_checksum(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

/// Builds the IP packet around a transport segment whose checksum field (at `checksum_offset`) is zero.
fn ip_packet(
    source: &Endpoint,
    destination: &Endpoint,
    identification: u16,
    protocol: u8,
    segment: &mut [u8],
    checksum_offset: usize,
) -> Vec<u8> {
    let checksum = transport_checksum(source.address, destination.address, protocol, segment);
    segment[checksum_offset..checksum_offset + 2].copy_from_slice(&checksum.to_be_bytes());
    let mut packet = Vec::with_capacity(40 + segment.len());
    match (source.address, destination.address) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet.extend([0x45, source.service]);
            packet.extend((20 + segment.len() as u16).to_be_bytes());
            packet.extend(identification.to_be_bytes());
            // Do not fragment.
            packet.extend([0x40, 0, source.ttl, protocol, 0, 0]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            let checksum = !(sum_words(0, &packet) as u16);
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            // One flow label per conversation and direction, as hosts choose it (RFC 6437).
            let label = (u32::from(source.port) << 4 ^ u32::from(destination.port) ^ 0x5a5a) & 0xf_ffff;
            packet.extend((0x6000_0000 | u32::from(source.service) << 20 | label).to_be_bytes());
            packet.extend((segment.len() as u16).to_be_bytes());
            packet.extend([protocol, source.ttl]);
            packet.extend(from.octets());
            packet.extend(to.octets());
        }
        _ => unreachable!("both ends of a path have the same address family"),
    }
    packet.extend_from_slice(segment);
    packet
}

/// Builds the frame around a transport segment, and returns it with the offset of its IP header.
pub(super) fn frame(
    link: Link,
    source: &Endpoint,
    destination: &Endpoint,
    identification: u16,
    protocol: u8,
    segment: &mut [u8],
) -> (Vec<u8>, usize) {
    let checksum_offset = if protocol == TCP { 16 } else { 6 };
    let packet = ip_packet(source, destination, identification, protocol, segment, checksum_offset);
    let Link::Ethernet(vlan) = link else { return (packet, 0) };
    let mut bytes = Vec::with_capacity(18 + packet.len());
    bytes.extend(destination.hardware);
    bytes.extend(source.hardware);
    if let Some(vlan) = vlan {
        bytes.extend([0x81, 0x00]);
        bytes.extend(vlan.to_be_bytes());
    }
    bytes.extend(if source.address.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
    let network_offset = bytes.len();
    bytes.extend(packet);
    (bytes, network_offset)
}

/// Pads a frame received from the wire to Ethernet's minimum length. Frames sent by the capturing host are captured
/// before the network card pads them.
pub(super) fn pad_to_minimum(bytes: &mut Vec<u8>) {
    if bytes.len() < ETHERNET_MINIMUM {
        bytes.resize(ETHERNET_MINIMUM, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071, section 3.
    #[test]
    fn the_sum_of_rfc_1071() {
        assert_eq!(sum_words(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    #[test]
    fn an_updated_checksum_is_the_recomputed_one() {
        let mut words = [0x12, 0x34, 0xab, 0xcd, 0xff, 0xfe];
        let before = !(sum_words(0, &words) as u16);
        words[2..4].copy_from_slice(&[0x55, 0x01]);
        assert_eq!(updated_checksum(before, 0xabcd, 0x5501), !(sum_words(0, &words) as u16));
    }
}
