//! The table itself: an entry per metric, and templates shared by several of them.

use super::{Direction, Metric, Source, Unit};
use crate::ConfusionMatrix;

const SCORE: Metric = Metric {
    key: "",
    heading: "",
    label: "",
    unit: Unit::NUMBER,
    direction: Direction::Higher,
    bounds: (0.0, 1.0),
    undefined: "",
    of_machine: false,
    mean_of: None,
    resampled: None,
    source: Source::Fit,
};
/// Template for values without an upper bound.
const AMOUNT: Metric = Metric { bounds: (0.0, f64::INFINITY), ..SCORE };
const COUNT: Metric = Metric { unit: Unit::COUNT, direction: Direction::Neither, ..AMOUNT };
const SECONDS: Metric = Metric { unit: Unit::SECONDS, direction: Direction::Lower, of_machine: true, ..AMOUNT };
const MICROSECONDS: Metric = Metric { unit: Unit::MICROSECONDS, ..SECONDS };
const MEMORY: Metric = Metric { unit: Unit::MEGABYTES, ..SECONDS };

/// Defines a constant for each entry, and the list of all in this order.
macro_rules! metrics {
    ($($name:ident = $metric:expr;)*) => {
        #[allow(missing_docs, reason = "entries are self-explanatory")]
        impl Metric {
            $(pub const $name: Metric = $metric;)*
        }

        /// All metrics: of the whole test set, of its classes, of the fit; the first two in the order of records.
        pub(super) const METRICS: &[Metric] = &[$(Metric::$name),*];
    };
}

