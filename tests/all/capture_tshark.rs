//! Compares every packet of real captures with tshark: number, time, endpoints, transport protocol and length, of the
//! outermost packet and, with decapsulation, of the innermost. Skipped if the captures or tshark are missing.
//!
//! tcpdump's own test captures are compared if `ETCBENCH_TCPDUMP_TESTS` is their folder (`tests` in tcpdump's
//! sources). It takes about ten minutes, since tshark starts once for each of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use etcbench::capture::{CaptureError, CaptureReader, CaptureSource, ReaderOptions, Transport, Tunnels};

/// The facts of a packet that both report.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    /// Nanoseconds since the Unix epoch.
    time: i64,
    source: SocketAddr,
    destination: SocketAddr,
    transport: Transport,
    /// Length of the IP packet.
    length: u32,
}

/// The packets of a capture by number, its number of records, and whether it is damaged or its link type refused.
struct Ours {
    rows: BTreeMap<u64, Row>,
    records: u64,
    damaged: bool,
    refused: bool,
}

fn ours(path: &Path, tunnels: Tunnels) -> Ours {
    let options = ReaderOptions { tunnels, ..ReaderOptions::default() };
    let mut reader = match CaptureReader::open_with(&CaptureSource::file(path), &options) {
        Ok(reader) => reader,
        Err(CaptureError::UnsupportedLinkType { .. }) => return refused(),
        Err(error) => panic!("{error}"),
    };
    let mut rows = BTreeMap::new();
    loop {
        let packet = match reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(CaptureError::UnsupportedLinkType { .. }) => return refused(),
            Err(error) => panic!("{error}"),
        };
        // tshark shows no ports for fragments after the first.
        if packet.fragment.is_none_or(|fragment| fragment.offset == 0) {
            let row = Row {
                time: packet.timestamp,
                source: packet.source,
                destination: packet.destination,
                transport: packet.layout.transport,
                length: packet.network_length,
            };
            rows.insert(packet.number, row);
        }
    }
    let summary = reader.summary();
    Ours { rows, records: summary.packets, damaged: summary.damage.is_some(), refused: false }
}

fn refused() -> Ours {
    Ours { rows: BTreeMap::new(), records: 0, damaged: false, refused: true }
}

const FIELDS: [&str; 13] = [
    "frame.number",
    "frame.time_epoch",
    "frame.protocols",
    "ip.src",
    "ip.dst",
    "ip.len",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.plen",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
];

/// Returns tshark's view of a packet: the outermost and the innermost IP packet, if they carry TCP or UDP.
type Theirs = BTreeMap<u64, (Option<Row>, Option<Row>)>;

fn tshark(path: &Path) -> Theirs {
    let mut command = Command::new("tshark");
    command.args(["-n", "-T", "fields", "-E", "occurrence=a", "-E", "aggregator=|", "-r"]).arg(path);
    for preference in
        ["ip.defragment:FALSE", "ipv6.defragment:FALSE", "ip.tso_support:TRUE", "udp.try_heuristic_first:FALSE"]
    {
        command.args(["-o", preference]);
    }
    for field in FIELDS {
        command.args(["-e", field]);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(row_of).collect()
}

fn row_of(line: &str) -> (u64, (Option<Row>, Option<Row>)) {
    let fields: Vec<Vec<&str>> =
        line.split('\t').map(|field| field.split('|').filter(|part| !part.is_empty()).collect()).collect();
    let number = fields[0][0].parse().unwrap();
    let (seconds, fraction) = fields[1][0].split_once('.').unwrap();
    let time = seconds.parse::<i64>().unwrap() * 1_000_000_000 + fraction.parse::<i64>().unwrap();
    let layers: Vec<&str> = fields[2].first().unwrap_or(&"").split(':').collect();
    // Ignore packets quoted in ICMP errors.
    let end = layers.iter().position(|layer| layer.starts_with("icmp")).unwrap_or(layers.len());
    let layers = &layers[..end];
    let networks: Vec<usize> = (0..layers.len()).filter(|&at| layers[at] == "ip" || layers[at] == "ipv6").collect();
    let row = |place: usize| {
        let at = networks[place];
        let before = |name: &str| layers[..at].iter().filter(|layer| **layer == name).count();
        let field = |column: usize, place: usize| fields[column].get(place).copied();
        let address = |column: usize, place: usize| field(column, place)?.parse::<IpAddr>().ok();
        let (nth, first, extra) = if layers[at] == "ip" { (before("ip"), 3, 0) } else { (before("ipv6"), 6, 40) };
        // Only extension headers may be between an IP header and its transport.
        let above = layers[at + 1..]
            .iter()
            .find(|layer| !layer.starts_with("ipv6.") && !["ah", "shim6", "mipv6"].contains(layer));
        let (transport, ports) = match above {
            Some(&"tcp") => (Transport::Tcp, 9),
            Some(&("udp" | "udplite")) => (Transport::Udp, 11),
            _ => return None,
        };
        let same = layers[..at].iter().filter(|layer| **layer == if ports == 9 { "tcp" } else { "udp" }).count();
        let port = |column: usize| field(column, same)?.parse::<u16>().ok();
        Some(Row {
            time,
            source: SocketAddr::new(address(first, nth)?, port(ports)?),
            destination: SocketAddr::new(address(first + 1, nth)?, port(ports + 1)?),
            transport,
            length: field(first + 2, nth)?.parse::<u32>().ok()? + extra,
        })
    };
    let (outer, inner) = match networks.len() {
        0 => (None, None),
        count => (row(0), row(count - 1)),
    };
    (number, (outer, inner))
}

/// Captures of one tshark run: undamaged ones share a run, since starting tshark takes longer than reading them.
fn theirs(paths: &[PathBuf], records: &[u64], folder: &Path) -> Vec<Theirs> {
    let merged = folder.join("merged.pcapng");
    let status = Command::new("mergecap").arg("-a").arg("-w").arg(&merged).args(paths).status().unwrap();
    assert!(status.success());
    let mut all = tshark(&merged);
    let mut result = Vec::new();
    let mut first = 1;
    for count in records {
        let rest = all.split_off(&(first + count));
        result.push(all.into_iter().map(|(number, row)| (number + 1 - first, row)).collect());
        all = rest;
        first += count;
    }
    assert!(all.is_empty(), "tshark sees as many records");
    result
}

/// Returns the regular files of a folder in order of their names; if it or tshark is missing, prints that.
fn captures(folder: &Path) -> Option<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        println!("skipped: {} is missing", folder.display());
        return None;
    };
    if Command::new("tshark").arg("--version").output().is_err() || Command::new("mergecap").arg("-h").output().is_err()
    {
        println!("skipped: tshark or mergecap is missing");
        return None;
    }
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    paths.sort();
    Some(paths)
}

