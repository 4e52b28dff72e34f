//! Metrics of predicted probabilities: ranking (ROC-AUC, average precision), log loss and calibration.

use ndarray::{ArrayView1, ArrayView2};

use super::{EvaluateError, check_labels};

/// Number of bins of the expected calibration error.
pub const CALIBRATION_BINS: usize = 15;

/// How far the sum of a row's probabilities may be from 1: far above rounding in 32 bits, far below an error.
const SUM_TOLERANCE: f64 = 1e-3;

/// Metrics of predicted probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbabilisticMetrics {
    /// Area under the ROC curve of each class against the rest; `None` for a class that no flow, or every flow, belongs
    /// to.
    pub roc_auc: Vec<Option<f64>>,
    /// Average precision of each class against the rest; `None` for a class without flows.
    pub average_precision: Vec<Option<f64>>,
    /// Mean of `roc_auc` over the classes for which it is defined.
    pub macro_roc_auc: Option<f64>,
    /// Mean of `average_precision` over the classes for which it is defined.
    pub macro_average_precision: Option<f64>,
    /// Mean negative natural logarithm of the probability of the true class; probabilities are clipped to at least
    /// 2^-52 from 0 and 1, as scikit-learn does in 64 bits.
    pub log_loss: f64,
    /// Mean distance between confidence and accuracy over [`CALIBRATION_BINS`] equal-width bins `(low, high]` of the
    /// highest probability, weighted by flows (Guo et al., 2017).
    pub expected_calibration_error: f64,
}

/// Returns the class with the highest probability for each row of `probabilities`, shape `[rows, classes]`; the lowest
/// class on ties.
pub fn argmax(probabilities: ArrayView2<'_, f32>) -> Vec<u32> {
    probabilities.rows().into_iter().map(|row| best(row).0 as u32).collect()
}

fn best(row: ArrayView1<'_, f32>) -> (usize, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (class, &probability) in row.iter().enumerate() {
        if probability > best.1 {
            best = (class, probability);
        }
    }
    best
}

impl ProbabilisticMetrics {
    /// Measures `probabilities`, shape `[rows, classes]`, against the rows' labels.
    ///
    /// # Errors
    /// No row, different lengths, a label that is not a class, a row that is not a distribution.
    pub fn new(labels: &[u32], probabilities: ArrayView2<'_, f32>) -> Result<Self, EvaluateError> {
        let classes = probabilities.ncols();
        check_labels(labels, probabilities.nrows(), classes)?;
        check_distributions(probabilities)?;

        let mut roc_auc = Vec::with_capacity(classes);
        let mut average_precision = Vec::with_capacity(classes);
        for class in 0..classes {
            let steps = ranking(labels, class as u32, probabilities.column(class));
            roc_auc.push(area_under_roc(&steps));
            average_precision.push(step_precision(&steps));
        }
        Ok(Self {
            macro_roc_auc: mean_of_defined(&roc_auc),
            macro_average_precision: mean_of_defined(&average_precision),
            roc_auc,
            average_precision,
            log_loss: log_loss(labels, probabilities),
            expected_calibration_error: calibration_error(labels, probabilities, as_written),
        })
    }
}

pub(super) fn check_distributions(probabilities: ArrayView2<'_, f32>) -> Result<(), EvaluateError> {
    for (row, values) in probabilities.rows().into_iter().enumerate() {
        if let Some(value) = values.iter().find(|value| !(0.0..=1.0).contains(*value)) {
            return Err(EvaluateError::Probabilities { row, problem: format!("a probability is {value}") });
        }
        let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(EvaluateError::Probabilities { row, problem: format!("the probabilities sum to {sum}") });
        }
    }
    Ok(())
}

/// Flows with the same score: how many are of the class, and how many of the rest.
struct Step {
    positives: u64,
    negatives: u64,
}

/// Ranks the flows by descending score of one class, with equal scores combined.
fn ranking(labels: &[u32], class: u32, scores: ArrayView1<'_, f32>) -> Vec<Step> {
    let mut ranked: Vec<(f32, bool)> =
        scores.iter().zip(labels).map(|(&score, &label)| (score, label == class)).collect();
    ranked.sort_unstable_by(|left, right| right.0.total_cmp(&left.0));
    let mut steps: Vec<Step> = Vec::new();
    let mut last = None;
    for (score, positive) in ranked {
        if last != Some(score) {
            steps.push(Step { positives: 0, negatives: 0 });
            last = Some(score);
        }
        let step = steps.last_mut().expect("a step was pushed");
        if positive {
            step.positives += 1;
        } else {
            step.negatives += 1;
        }
    }
    steps
}

