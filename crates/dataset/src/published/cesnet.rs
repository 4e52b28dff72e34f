//! CESNET-TLS22, CESNET-QUIC22 and CESNET-TLS-Year22 as CSV: one row per flow, with the PPI matrix as text, `[[0, 5,
//! ...], [1, -1, ...], [517, 1400, ...]]`. The HDF5 versions are refused with the line of Python that converts
//! them.

use super::{Fault, PublishedFile, PublishedFlow, Sink, length, nanoseconds, shown};
use etcbench_flow::{PacketDirection, SequencePacket};
use etcbench_storage::declarative::nearest;

/// Milliseconds to seconds.
const MILLISECOND: f64 = 1e-3;
/// The TCP flag in the fourth row of the matrix.
const PUSH: u8 = 0x08;
/// Maximum size of a parsed matrix in bytes; 30 packets take about 500.
const LONGEST_PPI: usize = 1 << 16;

pub(super) fn read(file: &PublishedFile<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let mut reader = csv::ReaderBuilder::new().from_reader(file.open()?);
    let told = |error: csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        Fault::at(format_args!("line {line}"), error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let header = reader.byte_headers().map_err(told)?.clone();
    let name =
        |field: &[u8]| String::from_utf8_lossy(field.strip_prefix(b"\xef\xbb\xbf").unwrap_or(field)).trim().to_owned();
    let names: Vec<String> = header.iter().map(name).collect();
    let place = |wanted: &str| names.iter().position(|name| name == wanted);
    let ppi = place("PPI").ok_or_else(|| {
        let near = nearest("PPI", names.iter().map(String::as_str)).unwrap_or_default();
        Fault::at("line 1", format!("column `PPI` is missing; the most similar is `{}`", shown(near)))
    })?;
    let fields: Vec<Option<usize>> = file.layout.fields.iter().map(|field| place(field)).collect();
    let ppi_length = place("PPI_LEN");
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(told)? {
        let line = record.position().map_or(0, csv::Position::line);
        let fault = |message: String| Fault::at(format_args!("line {line}"), message);
        let text = |place: usize| {
            std::str::from_utf8(&record[place]).map(str::trim).map_err(|_| fault("it is not UTF-8".to_owned()))
        };
        let told = match ppi_length {
            Some(place) => text(place)?.parse::<usize>().ok(),
            None => None,
        };
        let packets = packets(text(ppi)?, told).map_err(|message| fault(format!("`PPI`: {message}")))?;
        let fields = fields.iter().map(|place| place.map_or(Ok(String::new()), |place| text(place).map(str::to_owned)));
        let fields = fields.collect::<Result<_, _>>()?;
        sink(PublishedFlow::sequence(fields, packets)).map_err(fault)?;
    }
    Ok(())
}

/// Parses the packets of a matrix: as many as `told`, or up to the first without a direction.
fn packets(text: &str, told: Option<usize>) -> Result<Vec<SequencePacket>, String> {
    if text.len() > LONGEST_PPI {
        return Err(format!("it is longer than {LONGEST_PPI} bytes"));
    }
    let matrix: Vec<Vec<f64>> =
        serde_json::from_str(text).map_err(|_| format!("`{}` is not a list of lists of numbers", shown(text)))?;
    let (times, directions, lengths, push) = match &matrix[..] {
        [times, directions, lengths] => (times, directions, lengths, None),
        [times, directions, lengths, push] => (times, directions, lengths, Some(push)),
        _ => return Err(format!("{} lists, expected 3 or 4 (times, directions, lengths, push flags)", matrix.len())),
    };
    let widths: Vec<usize> = matrix.iter().map(Vec::len).collect();
    if widths.iter().any(|width| *width != widths[0]) {
        return Err(format!("its lists have {widths:?} values; the counts must be equal"));
    }
    let count = directions.iter().position(|&direction| direction == 0.0).unwrap_or(directions.len());
    let count = count.min(told.unwrap_or(count));
    let mut packets = Vec::with_capacity(count);
    let mut time = 0_i64;
    for place in 0..count {
        let gap = nanoseconds(times[place] * MILLISECOND)
            .ok_or_else(|| format!("{} is not a time in milliseconds", times[place]))?;
        time = time.saturating_add(gap.max(0));
        packets.push(SequencePacket {
            direction: if directions[place] < 0.0 { PacketDirection::Backward } else { PacketDirection::Forward },
            timestamp: time,
            length: length(lengths[place]).ok_or_else(|| format!("{} is not a length in bytes", lengths[place]))?,
            flags: if push.is_some_and(|push| push[place] != 0.0) { PUSH } else { 0 },
            bytes: Vec::new(),
            offsets: (0, 0),
        });
    }
    Ok(packets)
}
