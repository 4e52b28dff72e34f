//! The table of packet fields. Each field is one entry: its description, its name, whether it identifies, the group it
//! is masked with, and its places. Everything else (masks, the leak report's columns, the decoder's offsets) is derived
//! from it.

use super::header::{self, Entries};
use crate::network::protocol;

/// Fields that reveal the same about a flow's endpoints, its connection or its time, and are hidden together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FieldGroup {
    /// Addresses in the IP header, its options and its extension headers.
    IpAddresses,
    /// Ports of TCP and UDP.
    Ports,
    /// Fields that distinguish the IP packets of a host or a flow.
    IpIdentification,
    /// IPv4 time to live, IPv6 hop limit.
    Ttl,
    /// Checksums of IPv4, TCP and UDP.
    Checksums,
    /// TCP sequence numbers.
    TcpSequenceNumbers,
    /// Values of the TCP timestamps option.
    TcpTimestamps,
    /// Names in the server name extension of TLS.
    TlsServerName,
    /// Randoms of TLS hellos.
    TlsRandom,
    /// Session identifiers of TLS hellos.
    TlsSessionId,
}

/// A header with fields at fixed places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// RFC 791.
    Ipv4,
    /// RFC 8200.
    Ipv6,
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

/// A range of bytes, and which bits of the first and last byte belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bits {
    pub(super) start: usize,
    pub(super) length: usize,
    pub(super) first: u8,
    pub(super) last: u8,
}

pub(super) const fn bytes(start: usize, length: usize) -> Bits {
    Bits { start, length, first: 0xff, last: 0xff }
}

/// A part of a TLS hello (RFC 8446, sections 4.1.2 and 4.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HelloPart {
    Random,
    SessionId,
    /// In a ClientHello.
    CipherSuites,
    /// In a ClientHello (RFC 6066, section 3).
    ServerNames,
}

/// Where a field is, if the packet has such a header.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// In a header, counted from its first byte.
    Fixed(Header, Bits),
    /// In IPv4 options.
    Ipv4Options(Entries),
    /// In IPv6 extension headers of the given kind.
    Ipv6Extension(u8, Entries),
    /// All TCP options.
    TcpOptions,
    /// The first byte of each TCP option, except padding.
    TcpOptionKinds,
    /// In TCP options of the given kind.
    TcpOption(u8, Entries),
    /// In TLS hellos over TCP, which can span several packets of a flow.
    Hello(HelloPart),
}

/// An entry of the table.
pub(super) struct Row {
    name: &'static str,
    /// Whether it identifies the endpoints or the flow rather than the application.
    identifies: bool,
    group: Option<FieldGroup>,
    pub(super) places: &'static [Place],
}

