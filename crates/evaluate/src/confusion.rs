//! The confusion matrix and everything that depends only on its counts.

use super::{EvaluateError, check_classes, check_labels};

/// Counts of true against predicted classes, shape `[classes, classes]`; rows are the true classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: usize,
    counts: Vec<u64>,
}

/// Precision, recall and F1 of one class; `None` if the definition divides zero by zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassScores {
    /// Correctly predicted flows of the class, divided by the flows predicted as it; `None` if it was never predicted.
    pub precision: Option<f64>,
    /// Correctly predicted flows of the class, divided by its flows; `None` if it has no flow.
    pub recall: Option<f64>,
    /// `2 tp / (2 tp + fp + fn)`; `None` only if the class has no flow and was never predicted.
    pub f1: Option<f64>,
    /// Number of flows of the class.
    pub support: u64,
    /// Number of flows predicted as the class.
    pub predicted: u64,
}

/// An average over the classes, for each per-class metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Averages {
    /// Average precision over classes.
    pub precision: f64,
    /// Average recall over classes.
    pub recall: f64,
    /// Average of the per-class F1 values.
    pub f1: f64,
}

impl ConfusionMatrix {
    /// Counts `labels` against `predictions`; both are indices below `classes`.
    ///
    /// # Errors
    /// No row, different lengths, or an index that is not a class.
    pub fn new(labels: &[u32], predictions: &[u32], classes: usize) -> Result<Self, EvaluateError> {
        check_labels(labels, predictions.len(), classes)?;
        check_classes(predictions, "prediction", classes)?;
        let mut counts = vec![0; classes * classes];
        for (&label, &prediction) in labels.iter().zip(predictions) {
            counts[label as usize * classes + prediction as usize] += 1;
        }
        Ok(Self { classes, counts })
    }

    /// Creates a matrix from known counts, row by row, with shape `[classes, classes]`.
    ///
    /// # Errors
    /// No flows at all, or not `classes * classes` counts.
    pub fn from_counts(counts: Vec<u64>, classes: usize) -> Result<Self, EvaluateError> {
        if counts.len() != classes * classes {
            return Err(EvaluateError::Length { labels: classes * classes, predictions: counts.len() });
        }
        if counts.iter().all(|&count| count == 0) {
            return Err(EvaluateError::Empty);
        }
        Ok(Self { classes, counts })
    }

