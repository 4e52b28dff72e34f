//! The fit with the crate `smartcore`.

use smartcore::linalg::basic::arrays::Array;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linear::logistic_regression::{LogisticRegression as Smartcore, LogisticRegressionParameters};

use super::{Linear, LogisticParameters};
use crate::classical::{Algorithm, Rows};
use crate::input::data;
use crate::{ModelError, refit};

/// Returns the coefficients followed by the intercept for each class; for two classes, only those of the second.
///
/// # Errors
/// The errors of smartcore.
pub(super) fn coefficients(parameters: &LogisticParameters, training: &Rows) -> Result<Vec<f64>, ModelError> {
    let matrix = refit::dense(&training.matrix).map_err(|error| data(Linear::NAME, error))?;
    let settings = LogisticRegressionParameters::default().with_alpha(parameters.l2);
    let fitted: Smartcore<f64, u32, DenseMatrix<f64>, Vec<u32>> = Smartcore::fit(&matrix, &training.targets, settings)
        .map_err(|error| data(Linear::NAME, format!("smartcore: {error}")))?;
    let columns = training.matrix.ncols();
    let rows = if training.classes == 2 { 1 } else { training.classes };
    let mut coefficients = Vec::with_capacity(rows * (columns + 1));
    for row in 0..rows {
        coefficients.extend((0..columns).map(|column| *fitted.coefficients().get((row, column))));
        coefficients.push(*fitted.intercept().get((row, 0)));
    }
    Ok(coefficients)
}
