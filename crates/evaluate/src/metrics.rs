//! All measurements of one test set, and their conversion to a list of named values for records.

use ndarray::ArrayView2;

use super::{Averages, ClassScores, ConfusionMatrix, EvaluateError, Metric, ProbabilisticMetrics, argmax};

/// The measurements of one test set.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// Counts of true against predicted classes.
    pub confusion: ConfusionMatrix,
    /// Fraction of correctly predicted flows.
    pub accuracy: f64,
    /// Precision, recall, F1 and support of each class.
    pub classes: Vec<ClassScores>,
    /// Unweighted means over the classes; undefined per-class values count as 0.
    pub macro_average: Averages,
    /// Means over the classes weighted by support; undefined per-class values count as 0.
    pub weighted_average: Averages,
    /// Averages over flows.
    pub micro_average: Averages,
    /// Mean recall of the classes that have flows.
    pub balanced_accuracy: f64,
    /// Matthews correlation coefficient, if defined.
    pub matthews_correlation: Option<f64>,
    /// Metrics of the probabilities, if there are any.
    pub probabilistic: Option<ProbabilisticMetrics>,
}

/// A measured value with its name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricValue {
    /// Name of the metric in records.
    pub metric: &'static str,
    /// The class the value describes; `None` for the whole test set.
    pub class: Option<usize>,
    /// For `confusion`: the predicted class.
    pub predicted: Option<usize>,
    /// The value; `None` if the metric is undefined.
    pub value: Option<f64>,
}

impl Metrics {
    /// Measures predicted probabilities, shape `[rows, classes]`. The predicted class is the one with the highest
    /// probability, on ties the lowest class.
    ///
    /// # Errors
    /// No row, different lengths, a label that is not a class, a row that is not a distribution.
    pub fn from_probabilities(labels: &[u32], probabilities: ArrayView2<'_, f32>) -> Result<Self, EvaluateError> {
        let probabilistic = ProbabilisticMetrics::new(labels, probabilities)?;
        let mut metrics = Self::from_predictions(labels, &argmax(probabilities), probabilities.ncols())?;
        metrics.probabilistic = Some(probabilistic);
        Ok(metrics)
    }

    /// Measures predicted classes, indices below `classes`.
    ///
    /// # Errors
    /// No row, different lengths, or an index that is not a class.
    pub fn from_predictions(labels: &[u32], predictions: &[u32], classes: usize) -> Result<Self, EvaluateError> {
        let confusion = ConfusionMatrix::new(labels, predictions, classes)?;
        Ok(Self {
            accuracy: confusion.accuracy(),
            classes: (0..classes).map(|class| confusion.class_scores(class)).collect(),
            macro_average: confusion.macro_average(),
            weighted_average: confusion.weighted_average(),
            micro_average: confusion.micro_average(),
            balanced_accuracy: confusion.balanced_accuracy(),
            matthews_correlation: confusion.matthews_correlation(),
            probabilistic: None,
            confusion,
        })
    }

    /// Returns how many classes have no defined value of a score: they count as 0 in the averages.
    pub(super) fn classes_without(&self, score: fn(&ClassScores) -> Option<f64>) -> f64 {
        self.classes.iter().filter(|scores| score(scores).is_none()).count() as f64
    }

