//! Compares flows of real captures with those published by nDPI and those counted by tshark, if the captures and tshark
//! are available. The tables below list exactly the differences, with reasons.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use etcbench::capture::{CaptureReader, SkipReason, Transport, Tunnels};
use etcbench::flow::{Flow, FlowOptions, PacketDirection, assemble_capture};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/ndpi")
}

/// Returns the captures in order of their names; if they are missing, prints that and returns none.
fn captures() -> Vec<PathBuf> {
    let folder = data().join("pcap");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: {} is missing", folder.display());
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

type Endpoint = (IpAddr, u16);

/// Transport and endpoints, oriented by the first packet.
type FiveTuple = (&'static str, Endpoint, Endpoint);

/// Packets and bytes from the first endpoint, and from the second.
type Counts = [u64; 4];

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    }
}

/// Returns the flows of a capture without timeouts, with every packet, and bytes as frames on the wire.
fn flows(path: &Path, tunnels: Tunnels) -> Vec<(FiveTuple, Counts)> {
    let options = FlowOptions {
        idle_timeout: 1e9,
        active_timeout: 1e9,
        kept_packets: 65_535,
        kept_bytes: 1,
        tunnels,
        ..FlowOptions::default()
    };
    let mut flows = Vec::new();
    let mut add = |flow: Flow| {
        let mut counts = [0; 4];
        for packet in &flow.packets {
            let place = if packet.direction == PacketDirection::Forward { 0 } else { 2 };
            counts[place] += 1;
            counts[place + 1] += u64::from(packet.wire_length);
        }
        let tuple = flow.five_tuple;
        let end = |end: std::net::SocketAddr| (end.ip(), end.port());
        flows.push(((transport(tuple.transport), end(tuple.source), end(tuple.destination)), counts));
    };
    if let Err(error) = assemble_capture(path, &options, &mut add) {
        println!("{error}");
    }
    flows
}

/// nDPI opens 6in4 tunnels and leaves the others of these captures closed.
fn tunnels_as_ndpi(capture: &str) -> Tunnels {
    if capture == "6in4tunnel.pcap" { Tunnels::Inner } else { Tunnels::Outer }
}

/// Reasons why a flow differs between nDPI and etcbench, each with its own check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// nDPI skips packets whose IP header declares more bytes than were captured; here they count, since the capture
    /// truncated them. Check: without such packets the counts are nDPI's.
    LengthBeyondCapture,
    /// The capture omitted four bytes after the IP packet (a frame check sequence); nDPI counts captured bytes,
    /// etcbench those on the wire. Check: nDPI's bytes are the lengths of the IP packets plus an Ethernet header each.
    FrameCheckSequence,
    /// nDPI accepts a TCP header with a declared length below 20 bytes; here it is malformed. Check: the only packet of
    /// the capture is skipped as malformed.
    MalformedHeader,
    /// nDPI wrote an invalid address (two `::`). Check: with the address that it abbreviates the flow is the same.
    UnreadableAddress,
}

/// Every flow that differs between nDPI and etcbench.
const NDPI_DIFFERENCES: &[(&str, Reason, usize)] = &[
    ("fins.pcap", Reason::FrameCheckSequence, 2),
    ("fuzz-2020-02-16-11740.pcap", Reason::LengthBeyondCapture, 1),
    ("kerberos_fuzz.pcapng", Reason::MalformedHeader, 1),
    ("ndpi_match_string_subprotocol__error.pcapng", Reason::LengthBeyondCapture, 1),
    ("rsh-syslog-false-positive.pcap", Reason::LengthBeyondCapture, 1),
    ("stun.pcap", Reason::UnreadableAddress, 1),
];

/// Counts the packets of a five-tuple without the assembler, all or only those whose whole IP length was captured;
/// `length` returns the bytes of a packet.
fn counted(path: &Path, tuple: &FiveTuple, whole_only: bool, on_wire: bool) -> Counts {
    let mut reader = CaptureReader::open(path).unwrap();
    let mut counts = [0; 4];
    while let Some(packet) = reader.next_packet().unwrap() {
        let source = (packet.source.ip(), packet.source.port());
        let destination = (packet.destination.ip(), packet.destination.port());
        let place = match () {
            _ if transport(packet.layout.transport) != tuple.0 => continue,
            _ if (source, destination) == (tuple.1, tuple.2) => 0,
            _ if (destination, source) == (tuple.1, tuple.2) => 2,
            _ => continue,
        };
        if !whole_only || packet.network_length as usize <= packet.bytes.len() {
            counts[place] += 1;
            counts[place + 1] +=
                if on_wire { u64::from(packet.wire_length) } else { u64::from(packet.network_length) + 14 };
        }
    }
    counts
}

