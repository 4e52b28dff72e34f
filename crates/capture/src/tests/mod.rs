//! Tests of whole captures: both formats in both byte orders, padding, fragments and times.

mod damage;

use std::net::SocketAddr;

use super::{CaptureError, CaptureReader, CaptureSummary, Fragment, SkipReason, Transport};
use etcbench_craft as craft;
use etcbench_craft::Order;

/// An owned copy of a packet.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    number: u64,
    timestamp: i64,
    fragment: Option<Fragment>,
    source: SocketAddr,
    destination: SocketAddr,
    bytes: Vec<u8>,
    lengths: (u32, u32, u32),
    offsets: (u16, u16),
    transport: Transport,
    flags: u8,
    window: u16,
}

fn read(file: Vec<u8>) -> Result<(Vec<Seen>, CaptureSummary), CaptureError> {
    let mut reader = CaptureReader::from_reader(std::io::Cursor::new(file), "test.pcap")?;
    let mut seen = Vec::new();
    while let Some(packet) = reader.next_packet()? {
        seen.push(Seen {
            number: packet.number,
            timestamp: packet.timestamp,
            fragment: packet.fragment,
            source: packet.source,
            destination: packet.destination,
            bytes: packet.bytes.to_vec(),
            lengths: (packet.wire_length, packet.network_length, packet.payload_length),
            offsets: (packet.layout.transport_offset, packet.layout.payload_offset),
            transport: packet.layout.transport,
            flags: packet.tcp_flags,
            window: packet.tcp_window,
        });
    }
    assert!(reader.next_packet()?.is_none(), "no packets after the end");
    let summary = reader.summary();
    let skipped: u64 = summary.skipped.iter().map(|(_, count)| count).sum();
    assert_eq!(summary.packets, summary.decoded + skipped);
    assert_eq!(summary.decoded, seen.len() as u64);
    Ok((seen, summary))
}

/// Reads a capture of one frame.
fn single(link_type: u32, cut: usize, frame: Vec<u8>) -> (Vec<Seen>, CaptureSummary) {
    read(craft::pcap(Order::Little, false, link_type, cut, &[(0, frame)])).unwrap()
}

fn only_reason(link_type: u32, cut: usize, frame: Vec<u8>) -> SkipReason {
    let (seen, summary) = single(link_type, cut, frame);
    assert!(seen.is_empty(), "{seen:?}");
    assert_eq!(summary.skipped.len(), 1);
    summary.skipped[0].0
}

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
const RAW: u32 = 101;
const WHOLE: usize = 65_535;

fn tcp_packet(payload: &[u8]) -> Vec<u8> {
    craft::ipv4(A, B, 6, &craft::tcp((40_000, 443), 0x18, 501, &[1, 1, 1, 0], payload))
}

#[test]
fn pcap_in_both_byte_orders_and_resolutions() {
    let time = 1_700_000_000_123_456_789;
    for order in [Order::Big, Order::Little] {
        for nanoseconds in [false, true] {
            let frames =
                [(time, craft::ethernet(&tcp_packet(b"hello"))), (time + 1000, craft::ethernet(&tcp_packet(b"")))];
            let (seen, summary) = read(craft::pcap(order, nanoseconds, 1, WHOLE, &frames)).unwrap();
            assert_eq!(seen.len(), 2);
            assert_eq!(seen[0].timestamp, if nanoseconds { time } else { time / 1000 * 1000 });
            assert_eq!(seen[0].bytes, tcp_packet(b"hello"));
            assert_eq!(seen[0].lengths, (14 + 49, 49, 5));
            assert_eq!(seen[0].offsets, (20, 44));
            assert_eq!((seen[0].flags, seen[0].window), (0x18, 501));
            assert_eq!(seen[0].source, "10.0.0.1:40000".parse().unwrap());
            assert_eq!(seen[0].destination, "10.0.0.2:443".parse().unwrap());
            assert_eq!((seen[0].number, seen[1].number), (1, 2));
            assert_eq!(summary.link_types(), [1]);
            assert_eq!(summary.interfaces[0].snap_length, 65_535);
            assert_eq!(summary.damage, None);
        }
    }
}

