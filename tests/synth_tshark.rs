//! Checks the generated captures with other programs: etherparse for headers and checksums, tshark for everything above
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use etcbench::progress::Silent;
use etcbench::synth::{
    CAPTURE_STEM, CLASSES, LargeOptions, SynthError, SynthOptions, SynthSummary, generate, generate_large,
};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use sha2::{Digest, Sha256};

fn generated(options: &SynthOptions) -> (tempfile::TempDir, SynthSummary) {
    let folder = tempfile::tempdir().unwrap();
    let summary = generate(options, folder.path(), &Silent).unwrap();
    (folder, summary)
}

fn digest(folder: &Path, summary: &SynthSummary) -> String {
    let mut hasher = Sha256::new();
    for capture in &summary.captures {
        hasher.update(capture.path.as_bytes());
        hasher.update(std::fs::read(folder.join(&capture.path)).unwrap());
    }
    hex::encode(hasher.finalize())
}

/// Reads a pcap file's link type and records by the format's definition only; times in nanoseconds.
fn records(bytes: &[u8]) -> (u32, Vec<(i64, &[u8])>) {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let unit = match word(0) {
        0xa1b2_c3d4 => 1000,
        0xa1b2_3c4d => 1,
        other => panic!("not a pcap file: {other:x}"),
    };
    let mut records = Vec::new();
    let mut at = 24;
    while at < bytes.len() {
        let length = word(at + 8) as usize;
        assert_eq!(word(at + 8), word(at + 12));
        let time = i64::from(word(at)) * 1_000_000_000 + i64::from(word(at + 4)) * unit;
        records.push((time, &bytes[at + 16..at + 16 + length]));
        at += 16 + length;
    }
    (word(20), records)
}

/// Both endpoints of a conversation, unordered.
type Ends = BTreeSet<(IpAddr, u16)>;

/// Decodes a frame, checks its lengths and checksums, and returns its protocol and endpoints.
fn checked(link_type: u32, frame: &[u8]) -> (u8, Ends) {
    let sliced = match link_type {
        1 => SlicedPacket::from_ethernet(frame),
        101 => SlicedPacket::from_ip(frame),
        other => panic!("link type {other}"),
    }
    .unwrap();
    let net = sliced.net.unwrap();
    let addresses: [IpAddr; 2] = match &net {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
            [header.source_addr().into(), header.destination_addr().into()]
        }
        NetSlice::Ipv6(ip) => [ip.header().source_addr().into(), ip.header().destination_addr().into()],
        NetSlice::Arp(_) => panic!("ARP"),
    };
    let (protocol, ports) = match &sliced.transport.unwrap() {
        TransportSlice::Tcp(tcp) => {
            for option in tcp.options_iterator() {
                option.unwrap();
            }
            let header = tcp.to_header();
            let computed = match &net {
                NetSlice::Ipv4(ip) => header.calc_checksum_ipv4(&ip.header().to_header(), tcp.payload()).unwrap(),
                NetSlice::Ipv6(ip) => header.calc_checksum_ipv6(&ip.header().to_header(), tcp.payload()).unwrap(),
                NetSlice::Arp(_) => panic!("ARP"),
            };
            assert_eq!(computed, tcp.checksum());
            (6, [tcp.source_port(), tcp.destination_port()])
        }
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let computed = match &net {
                NetSlice::Ipv4(ip) => header.calc_checksum_ipv4(&ip.header().to_header(), udp.payload()).unwrap(),
                NetSlice::Ipv6(ip) => header.calc_checksum_ipv6(&ip.header().to_header(), udp.payload()).unwrap(),
                NetSlice::Arp(_) => panic!("ARP"),
            };
            assert_eq!(computed, udp.checksum());
            assert_ne!(udp.checksum(), 0);
            assert_eq!(usize::from(udp.length()), 8 + udp.payload().len());
            (17, [udp.source_port(), udp.destination_port()])
        }
        _ => panic!("neither TCP nor UDP"),
    };
    (protocol, addresses.into_iter().zip(ports).collect())
}

#[test]
fn the_same_options_give_the_same_bytes() {
    let options = SynthOptions { flows_per_class: 6, captures_per_class: 2, ..SynthOptions::default() };
    let (first, summary) = generated(&options);
    let (second, again) = generated(&options);
    assert_eq!(summary, again);
    assert_eq!(digest(first.path(), &summary), digest(second.path(), &again));
    let (other, of_other) = generated(&SynthOptions { seed: 1, ..options });
    assert_ne!(digest(first.path(), &summary), digest(other.path(), &of_other));
}

