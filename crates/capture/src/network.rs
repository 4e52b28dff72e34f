//! Network and transport headers, as far as they were captured: IPv4 (RFC 791) and IPv6 (RFC 8200) with extension
//! headers in any order, then the few fields of TCP and UDP that a packet needs; on request, through tunnels.
//!
//! They are parsed here rather than with `etherparse`, which gives up on extension headers that are out of order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::datagram::{Datagram, Datagrams};
use super::field::{Header, PacketField};
use super::field::{
    IPV4_HEADER, IPV4_PROTOCOL, IPV6_HEADER, IPV6_NEXT_HEADER, TCP_DATA_OFFSET, TCP_HEADER, UDP_HEADER,
};
use super::field::{extension_length, header_length};
use super::packet::{Fragment, HeaderLayout, Transport};
use super::skip::{Protocol, Skip, SkipReason};
use super::tunnel::{self, MOST_TUNNELS, Tunnels};

/// Length of the two ports; without them, there is no five-tuple.
const PORTS: usize = 4;

// Offsets of the fields read here, taken from the table of fields at compile time.
const IPV4_LENGTH: usize = PacketField::IpLength.at(Header::Ipv4);
const IPV4_IDENTIFICATION: usize = PacketField::IpIdentification.at(Header::Ipv4);
const IPV4_FRAGMENT: usize = PacketField::IpFragment.at(Header::Ipv4);
const IPV4_SOURCE: usize = PacketField::IpSource.at(Header::Ipv4);
const IPV4_DESTINATION: usize = PacketField::IpDestination.at(Header::Ipv4);
pub(super) const IPV6_LENGTH: usize = PacketField::IpLength.at(Header::Ipv6);
const IPV6_SOURCE: usize = PacketField::IpSource.at(Header::Ipv6);
const IPV6_DESTINATION: usize = PacketField::IpDestination.at(Header::Ipv6);
pub(super) const SOURCE_PORT: usize = PacketField::SourcePort.at(Header::Udp);
pub(super) const DESTINATION_PORT: usize = PacketField::DestinationPort.at(Header::Udp);
pub(super) const UDP_LENGTH: usize = PacketField::UdpLength.at(Header::Udp);
const TCP_FLAGS: usize = PacketField::TcpFlags.at(Header::Tcp);
const TCP_WINDOW: usize = PacketField::TcpWindow.at(Header::Tcp);

/// Protocol numbers (IANA, "Assigned Internet Protocol Numbers").
pub(super) mod protocol {
    pub(in super::super) const HOP_BY_HOP: u8 = 0;
    pub(in super::super) const IPV4: u8 = 4;
    pub(in super::super) const TCP: u8 = 6;
    pub(in super::super) const UDP: u8 = 17;
    pub(in super::super) const IPV6: u8 = 41;
    pub(in super::super) const ROUTING: u8 = 43;
    pub(in super::super) const FRAGMENT: u8 = 44;
    pub(in super::super) const GRE: u8 = 47;
    pub(in super::super) const AUTHENTICATION: u8 = 51;
    pub(in super::super) const DESTINATION_OPTIONS: u8 = 60;
    pub(in super::super) const MULTICAST: u8 = 103;
    pub(in super::super) const MOBILITY: u8 = 135;
    pub(in super::super) const HOST_IDENTITY: u8 = 139;
    pub(in super::super) const SHIM6: u8 = 140;
}

/// The decoded headers of one IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    /// Captured length, without padding.
    pub(super) captured_length: usize,
    pub(super) network_length: u32,
    pub(super) payload_length: u32,
    pub(super) layout: HeaderLayout,
    pub(super) tcp_flags: u8,
    pub(super) tcp_window: u16,
    /// Whether the transport header was cut after the ports.
    pub(super) partial_transport_header: bool,
    /// The packet's position in a fragmented datagram.
    pub(super) fragment: Option<Fragment>,
}

/// The network layer, as far as the layers above need it.
pub(super) struct Network {
    source: IpAddr,
    destination: IpAddr,
    /// Protocol after the IP header and its extension headers.
    pub(super) protocol: u8,
    /// Offset of that protocol's header.
    pub(super) payload_offset: usize,
    /// Length of the IP packet.
    length: usize,
    fragment: Option<Fragment>,
    /// Whether extension headers follow the header of the fragment, and only the first fragment contains them.
    is_extended_fragment: bool,
}

impl Network {
    /// Whether this is a fragment after the first, which has no transport header.
    pub(super) fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|fragment| fragment.offset > 0)
    }

    /// Whether the next header is one of those that the protocol stack steps over.
    fn is_extended(&self) -> bool {
        match self.source {
            IpAddr::V4(_) => self.protocol == protocol::AUTHENTICATION,
            IpAddr::V6(_) => extension_length(self.protocol, 0).is_some(),
        }
    }

    fn datagram(&self, fragment: Fragment) -> Datagram {
        (self.source, self.destination, fragment.identification)
    }
}

