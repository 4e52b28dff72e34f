//! Open-set evaluation: how well a model's probabilities, or the distances to its training flows, separate flows of its
//! classes from flows of unseen classes, and its scores if it may reject flows.

use ndarray::{ArrayView1, ArrayView2};

use super::probabilistic::check_distributions;
use super::{ConfusionMatrix, EvaluateError, argmax, check_labels};

/// Scores of how familiar a flow looks to the model; higher is more familiar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenScore {
    /// The highest probability (Hendrycks and Gimpel, 2017).
    MaximumProbability,
    /// The negative entropy of the probabilities.
    NegativeEntropy,
    /// The negative distance to the k-th nearest training flow (Sun et al., 2022).
    NeighbourDistance,
}

impl OpenScore {
    /// All scores, in the order of tables.
    pub const ALL: [Self; 3] = [Self::MaximumProbability, Self::NegativeEntropy, Self::NeighbourDistance];

    /// Returns the name used in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::MaximumProbability => "maximum_probability",
            Self::NegativeEntropy => "negative_entropy",
            Self::NeighbourDistance => "neighbour_distance",
        }
    }

    /// Returns the score of every row; `None` if the part has no distances.
    fn of(self, part: &OpenPart<'_>) -> Option<Vec<f64>> {
        let of_rows =
            |score: fn(ArrayView1<'_, f32>) -> f64| part.probabilities.rows().into_iter().map(score).collect();
        match self {
            Self::MaximumProbability => Some(of_rows(|row| f64::from(row.iter().copied().fold(0.0, f32::max)))),
            Self::NegativeEntropy => Some(of_rows(|row| {
                let values = row.iter().map(|&value| f64::from(value)).filter(|value| *value > 0.0);
                values.map(|value| value * value.ln()).sum()
            })),
            Self::NeighbourDistance => part.distances.map(|distances| distances.iter().map(|value| -value).collect()),
        }
    }
}

/// A part of the flows.
#[derive(Debug, Clone, Copy)]
pub struct OpenPart<'a> {
    /// Class probabilities, shape `[rows, known classes]`.
    pub probabilities: ArrayView2<'a, f32>,
    /// Distance of each row to the training flows, if measured.
    pub distances: Option<&'a [f64]>,
}

/// The fraction of known flows that a threshold accepts.
const ACCEPTED: f64 = 0.95;

/// Results for one score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpenSet {
    /// Probability that a known flow scores above an unknown one, with ties counting half.
    pub roc_auc: f64,
    /// Fraction of unknown flows that reach the threshold which accepts 95 % of the known ones.
    pub false_positive_rate: f64,
    /// Area under the curve of the fraction of known flows that are accepted and classified correctly against the
    /// fraction of unknown flows that are accepted (Dhamija et al., 2018), by trapezoids over all thresholds.
    pub oscr: f64,
    /// Macro F1 over the classes and a class of rejected flows, at the threshold that accepts 95 % of the validation
    /// flows.
    pub macro_f1_with_reject: f64,
    /// Fraction of known flows rejected at this threshold.
    pub rejected_known: f64,
    /// Fraction of unknown flows rejected at this threshold.
    pub rejected_unknown: f64,
}

impl OpenSet {
    /// Measures each score on the test flows of known classes with their `labels`, and on flows of `unknown` classes.
    /// The threshold is determined from the flows of `validation`. Scores by distance are left out if a part has none.
    ///
    /// # Errors
    /// A part without rows, different lengths, rows that are not distributions.
    pub fn measure<'a>(
        labels: &[u32],
        known: &OpenPart<'a>,
        unknown: &OpenPart<'a>,
        validation: &OpenPart<'a>,
    ) -> Result<Vec<(OpenScore, OpenSet)>, EvaluateError> {
        check_labels(labels, known.probabilities.nrows(), known.probabilities.ncols())?;
        for part in [known, unknown, validation] {
            if part.probabilities.is_empty() {
                return Err(EvaluateError::Empty);
            }
            check_distributions(part.probabilities)?;
            let rows = part.probabilities.nrows();
            if let Some(distances) = part.distances.map(<[f64]>::len).filter(|&distances| distances != rows) {
                return Err(EvaluateError::Length { labels: rows, predictions: distances });
            }
        }
        let predicted =
            Predicted { labels, known: argmax(known.probabilities), unknown: argmax(unknown.probabilities) };
        let classes = known.probabilities.ncols();
        let mut all = Vec::new();
        for score in OpenScore::ALL {
            let scores = [known, unknown, validation].map(|part| score.of(part));
            if let [Some(known), Some(unknown), Some(validation)] = scores {
                all.push((score, Self::of_scores(&predicted, classes, &known, &unknown, validation)?));
            }
        }
        Ok(all)
    }

    fn of_scores(
        predicted: &Predicted<'_>,
        classes: usize,
        of_known: &[f64],
        of_unknown: &[f64],
        of_validation: Vec<f64>,
    ) -> Result<Self, EvaluateError> {
        let curve = curve(of_known, predicted.labels, &predicted.known, of_unknown);
        let area = |height: fn(&Point) -> f64| {
            curve
                .windows(2)
                .map(|two| (two[1].unknown - two[0].unknown) * (height(&two[0]) + height(&two[1])) / 2.0)
                .sum()
        };
        let share = |scores: &[f64], threshold: f64| {
            scores.iter().filter(|&&score| score >= threshold).count() as f64 / scores.len() as f64
        };
        let threshold = accepting(of_validation);
        let reject = classes as u32;
        let refused = |scores: &[f64], predicted: &[u32]| -> Vec<u32> {
            let pairs = scores.iter().zip(predicted);
            pairs.map(|(&score, &class)| if score >= threshold { class } else { reject }).collect()
        };
        let mut truth = predicted.labels.to_vec();
        truth.extend(std::iter::repeat_n(reject, of_unknown.len()));
        let mut decided = refused(of_known, &predicted.known);
        decided.extend(refused(of_unknown, &predicted.unknown));
        let confusion = ConfusionMatrix::new(&truth, &decided, classes + 1)?;
        Ok(Self {
            roc_auc: area(|point| point.known),
            false_positive_rate: share(of_unknown, accepting(of_known.to_vec())),
            oscr: area(|point| point.right),
            macro_f1_with_reject: confusion.macro_average().f1,
            rejected_known: 1.0 - share(of_known, threshold),
            rejected_unknown: 1.0 - share(of_unknown, threshold),
        })
    }
}

