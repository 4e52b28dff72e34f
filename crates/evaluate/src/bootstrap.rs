//! Intervals for metrics of one test set: how much they would vary with other test flows of the same kind.

use rand_distr::{Binomial, Distribution};

use super::ConfusionMatrix;
use etcbench_storage::seed;

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Returns percentile bootstrap intervals of metrics of one test set (Efron, 1979): its flows are drawn with
/// replacement, as many as there are, `resamples` times; the ends are the 2.5th and 97.5th percentiles, interpolated
/// linearly. They do not reflect how a metric varies with split and training.
///
/// Flows in the same cell of the confusion matrix are interchangeable for every metric computed from it, so the counts
/// of the cells are drawn directly: together they follow a multinomial distribution, drawn as a sequence of binomials.
pub fn bootstrap_intervals(
    confusion: &ConfusionMatrix,
    resamples: usize,
    root: u64,
    metrics: &[fn(&ConfusionMatrix) -> f64],
) -> Vec<Interval> {
    let mut generator = seed::generator(root, "bootstrap");
    let total = confusion.total();
    let mut values = vec![Vec::with_capacity(resamples.max(1)); metrics.len()];
    for _ in 0..resamples.max(1) {
        // The flows still to be drawn, and the flows of the test set they are drawn from.
        let (mut left, mut from) = (total, total);
        let drawn = confusion.map(|count| {
            if count == 0 || left == 0 {
                return 0;
            }
            let drawn = match Binomial::new(left, count as f64 / from as f64) {
                Ok(binomial) if count < from => binomial.sample(&mut generator).min(left),
                _ => left,
            };
            from -= count;
            left -= drawn;
            drawn
        });
        for (values, metric) in values.iter_mut().zip(metrics) {
            values.push(metric(&drawn));
        }
    }
    values.into_iter().map(interval_of).collect()
}

/// Returns the 2.5th and 97.5th percentiles of at least one value.
pub(super) fn interval_of(mut values: Vec<f64>) -> Interval {
    values.sort_by(f64::total_cmp);
    Interval { low: percentile(&values, 0.025), high: percentile(&values, 0.975) }
}

/// Returns a percentile of sorted values, interpolated between neighbours (numpy's `linear`).
fn percentile(values: &[f64], share: f64) -> f64 {
    let place = share * (values.len() - 1) as f64;
    let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    #[test]
    fn the_interval_of_an_accuracy_is_that_of_the_binomial_distribution() {
        // [correct, flows, 2.5th, 97.5th percentile of the binomial], computed by scipy.stats.binom.
        let cases: Vec<(usize, usize, f64, f64)> =
            serde_json::from_str(include_str!("../../../tests/fixtures/metrics/bootstrap.json")).unwrap();
        assert!(cases.len() >= 3);
        for (right, flows, low, high) in cases {
            let predictions: Vec<u32> = (0..flows).map(|row| u32::from(row >= right)).collect();
            let confusion = ConfusionMatrix::new(&vec![0; flows], &predictions, 2).unwrap();
            let interval = bootstrap_intervals(&confusion, 4000, 7, &[ConfusionMatrix::accuracy])[0];
            assert_eq!([interval], *bootstrap_intervals(&confusion, 4000, 7, &[ConfusionMatrix::accuracy]));
            // 4000 draws determine a percentile to within about one flow in a hundred.
            let near = (1.0_f64).max(flows as f64 * 0.004) / flows as f64 + 1e-12;
            assert!(
                (interval.low - low).abs() <= near && (interval.high - high).abs() <= near,
                "{interval:?} {low} {high}"
            );
        }
    }

    #[test]
    fn drawing_cells_equals_drawing_flows() {
        // Twelve classes, one of them never predicted; for comparison, flows are drawn one by one.
        let labels: Vec<u32> = (0..600).map(|row| row * row % 12).collect();
        let predictions: Vec<u32> =
            labels.iter().zip(0..).map(|(label, row)| if row % 7 < 5 { *label } else { row % 11 }).collect();
        let confusion = ConfusionMatrix::new(&labels, &predictions, 12).unwrap();
        let macro_f1 = |matrix: &ConfusionMatrix| matrix.macro_average().f1;
        let intervals = bootstrap_intervals(&confusion, 4000, 1, &[ConfusionMatrix::accuracy, macro_f1]);
        let mut generator = seed::generator(2, "flows");
        let mut values: [Vec<f64>; 2] = Default::default();
        for _ in 0..4000 {
            let rows: Vec<usize> = labels.iter().map(|_| generator.random_range(0..labels.len())).collect();
            let pick = |from: &[u32]| rows.iter().map(|&row| from[row]).collect::<Vec<_>>();
            let drawn = ConfusionMatrix::new(&pick(&labels), &pick(&predictions), 12).unwrap();
            values[0].push(drawn.accuracy());
            values[1].push(macro_f1(&drawn));
        }
        for (mut values, interval) in values.into_iter().zip(intervals) {
            values.sort_by(f64::total_cmp);
            for (share, end) in [(0.025, interval.low), (0.975, interval.high)] {
                assert!((percentile(&values, share) - end).abs() < 0.005, "{interval:?}");
            }
        }
    }

    #[test]
    fn a_perfect_prediction_has_no_width() {
        let confusion = ConfusionMatrix::new(&[0, 1, 1], &[0, 1, 1], 2).unwrap();
        let perfect = bootstrap_intervals(&confusion, 100, 0, &[ConfusionMatrix::accuracy]);
        assert_eq!(perfect, [Interval { low: 1.0, high: 1.0 }]);
    }
}
