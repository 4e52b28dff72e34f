//! What decides how flows are split (`[split]` in an experiment), and which keys go together.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Sampling, SplitError};
use etcbench_storage::declarative;

/// How rows find their part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitMethod {
    /// Each class's flows at random, in the fractions asked for.
    #[default]
    Stratified,
    /// Whole groups, so that none is in two parts; drawn at random, each equally often over the seeds.
    Grouped,
    /// Each class's flows by start time: the earliest train, the latest test. Uses no randomness.
    Temporal,
    /// Folds, stratified by class and, where `group` is given, of whole groups; each is the test set once.
    KFold,
    /// The flows of whole datasets are tested, those of the others train; validation flows are some of these.
    Dataset,
    /// As a split file says, whatever the seed where the file does not name seeds.
    File,
}

impl SplitMethod {
    /// The name in experiment files.
    pub fn name(self) -> &'static str {
        match self {
            SplitMethod::Stratified => "stratified",
            SplitMethod::Grouped => "grouped",
            SplitMethod::Temporal => "temporal",
            SplitMethod::KFold => "k_fold",
            SplitMethod::Dataset => "dataset",
            SplitMethod::File => "file",
        }
    }
}

/// What a group is: the flows that stay in one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// All flows of a capture file.
    #[default]
    Capture,
    /// All flows whose first packet went to one address: the server's, unless the capture began in the
    /// middle of the flow.
    Host,
    /// All flows of a capture between the same two endpoints (addresses, ports, transport): a connection that timeouts
    /// cut, or the directions of unidirectional flows.
    Connection,
}

impl GroupBy {
    /// The name in experiment files.
    pub fn name(self) -> &'static str {
        match self {
            GroupBy::Capture => "capture",
            GroupBy::Host => "host",
            GroupBy::Connection => "connection",
        }
    }
}

/// What becomes of a class that is too small: with fewer flows than [`SplitOptions::minimum_class_flows`], or with too
/// few flows or groups for the method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmallClasses {
    /// The experiment is refused, and the class named.
    #[default]
    Error,
    /// The experiment goes on without the class; its results say so.
    LeaveOut,
}

/// What becomes of a class with fewer groups than there are folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FewGroups {
    /// The experiment is refused, and the class named.
    #[default]
    Error,
    /// Its groups are in as many folds as it has groups, so some test parts have no flow of the class. Every group is
    /// still tested once, and no fold has all groups of a class.
    Spread,
}

/// What decides the split. Every key is optional; a key that the method does not use is an error.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SplitOptions {
    /// The method; `stratified` by default.
    pub method: SplitMethod,
    /// Share of the flows to fit on; 0.8 by default. Not for `k_fold`, where it follows from the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<f64>,
    /// Share of the flows for early stopping; 0.1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<f64>,
    /// Share of the flows to measure on; 0.1 by default. Not for `k_fold`, where it is one fold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<f64>,
    /// For `grouped`: what a group is; `capture` by default. For `k_fold`: folds are of whole groups of this
    /// kind; single flows by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupBy>,
    /// For `k_fold`: how many folds, from 2; 5 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<usize>,
    /// For `k_fold`: how often the flows are divided into folds again, from 1, the default. The splits of the
    /// first division come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<usize>,
    /// For `k_fold` with `group`: what becomes of a class with fewer groups than folds; `error` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub few_groups: Option<FewGroups>,
    /// For `dataset`: the experiment's datasets that are tested on; the others train.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test_datasets: Vec<String>,
    /// For `file`: the split file, relative to the project's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The fewest flows that a class must have, beyond what the method needs of every class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_class_flows: Option<usize>,
    /// What becomes of classes with fewer flows than `minimum_class_flows`, or with too few flows or groups for the
    /// method; `error` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub small_classes: Option<SmallClasses>,
    /// The most training flows of each class, drawn at random with the run's seed; fewer are among those of more. All by
    /// default. Validation and test parts stay as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training_flows_per_class: Option<usize>,
    /// What is done to a training part whose classes differ in size; `none` by default. Validation and test
    /// parts stay as they are.
    #[serde(skip_serializing_if = "Sampling::is_none")]
    pub sampling: Sampling,
}

/// The share of each part; all above 0, and together 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fractions {
    /// To fit on.
    pub train: f64,
    /// For early stopping.
    pub validation: f64,
    /// To measure on.
    pub test: f64,
}

/// Most folds times repeats of a seed, each of which is a fit of every model.
const MOST_SPLITS: usize = 1000;

