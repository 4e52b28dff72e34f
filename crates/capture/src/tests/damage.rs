//! Captures that are cut anywhere, damaged, or none at all, and packets that are skipped with a reason.

use proptest::prelude::*;

use super::super::{CaptureReader, Fragment, SkipReason};
use super::{A, B, RAW, WHOLE, only_reason, read, single, tcp_packet};
use etcbench_craft as craft;
use etcbench_craft::Order;

#[test]
fn every_packet_that_is_skipped_has_its_reason() {
    let arp = [&[0; 12][..], &[8, 6], &[0; 28]].concat();
    assert_eq!(only_reason(1, WHOLE, arp), SkipReason::NotIp);
    assert_eq!(only_reason(RAW, WHOLE, craft::ipv4(A, B, 1, &[8; 16])), SkipReason::NotTcpOrUdp);
    let mut fragment = tcp_packet(b"x");
    fragment[7] = 5;
    let (seen, _) = single(RAW, WHOLE, fragment);
    assert_eq!((seen[0].offsets, seen[0].lengths.2), ((20, 20), 25));
    assert_eq!(seen[0].fragment, Some(Fragment { identification: 0x1234, offset: 40, more: false }));
    for cut in [1, 19, 20, 23] {
        assert_eq!(only_reason(RAW, cut, tcp_packet(b"x")), SkipReason::HeadersTruncated, "{cut}");
    }
    let change = |offset: usize, value: u8| {
        let mut packet = tcp_packet(b"x");
        packet[offset] = value;
        only_reason(RAW, WHOLE, packet)
    };
    assert_eq!(change(0, 0x44), SkipReason::MalformedHeader, "header length below 20");
    assert_eq!(change(3, 19), SkipReason::MalformedHeader, "total length below the header's");
    assert_eq!(change(3, 39), SkipReason::MalformedHeader, "total length inside the TCP header");
    assert_eq!(change(32, 0x40), SkipReason::MalformedHeader, "TCP header length below 20");
    assert_eq!(change(32, 0xf0), SkipReason::MalformedHeader, "TCP header longer than the packet");
    let mut datagram = craft::ipv4(A, B, 17, &craft::udp((1, 2), b"ab"));
    datagram[25] = 7;
    assert_eq!(only_reason(RAW, WHOLE, datagram), SkipReason::MalformedHeader, "UDP length below 8");
    for reason in SkipReason::ALL {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        assert!(reason.sentence().ends_with('.'));
    }
}

#[test]
fn a_cut_transport_header_with_ports_is_still_a_packet() {
    let packet = tcp_packet(b"payload");
    for cut in 24..packet.len() {
        let (seen, summary) = single(RAW, cut, packet.clone());
        assert_eq!(seen[0].destination.port(), 443);
        assert_eq!(seen[0].flags, if cut > 33 { 0x18 } else { 0 });
        assert_eq!(seen[0].window, if cut > 35 { 501 } else { 0 });
        assert_eq!(seen[0].offsets.1, if cut > 32 { 44 } else { 40 });
        assert_eq!(seen[0].lengths.2, if cut > 32 { 7 } else { 11 });
        assert_eq!(summary.partial_transport_headers, u64::from(cut < 44));
    }
}

#[test]
fn every_link_layer_cut_anywhere_is_counted_or_read() {
    let packet = craft::ipv4(A, B, 17, &craft::udp((53, 99), b"name"));
    let headers: [(u32, Vec<u8>); 12] = [
        (0, vec![2, 0, 0, 0]),
        (1, craft::ethernet(&packet)[..14].to_vec()),
        (1, [&[0; 12][..], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0]].concat()),
        (1, [&[0; 12][..], &[0x88, 0x64, 0x11, 0, 0, 1, 0, 40, 0, 0x21]].concat()),
        (1, [&[0; 12][..], &[0x88, 0x47, 0, 0, 1, 64]].concat()),
        (9, vec![0xff, 3, 0, 0x21]),
        (51, vec![0x11, 0, 0, 1, 0, 40, 0, 0x21]),
        (101, vec![]),
        (108, vec![0, 0, 0, 2]),
        (113, [&[0; 14][..], &[8, 0]].concat()),
        (276, [&[8, 0][..], &[0; 18]].concat()),
        (276, [&[0x81, 0][..], &[0; 18], &[0, 5, 8, 0]].concat()),
    ];
    for (link_type, header) in headers {
        let frame = [&header[..], &packet].concat();
        for cut in 0..header.len() + 24 {
            assert_eq!(only_reason(link_type, cut, frame.clone()), SkipReason::HeadersTruncated, "{link_type} {cut}");
        }
        for cut in header.len() + 24..=frame.len() {
            let (seen, _) = single(link_type, cut, frame.clone());
            assert_eq!(seen[0].bytes, packet[..cut - header.len()]);
            assert_eq!(seen[0].lengths, (frame.len() as u32, 32, 4));
        }
    }
}

