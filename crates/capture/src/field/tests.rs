//! Tests the locator against the builders of packets (`etcbench-craft` and `etherparse`) and against the decoder, for
//! packets cut anywhere.

use std::io::Cursor;
use std::net::IpAddr;

use etherparse::{TcpHeader, TcpOptionElement, UdpHeader};
use proptest::prelude::*;

use super::*;
use crate::{CaptureReader, Packet};
use etcbench_craft as craft;
use etcbench_craft::Order;

/// A packet's bytes, and the value written to each of its header fields, with parts concatenated.
#[derive(Debug, Clone, Default)]
struct Made {
    bytes: Vec<u8>,
    values: Vec<(PacketField, Vec<u8>)>,
}

impl Made {
    fn value(&mut self, field: PacketField, bytes: &[u8]) {
        match self.values.iter_mut().find(|(other, _)| *other == field) {
            Some((_, value)) => value.extend(bytes),
            None => self.values.push((field, bytes.to_vec())),
        }
    }
}

/// Parameters of a random packet.
#[derive(Debug, Clone)]
struct Shape {
    ipv6: bool,
    tcp: bool,
    /// Kinds of IPv6 extension headers, or choices among a few IPv4 options.
    extras: Vec<u8>,
    timestamps: Option<(u32, u32)>,
    acknowledged: Option<[u32; 2]>,
    numbers: [u32; 4],
    payload: Vec<u8>,
}

fn shapes() -> impl Strategy<Value = Shape> {
    (
        (any::<bool>(), any::<bool>()),
        prop::collection::vec(prop::sample::select(vec![0u8, 43, 44, 51, 60, 135, 139, 140]), 0..5),
        any::<(Option<(u32, u32)>, Option<[u32; 2]>, [u32; 4])>(),
        prop::collection::vec(any::<u8>(), 0..40),
    )
        .prop_map(|((ipv6, tcp), extras, (timestamps, acknowledged, numbers), payload)| Shape {
            ipv6,
            tcp,
            extras,
            timestamps,
            acknowledged,
            numbers,
            payload,
        })
}

/// Builds a TCP or UDP header with `etherparse`, followed by the payload.
fn transport(shape: &Shape, made: &mut Made) -> Vec<u8> {
    let mut bytes = Vec::new();
    let [ports, sequence, acknowledgement, rest] = shape.numbers;
    let (source, destination) = ((ports >> 16) as u16, ports as u16);
    made.value(PacketField::SourcePort, &source.to_be_bytes());
    made.value(PacketField::DestinationPort, &destination.to_be_bytes());
    made.value(PacketField::TransportChecksum, &(rest as u16).to_be_bytes());
    if shape.tcp {
        let mut header = TcpHeader::new(source, destination, sequence, (rest >> 16) as u16);
        header.acknowledgment_number = acknowledgement;
        header.ack = true;
        header.psh = rest & 1 == 1;
        header.checksum = rest as u16;
        let mut options = vec![TcpOptionElement::Noop];
        let mut kinds = Vec::new();
        if let Some((value, echo)) = shape.timestamps {
            options.push(TcpOptionElement::Timestamp(value, echo));
            kinds.push(8);
            made.value(PacketField::TcpTimestampValue, &value.to_be_bytes());
            made.value(PacketField::TcpTimestampEcho, &echo.to_be_bytes());
        }
        if let Some([left, right]) = shape.acknowledged {
            options.push(TcpOptionElement::SelectiveAcknowledgement((left, right), [None; 3]));
            kinds.push(5);
            let edges = [left.to_be_bytes(), right.to_be_bytes()].concat();
            made.value(PacketField::TcpSelectiveAcknowledgements, &edges);
        }
        if options.len() > 1 {
            header.set_options(&options).unwrap();
            made.value(PacketField::TcpOptions, header.options.as_slice());
            made.value(PacketField::TcpOptionKinds, &kinds);
        }
        header.write(&mut bytes).unwrap();
        made.value(PacketField::TcpSequence, &sequence.to_be_bytes());
        made.value(PacketField::TcpAcknowledgement, &acknowledgement.to_be_bytes());
        made.value(PacketField::TcpFlags, &[if header.psh { 0x18 } else { 0x10 }]);
        made.value(PacketField::TcpWindow, &((rest >> 16) as u16).to_be_bytes());
    } else {
        let length = 8 + shape.payload.len() as u16;
        let header = UdpHeader { source_port: source, destination_port: destination, length, checksum: rest as u16 };
        header.write(&mut bytes).unwrap();
        made.value(PacketField::UdpLength, &length.to_be_bytes());
    }
    bytes.extend(&shape.payload);
    bytes
}