/// nDPI's list omits flows that it does not recognise (for example most of a port scan) and lists the content of GTP
/// tunnels instead of the tunnels (UDP port 2152); so only its flows are searched among etcbench's.
#[test]
fn flows_are_those_of_ndpi() {
    let paths = captures();
    if paths.is_empty() {
        return;
    }
    let mut theirs: BTreeMap<String, Vec<(csv::StringRecord, Counts)>> = BTreeMap::new();
    for row in csv::Reader::from_path(data().join("flows.csv")).unwrap().records() {
        let row = row.unwrap();
        if &row[1] == "TCP" || &row[1] == "UDP" {
            let counts = [8, 9, 10, 11].map(|column| row[column].parse().unwrap());
            theirs.entry(row[0].to_owned()).or_default().push((row, counts));
        }
    }
    let (mut total, mut equal) = (0, 0);
    let mut differences: BTreeMap<(String, Reason), usize> = BTreeMap::new();
    let mut only_here = [0; 2];
    for path in &paths {
        let capture = name(path);
        let mut ours = flows(path, tunnels_as_ndpi(&capture));
        let mut unmatched = Vec::new();
        for (row, counts) in theirs.remove(&capture).unwrap_or_default() {
            total += 1;
            let end = |column: usize| Some((row[column].parse().ok()?, row[column + 1].parse().ok()?));
            let kind = if &row[1] == "TCP" { "TCP" } else { "UDP" };
            let tuple = end(2).zip(end(4)).map(|(source, destination)| (kind, source, destination));
            match ours.iter().position(|flow| tuple == Some(flow.0) && flow.1 == counts) {
                Some(place) => {
                    equal += 1;
                    ours.remove(place);
                }
                None => unmatched.push((tuple, row, counts)),
            }
        }
        for (tuple, row, counts) in unmatched {
            let place = ours.iter().position(|flow| tuple == Some(flow.0));
            let flow = place.map(|place| ours.remove(place));
            let reason = match (&tuple, &flow) {
                (Some(tuple), Some(_)) if counted(path, tuple, true, true) == counts => Reason::LengthBeyondCapture,
                (Some(tuple), Some(_)) if counted(path, tuple, false, false) == counts => Reason::FrameCheckSequence,
                (Some(_), None) => {
                    let summary = assemble_capture(path, &FlowOptions::default(), &mut |_| {}).unwrap();
                    assert_eq!((summary.packets, summary.skipped_for(SkipReason::MalformedHeader)), (1, 1), "{row:?}");
                    Reason::MalformedHeader
                }
                (None, _) => {
                    let meant: IpAddr = row[2].replacen("::", ":0:", 1).parse().expect("an address once one `::` is 0");
                    let place = ours.iter().position(|flow| flow.0.1.0 == meant && flow.1 == counts).unwrap();
                    ours.remove(place);
                    Reason::UnreadableAddress
                }
                _ => panic!("{capture}: nDPI has {row:?}, here it is {flow:?}, and no reason is known"),
            };
            println!("{capture}: {reason:?}: nDPI {counts:?}, here {flow:?}: {row:?}");
            *differences.entry((capture.clone(), reason)).or_default() += 1;
        }
        for (tuple, counts) in ours {
            let is_gtp = tuple.0 == "UDP" && (tuple.1.1 == 2152 || tuple.2.1 == 2152);
            only_here[usize::from(is_gtp)] += 1;
            println!(
                "{capture}: only here ({}): {tuple:?} {counts:?}",
                if is_gtp { "GTP tunnel" } else { "not in nDPI's list" }
            );
        }
    }
    println!(
        "{equal} of nDPI's {total} flows are equal; only here: {} not listed, {} GTP tunnels",
        only_here[0], only_here[1]
    );
    assert!(theirs.is_empty(), "captures are missing: {:?}", theirs.keys());
    let expected: BTreeMap<(String, Reason), usize> =
        NDPI_DIFFERENCES.iter().map(|(capture, reason, count)| (((*capture).to_owned(), *reason), *count)).collect();
    assert_eq!(differences, expected);
    assert!(equal as f64 >= 0.97 * total as f64, "{equal} of {total}");
}

/// Captures in which tshark counts conversations differently, with the reason and the number.
const TSHARK_DIFFERENCES: &[(&str, &str, usize)] = &[
    ("ip_fragmented_garbage.pcap", "tshark counts a fragmented datagram once, where it is whole, not each fragment", 2),
    ("quic-fuzz-overflow.pcapng", "tshark does not count a fragmented datagram that never becomes whole", 1),
];

/// A number of bytes as tshark prints it: exact below 10 kB, then in whole units.
fn is_printed_as(bytes: u64, number: u64, unit: &str) -> bool {
    match unit {
        "bytes" => bytes == number,
        "kB" => bytes / 1_000 == number,
        "MB" => bytes / 1_000_000 == number,
        _ => panic!("{number} {unit}: a unit that the captures are too small for"),
    }
}