#[test]
fn pcapng_with_sections_interfaces_and_clocks() {
    for (order, other) in [(Order::Big, Order::Little), (Order::Little, Order::Big)] {
        let ethernet = craft::ethernet(&tcp_packet(b"x"));
        let raw = craft::ipv4(A, B, 17, &craft::udp((53, 5353), b"answer"));
        let mut obsolete = order.u16(1).to_vec();
        obsolete.extend(order.u16(9));
        obsolete.extend([order.u32(0), order.u32(1536), order.u32(raw.len() as u32), order.u32(2000)].concat());
        obsolete.extend(&raw);
        let mut simple = order.u32(ethernet.len() as u32).to_vec();
        simple.extend(&ethernet);
        let file = [
            craft::section(order),
            craft::interface(order, 1, None, None),
            craft::interface(order, 101, Some(0x80 | 10), Some(100)),
            craft::block(order, 5, b"interface statistics"),
            craft::enhanced_packet(order, 0, 2_000_001, &ethernet),
            craft::enhanced_packet(order, 1, 1536, &raw),
            craft::block(order, 2, &obsolete),
            craft::block(order, 3, &simple),
            craft::section(other),
            craft::interface(other, 1, Some(9), Some(-1)),
            craft::enhanced_packet(other, 0, 3_000_000_005, &ethernet),
            craft::enhanced_packet(other, 0, 5, &ethernet),
        ]
        .concat();
        let (seen, summary) = read(file).unwrap();
        let times: Vec<i64> = seen.iter().map(|packet| packet.timestamp).collect();
        assert_eq!(times, [2_000_001_000, 101_500_000_000, 101_500_000_000, 2_000_000_005]);
        assert_eq!(seen.iter().map(|packet| packet.number).collect::<Vec<_>>(), [1, 2, 3, 5]);
        assert_eq!(seen[1].bytes, raw);
        assert_eq!(seen[2].lengths, (2000, 34, 6));
        assert_eq!(summary.skipped, [(SkipReason::NoTimestamp, 1), (SkipReason::TimestampOutOfRange, 1)]);
        assert_eq!(summary.link_types(), [1, 101]);
        assert_eq!(summary.damage, None);
    }
}

#[test]
fn padding_is_removed_and_unset_lengths_are_the_frames() {
    let mut frame = craft::ethernet(&craft::ipv4(A, B, 17, &craft::udp((1, 2), b"ab")));
    frame.resize(60, 0xee);
    let (seen, _) = single(1, WHOLE, frame);
    assert_eq!(seen[0].bytes.len(), 30);
    assert_eq!(seen[0].lengths, (60, 30, 2));

    let mut packet = tcp_packet(&[7; 100]);
    packet[2..4].fill(0);
    let (seen, _) = single(RAW, WHOLE, packet);
    assert_eq!(seen[0].lengths, (144, 144, 100));
    let (seen, _) = single(RAW, 60, tcp_packet(&[7; 100]));
    assert_eq!((seen[0].bytes.len(), seen[0].lengths), (60, (144, 144, 100)));
}

#[test]
fn ipv6_with_extension_headers_and_fragments() {
    let (a, b) = ([1; 16], [2; 16]);
    let datagram = craft::udp((1000, 2000), b"data");
    let hop_by_hop = [&[60, 0, 1, 4, 0, 0, 0, 0][..], &[17, 1], &[0; 14], &datagram].concat();
    let (seen, _) = single(RAW, WHOLE, craft::ipv6(a, b, 0, &hop_by_hop));
    assert_eq!((seen[0].offsets, seen[0].lengths.2), ((64, 72), 4));
    assert_eq!(seen[0].source.port(), 1000);
    let fragment = |offset: u16, more: u16| {
        let field = ((offset << 3) | more).to_be_bytes();
        craft::ipv6(a, b, 44, &[&[17, 0, field[0], field[1], 9, 9, 9, 9][..], &datagram].concat())
    };
    let (seen, summary) = single(RAW, WHOLE, fragment(0, 1));
    assert_eq!((seen[0].offsets, summary.first_fragments), ((48, 56), 1));
    assert_eq!(single(RAW, WHOLE, fragment(0, 0)).1.first_fragments, 0);
    let (seen, summary) = single(RAW, WHOLE, fragment(5, 1));
    assert_eq!((seen[0].offsets, seen[0].source.port(), summary.first_fragments), ((48, 48), 0, 0));
    assert_eq!(seen[0].fragment, Some(Fragment { identification: 0x0909_0909, offset: 40, more: true }));
}

