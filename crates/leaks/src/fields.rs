//! Where the fields of a packet lie, as far as a model sees them: the tokens of a flow after masking, cut at
//! M bytes and N packets.

use std::ops::Range;

use etcbench_capture::Transport;
use etcbench_feature::{FeatureSet, PAD, PacketStart, TokenOptions};
use etcbench_flow::{Flow, FlowPacket};

/// A field of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    IpSource,
    IpDestination,
    IpIdentification,
    IpLength,
    IpTrafficClass,
    IpFragment,
    Ttl,
    IpChecksum,
    SourcePort,
    DestinationPort,
    TransportChecksum,
    TcpSequence,
    TcpAcknowledgement,
    TcpFlags,
    TcpWindow,
    TcpOptions,
    TcpTimestampValue,
    TcpTimestampEcho,
    UdpLength,
    TlsServerName,
    TlsRandom,
    TlsSessionId,
    TlsCipherSuites,
}

const TCP_HEADER: usize = 20;
/// TCP option kinds.
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const TIMESTAMPS: u8 = 8;
/// TLS: record type handshake; handshake types; extension server_name.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SERVER_NAME: u16 = 0;

impl Field {
    pub(crate) const ALL: [Field; 23] = [
        Field::IpSource,
        Field::IpDestination,
        Field::IpIdentification,
        Field::IpLength,
        Field::IpTrafficClass,
        Field::IpFragment,
        Field::Ttl,
        Field::IpChecksum,
        Field::SourcePort,
        Field::DestinationPort,
        Field::TransportChecksum,
        Field::TcpSequence,
        Field::TcpAcknowledgement,
        Field::TcpFlags,
        Field::TcpWindow,
        Field::TcpOptions,
        Field::TcpTimestampValue,
        Field::TcpTimestampEcho,
        Field::UdpLength,
        Field::TlsServerName,
        Field::TlsRandom,
        Field::TlsSessionId,
        Field::TlsCipherSuites,
    ];

    /// The name in reports, and whether the field names the endpoints or the flow rather than the application.
    pub(crate) fn name(self) -> (&'static str, bool) {
        match self {
            Field::IpSource => ("ip_source", true),
            Field::IpDestination => ("ip_destination", true),
            Field::IpIdentification => ("ip_identification", true),
            Field::IpLength => ("ip_length", false),
            Field::IpTrafficClass => ("ip_traffic_class", false),
            Field::IpFragment => ("ip_fragment", false),
            Field::Ttl => ("ttl", true),
            Field::IpChecksum => ("ip_checksum", true),
            Field::SourcePort => ("source_port", true),
            Field::DestinationPort => ("destination_port", true),
            Field::TransportChecksum => ("transport_checksum", true),
            Field::TcpSequence => ("tcp_sequence_number", true),
            Field::TcpAcknowledgement => ("tcp_acknowledgement_number", true),
            Field::TcpFlags => ("tcp_flags", false),
            Field::TcpWindow => ("tcp_window", false),
            Field::TcpOptions => ("tcp_options", true),
            Field::TcpTimestampValue => ("tcp_timestamp_value", true),
            Field::TcpTimestampEcho => ("tcp_timestamp_echo", true),
            Field::UdpLength => ("udp_length", false),
            Field::TlsServerName => ("tls_server_name", true),
            Field::TlsRandom => ("tls_random", true),
            Field::TlsSessionId => ("tls_session_id", true),
            Field::TlsCipherSuites => ("tls_cipher_suites", false),
        }
    }

    /// The bytes of the field, counted from the IP header; they may lie past what was kept.
    fn range(self, packet: &FlowPacket) -> Option<Range<usize>> {
        let bytes = packet.bytes.as_slice();
        let is_ipv6 = bytes.first()? >> 4 == 6;
        let is_tcp = packet.layout.transport == Transport::Tcp;
        let transport = usize::from(packet.layout.transport_offset);
        let payload = usize::from(packet.layout.payload_offset);
        let at = |start: usize, length: usize| Some(start..start + length);
        match self {
            Field::IpSource => {
                if is_ipv6 {
                    at(8, 16)
                } else {
                    at(12, 4)
                }
            }
            Field::IpDestination => {
                if is_ipv6 {
                    at(24, 16)
                } else {
                    at(16, 4)
                }
            }
            // The flow label shares its first byte with the traffic class.
            Field::IpIdentification => {
                if is_ipv6 {
                    at(2, 2)
                } else {
                    at(4, 2)
                }
            }
            Field::IpLength => {
                if is_ipv6 {
                    at(4, 2)
                } else {
                    at(2, 2)
                }
            }
            Field::IpTrafficClass => {
                if is_ipv6 {
                    at(0, 2)
                } else {
                    at(1, 1)
                }
            }
            Field::IpFragment if !is_ipv6 => at(6, 2),
            Field::Ttl => {
                if is_ipv6 {
                    at(7, 1)
                } else {
                    at(8, 1)
                }
            }
            Field::IpChecksum if !is_ipv6 => at(10, 2),
            Field::SourcePort => at(transport, 2),
            Field::DestinationPort => at(transport + 2, 2),
            Field::TransportChecksum => at(transport + if is_tcp { 16 } else { 6 }, 2),
            Field::UdpLength if !is_tcp => at(transport + 4, 2),
            Field::TcpSequence if is_tcp => at(transport + 4, 4),
            Field::TcpAcknowledgement if is_tcp => at(transport + 8, 4),
            Field::TcpFlags if is_tcp => at(transport + 13, 1),
            Field::TcpWindow if is_tcp => at(transport + 14, 2),
            Field::TcpOptions if is_tcp && payload > transport + TCP_HEADER => Some(transport + TCP_HEADER..payload),
            Field::TcpTimestampValue if is_tcp => timestamps(bytes, transport, payload).map(|at| at..at + 4),
            Field::TcpTimestampEcho if is_tcp => timestamps(bytes, transport, payload).map(|at| at + 4..at + 8),
            Field::TlsServerName | Field::TlsRandom | Field::TlsSessionId | Field::TlsCipherSuites if is_tcp => {
                hello(bytes, payload, self)
            }
            _ => None,
        }
    }
}

