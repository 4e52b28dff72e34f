//! Packets of captures as a table with a row per packet.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use etcbench::capture::{Packet, Transport};
use pyo3::prelude::*;

use crate::captures::{stream, tunnels};
use crate::flows::transport;
use crate::raised;
use crate::table::Stream;

/// Number of packets in a batch.
const BATCH: usize = 65_536;

/// The values of a batch, column by column.
#[derive(Default)]
struct Values {
    number: Vec<u64>,
    time: Vec<i64>,
    source: StringBuilder,
    source_port: Vec<u16>,
    destination: StringBuilder,
    destination_port: Vec<u16>,
    transport: Vec<&'static str>,
    wire_length: Vec<u32>,
    network_length: Vec<u32>,
    payload_length: Vec<u32>,
    transport_offset: Vec<u16>,
    payload_offset: Vec<u16>,
    tcp_flags: Vec<Option<u8>>,
    tcp_window: Vec<Option<u16>>,
    bytes: BinaryBuilder,
}

impl Values {
    fn add(&mut self, packet: &Packet<'_>, kept: usize) {
        use std::fmt::Write;
        self.number.push(packet.number);
        self.time.push(packet.timestamp);
        for (builder, address) in
            [(&mut self.source, packet.source.ip()), (&mut self.destination, packet.destination.ip())]
        {
            // Writing to a string builder cannot fail.
            let _ = write!(builder, "{address}");
            builder.append_value("");
        }
        self.source_port.push(packet.source.port());
        self.destination_port.push(packet.destination.port());
        self.transport.push(transport(packet.layout.transport));
        self.wire_length.push(packet.wire_length);
        self.network_length.push(packet.network_length);
        self.payload_length.push(packet.payload_length);
        self.transport_offset.push(packet.layout.transport_offset);
        self.payload_offset.push(packet.layout.payload_offset);
        // A fragment after the first has no transport header.
        let has_header =
            packet.layout.transport == Transport::Tcp && packet.layout.payload_offset > packet.layout.transport_offset;
        self.tcp_flags.push(has_header.then_some(packet.tcp_flags));
        self.tcp_window.push(has_header.then_some(packet.tcp_window));
        self.bytes.append_value(&packet.bytes[..packet.bytes.len().min(kept)]);
    }

    fn batch(mut self, capture: &str, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        let rows = self.number.len();
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(capture, rows))),
            Arc::new(UInt64Array::from(self.number)),
            Arc::new(Int64Array::from(self.time)),
            Arc::new(self.source.finish()),
            Arc::new(UInt16Array::from(self.source_port)),
            Arc::new(self.destination.finish()),
            Arc::new(UInt16Array::from(self.destination_port)),
            Arc::new(StringArray::from(self.transport)),
            Arc::new(UInt32Array::from(self.wire_length)),
            Arc::new(UInt32Array::from(self.network_length)),
            Arc::new(UInt32Array::from(self.payload_length)),
            Arc::new(UInt16Array::from(self.transport_offset)),
            Arc::new(UInt16Array::from(self.payload_offset)),
            Arc::new(UInt8Array::from(self.tcp_flags)),
            Arc::new(UInt16Array::from(self.tcp_window)),
            Arc::new(self.bytes.finish()),
        ];
        RecordBatch::try_new(schema.clone(), arrays)
    }
}

fn schema() -> SchemaRef {
    use DataType::{Binary, Int64, UInt8, UInt16, UInt32, UInt64, Utf8};
    let columns = [
        ("capture", Utf8, false),
        ("number", UInt64, false),
        ("time_ns", Int64, false),
        ("source_address", Utf8, false),
        ("source_port", UInt16, false),
        ("destination_address", Utf8, false),
        ("destination_port", UInt16, false),
        ("transport", Utf8, false),
        ("wire_length", UInt32, false),
        ("network_length", UInt32, false),
        ("payload_length", UInt32, false),
        ("transport_offset", UInt16, false),
        ("payload_offset", UInt16, false),
        ("tcp_flags", UInt8, true),
        ("tcp_window", UInt16, true),
        ("bytes", Binary, false),
    ];
    Arc::new(Schema::new(columns.map(|(name, kind, nullable)| Field::new(name, kind, nullable)).to_vec()))
}

/// Returns the packets of captures as a stream; `etcbench.packets` documents the arguments.
#[pyfunction]
#[pyo3(signature = (captures, *, tunnels, bytes))]
pub(crate) fn packets(captures: Vec<PathBuf>, tunnels: &str, bytes: usize) -> PyResult<Stream> {
    let tunnels = self::tunnels(tunnels).map_err(raised)?;
    stream(captures, tunnels, schema(), bytes, |path, mut reader, &kept, sink| {
        let capture = path.display().to_string();
        let schema = schema();
        let mut values = Values::default();
        while let Some(packet) = reader.next_packet()? {
            values.add(&packet, kept);
            if values.number.len() == BATCH {
                sink.send(std::mem::take(&mut values).batch(&capture, &schema));
            }
        }
        if !values.number.is_empty() {
            sink.send(values.batch(&capture, &schema));
        }
        Ok(reader.summary().to_string())
    })
}
