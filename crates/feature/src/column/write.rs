//! Writing one column of a row group. Statistics and packets, which make up nearly all of a store, are written without
//! a [`Value`] per cell.

use std::borrow::Borrow;

use parquet::basic::Type as Physical;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::Result as ParquetResult;
use parquet::file::writer::SerializedColumnWriter;

use super::{Field, Value, direction_name};
use crate::store::StoreHeader;
use etcbench_dataset::LabelledFlow;
use etcbench_flow::{FlowPacket, PacketDirection};

/// Transposes the statistics of flows into columns. Each flow's statistics are contiguous, so one pass over the flows
/// is several times as fast as one per column.
pub(crate) fn statistics<F: Borrow<LabelledFlow>>(header: &StoreHeader, flows: &[F]) -> Vec<Vec<f64>> {
    let mut columns = vec![Vec::with_capacity(flows.len()); header.statistic_names.len()];
    for row in flows {
        for (column, value) in columns.iter_mut().zip(&row.borrow().flow.statistics) {
            column.push(*value);
        }
    }
    columns
}

/// Writes one column of a row group; `statistics` are the columns returned by [`statistics`] for its flows.
pub(crate) fn write<F: Borrow<LabelledFlow>>(
    column: &mut SerializedColumnWriter<'_>,
    field: &Field,
    header: &StoreHeader,
    flows: &[F],
    statistics: &[Vec<f64>],
) -> ParquetResult<()> {
    match *field {
        Field::Statistic(index) => {
            column.typed::<DoubleType>().write_batch(&statistics[index], None, None)?;
            Ok(())
        }
        Field::PacketBytes(k) => {
            // Allocate once for all values, which are slices of it.
            let packets = || flows.iter().filter_map(|row| row.borrow().flow.packets.get(k));
            let mut all = Vec::with_capacity(packets().map(|packet| packet.bytes.len()).sum());
            packets().for_each(|packet| all.extend_from_slice(&packet.bytes));
            let all = ByteArray::from(all);
            let mut start = 0;
            write_packets::<ByteArrayType, F>(column, flows, k, |packet| {
                let value = all.slice(start, packet.bytes.len());
                start += packet.bytes.len();
                value
            })
        }
        Field::PacketDirection(k) => {
            let [forward, backward] = [PacketDirection::Forward, PacketDirection::Backward]
                .map(|direction| ByteArray::from(direction_name(direction)));
            write_packets::<ByteArrayType, F>(column, flows, k, |packet| match packet.direction {
                PacketDirection::Forward => forward.clone(),
                PacketDirection::Backward => backward.clone(),
            })
        }
        Field::PacketTime(k) => write_packets::<Int64Type, F>(column, flows, k, |packet| packet.timestamp),
        // Unsigned 32-bit values are stored bit by bit, as the format specifies.
        Field::PacketWireLength(k) => {
            write_packets::<Int32Type, F>(column, flows, k, |packet| packet.wire_length as i32)
        }
        Field::PacketTransportOffset(k) => {
            write_packets::<Int32Type, F>(column, flows, k, |packet| i32::from(packet.layout.transport_offset))
        }
        Field::PacketPayloadOffset(k) => {
            write_packets::<Int32Type, F>(column, flows, k, |packet| i32::from(packet.layout.payload_offset))
        }
        _ => write_cells(column, field, header, flows),
    }
}

/// Writes a value of the `k`-th packet of every flow, null if a flow has fewer packets.
fn write_packets<T: DataType, F: Borrow<LabelledFlow>>(
    column: &mut SerializedColumnWriter<'_>,
    flows: &[F],
    k: usize,
    value: impl FnMut(&FlowPacket) -> T::T,
) -> ParquetResult<()> {
    let packets = || flows.iter().map(|row| row.borrow().flow.packets.get(k));
    let levels: Vec<i16> = packets().map(|packet| i16::from(packet.is_some())).collect();
    let values: Vec<T::T> = packets().flatten().map(value).collect();
    column.typed::<T>().write_batch(&values, Some(&levels), None)?;
    Ok(())
}

/// Writes a column cell by cell.
fn write_cells<F: Borrow<LabelledFlow>>(
    column: &mut SerializedColumnWriter<'_>,
    field: &Field,
    header: &StoreHeader,
    flows: &[F],
) -> ParquetResult<()> {
    let (physical, _, optional) = field.kind();
    let mut levels = Vec::new();
    let (mut bytes, mut integers, mut doubles) = (Vec::new(), Vec::new(), Vec::new());
    for value in flows.iter().map(|row| field.value(header, row.borrow())) {
        levels.push(i16::from(value != Value::Null));
        match value {
            Value::Null => {}
            Value::Bytes(value) => bytes.push(ByteArray::from(value)),
            Value::Integer(value) => integers.push(value),
            Value::Double(value) => doubles.push(value),
        }
    }
    let levels = optional.then_some(levels.as_slice());
    match physical {
        Physical::BYTE_ARRAY => column.typed::<ByteArrayType>().write_batch(&bytes, levels, None)?,
        Physical::INT64 => column.typed::<Int64Type>().write_batch(&integers, levels, None)?,
        Physical::DOUBLE => column.typed::<DoubleType>().write_batch(&doubles, levels, None)?,
        _ => {
            // Unsigned 32-bit values are stored bit by bit, as the format specifies.
            let narrow: Vec<i32> = integers.into_iter().map(|value| value as u32 as i32).collect();
            column.typed::<Int32Type>().write_batch(&narrow, levels, None)?
        }
    };
    Ok(())
}
