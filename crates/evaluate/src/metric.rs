//! The table of metrics: everything that is known of a measured value, said once. Records, tables, LaTeX, pages,
//! tolerances, comparisons, ranks and figures take names, headings, units and decimals from here. A new metric is an
//! entry below and the definition that its entry calls; what the runner measures is measured in the runner.

use super::{ClassScores, ConfusionMatrix, Metrics, ProbabilisticMetrics};

/// What is known of a metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name in records, CSV columns, tolerances and on the command line. Of a stage or a part, what stands after or
    /// before the name of that: see [`Metric::of_stage`] and [`Metric::of_part`].
    pub key: &'static str,
    /// The heading of its column among others of its kind.
    pub heading: &'static str,
    /// What it is called on its own, in a title or at an axis.
    pub label: &'static str,
    /// What its values are told in.
    pub unit: Unit,
    /// Which values are better.
    pub direction: Direction,
    /// What an undefined value says of the class that it is of, such as "was never predicted"; empty where it is of no
    /// class, or always defined.
    pub undefined: &'static str,
    /// Whether it is of the machine that measured it, so that the same run again gives another value.
    pub of_machine: bool,
    /// Of a mean over classes: the metric that it is the mean of, and the one that counts the classes whose undefined
    /// value is 0 in it.
    pub mean_of: Option<(&'static Metric, &'static Metric)>,
    /// How it is computed from a confusion matrix, where records have its bootstrap interval.
    pub resampled: Option<fn(&ConfusionMatrix) -> f64>,
    source: Source,
}

/// What values are told in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// Its name; empty for plain numbers.
    pub name: &'static str,
    /// How many of what records have make one.
    pub size: f64,
    /// Decimals for people; none for three digits that matter.
    pub decimals: Option<usize>,
}

impl Unit {
    /// A share, a correlation, a loss.
    pub const NUMBER: Self = Self { name: "", size: 1.0, decimals: Some(3) };
    /// A whole number of something.
    pub const COUNT: Self = Self { decimals: Some(0), ..Self::NUMBER };
    /// Seconds.
    pub const SECONDS: Self = Self { name: "seconds", size: 1.0, decimals: None };
    /// A rate of flows.
    pub const FLOWS_PER_SECOND: Self = Self { name: "flows per second", ..Self::SECONDS };
    /// A rate of whatever a stage reads.
    pub const SAMPLES_PER_SECOND: Self = Self { name: "samples per second", ..Self::SECONDS };
    /// Bytes in memory.
    pub const MEGABYTES: Self = Self { name: "MB", size: 1e6, ..Self::SECONDS };
    /// Bytes of a file.
    pub const KILOBYTES: Self = Self { name: "kB", size: 1e3, ..Self::SECONDS };
}

/// Which values are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The larger one.
    Higher,
    /// The smaller one.
    Lower,
    /// Neither: it describes, and does not judge.
    Neither,
}

/// Where a value comes from, and so what it is about.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// The whole test set, from its predictions.
    TestSet(fn(&Metrics) -> Option<f64>),
    /// The whole test set, from its probabilities.
    Probabilities(fn(&ProbabilisticMetrics) -> Option<f64>),
    /// One class, from predictions.
    Class(fn(&ClassScores) -> Option<f64>),
    /// One class, from probabilities; the class is given by its index.
    ClassProbabilities(fn(&ProbabilisticMetrics, usize) -> Option<f64>),
    /// A pair of classes, from predictions.
    ClassPair,
    /// One fit, measured by the runner.
    Fit,
    /// One stage of a fit, whose name stands before the key.
    Stage,
    /// One part of something, whose name stands after the key.
    Part,
}

const SCORE: Metric = Metric {
    key: "",
    heading: "",
    label: "",
    unit: Unit::NUMBER,
    direction: Direction::Higher,
    undefined: "",
    of_machine: false,
    mean_of: None,
    resampled: None,
    source: Source::Fit,
};
const COUNT: Metric = Metric { unit: Unit::COUNT, direction: Direction::Neither, ..SCORE };
const SECONDS: Metric = Metric { unit: Unit::SECONDS, direction: Direction::Lower, of_machine: true, ..SCORE };
const MEMORY: Metric = Metric { unit: Unit::MEGABYTES, ..SECONDS };