/// Decodes the IP packet in `bytes`, or with [`Tunnels::Inner`] the innermost one it carries, and returns that packet's
/// offset and headers. `wire_length` is the length before truncation by the capture, including padding.
pub(super) fn decode(
    bytes: &[u8],
    wire_length: usize,
    tunnels: Tunnels,
    datagrams: &mut Datagrams,
) -> Result<(usize, Headers), Skip> {
    let mut bytes = bytes;
    let mut wire_length = wire_length.max(bytes.len());
    let mut start = 0;
    for _ in 0..=MOST_TUNNELS {
        let network = network(bytes, wire_length)?;
        bytes = &bytes[..bytes.len().min(network.length)];
        let inner = match tunnels {
            Tunnels::Outer => None,
            Tunnels::Inner => tunnel::inner_packet(bytes, &network)?,
        };
        let Some(inner) = inner else {
            let headers = match network.fragment {
                Some(fragment) if fragment.offset > 0 => later_fragment(bytes, &network, fragment, datagrams)?,
                Some(fragment) if network.is_extended_fragment => {
                    let transport = transport_of(&network);
                    datagrams.remember(network.datagram(fragment), transport.ok());
                    transport_header(bytes, &network)?
                }
                _ => transport_header(bytes, &network)?,
            };
            return Ok((start, headers));
        };
        // The inner packet cannot be longer than its carrier's payload, captured or not.
        wire_length = network.length.saturating_sub(inner);
        bytes = bytes.get(inner..).ok_or(SkipReason::HeadersTruncated)?;
        start += inner;
    }
    Err(SkipReason::NestedTooDeep.into())
}

fn network(bytes: &[u8], wire_length: usize) -> Result<Network, SkipReason> {
    let missing = if bytes.len() < wire_length { SkipReason::HeadersTruncated } else { SkipReason::MalformedHeader };
    match bytes.first().ok_or(missing)? >> 4 {
        4 => ipv4(bytes.first_chunk().ok_or(missing)?, bytes, wire_length),
        6 => ipv6(bytes.first_chunk().ok_or(missing)?, bytes, wire_length),
        _ => Err(SkipReason::MalformedHeader),
    }
}

fn ipv4(header: &[u8; IPV4_HEADER], bytes: &[u8], wire_length: usize) -> Result<Network, SkipReason> {
    let header_length = header_length(header[0]);
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let length = match usize::from(word(IPV4_LENGTH)) {
        // The length was left to the network card's segmentation offload: use the frame's length.
        0 => wire_length,
        length => length,
    };
    if header_length < IPV4_HEADER || length < header_length {
        return Err(SkipReason::MalformedHeader);
    }
    let fragment = Fragment::of_ipv4(word(IPV4_IDENTIFICATION), word(IPV4_FRAGMENT));
    let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    let mut network = Network {
        source: address(IPV4_SOURCE).into(),
        destination: address(IPV4_DESTINATION).into(),
        protocol: header[IPV4_PROTOCOL],
        payload_offset: header_length,
        length,
        fragment: (fragment.offset > 0 || fragment.more).then_some(fragment),
        is_extended_fragment: false,
    };
    while network.is_extended() && !network.is_later_fragment() {
        extension_header(bytes, &mut network)?;
    }
    Ok(network)
}

fn ipv6(header: &[u8; IPV6_HEADER], bytes: &[u8], wire_length: usize) -> Result<Network, SkipReason> {
    let address = |at: usize| {
        let mut address = [0; 16];
        address.copy_from_slice(&header[at..at + 16]);
        IpAddr::V6(Ipv6Addr::from(address))
    };
    let mut network = Network {
        source: address(IPV6_SOURCE),
        destination: address(IPV6_DESTINATION),
        protocol: header[IPV6_NEXT_HEADER],
        payload_offset: IPV6_HEADER,
        length: match usize::from(u16::from_be_bytes([header[IPV6_LENGTH], header[IPV6_LENGTH + 1]])) {
            // A jumbogram (RFC 2675) or a segment before offloaded segmentation: use the frame's length.
            0 => wire_length,
            length => IPV6_HEADER + length,
        },
        fragment: None,
        is_extended_fragment: false,
    };
    while network.is_extended() && !network.is_later_fragment() {
        extension_header(bytes, &mut network)?;
    }
    Ok(network)
}

/// Steps over one extension header. Each has at least eight bytes, so the packet's length limits their number.
fn extension_header(bytes: &[u8], network: &mut Network) -> Result<(), SkipReason> {
    let at = network.payload_offset;
    if network.length < at + 8 {
        return Err(SkipReason::MalformedHeader);
    }
    let Some(&[next, length, high, low, a, b, c, d]) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
        return Err(SkipReason::HeadersTruncated);
    };
    network.is_extended_fragment = network.fragment.is_some();
    if network.protocol == protocol::FRAGMENT && network.fragment.is_none() {
        let fragment = Fragment::of_ipv6(u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([high, low]));
        // An atomic fragment (RFC 6946) is whole. The first of several fragment headers is the outermost.
        network.fragment = (fragment.offset > 0 || fragment.more).then_some(fragment);
    }
    let length = extension_length(network.protocol, length).ok_or(SkipReason::MalformedHeader)?;
    if network.length < at + length {
        return Err(SkipReason::MalformedHeader);
    }
    network.protocol = next;
    network.payload_offset = at + length;
    Ok(())
}

