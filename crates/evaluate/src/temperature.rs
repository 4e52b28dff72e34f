//! Post-hoc calibration: a single temperature for all probabilities of a model (Guo et al., 2017), and the Brier score.

use ndarray::{Array2, ArrayView2, Axis};

use super::probabilistic::check_distributions;
use super::{EvaluateError, check_labels};

/// The range of inverse temperatures to search.
const INVERSES: (f64, f64) = (1e-3, 1e3);

/// Returns logarithms of probabilities, clipped to at least 2^-52 as in the log loss.
fn logarithms(probabilities: ArrayView2<'_, f32>) -> Array2<f64> {
    probabilities.map(|&probability| f64::from(probability).max(f64::EPSILON).ln())
}

/// Returns the temperature `T` for which `softmax(log p / T)` has the lowest log loss on these flows, between 0.001 and
/// 1,000. The loss is convex in `1 / T`, so the root of its derivative is found by bisection.
///
/// # Errors
/// No row, different lengths, a label that is not a class, a row that is not a distribution.
pub fn temperature(labels: &[u32], probabilities: ArrayView2<'_, f32>) -> Result<f64, EvaluateError> {
    check_labels(labels, probabilities.nrows(), probabilities.ncols())?;
    check_distributions(probabilities)?;
    let logarithms = logarithms(probabilities);
    // The mean logarithm under the scaled probabilities minus that of the true class; it increases with `1 / T`.
    let slope = |inverse: f64| {
        let mut sum = 0.0;
        for (row, &label) in logarithms.rows().into_iter().zip(labels) {
            let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let (mut weight, mut weighted) = (0.0, 0.0);
            for &logarithm in row {
                let term = (inverse * (logarithm - highest)).exp();
                weight += term;
                weighted += term * logarithm;
            }
            sum += weighted / weight - row[label as usize];
        }
        sum
    };
    let (mut low, mut high) = (INVERSES.0.ln(), INVERSES.1.ln());
    if slope(INVERSES.1) <= 0.0 {
        return Ok(1.0 / INVERSES.1);
    }
    if slope(INVERSES.0) >= 0.0 {
        return Ok(1.0 / INVERSES.0);
    }
    loop {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            return Ok((-middle).exp());
        }
        if slope(middle.exp()) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// Returns the probabilities `softmax(log p / temperature)`.
pub fn with_temperature(probabilities: ArrayView2<'_, f32>, temperature: f64) -> Array2<f32> {
    let mut scaled = logarithms(probabilities);
    for mut row in scaled.axis_iter_mut(Axis(0)) {
        let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.mapv_inplace(|logarithm| ((logarithm - highest) / temperature).exp());
        let sum = row.sum();
        row.mapv_inplace(|value| value / sum);
    }
    scaled.map(|&value| value as f32)
}

/// Returns the Brier score (Brier, 1950): the squared distance between probabilities and the true class, summed over
/// classes and averaged over flows; 0 is best, 2 worst.
///
/// # Errors
/// No row, different lengths, a label that is not a class, a row that is not a distribution.
pub fn brier_score(labels: &[u32], probabilities: ArrayView2<'_, f32>) -> Result<f64, EvaluateError> {
    check_labels(labels, probabilities.nrows(), probabilities.ncols())?;
    check_distributions(probabilities)?;
    let mut sum = 0.0;
    for (row, &label) in probabilities.rows().into_iter().zip(labels) {
        for (class, &probability) in row.iter().enumerate() {
            let truth = if class == label as usize { 1.0 } else { 0.0 };
            sum += (f64::from(probability) - truth).powi(2);
        }
    }
    Ok(sum / labels.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        labels: Vec<u32>,
        probabilities: Vec<Vec<f32>>,
        temperature: f64,
        brier_score: f64,
        log_loss_after: f64,
    }

    #[test]
    fn temperatures_and_scores_equal_those_of_scipy() {
        // Computed by tests/fixtures/metrics/make.py; the minimum of a function is only determined to half its digits.
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../../tests/fixtures/metrics/temperature.json")).unwrap();
        assert!(cases.len() >= 4);
        for case in cases {
            let rows = (case.probabilities.len(), case.probabilities[0].len());
            let probabilities = Array2::from_shape_vec(rows, case.probabilities.concat()).unwrap();
            let found = temperature(&case.labels, probabilities.view()).unwrap();
            assert!((found / case.temperature - 1.0).abs() < 1e-6, "{found}, expected {}", case.temperature);
            let brier = brier_score(&case.labels, probabilities.view()).unwrap();
            assert!((brier - case.brier_score).abs() < 1e-12, "{brier}, expected {}", case.brier_score);
            let scaled = with_temperature(probabilities.view(), found);
            let loss = |row: usize| -f64::from(scaled[[row, case.labels[row] as usize]]).max(f64::EPSILON).ln();
            let mean = (0..rows.0).map(loss).sum::<f64>() / rows.0 as f64;
            assert!((mean - case.log_loss_after).abs() < 1e-6, "{mean}, expected {}", case.log_loss_after);
        }
    }

    #[test]
    fn probabilities_that_are_always_right_or_wrong_have_a_temperature_too() {
        let probabilities = ndarray::array![[0.9_f32, 0.1], [0.2, 0.8]];
        assert_eq!(temperature(&[0, 1], probabilities.view()).unwrap(), 1e-3);
        assert_eq!(temperature(&[1, 0], probabilities.view()).unwrap(), 1e3);
        assert_eq!(with_temperature(probabilities.view(), 1.0), probabilities);
    }
}
