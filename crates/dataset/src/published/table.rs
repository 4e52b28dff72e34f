//! tcbench's Parquet files: one row per flow, with lists of lengths, directions and times since the first packet.

use std::io::Read;
use std::sync::Arc;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use super::{Fault, MOST_PACKETS, PublishedFile, PublishedFlow, Sink, length, nanoseconds};
use etcbench_flow::{PacketDirection, SequencePacket};
use etcbench_storage::declarative::nearest;
use etcbench_storage::guarded;

/// Columns of the lists: tcbench's usual names, then those of its MIRAGE files.
const LENGTHS: [&str; 2] = ["pkts_size", "packet_data_l4_payload_bytes"];
const DIRECTIONS: [&str; 2] = ["pkts_dir", "packet_data_packet_dir"];
/// Times since the first packet, or since the previous packet.
const TIMES: [&str; 2] = ["timetofirst", "packet_data_iat"];
/// Maximum size of a compressed or archived file, which is read into memory; other files are read in place.
const LARGEST_IN_MEMORY: u64 = 1 << 30;

/// The Parquet reader panics on some damaged files.
const GAVE_UP: &str = "the file is damaged (the Parquet reader gave up)";

pub(super) fn read(file: &PublishedFile<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let path = file.root.join(&file.file.path);
    match std::fs::File::open(&path) {
        Ok(input) if file.file.archive.is_none() => {
            let reader = guarded(GAVE_UP, || SerializedFileReader::new(input).map_err(|error| error.to_string()));
            rows(file, &reader.map_err(Fault::of_file)?, sink)
        }
        _ => {
            let mut bytes = Vec::new();
            let read = file.open()?.take(LARGEST_IN_MEMORY + 1).read_to_end(&mut bytes);
            read.map_err(|error| Fault::of_file(error.to_string()))?;
            if bytes.len() as u64 > LARGEST_IN_MEMORY {
                return Err(Fault::of_file("it is over 1 GiB inside an archive; unpack it".to_owned()));
            }
            let reader = guarded(GAVE_UP, || {
                SerializedFileReader::new(bytes::Bytes::from(bytes)).map_err(|error| error.to_string())
            });
            rows(file, &reader.map_err(Fault::of_file)?, sink)
        }
    }
}

fn rows(file: &PublishedFile<'_>, reader: &dyn FileReader, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let schema = reader.metadata().file_metadata().schema();
    let names: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
    let column = |wanted: [&'static str; 2]| {
        wanted.into_iter().find(|name| names.contains(name)).ok_or_else(|| {
            let near = nearest(wanted[0], names.iter().copied()).unwrap_or_default();
            Fault::of_file(format!("column `{}` is missing; the most similar is `{near}`", wanted[0]))
        })
    };
    let (lengths, directions, times) = (column(LENGTHS)?, column(DIRECTIONS)?, column(TIMES)?);
    let wanted = |name: &str| [lengths, directions, times].contains(&name) || file.layout.fields.contains(&name);
    let kept: Vec<Arc<Type>> = schema.get_fields().iter().filter(|field| wanted(field.name())).cloned().collect();
    let projection = Type::group_type_builder(schema.name()).with_fields(kept).build();
    let projection = projection.map_err(|error| Fault::of_file(error.to_string()))?;
    let rows = guarded(GAVE_UP, || reader.get_row_iter(Some(projection)).map_err(|error| error.to_string()));
    let mut rows = rows.map_err(Fault::of_file)?;
    for number in 0_u64.. {
        let fault = |message: String| Fault::at(format_args!("row {number}"), message);
        let row = guarded(GAVE_UP, || rows.next().transpose().map_err(|error| error.to_string())).map_err(fault)?;
        let Some(row) = row else { break };
        let packets = packets(&row, lengths, directions, times).map_err(fault)?;
        let fields = file.layout.fields.iter().map(|field| text(&row, field)).collect();
        sink(PublishedFlow::sequence(fields, packets)).map_err(fault)?;
    }
    Ok(())
}

fn value<'a>(row: &'a Row, column: &str) -> Option<&'a Field> {
    row.get_column_iter().find(|(name, _)| *name == column).map(|(_, field)| field)
}

fn text(row: &Row, column: &str) -> String {
    match value(row, column) {
        None | Some(Field::Null) => String::new(),
        Some(Field::Str(text)) => text.clone(),
        Some(Field::Bytes(bytes)) => String::from_utf8_lossy(bytes.data()).into_owned(),
        Some(other) => other.to_string(),
    }
}

/// Returns a list of numbers.
fn numbers(row: &Row, column: &str) -> Result<Vec<f64>, String> {
    let is_no = || format!("`{column}` is not a list of numbers");
    let Some(Field::ListInternal(list)) = value(row, column) else { return Err(is_no()) };
    let number = |field: &Field| match field {
        Field::Byte(value) => Some(f64::from(*value)),
        Field::Short(value) => Some(f64::from(*value)),
        Field::Int(value) => Some(f64::from(*value)),
        Field::Long(value) => Some(*value as f64),
        Field::UByte(value) => Some(f64::from(*value)),
        Field::UShort(value) => Some(f64::from(*value)),
        Field::UInt(value) => Some(f64::from(*value)),
        Field::ULong(value) => Some(*value as f64),
        Field::Float(value) => Some(f64::from(*value)),
        Field::Double(value) => Some(*value),
        _ => None,
    };
    list.elements().iter().map(|field| number(field).ok_or_else(is_no)).collect()
}

fn packets(row: &Row, lengths: &str, directions: &str, times: &str) -> Result<Vec<SequencePacket>, String> {
    let since_before = times != TIMES[0];
    let (sizes, ways, seconds) = (numbers(row, lengths)?, numbers(row, directions)?, numbers(row, times)?);
    if sizes.len() != ways.len() || sizes.len() != seconds.len() {
        return Err(format!(
            "{} lengths, {} directions and {} times; the counts must be equal",
            sizes.len(),
            ways.len(),
            seconds.len()
        ));
    }
    if sizes.len() > MOST_PACKETS {
        return Err(format!("more than {MOST_PACKETS} packets"));
    }
    let first = ways.first().copied();
    let mut latest = 0_i64;
    let packet = |((size, way), time): ((f64, f64), f64)| {
        if ![-1.0, 0.0, 1.0].contains(&way) {
            return Err(format!("direction {way} is neither 0 nor 1"));
        }
        let time = nanoseconds(time).filter(|_| time.is_finite()).ok_or_else(|| format!("{time} is not a time"))?;
        latest = if since_before { latest.saturating_add(time.max(0)) } else { time };
        Ok(SequencePacket {
            direction: if Some(way) == first { PacketDirection::Forward } else { PacketDirection::Backward },
            timestamp: latest,
            length: length(size).ok_or_else(|| format!("{size} is not a length in bytes"))?,
            flags: 0,
            bytes: Vec::new(),
            offsets: (0, 0),
        })
    };
    sizes.into_iter().zip(ways).zip(seconds).map(packet).collect()
}
