//! Writes a table of flows as NumPy's `.npz`: an array per column, statistics as one matrix, and packets as arrays of
//! flows by packets.

use std::borrow::Borrow;
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::column::{Columns, Field, Value, check};
use super::spool::Spool;
use super::store::{StoreError, StoreHeader};
use etcbench_dataset::LabelledFlow;
use etcbench_flow::{FlowPacket, PacketDirection};
use etcbench_storage as storage;

/// From this size on, a member's sizes need more than 32 bits.
const LARGE: u64 = 0xffff_0000;

/// The contents of an array, for each flow.
enum Source {
    Cell(Field),
    Statistics,
    /// A value of every kept packet; `absent` if a flow has fewer.
    Packets {
        of: fn(&FlowPacket, usize) -> Vec<u8>,
        absent: Vec<u8>,
    },
}

/// Writes the flows returned by `next`, until it returns `None`, as a compressed `.npz` file. Values are buffered in
/// unnamed files until all flows have been read, so only one flow at a time is in memory. The file is written all or
/// nothing.
///
/// # Errors
/// An I/O error, an error of `next`, or a flow that does not fit the header, as for the store.
pub fn stream_npz<F: Borrow<LabelledFlow>>(
    path: &Path,
    header: &StoreHeader,
    columns: Columns,
    next: &mut dyn FnMut() -> std::io::Result<Option<F>>,
) -> Result<u64, StoreError> {
    let mut count = 0;
    storage::write_whole_with(path, |file| {
        let mut arrays = arrays(header, columns)?;
        while let Some(flow) = next()? {
            let flow = flow.borrow();
            check(header, flow).map_err(std::io::Error::other)?;
            for (_, source, spool) in &mut arrays {
                push(source, header, flow, spool)?;
            }
            count += 1;
        }
        let mut archive = ZipWriter::new_stream(file);
        let begin = |archive: &mut ZipWriter<_>, name: &str, size: u64| {
            // Use a fixed timestamp, so that the same flows produce the same bytes.
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Deflated)
                .last_modified_time(zip::DateTime::default())
                .large_file(size >= LARGE);
            archive.start_file(format!("{name}.npy"), options).map_err(std::io::Error::other)
        };
        if columns == Columns::Own {
            let mut names = Spool::of_text()?;
            header.statistic_names.iter().try_for_each(|name| names.push(name.as_bytes()))?;
            begin(&mut archive, "statistic_names", 0)?;
            names.finish(header.statistic_names.len() as u64, &mut archive)?;
        }
        for (name, _, spool) in arrays {
            begin(&mut archive, &name, spool.size(count))?;
            spool.finish(count, &mut archive)?;
        }
        archive.finish().map_err(std::io::Error::other)?;
        Ok(())
    })
    .map_err(|source| StoreError::Write { file: path.display().to_string(), source })?;
    Ok(count)
}

/// Creates the empty arrays of a table, in order.
fn arrays(header: &StoreHeader, columns: Columns) -> std::io::Result<Vec<(String, Source, Spool)>> {
    let mut arrays = Vec::new();
    for field in columns.fields(header) {
        let spool = match field {
            // These are combined into arrays of several columns each.
            Field::Statistic(_) | Field::PacketBytes(_) | Field::PacketTime(_) | Field::PacketWireLength(_) => continue,
            Field::PacketDirection(_) | Field::PacketTransportOffset(_) | Field::PacketPayloadOffset(_) => continue,
            _ if field.is_text() => Spool::of_text()?,
            _ => Spool::of_numbers(descr(field), Vec::new())?,
        };
        arrays.push((field.name(header), Source::Cell(field), spool));
    }
    if columns != Columns::Own {
        return Ok(arrays);
    }
    let statistics = Spool::of_numbers("<f8", vec![header.statistic_names.len()])?;
    arrays.push(("statistics".to_owned(), Source::Statistics, statistics));
    let (packets, bytes) = (header.flow_options.kept_packets, header.flow_options.kept_bytes);
    let mut of_packets = |name: &str, descr, inner: &[usize], of, absent: Vec<u8>| -> std::io::Result<()> {
        let spool = Spool::of_numbers(descr, [&[packets], inner].concat())?;
        arrays.push((name.to_owned(), Source::Packets { of, absent }, spool));
        Ok(())
    };
    of_packets("packet_bytes", "|u1", &[bytes], padded, vec![0; bytes])?;
    of_packets("packet_byte_count", "<u4", &[], |packet, _| number(packet.bytes.len() as u32), number(0))?;
    of_packets("packet_time_ns", "<i8", &[], |packet, _| packet.timestamp.to_le_bytes().to_vec(), vec![0; 8])?;
    of_packets("packet_wire_length", "<u4", &[], |packet, _| number(packet.wire_length), number(0))?;
    of_packets("packet_direction", "|i1", &[], direction, vec![0])?;
    of_packets(
        "packet_transport_offset",
        "<u2",
        &[],
        |packet, _| packet.layout.transport_offset.to_le_bytes().to_vec(),
        vec![0; 2],
    )?;
    of_packets(
        "packet_payload_offset",
        "<u2",
        &[],
        |packet, _| packet.layout.payload_offset.to_le_bytes().to_vec(),
        vec![0; 2],
    )?;
    Ok(arrays)
}

/// Returns the type of a numeric column.
fn descr(field: Field) -> &'static str {
    use parquet::basic::{ConvertedType, Type as Physical};
    match field.kind() {
        (Physical::INT64, ..) => "<i8",
        (Physical::DOUBLE, ..) => "<f8",
        (_, ConvertedType::UINT_16, _) => "<u2",
        _ => "<u4",
    }
}

fn number(value: u32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

/// Returns the bytes of a packet, padded with zeros.
fn padded(packet: &FlowPacket, width: usize) -> Vec<u8> {
    let mut bytes = packet.bytes.clone();
    bytes.resize(width, 0);
    bytes
}

/// Returns 1 for forward, -1 for backward.
fn direction(packet: &FlowPacket, _: usize) -> Vec<u8> {
    vec![match packet.direction {
        PacketDirection::Forward => 1,
        PacketDirection::Backward => 0xff,
    }]
}

fn push(source: &Source, header: &StoreHeader, flow: &LabelledFlow, spool: &mut Spool) -> std::io::Result<()> {
    match source {
        Source::Cell(field) => match (field.value(header, flow), descr(*field)) {
            (Value::Bytes(bytes), _) => spool.push(&bytes),
            // The flow has no such label.
            (Value::Null, _) => spool.push(&[]),
            (Value::Double(value), _) => spool.push(&value.to_le_bytes()),
            (Value::Integer(value), "<i8") => spool.push(&value.to_le_bytes()),
            (Value::Integer(value), "<u2") => spool.push(&(value as u16).to_le_bytes()),
            (Value::Integer(value), _) => spool.push(&(value as u32).to_le_bytes()),
        },
        Source::Statistics => flow.flow.statistics.iter().try_for_each(|value| spool.push(&value.to_le_bytes())),
        Source::Packets { of, absent } => {
            let packets = &flow.flow.packets;
            (0..header.flow_options.kept_packets).try_for_each(|place| match packets.get(place) {
                Some(packet) => spool.push(&of(packet, header.flow_options.kept_bytes)),
                None => spool.push(absent),
            })
        }
    }
}