/// Makes a constant of each entry, and the list of them in this order.
macro_rules! metrics {
    ($($name:ident = $metric:expr;)*) => {
        #[allow(missing_docs, reason = "an entry says what it is")]
        impl Metric {
            $(pub const $name: Metric = $metric;)*
        }

        /// Every metric: of the whole test set, of its classes, of the fit; the first two in the order of records.
        const METRICS: &[Metric] = &[$(Metric::$name),*];
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
        ..SCORE
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
        Metric { key: "fit_cpu_seconds", heading: "fit CPU (s)", label: "Processor time of a fit", ..SECONDS };
    FIT_PEAK_MEMORY_BYTES =
        Metric { key: "fit_peak_memory_bytes", heading: "memory (MB)", label: "Peak memory of a fit", ..MEMORY };
    PREDICT_WALL_SECONDS =
        Metric { key: "predict_wall_seconds", heading: "predict (s)", label: "Time of prediction", ..SECONDS };
    PREDICT_CPU_SECONDS = Metric {
        key: "predict_cpu_seconds",
        heading: "predict CPU (s)",
        label: "Processor time of prediction",
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
    PRETRAINING_PACKETS = Metric { key: "pretraining_packets", label: "packets pre-trained on", ..COUNT };
    PRETRAINING_PACKETS_OF_PART =
        Metric { key: "pretraining_packets", label: "packets pre-trained on", source: Source::Part, ..COUNT };
    PRETRAINING_EXCLUDED_FLOWS =
        Metric { key: "pretraining_excluded_flows", label: "flows kept out of pre-training", ..COUNT };
    PRETRAINING_EXCLUDED_PACKETS =
        Metric { key: "pretraining_excluded_packets", label: "packets kept out of pre-training", ..COUNT };
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

    // --- a stage of a fit, of its training curve with an epoch ---
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
        Metric { key: "training_loss", label: "loss", direction: Direction::Lower, source: Source::Stage, ..SCORE };
    VALIDATION_LOSS =
        Metric { key: "validation_loss", label: "loss", direction: Direction::Lower, source: Source::Stage, ..SCORE };
    VALIDATION_MACRO_F1 = Metric {
        key: "validation_macro_f1",
        heading: "validation F1",
        label: "macro F1",
        source: Source::Stage,
        ..SCORE
    };
}

/// Metrics are told apart by their names; a part's has that of the whole, and counts the same.
impl PartialEq for Metric {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

/// Its name in records.
impl AsRef<str> for Metric {
    fn as_ref(&self) -> &str {
        self.key
    }
}

impl Metric {
    /// The metric of a record's name; none of a name that no record has. Bootstrap intervals are no metrics of their
    /// own.
    pub fn named(name: &str) -> Option<Self> {
        let exact = METRICS.iter().find(|metric| !metric.is_of_stage() && metric.key == name);
        let is_of = |metric: &&Metric| match metric.source {
            Source::Stage => metric.stage_in(name).is_some(),
            Source::Part => metric.part_in(name).is_some(),
            _ => false,
        };
        exact.or_else(|| METRICS.iter().find(is_of)).copied()
    }

    /// What predictions are judged by: the metrics of the whole test set, counts aside, in the order of records.
    pub fn of_test_set() -> impl Iterator<Item = Self> {
        let judges = |metric: &&Self| matches!(metric.source, Source::TestSet(_) | Source::Probabilities(_));
        METRICS.iter().filter(judges).filter(|metric| metric.direction != Direction::Neither).copied()
    }

    /// The metrics of one class, counts aside, in the order of records.
    pub fn of_class() -> impl Iterator<Item = Self> {
        let judges = |metric: &&Self| matches!(metric.source, Source::Class(_) | Source::ClassProbabilities(..));
        METRICS.iter().filter(judges).filter(|metric| metric.direction != Direction::Neither).copied()
    }

    /// The metrics of which records have a bootstrap interval.
    pub fn resampled() -> impl Iterator<Item = (Self, fn(&ConfusionMatrix) -> f64)> {
        METRICS.iter().filter_map(|metric| Some((*metric, metric.resampled?)))
    }

    /// Whether it is of one class.
    pub fn is_of_class(&self) -> bool {
        matches!(self.source, Source::Class(_) | Source::ClassProbabilities(..))
    }

    /// Whether it is a time.
    pub fn is_time(&self) -> bool {
        self.unit == Unit::SECONDS
    }

    fn is_of_stage(&self) -> bool {
        matches!(self.source, Source::Stage)
    }

    /// The name that records have for it of a stage, such as `encoding_wall_seconds`.
    pub fn of_stage(&self, stage: &str) -> String {
        format!("{stage}_{}", self.key)
    }

    /// The stage in a name that [`Metric::of_stage`] made.
    pub fn stage_in<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_suffix(self.key)?.strip_suffix('_').filter(|stage| !stage.is_empty())
    }

    /// The name that records have for it of a part, such as `pretraining_packets_ustc-tfc2016`.
    pub fn of_part(&self, part: &str) -> String {
        format!("{}_{part}", self.key)
    }

    /// The part in a name that [`Metric::of_part`] made.
    pub fn part_in<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(self.key)?.strip_prefix('_').filter(|part| !part.is_empty())
    }

    /// The names that records have for the ends of its bootstrap interval, the lower one first.
    pub fn bootstrap_names(&self) -> [String; 2] {
        ["low", "high"].map(|end| format!("{}_bootstrap_{end}", self.key))
    }

    /// Its value of a whole test set; none where it is of something else, or of probabilities that there are none of.
    pub(super) fn whole(&self, metrics: &Metrics) -> Option<Option<f64>> {
        match self.source {
            Source::TestSet(value) => Some(value(metrics)),
            Source::Probabilities(value) => Some(value(metrics.probabilistic.as_ref()?)),
            _ => None,
        }
    }

    /// Its value of a class, as [`Metric::whole`].
    pub(super) fn class(&self, metrics: &Metrics, class: usize) -> Option<Option<f64>> {
        match self.source {
            Source::Class(value) => Some(value(&metrics.classes[class])),
            Source::ClassProbabilities(value) => Some(value(metrics.probabilistic.as_ref()?, class)),
            _ => None,
        }
    }

    /// All metrics.
    pub(super) fn all() -> &'static [Self] {
        METRICS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_one_entry() {
        for (index, metric) in METRICS.iter().enumerate() {
            let name = match metric.source {
                Source::Stage => metric.of_stage("encoding"),
                Source::Part => metric.of_part("training_part"),
                _ => metric.key.to_owned(),
            };
            let found = Metric::named(&name).unwrap();
            assert_eq!((found.key, found.label), (metric.key, metric.label), "{name}");
            let same = |other: &&Metric| other.key == metric.key && !matches!(other.source, Source::Part);
            assert!(
                METRICS[..index].iter().filter(same).count() == 0 || matches!(metric.source, Source::Part),
                "{name}"
            );
        }
        assert_eq!(Metric::named("classifier_training_validation_macro_f1"), Some(Metric::VALIDATION_MACRO_F1));
        assert_eq!(
            Metric::VALIDATION_MACRO_F1.stage_in("classifier_training_validation_macro_f1"),
            Some("classifier_training")
        );
        for unknown in ["", "macro_f2", "_wall_seconds", "wall_seconds", "accuracy_bootstrap_low"] {
            assert_eq!(Metric::named(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn what_the_machine_decides_is_marked_by_its_unit() {
        for metric in METRICS {
            let endings = ["_seconds", "_per_second", "_memory_bytes"];
            let by_name = endings.iter().any(|ending| format!("_{}", metric.key).ends_with(ending));
            assert_eq!(metric.of_machine, by_name, "{}", metric.key);
            assert_eq!(metric.is_time(), metric.key.ends_with("_seconds"), "{}", metric.key);
        }
    }
}
