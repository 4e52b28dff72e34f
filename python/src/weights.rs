//! The weights of a model file as numpy arrays.

use std::path::PathBuf;

use etcbench::model::{ModelArchive, Tensor, TensorData};
use numpy::{IntoPyArray, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::raised;

/// Converts a tensor to an array of its shape.
fn array<'py>(py: Python<'py>, tensor: Tensor) -> PyResult<Bound<'py, PyAny>> {
    let Tensor { shape, data } = tensor;
    macro_rules! shaped {
        ($values:expr) => {
            $values.into_pyarray(py).reshape(shape).map(Bound::into_any)
        };
    }
    match data {
        TensorData::F32(values) => shaped!(values),
        TensorData::F64(values) => shaped!(values),
        TensorData::U32(values) => shaped!(values),
        TensorData::U8(values) => shaped!(values),
    }
}

/// Reads the tensors of a model file by name, and its metadata.
#[pyfunction]
pub(crate) fn weights<'py>(py: Python<'py>, path: PathBuf) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyDict>)> {
    let archive = py
        .detach(|| -> anyhow::Result<ModelArchive> {
            let bytes = std::fs::read(&path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
            ModelArchive::from_bytes(&bytes).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
        })
        .map_err(raised)?;
    let tensors = PyDict::new(py);
    for (name, tensor) in archive.tensors {
        tensors.set_item(name, array(py, tensor)?)?;
    }
    let metadata = PyDict::new(py);
    for (key, value) in archive.metadata {
        metadata.set_item(key, value)?;
    }
    Ok((tensors, metadata))
}
