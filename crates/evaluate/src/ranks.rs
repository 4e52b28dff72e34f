//! Rank tests: Wilcoxon's for two models over folds, Holm's correction for several such tests, Friedman's for several
//! models over several tables, and the corresponding critical difference (Demšar, 2006).

use statrs::distribution::{ChiSquared, ContinuousCDF};
use statrs::function::erf::erfc;

use super::EvaluateError;

/// Above this number of differences, the distribution of the rank sum is approximated as normal.
const EXACT_DIFFERENCES: usize = 100;

/// Wilcoxon's signed-rank test (Wilcoxon, 1945).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wilcoxon {
    /// Number of pairs whose values differ; the others carry no information and are dropped.
    pub differences: usize,
    /// Sum of the ranks of the pairs in which the first value is larger; ties share their ranks.
    pub positive_ranks: f64,
    /// Sum of the ranks of the other pairs.
    pub negative_ranks: f64,
    /// Two-sided p-value: exact over all signs up to 100 differences, with or without ties; above that, by the normal
    /// distribution with the variance corrected for ties; 1 if no pair differs.
    pub p_value: f64,
}

/// Tests whether the values of two models, such as one per fold, differ.
///
/// # Errors
/// No pairs, or different lengths.
pub fn wilcoxon(first: &[f64], second: &[f64]) -> Result<Wilcoxon, EvaluateError> {
    if first.len() != second.len() {
        return Err(EvaluateError::Length { labels: first.len(), predictions: second.len() });
    }
    if first.is_empty() {
        return Err(EvaluateError::Empty);
    }
    let differences: Vec<f64> = first
        .iter()
        .zip(second)
        .map(|(first, second)| first - second)
        .filter(|&difference| difference != 0.0)
        .collect();
    let ranks = doubled_ranks(&differences.iter().map(|difference| difference.abs()).collect::<Vec<_>>());
    let positive: u64 =
        ranks.iter().zip(&differences).filter(|(_, difference)| **difference > 0.0).map(|(rank, _)| rank).sum();
    let total: u64 = ranks.iter().sum();
    let smaller = positive.min(total - positive);
    let p_value = if differences.len() <= EXACT_DIFFERENCES {
        exact_signed_ranks(&ranks, smaller)
    } else {
        // The variance of a sum of ranks with random signs is a quarter of the sum of their squares.
        let variance = ranks.iter().map(|&rank| (rank as f64 / 2.0).powi(2)).sum::<f64>() / 4.0;
        let distance = (total as f64 / 2.0 - smaller as f64) / 2.0;
        erfc(distance / variance.sqrt() / std::f64::consts::SQRT_2)
    };
    Ok(Wilcoxon {
        differences: differences.len(),
        positive_ranks: positive as f64 / 2.0,
        negative_ranks: (total - positive) as f64 / 2.0,
        p_value,
    })
}

/// Returns twice the rank of each value, from 2 for the smallest; ties share the mean of their ranks.
fn doubled_ranks(values: &[f64]) -> Vec<u64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&left, &right| values[left].total_cmp(&values[right]));
    let mut ranks = vec![0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let equal = order[start..].iter().take_while(|&&place| values[place] == values[order[start]]).count();
        for &place in &order[start..start + equal] {
            ranks[place] = (2 * start + equal + 1) as u64;
        }
        start += equal;
    }
    ranks
}

/// Returns twice the probability that ranks with random signs have a positive sum of at most `smaller`, at most 1.
fn exact_signed_ranks(ranks: &[u64], smaller: u64) -> f64 {
    let mut chances = vec![1.0];
    for &rank in ranks {
        let mut next = vec![0.0; chances.len() + rank as usize];
        for (sum, chance) in chances.iter().enumerate() {
            next[sum] += chance / 2.0;
            next[sum + rank as usize] += chance / 2.0;
        }
        chances = next;
    }
    (2.0 * chances[..=smaller as usize].iter().sum::<f64>()).min(1.0)
}

/// Returns Holm's adjusted p-values (Holm, 1979), in the given order: those of at most alpha are significant at a
/// familywise error rate of alpha.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&left, &right| p_values[left].total_cmp(&p_values[right]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest: f64 = 0.0;
    for (place, &test) in order.iter().enumerate() {
        largest = largest.max(((p_values.len() - place) as f64 * p_values[test]).min(1.0));
        adjusted[test] = largest;
    }
    adjusted
}

