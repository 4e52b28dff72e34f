//! The table of metrics: everything that is known of a measured value, said once. Records, tables, LaTeX, pages,
//! tolerances, comparisons, ranks and figures take names, headings, units and decimals from here. A new metric is an
//! entry in [`table`] and the definition that its entry calls; what the runner measures is measured in the runner.

mod table;

use table::METRICS;

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
    /// The unit of its values.
    pub unit: Unit,
    /// Which values are better.
    pub direction: Direction,
    /// The least and the largest value that can be.
    pub bounds: (f64, f64),
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

/// The unit of values.
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
    /// Microseconds.
    pub const MICROSECONDS: Self = Self { name: "µs", ..Self::SECONDS };
    /// Energy.
    pub const JOULES: Self = Self { name: "J", ..Self::SECONDS };
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

/// Metrics are identified by their names; a part's has that of the whole, and counts the same.
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

    /// What a decision costs, asked about 1, 32 and 1,000 flows at once: median, tail and energy per flow.
    pub const DECISIONS: [[Self; 3]; 3] = [
        [Self::DECISION_1_MICROSECONDS, Self::DECISION_1_TAIL_MICROSECONDS, Self::DECISION_1_JOULES],
        [Self::DECISION_32_MICROSECONDS, Self::DECISION_32_TAIL_MICROSECONDS, Self::DECISION_32_JOULES],
        [Self::DECISION_1000_MICROSECONDS, Self::DECISION_1000_TAIL_MICROSECONDS, Self::DECISION_1000_JOULES],
    ];

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
            let endings = ["_seconds", "_microseconds", "_per_second", "_memory_bytes", "_joules"];
            let by_name = endings.iter().any(|ending| format!("_{}", metric.key).ends_with(ending));
            assert_eq!(metric.of_machine, by_name, "{}", metric.key);
            assert_eq!(metric.is_time(), metric.key.ends_with("_seconds"), "{}", metric.key);
        }
    }
}
