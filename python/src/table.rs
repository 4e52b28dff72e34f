//! Tables for Python: streams of record batches, read without copies through the Arrow PyCapsule interface.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::ffi::FFI_ArrowSchema;
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchIterator, RecordBatchReader};
use arrow_schema::{Field, Schema, SchemaRef};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::EtcbenchError;

/// Per capture, a readable summary of what was read and skipped.
pub(crate) type Summaries = Arc<Mutex<BTreeMap<String, String>>>;

/// A table that is computed while it is read, and can be read once.
#[pyclass(module = "etcbench._native", frozen)]
pub(crate) struct Stream {
    schema: SchemaRef,
    reader: Mutex<Option<Box<dyn RecordBatchReader + Send>>>,
    summaries: Summaries,
}

impl Stream {
    pub(crate) fn new(reader: Box<dyn RecordBatchReader + Send>, summaries: Summaries) -> Self {
        Self { schema: reader.schema(), reader: Mutex::new(Some(reader)), summaries }
    }
}

#[pymethods]
impl Stream {
    /// Returns the stream as a capsule `arrow_array_stream`; ignores the requested schema, as the interface allows.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        let reader = reader.ok_or_else(|| {
            EtcbenchError::new_err("this stream was already read; call the function that returned it again")
        })?;
        capsule(py, FFI_ArrowArrayStream::new(reader), c"arrow_array_stream")
    }

    /// Returns the schema as a capsule `arrow_schema`.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let schema = FFI_ArrowSchema::try_from(self.schema.as_ref()).map_err(crate::raised)?;
        capsule(py, schema, c"arrow_schema")
    }

    /// Returns the names of the columns.
    #[getter]
    fn column_names(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    /// Returns a summary of each capture that was read to its end.
    #[getter]
    fn summaries(&self) -> BTreeMap<String, String> {
        self.summaries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn capsule<'py, T: 'static + Send>(py: Python<'py>, value: T, name: &'static CStr) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new_with_value(py, value, name)
}

/// Converts a Python list of strings, booleans, integers or floats, and `None`, to an array.
fn array(name: &str, values: &Bound<'_, PyAny>) -> PyResult<ArrayRef> {
    let mut items = Vec::new();
    for item in values.try_iter()? {
        items.push(item?);
    }
    let known: Vec<&Bound<'_, PyAny>> = items.iter().filter(|item| !item.is_none()).collect();
    let all = |test: fn(&Bound<'_, PyAny>) -> bool| known.iter().all(|item| test(item));
    macro_rules! built {
        ($builder:expr, $type:ty) => {{
            let mut builder = $builder;
            for item in &items {
                builder.append_option(item.extract::<Option<$type>>()?);
            }
            Arc::new(builder.finish()) as ArrayRef
        }};
    }
    if all(|item| item.is_instance_of::<pyo3::types::PyString>()) {
        Ok(built!(StringBuilder::new(), String))
    } else if all(|item| item.is_instance_of::<pyo3::types::PyBool>()) {
        Ok(built!(BooleanBuilder::new(), bool))
    } else if all(|item| item.is_instance_of::<pyo3::types::PyInt>()) {
        Ok(built!(Int64Builder::new(), i64))
    } else if all(|item| item.extract::<f64>().is_ok()) {
        Ok(built!(Float64Builder::new(), f64))
    } else {
        Err(EtcbenchError::new_err(format!("column {name}: values must be all strings, all booleans or all numbers")))
    }
}

/// Builds a table from columns given as Python lists.
#[pyfunction]
pub(crate) fn arrow_stream(names: Vec<String>, columns: Vec<Bound<'_, PyAny>>) -> PyResult<Stream> {
    let arrays: Vec<ArrayRef> =
        names.iter().zip(&columns).map(|(name, values)| array(name, values)).collect::<PyResult<_>>()?;
    let fields: Vec<Field> =
        names.iter().zip(&arrays).map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let rows = arrays.first().map_or(0, |array| array.len());
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options).map_err(crate::raised)?;
    Ok(Stream::new(Box::new(RecordBatchIterator::new([Ok(batch)], schema)), Summaries::default()))
}
