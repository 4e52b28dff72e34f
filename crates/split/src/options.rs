//! Options that determine how flows are split (`[split]` in an experiment), and which keys can be combined.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Sampling, SplitError};
use etcbench_storage::declarative;

/// How flows are assigned to parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitMethod {
    /// Each class's flows at random, in the given fractions.
    #[default]
    Stratified,
    /// Whole groups, so that none is in two parts; drawn at random, each equally often over the seeds.
    Grouped,
    /// Each class's flows by start time: the earliest for training, the latest for testing. Uses no randomness.
    Temporal,
    /// Folds, stratified by class and, if `group` is given, of whole groups; each is the test set once.
    KFold,
    /// Tests on the flows of whole datasets and trains on those of the others, some of which are used for validation.
    Dataset,
    /// According to a split file; the same for every seed if the file has no seeds.
    File,
    /// As the dataset's publisher divided it, which its definition states; validation flows are drawn from the training
    /// flows if none are published.
    Published,
}

impl SplitMethod {
    /// Returns the name used in experiment files.
    pub fn name(self) -> &'static str {
        match self {
            SplitMethod::Stratified => "stratified",
            SplitMethod::Grouped => "grouped",
            SplitMethod::Temporal => "temporal",
            SplitMethod::KFold => "k_fold",
            SplitMethod::Dataset => "dataset",
            SplitMethod::File => "file",
            SplitMethod::Published => "published",
        }
    }
}

/// The kind of group: flows that stay in one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// All flows of a capture file.
    #[default]
    Capture,
    /// All flows whose first packet went to the same address: the server's, unless the capture began in the middle of
    /// the flow.
    Host,
    /// All flows of a capture between the same two endpoints (addresses, ports, transport): a connection split by
    /// timeouts, or the directions of unidirectional flows.
    Connection,
}

impl GroupBy {
    /// Returns the name used in experiment files.
    pub fn name(self) -> &'static str {
        match self {
            GroupBy::Capture => "capture",
            GroupBy::Host => "host",
            GroupBy::Connection => "connection",
        }
    }
}

/// How to treat a class that is too small: with fewer flows than [`SplitOptions::minimum_class_flows`], or with too few
/// flows or groups for the method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmallClasses {
    /// Reject the experiment, with an error that names the class.
    #[default]
    Error,
    /// Run the experiment without the class; the results report it.
    LeaveOut,
}

/// How to treat a class with fewer groups than folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FewGroups {
    /// Reject the experiment, with an error that names the class.
    #[default]
    Error,
    /// Spread its groups over as many folds as it has groups, so some test parts have no flow of the class. Every group
    /// is still tested once, and no fold has all groups of a class.
    Spread,
}

/// Options of the split. Every key is optional; a key that the method does not use is an error.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SplitOptions {
    /// The method; `stratified` by default.
    pub method: SplitMethod,
    /// Fraction of the flows to fit on; 0.8 by default. Not for `k_fold`, where it follows from the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<f64>,
    /// Fraction of the flows for early stopping; 0.1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<f64>,
    /// Fraction of the flows to evaluate on; 0.1 by default. Not for `k_fold`, where it is one fold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<f64>,
    /// For `grouped`: the kind of group; `capture` by default. For `k_fold`: folds consist of whole groups of this
    /// kind; of single flows by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupBy>,
    /// For `k_fold`: number of folds, at least 2; 5 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<usize>,
    /// For `k_fold`: how many times to divide the flows into folds, at least 1; 1 by default. The splits of the first
    /// division come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<usize>,
    /// For `k_fold` with `group`: how to treat a class with fewer groups than folds; `error` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub few_groups: Option<FewGroups>,
    /// For `dataset`: the experiment's datasets to test on; the others are for training.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test_datasets: Vec<String>,
    /// For `file`: the split file, relative to the project's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Minimum number of flows of a class, in addition to what the method needs of every class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_class_flows: Option<usize>,
    /// How to treat classes with fewer flows than `minimum_class_flows`, or with too few flows or groups for the
    /// method; `error` by default. For `published` and `file`, which state the parts, only with `minimum_class_flows`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub small_classes: Option<SmallClasses>,
    /// Maximum number of training flows per class, drawn at random with the run's seed; a smaller sample is a subset of
    /// a larger one. All by default. Validation and test parts are not affected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training_flows_per_class: Option<usize>,
    /// Resampling of a training part whose classes differ in size; `none` by default. Validation and test parts are not
    /// affected.
    #[serde(skip_serializing_if = "Sampling::is_none")]
    pub sampling: Sampling,
}

