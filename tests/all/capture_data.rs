//! Reads real captures if they are present in `../shared/data` next to the checkout.

use std::path::{Path, PathBuf};

use rand::RngExt;

use etcbench::capture::CaptureSummary;
use etcbench::feature::{Mask, PAD, PacketStart, TokenOptions, tokenize};
use etcbench::flow::{FlowOptions, assemble_capture};

/// Returns the captures of a folder in order of their names; if it is missing, prints that and returns none.
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

/// The files contain 8,608 sessions; where a packet is cut before its ports, other packets of the session have them.
#[test]
fn ustc_sessions_become_as_many_flows() {
    let paths = captures("ustc-tfc2016-sessions");
    let mut total = 0;
    let mut unplaced = 0;
    for path in &paths {
        let mut flows = 0;
        // Sessions were extracted from longer captures: no timeout may split them.
        let options = FlowOptions { idle_timeout: 1e8, active_timeout: 1e8, ..FlowOptions::default() };
        let summary = assemble_capture(path, &options, &mut |_| flows += 1).unwrap();
        assert_eq!(summary.damage, None, "{}", path.display());
        println!("{}: {flows} flows; {}", stem(path), describe(&summary));
        total += flows;
        unplaced += summary.packets - summary.decoded;
    }
    println!("{total} flows in total, {unplaced} packets without a flow");
    if paths.len() == 20 {
        assert_eq!(total, 8608);
    }
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

/// Real captures with random bytes changed, from the file to the tokens: nothing panics.
#[test]
fn damaged_captures_are_read_as_far_as_they_go() {
    let mut random = etcbench::seed::generator(0, "damage");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pcap");
    let starts = [PacketStart::IpHeader, PacketStart::AfterIpHeader, PacketStart::Payload];
    let (mut damaged, mut flows) = (0, 0);
    for original in captures("ndpi/pcap") {
        let original = std::fs::read(&original).unwrap();
        for packet_start in starts {
            let mut bytes = original.clone();
            for _ in 0..1 + bytes.len() / 500 {
                let place = random.random_range(24..bytes.len());
                bytes[place] = random.random();
            }
            std::fs::write(&path, &bytes).unwrap();
            let options = TokenOptions { packet_start, masks: Mask::ALL.to_vec(), ..TokenOptions::default() };
            let mut tokens = vec![0; options.packets * options.bytes];
            let result = assemble_capture(&path, &FlowOptions::default(), &mut |flow| {
                flows += 1;
                let packets = tokenize(&flow, &options, &mut tokens).unwrap();
                assert!(tokens[packets * options.bytes..].iter().all(|token| *token == PAD));
                assert!(flow.statistics.iter().all(|value| value.is_finite() && *value >= 0.0));
            });
            damaged += usize::from(result.is_ok_and(|summary| summary.damage.is_some()));
        }
    }
    println!("{flows} flows, damage reported in {damaged} files");
}