macro_rules! packet_fields {
    ($($(#[doc = $what:literal])+ $field:ident => $row:expr,)+) => {
        /// A field of a packet.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum PacketField {
            $($(#[doc = $what])+ $field,)+
        }

        const ROWS: &[Row] = &[$($row),+];

        impl PacketField {
            /// All fields, in the order of headers.
            pub const ALL: [PacketField; ROWS.len()] = [$(PacketField::$field),+];
        }
    };
}

use FieldGroup as Group;
use Header::{Ipv4, Ipv6, Tcp, Udp};
use Place::{Fixed, Hello, Ipv4Options, Ipv6Extension, TcpOption, TcpOptionKinds, TcpOptions};

packet_fields! {
    /// Source address of the IP header.
    IpSource => Row {
        name: "ip_source",
        identifies: true,
        group: Some(Group::IpAddresses),
        places: &[Fixed(Ipv4, bytes(12, 4)), Fixed(Ipv6, bytes(8, 16))],
    },
    /// Destination address of the IP header.
    IpDestination => Row {
        name: "ip_destination",
        identifies: true,
        group: Some(Group::IpAddresses),
        places: &[Fixed(Ipv4, bytes(16, 4)), Fixed(Ipv6, bytes(24, 16))],
    },
    /// Addresses in IPv4 options (routes and timestamps; RFC 791, section 3.1) and in IPv6 routing headers of types 0, 2 and
    /// 4 (RFC 2460, section 4.4; RFC 6275, section 6.4; RFC 8754, section 2).
    IpRouteAddresses => Row {
        name: "ip_route_addresses",
        identifies: true,
        group: Some(Group::IpAddresses),
        places: &[
            Ipv4Options(header::listed_addresses),
            Ipv6Extension(protocol::ROUTING, header::routing_addresses),
        ],
    },
    /// The home address option of IPv6 (RFC 6275, section 6.3).
    IpHomeAddress => Row {
        name: "ip_home_address",
        identifies: true,
        group: Some(Group::IpAddresses),
        places: &[Ipv6Extension(protocol::DESTINATION_OPTIONS, header::home_addresses)],
    },
    /// Shared by the fragments of a datagram: in the IPv4 header, and in the IPv6 fragment header.
    IpIdentification => Row {
        name: "ip_identification",
        identifies: true,
        group: Some(Group::IpIdentification),
        places: &[Fixed(Ipv4, bytes(4, 2)), Ipv6Extension(protocol::FRAGMENT, header::fragment_identification)],
    },
    /// IPv6 flow label: 20 bits.
    IpFlowLabel => Row {
        name: "ip_flow_label",
        identifies: true,
        group: Some(Group::IpIdentification),
        places: &[Fixed(Ipv6, Bits { start: 1, length: 3, first: 0x0f, last: 0xff })],
    },
    /// IPv4 total length, IPv6 payload length.
    IpLength => Row {
        name: "ip_length",
        identifies: false,
        group: None,
        places: &[Fixed(Ipv4, bytes(2, 2)), Fixed(Ipv6, bytes(4, 2))],
    },
    /// Differentiated services and congestion notification (RFC 2474, RFC 3168).
    IpTrafficClass => Row {
        name: "ip_traffic_class",
        identifies: false,
        group: None,
        places: &[Fixed(Ipv4, bytes(1, 1)), Fixed(Ipv6, Bits { start: 0, length: 2, first: 0x0f, last: 0xf0 })],
    },
    /// Fragment offset and flags: in the IPv4 header, and in the IPv6 fragment header.
    IpFragment => Row {
        name: "ip_fragment",
        identifies: false,
        group: None,
        places: &[Fixed(Ipv4, bytes(6, 2)), Ipv6Extension(protocol::FRAGMENT, header::fragment_offset)],
    },
    /// IPv4 time to live, IPv6 hop limit.
    Ttl => Row {
        name: "ttl",
        identifies: true,
        group: Some(Group::Ttl),
        places: &[Fixed(Ipv4, bytes(8, 1)), Fixed(Ipv6, bytes(7, 1))],
    },
    /// Checksum of the IPv4 header.
    IpChecksum => Row {
        name: "ip_checksum",
        identifies: true,
        group: Some(Group::Checksums),
        places: &[Fixed(Ipv4, bytes(10, 2))],
    },
    /// Source port.
    SourcePort => Row {
        name: "source_port",
        identifies: true,
        group: Some(Group::Ports),
        places: &[Fixed(Tcp, bytes(0, 2)), Fixed(Udp, bytes(0, 2))],
    },
    /// Destination port.
    DestinationPort => Row {
        name: "destination_port",
        identifies: true,
        group: Some(Group::Ports),
        places: &[Fixed(Tcp, bytes(2, 2)), Fixed(Udp, bytes(2, 2))],
    },
    /// Checksum of TCP or UDP.
    TransportChecksum => Row {
        name: "transport_checksum",
        identifies: true,
        group: Some(Group::Checksums),
        places: &[Fixed(Tcp, bytes(16, 2)), Fixed(Udp, bytes(6, 2))],
    },
    /// TCP sequence number.
    TcpSequence => Row {
        name: "tcp_sequence_number",
        identifies: true,
        group: Some(Group::TcpSequenceNumbers),
        places: &[Fixed(Tcp, bytes(4, 4))],
    },
    /// TCP acknowledgement number.
    TcpAcknowledgement => Row {
        name: "tcp_acknowledgement_number",
        identifies: true,
        group: Some(Group::TcpSequenceNumbers),
        places: &[Fixed(Tcp, bytes(8, 4))],
    },
    /// TCP flags (RFC 9293, section 3.1).
    TcpFlags => Row {
        name: "tcp_flags",
        identifies: false,
        group: None,
        places: &[Fixed(Tcp, bytes(13, 1))],
    },
    /// TCP receive window, unscaled.
    TcpWindow => Row {
        name: "tcp_window",
        identifies: false,
        group: None,
        places: &[Fixed(Tcp, bytes(14, 2))],
    },
    /// All options of the TCP header, including those that also have their own fields.
    TcpOptions => Row {
        name: "tcp_options",
        identifies: true,
        group: None,
        places: &[TcpOptions],
    },
    /// Kinds of the TCP options, in order: what remains visible of options whose values are hidden.
    TcpOptionKinds => Row {
        name: "tcp_option_kinds",
        identifies: false,
        group: None,
        places: &[TcpOptionKinds],
    },
    /// Sequence numbers in selective acknowledgements (RFC 2018).
    TcpSelectiveAcknowledgements => Row {
        name: "tcp_selective_acknowledgements",
        identifies: true,
        group: Some(Group::TcpSequenceNumbers),
        places: &[TcpOption(5, header::numbers)],
    },
    /// The sender's value of the TCP timestamps option (RFC 7323).
    TcpTimestampValue => Row {
        name: "tcp_timestamp_value",
        identifies: true,
        group: Some(Group::TcpTimestamps),
        places: &[TcpOption(8, header::first_number)],
    },
    /// The echoed value of the TCP timestamps option.
    TcpTimestampEcho => Row {
        name: "tcp_timestamp_echo",
        identifies: true,
        group: Some(Group::TcpTimestamps),
        places: &[TcpOption(8, header::later_numbers)],
    },
    /// Length of the UDP datagram.
    UdpLength => Row {
        name: "udp_length",
        identifies: false,
        group: None,
        places: &[Fixed(Udp, bytes(4, 2))],
    },
    /// Names in the server name extension of a ClientHello (RFC 6066, section 3).
    TlsServerName => Row {
        name: "tls_server_name",
        identifies: true,
        group: Some(Group::TlsServerName),
        places: &[Hello(HelloPart::ServerNames)],
    },
    /// Random of a ClientHello or ServerHello.
    TlsRandom => Row {
        name: "tls_random",
        identifies: true,
        group: Some(Group::TlsRandom),
        places: &[Hello(HelloPart::Random)],
    },
    /// Session identifier of a ClientHello or ServerHello.
    TlsSessionId => Row {
        name: "tls_session_id",
        identifies: true,
        group: Some(Group::TlsSessionId),
        places: &[Hello(HelloPart::SessionId)],
    },
    /// Cipher suites that a ClientHello offers.
    TlsCipherSuites => Row {
        name: "tls_cipher_suites",
        identifies: false,
        group: None,
        places: &[Hello(HelloPart::CipherSuites)],
    },
}

impl PacketField {
    /// Returns the name used in reports.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// Whether the field identifies the endpoints or the flow rather than the application.
    pub const fn identifies(self) -> bool {
        self.row().identifies
    }

    /// Returns the fields it is hidden with, or `None` if no mask hides it.
    pub const fn group(self) -> Option<FieldGroup> {
        self.row().group
    }

    /// Whether it is in TLS hellos, which can span several packets of a flow.
    pub const fn is_of_hello(self) -> bool {
        matches!(self.row().places, [Hello(_), ..])
    }

    pub(super) const fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// Returns the offset of a field at a fixed place in a header: for constants of the decoder, which do not compile
    /// for any other field.
    pub(crate) const fn at(self, header: Header) -> usize {
        let places = self.row().places;
        let mut place = 0;
        while place < places.len() {
            if let Fixed(of, bits) = &places[place]
                && *of as u8 == header as u8
            {
                return bits.start;
            }
            place += 1;
        }
        panic!("the field has no fixed place in this header")
    }
}
