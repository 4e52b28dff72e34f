//! `etcbench audit-data`: checks what a split released as arrays, words or images gives away. No captures are needed: it looks for
//! duplicates and windows of the same rows across parts, contradicting labels, and classes predicted by one column or
//! byte.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use ndarray::Array2;

use super::{Verdict, output};
use crate::capture::{HeaderLayout, Transport};
use crate::dataset::{FlowProvenance, ReleasedPart, read_released};
use crate::feature::{FeatureSet, TokenArray, TokenOptions};
use crate::flow::{FiveTuple, Flow, FlowPacket, PacketDirection};
use crate::leaks::{RUN_LENGTH, SHORTEST_WINDOW, leak_reports, windows};
use crate::report::{ReleasedRows, released_text};
use crate::split::Split;

/// `etcbench audit-data`.
#[derive(Args)]
#[command(
    after_help = "The names of arrays determine their content: X, data or features for rows, y or labels for classes,
and train, val or test for the part. Rows of integers from 0 to 255 are read as bytes, all others as columns.
Classes are integers or text. Of several arrays of a part, those named alike belong together: X_train_2 and y_train_2.
Tables have columns `label` and `text_a` with hexadecimal words, as ET-BERT's; images are in folders per class, as
YaTC's, with a byte per grey pixel. Here too the names of files and folders state the part.

