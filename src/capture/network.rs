//! Network and transport headers: IPv4 and IPv6 through `etherparse`'s lax slices, which accept packets
//! cut by the snap length, then the few fields of TCP and UDP that a packet needs, as far as captured.

use std::net::SocketAddr;

use etherparse::{Ipv6ExtensionSlice, LaxIpSlice, LaxIpv4Slice, LaxIpv6Slice, LenSource, err, ip_number};

use super::packet::{Fragment, HeaderLayout, Transport};
use super::summary::SkipReason;

/// Length of an IPv6 header without extension headers (RFC 8200).
const IPV6_HEADER: usize = 40;
/// Length of a TCP header without options (RFC 9293).
const TCP_HEADER: usize = 20;
/// Length of a UDP header (RFC 768).
const UDP_HEADER: usize = 8;
/// Fragment offsets count in these bytes (RFC 791, RFC 8200).
const FRAGMENT_UNIT: u32 = 8;
/// Length of the two ports, without which there is no five-tuple.
const PORTS: usize = 4;

/// What the headers of one IP packet say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    /// Captured bytes without padding.
    pub(super) captured_length: usize,
    pub(super) network_length: u32,
    pub(super) payload_length: u32,
    pub(super) layout: HeaderLayout,
    pub(super) tcp_flags: u8,
    pub(super) tcp_window: u16,
    /// The transport header was cut after the ports.
    pub(super) partial_transport_header: bool,
    /// Where the packet belongs in a fragmented datagram.
    pub(super) fragment: Option<Fragment>,
}

/// The network layer, as far as the transport layer needs it.
struct Network {
    addresses: (std::net::IpAddr, std::net::IpAddr),
    transport: Transport,
    transport_offset: usize,
    /// Length of the IP packet.
    length: usize,
    fragment: Option<Fragment>,
}

/// Decodes the IP packet in `bytes`; `wire_length` is its length before the capture cut it, padding
/// included.
pub(super) fn decode(bytes: &[u8], wire_length: usize) -> Result<Headers, SkipReason> {
    let wire_length = wire_length.max(bytes.len());
    let (slice, stop) = LaxIpSlice::from_slice(bytes).map_err(|error| match error {
        err::ip::LaxHeaderSliceError::Len(_) if bytes.len() < wire_length => SkipReason::HeadersTruncated,
        err::ip::LaxHeaderSliceError::Len(_) | err::ip::LaxHeaderSliceError::Content(_) => SkipReason::MalformedHeader,
    })?;
    let (transport_offset, length, fragment) = match &slice {
        LaxIpSlice::Ipv4(slice) => ipv4(slice, wire_length)?,
        LaxIpSlice::Ipv6(slice) => ipv6(slice, wire_length),
    };
    if let Some((error, _)) = stop {
        return Err(match error {
            err::ipv6_exts::HeaderSliceError::Len(_) if slice.payload().incomplete => SkipReason::HeadersTruncated,
            _ => SkipReason::MalformedHeader,
        });
    }
    let transport = match slice.payload_ip_number() {
        ip_number::TCP => Transport::Tcp,
        ip_number::UDP => Transport::Udp,
        _ => return Err(SkipReason::NotTcpOrUdp),
    };
    let addresses = (slice.source_addr(), slice.destination_addr());
    let network = Network { addresses, transport, transport_offset, length, fragment };
    match fragment {
        Some(Fragment { offset: 1.., .. }) => later_fragment(bytes, &network),
        _ => transport_header(bytes, network),
    }
}

/// Where the transport header begins, the length of the packet, and its place in a fragmented datagram.
fn ipv4(slice: &LaxIpv4Slice<'_>, wire_length: usize) -> Result<(usize, usize, Option<Fragment>), SkipReason> {
    let header = slice.header();
    let header_length = header.slice().len();
    let length = match usize::from(header.total_len()) {
        // The network card was to cut a large segment and fill in the length: the frame's stands in.
        0 => wire_length,
        length if length < header_length => return Err(SkipReason::MalformedHeader),
        length => length,
    };
    let authentication = slice.extensions().auth.map_or(0, |header| header.slice().len());
    let fragment = header.is_fragmenting_payload().then(|| Fragment {
        identification: u32::from(header.identification()),
        offset: u32::from(header.fragments_offset().value()) * FRAGMENT_UNIT,
        more: header.more_fragments(),
    });
    Ok((header_length + authentication, length, fragment))
}

