//! Every header layout: random packets built by `etherparse` behind every link layer, with IPv6 extension headers in
//! any order and inside every tunnel, are decoded to what was put in; every truncation yields a prefix or its reason.

mod link_headers;

use std::io::Cursor;
use std::net::SocketAddr;

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::{CaptureReader, CaptureSummary, ReaderOptions, SkipReason, Transport, Tunnels};
use etcbench_craft as craft;
use etcbench_craft::Order;
use link_headers::link_headers;

const WHOLE: usize = 65_535;
const RAW: u32 = 101;

/// Result of a capture of one frame: endpoints, bytes and offsets.
#[derive(Debug, Clone, PartialEq)]
struct Decoded {
    ends: (SocketAddr, SocketAddr),
    transport: Transport,
    offsets: (u16, u16),
    lengths: (u32, u32),
    bytes: Vec<u8>,
}

fn decode(link_type: u32, cut: usize, frame: &[u8], tunnels: Tunnels) -> Result<Decoded, SkipReason> {
    // Not at time 0: an empty frame there is a header of zeros, which reads as the padding of a damaged file.
    let file = craft::pcap(Order::Little, false, link_type, cut, &[(1_000_000_000, frame.to_vec())]);
    let options = ReaderOptions { tunnels, ..ReaderOptions::default() };
    let mut reader = CaptureReader::from_reader_with(Cursor::new(file), "one", &options).unwrap();
    let decoded = reader.next_packet().unwrap().map(|packet| Decoded {
        ends: (packet.source, packet.destination),
        transport: packet.layout.transport,
        offsets: (packet.layout.transport_offset, packet.layout.payload_offset),
        lengths: (packet.network_length, packet.payload_length),
        bytes: packet.bytes.to_vec(),
    });
    while reader.next_packet().unwrap().is_some() {}
    let CaptureSummary { skipped, damage, .. } = reader.summary();
    assert_eq!(damage, None);
    decoded.ok_or_else(|| skipped[0].0)
}

/// A packet and its expected decoding.
#[derive(Debug, Clone)]
struct Built {
    packet: Vec<u8>,
    expected: Decoded,
}

/// Builds a TCP or UDP packet over IPv4 or IPv6.
fn build(ipv6: bool, tcp: bool, ports: (u16, u16), options: usize, payload: &[u8]) -> Built {
    let (a4, b4, a6, b6) = ([10, 1, 2, 3], [10, 4, 5, 6], [0x20; 16], [0xfd; 16]);
    let network = if ipv6 { PacketBuilder::ipv6(a6, b6, 9) } else { PacketBuilder::ipv4(a4, b4, 9) };
    let mut packet = Vec::new();
    if tcp {
        let options = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
        let builder = network.tcp(ports.0, ports.1, 7, 500).ack(9).options_raw(&options).unwrap();
        builder.write(&mut packet, payload).unwrap();
    } else {
        network.udp(ports.0, ports.1).write(&mut packet, payload).unwrap();
    }
    // IPv4 options, which the builder does not support: no operation.
    let options = if ipv6 { 0 } else { options * 4 };
    packet.splice(20..20, vec![1; options]);
    if options > 0 {
        packet[0] += (options / 4) as u8;
        let length = packet.len() as u16;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
    }
    let start = if ipv6 { 40 } else { 20 + options };
    let ends: [std::net::IpAddr; 2] = if ipv6 { [a6.into(), b6.into()] } else { [a4.into(), b4.into()] };
    let expected = Decoded {
        ends: (SocketAddr::new(ends[0], ports.0), SocketAddr::new(ends[1], ports.1)),
        transport: if tcp { Transport::Tcp } else { Transport::Udp },
        offsets: (start as u16, (start + if tcp { 32 } else { 8 }) as u16),
        lengths: (packet.len() as u32, payload.len() as u32),
        bytes: packet.clone(),
    };
    Built { packet, expected }
}

