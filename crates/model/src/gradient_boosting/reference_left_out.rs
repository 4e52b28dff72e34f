//! Stub for `reference` in a build without that feature; models that request it are rejected earlier.

use ndarray::Array2;

use super::{Boosted, BoostingParameters};
use crate::classical::{Algorithm, Rows};
use crate::{FitContext, ModelArchive, ModelError, left_out};

/// Has no values in this build.
pub(crate) enum OneAgainstRest {}

impl OneAgainstRest {
    pub(crate) fn fit(_: &BoostingParameters, _: Rows, _: &FitContext<'_>) -> Result<Self, ModelError> {
        Err(left_out::reference(Boosted::NAME))
    }

    pub(crate) fn predict(&self, _: &Array2<f32>) -> Result<Array2<f32>, ModelError> {
        match *self {}
    }

    pub(crate) fn store(&self, _: &mut ModelArchive) {
        match *self {}
    }

    pub(crate) fn restore(_: &BoostingParameters, _: &ModelArchive, _: usize, _: usize) -> Result<Self, ModelError> {
        Err(left_out::reference(Boosted::NAME))
    }
}