#[test]
fn every_packet_decodes_and_every_class_has_its_flows() {
    let options = SynthOptions::default();
    let begin = Instant::now();
    let (folder, summary) = generated(&options);
    println!(
        "{} captures, {} flows, {} packets, {} bytes in {:?}",
        summary.captures.len(),
        summary.flows(),
        summary.packets(),
        summary.bytes(),
        begin.elapsed()
    );
    assert!(summary.bytes() <= 12_000_000, "{} bytes", summary.bytes());
    let stem = regex::Regex::new(CAPTURE_STEM).unwrap();
    let mut flows_of_class: BTreeMap<[&str; 4], usize> = BTreeMap::new();
    for capture in &summary.captures {
        let bytes = std::fs::read(folder.path().join(&capture.path)).unwrap();
        assert_eq!(bytes.len() as u64, capture.bytes);
        let (tunnel, file) = capture.path.split_once('/').unwrap();
        let labels = stem.captures(file.strip_suffix(".pcap").unwrap()).unwrap();
        let class = capture.class;
        let values = [class.traffic, class.tunnel, class.category, class.application];
        let columns = ["traffic", "tunnel", "category", "application"];
        assert_eq!(columns.map(|column| &labels[column]), values);
        assert_eq!(tunnel, class.tunnel);
        let (link_type, records) = records(&bytes);
        assert_eq!(records.len(), capture.packets);
        assert!(records.is_sorted_by_key(|record| record.0), "{} is out of order", capture.path);
        let tuples: BTreeSet<(u8, Ends)> = records.iter().map(|record| checked(link_type, record.1)).collect();
        assert_eq!(tuples.len(), capture.flows, "{}", capture.path);
        *flows_of_class.entry(values).or_default() += tuples.len();
    }
    assert_eq!(flows_of_class.len(), CLASSES.len());
    assert!(flows_of_class.values().all(|&flows| flows >= options.flows_per_class));
}

#[test]
fn options_out_of_range_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for options in [
        SynthOptions { flows_per_class: 0, ..SynthOptions::default() },
        SynthOptions { captures_per_class: 0, ..SynthOptions::default() },
        SynthOptions { captures_per_class: 1001, ..SynthOptions::default() },
        SynthOptions { background: f64::NAN, ..SynthOptions::default() },
        SynthOptions { flows_per_class: 100_000, ..SynthOptions::default() },
    ] {
        assert!(matches!(generate(&options, folder.path(), &Silent), Err(SynthError::Options { .. })));
    }
    for options in [
        LargeOptions { seed: 0, packets: 0, active_flows: 1 },
        LargeOptions { seed: 0, packets: 1, active_flows: 0 },
        LargeOptions { seed: 0, packets: 1, active_flows: usize::MAX },
    ] {
        assert!(matches!(generate_large(&options, std::io::sink()), Err(SynthError::Options { .. })));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_large_capture_is_in_order_and_every_packet_decodes() {
    let options = LargeOptions { seed: 3, packets: 60_000, active_flows: 700 };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let summary = generate_large(&options, &mut first).unwrap();
    generate_large(&options, &mut second).unwrap();
    assert_eq!(Sha256::digest(&first), Sha256::digest(&second));
    assert_eq!(summary.bytes, first.len() as u64);
    let (link_type, records) = records(&first);
    assert_eq!(records.len() as u64, options.packets);
    assert!(records.is_sorted_by_key(|record| record.0));
    let mut spans: BTreeMap<(u8, Ends), (usize, usize)> = BTreeMap::new();
    for (place, record) in records.iter().enumerate() {
        spans.entry(checked(link_type, record.1)).or_insert((place, place)).1 = place;
    }
    assert_eq!(spans.len() as u64, summary.flows);
    // In the middle, most of the places hold a conversation that has begun and is not over.
    let middle = records.len() / 2;
    let active = spans.values().filter(|span| span.0 <= middle && middle <= span.1).count();
    assert!(active > options.active_flows / 4 && active <= options.active_flows, "{active} active");
}

/// A writer that only counts, so that a large capture is never in memory.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_large_capture_needs_no_more_memory_than_its_active_flows() {
    let options = LargeOptions { seed: 0, packets: 3_000_000, active_flows: 20_000 };
    let mut counter = Counter(0);
    let begin = Instant::now();
    let before = peak_memory();
    let summary = generate_large(&options, &mut counter).unwrap();
    println!("{:.0} packets/s", options.packets as f64 / begin.elapsed().as_secs_f64());
    assert_eq!(counter.0, summary.bytes);
    assert!(summary.bytes > 500_000_000, "{} bytes", summary.bytes);
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        // Other tests of this file run at the same time and use some of this memory.
        assert!(after - before < 200_000_000, "{} bytes more for {} written", after - before, summary.bytes);
    }
}

/// Returns the process's peak resident memory in bytes, if /proc provides it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Returns the malformed packets and wrong checksums that tshark reports; empty if there are none.
fn complaints(file: &Path) -> String {
    let filter = "_ws.malformed || _ws.expert.group == \"Malformed\" || ip.checksum.status == \"Bad\" \
                  || tcp.checksum.status == \"Bad\" || udp.checksum.status == \"Bad\"";
    let output = Command::new("tshark")
        .args(["-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"])
        .args(["-Y", filter, "-r"])
        .arg(file)
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { shown } else { format!("{shown}{}", String::from_utf8_lossy(&output.stderr)) }
}

#[test]
fn tshark_finds_nothing_malformed() {
    if Command::new("tshark").arg("--version").output().is_err() {
        println!("skipped: tshark is not installed");
        return;
    }
    let options = SynthOptions { seed: 11, flows_per_class: 100, captures_per_class: 1, ..SynthOptions::default() };
    let (folder, summary) = generated(&options);
    let mut files: Vec<_> = summary.captures.iter().map(|capture| folder.path().join(&capture.path)).collect();
    let large = folder.path().join("large.pcap");
    let writer = std::io::BufWriter::new(std::fs::File::create(&large).unwrap());
    generate_large(&LargeOptions { seed: 11, packets: 20_000, active_flows: 500 }, writer).unwrap();
    files.push(large);
    // Each run of tshark takes most of a second to start: one capture of each class, and the large one,
    // which also holds VPN conversations seen outside.
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let text = complaints(file);
                    if !text.is_empty() {
                        found.lock().unwrap().push(format!("{}: {text}", file.display()));
                    }
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
