//! The values of parameters, by name.

use indexmap::IndexMap;

use super::Specification;
use crate::{ModelArchive, ModelError, Tensor};

/// The values of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameter {
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Row-major, as many as the product of `shape`.
    pub values: Vec<f32>,
}

/// Named parameters in a fixed order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParameterSet {
    entries: IndexMap<String, Parameter>,
}

impl ParameterSet {
    /// Passes every name, shape and value to the hash function `add`.
    pub(crate) fn add_to(&self, add: &mut dyn FnMut(&[u8])) {
        for (name, parameter) in self.iter() {
            add(name.as_bytes());
            add(format!("{:?}", parameter.shape).as_bytes());
            add(bytemuck::cast_slice::<f32, u8>(&parameter.values));
        }
    }

    /// Adds a parameter, or replaces the one with this name.
    pub(crate) fn insert(&mut self, name: impl Into<String>, shape: &[usize], values: Vec<f32>) {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "values fill the shape");
        self.entries.insert(name.into(), Parameter { shape: shape.to_vec(), values });
    }

    /// Returns a parameter's values, which must have this shape.
    ///
    /// # Errors
    /// The parameter is missing or has another shape.
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<&[f32], ModelError> {
        match self.entries.get(name) {
            Some(found) if found.shape == shape => Ok(&found.values),
            Some(found) => Err(ModelError::File {
                path: None,
                problem: format!("parameter {name} has shape {:?}, expected {shape:?}", found.shape),
            }),
            None => Err(ModelError::File { path: None, problem: format!("parameter {name} is missing") }),
        }
    }

    /// Returns a parameter's dimensions.
    ///
    /// # Errors
    /// The parameter is missing.
    pub(crate) fn shape(&self, name: &str) -> Result<&[usize], ModelError> {
        let missing = || ModelError::File { path: None, problem: format!("parameter {name} is missing") };
        self.entries.get(name).map(|parameter| parameter.shape.as_slice()).ok_or_else(missing)
    }

    /// Returns a parameter's values for modification in place.
    #[cfg(any(test, feature = "reference"))]
    pub(crate) fn values_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        self.entries.get_mut(name).map(|parameter| parameter.values.as_mut_slice())
    }

    /// Iterates over all parameters in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Parameter)> {
        self.entries.iter().map(|(name, parameter)| (name.as_str(), parameter))
    }

    /// Returns the name of the first parameter that contains a non-finite number.
    pub(crate) fn first_non_finite(&self) -> Option<&str> {
        self.iter().find(|(_, parameter)| parameter.values.iter().any(|value| !value.is_finite())).map(|(name, _)| name)
    }

    /// Adds the parameters of another set, replacing those with the same names.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.entries.extend(other.entries.iter().map(|(name, parameter)| (name.clone(), parameter.clone())));
    }

    /// Returns only the parameters of these specifications.
    ///
    /// # Errors
    /// A parameter is missing or has another shape.
    pub(crate) fn only(&self, specifications: &[Specification]) -> Result<Self, ModelError> {
        let mut set = Self::default();
        for Specification { name, shape, .. } in specifications {
            set.insert(name.clone(), shape, self.get(name, shape)?.to_vec());
        }
        Ok(set)
    }

    /// Checks that the set contains a parameter for each of these specifications.
    ///
    /// # Errors
    /// A parameter is missing or has another shape; reports the first one.
    pub(crate) fn check(&self, specifications: &[Specification]) -> Result<(), ModelError> {
        specifications.iter().try_for_each(|wanted| self.get(&wanted.name, &wanted.shape).map(|_| ()))
    }

    /// Stores every parameter in a model file under its name.
    pub(crate) fn store(&self, archive: &mut ModelArchive) {
        for (name, parameter) in self.iter() {
            archive.tensors.insert(name.to_owned(), Tensor::f32(&parameter.shape, parameter.values.clone()));
        }
    }

    /// Reads the parameters of these specifications from a model file.
    ///
    /// # Errors
    /// A tensor is missing or has another shape or type.
    pub(crate) fn load(archive: &ModelArchive, specifications: &[Specification]) -> Result<Self, ModelError> {
        let mut set = Self::default();
        for Specification { name, shape, .. } in specifications {
            set.insert(name.clone(), shape, archive.f32(name, shape)?.to_vec());
        }
        Ok(set)
    }
}
