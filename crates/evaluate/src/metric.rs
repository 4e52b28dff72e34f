//! The table of metrics: the single place for all properties of a measured value. Records, tables, LaTeX, pages,
//! tolerances, comparisons, ranks and figures use the names, headings, units and decimals defined here. To add a
//! metric, add an entry to [`table`] and the definition that the entry calls; measurements made by the runner are
//! defined in the runner.

mod table;

use table::METRICS;

use super::{ClassScores, ConfusionMatrix, Metrics, ProbabilisticMetrics};

/// Properties of a metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Name in records, CSV columns, tolerances and on the command line. For a metric of a stage or a part, the name
    /// without the stage before it or the part after it: see [`Metric::of_stage`] and [`Metric::of_part`].
    pub key: &'static str,
    /// Heading of its column in a table of related metrics.
    pub heading: &'static str,
    /// Name used on its own, in a title or at an axis.
    pub label: &'static str,
    /// Unit of its values.
    pub unit: Unit,
    /// Which values are better.
    pub direction: Direction,
    /// Smallest and largest possible value.
    pub bounds: (f64, f64),
    /// What an undefined value means for its class, such as "was never predicted"; empty if the metric is not of a
    /// class, or always defined.
    pub undefined: &'static str,
    /// Whether it depends on the machine that measured it, so that repeating the run yields another value.
    pub of_machine: bool,
    /// For a mean over classes: the metric that is averaged, and the metric that counts the classes whose undefined
    /// value counts as 0.
    pub mean_of: Option<(&'static Metric, &'static Metric)>,
    /// Computes it from a confusion matrix, if records contain its bootstrap interval.
    pub resampled: Option<fn(&ConfusionMatrix) -> f64>,
    source: Source,
}

/// The unit of values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// Name; empty for plain numbers.
    pub name: &'static str,
    /// Number of recorded units in one displayed unit.
    pub size: f64,
    /// Number of decimals shown; `None` for three significant digits.
    pub decimals: Option<usize>,
}

impl Unit {
    /// A fraction, a correlation, a loss.
    pub const NUMBER: Self = Self { name: "", size: 1.0, decimals: Some(3) };
    /// An integer count.
    pub const COUNT: Self = Self { decimals: Some(0), ..Self::NUMBER };
    /// Seconds.
    pub const SECONDS: Self = Self { name: "seconds", size: 1.0, decimals: None };
    /// Microseconds.
    pub const MICROSECONDS: Self = Self { name: "µs", ..Self::SECONDS };
    /// Energy.
    pub const JOULES: Self = Self { name: "J", ..Self::SECONDS };
    /// A rate of flows.
    pub const FLOWS_PER_SECOND: Self = Self { name: "flows per second", ..Self::SECONDS };
    /// A rate of a stage's samples.
    pub const SAMPLES_PER_SECOND: Self = Self { name: "samples per second", ..Self::SECONDS };
    /// Bytes in memory.
    pub const MEGABYTES: Self = Self { name: "MB", size: 1e6, ..Self::SECONDS };
    /// Size of a file in bytes.
    pub const KILOBYTES: Self = Self { name: "kB", size: 1e3, ..Self::SECONDS };
}

/// Which values are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Higher is better.
    Higher,
    /// Lower is better.
    Lower,
    /// Neither: the metric is descriptive.
    Neither,
}

/// Where a value comes from, and so what it describes.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// The whole test set, from its predictions.
    TestSet(fn(&Metrics) -> Option<f64>),
    /// The whole test set, from its probabilities.
    Probabilities(fn(&ProbabilisticMetrics) -> Option<f64>),
    /// One class, from predictions.
    Class(fn(&ClassScores) -> Option<f64>),
    /// One class, from probabilities; the class is passed by its index.
    ClassProbabilities(fn(&ProbabilisticMetrics, usize) -> Option<f64>),
    /// A pair of classes, from predictions.
    ClassPair,
    /// One fit, measured by the runner.
    Fit,
    /// One stage of a fit; its name precedes the key.
    Stage,
    /// One part of something; its name follows the key.
    Part,
}

