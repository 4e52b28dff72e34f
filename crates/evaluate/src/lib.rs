//! Evaluation: labels and predictions become metrics with exact definitions and zero-division rules.
//! No input or output happens here.
//!
//! [`Metric`] is the table of what is measured; [`Metrics`] holds what is measured on one test set; [`Summary`] says what
//! several runs of it have in common; [`corrected_resampled_mean`] what splits of the same flows have; [`mcnemar`] asks whether two models differ on the same test set, [`wilcoxon`]
//! whether they do over folds, [`friedman`] whether several do over tables, and [`bootstrap_intervals`] how far one test
//! set can be trusted.

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
pub use open_set::{OpenScore, OpenSet};
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
    /// Labels and predictions are not about the same rows.
    #[error("{labels} labels but {predictions} predictions; both must be about the same rows")]
    Length {
        /// Number of true labels.
        labels: usize,
        /// Number of predicted rows.
        predictions: usize,
    },
    /// A label that is not a class.
    #[error("row {row}: {what} {class} is not below the number of classes, {classes}")]
    Class {
        /// The row, from 0.
        row: usize,
        /// `label` or `prediction`.
        what: &'static str,
        /// The value found.
        class: u32,
        /// The number of classes.
        classes: usize,
    },
    /// Something that is not a distribution over the classes.
    #[error("row {row}: {problem}; a model must predict probabilities from 0 to 1 that sum to 1")]
    Probabilities {
        /// The row, from 0.
        row: usize,
        /// What was found.
        problem: String,
    },
}

/// Checks that labels and predictions are about the same rows and classes.
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

// The README's example is tested like any other.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
