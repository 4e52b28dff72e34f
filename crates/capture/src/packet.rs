//! One decoded packet, borrowed from the reader's buffer.

use std::net::SocketAddr;

/// The transport protocols of flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

/// Where the headers are in a packet's bytes, counted from the first byte of the IP header. Offsets are as declared in
/// the headers; they may be past the captured bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderLayout {
    /// First byte of the TCP or UDP header (after IPv4 options or IPv6 extension headers).
    pub transport_offset: u16,
    /// First byte of the transport payload.
    pub payload_offset: u16,
    /// The transport protocol.
    pub transport: Transport,
}

/// A packet's position among the fragments of one datagram (RFC 791, section 3.2; RFC 8200, section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Identifier shared by all fragments of a datagram: 16 bits in IPv4, 32 in IPv6.
    pub identification: u32,
    /// Number of bytes of the datagram's payload before this fragment's; 0 in the first, which has the ports.
    pub offset: u32,
    /// Whether more of the datagram follows.
    pub more: bool,
}

/// Unit of fragment offsets in bytes.
const FRAGMENT_UNIT: u32 = 8;

impl Fragment {
    /// Builds it from the identification and the flags and offset of an IPv4 header.
    pub(crate) fn of_ipv4(identification: u16, flags_and_offset: u16) -> Fragment {
        Fragment {
            identification: u32::from(identification),
            offset: u32::from(flags_and_offset & 0x1fff) * FRAGMENT_UNIT,
            more: flags_and_offset & 0x2000 != 0,
        }
    }

    /// Builds it from the identification and the offset and flags of an IPv6 fragment header.
    pub(crate) fn of_ipv6(identification: u32, offset_and_flags: u16) -> Fragment {
        Fragment { identification, offset: u32::from(offset_and_flags & 0xfff8), more: offset_and_flags & 1 != 0 }
    }
}

/// One TCP or UDP packet of a capture.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Number of the packet in its file, from 1 as in Wireshark.
    pub number: u64,
    /// Nanoseconds since the Unix epoch.
    pub timestamp: i64,
    /// Length of the frame on the wire in bytes, as declared in the capture.
    pub wire_length: u32,
    /// The packet's position in a fragmented datagram, if it is part of one. A fragment after the first has no
    /// transport header: its ports are 0 and its payload begins where the IP header ends.
    pub fragment: Option<Fragment>,
    /// Sender's address and port.
    pub source: SocketAddr,
    /// Receiver's address and port.
    pub destination: SocketAddr,
    /// The captured bytes from the first byte of the IP header on. Link-layer padding is removed, and a snap length may
    /// have cut the end.
    pub bytes: &'a [u8],
    /// Length of the whole IP packet in bytes, as declared in its header.
    pub network_length: u32,
    /// Length of the transport payload in bytes, as declared in the headers.
    pub payload_length: u32,
    /// Where the headers are in `bytes`.
    pub layout: HeaderLayout,
    /// TCP flags byte (RFC 9293, section 3.1: CWR ECE URG ACK PSH RST SYN FIN from the high bit down);
    /// zero for UDP.
    pub tcp_flags: u8,
    /// TCP receive window as in the header, unscaled; zero for UDP.
    pub tcp_window: u16,
    /// The captured bytes of the whole frame, from the link layer on.
    pub frame: &'a [u8],
    /// Link type of the frame.
    pub link_type: u32,
    /// The packet's first comment, if the format is pcapng and it has one; otherwise empty.
    pub comment: &'a [u8],
}
