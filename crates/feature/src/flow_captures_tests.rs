//! The flows of generated captures as files: every packet in one of them, as captured.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use etcbench_capture::CaptureSource;
use etcbench_flow::{Flow, Pairing, assemble_capture};

/// A packet of a made-up capture: microseconds, hosts, ports, and payload length; the transport is UDP.
type Made = (u32, u8, u8, u16, u16);

/// Returns a pcap of Ethernet frames.
fn capture(packets: &[Made], nanoseconds: bool) -> Vec<u8> {
    let mut file = file_header(if nanoseconds { 1 } else { 1000 }, 1).to_vec();
    for (place, (time, from, to, port, length)) in packets.iter().enumerate() {
        let mut frame = [&[2; 12][..], &[8, 0]].concat();
        frame.extend([0x45, 0]);
        frame.extend((28 + length).to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, *from, 10, 0, 0, *to]);
        for word in [1000 + port, 53, 8 + length, 0] {
            frame.extend(word.to_be_bytes());
        }
        frame.extend((0..*length).map(|byte| byte as u8 ^ place as u8));
        let fraction = if nanoseconds { time * 1000 + place as u32 % 7 } else { *time };
        for word in [1000 + place as u32 / 3, fraction, frame.len() as u32, frame.len() as u32 + 1] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

/// A packet as captured: time, length on the wire, link type and bytes.
type Whole = (i64, u32, u32, Vec<u8>);

fn packets(path: &Path) -> Vec<Whole> {
    let mut reader = CaptureReader::open(path).unwrap();
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        packets.push((packet.timestamp, packet.wire_length, packet.link_type, packet.frame.to_vec()));
    }
    assert!(reader.summary().damage.is_none());
    packets
}

fn flows(path: &Path, options: &FlowOptions) -> Vec<Flow> {
    let mut flows = Vec::new();
    assemble_capture(path, options, &mut |flow| flows.push(flow)).unwrap();
    flows
}

fn written(
    path: &Path,
    place: &Path,
    options: &FlowCaptureOptions,
    most_waiting: usize,
) -> (WrittenFlows, Vec<PathBuf>) {
    let mut folder = FlowCaptureFolder::new(place, options.clone()).unwrap();
    folder.most_waiting = most_waiting;
    let reader = CaptureReader::open_with(&CaptureSource::file(path), &Default::default()).unwrap();
    let told = folder.add(reader, "made", &mut |_| {}).unwrap();
    folder.finish().unwrap();
    let mut files: Vec<PathBuf> = std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    (told, files)
}