/// A conversation of tshark: number and unit of bytes in each direction.
struct Printed {
    packets: [u64; 2],
    bytes: [(u64, String); 2],
}

/// Returns the conversations that `tshark -z conv` prints, with the smaller endpoint first; `None` if tshark is
/// missing.
fn conversations(path: &Path) -> Option<BTreeMap<FiveTuple, Vec<Printed>>> {
    let output =
        Command::new("tshark").arg("-nqr").arg(path).args(["-z", "conv,tcp", "-z", "conv,udp"]).output().ok()?;
    let text = String::from_utf8(output.stdout).unwrap();
    let mut conversations: BTreeMap<FiveTuple, Vec<Printed>> = BTreeMap::new();
    let mut kind = "";
    for line in text.lines() {
        if let Some(word) = line.strip_suffix(" Conversations") {
            kind = if word == "TCP" { "TCP" } else { "UDP" };
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[first, "<->", second, from_second, bytes_second, unit_second, from_first, bytes_first, unit_first, ..] =
            &words[..]
        else {
            continue;
        };
        let end = |text: &str| -> Endpoint {
            let (address, port) = text.rsplit_once(':').expect("address and port");
            (address.parse().expect("an address"), port.parse().expect("a port"))
        };
        let mut ends = [end(first), end(second)];
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let mut printed = Printed {
            packets: [number(from_first), number(from_second)],
            bytes: [(number(bytes_first), unit_first.to_owned()), (number(bytes_second), unit_second.to_owned())],
        };
        if ends[0] > ends[1] {
            ends.reverse();
            printed.packets.reverse();
            printed.bytes.reverse();
        }
        conversations.entry((kind, ends[0], ends[1])).or_default().push(printed);
    }
    Some(conversations)
}

/// Returns etcbench's flows as conversations: the smaller endpoint first, flows of the same five-tuple added up.
fn summed(flows: Vec<(FiveTuple, Counts)>) -> BTreeMap<FiveTuple, Counts> {
    let mut summed: BTreeMap<FiveTuple, Counts> = BTreeMap::new();
    for ((kind, source, destination), counts) in flows {
        let swapped = source > destination;
        let key = if swapped { (kind, destination, source) } else { (kind, source, destination) };
        let counts = if swapped { [counts[2], counts[3], counts[0], counts[1]] } else { counts };
        let sum = summed.entry(key).or_default();
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    summed
}

/// tshark dissects both a tunnel and its content, so its conversations are those of etcbench's outer and inner flows.
/// It begins a new conversation when a TCP port is reused; these are added up, like five-tuples here.
///
/// Starting tshark takes a while, so every eighth capture and those with differences are compared;
/// `ETCBENCH_TSHARK=all` compares all.
#[test]
fn conversations_are_those_of_tshark() {
    let all = std::env::var("ETCBENCH_TSHARK").is_ok_and(|value| value == "all");
    let (mut total, mut equal) = (0, 0);
    let mut differences: BTreeMap<String, usize> = BTreeMap::new();
    for (place, path) in captures().iter().enumerate() {
        let capture = name(path);
        if !all && place % 8 != 0 && !TSHARK_DIFFERENCES.iter().any(|(other, _, _)| *other == capture) {
            continue;
        }
        let Some(theirs) = conversations(path) else {
            println!("skipped: tshark is missing");
            return;
        };
        let mut ours = summed(flows(path, Tunnels::Inner));
        ours.extend(summed(flows(path, Tunnels::Outer)));
        let keys: std::collections::BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
        for key in keys {
            total += 1;
            let counts = ours.get(key).copied().unwrap_or_default();
            let printed = theirs.get(key).map_or(&[][..], Vec::as_slice);
            let packets = |side: usize| printed.iter().map(|one| one.packets[side]).sum::<u64>();
            // The rounded numbers of several conversations of a five-tuple do not add up.
            let same_bytes = |side: usize| match printed {
                [one] => is_printed_as(counts[2 * side + 1], one.bytes[side].0, &one.bytes[side].1),
                _ => true,
            };
            if [packets(0), packets(1)] == [counts[0], counts[2]] && same_bytes(0) && same_bytes(1) {
                equal += 1;
            } else {
                *differences.entry(capture.clone()).or_default() += 1;
                println!("{capture}: tshark {} and {} packets, here {counts:?}: {key:?}", packets(0), packets(1));
            }
        }
    }
    let expected: BTreeMap<String, usize> =
        TSHARK_DIFFERENCES.iter().map(|(capture, _, count)| ((*capture).to_owned(), *count)).collect();
    for (capture, reason, count) in TSHARK_DIFFERENCES {
        println!("{capture}: {count} differ: {reason}");
    }
    println!("{equal} of {total} conversations are equal");
    if total > 0 {
        assert_eq!(differences, expected);
    }
}
