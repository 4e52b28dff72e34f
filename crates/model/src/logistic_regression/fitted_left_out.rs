//! Stub for `fitted` in a build without the feature `reference`; the model is rejected earlier.

use super::{Linear, LogisticParameters};
use crate::classical::{Algorithm, Rows};
use crate::{ModelError, left_out};

pub(super) fn coefficients(_: &LogisticParameters, _: &Rows) -> Result<Vec<f64>, ModelError> {
    Err(ModelError::Parameters { model: Linear::NAME.to_owned(), problem: left_out::LOGISTIC_REGRESSION.to_owned() })
}