impl SplitOptions {
    /// Checks that the options go together.
    ///
    /// # Errors
    /// A key that the method does not use, a fraction that is not above 0, fractions that do not sum to 1.
    pub fn validate(&self) -> Result<(), SplitError> {
        let method = self.method;
        let takes_shares = !matches!(method, SplitMethod::File | SplitMethod::KFold | SplitMethod::Dataset);
        let given = [
            ("train", self.train.is_some(), takes_shares),
            ("test", self.test.is_some(), takes_shares),
            ("validation", self.validation.is_some(), method != SplitMethod::File),
            ("group", self.group.is_some(), method == SplitMethod::Grouped || method == SplitMethod::KFold),
            ("folds", self.folds.is_some(), method == SplitMethod::KFold),
            ("repeats", self.repeats.is_some(), method == SplitMethod::KFold),
            ("few_groups", self.few_groups.is_some(), method == SplitMethod::KFold && self.group.is_some()),
            ("test_datasets", !self.test_datasets.is_empty(), method == SplitMethod::Dataset),
            ("path", self.path.is_some(), method == SplitMethod::File),
        ];
        if let Some((key, ..)) = given.into_iter().find(|(_, given, used)| *given && !used) {
            let problem = match key {
                "few_groups" => "is for method \"k_fold\" with `group`; remove it".to_owned(),
                "train" | "test" if method == SplitMethod::KFold => {
                    "follows from folds with method \"k_fold\"; remove it".to_owned()
                }
                "train" | "test" if method == SplitMethod::Dataset => {
                    "follows from the datasets with method \"dataset\"; remove it".to_owned()
                }
                _ => format!("is not for method {:?}; remove it", method.name()),
            };
            return Err(SplitError::Options { key, problem });
        }
        for (key, value) in [
            ("repeats", self.repeats),
            ("minimum_class_flows", self.minimum_class_flows),
            ("training_flows_per_class", self.training_flows_per_class),
        ] {
            if value == Some(0) {
                return Err(SplitError::Options { key, problem: "is 0; give at least 1".to_owned() });
            }
        }
        if let Some(count) = self.count().filter(|&count| count > MOST_SPLITS) {
            let key = if self.repeats.is_some() { "repeats" } else { "folds" };
            return Err(SplitError::Options {
                key,
                problem: format!("makes {count} splits of a seed; at most {MOST_SPLITS} are made"),
            });
        }
        if method == SplitMethod::Dataset {
            if self.test_datasets.is_empty() {
                let problem = "is missing; method \"dataset\" tests on the datasets that it names".to_owned();
                return Err(SplitError::Options { key: "test_datasets", problem });
            }
            if let Some(name) = declarative::first_repeated(&self.test_datasets) {
                let problem = format!("lists {name:?} twice; give each once");
                return Err(SplitError::Options { key: "test_datasets", problem });
            }
        }
        if method == SplitMethod::File {
            return self.path().map(|_| ());
        }
        self.fractions().map(|_| ())
    }

    /// The share of each part; with `k_fold` one fold is the test part.
    pub(super) fn fractions(&self) -> Result<Fractions, SplitError> {
        let error = |key, problem: String| Err(SplitError::Options { key, problem });
        let validation = self.validation.unwrap_or(0.1);
        let fractions = if self.method == SplitMethod::KFold {
            let folds = self.fold_count();
            if folds < 2 {
                return error("folds", format!("is {folds}; give at least 2"));
            }
            let test = 1.0 / folds as f64;
            Fractions { train: 1.0 - test - validation, validation, test }
        } else if self.method == SplitMethod::Dataset {
            // How much is tested follows from the datasets.
            let test = f64::EPSILON;
            Fractions { train: 1.0 - test - validation, validation, test }
        } else {
            Fractions { train: self.train.unwrap_or(0.8), validation, test: self.test.unwrap_or(0.1) }
        };
        for (key, value) in [("validation", fractions.validation), ("train", fractions.train), ("test", fractions.test)]
        {
            // The first condition also refuses what is not a number.
            if !(value > 0.0 && value < 1.0) {
                return error(key, format!("is {value}; every part needs a share above 0 and below 1"));
            }
        }
        let sum = fractions.train + fractions.validation + fractions.test;
        if (sum - 1.0).abs() > 1e-9 {
            return error(
                "train",
                format!(
                    "{} + validation {} + test {} = {sum}; the three must sum to 1",
                    fractions.train, fractions.validation, fractions.test
                ),
            );
        }
        Ok(fractions)
    }

    /// How many splits come out of one seed: folds times repeats of `k_fold`, else one; none for `file`, where
    /// the file says it.
    pub fn count(&self) -> Option<usize> {
        match self.method {
            SplitMethod::KFold => Some(self.fold_count().saturating_mul(self.repeat_count())),
            SplitMethod::File => None,
            _ => Some(1),
        }
    }

    /// The same options with the path of a split file taken from `folder` on, where it is relative.
    pub fn relative_to(&self, folder: &Path) -> Self {
        Self { path: self.path.as_ref().map(|path| folder.join(path)), ..self.clone() }
    }

    pub(super) fn fold_count(&self) -> usize {
        self.folds.unwrap_or(5)
    }

    pub(super) fn repeat_count(&self) -> usize {
        self.repeats.unwrap_or(1)
    }

    pub(super) fn path(&self) -> Result<&Path, SplitError> {
        self.path.as_deref().ok_or_else(|| SplitError::Options {
            key: "path",
            problem: "is missing; method \"file\" reads the split from the file that it names".to_owned(),
        })
    }
}