/// Returns the probability that a flow of the class scores above one of the rest, with ties counting half: equal to the
/// area by trapezoids (Hanley and McNeil, 1982), computed with integers.
fn area_under_roc(steps: &[Step]) -> Option<f64> {
    let mut above = 0u128;
    let mut doubled_wins = 0u128;
    let mut negatives = 0u128;
    for step in steps {
        let (step_positives, step_negatives) = (u128::from(step.positives), u128::from(step.negatives));
        doubled_wins += step_negatives * (2 * above + step_positives);
        above += step_positives;
        negatives += step_negatives;
    }
    let pairs = above * negatives;
    (pairs > 0).then(|| doubled_wins as f64 / (2 * pairs) as f64)
}

/// Returns the sum over thresholds of the increase in recall times the precision, without interpolation.
fn step_precision(steps: &[Step]) -> Option<f64> {
    let total: u64 = steps.iter().map(|step| step.positives).sum();
    if total == 0 {
        return None;
    }
    let (mut found, mut seen, mut sum) = (0, 0, 0.0);
    for step in steps {
        found += step.positives;
        seen += step.positives + step.negatives;
        sum += step.positives as f64 * (found as f64 / seen as f64);
    }
    Some(sum / total as f64)
}

fn mean_of_defined(values: &[Option<f64>]) -> Option<f64> {
    let defined: Vec<f64> = values.iter().copied().flatten().collect();
    (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
}

fn log_loss(labels: &[u32], probabilities: ArrayView2<'_, f32>) -> f64 {
    let mut sum = 0.0;
    for (row, &label) in labels.iter().enumerate() {
        let probability = f64::from(probabilities[[row, label as usize]]);
        sum -= probability.clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln();
    }
    sum / labels.len() as f64
}

/// Sums of one calibration bin.
#[derive(Clone, Copy, Default)]
struct BinSums {
    flows: u64,
    confidence: f64,
    correct: u64,
}

/// Returns the decimal number that a probability is stored as, which readers of stored predictions compute with. 0.6 in
/// single precision is more than 9/15; the number in the file is not.
fn as_written(probability: f32) -> f64 {
    probability.to_string().parse().unwrap_or_else(|_| f64::from(probability))
}

fn calibration_sums(
    labels: &[u32],
    probabilities: ArrayView2<'_, f32>,
    binned: fn(f32) -> f64,
) -> [BinSums; CALIBRATION_BINS] {
    let mut bins = [BinSums::default(); CALIBRATION_BINS];
    for (row, &label) in probabilities.rows().into_iter().zip(labels) {
        let (class, probability) = best(row);
        let above = (binned(probability) * CALIBRATION_BINS as f64).ceil() as usize;
        let probability = f64::from(probability);
        let bin = &mut bins[above.clamp(1, CALIBRATION_BINS) - 1];
        bin.flows += 1;
        bin.confidence += probability;
        bin.correct += u64::from(class == label as usize);
    }
    bins
}

fn calibration_error(labels: &[u32], probabilities: ArrayView2<'_, f32>, binned: fn(f32) -> f64) -> f64 {
    // A bin's weight times the distance of its means equals the distance of its sums divided by the number of all
    // flows.
    let bins = calibration_sums(labels, probabilities, binned);
    let distance: f64 = bins.iter().map(|bin| (bin.correct as f64 - bin.confidence).abs()).sum();
    distance / labels.len() as f64
}

/// Returns the expected calibration error as computed by earlier versions, which binned the single-precision floats
/// themselves: a stored record may contain this value.
///
/// # Errors
/// No row, different lengths, a label that is not a class, a row that is not a distribution.
pub fn calibration_error_of_floats(labels: &[u32], probabilities: ArrayView2<'_, f32>) -> Result<f64, EvaluateError> {
    check_labels(labels, probabilities.nrows(), probabilities.ncols())?;
    check_distributions(probabilities)?;
    Ok(calibration_error(labels, probabilities, f64::from))
}

/// One bin of a reliability diagram: the flows whose highest probability is above `low` and at most `high`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReliabilityBin {
    /// Lower end of the bin, exclusive.
    pub low: f64,
    /// Upper end of the bin, inclusive.
    pub high: f64,
    /// Number of flows.
    pub flows: u64,
    /// Mean of their highest probabilities; `None` without flows.
    pub mean_confidence: Option<f64>,
    /// Fraction of them that are predicted correctly; `None` without flows.
    pub accuracy: Option<f64>,
}

