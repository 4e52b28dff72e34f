//! The file format of all fitted models: safetensors, with the model's name, implementation and parameters as metadata,
//! so that Python can open the weights by name.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, SafeTensors, View};

use super::ModelError;

/// The values of one tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum TensorData {
    /// 32-bit floating point.
    F32(Vec<f32>),
    /// 64-bit floating point.
    F64(Vec<f64>),
    /// 32-bit unsigned integers.
    U32(Vec<u32>),
    /// Bytes.
    U8(Vec<u8>),
}

/// A named array in a model file, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Values; as many as the product of `shape`.
    pub data: TensorData,
}

impl Tensor {
    /// Creates a tensor of 32-bit floats.
    pub fn f32(shape: &[usize], values: Vec<f32>) -> Self {
        Self { shape: shape.to_vec(), data: TensorData::F32(values) }
    }
    /// Creates a tensor of 64-bit floats.
    pub fn f64(shape: &[usize], values: Vec<f64>) -> Self {
        Self { shape: shape.to_vec(), data: TensorData::F64(values) }
    }
    /// Creates a tensor of 32-bit unsigned integers.
    pub fn u32(shape: &[usize], values: Vec<u32>) -> Self {
        Self { shape: shape.to_vec(), data: TensorData::U32(values) }
    }
    /// Creates a one-dimensional tensor of bytes.
    pub fn u8(values: Vec<u8>) -> Self {
        Self { shape: vec![values.len()], data: TensorData::U8(values) }
    }
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        match self.data {
            TensorData::F32(_) => Dtype::F32,
            TensorData::F64(_) => Dtype::F64,
            TensorData::U32(_) => Dtype::U32,
            TensorData::U8(_) => Dtype::U8,
        }
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(match &self.data {
            TensorData::F32(values) => bytemuck::cast_slice(values),
            TensorData::F64(values) => bytemuck::cast_slice(values),
            TensorData::U32(values) => bytemuck::cast_slice(values),
            TensorData::U8(values) => values,
        })
    }
    fn data_len(&self) -> usize {
        View::data(self).len()
    }
}

/// The content of a fitted model's file: metadata and named tensors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelArchive {
    /// `model`, `implementation`, `parameters` (TOML) and any other keys the model needs.
    pub metadata: BTreeMap<String, String>,
    /// The tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
}

/// The metadata key whose value is a JSON object with all other entries, sorted by name: safetensors writes its own
/// metadata in hash order, and the same model must produce the same bytes.
const METADATA: &str = "etcbench";

impl ModelArchive {
    /// Serializes the archive.
    ///
    /// # Errors
    /// A tensor whose number of values does not match its shape.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        let metadata = serde_json::to_string(&self.metadata).expect("a map of strings is JSON");
        safetensors::serialize(
            self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor)),
            Some(HashMap::from([(METADATA.to_owned(), metadata)])),
        )
        .map_err(|error| ModelError::File { path: None, problem: error.to_string() })
    }

    /// Parses a file's bytes.
    ///
    /// # Errors
    /// Bytes that are not a safetensors file written by [`ModelArchive::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let problem = |problem: String| ModelError::File { path: None, problem };
        let (_, header) = SafeTensors::read_metadata(bytes)
            .map_err(|error| problem(format!("not a safetensors file ({error}); fit the model again")))?;
        let metadata = header
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get(METADATA))
            .ok_or_else(|| problem("not written by etcbench: its metadata is missing".to_owned()))?;
        let metadata = serde_json::from_str(metadata).map_err(|error| problem(format!("metadata: {error}")))?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| problem(error.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            let raw = view.data();
            let data = match view.dtype() {
                Dtype::F32 => TensorData::F32(bytemuck::allocation::pod_collect_to_vec(raw)),
                Dtype::F64 => TensorData::F64(bytemuck::allocation::pod_collect_to_vec(raw)),
                Dtype::U32 => TensorData::U32(bytemuck::allocation::pod_collect_to_vec(raw)),
                Dtype::U8 => TensorData::U8(raw.to_vec()),
                other => return Err(problem(format!("tensor {name}: unsupported type {other:?}"))),
            };
            tensors.insert(name.to_owned(), Tensor { shape: view.shape().to_vec(), data });
        }
        Ok(Self { metadata, tensors })
    }

    /// Returns a tensor of 32-bit floats with exactly this shape.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape or type.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<&[f32], ModelError> {
        match self.tensors.get(name) {
            Some(Tensor { shape: found, data: TensorData::F32(values) }) if found == shape => Ok(values),
            Some(found) => Err(ModelError::File {
                path: None,
                problem: format!("tensor {name} has shape {:?}, expected f32 {shape:?}", found.shape),
            }),
            None => Err(ModelError::File { path: None, problem: format!("tensor {name} is missing") }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_survive_the_round_trip_and_are_the_same_bytes_each_time() {
        let mut archive = ModelArchive::default();
        for index in 0..9 {
            archive.metadata.insert(format!("key{index}"), format!("value \"{index}\""));
        }
        archive.tensors.insert("b".to_owned(), Tensor::f32(&[2, 1], vec![1.5, f32::MIN_POSITIVE]));
        archive.tensors.insert("a".to_owned(), Tensor::u8(vec![1, 2, 3]));
        archive.tensors.insert("c".to_owned(), Tensor::f64(&[1], vec![-0.0]));
        let bytes = archive.to_bytes().unwrap();
        assert_eq!(bytes, archive.to_bytes().unwrap());
        assert_eq!(ModelArchive::from_bytes(&bytes).unwrap(), archive);
        assert_eq!(archive.f32("b", &[2, 1]).unwrap(), &[1.5, f32::MIN_POSITIVE]);
        assert!(archive.f32("b", &[1, 2]).is_err());
        for cut in 0..bytes.len() {
            assert!(ModelArchive::from_bytes(&bytes[..cut]).is_err());
        }
    }
}