/// Builds an IPv6 extension header of a kind, followed by header `next`.
fn extension(kind: u8, next: u8, made: &mut Made) -> Vec<u8> {
    let addresses = [[kind; 16], [next; 16]];
    match kind {
        // A routing header of type 0 with two addresses.
        43 => {
            made.value(PacketField::IpRouteAddresses, &addresses.concat());
            [&[next, 4, 0, 2, 0, 0, 0, 0][..], &addresses.concat()].concat()
        }
        // An atomic fragment.
        44 => {
            made.value(PacketField::IpFragment, &[0, 0]);
            made.value(PacketField::IpIdentification, &[9, 8, 7, next]);
            vec![next, 0, 0, 0, 9, 8, 7, next]
        }
        // Its length is in units of four bytes.
        51 => [&[next, 4, 0, 0][..], &[0x77; 20]].concat(),
        // Padding and a home address.
        60 => {
            made.value(PacketField::IpHomeAddress, &addresses[0]);
            [&[next, 2, 1, 2, 0, 0, 201, 16][..], &addresses[0]].concat()
        }
        _ => vec![next, 0, 1, 4, 0, 0, 0, 0],
    }
}

fn packet(shape: &Shape) -> Made {
    let mut made = Made::default();
    let segment = transport(shape, &mut made);
    let protocol = if shape.tcp { 6 } else { 17 };
    let last = shape.numbers[3].to_be_bytes();
    if shape.ipv6 {
        let (source, destination) = ([0x20; 16], [last[0]; 16]);
        let mut headers = Vec::new();
        for (index, &kind) in shape.extras.iter().enumerate() {
            let next = shape.extras.get(index + 1).copied().unwrap_or(protocol);
            headers.extend(extension(kind, next, &mut made));
        }
        headers.extend(segment);
        let first = shape.extras.first().copied().unwrap_or(protocol);
        made.bytes = craft::ipv6(source, destination, first, &headers);
        // Version, traffic class and flow label; the class spans both bytes.
        made.bytes[..4].copy_from_slice(&[0x6a, 0xbc, last[1], last[2]]);
        made.value(PacketField::IpTrafficClass, &[0x0a, 0xb0]);
        made.value(PacketField::IpFlowLabel, &[0x0c, last[1], last[2]]);
        made.value(PacketField::IpLength, &(headers.len() as u16).to_be_bytes());
        made.value(PacketField::Ttl, &[63]);
        made.value(PacketField::IpSource, &source);
        made.value(PacketField::IpDestination, &destination);
    } else {
        // No operation, record route, strict route, timestamps with and without addresses.
        let mut options: Vec<u8> = Vec::new();
        for extra in shape.extras.iter().take(3) {
            match extra {
                0 => options.push(1),
                43 | 44 => {
                    options.extend([if *extra == 43 { 7 } else { 137 }, 7, 4, 10, 9, 8, *extra]);
                    made.value(PacketField::IpRouteAddresses, &[10, 9, 8, *extra]);
                }
                51 => {
                    options.extend([68, 12, 13, 1, 10, 7, 6, 5, 0, 0, 0, 9]);
                    made.value(PacketField::IpRouteAddresses, &[10, 7, 6, 5]);
                }
                _ => options.extend([68, 8, 9, 0, 0, 0, 0, 9]),
            }
        }
        options.resize(options.len().next_multiple_of(4), 0);
        made.bytes = craft::ipv4([10, 1, 2, 3], [10, last[0], 5, 6], protocol, &segment);
        made.bytes[0] += (options.len() / 4) as u8;
        made.bytes.splice(20..20, options);
        let length = (made.bytes.len() as u16).to_be_bytes();
        made.bytes[2..4].copy_from_slice(&length);
        made.value(PacketField::IpTrafficClass, &[0]);
        made.value(PacketField::IpLength, &length);
        made.value(PacketField::IpIdentification, &[0x12, 0x34]);
        made.value(PacketField::IpFragment, &[0x40, 0]);
        made.value(PacketField::Ttl, &[64]);
        made.value(PacketField::IpChecksum, &[0xab, 0xcd]);
        made.value(PacketField::IpSource, &[10, 1, 2, 3]);
        made.value(PacketField::IpDestination, &[10, last[0], 5, 6]);
    }
    made
}