/// Returns the bins of the expected calibration error (Guo et al., 2017), in ascending order: [`CALIBRATION_BINS`] of
/// equal width; flows are binned by the decimal number that predictions are stored as. `probabilities` has the shape
/// `[rows, classes]`.
///
/// # Errors
/// No row, different lengths, a label that is not a class, a row that is not a distribution.
pub fn reliability(labels: &[u32], probabilities: ArrayView2<'_, f32>) -> Result<Vec<ReliabilityBin>, EvaluateError> {
    check_labels(labels, probabilities.nrows(), probabilities.ncols())?;
    check_distributions(probabilities)?;
    let bins = calibration_sums(labels, probabilities, as_written).into_iter().enumerate().map(|(index, bin)| {
        let mean = |sum: f64| (bin.flows > 0).then(|| sum / bin.flows as f64);
        ReliabilityBin {
            low: index as f64 / CALIBRATION_BINS as f64,
            high: (index + 1) as f64 / CALIBRATION_BINS as f64,
            flows: bin.flows,
            mean_confidence: mean(bin.confidence),
            accuracy: mean(bin.correct as f64),
        }
    });
    Ok(bins.collect())
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn ties_go_to_the_lowest_class() {
        let probabilities = array![[0.4, 0.4, 0.2], [0.2, 0.4, 0.4], [0.0, 0.0, 1.0]];
        assert_eq!(argmax(probabilities.view()), [0, 1, 2]);
    }

    #[test]
    fn the_bins_of_a_reliability_diagram_give_the_calibration_error() {
        let probabilities = array![[0.95, 0.05], [0.94, 0.06], [0.3, 0.7], [0.6, 0.4], [0.5, 0.5]];
        let labels = [0, 1, 1, 1, 0];
        let bins = reliability(&labels, probabilities.view()).unwrap();
        assert_eq!(bins.len(), CALIBRATION_BINS);
        assert_eq!(bins.iter().map(|bin| bin.flows).sum::<u64>(), 5);
        // 0.94 and 0.95 are both above 14/15; one of them is right.
        let last = bins[CALIBRATION_BINS - 1];
        assert_eq!((last.flows, last.accuracy), (2, Some(0.5)));
        assert!((last.mean_confidence.unwrap() - 0.945).abs() < 1e-6);
        let error: f64 = bins
            .iter()
            .filter_map(|bin| Some((bin.accuracy? - bin.mean_confidence?).abs() * bin.flows as f64 / 5.0))
            .sum();
        let expected = ProbabilisticMetrics::new(&labels, probabilities.view()).unwrap().expected_calibration_error;
        assert!((error - expected).abs() < 1e-12, "{error} {expected}");
        assert!(reliability(&[0], array![[0.5, 0.4]].view()).is_err());
    }

    #[test]
    fn a_probability_is_in_the_bin_of_the_number_that_is_written() {
        // 0.6 is 9/15, the upper end of the ninth bin; as a single-precision float it is slightly more.
        let probabilities = array![[0.6_f32, 0.4], [0.65, 0.35]];
        let bins = reliability(&[0, 1], probabilities.view()).unwrap();
        assert_eq!((bins[8].flows, bins[9].flows), (1, 1));
        let error = ProbabilisticMetrics::new(&[0, 1], probabilities.view()).unwrap().expected_calibration_error;
        assert!((error - (0.4 + 0.65) / 2.0).abs() < 1e-7, "{error}");
        // Together in the tenth bin they nearly cancelled out: (0.6 + 0.65 - 1) / 2.
        let before = calibration_error_of_floats(&[0, 1], probabilities.view()).unwrap();
        assert!((before - 0.125).abs() < 1e-7, "{before}");
        for twentieth in 0..=20 {
            let value = twentieth as f32 / 20.0;
            assert_eq!(as_written(value), f64::from(twentieth) / 20.0);
        }
    }

    #[test]
    fn rows_that_are_no_distribution_are_errors_that_name_the_row() {
        for bad in [f32::NAN, -0.1, 1.5, f32::INFINITY] {
            let error = ProbabilisticMetrics::new(&[0, 1], array![[0.5, 0.5], [bad, 0.5]].view()).unwrap_err();
            assert!(matches!(error, EvaluateError::Probabilities { row: 1, .. }), "{error}");
        }
        let error = ProbabilisticMetrics::new(&[0], array![[0.5, 0.4]].view()).unwrap_err();
        assert!(error.to_string().contains("sum to 0.9"), "{error}");
        let error = ProbabilisticMetrics::new(&[2], array![[0.5, 0.5]].view()).unwrap_err();
        assert_eq!(error.to_string(), "row 0: label 2 is not below the number of classes, 2");
    }

    #[test]
    fn a_class_without_flows_has_no_area() {
        let metrics = ProbabilisticMetrics::new(&[0, 0], array![[0.5, 0.5], [1.0, 0.0]].view()).unwrap();
        assert_eq!(metrics.roc_auc, [None, None]);
        assert_eq!(metrics.macro_roc_auc, None);
        assert_eq!(metrics.average_precision, [Some(1.0), None]);
        assert_eq!(metrics.macro_average_precision, Some(1.0));
    }
}