/// The fraction of each part; all are above 0, and sum to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fractions {
    /// Fraction to fit on.
    pub train: f64,
    /// Fraction for early stopping.
    pub validation: f64,
    /// Fraction to evaluate on.
    pub test: f64,
}

impl Fractions {
    /// The fractions where none are given.
    pub const DEFAULT: Self = Self { train: 0.8, validation: 0.1, test: 0.1 };
}

/// Maximum number of folds times repeats per seed; each is a fit of every model.
const MAXIMUM_SPLITS: usize = 1000;

impl SplitOptions {
    /// Checks that the options are compatible.
    ///
    /// # Errors
    /// A key that the method does not use or that has no effect, a fraction that is not above 0, fractions that do not sum to 1.
    pub fn validate(&self) -> Result<(), SplitError> {
        let method = self.method;
        let takes_shares = matches!(method, SplitMethod::Stratified | SplitMethod::Grouped | SplitMethod::Temporal);
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
                "few_groups" => "is only for method \"k_fold\" with `group`; remove it".to_owned(),
                "train" | "test" if method == SplitMethod::KFold => {
                    "follows from folds with method \"k_fold\"; remove it".to_owned()
                }
                "train" | "test" if method == SplitMethod::Dataset => {
                    "follows from the datasets with method \"dataset\"; remove it".to_owned()
                }
                "train" | "test" if method == SplitMethod::Published => {
                    "follows from the published parts with method \"published\"; remove it".to_owned()
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
        let parts_are_stated = matches!(method, SplitMethod::Published | SplitMethod::File);
        let leaves_out = self.small_classes == Some(SmallClasses::LeaveOut);
        if parts_are_stated && leaves_out && self.minimum_class_flows.is_none() {
            let problem = format!(
                "is \"leave_out\", which has no effect with method {:?} unless minimum_class_flows is given, because the \
                 parts are stated and not drawn; remove it, or name the other classes in selection.classes",
                method.name()
            );
            return Err(SplitError::Options { key: "small_classes", problem });
        }
        if let Some(count) = self.count().filter(|&count| count > MAXIMUM_SPLITS) {
            let key = if self.repeats.is_some() { "repeats" } else { "folds" };
            return Err(SplitError::Options {
                key,
                problem: format!("results in {count} splits per seed; the maximum is {MAXIMUM_SPLITS}"),
            });
        }
        if method == SplitMethod::Dataset {
            if self.test_datasets.is_empty() {
                let problem = "is missing; list the datasets that method \"dataset\" tests on".to_owned();
                return Err(SplitError::Options { key: "test_datasets", problem });
            }
            if let Some(name) = declarative::first_repeated(&self.test_datasets) {
                let problem = format!("lists {name:?} twice; list each once");
                return Err(SplitError::Options { key: "test_datasets", problem });
            }
        }
        if method == SplitMethod::File {
            return self.path().map(|_| ());
        }
        self.fractions().map(|_| ())
    }

    /// Returns the fraction of each part; with `k_fold`, one fold is the test part.
    pub(super) fn fractions(&self) -> Result<Fractions, SplitError> {
        let error = |key, problem: String| Err(SplitError::Options { key, problem });
        let usual = Fractions::DEFAULT;
        let validation = self.validation.unwrap_or(usual.validation);
        let fractions = if self.method == SplitMethod::KFold {
            let folds = self.fold_count();
            if folds < 2 {
                return error("folds", format!("is {folds}; give at least 2"));
            }
            let test = 1.0 / folds as f64;
            Fractions { train: 1.0 - test - validation, validation, test }
        } else if matches!(self.method, SplitMethod::Dataset | SplitMethod::Published) {
            // The number of test flows follows from the datasets or their parts.
            let test = f64::EPSILON;
            Fractions { train: 1.0 - test - validation, validation, test }
        } else {
            Fractions { train: self.train.unwrap_or(usual.train), validation, test: self.test.unwrap_or(usual.test) }
        };
        for (key, value) in [("validation", fractions.validation), ("train", fractions.train), ("test", fractions.test)]
        {
            // The first condition also rejects NaN.
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

    /// Returns the number of splits per seed: folds times repeats for `k_fold`, else one; `None` for `file`, because it
    /// depends on the file.
    pub fn count(&self) -> Option<usize> {
        match self.method {
            SplitMethod::KFold => Some(self.fold_count().saturating_mul(self.repeat_count())),
            SplitMethod::File => None,
            _ => Some(1),
        }
    }

    /// Returns the same options with a relative path of a split file resolved against `folder`.
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
            problem: "is missing; name the split file that method \"file\" reads".to_owned(),
        })
    }
}
