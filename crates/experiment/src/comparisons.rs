//! Tests whether the models of a run differ: paired tests between all of a variant's models, on the same test flows and
//! over the same fits; stored as `comparisons.csv`.

use serde::{Deserialize, Serialize};

use super::ExperimentError;
use super::run::{FittedRow, Run};
use etcbench_evaluate::{Metric, Metrics, argmax, corrected_resampled_mean, holm, mcnemar, wilcoxon};

/// The paired tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairedTest {
    /// McNemar's test, on the test flows of one fit.
    Mcnemar,
    /// Wilcoxon's signed-rank test, over all fits.
    Wilcoxon,
    /// The corrected resampled t-test (Nadeau and Bengio, 2003), over all fits: it accounts for flows shared between
    /// fits.
    CorrectedT,
}

/// A test of two models of a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// The variant.
    pub variant: String,
    /// The test.
    pub test: PairedTest,
    /// The metric: `accuracy` for McNemar's test, `macro_f1` for the tests over all fits.
    pub metric: String,
    /// The seed; `None` if the test covers all fits.
    pub seed: Option<u64>,
    /// The fold, from 0; `None` if the test covers all fits.
    pub fold: Option<usize>,
    /// The first model.
    pub first_model: String,
    /// Its input.
    pub first_input: String,
    /// Its implementation.
    pub first_implementation: String,
    /// The second model.
    pub second_model: String,
    /// Its input.
    pub second_input: String,
    /// Its implementation.
    pub second_implementation: String,
    /// The first model's value; a mean if the test covers several fits.
    pub first_value: f64,
    /// The second model's value.
    pub second_value: f64,
    /// Evidence for the first model: for McNemar's test, the number of flows that only it predicts correctly; for
    /// Wilcoxon's test, the sum of the ranks of the fits in which its value is higher; for the corrected t-test, the
    /// number of such fits.
    pub for_first: f64,
    /// Evidence for the second model.
    pub for_second: f64,
    /// Two-sided p-value.
    pub p_value: f64,
    /// The p-value with Holm's correction for all pairs of models of the variant (and of the seed and fold, for
    /// McNemar's test).
    pub adjusted_p_value: f64,
}

/// Runs every test on every pair of models, in the order of variants, seeds, folds and models; those over all fits come
/// last, and only if there is more than one fit.
///
/// # Errors
/// Predictions are not distributions over the classes.
pub fn comparisons(run: &Run) -> Result<Vec<Comparison>, ExperimentError> {
    let mut all = Vec::new();
    for variant in &run.variants {
        let classes = variant.features.class_names.len();
        let rows = || run.rows.iter().filter(|row| row.key.variant == variant.name);
        // One list of fits per split: every model on the same flows.
        let mut fits: Vec<Vec<Fit<'_>>> = Vec::new();
        for split in &variant.splits {
            let of_split = rows().filter(|row| (row.key.seed, row.key.fold) == (split.seed, split.fold));
            fits.push(of_split.map(|row| Fit::new(row, classes)).collect::<Result<_, _>>()?);
        }
        for models in &fits {
            let tests = pairs(models.len()).map(|(first, second)| {
                let (first, second) = (&models[first], &models[second]);
                let test = mcnemar(&first.row.outcome.labels, &first.predictions, &second.predictions)?;
                let mut comparison = first.against(second, PairedTest::Mcnemar, Metric::ACCURACY.key);
                (comparison.seed, comparison.fold) = (Some(first.row.key.seed), Some(first.row.key.fold));
                (comparison.first_value, comparison.second_value) = (first.accuracy, second.accuracy);
                (comparison.for_first, comparison.for_second) = (test.only_first as f64, test.only_second as f64);
                comparison.p_value = test.p_value;
                Ok(comparison)
            });
            all.extend(corrected(tests.collect::<Result<_, ExperimentError>>()?));
        }
        // A model with any failed fit is not compared over all fits.
        let of_first = fits.first().map_or(&[][..], Vec::as_slice).iter();
        let everywhere: Vec<&Fit<'_>> =
            of_first.filter(|fit| fits.iter().all(|models| fit.find(models).is_some())).collect();
        if fits.len() > 1 {
            let (mut tested, mut trained) = (0, 0);
            for run in &variant.splits {
                (tested, trained) = (tested + run.split.test.len(), trained + run.split.train.len());
            }
            let ratio = tested as f64 / trained.max(1) as f64;
            for test in [PairedTest::Wilcoxon, PairedTest::CorrectedT] {
                let tests = pairs(everywhere.len()).map(|(first, second)| {
                    let values = |model: usize| {
                        let of_fits = fits.iter().filter_map(|models| everywhere[model].find(models));
                        of_fits.map(|fit| fit.macro_f1).collect::<Vec<_>>()
                    };
                    let (firsts, seconds) = (values(first), values(second));
                    let mut comparison = everywhere[first].against(everywhere[second], test, Metric::MACRO_F1.key);
                    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
                    (comparison.first_value, comparison.second_value) = (mean(&firsts), mean(&seconds));
                    if test == PairedTest::Wilcoxon {
                        let test = wilcoxon(&firsts, &seconds)?;
                        (comparison.for_first, comparison.for_second) = (test.positive_ranks, test.negative_ranks);
                        comparison.p_value = test.p_value;
                    } else {
                        let differences: Vec<f64> =
                            firsts.iter().zip(&seconds).map(|(first, second)| first - second).collect();
                        let count = |sign: f64| differences.iter().filter(|value| sign * **value > 0.0).count() as f64;
                        (comparison.for_first, comparison.for_second) = (count(1.0), count(-1.0));
                        comparison.p_value =
                            corrected_resampled_mean(&differences, ratio).map_or(1.0, |test| test.p_value);
                    }
                    Ok(comparison)
                });
                all.extend(corrected(tests.collect::<Result<_, ExperimentError>>()?));
            }
        }
    }
    Ok(all)
}

