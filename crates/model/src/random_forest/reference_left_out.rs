//! Stub for `reference` in a build without that feature; models that request it are rejected earlier.

use ndarray::Array2;

use super::{Forest, ForestParameters};
use crate::classical::{Algorithm, Rows};
use crate::{ModelArchive, ModelError, left_out};

/// Has no values in this build.
pub(crate) enum SmartcoreForest {}

impl SmartcoreForest {
    pub(crate) fn fit(_: &ForestParameters, _: Rows, _: u64) -> Result<Self, ModelError> {
        Err(left_out::reference(Forest::NAME))
    }

    pub(crate) fn predict(&self, _: &Array2<f32>) -> Result<Array2<f32>, ModelError> {
        match *self {}
    }

    pub(crate) fn store(&self, _: &mut ModelArchive) {
        match *self {}
    }

    pub(crate) fn restore(_: &ForestParameters, _: &ModelArchive, _: usize, _: usize) -> Result<Self, ModelError> {
        Err(left_out::reference(Forest::NAME))
    }
}