/// As [`ipv4`].
fn ipv6(slice: &LaxIpv6Slice<'_>, wire_length: usize) -> (usize, usize, Option<Fragment>) {
    let extensions = slice.extensions();
    let length = match usize::from(slice.header().payload_length()) {
        // A jumbogram (RFC 2675) or a segment still to be cut: the frame's length stands in.
        0 if slice.payload().len_source == LenSource::Slice => wire_length,
        length => IPV6_HEADER + length,
    };
    let fragment = extensions.clone().into_iter().find_map(|extension| match extension {
        Ipv6ExtensionSlice::Fragment(header) if header.is_fragmenting_payload() => Some(Fragment {
            identification: header.identification(),
            offset: u32::from(header.fragment_offset().value()) * FRAGMENT_UNIT,
            more: header.more_fragments(),
        }),
        _ => None,
    });
    (IPV6_HEADER + extensions.slice().len(), length, fragment)
}

/// A fragment after the first: addresses, and nothing but payload after the IP header.
fn later_fragment(bytes: &[u8], network: &Network) -> Result<Headers, SkipReason> {
    let Network { addresses, transport, transport_offset, length, fragment } = *network;
    let declared = length.checked_sub(transport_offset).ok_or(SkipReason::MalformedHeader)?;
    let malformed = |_| SkipReason::MalformedHeader;
    let offset = u16::try_from(transport_offset).map_err(malformed)?;
    Ok(Headers {
        source: SocketAddr::new(addresses.0, 0),
        destination: SocketAddr::new(addresses.1, 0),
        captured_length: bytes.len().min(length),
        network_length: u32::try_from(length).map_err(malformed)?,
        payload_length: u32::try_from(declared).map_err(malformed)?,
        layout: HeaderLayout { transport_offset: offset, payload_offset: offset, transport },
        tcp_flags: 0,
        tcp_window: 0,
        partial_transport_header: false,
        fragment,
    })
}

/// Ports, and as much of the rest of the transport header as was captured.
fn transport_header(bytes: &[u8], network: Network) -> Result<Headers, SkipReason> {
    let Network { addresses, transport, transport_offset, length, fragment } = network;
    let fragmented = fragment.is_some();
    let bytes = &bytes[..bytes.len().min(length)];
    let declared = length.saturating_sub(transport_offset);
    let header = bytes.get(transport_offset..).unwrap_or_default();
    let least = match transport {
        Transport::Tcp => TCP_HEADER,
        Transport::Udp => UDP_HEADER,
    };
    // A first fragment may end inside the transport header (RFC 1858 calls it an attack, but it has ports).
    if declared < if fragmented { PORTS } else { least } {
        return Err(SkipReason::MalformedHeader);
    }
    let &[source_high, source_low, destination_high, destination_low, ref rest @ ..] = header else {
        return Err(SkipReason::HeadersTruncated);
    };
    let (header_length, payload_limit) = match transport {
        Transport::Tcp => (rest.get(8).map_or(TCP_HEADER, |byte| usize::from(byte >> 4) * 4), usize::MAX),
        Transport::Udp => match rest {
            // 0 is a jumbogram's (RFC 2675).
            [0, 0, ..] | [] | [_] => (UDP_HEADER, usize::MAX),
            [high, low, ..] => {
                let datagram = usize::from(u16::from_be_bytes([*high, *low]));
                (UDP_HEADER, datagram.checked_sub(UDP_HEADER).ok_or(SkipReason::MalformedHeader)?)
            }
        },
    };
    if header_length < least || (header_length > declared && !fragmented) {
        return Err(SkipReason::MalformedHeader);
    }
    let is_tcp = transport == Transport::Tcp;
    let offset = |offset: usize| u16::try_from(offset).map_err(|_| SkipReason::MalformedHeader);
    Ok(Headers {
        source: SocketAddr::new(addresses.0, u16::from_be_bytes([source_high, source_low])),
        destination: SocketAddr::new(addresses.1, u16::from_be_bytes([destination_high, destination_low])),
        captured_length: bytes.len(),
        network_length: u32::try_from(length).map_err(|_| SkipReason::MalformedHeader)?,
        payload_length: u32::try_from(declared.saturating_sub(header_length).min(payload_limit))
            .map_err(|_| SkipReason::MalformedHeader)?,
        layout: HeaderLayout {
            transport_offset: offset(transport_offset)?,
            payload_offset: offset(transport_offset + header_length)?,
            transport,
        },
        tcp_flags: if is_tcp { rest.get(9).copied().unwrap_or(0) } else { 0 },
        tcp_window: match rest.get(10..12) {
            Some(window) if is_tcp => u16::from_be_bytes([window[0], window[1]]),
            _ => 0,
        },
        partial_transport_header: header.len() < header_length,
        fragment,
    })
}