fn options(direction: Pairing) -> FlowCaptureOptions {
    let flow = FlowOptions { direction, idle_timeout: 2.5, active_timeout: 6.0, ..FlowOptions::default() };
    FlowCaptureOptions { flow, minimum_packets: 1, maximum_packets: u64::MAX }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_packet_is_in_one_file_and_the_flows_of_the_files_are_those_of_the_capture(
        made in prop::collection::vec((0..1_000_000_u32, 1..4_u8, 1..4_u8, 0..2_u16, 0..40_u16), 1..60),
        nanoseconds: bool,
        one_way: bool,
        most_waiting in prop_oneof![Just(0_usize), Just(200), Just(MOST_WAITING)],
    ) {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("made.pcap");
        std::fs::write(&path, capture(&made, nanoseconds)).unwrap();
        let options = options(if one_way { Pairing::Unidirectional } else { Pairing::Bidirectional });
        let (told, files) = written(&path, &temporary.path().join("flows"), &options, most_waiting);
        let mut found: Vec<Whole> = files.iter().flat_map(|file| packets(file)).collect();
        let mut expected = packets(&path);
        prop_assert_eq!(told.packets as usize, expected.len());
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected);
        let key = |flow: &Flow| (flow.start, flow.end, format!("{:?}", flow.five_tuple));
        let mut whole = flows(&path, &options.flow);
        let mut apart: Vec<Flow> = Vec::new();
        for file in &files {
            let of_file = flows(file, &options.flow);
            prop_assert_eq!(of_file.len(), 1, "{}", file.display());
            apart.extend(of_file);
        }
        whole.sort_by_key(key);
        apart.sort_by_key(key);
        prop_assert_eq!(told.flows as usize, whole.len());
        prop_assert_eq!(apart, whole);
    }

    #[test]
    fn shortened_and_left_out_flows_are_counted(
        made in prop::collection::vec((0..1_000_000_u32, 1..4_u8, 1..4_u8, 0..2_u16, 0..40_u16), 1..60),
        minimum in 1..4_u64,
        more in 0..4_u64,
        most_waiting in prop_oneof![Just(0_usize), Just(MOST_WAITING)],
    ) {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("made.pcap");
        std::fs::write(&path, capture(&made, false)).unwrap();
        let all = options(Pairing::Bidirectional);
        let (_, every) = written(&path, &temporary.path().join("all"), &all, MOST_WAITING);
        let every: BTreeMap<_, _> = every.iter().map(|file| (file.file_name().unwrap().to_owned(), packets(file))).collect();
        let some = FlowCaptureOptions { minimum_packets: minimum, maximum_packets: minimum + more, ..all };
        let (told, files) = written(&path, &temporary.path().join("some"), &some, most_waiting);
        prop_assert_eq!(told.too_short as usize, every.len() - files.len());
        let long = every.iter().filter(|(_, packets)| packets.len() as u64 >= minimum);
        let expected: Vec<_> = long.map(|(name, packets)| {
            (name.clone(), packets[..packets.len().min((minimum + more) as usize)].to_vec())
        }).collect();
        let found: Vec<_> =
            files.iter().map(|file| (file.file_name().unwrap().to_owned(), packets(file))).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn nanoseconds_in_a_capture_of_microseconds_are_kept() {
    // From the third packet on, fractions are a second or more, so they are nanoseconds.
    let mut whole = capture(&[(5, 1, 2, 0, 4), (6, 1, 2, 0, 4), (7, 2, 1, 0, 4), (8, 1, 2, 0, 4)], false);
    let record = RECORD_HEADER + 14 + 28 + 4;
    for (place, fraction) in [(2, 123_456_789_u32), (3, 999_999_999)] {
        let start = FILE_HEADER + place * record + 4;
        whole[start..start + 4].copy_from_slice(&fraction.to_le_bytes());
    }
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("made.pcap");
    std::fs::write(&path, &whole).unwrap();
    for most_waiting in [0, MOST_WAITING] {
        let place = temporary.path().join(format!("flows{most_waiting}"));
        let (_, files) = written(&path, &place, &options(Pairing::Unidirectional), most_waiting);
        let mut found: Vec<Whole> = files.iter().flat_map(|file| packets(file)).collect();
        found.sort();
        let mut expected = packets(&path);
        expected.sort();
        assert_eq!(found, expected);
        assert!(found.iter().any(|packet| packet.0 % 1_000_000_000 == 123_456_789), "{found:?}");
        assert_eq!(found[0].0 % 1_000_000_000, 5_000);
    }
}

#[test]
fn names_are_those_of_splitcap_and_later_flows_are_numbered() {
    let mut names = HashMap::new();
    let mut name = |source: &str, destination: &str, transport| {
        let five_tuple =
            FiveTuple { source: source.parse().unwrap(), destination: destination.parse().unwrap(), transport };
        file_name("AIMchat1", &five_tuple, &mut names)
    };
    let tcp = "AIMchat1.pcap.TCP_131-202-240-87_13393_178-237-24-202_443";
    assert_eq!(name("131.202.240.87:13393", "178.237.24.202:443", Transport::Tcp), format!("{tcp}.pcap"));
    assert_eq!(name("131.202.240.87:13393", "178.237.24.202:443", Transport::Tcp), format!("{tcp}_2.pcap"));
    let udp = "AIMchat1.pcap.UDP_fe80--1_5353_ff02--fb_5353.pcap";
    assert_eq!(name("[fe80::1]:5353", "[ff02::fb]:5353", Transport::Udp), udp);
}
