//! `etcbench split-flows` through the real binary: the flows of the lab's captures as files, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use etcbench::capture::CaptureReader;
use etcbench::flow::{Flow, FlowOptions, assemble_capture};

use crate::common::{Project, every_stage};

/// A packet as captured: time, length on the wire, link type and bytes.
type Whole = (i64, u32, u32, Vec<u8>);

/// Returns the TCP and UDP packets of a capture that belong to a flow.
fn packets(path: &Path) -> Vec<Whole> {
    let mut reader = CaptureReader::open(path).unwrap();
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        packets.push((packet.timestamp, packet.wire_length, packet.link_type, packet.frame.to_vec()));
    }
    assert!(reader.summary().damage.is_none(), "{}", path.display());
    packets
}

fn flows(path: &Path) -> Vec<Flow> {
    let mut flows = Vec::new();
    assemble_capture(path, &FlowOptions::default(), &mut |flow| flows.push(flow)).unwrap();
    flows
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn frame(packet: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &[8, 0], packet].concat()
}

/// Returns an IPv4 packet of UDP from 10.0.0.`from` to 10.0.0.`to`: a whole one, or a fragment with flags and offset.
fn udp(from: u8, to: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 7]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, 17, 0, 0, 10, 0, 0, from, 10, 0, 0, to]);
    packet.extend(payload);
    packet
}

fn datagram(payload: &[u8]) -> Vec<u8> {
    [&[0x9c, 0x40, 0, 53][..], &(8 + payload.len() as u16).to_be_bytes(), &[0, 0], payload].concat()
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = 12 + body.len() as u32;
    [&kind.to_le_bytes()[..], &length.to_le_bytes(), body, &length.to_le_bytes()].concat()
}

