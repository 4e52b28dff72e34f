//! Unusual but valid files: every variant of pcap, and corner cases of pcapng.

use std::io::Cursor;

use proptest::prelude::*;

use super::{CaptureReader, CaptureSummary, SkipReason};
use etcbench_craft as craft;
use etcbench_craft::Order;

/// Returns numbers and times of a capture's packets.
fn times(file: Vec<u8>) -> (Vec<(u64, i64)>, CaptureSummary) {
    let mut reader = CaptureReader::from_reader(Cursor::new(file), "odd").unwrap();
    let mut times = Vec::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        times.push((packet.number, packet.timestamp));
    }
    (times, reader.summary())
}

fn frame() -> Vec<u8> {
    craft::ethernet(&craft::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, &craft::udp((1, 2), b"x")))
}

/// Kuznetzov's patched libpcap wrote an interface, a protocol and a packet type after each record's header.
#[test]
fn the_modified_pcap_is_read_in_both_byte_orders() {
    for order in [Order::Little, Order::Big] {
        let mut file = order.u32(0xa1b2_cd34).to_vec();
        file.extend(order.u16(2));
        file.extend(order.u16(4));
        file.extend([0; 8]);
        file.extend(order.u32(0));
        file.extend(order.u32(1));
        for second in 1..4 {
            let length = frame().len() as u32;
            file.extend([order.u32(second), order.u32(7), order.u32(length), order.u32(length)].concat());
            file.extend([1, 0, 0, 0, 8, 0, 0, 0]);
            file.extend(frame());
        }
        let (seen, summary) = times(file);
        assert_eq!(seen, [(1, 1_000_007_000), (2, 2_000_007_000), (3, 3_000_007_000)], "{order:?}");
        assert_eq!((summary.damage, summary.interfaces[0].snap_length), (None, 0));
    }
}

#[test]
fn times_out_of_order_and_equal_and_records_of_no_length_are_read() {
    let frames =
        [(5_000_000_000, frame()), (1_000_000_000, frame()), (1_000_000_000, vec![]), (1_000_000_000, frame())];
    let (seen, summary) = times(craft::pcap(Order::Little, false, 1, 65_535, &frames));
    assert_eq!(seen, [(1, 5_000_000_000), (2, 1_000_000_000), (4, 1_000_000_000)]);
    assert_eq!(summary.skipped, [(SkipReason::HeadersTruncated, 1)]);
    // A snap length of 0 cuts every frame away, but the records remain.
    let (seen, summary) = times(craft::pcap(Order::Big, true, 1, 0, &frames));
    assert_eq!((seen.len(), summary.packets, summary.damage), (0, 4, None));
    // The link type's upper bits announce a frame check sequence, which is not part of the IP packet.
    let mut file = craft::pcap(Order::Little, false, 1, 65_535, &[(0, [frame(), vec![9; 4]].concat())]);
    file[23] = 0x44;
    assert_eq!(times(file).0.len(), 1);
}

/// The longest accepted packet is read; one byte more is damage.
#[test]
fn oversized_records_are_damage_after_the_packets_before_them() {
    let mut long = frame();
    long.resize(262_144, 0);
    let (seen, summary) = times(craft::pcap(Order::Little, false, 1, usize::MAX >> 33, &[(0, long.clone())]));
    assert_eq!((seen.len(), summary.damage), (1, None));
    long.push(0);
    let (seen, summary) = times(craft::pcap(Order::Little, false, 1, usize::MAX >> 33, &[(0, frame()), (0, long)]));
    assert_eq!(seen.len(), 1);
    assert!(summary.damage.unwrap().problem.contains("262145 captured bytes"));
}

#[test]
fn options_that_overflow_their_block_are_damage_or_ignored() {
    let order = Order::Little;
    let packet = craft::enhanced_packet(order, 0, 3, &frame());
    for length in [0_u16, 1, 2, 8, 9, 200, u16::MAX] {
        for code in [1_u16, 9, 14, 2988, 30_000] {
            let mut body = order.u16(1).to_vec();
            body.extend([0, 0]);
            body.extend(order.u32(65_535));
            body.extend(order.u16(code));
            body.extend(order.u16(length));
            body.extend([6; 8]);
            let file = [craft::section(order), craft::block(order, 1, &body), packet.clone()].concat();
            let (seen, summary) = times(file);
            // An offset of 6.6 * 10^16 seconds exceeds the range of timestamps.
            let out_of_range = summary.skipped_for(SkipReason::TimestampOutOfRange) == 1;
            assert!(seen.len() == 1 || summary.damage.is_some() || out_of_range, "option {code} of {length} bytes");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Compares every `if_tsresol` with an independent computation in floating point.
    #[test]
    fn every_clock_gives_its_time(
        resolution: u8,
        offset in prop::option::of(0_i64..2_000_000_000),
        seconds in 0_u32..2_000_000_000,
        big: bool,
    ) {
        let order = if big { Order::Big } else { Order::Little };
        let power = i32::from(resolution & 0x7f);
        let units_per_second = if resolution & 0x80 != 0 { 2_f64.powi(power) } else { 10_f64.powi(power) };
        // As many seconds as fit into a 64-bit time.
        let seconds = f64::from(seconds).min((1.8e19 / units_per_second).floor());
        let units = seconds * units_per_second;
        let file = [
            craft::section(order),
            craft::interface(order, 1, Some(resolution), offset),
            craft::block(order, 0x0bad, b"of no kind that is known"),
            craft::enhanced_packet(order, 0, units as u64, &frame()),
        ]
        .concat();
        let (seen, summary) = times(file);
        let expected = seconds + offset.unwrap_or(0) as f64;
        prop_assert_eq!(summary.damage, None);
        prop_assert!((seen[0].1 as f64 / 1e9 - expected).abs() <= 1e-6 * expected.max(1.0), "{:?} {}", seen, expected);
    }
}