/// Writes the tests in the format of `comparisons.csv`.
///
/// # Errors
/// None known: every field can be represented in CSV.
pub fn comparisons_csv(comparisons: &[Comparison]) -> Result<Vec<u8>, ExperimentError> {
    let problem = |problem: String| ExperimentError::Internal { problem: format!("comparisons.csv: {problem}") };
    let mut writer = csv::Writer::from_writer(Vec::new());
    for comparison in comparisons {
        writer.serialize(comparison).map_err(|error| problem(error.to_string()))?;
    }
    writer.into_inner().map_err(|error| problem(error.to_string()))
}

/// A model on the test flows of one split.
struct Fit<'a> {
    row: &'a FittedRow,
    predictions: Vec<u32>,
    accuracy: f64,
    macro_f1: f64,
}

impl<'a> Fit<'a> {
    fn new(row: &'a FittedRow, classes: usize) -> Result<Self, ExperimentError> {
        let predictions = argmax(row.outcome.probability_matrix(classes)?);
        let metrics = Metrics::from_predictions(&row.outcome.labels, &predictions, classes)?;
        Ok(Self { row, predictions, accuracy: metrics.accuracy, macro_f1: metrics.macro_average.f1 })
    }

    /// Returns the fit of the same model in another split.
    fn find<'b>(&self, fits: &'b [Fit<'a>]) -> Option<&'b Fit<'a>> {
        let name = |fit: &Fit<'a>| (&fit.row.key.model, &fit.row.key.input, &fit.row.key.implementation);
        fits.iter().find(|fit| name(fit) == name(self))
    }

    /// Creates a comparison without test results.
    fn against(&self, second: &Self, test: PairedTest, metric: &str) -> Comparison {
        let (first, second) = (&self.row.key, &second.row.key);
        Comparison {
            variant: first.variant.clone(),
            test,
            metric: metric.to_owned(),
            seed: None,
            fold: None,
            first_model: first.model.clone(),
            first_input: first.input.clone(),
            first_implementation: first.implementation.clone(),
            second_model: second.model.clone(),
            second_input: second.input.clone(),
            second_implementation: second.implementation.clone(),
            first_value: 0.0,
            second_value: 0.0,
            for_first: 0.0,
            for_second: 0.0,
            p_value: 1.0,
            adjusted_p_value: 1.0,
        }
    }
}

/// Returns every pair of indices below `count`.
fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |first| (first + 1..count).map(move |second| (first, second)))
}

/// Corrects the tests of one family.
fn corrected(mut family: Vec<Comparison>) -> Vec<Comparison> {
    let p_values: Vec<f64> = family.iter().map(|comparison| comparison.p_value).collect();
    for (comparison, adjusted) in family.iter_mut().zip(holm(&p_values)) {
        comparison.adjusted_p_value = adjusted;
    }
    family
}