/// Returns a pcapng with nanoseconds: interface 0 is Ethernet, interface 1 raw IP. A packet has its interface, time in
/// nanoseconds and bytes.
fn pcapng(packets: &[(u32, u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = block(0x0a0d_0d0a, &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    for link_type in [1_u8, 101] {
        file.extend(block(1, &[link_type, 0, 0, 0, 0, 0, 4, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]));
    }
    for (interface, time, bytes) in packets {
        let mut body = Vec::new();
        for word in [*interface, (time >> 32) as u32, *time as u32, bytes.len() as u32, bytes.len() as u32 + 4] {
            body.extend(word.to_le_bytes());
        }
        body.extend(bytes);
        body.resize(body.len().next_multiple_of(4), 0);
        file.extend(block(6, &body));
    }
    file
}

#[test]
fn flows_of_the_lab_are_files_with_its_packets() {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/lab/captures");
    let mut captures: Vec<PathBuf> = files(&lab);
    captures.retain(|path| path.is_file());
    let project = Project::new();
    let tshark = Command::new("tshark").arg("--version").output().is_ok();
    if !tshark {
        eprintln!("skipped in part: tshark is not installed");
    }
    for capture in captures.iter().step_by(captures.len().div_ceil(3)) {
        let folder = project.path(&format!("flows of {}", name(capture)));
        let arguments = ["split-flows", capture.to_str().unwrap(), "-o", folder.to_str().unwrap()];
        let told = String::from_utf8(project.done(&arguments).stdout).unwrap();
        let files = files(&folder);
        let expected = flows(capture);
        assert!(!expected.is_empty() && files.len() == expected.len(), "{told}");
        assert!(told.contains(&format!(" of {} flow", expected.len())), "{told}");
        let mut found: Vec<Whole> = files.iter().flat_map(|file| packets(file)).collect();
        let mut whole = packets(capture);
        found.sort();
        whole.sort();
        assert!(found == whole, "{}: {} packets, not {}", capture.display(), found.len(), whole.len());
        let mut apart: Vec<Flow> = files
            .iter()
            .flat_map(|file| {
                let flows = flows(file);
                assert_eq!(flows.len(), 1, "{}", file.display());
                flows
            })
            .collect();
        let mut expected = expected;
        let key = |flow: &Flow| (flow.start, flow.end, format!("{:?}", flow.five_tuple));
        expected.sort_by_key(key);
        apart.sort_by_key(key);
        assert!(apart == expected, "{}", capture.display());
        if tshark {
            let file = &files[0];
            let output = Command::new("tshark")
                .args(["-r", file.to_str().unwrap(), "-T", "fields", "-e", "frame.time_epoch"])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let text = String::from_utf8(output.stdout).unwrap();
            let times: Vec<i64> = text
                .lines()
                .map(|line| {
                    let (seconds, fraction) = line.split_once('.').unwrap();
                    seconds.parse::<i64>().unwrap() * 1_000_000_000 + format!("{fraction:0<9}").parse::<i64>().unwrap()
                })
                .collect();
            assert_eq!(times, packets(file).iter().map(|packet| packet.0).collect::<Vec<_>>());
        }
    }
}

#[test]
fn nanoseconds_link_types_and_early_fragments_are_kept() {
    let project = Project::new();
    let time = 1_700_000_000_123_456_789;
    let later = udp(1, 2, 2, &[7; 16]);
    let capture = pcapng(&[
        // The second fragment of the first datagram comes before the first.
        (0, time, frame(&later)),
        (0, time + 11, frame(&udp(1, 2, 0x2000, &datagram(&[1; 8])))),
        (1, time + 22, udp(3, 4, 0, &datagram(b"raw"))),
        (0, time + 33, frame(&udp(2, 1, 0, &[&[0, 53, 0x9c, 0x40][..], &datagram(b"answer")[4..]].concat()))),
        // Its first fragment never comes, so its ports are unknown.
        (0, time + 44, frame(&udp(5, 6, 2, &[7; 16]))),
        // Five minutes later, the same five-tuple is another flow.
        (0, time + 300_000_000_000, frame(&udp(1, 2, 0, &datagram(b"again")))),
    ]);
    project.write("a.pcapng", &capture);
    let told = project.done(&["split-flows", "a.pcapng", "-o", "flows"]);
    assert_eq!(String::from_utf8(told.stdout).unwrap().trim(), "5 packets of 3 flows in flows");
    let written = files(&project.path("flows"));
    let names: Vec<String> = written.iter().map(|path| name(path)).collect();
    let first = "a.pcap.UDP_10-0-0-1_40000_10-0-0-2_53";
    let expected =
        [format!("{first}.pcap"), format!("{first}_2.pcap"), "a.pcap.UDP_10-0-0-3_40000_10-0-0-4_53.pcap".into()];
    assert_eq!(names, expected);
    let all = packets(&project.path("a.pcapng"));
    assert_eq!(packets(&written[0]), [all[1].clone(), all[0].clone(), all[3].clone()]);
    assert_eq!(packets(&written[1]), [all[5].clone()]);
    assert_eq!(packets(&written[2]), [all[2].clone()]);
    assert_eq!((all[0].0, all[2].2), (time as i64, 101));

    let one_way = ["split-flows", "a.pcapng", "--direction", "unidirectional", "-o", "directions"];
    project.done(&one_way);
    assert_eq!(files(&project.path("directions")).len(), 4);
    let endless = ["split-flows", "a.pcapng", "--idle-timeout", "1e9", "--active-timeout", "1e9", "-o", "tuples"];
    project.done(&endless);
    assert_eq!(files(&project.path("tuples")).len(), 2);
    let some = ["split-flows", "a.pcapng", "--minimum-packets", "2", "--maximum-packets", "2", "-o", "some"];
    let told = String::from_utf8(project.done(&some).stdout).unwrap();
    assert_eq!(told.trim(), "2 packets of 1 flow in some; 2 flows with fewer packets left out");
    assert_eq!(packets(&files(&project.path("some"))[0]), [all[1].clone(), all[0].clone()]);
}

#[test]
fn nothing_is_overwritten_and_nothing_half_written_stays() {
    let project = Project::new();
    let packet = |interface, time| match interface {
        0 => (0, time, frame(&udp(1, 2, 0, &datagram(b"x")))),
        _ => (1, time, udp(1, 2, 0, &datagram(b"x"))),
    };
    let time = 1_700_000_000_000_000_000;
    project.write("a.pcapng", pcapng(&[packet(0, time)]));
    project.write("b/a.pcap", fs::read(project.path("a.pcapng")).unwrap());
    project.write("mixed.pcapng", pcapng(&[packet(0, time), packet(1, time + 1)]));
    project.write("late.pcapng", pcapng(&[packet(0, 5_000_000_000_000_000_000)]));
    project.write("text.pcap", "hello, world, hello, world");
    project.write("own/mine.txt", "mine");
    let bytes = || -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = every_stage::files(&project.path(""));
        files.sort();
        files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    };
    let before = bytes();
    for (arguments, words) in [
        (&["a.pcapng", "-o", "own"][..], &["own", "already exists; choose a new folder"][..]),
        (&["a.pcapng", "b/a.pcap", "-o", "new"], &["b/a.pcap", "another capture is also named `a`"]),
        (
            &["a.pcapng", "mixed.pcapng", "-o", "new"],
            &["mixed.pcapng: packet 2", "its link type is 101", "began with 1"],
        ),
        (&["late.pcapng", "-o", "new"], &["late.pcapng: packet 1", "after the year 2106"]),
        (&["a.pcapng", "text.pcap", "-o", "new"], &["text.pcap", "not a pcap or pcapng capture"]),
        (&["a.pcapng", "-o", "-"], &["written to a folder"]),
        (&["a.pcapng", "-o", "new", "--minimum-packets", "3", "--maximum-packets", "2"], &["--minimum-packets 3"]),
        (&["a.pcapng", "-o", "new", "--idle-timeout", "0"], &["idle_timeout"]),
        (&["missing.pcap", "-o", "new"], &["missing.pcap"]),
    ] {
        project.refused(&[&["split-flows"], arguments].concat(), words);
        assert!(bytes() == before, "{arguments:?}");
    }
}