    /// Returns every value with its name, in a fixed order: the whole test set first, then each class, then the
    /// confusion matrix by rows; within each, in the order of the table of metrics.
    pub fn records(&self) -> Vec<MetricValue> {
        let whole = Metric::all().iter().filter_map(|metric| {
            Some(MetricValue { metric: metric.key, class: None, predicted: None, value: metric.whole(self)? })
        });
        let mut records: Vec<MetricValue> = whole.collect();
        for class in 0..self.classes.len() {
            records.extend(Metric::all().iter().filter_map(|metric| {
                let value = metric.class(self, class)?;
                Some(MetricValue { metric: metric.key, class: Some(class), predicted: None, value })
            }));
        }
        for class in 0..self.classes.len() {
            for predicted in 0..self.classes.len() {
                let count = self.confusion.count(class, predicted) as f64;
                records.push(MetricValue {
                    metric: Metric::CONFUSION.key,
                    class: Some(class),
                    predicted: Some(predicted),
                    value: Some(count),
                });
            }
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    /// One case of `tests/fixtures/metrics/metrics.json`, computed by scikit-learn.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        name: String,
        classes: usize,
        labels: Vec<u32>,
        probabilities: Vec<Vec<f32>>,
        predictions: Vec<u32>,
        confusion: Vec<Vec<u64>>,
        values: std::collections::BTreeMap<String, Option<f64>>,
        class_values: std::collections::BTreeMap<String, Vec<Option<f64>>>,
    }

    fn same(found: Option<f64>, expected: Option<f64>) -> bool {
        match (found, expected) {
            (Some(found), Some(expected)) => (found - expected).abs() <= 1e-12,
            (None, None) => true,
            _ => false,
        }
    }

    #[test]
    fn metrics_equal_those_of_scikit_learn() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../../tests/fixtures/metrics/metrics.json")).unwrap();
        assert!(cases.len() >= 5);
        for case in cases {
            let flat = case.probabilities.concat();
            let probabilities = Array2::from_shape_vec((case.labels.len(), case.classes), flat).unwrap();
            assert_eq!(argmax(probabilities.view()), case.predictions, "{}", case.name);
            let metrics = Metrics::from_probabilities(&case.labels, probabilities.view()).unwrap();
            let records = metrics.records();
            let mut compared = 0;
            for record in &records {
                let expected = match (record.class, record.predicted) {
                    (None, _) => case.values[record.metric],
                    (Some(class), None) => case.class_values[record.metric][class],
                    (Some(class), Some(predicted)) => Some(case.confusion[class][predicted] as f64),
                };
                assert!(same(record.value, expected), "{}: {record:?}, expected {expected:?}", case.name);
                compared += 1;
            }
            let fixtures = case.values.len() + case.classes * (case.class_values.len() + case.classes);
            assert_eq!(compared, fixtures, "{}: every value is recorded once", case.name);
        }
    }

    proptest! {
        #[test]
        fn renaming_the_classes_changes_no_average(
            rows in prop::collection::vec((0u32..4, 0u32..4), 1..60),
        ) {
            let (labels, predictions): (Vec<u32>, Vec<u32>) = rows.into_iter().unzip();
            let renamed = |values: &[u32]| values.iter().map(|&class| 3 - class).collect::<Vec<_>>();
            let metrics = Metrics::from_predictions(&labels, &predictions, 4).unwrap();
            let other = Metrics::from_predictions(&renamed(&labels), &renamed(&predictions), 4).unwrap();
            for (left, right) in metrics.records().iter().zip(other.records()).filter(|(left, _)| left.class.is_none()) {
                prop_assert!(same(left.value, right.value), "{left:?} {right:?}");
            }
            // Accuracy is the mean of recalls weighted by support: the paper's tables violate this.
            prop_assert!((metrics.accuracy - metrics.weighted_average.recall).abs() < 1e-12);
            let largest = metrics.classes.iter().filter_map(|scores| scores.recall).fold(0.0, f64::max);
            prop_assert!(metrics.accuracy <= largest + 1e-12);
            let mean = (metrics.macro_average.precision + metrics.macro_average.recall) / 2.0;
            prop_assert!(metrics.macro_average.f1 <= mean + 1e-12);
        }
    }

    #[test]
    fn lengths_and_classes_are_checked() {
        assert_eq!(Metrics::from_predictions(&[], &[], 2).unwrap_err(), EvaluateError::Empty);
        assert!(matches!(
            Metrics::from_predictions(&[0], &[0, 1], 2).unwrap_err(),
            EvaluateError::Length { labels: 1, predictions: 2 }
        ));
        assert!(matches!(
            Metrics::from_predictions(&[0, 1], &[0, 2], 2).unwrap_err(),
            EvaluateError::Class { row: 1, what: "prediction", class: 2, classes: 2 }
        ));
    }
}
