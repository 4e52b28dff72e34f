//! Reads real captures, where they are: `../shared/data` beside the checkout.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rand::RngExt;

use etcbench::capture::{CaptureSummary, Transport};
use etcbench::feature::{Mask, PAD, PacketStart, TokenOptions, tokenize};
use etcbench::flow::{Flow, FlowOptions, STATISTIC_NAMES, assemble_capture};

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

/// The files hold 8,608 sessions; those whose ports were cut away have other packets that show them.
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
    if paths.len() == 20 {
        assert_eq!(total, 8608);
    }
}

/// A five-tuple of `flows.csv` whatever its direction: transport and the two ends in order.
type Conversation = (String, String, Vec<(IpAddr, u16)>);

/// nDPI's published counts of packets per conversation against ours, where the definitions agree: nDPI opens
/// tunnels, so its conversations inside them are not in ours; it leaves out packets that the snap length cut; and
/// its idle timeout differs, so flows of one five-tuple are added up.
#[test]
fn packets_per_conversation_agree_with_ndpi() {
    let paths = captures("ndpi/pcap");
    let Some(folder) = paths.first().and_then(|path| path.parent()).and_then(Path::parent) else { return };
    let mut theirs: BTreeMap<Conversation, f64> = BTreeMap::new();
    for row in csv::Reader::from_path(folder.join("flows.csv")).unwrap().records() {
        let row = row.unwrap();
        if &row[1] == "TCP" || &row[1] == "UDP" {
            let end = |column: usize| Some((row[column].parse().ok()?, row[column + 1].parse().ok()?));
            let (Some(source), Some(destination)) = (end(2), end(4)) else {
                println!("nDPI wrote an address that is none: {row:?}");
                continue;
            };
            let mut ends = vec![source, destination];
            ends.sort();
            let packets: f64 = row[8].parse::<f64>().unwrap() + row[10].parse::<f64>().unwrap();
            *theirs.entry((row[0].to_owned(), row[1].to_owned(), ends)).or_default() += packets;
        }
    }
    let packets_column = STATISTIC_NAMES.iter().position(|name| *name == "packets").unwrap();
    let mut ours: BTreeMap<Conversation, f64> = BTreeMap::new();
    for path in &paths {
        let mut add = |flow: Flow| {
            let mut ends = vec![flow.five_tuple.source, flow.five_tuple.destination]
                .into_iter()
                .map(|end| (end.ip(), end.port()))
                .collect::<Vec<_>>();
            ends.sort();
            let transport = if flow.five_tuple.transport == Transport::Tcp { "TCP" } else { "UDP" };
            *ours.entry((stem(path), transport.to_owned(), ends)).or_default() += flow.statistics[packets_column];
        };
        if let Err(error) = assemble_capture(path, &FlowOptions::default(), &mut add) {
            println!("{error}");
        }
    }
    let equal = theirs.iter().filter(|(key, packets)| ours.get(*key) == Some(packets)).count();
    for (key, packets) in theirs.iter().filter(|(key, packets)| ours.get(*key) != Some(packets)) {
        println!("nDPI {packets}, here {:?}: {key:?}", ours.get(key));
    }
    let only_ours = ours.keys().filter(|key| !theirs.contains_key(*key)).count();
    println!("{equal} of {} conversations have as many packets; {only_ours} only here", theirs.len());
    assert!(equal as f64 >= 0.99 * theirs.len() as f64);
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

/// Real captures with bytes changed at random, from the file to the tokens: nothing panics.
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
                let packets = tokenize(&flow, &options, 0, &mut tokens).unwrap();
                assert!(tokens[packets * options.bytes..].iter().all(|token| *token == PAD));
                assert!(flow.statistics.iter().all(|value| value.is_finite() && *value >= 0.0));
            });
            damaged += usize::from(result.is_ok_and(|summary| summary.damage.is_some()));
        }
    }
    println!("{flows} flows, damage told for {damaged} files");
}