/// A capture, outer or inner, the number of packets that differ, and the reason.
type Known = (&'static str, &'static str, usize, &'static str);

/// Compares the packets of captures, and the differences with those that are known. `together` allows captures to share
/// a run of tshark, which must support all their link types.
fn compare(paths: &[PathBuf], together: bool, known: &[Known]) {
    let temporary = tempfile::tempdir().unwrap();
    let outer: Vec<Ours> = paths.iter().map(|path| ours(path, Tunnels::Outer)).collect();
    let inner: Vec<Ours> = paths.iter().map(|path| ours(path, Tunnels::Inner)).collect();
    let is_sound = |place: &usize| together && !outer[*place].damaged && !outer[*place].refused;
    let (sound, others): (Vec<usize>, Vec<usize>) = (0..paths.len()).partition(is_sound);
    let sound_paths: Vec<PathBuf> = sound.iter().map(|&place| paths[place].clone()).collect();
    let records: Vec<u64> = sound.iter().map(|&place| outer[place].records).collect();
    let mut theirs_by_place = BTreeMap::new();
    if !sound.is_empty() {
        theirs_by_place.extend(sound.into_iter().zip(theirs(&sound_paths, &records, temporary.path())));
    }
    theirs_by_place.extend(others.into_iter().map(|place| (place, tshark(&paths[place]))));

    let mut found: BTreeMap<(String, &str), Vec<String>> = BTreeMap::new();
    let (mut compared, mut equal, mut same_counts) = (0, 0, 0);
    for (&place, theirs) in &theirs_by_place {
        let name = paths[place].file_name().unwrap().to_string_lossy().into_owned();
        let last = theirs.keys().next_back().copied().unwrap_or(0);
        for (which, ours) in [("outer", &outer[place]), ("inner", &inner[place])] {
            let mut counts = (0, 0);
            for number in 1..=ours.records.max(last) {
                let ours = ours.rows.get(&number);
                let theirs = theirs
                    .get(&number)
                    .and_then(|(outer, inner)| if which == "outer" { outer } else { inner }.as_ref());
                compared += 1;
                counts = (counts.0 + usize::from(ours.is_some()), counts.1 + usize::from(theirs.is_some()));
                if ours == theirs {
                    equal += 1;
                } else {
                    let line = format!("{number}: here {ours:?}, tshark {theirs:?}");
                    found.entry((name.clone(), which)).or_default().push(line);
                }
            }
            same_counts += usize::from(which == "outer" && counts.0 == counts.1 && !ours.refused);
        }
    }
    println!("{equal} of {compared} packets are the same");
    let refused = outer.iter().filter(|ours| ours.refused).count();
    println!("{same_counts} of {} captures have as many outermost packets, {refused} are refused", paths.len());
    for ((name, which), lines) in &found {
        let reason =
            known.iter().find(|known| (known.0, known.1) == (name, which)).map_or("not explained", |known| known.3);
        println!("{name} {which}: {} differ: {reason}", lines.len());
        lines.iter().take(3).for_each(|line| println!("  {line}"));
    }
    let counts: Vec<(&str, &str, usize)> =
        found.iter().map(|((name, which), lines)| (name.as_str(), *which, lines.len())).collect();
    let known: Vec<(&str, &str, usize)> = known.iter().map(|&(name, which, count, _)| (name, which, count)).collect();
    assert_eq!(counts, known);
}

#[test]
fn every_packet_is_what_tshark_says() {
    if let Some(paths) = captures(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/ndpi/pcap")) {
        compare(&paths, true, &KNOWN);
    }
}

#[test]
fn every_packet_of_tcpdumps_tests_is_what_tshark_says() {
    let Some(folder) = std::env::var_os("ETCBENCH_TCPDUMP_TESTS") else {
        println!("skipped: ETCBENCH_TCPDUMP_TESTS is not set");
        return;
    };
    let Some(mut paths) = captures(Path::new(&folder)) else { return };
    let is_capture = |path: &PathBuf| {
        let name = path.to_string_lossy();
        [".pcap", ".pcapng"].iter().any(|end| name.contains(end)) && !name.ends_with(".out")
    };
    paths.retain(is_capture);
    compare(&paths, false, &KNOWN_OF_TCPDUMP);
}

/// Captures of nDPI in which packets differ.
const KNOWN: [Known; 4] = [
    ("ip_fragmented_garbage.pcap", "inner", 2, SHORT),
    ("ip_fragmented_garbage.pcap", "outer", 2, SHORT),
    ("kerberos_fuzz.pcapng", "inner", 1, SHORT),
    ("kerberos_fuzz.pcapng", "outer", 1, SHORT),
];

/// A TCP header that contradicts the packet's length is skipped here as malformed; tshark shows its ports.
const SHORT: &str = "the TCP header is shorter than it can be, or longer than the packet";

/// Captures of tcpdump in which packets differ, also in `crates/capture/README.md`.
const KNOWN_OF_TCPDUMP: [Known; 30] = [
    ("LINKTYPE_IPV4_invalid.pcap", "outer", 1, "tshark shows an IPv4 layer without addresses before the IPv6 packet"),
    ("LINKTYPE_IPV6_invalid.pcap", "inner", 1, OTHER_VERSION),
    ("LINKTYPE_IPV6_invalid.pcap", "outer", 1, OTHER_VERSION),
    ("bigtcp-ipv4-geneve-ipv4.pcap", "inner", 1, NO_LENGTH),
    ("bigtcp-ipv4-geneve-ipv6.pcap", "inner", 1, NO_LENGTH),
    ("bigtcp-ipv4-vxlan-ipv4.pcap", "inner", 1, NO_LENGTH),
    ("bigtcp-ipv4-vxlan-ipv6.pcap", "inner", 1, NO_LENGTH),
    ("bigtcp-ipv6-geneve-ipv4.pcap", "inner", 1, NO_LENGTH),
    ("bigtcp-ipv6-geneve-ipv4.pcap", "outer", 1, NO_LENGTH),
    ("bigtcp-ipv6-geneve-ipv6.pcap", "inner", 1, NO_LENGTH),
    ("bigtcp-ipv6-geneve-ipv6.pcap", "outer", 1, NO_LENGTH),
    ("bigtcp-ipv6-hbh.pcap", "inner", 1, NO_LENGTH),
    ("bigtcp-ipv6-hbh.pcap", "outer", 1, NO_LENGTH),
    ("bigtcp-ipv6-vxlan-ipv4.pcap", "inner", 1, NO_LENGTH),
    ("bigtcp-ipv6-vxlan-ipv4.pcap", "outer", 1, NO_LENGTH),
    ("bigtcp-ipv6-vxlan-ipv6.pcap", "inner", 1, NO_LENGTH),
    ("bigtcp-ipv6-vxlan-ipv6.pcap", "outer", 1, NO_LENGTH),
    ("bigtcp-ipv6.pcap", "inner", 1, NO_LENGTH),
    ("bigtcp-ipv6.pcap", "outer", 1, NO_LENGTH),
    ("brcm-tag.pcap", "inner", 8, "tshark 4.0 does not know the link type"),
    ("brcm-tag.pcap", "outer", 8, "tshark 4.0 does not know the link type"),
    ("of13_ericsson.pcapng", "inner", 4, QUOTED),
    ("quic_32_bit_pointer_overflow.pcap", "inner", 1, NO_LENGTH),
    ("quic_32_bit_pointer_overflow.pcap", "outer", 1, NO_LENGTH),
    ("sflow-print-v6.pcap", "inner", 5, QUOTED),
    ("sflow_expanded.pcap", "inner", 1, QUOTED),
    ("timestamp_invalid_nano.pcap", "inner", 1, "an impossible fraction of a second is 0 here, and negative in tshark"),
    ("timestamp_invalid_nano.pcap", "outer", 1, "an impossible fraction of a second is 0 here, and negative in tshark"),
    ("vxlan.pcap", "inner", 2, "a tunnel of ARP has no inner IP packet; tshark's last IP packet is the tunnel's own"),
    ("vxlan_port_8472.pcap", "inner", 10, "tshark opens VXLAN on its registered port only"),
];

const OTHER_VERSION: &str = "a packet of the other IP version than the link type says is read here";
const NO_LENGTH: &str = "a length of 0 in an IP or UDP header is that of the frame here (offloaded segments)";
const QUOTED: &str = "packets quoted in OpenFlow and sFlow messages are no tunnels";