/// Where the values of the TCP timestamps option begin (RFC 7323).
fn timestamps(bytes: &[u8], transport: usize, payload: usize) -> Option<usize> {
    let mut offset = transport + TCP_HEADER;
    while offset < payload {
        match *bytes.get(offset)? {
            END_OF_OPTIONS => return None,
            NO_OPERATION => offset += 1,
            kind => {
                let length = usize::from(*bytes.get(offset + 1)?);
                if kind == TIMESTAMPS {
                    return Some(offset + 2);
                }
                offset += length.max(2);
            }
        }
    }
    None
}

/// A field of a TLS hello at the beginning of a payload (RFC 8446, sections 4.1 and 5.1; RFC 6066, section 3).
fn hello(bytes: &[u8], payload: usize, field: Field) -> Option<Range<usize>> {
    let byte = |at: usize| bytes.get(at).map(|&byte| usize::from(byte));
    let two = |at: usize| Some(byte(at)? << 8 | byte(at + 1)?);
    // A record header is five bytes, a handshake header four, the version two.
    let kind = *bytes.get(payload + 5)?;
    if *bytes.get(payload)? != HANDSHAKE || !(kind == CLIENT_HELLO || kind == SERVER_HELLO) {
        return None;
    }
    let random = payload + 11;
    let session = random + 33;
    let after_session = session + byte(session - 1).unwrap_or(0);
    match field {
        Field::TlsRandom => Some(random..random + 32),
        Field::TlsSessionId => (after_session > session).then_some(session..after_session),
        _ if kind != CLIENT_HELLO => None,
        Field::TlsCipherSuites => Some(after_session + 2..after_session + 2 + two(after_session)?),
        _ => {
            let compression = after_session + 2 + two(after_session)?;
            let mut extension = compression + 1 + byte(compression)? + 2;
            loop {
                let (kind, length) = (two(extension)?, two(extension + 2)?);
                if kind == usize::from(SERVER_NAME) {
                    // List length, name type, name length.
                    return Some(extension + 9..extension + 9 + two(extension + 7)?);
                }
                extension += 4 + length;
            }
        }
    }
}

/// The packets of a flow that have tokens, in order, each with the first byte that does.
pub(super) fn seen_packets<'a>(flow: &'a Flow, options: &TokenOptions) -> Vec<(&'a FlowPacket, usize)> {
    flow.packets
        .iter()
        .map(|packet| {
            let start = usize::from(match options.packet_start {
                PacketStart::IpHeader => 0,
                PacketStart::AfterIpHeader => packet.layout.transport_offset,
                PacketStart::Payload => packet.layout.payload_offset,
            });
            (packet, start)
        })
        .filter(|(packet, start)| *start < packet.bytes.len())
        .take(options.packets)
        .collect()
}

/// What a model sees of a field in a flow's packet number `index`: the bytes that became tokens, as masked;
/// none where the packet has no such field or none of it is among the tokens.
pub(super) fn visible(
    features: &FeatureSet,
    row: usize,
    packets: &[(&FlowPacket, usize)],
    index: usize,
    field: Field,
) -> Option<Vec<u8>> {
    let &(packet, start) = packets.get(index)?;
    let range = field.range(packet)?;
    let tokens = features.tokens.packet(row, index);
    let end = range.end.saturating_sub(start).min(tokens.len());
    let seen = tokens.get(range.start.checked_sub(start)?..end)?;
    let mut value: Vec<u8> = seen.iter().take_while(|&&token| token != PAD).map(|&token| token as u8).collect();
    if field == Field::IpTrafficClass && value.len() == 2 {
        // Version and traffic class without the flow label.
        value[1] &= 0xf0;
    }
    (!value.is_empty()).then_some(value)
}