#[test]
fn damage_is_told_with_its_place_after_all_packets_before_it() {
    let frame = (0, craft::ethernet(&tcp_packet(b"x")));
    let whole = craft::pcap(Order::Little, false, 1, WHOLE, &[frame.clone(), frame.clone(), frame]);
    let record = (whole.len() - 24) / 3;
    for cut in 1..record {
        let (seen, summary) = read(whole[..whole.len() - cut].to_vec()).unwrap();
        assert_eq!(seen.len(), 2);
        let damage = summary.damage.unwrap();
        assert_eq!(damage.offset as usize, 24 + 2 * record);
        assert!(damage.problem.starts_with("the file ends inside a record"), "{damage}");
    }
    let mut huge = whole.clone();
    huge[24 + record + 11] = 0x7f;
    let (seen, summary) = read(huge).unwrap();
    assert_eq!(seen.len(), 1);
    let message = summary.damage.unwrap().to_string();
    assert!(message.starts_with(&format!("damaged at byte {}: a packet claims 213", 24 + record)), "{message}");

    // Common content in place of a record.
    for order in [Order::Little, Order::Big] {
        let second = craft::pcap(order, false, 1, WHOLE, &[]);
        let section = craft::section(order);
        let another = "another capture begins here";
        for (rest, told) in [(second, another), (section, another), (vec![0; 4096], "zeros from here on")] {
            let (seen, summary) = read([&whole[..], &rest].concat()).unwrap();
            let damage = summary.damage.unwrap();
            assert_eq!((seen.len(), damage.offset as usize), (3, whole.len()), "{told}");
            assert!(damage.problem.contains(told), "{damage}");
        }
    }

    let section = [craft::section(Order::Little), craft::interface(Order::Little, 1, None, None)].concat();
    let problem = |block: Vec<u8>| {
        let (seen, summary) = read([&section[..], &block].concat()).unwrap();
        assert!(seen.is_empty());
        let damage = summary.damage.unwrap();
        assert_eq!(damage.offset as usize, section.len());
        damage.problem
    };
    for order in [Order::Little, Order::Big] {
        assert!(problem(craft::pcap(order, false, 1, WHOLE, &[])).contains("another capture begins here"));
    }
    assert!(problem(vec![0; 4096]).contains("only zeros from here on"));
    let packet = craft::enhanced_packet(Order::Little, 0, 0, &tcp_packet(b"x"));
    assert!(problem(packet[..packet.len() - 1].to_vec()).contains("ends inside a block"));
    assert!(problem(packet[..7].to_vec()).contains("ends inside a block"));
    assert!(problem(craft::enhanced_packet(Order::Little, 3, 0, &[0; 20])).contains("interface 3"));
    let mut other = packet.clone();
    other[20] = 0xff;
    assert!(problem(other).contains("malformed"));
    let mut other = packet.clone();
    other[7] = 0x7f;
    assert!(problem(other).contains("more than the limit"));
    let mut other = packet.clone();
    let end = other.len() - 4;
    other[end] += 4;
    assert!(problem(other).contains("two different lengths"));
    assert!(problem(craft::block(Order::Little, 1, &[0; 4])).contains("malformed"));
}

#[test]
fn files_that_are_no_captures_are_refused_in_words() {
    let message = |file: &[u8]| read(file.to_vec()).unwrap_err().to_string();
    assert_eq!(message(b""), "test.pcap: the file is empty (0 bytes); a download or a copy may have failed");
    assert!(message(b"<!DOCTYPE html>").contains("3c21444f4354595045"));
    assert!(message(&[0x1f, 0x8b, 8, 0]).starts_with("test.pcap: the gzip data is damaged or cut"));
    assert!(message(&[0xd4, 0xc3, 0xb2, 0xa1, 2]).contains("24-byte header"));
    assert!(message(&craft::pcap(Order::Big, false, 147, 0, &[])).contains("link type 147 is not supported"));
    let frame = tcp_packet(b"x");
    let only_unknown = [
        craft::section(Order::Big),
        craft::interface(Order::Big, 147, None, None),
        craft::enhanced_packet(Order::Big, 0, 0, &frame),
    ]
    .concat();
    assert!(message(&only_unknown).contains("link type 147 is not supported"));
    let mixed =
        [only_unknown, craft::interface(Order::Big, 101, None, None), craft::enhanced_packet(Order::Big, 1, 0, &frame)]
            .concat();
    let (seen, summary) = read(mixed).unwrap();
    assert_eq!((seen.len(), summary.skipped_for(SkipReason::UnknownLinkType)), (1, 1));
    let missing = CaptureReader::open("no/such/file.pcap".as_ref()).err().unwrap().to_string();
    assert!(missing.starts_with("no/such/file.pcap: cannot open the capture"), "{missing}");
    let folder = CaptureReader::open("src".as_ref()).err().unwrap().to_string();
    assert_eq!(folder, "src: this is a folder; name the captures in it, such as src/*.pcap");
}