/// Inserts extension headers of these kinds and lengths (in units of eight bytes beyond the first eight) before the
/// transport header.
fn extend(built: &mut Built, headers: &[(u8, u8)]) {
    let mut bytes = Vec::new();
    let mut next = built.packet[6];
    for &(kind, more) in headers.iter().rev() {
        let more = if kind == 44 { 0 } else { more };
        // RFC 4302 counts in units of four bytes, minus two; a fragment header with offset 0 and no more fragments is
        // atomic.
        let field = if kind == 51 { more * 2 } else { more };
        let mut header = vec![next, field, 0, 0, 1, 2, 3, 4];
        header.resize(8 + 8 * usize::from(more), 0xaa);
        bytes.splice(0..0, header);
        next = kind;
    }
    built.packet[6] = next;
    built.packet.splice(40..40, bytes.iter().copied());
    let payload = (built.packet.len() - 40) as u16;
    built.packet[4..6].copy_from_slice(&payload.to_be_bytes());
    let added = bytes.len() as u16;
    built.expected.offsets.0 += added;
    built.expected.offsets.1 += added;
    built.expected.lengths.0 += u32::from(added);
    built.expected.bytes = built.packet.clone();
}

/// The ways to wrap an IP packet in another.
#[derive(Debug, Clone, Copy)]
enum Wrap {
    IpInIp,
    Gre(u16),
    GreEthernet,
    PointToPoint,
    Vxlan,
    GtpUser(bool),
    Teredo(bool),
}

const WRAPS: [Wrap; 13] = [
    Wrap::IpInIp,
    Wrap::Gre(0),
    Wrap::Gre(0x8000),
    Wrap::Gre(0xb000),
    Wrap::Gre(0x2000),
    Wrap::GreEthernet,
    Wrap::PointToPoint,
    Wrap::Vxlan,
    Wrap::Vxlan,
    Wrap::GtpUser(false),
    Wrap::GtpUser(true),
    Wrap::Teredo(false),
    Wrap::Teredo(true),
];

impl Wrap {
    /// Returns the outer packet, and the offset of the inner one.
    fn around(self, inner: &[u8], ipv6: bool) -> (Vec<u8>, usize) {
        let inner_ipv6 = inner[0] >> 4 == 6;
        let ether: [u8; 2] = if inner_ipv6 { [0x86, 0xdd] } else { [8, 0] };
        let ethernet = [&[0; 12][..], &ether].concat();
        let (protocol, header): (u8, Vec<u8>) = match self {
            Wrap::IpInIp => (if inner_ipv6 { 41 } else { 4 }, vec![]),
            Wrap::Gre(flags) => {
                let words = (flags >> 15) + (flags >> 13 & 1) + (flags >> 12 & 1);
                (47, [&flags.to_be_bytes()[..], &ether, &vec![7; usize::from(words) * 4]].concat())
            }
            Wrap::GreEthernet => (47, [&[0, 0, 0x65, 0x58][..], &ethernet].concat()),
            Wrap::PointToPoint => {
                let ppp = if inner_ipv6 { 0x57 } else { 0x21 };
                (47, vec![0x30, 0x81, 0x88, 0x0b, 0, 9, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 3, 0, ppp])
            }
            Wrap::Vxlan => (17, [&[8, 0, 0, 0, 0, 0, 9, 0][..], &ethernet].concat()),
            Wrap::GtpUser(false) => (17, vec![0x30, 255, 0, 0, 0, 0, 0, 9]),
            Wrap::GtpUser(true) => (17, vec![0x34, 255, 0, 0, 0, 0, 0, 9, 0, 1, 0, 0x85, 1, 0, 0, 0x85, 1, 0, 0, 0]),
            Wrap::Teredo(false) => (17, vec![]),
            Wrap::Teredo(true) => (17, [&[0, 1, 0, 0][..], &[9; 9], &[0, 0, 1, 2, 3, 4, 5, 6]].concat()),
        };
        let mut payload = [&header[..], inner].concat();
        let mut before = header.len();
        if protocol == 17 {
            let port = match self {
                Wrap::Vxlan => 4789,
                Wrap::GtpUser(_) => 2152,
                _ => 3544,
            };
            payload = craft::udp((40_000, port), &payload);
            before += 8;
        }
        if ipv6 {
            (craft::ipv6([1; 16], [2; 16], protocol, &payload), before + 40)
        } else {
            (craft::ipv4([172, 16, 0, 1], [172, 16, 0, 2], protocol, &payload), before + 20)
        }
    }