/// True classes of the known flows, and the predicted classes of both kinds.
struct Predicted<'a> {
    labels: &'a [u32],
    known: Vec<u32>,
    unknown: Vec<u32>,
}

/// Returns the highest threshold that accepts 95 % of at least one score.
fn accepting(mut scores: Vec<f64>) -> f64 {
    scores.sort_by(|left, right| right.total_cmp(left));
    let accepted = (ACCEPTED * scores.len() as f64).ceil() as usize;
    scores[accepted.clamp(1, scores.len()) - 1]
}

/// Fractions accepted at a threshold.
struct Point {
    unknown: f64,
    known: f64,
    right: f64,
}

/// Returns the points from the threshold that accepts nothing to the one that accepts everything; equal scores are
/// combined.
fn curve(known: &[f64], labels: &[u32], predicted: &[u32], unknown: &[f64]) -> Vec<Point> {
    let right = labels.iter().zip(predicted).map(|(label, predicted)| label == predicted);
    let mut all: Vec<(f64, bool, bool)> = known.iter().zip(right).map(|(&score, right)| (score, true, right)).collect();
    all.extend(unknown.iter().map(|&score| (score, false, false)));
    all.sort_by(|left, right| right.0.total_cmp(&left.0));
    let mut counts = [0_usize; 3];
    let mut points = vec![Point { unknown: 0.0, known: 0.0, right: 0.0 }];
    for (place, &(score, is_known, is_right)) in all.iter().enumerate() {
        counts[usize::from(is_known)] += 1;
        counts[2] += usize::from(is_right);
        if all.get(place + 1).is_none_or(|next| next.0 != score) {
            let of_known = |count: usize| count as f64 / known.len() as f64;
            points.push(Point {
                unknown: counts[0] as f64 / unknown.len() as f64,
                known: of_known(counts[1]),
                right: of_known(counts[2]),
            });
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        labels: Vec<u32>,
        known: Vec<Vec<f32>>,
        unknown: Vec<Vec<f32>>,
        validation: Vec<Vec<f32>>,
        /// Distances of the three parts.
        distances: [Vec<f64>; 3],
        /// ROC AUC, FPR at 95 %, OSCR, macro F1 with reject, rejected known and unknown, of each score.
        expected: Vec<[f64; 6]>,
    }

    fn matrix(rows: &[Vec<f32>]) -> Array2<f32> {
        Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).unwrap()
    }

    #[test]
    fn every_value_equals_that_of_scikit_learn_and_numpy() {
        // Computed by tests/fixtures/metrics/make.py.
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../../tests/fixtures/metrics/open_set.json")).unwrap();
        assert!(cases.len() >= 4);
        for case in cases {
            let (known, unknown, validation) = (matrix(&case.known), matrix(&case.unknown), matrix(&case.validation));
            let [known, unknown, validation] = [(&known, 0), (&unknown, 1), (&validation, 2)].map(|(matrix, part)| {
                OpenPart { probabilities: matrix.view(), distances: Some(&case.distances[part]) }
            });
            let found = OpenSet::measure(&case.labels, &known, &unknown, &validation).unwrap();
            assert_eq!((found.len(), case.expected.len()), (3, 3));
            let without = OpenPart { distances: None, ..validation };
            assert_eq!(OpenSet::measure(&case.labels, &known, &unknown, &without).unwrap(), found[..2]);
            let shorter = OpenPart { distances: Some(&case.distances[2][1..]), ..validation };
            assert!(OpenSet::measure(&case.labels, &known, &unknown, &shorter).is_err());
            for ((score, found), expected) in found.into_iter().zip(case.expected) {
                let values = [
                    found.roc_auc,
                    found.false_positive_rate,
                    found.oscr,
                    found.macro_f1_with_reject,
                    found.rejected_known,
                    found.rejected_unknown,
                ];
                for (value, expected) in values.into_iter().zip(expected) {
                    assert!((value - expected).abs() < 1e-12, "{score:?}: {value}, expected {expected}");
                }
            }
        }
    }

    #[test]
    fn a_part_without_flows_is_an_error() {
        let one = Array2::from_elem((1, 2), 0.5);
        let none = Array2::zeros((0, 2));
        let [one, none] = [&one, &none].map(|matrix| OpenPart { probabilities: matrix.view(), distances: None });
        let result = OpenSet::measure(&[0], &one, &none, &one);
        assert_eq!(result, Err(EvaluateError::Empty));
    }
}