/// Metrics are identified by their names; a part's metric has the name of the whole, and is equal to it.
impl PartialEq for Metric {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

/// Returns the name in records.
impl AsRef<str> for Metric {
    fn as_ref(&self) -> &str {
        self.key
    }
}

impl Metric {
    /// Returns the metric with a name in records, or `None` if there is none. Bootstrap intervals are not metrics of
    /// their own.
    pub fn named(name: &str) -> Option<Self> {
        let exact = METRICS.iter().find(|metric| !metric.is_of_stage() && metric.key == name);
        let is_of = |metric: &&Metric| match metric.source {
            Source::Stage => metric.stage_in(name).is_some(),
            Source::Part => metric.part_in(name).is_some(),
            _ => false,
        };
        exact.or_else(|| METRICS.iter().find(is_of)).copied()
    }

    /// Cost of a decision with 1, 32 and 1,000 flows at a time: median, tail and energy per flow.
    pub const DECISIONS: [[Self; 3]; 3] = [
        [Self::DECISION_1_MICROSECONDS, Self::DECISION_1_TAIL_MICROSECONDS, Self::DECISION_1_JOULES],
        [Self::DECISION_32_MICROSECONDS, Self::DECISION_32_TAIL_MICROSECONDS, Self::DECISION_32_JOULES],
        [Self::DECISION_1000_MICROSECONDS, Self::DECISION_1000_TAIL_MICROSECONDS, Self::DECISION_1000_JOULES],
    ];

    /// Returns the metrics by which predictions are judged: those of the whole test set, without counts, in the order
    /// of records.
    pub fn of_test_set() -> impl Iterator<Item = Self> {
        let judges = |metric: &&Self| matches!(metric.source, Source::TestSet(_) | Source::Probabilities(_));
        METRICS.iter().filter(judges).filter(|metric| metric.direction != Direction::Neither).copied()
    }

    /// Returns the metrics of one class, without counts, in the order of records.
    pub fn of_class() -> impl Iterator<Item = Self> {
        let judges = |metric: &&Self| matches!(metric.source, Source::Class(_) | Source::ClassProbabilities(..));
        METRICS.iter().filter(judges).filter(|metric| metric.direction != Direction::Neither).copied()
    }

    /// Returns the metrics with a bootstrap interval in records.
    pub fn resampled() -> impl Iterator<Item = (Self, fn(&ConfusionMatrix) -> f64)> {
        METRICS.iter().filter_map(|metric| Some((*metric, metric.resampled?)))
    }

    /// Whether it is a metric of one class.
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

    /// Returns its name in records for a stage, such as `encoding_wall_seconds`.
    pub fn of_stage(&self, stage: &str) -> String {
        format!("{stage}_{}", self.key)
    }

    /// Returns the stage in a name built by [`Metric::of_stage`].
    pub fn stage_in<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_suffix(self.key)?.strip_suffix('_').filter(|stage| !stage.is_empty())
    }

    /// Returns its name in records for a part, such as `pretraining_packets_ustc-tfc2016`.
    pub fn of_part(&self, part: &str) -> String {
        format!("{}_{part}", self.key)
    }

    /// Returns the part in a name built by [`Metric::of_part`].
    pub fn part_in<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(self.key)?.strip_prefix('_').filter(|part| !part.is_empty())
    }

    /// Returns the names in records for the ends of its bootstrap interval, the lower end first.
    pub fn bootstrap_names(&self) -> [String; 2] {
        ["low", "high"].map(|end| format!("{}_bootstrap_{end}", self.key))
    }

    /// Returns its value for a whole test set; the outer option is `None` if the metric describes something else, or
    /// needs probabilities that are missing.
    pub(super) fn whole(&self, metrics: &Metrics) -> Option<Option<f64>> {
        match self.source {
            Source::TestSet(value) => Some(value(metrics)),
            Source::Probabilities(value) => Some(value(metrics.probabilistic.as_ref()?)),
            _ => None,
        }
    }

    /// Returns its value for a class, like [`Metric::whole`].
    pub(super) fn class(&self, metrics: &Metrics, class: usize) -> Option<Option<f64>> {
        match self.source {
            Source::Class(value) => Some(value(&metrics.classes[class])),
            Source::ClassProbabilities(value) => Some(value(metrics.probabilistic.as_ref()?, class)),
            _ => None,
        }
    }

    /// Returns all metrics.
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
    fn metrics_that_depend_on_the_machine_are_marked_by_their_unit() {
        for metric in METRICS {
            let endings = ["_seconds", "_microseconds", "_per_second", "_memory_bytes", "_joules"];
            let by_name = endings.iter().any(|ending| format!("_{}", metric.key).ends_with(ending));
            assert_eq!(metric.of_machine, by_name, "{}", metric.key);
            assert_eq!(metric.is_time(), metric.key.ends_with("_seconds"), "{}", metric.key);
        }
    }
}
