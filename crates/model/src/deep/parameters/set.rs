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
    /// Gives every name, shape and value to what hashes them.
    pub(crate) fn add_to(&self, add: &mut dyn FnMut(&[u8])) {
        for (name, parameter) in self.iter() {
            add(name.as_bytes());
            add(format!("{:?}", parameter.shape).as_bytes());
            add(bytemuck::cast_slice::<f32, u8>(&parameter.values));
        }
    }

    /// Adds a parameter, or replaces the one of this name.
    pub(crate) fn insert(&mut self, name: impl Into<String>, shape: &[usize], values: Vec<f32>) {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "values fill the shape");
        self.entries.insert(name.into(), Parameter { shape: shape.to_vec(), values });
    }

    /// A parameter's values, which must have this shape.
    ///
    /// # Errors
    /// A parameter that is missing or has another shape.
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

    /// A parameter's dimensions.
    ///
    /// # Errors
    /// A parameter that is missing.
    pub(crate) fn shape(&self, name: &str) -> Result<&[usize], ModelError> {
        let missing = || ModelError::File { path: None, problem: format!("parameter {name} is missing") };
        self.entries.get(name).map(|parameter| parameter.shape.as_slice()).ok_or_else(missing)
    }

    /// A parameter's values, to be changed in place.
    #[cfg(any(test, feature = "reference"))]
    pub(crate) fn values_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        self.entries.get_mut(name).map(|parameter| parameter.values.as_mut_slice())
    }

    /// All parameters in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Parameter)> {
        self.entries.iter().map(|(name, parameter)| (name.as_str(), parameter))
    }

    /// The first parameter that holds a number that is not finite.
    pub(crate) fn first_non_finite(&self) -> Option<&str> {
        self.iter().find(|(_, parameter)| parameter.values.iter().any(|value| !value.is_finite())).map(|(name, _)| name)
    }

    /// Adds the parameters of another set, or replaces those of the same names.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.entries.extend(other.entries.iter().map(|(name, parameter)| (name.clone(), parameter.clone())));
    }

    /// The parameters of these specifications alone.
    ///
    /// # Errors
    /// A parameter that is missing or has another shape.
    pub(crate) fn only(&self, specifications: &[Specification]) -> Result<Self, ModelError> {
        let mut set = Self::default();
        for Specification { name, shape, .. } in specifications {
            set.insert(name.clone(), shape, self.get(name, shape)?.to_vec());
        }
        Ok(set)
    }

    /// Checks that there is a parameter of each of these specifications.
    ///
    /// # Errors
    /// The first that is missing or has another shape.
    #[cfg(feature = "reference")]
    pub(crate) fn check(&self, specifications: &[Specification]) -> Result<(), ModelError> {
        specifications.iter().try_for_each(|wanted| self.get(&wanted.name, &wanted.shape).map(|_| ()))
    }

    /// Puts every parameter into a model file under its name.
    pub(crate) fn store(&self, archive: &mut ModelArchive) {
        for (name, parameter) in self.iter() {
            archive.tensors.insert(name.to_owned(), Tensor::f32(&parameter.shape, parameter.values.clone()));
        }
    }

    /// Reads the parameters of these specifications out of a model file.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape or type.
    pub(crate) fn load(archive: &ModelArchive, specifications: &[Specification]) -> Result<Self, ModelError> {
        let mut set = Self::default();
        for Specification { name, shape, .. } in specifications {
            set.insert(name.clone(), shape, archive.f32(name, shape)?.to_vec());
        }
        Ok(set)
    }
}