    /// Returns a matrix with each count replaced by the result of `count`, row by row.
    pub(super) fn map(&self, count: impl FnMut(u64) -> u64) -> Self {
        Self { classes: self.classes, counts: self.counts.iter().copied().map(count).collect() }
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Returns the number of flows of class `label` that were predicted as class `prediction`.
    pub fn count(&self, label: usize, prediction: usize) -> u64 {
        self.counts[label * self.classes + prediction]
    }

    /// Returns the number of all flows.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the number of flows of class `label`.
    pub fn support(&self, label: usize) -> u64 {
        self.counts[label * self.classes..(label + 1) * self.classes].iter().sum()
    }

    /// Returns the number of flows predicted as class `prediction`.
    pub fn predicted(&self, prediction: usize) -> u64 {
        (0..self.classes).map(|label| self.count(label, prediction)).sum()
    }

    /// Returns the fraction of the flows of class `label` that were predicted as class `prediction`, or `None` if it
    /// has no flow.
    pub fn share(&self, label: usize, prediction: usize) -> Option<f64> {
        ratio(self.count(label, prediction), self.support(label))
    }

    /// Returns the fraction of correctly predicted flows.
    pub fn accuracy(&self) -> f64 {
        self.correct() as f64 / self.total() as f64
    }

    /// Returns precision, recall, F1 and support of one class.
    pub fn class_scores(&self, class: usize) -> ClassScores {
        let found = self.count(class, class);
        let support = self.support(class);
        let predicted = self.predicted(class);
        ClassScores {
            precision: ratio(found, predicted),
            recall: ratio(found, support),
            f1: ratio(2 * found, support + predicted),
            support,
            predicted,
        }
    }

    /// Returns unweighted means over all classes. An undefined per-class value counts as 0, as with scikit-learn's
    /// `zero_division=0` and `labels` listing every class.
    pub fn macro_average(&self) -> Averages {
        self.average(|_| 1.0)
    }

    /// Returns means over the classes weighted by support, with undefined values counting as 0.
    pub fn weighted_average(&self) -> Averages {
        self.average(|scores| scores.support as f64)
    }

    /// Returns averages over flows instead of classes; with one label per flow all three equal the accuracy.
    pub fn micro_average(&self) -> Averages {
        let accuracy = self.accuracy();
        Averages { precision: accuracy, recall: accuracy, f1: accuracy }
    }

    /// Returns the mean recall of the classes that have flows (scikit-learn's `balanced_accuracy_score`).
    pub fn balanced_accuracy(&self) -> f64 {
        let recalls: Vec<f64> = (0..self.classes).filter_map(|class| self.class_scores(class).recall).collect();
        recalls.iter().sum::<f64>() / recalls.len() as f64
    }

    /// Returns the multi-class Matthews correlation coefficient (Gorodkin, 2004). `None` if all flows have the same
    /// class or the same prediction; scikit-learn returns 0 in that case.
    pub fn matthews_correlation(&self) -> Option<f64> {
        let total = i128::from(self.total());
        let correct = i128::from(self.correct());
        let (mut cross, mut label_squares, mut prediction_squares) = (0i128, 0i128, 0i128);
        for class in 0..self.classes {
            let (support, predicted) = (i128::from(self.support(class)), i128::from(self.predicted(class)));
            cross += support * predicted;
            label_squares += support * support;
            prediction_squares += predicted * predicted;
        }
        let covariance = correct * total - cross;
        let label_variance = total * total - label_squares;
        let prediction_variance = total * total - prediction_squares;
        if label_variance == 0 || prediction_variance == 0 {
            return None;
        }
        Some(covariance as f64 / ((label_variance as f64).sqrt() * (prediction_variance as f64).sqrt()))
    }

    fn correct(&self) -> u64 {
        (0..self.classes).map(|class| self.count(class, class)).sum()
    }

    fn average(&self, weight: impl Fn(&ClassScores) -> f64) -> Averages {
        let mut sums = Averages { precision: 0.0, recall: 0.0, f1: 0.0 };
        let mut weights = 0.0;
        for class in 0..self.classes {
            let scores = self.class_scores(class);
            let weight = weight(&scores);
            sums.precision += weight * scores.precision.unwrap_or(0.0);
            sums.recall += weight * scores.recall.unwrap_or(0.0);
            sums.f1 += weight * scores.f1.unwrap_or(0.0);
            weights += weight;
        }
        Averages { precision: sums.precision / weights, recall: sums.recall / weights, f1: sums.f1 / weights }
    }
}

fn ratio(numerator: u64, denominator: u64) -> Option<f64> {
    (denominator > 0).then(|| numerator as f64 / denominator as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_of_counts_equals_that_of_the_flows() {
        let counted = ConfusionMatrix::new(&[0, 0, 0, 1], &[0, 0, 1, 1], 3).unwrap();
        let known = ConfusionMatrix::from_counts(vec![2, 1, 0, 0, 1, 0, 0, 0, 0], 3).unwrap();
        assert_eq!(counted, known);
        assert_eq!((known.share(0, 1), known.share(1, 1), known.share(2, 2)), (Some(1.0 / 3.0), Some(1.0), None));
        assert!(ConfusionMatrix::from_counts(vec![1; 8], 3).is_err());
        assert_eq!(ConfusionMatrix::from_counts(vec![0; 4], 2), Err(EvaluateError::Empty));
    }
}
