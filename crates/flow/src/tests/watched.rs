//! Flows that are reported while still in progress.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::invariants::{drawn, in_time_order, options, packet};
use crate::{Assembler, NumberedFlow};

proptest! {
    /// Every flow is watched once, with its first packets, and watching changes no flow.
    #[test]
    fn watched_flows_are_the_beginnings_of_those_that_end(
        packets in prop::collection::vec(drawn(0..200_000_000_000), 0..120),
        wanted in 1_usize..4,
    ) {
        let packets = in_time_order(packets);
        let (mut plain, mut ends, mut watched) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut assembler = Assembler::new(&options()).unwrap();
        let mut watching = Assembler::new(&options()).unwrap();
        for (number, drawn) in packets.iter().enumerate() {
            let packet = packet(drawn, number);
            assembler.push(&packet, &mut |flow| plain.push(flow));
            let mut watch = |NumberedFlow { number, flow }| assert!(watched.insert(number, flow).is_none());
            watching.push_watched(&packet, wanted, &mut watch, &mut |flow| ends.push(flow));
        }
        assembler.finish(&mut |flow| plain.push(flow));
        watching.finish(&mut |flow| ends.push(flow));
        prop_assert_eq!(&plain, &ends);
        let long = ends.iter().filter(|ended| ended.flow.packets.len() >= wanted);
        for NumberedFlow { number, flow } in long.clone() {
            let seen = &watched[number];
            prop_assert_eq!(&seen.packets[..], &flow.packets[..wanted]);
            prop_assert_eq!((seen.five_tuple, seen.start), (flow.five_tuple, flow.start));
            prop_assert!(seen.end <= flow.end);
        }
        prop_assert_eq!(watched.len(), long.count());
    }

    /// Time without packets ends flows just as a packet of another flow would, but none that is still active.
    #[test]
    fn time_alone_ends_what_is_over(packets in prop::collection::vec(drawn(0..40_000_000_000), 1..60)) {
        let packets = in_time_order(packets);
        let mut assembler = Assembler::new(&options()).unwrap();
        let mut ended = 0;
        for (number, drawn) in packets.iter().enumerate() {
            assembler.push(&packet(drawn, number), &mut |_| ended += 1);
        }
        let last = packets[packets.len() - 1].timestamp;
        let active = assembler.active_flows();
        assembler.advance(last + 1_000_000_000, &mut |flow| {
            assert!(flow.flow.end + 10_000_000_000 < last + 1_000_000_000);
            ended += 1;
        });
        assembler.advance(last + 1_000_000_000_000, &mut |_| ended += 1);
        prop_assert_eq!(assembler.active_flows(), 0);
        prop_assert!(ended >= active);
    }
}