    /// Teredo carries IPv6 only.
    fn carries(self, inner: &[u8]) -> bool {
        !matches!(self, Wrap::Teredo(_)) || inner[0] >> 4 == 6
    }
}

fn any_packet() -> impl Strategy<Value = Built> {
    (any::<bool>(), any::<bool>(), any::<(u16, u16)>(), 0..11_usize, prop::collection::vec(any::<u8>(), 0..80), {
        let kinds = prop::sample::select(vec![0, 43, 44, 51, 60, 135, 139, 140]);
        prop::collection::vec((kinds, 0..4_u8), 0..7)
    })
        .prop_map(|(ipv6, tcp, ports, options, payload, headers)| {
            // Avoid the ports of the tunnels.
            let ports = (ports.0 | 0x8000, ports.1 | 0x8000);
            let mut built = build(ipv6, tcp, ports, options, &payload);
            if ipv6 {
                extend(&mut built, &headers);
            }
            built
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_layout_gives_back_what_was_put_in(built in any_packet()) {
        let ipv6 = built.packet[0] >> 4 == 6;
        for (link_type, header) in link_headers(ipv6) {
            let frame = [&header[..], &built.packet, &[0xee; 3]].concat();
            prop_assert_eq!(decode(link_type, WHOLE, &frame, Tunnels::Outer), Ok(built.expected.clone()), "{}", link_type);
            prop_assert_eq!(decode(link_type, WHOLE, &frame, Tunnels::Inner), Ok(built.expected.clone()), "{}", link_type);
        }
    }

    #[test]
    fn every_truncation_is_a_prefix_or_has_its_reason(built in any_packet(), link in any::<prop::sample::Index>()) {
        let links = link_headers(built.packet[0] >> 4 == 6);
        let (link_type, header) = &links[link.index(links.len())];
        let frame = [&header[..], &built.packet].concat();
        let ports = header.len() + usize::from(built.expected.offsets.0) + 4;
        for cut in 0..=frame.len() {
            match decode(*link_type, cut, &frame, Tunnels::Inner) {
                Ok(decoded) => {
                    prop_assert!(cut >= ports, "{} cut at {}", link_type, cut);
                    prop_assert_eq!(&decoded.bytes[..], &built.packet[..cut - header.len()]);
                    prop_assert_eq!(decoded.ends, built.expected.ends);
                    prop_assert_eq!(decoded.lengths.0, built.expected.lengths.0);
                }
                Err(reason) => {
                    prop_assert!(cut < ports, "{} cut at {}", link_type, cut);
                    prop_assert_eq!(reason, SkipReason::HeadersTruncated, "{} cut at {}", link_type, cut);
                }
            }
        }
    }

    #[test]
    fn tunnels_lead_to_the_inner_packet_on_request(
        built in any_packet(),
        wraps in prop::collection::vec((prop::sample::select(WRAPS.to_vec()), any::<bool>()), 1..6),
    ) {
        let (mut packet, mut before) = (built.packet.clone(), 0);
        let mut depth = 0;
        for (wrap, ipv6) in wraps {
            if wrap.carries(&packet) {
                let (outer, header) = wrap.around(&packet, ipv6);
                packet = outer;
                before += header;
                depth += 1;
            }
        }
        let inner = decode(RAW, WHOLE, &packet, Tunnels::Inner);
        if depth > 4 {
            prop_assert_eq!(inner, Err(SkipReason::NestedTooDeep));
        } else {
            prop_assert_eq!(inner, Ok(built.expected.clone()));
            let ports = before + usize::from(built.expected.offsets.0) + 4;
            for cut in 0..packet.len() {
                match decode(RAW, cut, &packet, Tunnels::Inner) {
                    Ok(decoded) if cut >= ports => {
                        prop_assert_eq!(&decoded.bytes[..], &built.packet[..cut - before]);
                        prop_assert_eq!(decoded.ends, built.expected.ends);
                    }
                    // If the header that would have named the tunnel is cut, the outer packet is returned.
                    Ok(decoded) => prop_assert!(decoded.transport == Transport::Udp && depth > 0, "cut at {}", cut),
                    Err(reason) => prop_assert!(reason == SkipReason::HeadersTruncated && cut < ports, "cut at {}: {}", cut, reason),
                }
            }
        }
        if let Ok(outer) = decode(RAW, WHOLE, &packet, Tunnels::Outer) {
            prop_assert_eq!(&outer.bytes, &packet);
        }
    }

    #[test]
    fn nothing_panics_on_any_header(
        link_type in 0..300_u32,
        mut frame in prop::collection::vec(any::<u8>(), 0..120),
        built in any_packet(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let known = super::link::LinkLayer::from_link_type(link_type).is_some();
        if known {
            let _ = decode(link_type, WHOLE, &frame, Tunnels::Inner);
        }
        frame.extend(&built.packet);
        for (place, value) in changes {
            let place = place.index(frame.len());
            frame[place] = value;
        }
        for link_type in [1, 101, 105, 127, 192, 258, 276] {
            let _ = decode(link_type, WHOLE, &frame, Tunnels::Inner);
        }
        for (link_type, header) in link_headers(false) {
            let _ = decode(link_type, WHOLE, &[&header[..], &frame].concat(), Tunnels::Inner);
        }
    }
}

#[test]
fn tunnels_over_udp_and_mirrored_frames_are_opened() {
    let packet = build(false, true, (1, 2), 0, b"x").packet;
    let ethernet = [&[0; 12][..], &[8, 0], &packet].concat();
    let opened = |protocol: u8, content: &[u8]| {
        let outer = craft::ipv4([1; 4], [2; 4], protocol, content);
        decode(RAW, WHOLE, &outer, Tunnels::Inner).map(|decoded| decoded.bytes.to_vec())
    };
    let udp = |port: u16, header: &[u8], inside: &[u8]| {
        opened(17, &craft::udp((9, port), &[header, inside].concat())).unwrap()
    };
    assert_eq!(udp(6081, &[0, 0, 0x65, 0x58, 0, 0, 1, 0], &ethernet), packet, "Geneve");
    assert_eq!(udp(6081, &[1, 0, 0x08, 0, 0, 0, 1, 0, 1, 2, 3, 0], &packet), packet, "Geneve with an option");
    assert_eq!(udp(4790, &[0x0c, 0, 0, 3, 0, 0, 1, 0], &ethernet), packet, "VXLAN-GPE");
    assert_eq!(udp(4790, &[0x0c, 0, 0, 1, 0, 0, 1, 0], &packet), packet, "VXLAN-GPE with IP");
    assert_eq!(udp(4790, &[0x0c, 0, 0, 4, 0, 0, 1, 0, 0, 2, 1, 3, 0, 0, 0, 0], &ethernet), packet, "with NSH");
    assert_eq!(udp(6635, &[0, 0, 0x11, 64], &packet), packet, "MPLS in UDP");
    assert_eq!(udp(1701, &[0, 2, 0, 7, 0, 9, 0xff, 3, 0, 0x21], &packet), packet, "L2TP");
    let sequenced = [0x4a, 2, 0, 99, 0, 7, 0, 9, 0, 1, 0, 1, 0, 2, 0xee, 0xee, 0, 0x21];
    assert_eq!(udp(1701, &sequenced, &packet), packet, "L2TP with length, sequence and offset");
    for (header, what) in [
        (&[0, 0, 0x88, 0xbe][..], "ERSPAN I"),
        (&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 1, 0, 1, 0, 0, 0, 0], "ERSPAN II"),
        (&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], "ERSPAN III"),
        (&[0x20, 0, 0x65, 0x58, 0, 0, 1, 0], "NVGRE"),
    ] {
        assert_eq!(opened(47, &[header, &ethernet].concat()).unwrap(), packet, "{what}");
    }
    assert_eq!(opened(47, &[&[0, 0, 0x88, 0x3e, 1, 0, 0, 0][..], &packet].concat()).unwrap(), packet, "WCCP 2");
    assert_eq!(opened(47, &[&[0, 0, 0x88, 0x3e][..], &packet].concat()).unwrap(), packet, "WCCP 1");
    let register = [0x21, 0, 0xde, 0xff, 0, 0, 0, 0];
    assert_eq!(opened(103, &[&register[..], &packet].concat()).unwrap(), packet, "a PIM register");
    assert_eq!(opened(103, &[&[0x20, 0, 0, 0][..], &packet].concat()), Err(SkipReason::NotTcpOrUdp), "PIM's hello");
    let optional = [0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(opened(47, &[&optional[..], &ethernet].concat()).unwrap(), packet, "ERSPAN III with its subheader");
}

#[test]
fn frames_that_lead_to_no_packet_have_their_reasons() {
    let packet = build(false, true, (1, 2), 0, b"x").packet;
    let reason = |link_type: u32, header: &[u8]| {
        decode(link_type, WHOLE, &[header, &packet].concat(), Tunnels::Inner).unwrap_err()
    };
    let wireless = |control: u8, flags: u8, length: usize| {
        let mut header = vec![control, flags];
        header.resize(length, 0);
        [&header[..], &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0]].concat()
    };
    assert_eq!(reason(105, &wireless(0x80, 0, 24)), SkipReason::NotIp, "a beacon");
    assert_eq!(reason(105, &wireless(0x48, 0, 24)), SkipReason::NotIp, "data without data");
    assert_eq!(reason(105, &wireless(0x09, 0, 24)), SkipReason::MalformedHeader, "version 1");
    assert_eq!(reason(105, &wireless(0x08, 0x42, 24)), SkipReason::Encrypted);
    let mut aggregated = wireless(0x88, 0x02, 26);
    aggregated[24] = 0x80;
    assert_eq!(reason(105, &aggregated), SkipReason::AggregatedFrames);
    let mut fragment = wireless(0x08, 0x02, 24);
    fragment[22] = 1;
    assert_eq!(reason(105, &fragment), SkipReason::FragmentWithoutPorts);
    let radiotap = [&[0, 0, 9, 0, 2, 0, 0, 0, 0x40][..], &wireless(0x08, 0x02, 24)].concat();
    assert_eq!(reason(127, &radiotap), SkipReason::MalformedHeader, "bad checksum");
    assert_eq!(reason(192, &[0, 0, 8, 0, 192, 0, 0, 0]), SkipReason::UnknownLinkType);
    assert_eq!(reason(258, &[12, 0, 0, 0, 1, 0, 0, 0, 2, 1, 0, 0]), SkipReason::UnknownLinkType);
    assert_eq!(reason(258, &[0xff; 12]), SkipReason::HeadersTruncated);
    assert_eq!(reason(107, &[0, 0, 0, 0, 0]), SkipReason::MalformedHeader);
    assert_eq!(reason(149, &[12, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]), SkipReason::UnknownLinkType, "no pktap header");
    assert_eq!(reason(149, &[108, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0]), SkipReason::UnknownLinkType, "no packet");
    assert_eq!(reason(7, &[1, 2, 212, 2, 0, 9]), SkipReason::FragmentWithoutPorts, "the second part of a packet");
    assert_eq!(reason(7, &[1, 2, 241]), SkipReason::NotIp, "ARP");
    assert_eq!(reason(182, &[0xe1, 0, 4]), SkipReason::NotIp, "control of multilink frame relay");
    assert_eq!(reason(182, &[0x40, 7]), SkipReason::FragmentWithoutPorts);
    assert_eq!(reason(178, b"MGD\0"), SkipReason::MalformedHeader, "no magic number");
    assert_eq!(reason(137, b"MGC\0\x80\0\0\0"), SkipReason::NotIp, "a cell of operation and maintenance");
    assert_eq!(reason(135, b"MGC\0\0\0\0\0\0\0\0\x10"), SkipReason::NotIp, "a cell of operation and maintenance");
    assert_eq!(reason(132, b"MGC\0\0\x01\x40\x01"), SkipReason::NotIp, "encrypted");
    assert_eq!(reason(130, b"MGC\0\x47\0\0\0\x0c\0\0\0\0\x23"), SkipReason::NotIp, "IS-IS");
    assert_eq!(reason(130, b"MGC\0\x47\0\0\0\0\x30\0\0"), SkipReason::NotIp, "IS-IS");
    assert_eq!(reason(239, &[2, 0, 0, 0, 3, 0, 1, 0]), SkipReason::MalformedHeader);
    assert_eq!(reason(1, &[&[0; 12][..], &[0x88, 0xe5, 0x0c]].concat()), SkipReason::Encrypted, "MACsec");

    let outer = |protocol: u8, header: &[u8]| craft::ipv4([1; 4], [2; 4], protocol, &[header, &packet].concat());
    let tunnel =
        |protocol: u8, header: &[u8]| decode(RAW, WHOLE, &outer(protocol, header), Tunnels::Inner).unwrap_err();
    assert_eq!(tunnel(47, &[0x40, 0, 8, 0]), SkipReason::MalformedHeader, "routing");
    assert_eq!(tunnel(47, &[0, 3, 8, 0]), SkipReason::MalformedHeader, "version 3");
    assert_eq!(tunnel(47, &[0, 0, 8, 6]), SkipReason::NotIp, "ARP");
    assert_eq!(tunnel(47, &[0x20, 0x81, 0x88, 0x0b, 0, 0, 0, 1, 0, 0, 0, 2]), SkipReason::NotIp, "acknowledgement");
    assert_eq!(decode(RAW, WHOLE, &outer(47, &[0, 0, 8, 0]), Tunnels::Outer), Err(SkipReason::NotTcpOrUdp));
    // On the port of a tunnel, but not a tunnel: the datagram itself is decoded.
    for (port, bytes) in [
        (4789, [0; 20]),
        (2152, [0x32; 20]),
        (3544, [0x60; 20]),
        (4790, [0; 20]),
        (6081, [0xc0; 20]),
        (6635, [1; 20]),
        (1701, [0xc8; 20]),
        (1701, [0; 20]),
    ] {
        let datagram = craft::ipv4([1; 4], [2; 4], 17, &craft::udp((9, port), &bytes));
        assert_eq!(decode(RAW, WHOLE, &datagram, Tunnels::Inner).unwrap().bytes, datagram);
    }
    let endless = [0x34, 255, 0, 0, 0, 0, 0, 9, 0, 1, 0, 0x85, 0, 0, 0, 0x85];
    let datagram = craft::ipv4([1; 4], [2; 4], 17, &craft::udp((9, 2152), &endless));
    assert_eq!(decode(RAW, WHOLE, &datagram, Tunnels::Inner), Err(SkipReason::MalformedHeader));
}
