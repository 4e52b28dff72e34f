//! Arrays of sequences: WFlib's npz of direction times time, and AppClassNet's npy of signed lengths.

use std::io::BufReader;

use super::npy::{NpyReader, read_column};
use super::{Fault, PublishedFile, PublishedFlow, Sink, length, nanoseconds};
use etcbench_capture::{CaptureSource, ExpansionLimits};
use etcbench_flow::{PacketDirection, SequencePacket};

/// Reads WFlib's `X` and `y` from an npz file, which is a zip archive of `X.npy` and `y.npy`.
pub(super) fn read_traces(file: &PublishedFile<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    if file.file.archive.is_some() {
        return Err(Fault::of_file("it is an archive inside an archive; unpack the outer one".to_owned()));
    }
    let path = file.root.join(&file.file.path);
    // An archive is read by its members, so only what is none is looked at.
    drop(file.open()?);
    let open = |member: &str| {
        let stream = CaptureSource::member(&path, member).open(ExpansionLimits::default());
        let stream = stream.map_err(|error| Fault::of_file(error.to_string()))?;
        Ok::<_, Fault>(BufReader::with_capacity(1 << 18, stream))
    };
    let of = |member: &'static str| move |message: String| Fault::of_file(format!("{member}: {message}"));
    let mut traces = NpyReader::new(open("X.npy")?).map_err(of("X"))?;
    let labels = read_column(open("y.npy")?, traces.rows).map_err(of("y"))?;
    each_row(&mut traces, &labels, "X", trace, sink)
}

/// Reads AppClassNet's signed lengths from one file and the classes from its label file.
pub(super) fn read_lengths(file: &PublishedFile<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let mut lengths = NpyReader::new(file.open()?).map_err(Fault::of_file)?;
    let (path, labels) = file.open_beside()?;
    let labels = read_column(labels, lengths.rows)
        .map_err(|message| Fault::of_file(format!("its labels are in {path}: {message}")))?;
    each_row(&mut lengths, &labels, "x", signed_lengths, sink)
}

/// Converts a row without its padding to packets.
type RowPackets = fn(&[f64]) -> Result<Vec<SequencePacket>, String>;

/// Emits one flow per row, whose only field is its class.
fn each_row(
    rows: &mut NpyReader<impl std::io::BufRead>,
    labels: &[f64],
    what: &str,
    packets: RowPackets,
    sink: &mut Sink<'_>,
) -> Result<(), Fault> {
    if rows.rows != labels.len() as u64 {
        return Err(Fault::of_file(format!(
            "{} rows of {what} and {} labels; the counts must be equal",
            rows.rows,
            labels.len()
        )));
    }
    let mut row = Vec::new();
    for (number, label) in labels.iter().enumerate() {
        let fault = |message: String| Fault::at(format_args!("row {number}"), message);
        rows.next_row(&mut row).map_err(Fault::of_file)?;
        if label.fract() != 0.0 || !label.is_finite() {
            return Err(fault(format!("its label {label} is not an integer")));
        }
        // Zeros pad the row after the end of the sequence.
        let length = row.iter().rposition(|&value| value != 0.0).map_or(0, |last| last + 1);
        let packets = packets(&row[..length]).map_err(fault)?;
        sink(PublishedFlow::sequence(vec![label.to_string()], packets)).map_err(fault)?;
    }
    Ok(())
}

/// Converts the cells of a trace, each a time in seconds with the sign of its direction. A time of 0 has no sign and
/// counts as outgoing: it belongs to the first cell, which the client sends. If all values are 1 or -1, the publisher
/// provides only directions.
fn trace(row: &[f64]) -> Result<Vec<SequencePacket>, String> {
    let directions_alone = row.iter().all(|&value| value.abs() == 1.0);
    let cell = |&value: &f64| {
        let time = if directions_alone { Some(0) } else { nanoseconds(value.abs()).filter(|_| value.is_finite()) };
        Ok(SequencePacket {
            direction: if value < 0.0 { PacketDirection::Backward } else { PacketDirection::Forward },
            timestamp: time.ok_or_else(|| format!("{value} is not a time"))?,
            length: 1,
            flags: 0,
            bytes: Vec::new(),
            offsets: (0, 0),
        })
    };
    row.iter().map(cell).collect()
}

fn signed_lengths(row: &[f64]) -> Result<Vec<SequencePacket>, String> {
    row.iter().map(|&value| signed(value)).collect()
}

fn signed(value: f64) -> Result<SequencePacket, String> {
    Ok(SequencePacket {
        direction: if value < 0.0 { PacketDirection::Backward } else { PacketDirection::Forward },
        timestamp: 0,
        length: length(value).ok_or_else(|| format!("{value} is not a length in whole bytes"))?,
        flags: 0,
        bytes: Vec::new(),
        offsets: (0, 0),
    })
}
