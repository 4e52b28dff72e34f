//! The raw records of a run, one measured value per line; tables and figures are made from these alone.

use serde::{Deserialize, Serialize};

/// What was fitted: one row of a table for one seed and fold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunKey {
    /// The experiment's name, such as `table2`.
    pub experiment: String,
    /// The dataset's name.
    pub dataset: String,
    /// The experiment's size: `full`, or the name of a file in `experiments/sizes`.
    pub size: String,
    /// The variant of the experiment, such as `as_published` or `without_shortcuts`.
    pub variant: String,
    /// The model's name, such as `attention_lstm` or `svm`.
    pub model: String,
    /// What the model reads: `bytes`, `statistics`, `bytes_and_statistics` or `sequences`.
    pub input: String,
    /// `fast` or `reference`.
    pub implementation: String,
    /// The run's seed.
    pub seed: u64,
    /// The fold, from 0; 0 where the flows are divided once per seed.
    pub fold: usize,
}

/// One measured value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What was fitted.
    #[serde(flatten)]
    pub key: RunKey,
    /// The class the value is about; none for the whole test set.
    pub class: Option<String>,
    /// For metric `confusion`: the predicted class (`class` is the true one).
    pub predicted: Option<String>,
    /// For metric `tuning_macro_f1` and `tuning_chosen_macro_f1`: the values that were tried, such as
    /// `cost = 10.0, gamma = "scale"`.
    pub setting: Option<String>,
    /// Of a training curve: the epoch, from 1.
    pub epoch: Option<usize>,
    /// The metric's name, as the table of metrics (`etcbench_evaluate::Metric`) has it.
    pub metric: String,
    /// The value; none where the metric is undefined (such as the precision of a class never predicted).
    pub value: Option<f64>,
}