/// Friedman's test of several models on several tables (Friedman, 1937), and Nemenyi's critical difference.
#[derive(Debug, Clone, PartialEq)]
pub struct Friedman {
    /// The mean rank of each model, 1 being the best (the largest value); ties share their ranks.
    pub mean_ranks: Vec<f64>,
    /// The chi-squared statistic, corrected for ties; `None` if all models are tied in every table.
    pub statistic: Option<f64>,
    /// Its p-value with one degree of freedom fewer than models; 1 if there is no statistic.
    pub p_value: f64,
    /// Mean ranks that differ by more than this are significantly different at a level of 5 % (Nemenyi, 1963).
    pub critical_difference: f64,
}

impl Friedman {
    /// Returns the models by ascending mean rank, as indices into `mean_ranks`; ties stay in that order.
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.mean_ranks.len()).collect();
        order.sort_by(|&left, &right| self.mean_ranks[left].total_cmp(&self.mean_ranks[right]));
        order
    }

    /// Returns groups of models that the critical difference does not distinguish: ranges of positions in
    /// [`Self::order`], of at least two models, none within another. They are the bars of a critical-difference
    /// diagram.
    pub fn groups(&self) -> Vec<std::ops::Range<usize>> {
        let ranks: Vec<f64> = self.order().into_iter().map(|model| self.mean_ranks[model]).collect();
        let mut groups: Vec<std::ops::Range<usize>> = Vec::new();
        for first in 0..ranks.len() {
            let end = ranks.partition_point(|rank| rank - ranks[first] < self.critical_difference);
            if end > first + 1 && groups.last().is_none_or(|group| group.end < end) {
                groups.push(first..end);
            }
        }
        groups
    }
}

/// Tests whether models differ: `values` has a row per table (or dataset, or fold) and a column per model; larger
/// values are better.
///
/// # Errors
/// No rows, rows of different lengths, or fewer than two models.
pub fn friedman(values: &[Vec<f64>]) -> Result<Friedman, EvaluateError> {
    let models = values.first().ok_or(EvaluateError::Empty)?.len();
    if models < 2 {
        return Err(EvaluateError::Empty);
    }
    let mut sums = vec![0_u64; models];
    let mut tied = 0.0;
    for row in values {
        if row.len() != models {
            return Err(EvaluateError::Length { labels: models, predictions: row.len() });
        }
        let ranks = doubled_ranks(&row.iter().map(|value| -value).collect::<Vec<_>>());
        for (sum, rank) in sums.iter_mut().zip(&ranks) {
            *sum += rank;
        }
        let mut counts = std::collections::BTreeMap::new();
        for rank in ranks {
            *counts.entry(rank).or_insert(0_u64) += 1;
        }
        tied += counts.values().map(|&count| (count * count * count - count) as f64).sum::<f64>();
    }
    let (tables, k) = (values.len() as f64, models as f64);
    let mean_ranks: Vec<f64> = sums.iter().map(|&sum| sum as f64 / 2.0 / tables).collect();
    let correction = 1.0 - tied / (tables * (k * k * k - k));
    let statistic = (correction > 0.0).then(|| {
        let squares: f64 = sums.iter().map(|&sum| (sum as f64 / 2.0).powi(2)).sum();
        (12.0 / (tables * k * (k + 1.0)) * squares - 3.0 * tables * (k + 1.0)) / correction
    });
    let p_value = match (statistic, ChiSquared::new(k - 1.0)) {
        (Some(statistic), Ok(distribution)) => distribution.sf(statistic.max(0.0)),
        _ => 1.0,
    };
    let q = studentized_range_quantile(0.95, models) / std::f64::consts::SQRT_2;
    Ok(Friedman { mean_ranks, statistic, p_value, critical_difference: q * (k * (k + 1.0) / (6.0 * tables)).sqrt() })
}

