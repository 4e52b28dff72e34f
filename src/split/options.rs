//! What decides how flows are split (`[split]` in an experiment), and which keys go together.

use serde::{Deserialize, Serialize};

use super::{Sampling, SplitError};

/// How rows find their part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitMethod {
    /// Each class's flows at random, in the fractions asked for.
    #[default]
    Stratified,
    /// Whole groups, so that none is in two parts.
    Grouped,
    /// Each class's flows by start time: the earliest train, the latest test. Uses no randomness.
    Temporal,
    /// Stratified folds; each is the test set once.
    KFold,
}

impl SplitMethod {
    /// The name in experiment files.
    pub fn name(self) -> &'static str {
        match self {
            SplitMethod::Stratified => "stratified",
            SplitMethod::Grouped => "grouped",
            SplitMethod::Temporal => "temporal",
            SplitMethod::KFold => "k_fold",
        }
    }
}

/// What a group is for [`SplitMethod::Grouped`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// All flows of a capture file.
    #[default]
    Capture,
    /// All flows whose first packet went to one address: the server's, unless the capture began in the
    /// middle of the flow.
    Host,
}

impl GroupBy {
    /// The name in experiment files.
    pub fn name(self) -> &'static str {
        match self {
            GroupBy::Capture => "capture",
            GroupBy::Host => "host",
        }
    }
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
    /// For `grouped`: what a group is; `capture` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupBy>,
    /// For `k_fold`: how many folds, from 2; 5 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<usize>,
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

impl SplitOptions {
    /// Checks that the options go together and gives the share of each part.
    ///
    /// # Errors
    /// A key that the method does not use, a fraction that is not above 0, fractions that do not sum to 1.
    pub fn validate(&self) -> Result<Fractions, SplitError> {
        let error = |key, problem: String| Err(SplitError::Options { key, problem });
        let unused = |key, methods: &str| {
            error(key, format!("is only for method {methods}, not {:?}; remove it", self.method.name()))
        };
        if self.group.is_some() && self.method != SplitMethod::Grouped {
            return unused("group", "\"grouped\"");
        }
        if self.folds.is_some() && self.method != SplitMethod::KFold {
            return unused("folds", "\"k_fold\"");
        }
        let validation = self.validation.unwrap_or(0.1);
        let fractions = if self.method == SplitMethod::KFold {
            for (key, value) in [("train", self.train), ("test", self.test)] {
                if value.is_some() {
                    return error(key, "follows from folds with method \"k_fold\"; remove it".to_owned());
                }
            }
            let folds = self.fold_count();
            if folds < 2 {
                return error("folds", format!("is {folds}; give at least 2"));
            }
            let test = 1.0 / folds as f64;
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

    /// How many splits come out: the folds of `k_fold`, else one.
    pub fn count(&self) -> usize {
        if self.method == SplitMethod::KFold { self.fold_count() } else { 1 }
    }

    pub(super) fn fold_count(&self) -> usize {
        self.folds.unwrap_or(5)
    }

    pub(super) fn group_by(&self) -> GroupBy {
        self.group.unwrap_or_default()
    }
}
