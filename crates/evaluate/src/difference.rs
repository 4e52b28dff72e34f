//! Tests whether two models differ on the same test set.

use super::{EvaluateError, check_labels};

/// McNemar's test of two models on the same flows (McNemar, 1947).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct McNemar {
    /// Flows that only the first model predicts correctly.
    pub only_first: u64,
    /// Flows that only the second model predicts correctly.
    pub only_second: u64,
    /// The chi-squared statistic with Edwards' continuity correction, one degree of freedom; `None` if the models are
    /// right on the same flows. It is reported for comparison only: the p-value does not depend on it.
    pub statistic: Option<f64>,
    /// Two-sided p-value of the exact binomial test, for any number of flows; 1 if the models are right on the same
    /// flows.
    pub p_value: f64,
}

/// Tests whether `first` and `second`, predicted classes of the same flows, are right equally often.
///
/// # Errors
/// No row, or different lengths.
pub fn mcnemar(labels: &[u32], first: &[u32], second: &[u32]) -> Result<McNemar, EvaluateError> {
    for predictions in [first, second] {
        check_labels(labels, predictions.len(), usize::MAX)?;
    }
    let (mut only_first, mut only_second) = (0u64, 0u64);
    for ((label, first), second) in labels.iter().zip(first).zip(second) {
        match (first == label, second == label) {
            (true, false) => only_first += 1,
            (false, true) => only_second += 1,
            _ => {}
        }
    }
    let discordant = only_first + only_second;
    let statistic = (discordant > 0).then(|| {
        let distance = (only_first.abs_diff(only_second) as f64 - 1.0).max(0.0);
        distance * distance / discordant as f64
    });
    Ok(McNemar { only_first, only_second, statistic, p_value: two_sided(only_first.min(only_second), discordant) })
}

/// Returns twice the probability of at most `fewer` heads in `tosses` of a fair coin, at most 1.
fn two_sided(fewer: u64, tosses: u64) -> f64 {
    if 2 * fewer >= tosses {
        return 1.0;
    }
    // The largest term is the last: compute its logarithm first, then the smaller terms relative to it.
    let mut logarithm = -(tosses as f64) * std::f64::consts::LN_2;
    for index in 1..=fewer {
        logarithm += ((tosses - fewer + index) as f64 / index as f64).ln();
    }
    let (mut term, mut sum) = (1.0, 0.0);
    for heads in (0..=fewer).rev() {
        sum += term;
        term *= heads as f64 / (tosses - heads + 1) as f64;
    }
    (2.0 * sum * logarithm.exp()).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_p_value_equals_that_of_scipy() {
        // scipy.stats.binomtest(fewer, tosses).pvalue, computed by tests/fixtures/metrics/make.py.
        let cases: Vec<(u64, u64, f64)> =
            serde_json::from_str(include_str!("../../../tests/fixtures/metrics/mcnemar.json")).unwrap();
        assert!(cases.len() > 10);
        for (fewer, tosses, expected) in cases {
            let found = two_sided(fewer, tosses);
            assert!((found - expected).abs() <= 1e-10 * expected, "{fewer} of {tosses}: {found}, expected {expected}");
        }
    }

    #[test]
    fn only_flows_where_one_model_is_right_count() {
        let test = mcnemar(&[0, 0, 0, 1, 1, 1], &[0, 0, 0, 1, 0, 0], &[1, 1, 1, 1, 0, 1]).unwrap();
        assert_eq!((test.only_first, test.only_second), (3, 1));
        assert_eq!(test.statistic, Some(0.25));
        assert!((test.p_value - 0.625).abs() < 1e-15);
        let same = mcnemar(&[0, 1], &[0, 0], &[0, 0]).unwrap();
        assert_eq!((same.statistic, same.p_value), (None, 1.0));
        assert!(mcnemar(&[0], &[0], &[]).is_err());
    }
}