/// Returns the value that the range of `groups` independent standard normal values stays below with probability
/// `probability` (the studentized range with infinite degrees of freedom): the integral over the smallest value by the
/// trapezoidal rule, which converges exponentially here, inverted by bisection.
fn studentized_range_quantile(probability: f64, groups: usize) -> f64 {
    const STEP: f64 = 0.02;
    const REACH: i32 = 450;
    let below = |z: f64| 0.5 * erfc(-z / std::f64::consts::SQRT_2);
    let chance = |range: f64| {
        let at = |index: i32| {
            let z = f64::from(index) * STEP;
            let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
            density * (below(z + range) - below(z)).max(0.0).powi(groups as i32 - 1)
        };
        groups as f64 * STEP * (-REACH..=REACH).map(at).sum::<f64>()
    };
    let (mut low, mut high) = (0.0, 20.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if chance(middle) < probability { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// Values by table and model, mean ranks, statistic, p-value.
    type FriedmanCase = (Vec<Vec<f64>>, Vec<f64>, f64, f64);

    /// `tests/fixtures/metrics/ranks.json`, computed by scipy, statsmodels and scikit-posthocs.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Fixtures {
        /// First and second values, smaller rank sum, p-value.
        wilcoxon: Vec<(Vec<f64>, Vec<f64>, f64, f64)>,
        /// The p-values and the adjusted ones.
        holm: Vec<(Vec<f64>, Vec<f64>)>,
        /// Values by table and model, mean ranks, statistic, p-value.
        friedman: Vec<FriedmanCase>,
        /// Probability, groups, quantile.
        studentized_range: Vec<(f64, usize, f64)>,
    }

    fn fixtures() -> Fixtures {
        serde_json::from_str(include_str!("../../../tests/fixtures/metrics/ranks.json")).unwrap()
    }

    fn near(found: f64, expected: f64) -> bool {
        (found - expected).abs() <= 1e-12 * expected.abs().max(1.0)
    }

    #[test]
    fn wilcoxon_equals_scipy() {
        let cases = fixtures().wilcoxon;
        assert!(cases.len() >= 8);
        for (first, second, smaller, p_value) in cases {
            let test = wilcoxon(&first, &second).unwrap();
            assert!(near(test.positive_ranks.min(test.negative_ranks), smaller), "{test:?}");
            assert!(near(test.p_value, p_value), "{test:?}, expected {p_value}");
            let swapped = wilcoxon(&second, &first).unwrap();
            assert_eq!((swapped.p_value, swapped.positive_ranks), (test.p_value, test.negative_ranks));
        }
        let same = wilcoxon(&[0.5, 0.5], &[0.5, 0.5]).unwrap();
        assert_eq!((same.differences, same.p_value), (0, 1.0));
        assert!(wilcoxon(&[], &[]).is_err() && wilcoxon(&[1.0], &[]).is_err());
    }

    #[test]
    fn holm_equals_statsmodels() {
        for (p_values, expected) in fixtures().holm {
            let found = holm(&p_values);
            assert_eq!(found.len(), expected.len());
            assert!(
                found.iter().zip(&expected).all(|(found, expected)| near(*found, *expected)),
                "{found:?} {expected:?}"
            );
        }
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn friedman_equals_scipy() {
        let cases = fixtures().friedman;
        assert!(cases.len() >= 4);
        for (values, mean_ranks, statistic, p_value) in cases {
            let test = friedman(&values).unwrap();
            assert!(
                test.mean_ranks.iter().zip(&mean_ranks).all(|(found, expected)| near(*found, *expected)),
                "{test:?}"
            );
            assert!((test.statistic.unwrap() - statistic).abs() < 1e-10, "{test:?} {statistic}");
            assert!((test.p_value - p_value).abs() < 1e-10, "{test:?} {p_value}");
        }
        let mut ranked = friedman(&vec![vec![0.2, 0.4, 0.1, 0.3]; 3]).unwrap();
        assert_eq!((ranked.order(), ranked.groups()), (vec![1, 3, 0, 2], vec![0..3, 1..4]));
        ranked.critical_difference = 1.0;
        assert_eq!(ranked.groups(), Vec::<std::ops::Range<usize>>::new());
        let alike = friedman(&[vec![1.0, 1.0], vec![0.0, 0.0]]).unwrap();
        assert_eq!((alike.statistic, alike.p_value), (None, 1.0));
        assert!(friedman(&[]).is_err() && friedman(&[vec![1.0]]).is_err());
    }

    #[test]
    fn the_studentized_range_equals_scipy_and_the_critical_difference_that_of_the_tables() {
        for (probability, groups, expected) in fixtures().studentized_range {
            let found = studentized_range_quantile(probability, groups);
            assert!((found - expected).abs() < 1e-9, "{groups}: {found}, expected {expected}");
        }
        // Demšar (2006), table 5a: q = 2.569 for four models; his example: 14 data sets, difference 1.25.
        let values = vec![vec![1.0, 2.0, 3.0, 4.0]; 14];
        let difference = friedman(&values).unwrap().critical_difference;
        assert!((difference - 2.569 * (20.0_f64 / 84.0).sqrt()).abs() < 5e-4, "{difference}");
        assert!((difference - 1.25).abs() < 0.005);
    }
}
