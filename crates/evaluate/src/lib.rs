//! Evaluation: computes metrics from labels and predictions, with exact definitions and zero-division rules. No input
//! or output happens here.
//!
//! [`Metric`] is the table of metrics; [`Metrics`] contains the measurements of one test set; [`Summary`] summarises
//! several runs on it, and [`corrected_resampled_mean`] summarises splits of the same flows. [`mcnemar`] tests whether
//! two models differ on the same test set, [`wilcoxon`] whether they differ over folds, [`friedman`] whether several
//! models differ over tables, and [`bootstrap_intervals`] estimates how much a metric of one test set can be trusted.

mod bootstrap;
mod confusion;
mod difference;
mod metric;
mod metrics;
mod open_set;
mod probabilistic;
mod ranks;
mod resampled;
mod summary;
mod temperature;

pub use bootstrap::{Interval, bootstrap_intervals};
pub use confusion::{Averages, ClassScores, ConfusionMatrix};
pub use difference::{McNemar, mcnemar};
pub use metric::{Direction, Metric, Unit};
pub use metrics::{MetricValue, Metrics};
pub use open_set::{OpenPart, OpenScore, OpenSet};
pub use probabilistic::{
    CALIBRATION_BINS, ProbabilisticMetrics, ReliabilityBin, argmax, calibration_error_of_floats, reliability,
};
pub use ranks::{Friedman, Wilcoxon, friedman, holm, wilcoxon};
pub use resampled::{
    DISAGREEMENT, ResampledMean, WITHIN_CAPTURE_CORRELATION, cluster_draws, corrected_resampled_mean,
    percentile_interval, smallest_difference,
};
pub use summary::{Summary, student_t_quantile};
pub use temperature::{brier_score, temperature, with_temperature};

/// Why predictions cannot be evaluated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvaluateError {
    /// There is nothing to evaluate.
    #[error("no flow to evaluate; a test set needs at least one row")]
    Empty,
    /// Labels and predictions have different numbers of rows.
    #[error("{labels} labels but {predictions} predictions; both must refer to the same rows")]
    Length {
        /// Number of true labels.
        labels: usize,
        /// Number of predicted rows.
        predictions: usize,
    },
    /// A label is not a class.
    #[error("row {row}: {what} {class} is not below the number of classes, {classes}")]
    Class {
        /// The row, from 0.
        row: usize,
        /// `label` or `prediction`.
        what: &'static str,
        /// The invalid value.
        class: u32,
        /// The number of classes.
        classes: usize,
    },
    /// A row is not a distribution over the classes.
    #[error("row {row}: {problem}; a model must predict probabilities from 0 to 1 that sum to 1")]
    Probabilities {
        /// The row, from 0.
        row: usize,
        /// Description of the problem.
        problem: String,
    },
}

/// Checks that labels and predictions have the same number of rows, and that the labels are classes.
fn check_labels(labels: &[u32], predictions: usize, classes: usize) -> Result<(), EvaluateError> {
    if labels.len() != predictions {
        return Err(EvaluateError::Length { labels: labels.len(), predictions });
    }
    if labels.is_empty() {
        return Err(EvaluateError::Empty);
    }
    check_classes(labels, "label", classes)
}

fn check_classes(values: &[u32], what: &'static str, classes: usize) -> Result<(), EvaluateError> {
    match values.iter().position(|&class| class as usize >= classes) {
        Some(row) => Err(EvaluateError::Class { row, what, class: values[row], classes }),
        None => Ok(()),
    }
}

// Run the README's example as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
