//! Reads and writes the pieces of a [`ModelArchive`] that the classical models share. Model files are untrusted, so
//! every length is checked before use.

use ndarray::Array2;

use super::{ModelArchive, ModelError, Tensor, TensorData};

/// Returns an error about a model file's content.
pub(super) fn broken(problem: impl Into<String>) -> ModelError {
    ModelError::File { path: None, problem: problem.into() }
}

/// Returns the metadata entry with this name.
pub(super) fn text<'a>(archive: &'a ModelArchive, name: &str) -> Result<&'a str, ModelError> {
    archive
        .metadata
        .get(name)
        .map(String::as_str)
        .ok_or_else(|| broken(format!("metadata `{name}` is missing; fit the model again")))
}

/// Returns the metadata entry with this name, parsed from JSON.
pub(super) fn json<T: serde::de::DeserializeOwned>(archive: &ModelArchive, name: &str) -> Result<T, ModelError> {
    serde_json::from_str(text(archive, name)?).map_err(|error| broken(format!("metadata `{name}`: {error}")))
}

/// Returns the number of classes; a file with more than 65,536 is rejected as broken.
pub(super) fn class_count(archive: &ModelArchive) -> Result<usize, ModelError> {
    match json(archive, "classes")? {
        count if count <= 1 << 16 => Ok(count),
        count => Err(broken(format!("metadata `classes` is {count}; at most 65536 classes are supported"))),
    }
}

/// Stores a value as JSON metadata.
pub(super) fn put_json<T: serde::Serialize>(archive: &mut ModelArchive, name: &str, value: &T) {
    let text = serde_json::to_string(value).expect("names and numbers are JSON");
    archive.metadata.insert(name.to_owned(), text);
}

fn tensor<'a>(archive: &'a ModelArchive, name: &str) -> Result<&'a Tensor, ModelError> {
    archive.tensors.get(name).ok_or_else(|| broken(format!("tensor {name} is missing")))
}

/// Returns a matrix of 32-bit floats with any number of rows and exactly `columns` columns.
pub(super) fn matrix(archive: &ModelArchive, name: &str, columns: usize) -> Result<Array2<f32>, ModelError> {
    match tensor(archive, name)? {
        Tensor { shape, data: TensorData::F32(values) } if shape.len() == 2 && shape[1] == columns => {
            Array2::from_shape_vec((shape[0], columns), values.clone())
                .map_err(|error| broken(format!("tensor {name}: {error}")))
        }
        found => Err(broken(format!("tensor {name} has shape {:?}, expected f32 [rows, {columns}]", found.shape))),
    }
}

/// Stores a matrix of 32-bit floats.
pub(super) fn put_matrix(archive: &mut ModelArchive, name: &str, matrix: &Array2<f32>) {
    let shape = [matrix.nrows(), matrix.ncols()];
    archive.tensors.insert(name.to_owned(), Tensor::f32(&shape, matrix.iter().copied().collect()));
}

/// Returns a vector of 32-bit floats.
pub(super) fn f32s<'a>(archive: &'a ModelArchive, name: &str) -> Result<&'a [f32], ModelError> {
    match &tensor(archive, name)?.data {
        TensorData::F32(values) => Ok(values),
        _ => Err(broken(format!("tensor {name} does not contain 32-bit floats"))),
    }
}

/// Returns a vector of 64-bit floats.
pub(super) fn f64s<'a>(archive: &'a ModelArchive, name: &str) -> Result<&'a [f64], ModelError> {
    match &tensor(archive, name)?.data {
        TensorData::F64(values) => Ok(values),
        _ => Err(broken(format!("tensor {name} does not contain 64-bit floats"))),
    }
}

/// Returns a vector of 32-bit unsigned integers.
pub(super) fn u32s<'a>(archive: &'a ModelArchive, name: &str) -> Result<&'a [u32], ModelError> {
    match &tensor(archive, name)?.data {
        TensorData::U32(values) => Ok(values),
        _ => Err(broken(format!("tensor {name} does not contain 32-bit unsigned integers"))),
    }
}

/// Returns a vector of bytes.
pub(super) fn bytes<'a>(archive: &'a ModelArchive, name: &str) -> Result<&'a [u8], ModelError> {
    match &tensor(archive, name)?.data {
        TensorData::U8(values) => Ok(values),
        _ => Err(broken(format!("tensor {name} does not contain bytes"))),
    }
}

/// Stores a vector of 64-bit floats.
pub(super) fn put_f64s(archive: &mut ModelArchive, name: &str, values: &[f64]) {
    archive.tensors.insert(name.to_owned(), Tensor::f64(&[values.len()], values.to_vec()));
}

/// Stores a vector of 32-bit floats.
pub(super) fn put_f32s(archive: &mut ModelArchive, name: &str, values: &[f32]) {
    archive.tensors.insert(name.to_owned(), Tensor::f32(&[values.len()], values.to_vec()));
}

/// Stores a vector of 32-bit unsigned integers.
pub(super) fn put_u32s(archive: &mut ModelArchive, name: &str, values: &[u32]) {
    archive.tensors.insert(name.to_owned(), Tensor::u32(&[values.len()], values.to_vec()));
}
