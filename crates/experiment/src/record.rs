//! The raw records of a run, one measured value per line; tables and figures are built from these alone.

use serde::{Deserialize, Serialize};

/// Identifies a fit: one row of a table for one seed and fold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunKey {
    /// The experiment's name, such as `table2`.
    pub experiment: String,
    /// The dataset's name.
    pub dataset: String,
    /// The experiment's size: `full`, or the name of a file in `experiments/sizes`.
    pub size: String,
    /// The variant of the experiment, such as `random_split` or `without_shortcuts`.
    pub variant: String,
    /// The model's name, such as `attention_lstm` or `svm`.
    pub model: String,
    /// The model's input: `bytes`, `statistics`, `bytes_and_statistics` or `sequences`.
    pub input: String,
    /// `fast` or `reference`.
    pub implementation: String,
    /// The run's seed.
    pub seed: u64,
    /// The fold, from 0; 0 if the flows are divided once per seed.
    pub fold: usize,
}

/// One measured value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Identifies the fit.
    #[serde(flatten)]
    pub key: RunKey,
    /// The class of the value; `None` for the whole test set.
    pub class: Option<String>,
    /// For metric `confusion`: the predicted class (`class` is the true one).
    pub predicted: Option<String>,
    /// For metrics `tuning_macro_f1` and `tuning_chosen_macro_f1`: the values tried, such as `cost = 10.0, gamma =
    /// "scale"`.
    pub setting: Option<String>,
    /// For training curves: the epoch, from 1.
    pub epoch: Option<usize>,
    /// The metric's name, as in the table of metrics (`etcbench_evaluate::Metric`).
    pub metric: String,
    /// The value; `None` if the metric is undefined (such as the precision of a class never predicted).
    pub value: Option<f64>,
}
