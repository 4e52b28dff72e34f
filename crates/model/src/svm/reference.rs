//! The reference: one two-class machine of the crate `linfa-svm` for every pair of classes, in 64-bit floats. Its
//! coefficients and offset are copied; prediction is shared with the fast implementation.

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_svm::Svm;
use ndarray::{Array1, Array2};

use super::kernel::Kernel;
use super::solver::Solution;

/// Solves one pair: `matrix` contains the rows of the first class (`first` of them), then those of the second.
///
/// # Errors
/// The errors of `linfa-svm`.
pub(super) fn solve(
    matrix: Array2<f64>,
    first: usize,
    kernel: Kernel,
    costs: (f64, f64),
    tolerance: f64,
) -> Result<Solution, String> {
    let targets: Array1<bool> = (0..matrix.nrows()).map(|row| row < first).collect();
    let parameters = Svm::<f64, bool>::params().pos_neg_weights(costs.0, costs.1).eps(tolerance);
    let (parameters, matrix) = match kernel {
        // linfa-svm divides the squared distance by its parameter.
        Kernel::Rbf { gamma } => (parameters.gaussian_kernel(1.0 / gamma), matrix),
        // linfa-svm has no gamma, so it is applied to the rows.
        Kernel::Polynomial { gamma, coef0, degree } => {
            (parameters.polynomial_kernel(coef0, f64::from(degree)), matrix * gamma.sqrt())
        }
        Kernel::Linear => (parameters.linear_kernel(), matrix),
    };
    let model = parameters.fit(&Dataset::new(matrix, targets)).map_err(|error| error.to_string())?;
    Ok(Solution { coefficients: model.alpha, rho: model.rho, iterations: 0, converged: true })
}