fn transport_of(network: &Network) -> Result<Transport, Skip> {
    match network.protocol {
        protocol::TCP => Ok(Transport::Tcp),
        protocol::UDP => Ok(Transport::Udp),
        other => Err(Protocol::Ip(other).into()),
    }
}

fn as_u16(offset: usize) -> Result<u16, SkipReason> {
    u16::try_from(offset).map_err(|_| SkipReason::MalformedHeader)
}

fn as_u32(length: usize) -> Result<u32, SkipReason> {
    u32::try_from(length).map_err(|_| SkipReason::MalformedHeader)
}

/// Returns the headers of a fragment after the first: addresses, then only payload after the IP header.
fn later_fragment(bytes: &[u8], network: &Network, fragment: Fragment, datagrams: &Datagrams) -> Result<Headers, Skip> {
    let transport = if network.is_extended() {
        match datagrams.of(network.datagram(fragment)) {
            Some(Some(transport)) => transport,
            Some(None) => return Err(SkipReason::NotTcpOrUdp.into()),
            None => return Err(SkipReason::FragmentWithoutPorts.into()),
        }
    } else {
        transport_of(network)?
    };
    let offset = as_u16(network.payload_offset)?;
    let declared = network.length.checked_sub(network.payload_offset).ok_or(SkipReason::MalformedHeader)?;
    Ok(Headers {
        source: SocketAddr::new(network.source, 0),
        destination: SocketAddr::new(network.destination, 0),
        captured_length: bytes.len(),
        network_length: as_u32(network.length)?,
        payload_length: as_u32(declared)?,
        layout: HeaderLayout { transport_offset: offset, payload_offset: offset, transport },
        tcp_flags: 0,
        tcp_window: 0,
        partial_transport_header: false,
        fragment: network.fragment,
    })
}

/// Decodes the ports, and as much of the rest of the transport header as was captured.
fn transport_header(bytes: &[u8], network: &Network) -> Result<Headers, Skip> {
    let transport = transport_of(network)?;
    let transport_offset = network.payload_offset;
    let fragmented = network.fragment.is_some();
    let declared = network.length.saturating_sub(transport_offset);
    let header = bytes.get(transport_offset..).unwrap_or_default();
    let least = match transport {
        Transport::Tcp => TCP_HEADER,
        Transport::Udp => UDP_HEADER,
    };
    // A first fragment may end inside the transport header (RFC 1858 calls it an attack, but it has ports).
    if declared < if fragmented { PORTS } else { least } {
        return Err(SkipReason::MalformedHeader.into());
    }
    let word = |at: usize| Some(u16::from_be_bytes([*header.get(at)?, *header.get(at + 1)?]));
    let (Some(source_port), Some(destination_port)) = (word(SOURCE_PORT), word(DESTINATION_PORT)) else {
        return Err(SkipReason::HeadersTruncated.into());
    };
    let (header_length, payload_limit) = match transport {
        Transport::Tcp => {
            (header.get(TCP_DATA_OFFSET).map_or(TCP_HEADER, |byte| usize::from(byte >> 4) * 4), usize::MAX)
        }
        Transport::Udp => match word(UDP_LENGTH) {
            // 0 marks a jumbogram (RFC 2675).
            None | Some(0) => (UDP_HEADER, usize::MAX),
            Some(datagram) => {
                let payload = usize::from(datagram).checked_sub(UDP_HEADER);
                (UDP_HEADER, payload.ok_or(SkipReason::MalformedHeader)?)
            }
        },
    };
    if header_length < least || (header_length > declared && !fragmented) {
        return Err(SkipReason::MalformedHeader.into());
    }
    let is_tcp = transport == Transport::Tcp;
    Ok(Headers {
        source: SocketAddr::new(network.source, source_port),
        destination: SocketAddr::new(network.destination, destination_port),
        captured_length: bytes.len(),
        network_length: as_u32(network.length)?,
        payload_length: as_u32(declared.saturating_sub(header_length).min(payload_limit))?,
        layout: HeaderLayout {
            transport_offset: as_u16(transport_offset)?,
            payload_offset: as_u16(transport_offset + header_length)?,
            transport,
        },
        tcp_flags: if is_tcp { header.get(TCP_FLAGS).copied().unwrap_or(0) } else { 0 },
        tcp_window: word(TCP_WINDOW).filter(|_| is_tcp).unwrap_or(0),
        partial_transport_header: header.len() < header_length,
        fragment: network.fragment,
    })
}