#[test]
fn packets_out_of_order_are_counted_with_advice() {
    let frames = |times: &[i64]| -> Vec<(i64, Vec<u8>)> {
        times.iter().map(|&time| (time * 1_000_000, craft::ethernet(&tcp_packet(b"x")))).collect()
    };
    let summary = |times: &[i64]| read(craft::pcap(Order::Little, false, 1, WHOLE, &frames(times))).unwrap().1;
    // The same time is in order; every packet before the latest one so far is not.
    assert_eq!(summary(&[0, 5, 5, 9]).out_of_order, 0);
    assert_eq!(summary(&[0, 5, 5, 9]).to_string(), "4 packets, 4 of TCP or UDP");
    let unsorted = summary(&[3, 0, 4, 9, 7]);
    assert_eq!(unsorted.out_of_order, 2);
    let advice = unsorted.to_string();
    assert!(advice.contains("2 packets are earlier than a packet before") && advice.contains("reordercap"), "{advice}");
    let text = serde_json::to_string(&unsorted).unwrap();
    assert_eq!(serde_json::from_str::<CaptureSummary>(&text).unwrap(), unsorted);
    assert!(!serde_json::to_string(&summary(&[0])).unwrap().contains("out_of_order"));
}

/// A first fragment, then two others of the same datagram, which only name the first extension header.
#[test]
fn later_fragments_follow_a_chain_of_extension_headers() {
    let (a, b) = ([1; 16], [2; 16]);
    let authentication = |next: u8| [next, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let fragments = |ipv6: bool, next: u8, chain: &[u8]| -> Vec<(i64, Vec<u8>)> {
        let first = [chain, &craft::udp((1000, 2000), &[7; 16])].concat();
        let rest = [8; 24];
        [(0_u16, &first[..], true), (first.len() as u16, &rest, true), (first.len() as u16 + 24, &rest, false)]
            .into_iter()
            .map(|(offset, payload, more)| {
                let packet = if ipv6 {
                    let field = (offset | u16::from(more)).to_be_bytes();
                    craft::ipv6(a, b, 44, &[&[next, 0, field[0], field[1], 0, 0, 0, 9][..], payload].concat())
                } else {
                    let mut packet = craft::ipv4(A, B, next, payload);
                    let field = ((offset / 8) | if more { 0x2000 } else { 0 }).to_be_bytes();
                    packet[6..8].copy_from_slice(&field);
                    packet
                };
                (1_000_000_000, packet)
            })
            .collect()
    };
    let long = [&options(51)[..], &authentication(17)].concat();
    for (ipv6, next, chain) in [
        (true, 17, vec![]),
        (true, 60, options(17).to_vec()),
        (true, 60, long),
        (true, 51, authentication(17).to_vec()),
        (false, 51, authentication(17).to_vec()),
    ] {
        let frames = fragments(ipv6, next, &chain);
        let (seen, summary) = read(craft::pcap(Order::Little, false, RAW, WHOLE, &frames)).unwrap();
        assert_eq!((seen.len(), summary.first_fragments), (3, 1), "{next} {chain:?}");
        assert_eq!(seen[0].destination.port(), 2000);
        let later: Vec<u32> = seen[1..].iter().map(|packet| packet.lengths.2).collect();
        assert_eq!((later, seen[1].transport), (vec![24, 24], Transport::Udp));
        // Without the first fragment, the protocol is unknown.
        let (seen, summary) = read(craft::pcap(Order::Little, false, RAW, WHOLE, &frames[1..])).unwrap();
        if chain.is_empty() {
            assert_eq!(seen.len(), 2);
        } else {
            assert_eq!(summary.skipped, [(SkipReason::FragmentWithoutPorts, 2)]);
        }
    }
    // The chain leads to something else.
    let frames = fragments(true, 60, &options(58));
    let (_, summary) = read(craft::pcap(Order::Little, false, RAW, WHOLE, &frames)).unwrap();
    assert_eq!(summary.skipped, [(SkipReason::NotTcpOrUdp, 3)]);
}

#[test]
fn fractions_of_a_second_beyond_the_resolution_are_counted() {
    let frame = craft::ethernet(&tcp_packet(b"x"));
    // Fractions in units of the file; the times that they give.
    let read_fractions = |order: Order, nanoseconds: bool, fractions: &[u32]| {
        let frames: Vec<(i64, Vec<u8>)> = fractions.iter().map(|_| (5_000_000_000, frame.clone())).collect();
        let mut file = craft::pcap(order, nanoseconds, 1, WHOLE, &frames);
        for (number, &fraction) in fractions.iter().enumerate() {
            let place = 24 + number * (16 + frame.len()) + 4;
            file[place..place + 4].copy_from_slice(&order.u32(fraction));
        }
        let (seen, summary) = read(file).unwrap();
        let times: Vec<i64> = seen.iter().map(|packet| packet.timestamp - 5_000_000_000).collect();
        (times, summary)
    };
    for order in [Order::Big, Order::Little] {
        let (times, summary) = read_fractions(order, false, &[0, 999_999]);
        assert_eq!((times, summary.fractions_out_of_range), (vec![0, 999_999_000], 0));
        // A carry that was forgotten.
        let (times, summary) = read_fractions(order, false, &[1_000_005]);
        assert_eq!((times, summary.fractions_out_of_range), (vec![1_000_005_000], 1));
        // Nanoseconds, one of which would be microseconds too.
        let (times, summary) = read_fractions(order, false, &[2_000_000, 123_456_789, 700_000, 999_999_999]);
        assert_eq!((times, summary.fractions_out_of_range), (vec![2_000_000, 123_456_789, 700_000, 999_999_999], 3));
        let told = summary.to_string();
        assert!(told.contains("3 packets have a fraction of a second beyond the file's resolution"), "{told}");
        let (times, summary) = read_fractions(order, true, &[999_999_999, 1_000_000_000]);
        assert_eq!((times, summary.fractions_out_of_range), (vec![999_999_999, 1_000_000_000], 1));
        // Damaged ones among good ones, and among the first.
        let mut damaged = vec![500_000; 20];
        damaged[2] = 3_000_000;
        let mut expected = vec![500_000_000; 20];
        expected[2] = 3_000_000;
        let (times, summary) = read_fractions(order, false, &damaged);
        assert_eq!((times, summary.fractions_out_of_range), (expected.clone(), 1));
        damaged.swap(0, 2);
        expected.swap(0, 2);
        assert_eq!(read_fractions(order, false, &damaged).0, expected);
        // No fraction in any unit.
        let (times, summary) = read_fractions(order, false, &[0x8000_0000, 700_000]);
        assert_eq!((times, summary.fractions_out_of_range), (vec![0, 700_000_000], 1));
        assert_eq!(read_fractions(order, true, &[0x8000_0000]).0, [0]);
    }
}

#[test]
fn the_summary_names_the_most_frequent_protocols() {
    let frame = |ethertype: u16| (0, [&[0; 12][..], &ethertype.to_be_bytes(), &[0; 46]].concat());
    let frames: Vec<_> = [0x88cc, 0x0806, 0x0806, 0x9000, 0x88cc, 0x0806, 0x8035].map(frame).to_vec();
    let (_, summary) = read(craft::pcap(Order::Little, false, 1, WHOLE, &frames)).unwrap();
    let told =
        "7 packets, 0 of TCP or UDP, 7 not_ip (EtherType 0x0806: 3, EtherType 0x88cc: 2, EtherType 0x8035: 1, ...)";
    assert_eq!(summary.to_string(), told);
    let text = serde_json::to_string(&summary).unwrap();
    let entry = r#"["not_ip","EtherType 0x9000",1]"#;
    assert!(text.contains(entry), "{text}");
    assert_eq!(serde_json::from_str::<CaptureSummary>(&text).unwrap(), summary);
}
