//! The parameters of gradient-boosted trees, and which of them the implementations support.

use crate::Implementation;
use serde::{Deserialize, Serialize};

/// `[model.gradient_boosting]`. Defaults are XGBoost's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BoostingParameters {
    /// Boosting rounds; default 100.
    pub rounds: usize,
    /// Maximum depth of a tree; default 6.
    pub depth: usize,
    /// Factor applied to every tree's output; default 0.3.
    pub learning_rate: f64,
    /// Share of the rows that each tree sees; default 1.
    pub subsample: f64,
    /// Share of the columns that each tree sees; default 1.
    pub column_sample: f64,
    /// L1 penalty on leaf values; default 0.
    pub l1: f64,
    /// L2 penalty on leaf values; default 1.
    pub l2: f64,
    /// Minimum sum of second derivatives in a leaf; default 1.
    pub minimum_child_weight: f64,
    /// Minimum gain of a split; default 0.
    pub minimum_split_loss: f64,
    /// Maximum histogram bins per column; default 256. A column with no more distinct values than that is split
    /// exactly.
    pub maximum_bins: usize,
    /// Stop after this many rounds without a lower validation loss and keep the best round; unset by default, which
    /// keeps all rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping_rounds: Option<usize>,
}

impl Default for BoostingParameters {
    fn default() -> Self {
        Self {
            rounds: 100,
            depth: 6,
            learning_rate: 0.3,
            subsample: 1.0,
            column_sample: 1.0,
            l1: 0.0,
            l2: 1.0,
            minimum_child_weight: 1.0,
            minimum_split_loss: 0.0,
            maximum_bins: 256,
            early_stopping_rounds: None,
        }
    }
}

/// Maximum boosting rounds: above it the trees alone fill the memory.
const MAXIMUM_ROUNDS: usize = 100_000;

impl BoostingParameters {
    /// Checks the ranges of all values, and that the implementation supports them.
    ///
    /// # Errors
    /// Names the key and what it may be.
    pub(super) fn check(&self, implementation: Implementation) -> Result<(), String> {
        for (name, value, most) in [("rounds", self.rounds, MAXIMUM_ROUNDS), ("depth", self.depth, 64)] {
            if value == 0 || value > most {
                return Err(format!("`{name}` is {value}; it must be 1 to {most}"));
            }
        }
        if self.maximum_bins < 2 || self.maximum_bins > 1 << 16 {
            return Err(format!("`maximum_bins` is {}; it must be 2 to 65536", self.maximum_bins));
        }
        for (name, value) in [("subsample", self.subsample), ("column_sample", self.column_sample)] {
            if !(value > 0.0 && value <= 1.0) {
                return Err(format!("`{name}` is {value}; it must be above 0 and at most 1"));
            }
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return Err(format!("`learning_rate` is {}; it must be > 0", self.learning_rate));
        }
        for (name, value) in [
            ("l1", self.l1),
            ("l2", self.l2),
            ("minimum_child_weight", self.minimum_child_weight),
            ("minimum_split_loss", self.minimum_split_loss),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(format!("`{name}` is {value}; it must be 0 or more"));
            }
        }
        if self.early_stopping_rounds == Some(0) {
            return Err("`early_stopping_rounds` is 0; remove it to keep all rounds".to_owned());
        }
        if implementation == Implementation::Reference {
            let defaults = Self::default();
            let absent = "not supported by the reference implementation (smartcore); use `fast` or remove it";
            if self.l1 != defaults.l1 {
                return Err(format!("`l1`: {absent}"));
            }
            if self.maximum_bins != defaults.maximum_bins {
                return Err(format!("`maximum_bins`: {absent}"));
            }
            if self.column_sample != defaults.column_sample {
                return Err(format!("`column_sample`: {absent}"));
            }
            if self.early_stopping_rounds.is_some() {
                return Err(format!("`early_stopping_rounds`: {absent}"));
            }
            if self.minimum_child_weight.fract() != 0.0 {
                return Err("`minimum_child_weight` must be an integer for the reference implementation".to_owned());
            }
        }
        Ok(())
    }
}