Examples:
  etcbench audit-data dataset.npz                      X_train, y_train, X_test, y_test in it
  etcbench audit-data train.npz test.npz               X and y in each
  etcbench audit-data x_datagram_train.npy y_train.npy x_datagram_test.npy y_test.npy
  etcbench audit-data train_dataset.tsv test_dataset.tsv
  etcbench audit-data images                           images/train/CLASS/*.png, images/test/CLASS/*.png

Exit code 1 if something leaks beyond chance."
)]
pub(super) struct AuditDataArguments {
    /// `.npz`, `.npy` and `.tsv` files, or folders of images.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Prints what the parts give away.
pub(super) fn audit_data(arguments: &AuditDataArguments) -> anyhow::Result<Verdict> {
    let parts = read_released(&arguments.files)?;
    for part in &parts {
        say!(
            "{}: {} of {}, {}",
            part.name,
            output::count(part.labels.len(), "row"),
            output::count(part.width, "value"),
            output::count(classes(std::slice::from_ref(part)).len(), "class")
        );
    }
    let find = |name: &str| parts.iter().position(|part| part.name == name);
    let (Some(train), Some(test)) = (find("train"), find("test")) else {
        let names: Vec<&str> = parts.iter().map(|part| part.name).collect();
        anyhow::bail!(
            "the parts are {}; names of arrays, files or folders must contain `train` and `test` to identify the two sides",
            names.join(", ")
        );
    };
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let mut next = 0;
    for part in &parts {
        rows.push((next..next + part.labels.len()).collect());
        next += part.labels.len();
    }
    let validation = find("validation").map_or(Vec::new(), |place| rows[place].clone());
    let split = Split { train: rows[train].clone(), validation, test: rows[test].clone() };
    let features = features(parts)?;
    let packets = packets(&features);
    let packets: Option<Vec<&Flow>> = packets.as_ref().map(|flows| flows.iter().collect());
    let tokens = TokenOptions { packets: 1, bytes: features.tokens.bytes, ..TokenOptions::default() };
    let seen = packets.as_ref().map(|flows| (flows.as_slice(), &tokens));
    if seen.is_some() {
        say!("rows begin with an IPv4 header, so its fields are checked by name");
    }
    let mut report = leak_reports(&features, seen, &[&split]).remove(0);
    // Nothing is known about captures here.
    report.alarms.retain(|alarm| !alarm.kind.is_of_captures());
    let windows = windows(&features, &split);
    let found = !report.alarms.is_empty() || windows.is_some();
    let released = ReleasedRows {
        are_bytes: features.tokens.bytes > 0,
        are_packets: seen.is_some(),
        run_length: (features.tokens.bytes >= SHORTEST_WINDOW).then_some(RUN_LENGTH),
        windows,
    };
    say!("\n{}", released_text(&report, &released));
    Ok(if found { Verdict::CheckFailed } else { Verdict::Done })
}

/// Returns the classes of parts, ascending: by their numbers if all are integers, else by name.
fn classes(parts: &[ReleasedPart]) -> Vec<Arc<str>> {
    let classes: BTreeSet<&Arc<str>> = parts.iter().flat_map(|part| &part.labels).collect();
    let mut classes: Vec<Arc<str>> = classes.into_iter().cloned().collect();
    let number = |class: &Arc<str>| class.parse::<i64>().ok();
    if classes.iter().all(|class| number(class).is_some()) {
        classes.sort_by_key(number);
    }
    classes
}

/// Converts the rows of all parts to features: bytes if every value is one. The values of a part are released once they
/// are converted.
fn features(parts: Vec<ReleasedPart>) -> anyhow::Result<FeatureSet> {
    let classes = classes(&parts);
    let width = parts.first().map_or(0, |part| part.width);
    let is_byte = |value: &f32| value.fract() == 0.0 && (0.0..=255.0).contains(value);
    let of_bytes = parts.iter().all(|part| part.values.iter().all(is_byte));
    let rows = parts.iter().map(|part| part.labels.len()).sum::<usize>();
    let mut labels: Vec<Arc<str>> = Vec::with_capacity(rows);
    let mut tokens = TokenArray { packets: 0, bytes: 0, values: Vec::new() };
    let mut numbers: Vec<f32> = Vec::new();
    if of_bytes {
        tokens = TokenArray { packets: 1, bytes: width, values: Vec::with_capacity(rows * width) };
    }
    for part in parts {
        labels.extend(part.labels);
        match of_bytes {
            true => tokens.values.extend(part.values.iter().map(|&value| value as u16)),
            false if numbers.is_empty() => numbers = part.values,
            false => numbers.extend(part.values),
        }
    }
    let columns = if of_bytes { 0 } else { width };
    let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
    let five_tuple = FiveTuple { source: nobody, destination: nobody, transport: Transport::Tcp };
    let provenance = |number: u32| FlowProvenance {
        capture: "released".to_owned(),
        number,
        five_tuple,
        start: 0,
        end: 0,
        packet: None,
    };
    let place: BTreeMap<&Arc<str>, u32> = classes.iter().zip(0..).collect();
    Ok(FeatureSet {
        tokens,
        statistics: Array2::from_shape_vec((rows, columns), numbers)?,
        statistic_names: (0..columns).map(|column| format!("column_{column}")).collect(),
        sequences: Array2::zeros((rows, 0)),
        flowpics: Array2::zeros((rows, 0)),
        labels: labels.iter().map(|label| place[label]).collect(),
        class_names: classes.iter().map(|class| class.to_string()).collect(),
        provenance: (0..rows as u32).map(provenance).collect(),
    })
}

/// The share of rows that must be IPv4 packets for the rows to be parsed as packets.
const ARE_PACKETS: f64 = 0.9;

/// Parses the rows as packets, one flow each, if nearly all begin with an IPv4 header; a row that does not gets a flow
/// without packets.
fn packets(features: &FeatureSet) -> Option<Vec<Flow>> {
    let flow = |row: usize| {
        let bytes: Vec<u8> = features.tokens.flow(row).iter().map(|&token| token as u8).collect();
        let packet = layout(&bytes).map(|layout| FlowPacket {
            direction: PacketDirection::Forward,
            timestamp: 0,
            wire_length: u32::from(u16::from_be_bytes([bytes[2], bytes[3]])),
            bytes,
            layout,
        });
        let five_tuple = features.provenance[row].five_tuple;
        Flow { five_tuple, start: 0, end: 0, packets: packet.into_iter().collect(), statistics: Vec::new() }
    };
    let flows: Vec<Flow> = (0..features.len()).map(flow).collect();
    let found = flows.iter().filter(|flow| !flow.packets.is_empty()).count();
    (found > 0 && found as f64 >= ARE_PACKETS * flows.len() as f64).then_some(flows)
}

/// Locates the headers of a TCP or UDP packet over IPv4 (RFC 791, section 3.1; RFC 9293, section 3.1).
fn layout(bytes: &[u8]) -> Option<HeaderLayout> {
    let first = *bytes.first()?;
    let transport_offset = 4 * usize::from(first & 15);
    let length = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
    if first >> 4 != 4 || transport_offset < 20 || length < transport_offset {
        return None;
    }
    let (transport, header) = match bytes.get(9)? {
        6 => (Transport::Tcp, 4 * usize::from(bytes.get(transport_offset + 12)? >> 4)),
        17 => (Transport::Udp, 8),
        _ => return None,
    };
    // Both are at most 120.
    let (transport_offset, payload_offset) = (transport_offset as u16, (transport_offset + header) as u16);
    Some(HeaderLayout { transport_offset, payload_offset, transport })
}
