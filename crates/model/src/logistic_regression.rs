//! Multinomial logistic regression, a sanity baseline, fitted by the crate `smartcore` (L-BFGS); both implementations
//! are the same. Probabilities are the softmax of the linear scores (for two classes, the logistic function of one
//! score).

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::classical::{Algorithm, AlgorithmMemory, Classical, MatrixSize, Rows, softmax};
use super::input::{Encoding, InputOptions};
use super::memory::{ROWS, TOKENS, matrix};
use super::{
    ExpectedMemory, FitContext, FitReport, Implementation, Input, ModelArchive, ModelEntry, ModelError, left_out,
    stored,
};
use etcbench_storage::progress::Progress;

#[cfg(feature = "reference")]
mod fitted;
#[cfg(not(feature = "reference"))]
#[path = "logistic_regression/fitted_left_out.rs"]
mod fitted;

/// Logistic regression as a [`Classical`] model.
type LogisticRegression = Classical<Linear>;

/// The model's entry in the table of models.
pub(super) static ENTRY: ModelEntry =
    ModelEntry { version: 6, ..LogisticRegression::entry("Logistic regression, a sanity baseline.") };

/// `[model.logistic_regression]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogisticParameters {
    /// Weight of half the squared coefficients relative to the sum of the rows' losses; default 1, which is
    /// scikit-learn's `C = 1`.
    pub l2: f64,
    /// Whether columns are standardised on the training rows; default true.
    pub standardise: bool,
    /// Whether statistics are transformed by the signed logarithm first; default true.
    pub log_scale: bool,
}

impl Default for LogisticParameters {
    fn default() -> Self {
        Self { l2: 1.0, standardise: true, log_scale: true }
    }
}

/// Fitted coefficients.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Linear {
    classes: usize,
    columns: usize,
    /// Coefficients followed by the intercept for each class; for two classes, only those of the second.
    coefficients: Vec<f64>,
}

impl Algorithm for Linear {
    type Parameters = LogisticParameters;
    const NAME: &'static str = "logistic_regression";

    fn check(parameters: &LogisticParameters, _: Implementation) -> Result<(), String> {
        if !cfg!(feature = "reference") {
            return Err(left_out::LOGISTIC_REGRESSION.to_owned());
        }
        if parameters.l2 >= 0.0 && parameters.l2.is_finite() {
            Ok(())
        } else {
            Err(format!("`l2` is {}; it must be 0 or more", parameters.l2))
        }
    }

    fn input(parameters: &LogisticParameters, input: Input) -> InputOptions {
        InputOptions {
            encoding: Encoding::Scaled,
            log_scale: parameters.log_scale,
            standardise: parameters.standardise,
            ..InputOptions::plain(input)
        }
    }

    fn fit(
        parameters: &LogisticParameters,
        _: Implementation,
        training: Rows,
        _: Option<Rows>,
        _: &FitContext<'_>,
        _: &mut FitReport,
    ) -> Result<Self, ModelError> {
        let coefficients = fitted::coefficients(parameters, &training)?;
        if coefficients.iter().any(|value| !value.is_finite()) {
            return Err(ModelError::Diverged {
                model: Self::NAME.to_owned(),
                stage: "fit".to_owned(),
                place: "the coefficients".to_owned(),
                problem: "a coefficient is not finite; raise `l2` or standardise".to_owned(),
            });
        }
        Ok(Self { classes: training.classes, columns: training.matrix.ncols(), coefficients })
    }

    fn memory(_: &LogisticParameters, _: Implementation, size: &MatrixSize) -> AlgorithmMemory {
        let classes = size.class_counts.len();
        let coefficients = matrix(size.columns + 1, classes, 8);
        let fitted = ExpectedMemory::default().and(TOKENS, coefficients);
        // The matrix in 64 bits, its copy with a column of ones, the scores, and the history of L-BFGS.
        let fitting = fitted.clone().and(TOKENS, 2.0 * size.matrix(8) + 24.0 * coefficients);
        AlgorithmMemory { fitting: fitting.and(ROWS, matrix(size.rows, classes, 24)), fitted }
    }

    fn predict(&self, matrix: &Array2<f32>, _: &dyn Progress) -> Result<Array2<f32>, ModelError> {
        let mut probabilities = Array2::zeros((matrix.nrows(), self.classes));
        for (row, mut probabilities) in matrix.outer_iter().zip(probabilities.outer_iter_mut()) {
            let mut scores: Vec<f64> = self
                .coefficients
                .chunks_exact(self.columns + 1)
                .map(|line| {
                    row.iter().zip(line).map(|(&value, weight)| f64::from(value) * weight).sum::<f64>()
                        + line[self.columns]
                })
                .collect();
            if self.classes == 2 {
                scores.insert(0, 0.0);
            }
            softmax(&scores, probabilities.as_slice_mut().expect("rows are contiguous"));
        }
        Ok(probabilities)
    }

    fn store(&self, archive: &mut ModelArchive) -> Result<(), ModelError> {
        stored::put_f64s(archive, "coefficients", &self.coefficients);
        Ok(())
    }

    fn restore(
        _: &LogisticParameters,
        _: Implementation,
        archive: &ModelArchive,
        columns: usize,
        classes: usize,
    ) -> Result<Self, ModelError> {
        let coefficients = stored::f64s(archive, "coefficients")?.to_vec();
        let rows = if classes == 2 { 1 } else { classes };
        if coefficients.len() != rows * (columns + 1) {
            return Err(stored::broken("tensor coefficients does not match the columns and classes"));
        }
        Ok(Self { classes, columns, coefficients })
    }
}
