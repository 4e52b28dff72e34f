//! Reads real captures, where they are: `../shared/data` beside the checkout.

use std::path::{Path, PathBuf};

use etcbench::capture::{CaptureReader, CaptureSummary};
use etcbench::flow::{FlowOptions, assemble_capture};

/// The captures of a folder in order of their names, or nothing (and a word about it) where it is missing.
fn captures(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(folder);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: {} is missing", folder.display());
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn stem(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn describe(summary: &CaptureSummary) -> String {
    let skipped: Vec<String> = summary.skipped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let damage = summary.damage.as_ref().map(|damage| format!("; {damage}")).unwrap_or_default();
    format!(
        "{} packets, {} decoded, {} with partial transport header, {} first fragments, skipped: [{}]{damage}",
        summary.packets,
        summary.decoded,
        summary.partial_transport_headers,
        summary.first_fragments,
        skipped.join(", ")
    )
}

/// Sessions that each file holds: the published preprocessing gave 430 or so per class.
#[test]
fn ustc_sessions_become_as_many_flows() {
    let paths = captures("ustc-tfc2016-sessions");
    let mut total = 0;
    let mut unplaced = 0;
    for path in &paths {
        let mut flows = 0;
        // Sessions were cut out of longer captures: no timeout may split them.
        let options = FlowOptions { idle_timeout: 1e8, active_timeout: 1e8, ..FlowOptions::default() };
        let summary = assemble_capture(path, &options, &mut |_| flows += 1).unwrap();
        assert_eq!(summary.damage, None, "{}", path.display());
        println!("{}: {flows} flows; {}", stem(path), describe(&summary));
        total += flows;
        unplaced += summary.packets - summary.decoded;
    }
    println!("{total} flows in total, {unplaced} packets without a flow");
}

#[test]
fn every_odd_capture_is_read_or_refused_in_words() {
    for path in captures("ndpi/pcap") {
        let mut flows = 0;
        match assemble_capture(&path, &FlowOptions::default(), &mut |_| flows += 1) {
            Ok(summary) => {
                let skipped: u64 = summary.skipped.iter().map(|(_, count)| count).sum();
                assert_eq!(summary.packets, summary.decoded + skipped);
                println!("{}: {flows} flows; {}", stem(&path), describe(&summary));
            }
            Err(error) => println!("{}: {error}", stem(&path)),
        }
    }
}

/// Run alone, in release: `cargo test --release --test capture_data -- --ignored --nocapture throughput`.
#[test]
#[ignore = "a measurement"]
fn throughput() {
    let Some(path) = std::env::var_os("ETCBENCH_CAPTURE") else {
        println!("skipped: ETCBENCH_CAPTURE names no capture");
        return;
    };
    let path = Path::new(&path);
    let start = std::time::Instant::now();
    let mut reader = CaptureReader::open(path).unwrap();
    let mut bytes = 0;
    while let Some(packet) = reader.next_packet().unwrap() {
        bytes += packet.bytes.len();
    }
    let read = start.elapsed().as_secs_f64();
    let packets = reader.summary().packets as f64;
    println!("reading and decoding: {:.2} million packets/s ({bytes} bytes)", packets / read / 1e6);
    let start = std::time::Instant::now();
    let mut flows = 0;
    assemble_capture(path, &FlowOptions::default(), &mut |_| flows += 1).unwrap();
    let assembled = start.elapsed().as_secs_f64();
    println!("into {flows} flows as well: {:.2} million packets/s", packets / assembled / 1e6);
}
