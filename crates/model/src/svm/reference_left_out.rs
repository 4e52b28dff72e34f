//! Stub for `reference` in a build without that feature; models that request it are rejected earlier.

use ndarray::Array2;

use super::kernel::Kernel;
use super::solver::Solution;
use crate::left_out;

pub(super) fn solve(_: Array2<f64>, _: usize, _: Kernel, _: (f64, f64), _: f64) -> Result<Solution, String> {
    Err(left_out::REFERENCE.to_owned())
}
