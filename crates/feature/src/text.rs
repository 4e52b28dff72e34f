//! Writes the columns of the feature store as a CSV file, for tools that support nothing else.

use std::borrow::Borrow;
use std::path::Path;

use super::column::{Columns, Value, check};
use super::store::{StoreError, StoreHeader};
use etcbench_dataset::LabelledFlow;
use etcbench_storage as storage;

/// Writes the flows returned by `next`, until it returns `None`, as CSV: a header line with the names of the store's
/// columns, then one line per flow. Bytes are hexadecimal, null is empty, and numbers have enough digits to be read
/// back exactly. The file is written all or nothing.
///
/// # Errors
/// An I/O error, an error of `next`, or a flow that does not fit the header, as for the store.
pub fn stream_csv<F: Borrow<LabelledFlow>>(
    path: &Path,
    header: &StoreHeader,
    columns: Columns,
    next: &mut dyn FnMut() -> std::io::Result<Option<F>>,
) -> Result<u64, StoreError> {
    let mut count = 0;
    storage::write_whole_with(path, |file| {
        let fields = columns.fields(header);
        let mut table = csv::Writer::from_writer(file);
        table.write_record(fields.iter().map(|field| field.name(header)))?;
        while let Some(flow) = next()? {
            let flow = flow.borrow();
            check(header, flow).map_err(std::io::Error::other)?;
            for field in &fields {
                match field.value(header, flow) {
                    Value::Null => table.write_field("")?,
                    Value::Integer(value) => table.write_field(value.to_string())?,
                    Value::Double(value) => table.write_field(value.to_string())?,
                    Value::Bytes(bytes) if field.is_text() => table.write_field(bytes)?,
                    Value::Bytes(bytes) => table.write_field(hex::encode(bytes))?,
                }
            }
            table.write_record(None::<&[u8]>)?;
            count += 1;
        }
        table.flush()
    })
    .map_err(|source| StoreError::Write { file: path.display().to_string(), source })?;
    Ok(count)
}
