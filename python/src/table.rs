//! Tables for Python: a stream of record batches that whoever speaks the Arrow PyCapsule interface takes without copies.

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

/// Per capture what was read and left out, for people.
pub(crate) type Summaries = Arc<Mutex<BTreeMap<String, String>>>;

/// A table that is made while it is read, once.
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
    /// The stream as a capsule `arrow_array_stream`; the requested schema is not looked at, as the interface allows.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        let reader = reader.ok_or_else(|| {
            EtcbenchError::new_err("this stream was read already; call the function that made it once more")
        })?;
        capsule(py, FFI_ArrowArrayStream::new(reader), c"arrow_array_stream")
    }

    /// The schema as a capsule `arrow_schema`.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let schema = FFI_ArrowSchema::try_from(self.schema.as_ref()).map_err(crate::raised)?;
        capsule(py, schema, c"arrow_schema")
    }

    /// The names of the columns.
    #[getter]
    fn column_names(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    /// Per capture that was read to its end what was found in it.
    #[getter]
    fn summaries(&self) -> BTreeMap<String, String> {
        self.summaries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn capsule<'py, T: 'static + Send>(py: Python<'py>, value: T, name: &'static CStr) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new_with_value(py, value, name)
}

/// A column that Python has as a list: of text, truth values, whole or other numbers, and `None`.
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
        Err(EtcbenchError::new_err(format!("column {name}: values are neither all text nor all numbers")))
    }
}

/// A table of columns that Python has as lists.
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