metrics! {
    // --- the whole test set ---
    ACCURACY = Metric {
        key: "accuracy",
        heading: "accuracy",
        label: "accuracy",
        resampled: Some(ConfusionMatrix::accuracy),
        source: Source::TestSet(|metrics| Some(metrics.accuracy)),
        ..SCORE
    };
    BALANCED_ACCURACY = Metric {
        key: "balanced_accuracy",
        heading: "balanced",
        label: "balanced accuracy",
        source: Source::TestSet(|metrics| Some(metrics.balanced_accuracy)),
        ..SCORE
    };
    MATTHEWS_CORRELATION = Metric {
        key: "matthews_correlation",
        heading: "MCC",
        label: "Matthews correlation",
        bounds: (-1.0, 1.0),
        source: Source::TestSet(|metrics| metrics.matthews_correlation),
        ..SCORE
    };
    MACRO_PRECISION = Metric {
        key: "macro_precision",
        heading: "precision",
        label: "macro precision",
        mean_of: Some((&Metric::PRECISION, &Metric::UNDEFINED_PRECISION_CLASSES)),
        source: Source::TestSet(|metrics| Some(metrics.macro_average.precision)),
        ..SCORE
    };
    MACRO_RECALL = Metric {
        key: "macro_recall",
        heading: "recall",
        label: "macro recall",
        mean_of: Some((&Metric::RECALL, &Metric::UNDEFINED_RECALL_CLASSES)),
        source: Source::TestSet(|metrics| Some(metrics.macro_average.recall)),
        ..SCORE
    };
    MACRO_F1 = Metric {
        key: "macro_f1",
        heading: "F1",
        label: "macro F1",
        mean_of: Some((&Metric::F1, &Metric::UNDEFINED_F1_CLASSES)),
        resampled: Some(|matrix| matrix.macro_average().f1),
        source: Source::TestSet(|metrics| Some(metrics.macro_average.f1)),
        ..SCORE
    };
    WEIGHTED_PRECISION = Metric {
        key: "weighted_precision",
        heading: "precision",
        label: "weighted precision",
        mean_of: Some((&Metric::PRECISION, &Metric::UNDEFINED_PRECISION_CLASSES)),
        source: Source::TestSet(|metrics| Some(metrics.weighted_average.precision)),
        ..SCORE
    };
    WEIGHTED_RECALL = Metric {
        key: "weighted_recall",
        heading: "recall",
        label: "weighted recall",
        mean_of: Some((&Metric::RECALL, &Metric::UNDEFINED_RECALL_CLASSES)),
        source: Source::TestSet(|metrics| Some(metrics.weighted_average.recall)),
        ..SCORE
    };
    WEIGHTED_F1 = Metric {
        key: "weighted_f1",
        heading: "F1",
        label: "weighted F1",
        mean_of: Some((&Metric::F1, &Metric::UNDEFINED_F1_CLASSES)),
        source: Source::TestSet(|metrics| Some(metrics.weighted_average.f1)),
        ..SCORE
    };
    MICRO_PRECISION = Metric {
        key: "micro_precision",
        heading: "precision",
        label: "micro precision",
        source: Source::TestSet(|metrics| Some(metrics.micro_average.precision)),
        ..SCORE
    };
    MICRO_RECALL = Metric {
        key: "micro_recall",
        heading: "recall",
        label: "micro recall",
        source: Source::TestSet(|metrics| Some(metrics.micro_average.recall)),
        ..SCORE
    };
    MICRO_F1 = Metric {
        key: "micro_f1",
        heading: "F1",
        label: "micro F1",
        source: Source::TestSet(|metrics| Some(metrics.micro_average.f1)),
        ..SCORE
    };
    MACRO_ROC_AUC = Metric {
        key: "macro_roc_auc",
        heading: "ROC AUC",
        label: "macro ROC AUC",
        source: Source::Probabilities(|metrics| metrics.macro_roc_auc),
        ..SCORE
    };
    MACRO_AVERAGE_PRECISION = Metric {
        key: "macro_average_precision",
        heading: "avg. precision",
        label: "macro average precision",
        source: Source::Probabilities(|metrics| metrics.macro_average_precision),
        ..SCORE
    };
    LOG_LOSS = Metric {
        key: "log_loss",
        heading: "log loss",
        label: "log loss",
        direction: Direction::Lower,
        source: Source::Probabilities(|metrics| Some(metrics.log_loss)),
        ..AMOUNT
    };
    EXPECTED_CALIBRATION_ERROR = Metric {
        key: "expected_calibration_error",
        heading: "calibration error",
        label: "expected calibration error",
        direction: Direction::Lower,
        source: Source::Probabilities(|metrics| Some(metrics.expected_calibration_error)),
        ..SCORE
    };
    UNDEFINED_PRECISION_CLASSES = Metric {
        key: "undefined_precision_classes",
        label: "classes without a precision",
        source: Source::TestSet(|metrics| Some(metrics.classes_without(|scores| scores.precision))),
        ..COUNT
    };
    UNDEFINED_RECALL_CLASSES = Metric {
        key: "undefined_recall_classes",
        label: "classes without a recall",
        source: Source::TestSet(|metrics| Some(metrics.classes_without(|scores| scores.recall))),
        ..COUNT
    };
    UNDEFINED_F1_CLASSES = Metric {
        key: "undefined_f1_classes",
        label: "classes without an F1",
        source: Source::TestSet(|metrics| Some(metrics.classes_without(|scores| scores.f1))),
        ..COUNT
    };

    // --- one class ---
    PRECISION = Metric {
        key: "precision",
        heading: "precision",
        label: "precision",
        undefined: "was never predicted",
        source: Source::Class(|scores| scores.precision),
        ..SCORE
    };
    RECALL = Metric {
        key: "recall",
        heading: "recall",
        label: "recall",
        undefined: "has no test flow",
        source: Source::Class(|scores| scores.recall),
        ..SCORE
    };
    F1 = Metric {
        key: "f1",
        heading: "F1",
        label: "F1",
        undefined: "has no test flow and was never predicted",
        source: Source::Class(|scores| scores.f1),
        ..SCORE
    };
    SUPPORT = Metric {
        key: "support",
        heading: "support",
        label: "test flows",
        source: Source::Class(|scores| Some(scores.support as f64)),
        ..COUNT
    };
    ROC_AUC = Metric {
        key: "roc_auc",
        heading: "ROC AUC",
        label: "ROC AUC",
        undefined: "has no test flow, or every one",
        source: Source::ClassProbabilities(|metrics, class| metrics.roc_auc[class]),
        ..SCORE
    };
    AVERAGE_PRECISION = Metric {
        key: "average_precision",
        heading: "avg. precision",
        label: "average precision",
        undefined: "has no test flow",
        source: Source::ClassProbabilities(|metrics, class| metrics.average_precision[class]),
        ..SCORE
    };
    CONFUSION = Metric { key: "confusion", label: "flows by class and prediction", source: Source::ClassPair, ..COUNT };

    // --- a fit: what it read, how large its model is, what it cost ---
    TRAINING_FLOWS = Metric { key: "training_flows", label: "training flows", ..COUNT };
    VALIDATION_FLOWS = Metric { key: "validation_flows", label: "validation flows", ..COUNT };
    TEST_FLOWS = Metric { key: "test_flows", label: "test flows", ..COUNT };
    MODEL_BYTES = Metric {
        key: "model_bytes",
        heading: "model (kB)",
        label: "Size of the stored model",
        unit: Unit::KILOBYTES,
        direction: Direction::Lower,
        ..SCORE
    };
    FIT_WALL_SECONDS =
        Metric { key: "fit_wall_seconds", heading: "fit (s)", label: "Time of one fit", ..SECONDS };
    FIT_CPU_SECONDS =
        Metric { key: "fit_cpu_seconds", heading: "fit CPU (s)", label: "CPU time of a fit", ..SECONDS };
    FIT_PEAK_MEMORY_BYTES =
        Metric { key: "fit_peak_memory_bytes", heading: "memory (MB)", label: "Peak memory of a fit", ..MEMORY };
    PREDICT_WALL_SECONDS =
        Metric { key: "predict_wall_seconds", heading: "predict (s)", label: "Time of prediction", ..SECONDS };
    PREDICT_CPU_SECONDS = Metric {
        key: "predict_cpu_seconds",
        heading: "predict CPU (s)",
        label: "CPU time of prediction",
        ..SECONDS
    };
    PREDICT_PEAK_MEMORY_BYTES = Metric {
        key: "predict_peak_memory_bytes",
        heading: "predict memory (MB)",
        label: "Peak memory of prediction",
        ..MEMORY
    };
    PREDICT_FLOWS_PER_SECOND = Metric {
        key: "predict_flows_per_second",
        heading: "flows/s",
        label: "Prediction",
        unit: Unit::FLOWS_PER_SECOND,
        direction: Direction::Higher,
        ..SECONDS
    };
    // --- cost of a decision, by the number of flows classified at a time ---
    DECISION_1_MICROSECONDS = Metric {
        key: "decision_1_microseconds",
        heading: "1 flow (µs)",
        label: "Time per decision, one flow at a time",
        ..MICROSECONDS
    };
    DECISION_1_TAIL_MICROSECONDS = Metric {
        key: "decision_1_tail_microseconds",
        heading: "1 flow, 99 % (µs)",
        label: "99th percentile of the time per decision, one flow at a time",
        ..MICROSECONDS
    };
    DECISION_1_JOULES = Metric {
        key: "decision_1_joules",
        heading: "1 flow (J)",
        label: "Energy per decision, one flow at a time",
        unit: Unit::JOULES,
        ..SECONDS
    };
    DECISION_32_MICROSECONDS = Metric {
        key: "decision_32_microseconds",
        heading: "32 flows (µs each)",
        label: "Time per decision, 32 flows at a time",
        ..MICROSECONDS
    };
    DECISION_32_TAIL_MICROSECONDS = Metric {
        key: "decision_32_tail_microseconds",
        heading: "32 flows, 99 % (µs each)",
        label: "99th percentile of the time per decision, 32 flows at a time",
        ..MICROSECONDS
    };
    DECISION_32_JOULES = Metric {
        key: "decision_32_joules",
        heading: "32 flows (J each)",
        label: "Energy per decision, 32 flows at a time",
        unit: Unit::JOULES,
        ..SECONDS
    };
    DECISION_1000_MICROSECONDS = Metric {
        key: "decision_1000_microseconds",
        heading: "1,000 flows (µs each)",
        label: "Time per decision, 1,000 flows at a time",
        ..MICROSECONDS
    };
    DECISION_1000_TAIL_MICROSECONDS = Metric {
        key: "decision_1000_tail_microseconds",
        heading: "1,000 flows, 99 % (µs each)",
        label: "99th percentile of the time per decision, 1,000 flows at a time",
        ..MICROSECONDS
    };
    DECISION_1000_JOULES = Metric {
        key: "decision_1000_joules",
        heading: "1,000 flows (J each)",
        label: "Energy per decision, 1,000 flows at a time",
        unit: Unit::JOULES,
        ..SECONDS
    };
    DECISION_MEMORY_BYTES = Metric {
        key: "decision_memory_bytes",
        heading: "its memory (MB)",
        label: "Memory of the loaded model",
        ..MEMORY
    };
    FAILED = Metric { key: "failed", label: "failed fits", source: Source::Part, ..COUNT };
    PRETRAINING_PACKETS = Metric { key: "pretraining_packets", label: "pre-training packets", ..COUNT };
    PRETRAINING_PACKETS_OF_PART =
        Metric { key: "pretraining_packets", label: "pre-training packets", source: Source::Part, ..COUNT };
    PRETRAINING_EXCLUDED_FLOWS =
        Metric { key: "pretraining_excluded_flows", label: "flows excluded from pre-training", ..COUNT };
    PRETRAINING_EXCLUDED_PACKETS =
        Metric { key: "pretraining_excluded_packets", label: "packets excluded from pre-training", ..COUNT };
    PRETRAINING_SEEN_TEST_FLOWS =
        Metric { key: "pretraining_seen_test_flows", label: "test flows seen in pre-training", ..COUNT };
    PRETRAINING_SEEN_VALIDATION_FLOWS =
        Metric { key: "pretraining_seen_validation_flows", label: "validation flows seen in pre-training", ..COUNT };
    TUNING_MACRO_F1 =
        Metric { key: "tuning_macro_f1", heading: "validation F1", label: "macro F1 of a setting", ..SCORE };
    TUNING_CHOSEN_MACRO_F1 =
        Metric { key: "tuning_chosen_macro_f1", label: "macro F1 of the chosen setting", ..Metric::TUNING_MACRO_F1 };
    TUNING_TRIALS = Metric { key: "tuning_trials", label: "settings tried", ..COUNT };
    TUNING_WALL_SECONDS = Metric { key: "tuning_wall_seconds", label: "Time of tuning", ..SECONDS };

    // --- a stage of a fit; for a training curve, with an epoch ---
    WALL_SECONDS = Metric { key: "wall_seconds", label: "time", source: Source::Stage, ..SECONDS };
    SAMPLES_PER_SECOND = Metric {
        key: "samples_per_second",
        label: "rate",
        unit: Unit::SAMPLES_PER_SECOND,
        direction: Direction::Higher,
        source: Source::Stage,
        ..SECONDS
    };
    TRAINING_LOSS =
        Metric { key: "training_loss", label: "loss", direction: Direction::Lower, source: Source::Stage, ..AMOUNT };
    VALIDATION_LOSS =
        Metric { key: "validation_loss", label: "loss", direction: Direction::Lower, source: Source::Stage, ..AMOUNT };
    VALIDATION_MACRO_F1 = Metric {
        key: "validation_macro_f1",
        heading: "validation F1",
        label: "macro F1",
        source: Source::Stage,
        ..SCORE
    };
}