/// Returns the bytes of a field in a packet, with other bits cleared.
fn located(field: PacketField, packet: PacketView<'_>) -> Result<Vec<u8>, TestCaseError> {
    let mut value = Vec::new();
    let mut outside = None;
    field.locate(packet, |range| match packet.bytes.get(range.range()) {
        Some(bytes) if !bytes.is_empty() => {
            value.extend(bytes.iter().enumerate().map(|(index, byte)| byte & range.bits(index)));
        }
        _ => outside = Some(range),
    });
    prop_assert_eq!(outside, None);
    Ok(value)
}

/// Calls back with the decoded packet, if there is one.
fn decoded(
    bytes: &[u8],
    cut: usize,
    check: impl FnOnce(&Packet<'_>) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let file = craft::pcap(Order::Little, false, 101, cut, &[(0, bytes.to_vec())]);
    let mut reader = CaptureReader::from_reader(Cursor::new(file), "one").unwrap();
    match reader.next_packet().unwrap() {
        Some(packet) => check(&packet),
        None => Ok(()),
    }
}

fn address(bytes: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(bytes) {
        Ok(bytes) => bytes.into(),
        Err(_) => <[u8; 16]>::try_from(bytes).unwrap().into(),
    }
}

proptest! {
    #[test]
    fn header_fields_lie_where_they_were_put(shape in shapes(), cut in 20usize..300) {
        let made = packet(&shape);
        decoded(&made.bytes, 65_535, |packet| {
            let view = PacketView { bytes: packet.bytes, layout: packet.layout };
            for field in PacketField::ALL {
                let expected = made.values.iter().find(|(other, _)| *other == field).map(|(_, value)| value.clone());
                prop_assert_eq!(located(field, view)?, expected.unwrap_or_default(), "{}", field.name());
            }
            // The decoder reads the same values.
            let number = |field: PacketField| field.number(view).unwrap();
            prop_assert_eq!(packet.source.ip(), address(&located(PacketField::IpSource, view)?));
            prop_assert_eq!(packet.destination.ip(), address(&located(PacketField::IpDestination, view)?));
            prop_assert_eq!(u32::from(packet.source.port()), number(PacketField::SourcePort));
            prop_assert_eq!(u32::from(packet.destination.port()), number(PacketField::DestinationPort));
            if shape.tcp {
                prop_assert_eq!(u32::from(packet.tcp_flags), number(PacketField::TcpFlags));
                prop_assert_eq!(u32::from(packet.tcp_window), number(PacketField::TcpWindow));
            }
            Ok(())
        })?;
        // Of a truncated field, only the beginning is located.
        decoded(&made.bytes, cut, |packet| {
            let view = PacketView { bytes: packet.bytes, layout: packet.layout };
            for (field, value) in &made.values {
                prop_assert!(value.starts_with(&located(*field, view)?), "{}", field.name());
            }
            Ok(())
        })?;
    }

    #[test]
    fn in_any_bytes_every_range_lies_inside(
        packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..150), 0u16..100, 0u16..60), 1..5),
        start in prop::collection::vec(prop_oneof![Just(22u8), Just(3), Just(0), Just(1), Just(2)], 0..14),
        ipv6: bool,
        tcp: bool,
    ) {
        let packets: Vec<(Vec<u8>, HeaderLayout)> = packets
            .into_iter()
            .map(|(mut bytes, transport_offset, header)| {
                let payload_offset = transport_offset + header;
                if let Some(first) = bytes.first_mut() {
                    *first = *first & 0x0f | if ipv6 { 0x60 } else { 0x40 };
                }
                let payload = usize::from(payload_offset).min(bytes.len());
                bytes.splice(payload..payload, start.iter().copied());
                let transport = if tcp { Transport::Tcp } else { Transport::Udp };
                (bytes, HeaderLayout { transport_offset, payload_offset, transport })
            })
            .collect();
        let views: Vec<(usize, PacketView<'_>)> = packets
            .iter()
            .enumerate()
            .map(|(index, (bytes, layout))| (index, PacketView { bytes, layout: *layout }))
            .collect();
        for (_, view) in &views {
            for field in PacketField::ALL {
                located(field, *view)?;
                field.number(*view);
            }
        }
        let mut hellos = Vec::new();
        locate_hellos(&views, &mut hellos);
        for range in hellos {
            prop_assert!(range.length > 0 && range.range().end <= views[range.packet].1.bytes.len());
        }
    }
}

#[test]
fn names_are_of_one_field_each() {
    let mut names = PacketField::ALL.map(PacketField::name).to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), PacketField::ALL.len());
}