/// Builds a capture in either format with packets of all kinds.
fn varied(order: Order, pcapng: bool) -> Vec<u8> {
    let options = [8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1];
    let mut tagged = craft::ethernet(&tcp_packet(b"tagged"));
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    let frames: Vec<Vec<u8>> = vec![
        craft::ethernet(&tcp_packet(b"hello")),
        craft::ethernet(&craft::ipv4(A, B, 17, &craft::udp((53, 99), b"name"))),
        craft::ethernet(&craft::ipv6([1; 16], [2; 16], 6, &craft::tcp((1, 2), 2, 3, &options, b""))),
        craft::ethernet(&craft::ipv6(
            [1; 16],
            [2; 16],
            44,
            &[&[17, 0, 0, 1, 0, 0, 0, 1][..], &craft::udp((5, 6), b"")].concat(),
        )),
        tagged,
    ];
    if !pcapng {
        let frames: Vec<(i64, Vec<u8>)> = (0..).map(|number| number * 1_000_000).zip(frames).collect();
        return craft::pcap(order, true, 1, WHOLE, &frames);
    }
    let mut file = [craft::section(order), craft::interface(order, 1, Some(9), Some(3))].concat();
    frames
        .iter()
        .enumerate()
        .for_each(|(time, frame)| file.extend(craft::enhanced_packet(order, 0, time as u64, frame)));
    file
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_panics_on_damaged_captures(
        big: bool,
        pcapng: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        is_cut: bool,
    ) {
        let mut file = varied(if big { Order::Big } else { Order::Little }, pcapng);
        for (place, value) in changes {
            let place = place.index(file.len());
            file[place] = value;
        }
        if is_cut {
            file.truncate(cut.index(file.len()));
        }
        if let Ok((seen, _)) = read(file) {
            for packet in seen {
                let is_later_fragment = packet.fragment.is_some_and(|fragment| fragment.offset > 0);
                let least = if is_later_fragment { 20 } else { 24 };
                prop_assert!(packet.bytes.len() >= least && packet.timestamp >= 0);
                prop_assert!(packet.bytes.len() as u32 <= packet.lengths.1);
                prop_assert_eq!(packet.offsets.0 == packet.offsets.1, is_later_fragment);
            }
        }
    }

    #[test]
    fn nothing_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), link in 0usize..16) {
        let link_type = [0, 1, 9, 12, 14, 50, 51, 101, 108, 113, 228, 229, 276, 101, 1, 101][link];
        let frame = (0, bytes.clone());
        read(craft::pcap(Order::Little, false, link_type, WHOLE, &[frame])).unwrap();
        let mut packet = vec![0x60];
        packet.extend(&bytes);
        read(craft::pcap(Order::Little, false, RAW, WHOLE, &[(0, packet)])).unwrap();
        let _ = read([craft::section(Order::Big), bytes].concat());
    }

    #[test]
    fn a_cut_file_gives_the_same_packets_up_to_the_cut(
        big: bool,
        pcapng: bool,
        cut in any::<prop::sample::Index>(),
    ) {
        let file = varied(if big { Order::Big } else { Order::Little }, pcapng);
        let (whole, summary) = read(file.clone()).unwrap();
        prop_assert_eq!((whole.len(), summary.first_fragments, summary.damage), (5, 1, None));
        let cut = 24 + cut.index(file.len() - 24);
        let (part, summary) = read(file[..cut].to_vec()).unwrap();
        prop_assert_eq!(&part[..], &whole[..part.len()]);
        if let Some(damage) = summary.damage {
            prop_assert!(damage.offset < cut as u64);
        }
    }
}
