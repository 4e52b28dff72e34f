//! How much the rows of each class count in training.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ModelError;
use super::classical::Rows;
use super::input::data;
use etcbench_storage::declarative;

/// Weights of the classes in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "it must be \"none\", \"balanced\" or a table of numbers by class name")]
pub(super) enum ClassWeights {
    /// A rule by its name.
    Rule(Rule),
    /// The weight of each class by name; classes that are not listed have weight 1.
    PerClass(BTreeMap<String, f64>),
}

/// A rule for weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Rule {
    /// Every row counts 1.
    None,
    /// A row of class k counts `rows / (classes * rows of k)`, as in scikit-learn's `balanced`.
    Balanced,
}

impl Default for ClassWeights {
    fn default() -> Self {
        Self::Rule(Rule::None)
    }
}

impl ClassWeights {
    /// Returns whether every row counts 1 because no weights were requested.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::Rule(Rule::None)
    }

    /// Rejects unusable weights.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self::PerClass(weights) = self else { return Ok(()) };
        match weights.iter().find(|(_, weight)| !(weight.is_finite() && **weight > 0.0)) {
            Some((class, weight)) => Err(format!("`class_weights` of `{class}` is {weight}; it must be > 0")),
            None => Ok(()),
        }
    }

    /// Returns the weight of each class that occurs in training.
    ///
    /// # Errors
    /// A weight for a class without training rows.
    pub(crate) fn of(&self, model: &str, rows: &Rows) -> Result<Vec<f64>, ModelError> {
        self.of_counts(model, &rows.class_counts(), &rows.names)
    }

    /// Returns the weight of each class, given its number of training rows; a class without any has weight 1.
    ///
    /// # Errors
    /// A weight for a class without training rows.
    pub(crate) fn of_counts(&self, model: &str, counts: &[usize], names: &[String]) -> Result<Vec<f64>, ModelError> {
        let total = counts.iter().sum::<usize>() as f64;
        let occurring = counts.iter().filter(|&&count| count > 0).count() as f64;
        match self {
            Self::Rule(Rule::None) => Ok(vec![1.0; counts.len()]),
            Self::Rule(Rule::Balanced) => Ok(counts
                .iter()
                .map(|&count| if count == 0 { 1.0 } else { total / (occurring * count as f64) })
                .collect()),
            Self::PerClass(weights) => {
                let known = || names.iter().zip(counts).filter(|(_, count)| **count > 0).map(|(name, _)| name.as_str());
                if let Some(unknown) = weights.keys().find(|class| !known().any(|name| name == class.as_str())) {
                    let nearest = declarative::did_you_mean(unknown, known());
                    return Err(data(
                        model,
                        format!("`class_weights` lists `{unknown}`, which has no training rows{nearest}"),
                    ));
                }
                Ok(names.iter().map(|name| weights.get(name).copied().unwrap_or(1.0)).collect())
            }
        }
    }
}
