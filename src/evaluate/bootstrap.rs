//! An interval for a metric of one test set: how much it would vary with other test flows of the same kind.

use rand::RngExt;

use super::{ConfusionMatrix, EvaluateError, check_classes, check_labels};
use crate::seed;

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The percentile bootstrap interval of a metric (Efron, 1979): test flows are drawn with replacement, as many as
/// there are, `resamples` times; the ends are the 2.5th and 97.5th percentile, interpolated linearly. It says
/// nothing of how the metric varies with split and training.
///
/// # Errors
/// No row, different lengths, an index that is not a class.
pub fn bootstrap_interval(
    labels: &[u32],
    predictions: &[u32],
    classes: usize,
    resamples: usize,
    root: u64,
    metric: impl Fn(&ConfusionMatrix) -> f64,
) -> Result<Interval, EvaluateError> {
    check_labels(labels, predictions.len(), classes)?;
    check_classes(predictions, "prediction", classes)?;
    let mut generator = seed::generator(root, "bootstrap");
    let (mut drawn_labels, mut drawn_predictions) = (labels.to_vec(), predictions.to_vec());
    let mut values = Vec::with_capacity(resamples.max(1));
    for _ in 0..resamples.max(1) {
        for row in 0..labels.len() {
            let drawn = generator.random_range(0..labels.len());
            drawn_labels[row] = labels[drawn];
            drawn_predictions[row] = predictions[drawn];
        }
        values.push(metric(&ConfusionMatrix::new(&drawn_labels, &drawn_predictions, classes)?));
    }
    values.sort_by(f64::total_cmp);
    Ok(Interval { low: percentile(&values, 0.025), high: percentile(&values, 0.975) })
}

/// A percentile of ascending values, interpolated between neighbours (numpy's `linear`).
fn percentile(values: &[f64], share: f64) -> f64 {
    let place = share * (values.len() - 1) as f64;
    let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_an_accuracy_is_that_of_the_binomial_distribution() {
        // [right, flows, 2.5th, 97.5th percentile of the binomial], by scipy.stats.binom.
        let cases: Vec<(usize, usize, f64, f64)> =
            serde_json::from_str(include_str!("../../tests/fixtures/metrics/bootstrap.json")).unwrap();
        assert!(cases.len() >= 3);
        for (right, flows, low, high) in cases {
            let labels = vec![0; flows];
            let predictions: Vec<u32> = (0..flows).map(|row| u32::from(row >= right)).collect();
            let accuracy = ConfusionMatrix::accuracy;
            let interval = bootstrap_interval(&labels, &predictions, 2, 4000, 7, accuracy).unwrap();
            assert_eq!(interval, bootstrap_interval(&labels, &predictions, 2, 4000, 7, accuracy).unwrap());
            // 4000 draws place a percentile within about one flow in a hundred.
            let near = (1.0_f64).max(flows as f64 * 0.004) / flows as f64 + 1e-12;
            assert!(
                (interval.low - low).abs() <= near && (interval.high - high).abs() <= near,
                "{interval:?} {low} {high}"
            );
        }
    }

    #[test]
    fn a_perfect_prediction_has_no_width_and_bad_rows_are_errors() {
        let perfect = bootstrap_interval(&[0, 1, 1], &[0, 1, 1], 2, 100, 0, ConfusionMatrix::accuracy).unwrap();
        assert_eq!(perfect, Interval { low: 1.0, high: 1.0 });
        assert!(bootstrap_interval(&[0], &[2], 2, 10, 0, ConfusionMatrix::accuracy).is_err());
        assert!(bootstrap_interval(&[], &[], 2, 10, 0, ConfusionMatrix::accuracy).is_err());
    }
}
