//! Inference from scores over splits of the same flows, and what a design with few captures can show at all.

use rand::RngExt;

use super::bootstrap::{Interval, interval_of};
use super::summary::{student_t_inside, student_t_quantile};
use etcbench_storage::seed;

/// The mean of values over splits that share flows, and a test of whether it is 0: the corrected resampled t-test
/// (Nadeau and Bengio, 2003, section 3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResampledMean {
    /// The mean.
    pub mean: f64,
    /// Its standard error: the square root of the values' variance times `1 / count + ratio`.
    pub standard_error: f64,
    /// Half the width of its 95 % confidence interval.
    pub interval: f64,
    /// Two-sided p-value of the hypothesis that the mean is 0.
    pub p_value: f64,
}

/// Returns the mean of one value per split, with its corrected standard error. `ratio` is the number of test flows
/// divided by the number of training flows. Training parts overlap, so values of different splits are not independent;
/// the plain standard error assumes that they are, and is too small. Returns `None` for fewer than two values.
pub fn corrected_resampled_mean(values: &[f64], ratio: f64) -> Option<ResampledMean> {
    let count = values.len();
    if count < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / count as f64;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1) as f64;
    let standard_error = (variance * (1.0 / count as f64 + ratio)).sqrt();
    let p_value = match standard_error > 0.0 {
        true => 1.0 - student_t_inside((mean / standard_error).abs(), count - 1),
        false if mean == 0.0 => 1.0,
        false => 0.0,
    };
    let interval = student_t_quantile(0.975, count - 1) * standard_error;
    Some(ResampledMean { mean, standard_error, interval, p_value: p_value.clamp(0.0, 1.0) })
}

/// Returns how often each cluster is drawn in each of `resamples`: as many clusters of a stratum as it has, with
/// replacement. A cluster is a capture, and a stratum the captures of a class, so that no class is ever without one; a
/// stratum of one cluster does not vary.
pub fn cluster_draws(strata: &[usize], resamples: usize, root: u64) -> Vec<Vec<u64>> {
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); strata.iter().max().map_or(0, |most| most + 1)];
    strata.iter().enumerate().for_each(|(cluster, &stratum)| members[stratum].push(cluster));
    let mut generator = seed::generator(root, "cluster bootstrap");
    let draw = |_| {
        let mut times = vec![0; strata.len()];
        for members in &members {
            for _ in members {
                times[members[generator.random_range(0..members.len() as u64) as usize]] += 1;
            }
        }
        times
    };
    (0..resamples).map(draw).collect()
}

/// Returns the percentile interval of a statistic's values over draws (95 %, ends interpolated linearly), or `None`
/// without values.
pub fn percentile_interval(values: Vec<f64>) -> Option<Interval> {
    (!values.is_empty()).then(|| interval_of(values))
}

/// Assumption of [`smallest_difference`]: the correlation of correctness within a capture.
pub const WITHIN_CAPTURE_CORRELATION: f64 = 0.5;
/// Assumption of [`smallest_difference`]: the fraction of flows on which exactly one of two models is right.
pub const DISAGREEMENT: f64 = 0.2;

/// Returns the smallest difference in accuracy of two models that a test on clusters of these sizes detects with a
/// probability of 80 % at the level of 5 %: `(1.960 + 0.842) sqrt(DISAGREEMENT / n)`, where `n` is the effective number
/// of flows, `flows^2 / sum of m (1 + (m - 1) WITHIN_CAPTURE_CORRELATION)` over clusters of `m` flows (the design
/// effect of Kish, 1965). Returns `None` without flows.
pub fn smallest_difference(clusters: &[usize]) -> Option<f64> {
    let flows: f64 = clusters.iter().map(|&flows| flows as f64).sum();
    let inflated: f64 =
        clusters.iter().map(|&flows| flows as f64).map(|m| m * (1.0 + (m - 1.0) * WITHIN_CAPTURE_CORRELATION)).sum();
    (flows > 0.0).then(|| (1.959_963_985 + 0.841_621_234) * (DISAGREEMENT * inflated / (flows * flows)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corrected_test_equals_that_of_numpy_and_scipy() {
        // [values, ratio, mean, standard error, half interval, p-value], computed by tests/fixtures/metrics/make.py.
        type Case = (Vec<f64>, f64, f64, f64, f64, f64);
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../../tests/fixtures/metrics/resampled.json")).unwrap();
        assert!(cases.len() >= 6);
        for (values, ratio, mean, error, interval, p_value) in cases {
            let found = corrected_resampled_mean(&values, ratio).unwrap();
            for (found, expected) in [
                (found.mean, mean),
                (found.standard_error, error),
                (found.interval, interval),
                (found.p_value, p_value),
            ] {
                assert!((found - expected).abs() < 1e-12, "{values:?}: {found}, expected {expected}");
            }
        }
        assert_eq!(corrected_resampled_mean(&[0.5], 0.25), None);
        assert_eq!(corrected_resampled_mean(&[0.0, 0.0], 0.25).unwrap().p_value, 1.0);
        assert_eq!(corrected_resampled_mean(&[0.5, 0.5], 0.25).unwrap().p_value, 0.0);
    }

    #[test]
    fn every_class_keeps_as_many_clusters_as_it_has() {
        let strata = [0, 1, 1, 2, 1, 2];
        let draws = cluster_draws(&strata, 200, 3);
        assert_eq!(draws, cluster_draws(&strata, 200, 3));
        for times in &draws {
            for (stratum, clusters) in [(0, 1), (1, 3), (2, 2)] {
                let drawn = strata.iter().zip(times).filter(|(own, _)| **own == stratum).map(|(_, times)| times);
                assert_eq!(drawn.sum::<u64>(), clusters);
            }
            assert_eq!(times[0], 1);
        }
        assert!(draws.iter().any(|times| times[1] == 3) && draws.iter().any(|times| times[1] == 0));
        let whole: Vec<f64> = (0..=1000).map(f64::from).collect();
        assert_eq!(percentile_interval(whole), Some(Interval { low: 25.0, high: 975.0 }));
        assert_eq!(percentile_interval(Vec::new()), None);
    }

    #[test]
    fn clusters_of_one_flow_are_independent_flows() {
        let independent = smallest_difference(&[1; 400]).unwrap();
        assert!((independent - 2.801_585_219 * (0.2_f64 / 400.0).sqrt()).abs() < 1e-12);
        // The same flows in ten captures of forty each.
        let clustered = smallest_difference(&[40; 10]).unwrap();
        assert!((clustered / independent - (1.0 + 39.0 * 0.5_f64).sqrt()).abs() < 1e-12);
        assert_eq!(smallest_difference(&[]), None);
    }
}
