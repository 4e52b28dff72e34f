//! Writes a table of flows as a file in Arrow's IPC format (Feather, version 2), with the same types as the Parquet
//! file.

use std::borrow::Borrow;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, UInt16Array, UInt32Array};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Schema};
use parquet::basic::{ConvertedType, Type as Physical};

use super::column::{Columns, Field, Value, check};
use super::store::{StoreError, StoreHeader};
use etcbench_dataset::LabelledFlow;
use etcbench_storage as storage;

/// Flows per batch, which is what a writer or reader holds in memory.
const BATCH: usize = 4096;

/// Writes the flows returned by `next`, until it returns `None`, as an Arrow file, batch by batch. The file is written
/// all or nothing.
///
/// # Errors
/// An I/O error, an error of `next`, or a flow that does not fit the header, as for the store.
pub fn stream_arrow<F: Borrow<LabelledFlow>>(
    path: &Path,
    header: &StoreHeader,
    columns: Columns,
    next: &mut dyn FnMut() -> std::io::Result<Option<F>>,
) -> Result<u64, StoreError> {
    let mut count = 0;
    storage::write_whole_with(path, |file| {
        let fields = columns.fields(header);
        let described = |field: &Field| {
            let (_, _, nullable) = field.kind();
            arrow_schema::Field::new(field.name(header), data_type(*field), nullable)
        };
        let schema = Arc::new(Schema::new(fields.iter().map(described).collect::<Vec<_>>()));
        let mut writer = FileWriter::try_new(file, &schema).map_err(std::io::Error::other)?;
        let mut flows: Vec<F> = Vec::with_capacity(BATCH);
        loop {
            flows.clear();
            while flows.len() < BATCH {
                let Some(flow) = next()? else { break };
                check(header, flow.borrow()).map_err(std::io::Error::other)?;
                flows.push(flow);
            }
            if flows.is_empty() {
                break;
            }
            count += flows.len() as u64;
            let arrays = fields.iter().map(|field| array(*field, header, &flows)).collect();
            let batch = RecordBatch::try_new(schema.clone(), arrays).map_err(std::io::Error::other)?;
            writer.write(&batch).map_err(std::io::Error::other)?;
        }
        writer.finish().map_err(std::io::Error::other)
    })
    .map_err(|source| StoreError::Write { file: path.display().to_string(), source })?;
    Ok(count)
}

fn data_type(field: Field) -> DataType {
    match field.kind() {
        (Physical::BYTE_ARRAY, ConvertedType::UTF8, _) => DataType::Utf8,
        (Physical::BYTE_ARRAY, ..) => DataType::Binary,
        (Physical::INT64, ..) => DataType::Int64,
        (Physical::DOUBLE, ..) => DataType::Float64,
        (_, ConvertedType::UINT_16, _) => DataType::UInt16,
        _ => DataType::UInt32,
    }
}

/// Builds a column of a batch.
fn array<F: Borrow<LabelledFlow>>(field: Field, header: &StoreHeader, flows: &[F]) -> ArrayRef {
    let values = flows.iter().map(|flow| field.value(header, flow.borrow()));
    let integers = || {
        flows.iter().map(|flow| match field.value(header, flow.borrow()) {
            Value::Integer(value) => Some(value),
            _ => None,
        })
    };
    match data_type(field) {
        DataType::Utf8 => {
            let mut builder = StringBuilder::new();
            for value in values {
                match value {
                    Value::Bytes(bytes) => builder.append_value(String::from_utf8_lossy(&bytes)),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
        DataType::Binary => {
            let mut builder = BinaryBuilder::new();
            for value in values {
                match value {
                    Value::Bytes(bytes) => builder.append_value(bytes),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
        DataType::Float64 => {
            let double = |value| if let Value::Double(value) = value { Some(value) } else { None };
            Arc::new(values.map(double).collect::<Float64Array>())
        }
        DataType::Int64 => Arc::new(integers().collect::<Int64Array>()),
        // These types are only used for values that fit.
        DataType::UInt16 => Arc::new(integers().map(|value| value.map(|value| value as u16)).collect::<UInt16Array>()),
        _ => Arc::new(integers().map(|value| value.map(|value| value as u32)).collect::<UInt32Array>()),
    }
}
