//! Stub for `reference` in a build without that feature; models that request it are rejected earlier.

use ndarray::Array2;

use super::distance::Distance;
use super::search::Neighbour;
use crate::left_out;

pub(super) fn nearest<T>(
    _: Distance,
    _: &Array2<f32>,
    _: &Array2<f32>,
    _: usize,
    _: impl Fn(&[Neighbour]) -> T,
) -> Result<Vec<T>, String> {
    Err(left_out::REFERENCE.to_owned())
}
