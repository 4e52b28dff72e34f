//! The command and time of a run, and the score of its best model: used to distinguish runs in lists. Like machine and
//! times, these are provenance: results, cache keys and comparisons of results do not depend on them.

use std::time::Instant;

use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::{Overrides, Record, RunKey};
use etcbench_evaluate::{Metric, Summary};

/// The command that started a run, and when.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Invocation {
    /// The command line; `None` if the run was not started from a command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Overrides of the experiment file, each as a command-line option.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<String>,
    /// Start time in UTC, to the second, such as `2026-03-01T09:30:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// Elapsed seconds until the results were written; `None` if another process finished the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_seconds: Option<f64>,
    /// When this process started the run.
    #[serde(skip)]
    begun: Option<Instant>,
}

impl Invocation {
    /// Creates the invocation of a run that starts now.
    pub fn now(command: Option<String>, overrides: &Overrides) -> Self {
        Self {
            command,
            overrides: overrides.as_options(),
            started: Some(Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true)),
            wall_seconds: None,
            begun: Some(Instant::now()),
        }
    }

    /// Returns the invocation with the time elapsed since the start.
    pub(super) fn ended(&self) -> Self {
        Self { wall_seconds: self.begun.map(|begun| begun.elapsed().as_secs_f64()), ..self.clone() }
    }
}

/// The highest score of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BestScore {
    /// The variant.
    pub variant: String,
    /// The model.
    pub model: String,
    /// Its input.
    pub input: String,
    /// Its implementation.
    pub implementation: String,
    /// The metric.
    pub metric: String,
    /// Mean over seeds and folds.
    pub mean: f64,
    /// Sample standard deviation over seeds and folds; `None` for a single fit.
    pub standard_deviation: Option<f64>,
}

/// The metric for comparing runs.
const SCORE: Metric = Metric::MACRO_F1;

impl BestScore {
    /// Returns the highest mean over seeds and folds of the macro F1 on the whole test set, the first of equal ones;
    /// `None` if no fit has one.
    pub fn of(records: &[Record]) -> Option<Self> {
        let is_score = |record: &&Record| {
            record.metric == SCORE.key && record.class.is_none() && record.setting.is_none() && record.epoch.is_none()
        };
        let mut rows: Vec<(&RunKey, Vec<f64>)> = Vec::new();
        for record in records.iter().filter(is_score) {
            let Some(value) = record.value else { continue };
            let row_of = |key: &RunKey| {
                let RunKey { variant, model, input, implementation, .. } = key;
                [variant, model, input, implementation].map(String::clone)
            };
            match rows.iter_mut().find(|(key, _)| row_of(key) == row_of(&record.key)) {
                Some((_, values)) => values.push(value),
                None => rows.push((&record.key, vec![value])),
            }
        }
        let mut best: Option<(&RunKey, Summary)> = None;
        for (key, values) in &rows {
            let Some(summary) = Summary::of(values) else { continue };
            if best.is_none_or(|(_, highest)| summary.mean > highest.mean) {
                best = Some((key, summary));
            }
        }
        best.map(|(key, summary)| Self {
            variant: key.variant.clone(),
            model: key.model.clone(),
            input: key.input.clone(),
            implementation: key.implementation.clone(),
            metric: SCORE.key.to_owned(),
            mean: summary.mean,
            standard_deviation: summary.standard_deviation,
        })
    }
}

impl std::fmt::Display for BestScore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let metric = Metric::named(&self.metric).map_or(self.metric.as_str(), |metric| metric.label);
        write!(formatter, "{metric} {:.3}", self.mean)?;
        if let Some(deviation) = self.standard_deviation {
            write!(formatter, "±{deviation:.3}")?;
        }
        write!(formatter, ", {} · {} · {}", self.model, self.input, self.variant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(variant: &str, model: &str, seed: u64, metric: &str, value: Option<f64>) -> Record {
        let key = RunKey {
            experiment: "e".to_owned(),
            dataset: "d".to_owned(),
            size: "full".to_owned(),
            variant: variant.to_owned(),
            model: model.to_owned(),
            input: "bytes".to_owned(),
            implementation: "fast".to_owned(),
            seed,
            fold: 0,
        };
        Record { key, class: None, predicted: None, setting: None, epoch: None, metric: metric.to_owned(), value }
    }

    #[test]
    fn the_best_is_the_highest_mean_over_seeds() {
        let mut records = vec![
            record("a", "svm", 0, "macro_f1", Some(0.9)),
            record("a", "svm", 1, "macro_f1", Some(0.5)),
            record("a", "knn", 0, "macro_f1", Some(0.75)),
            record("a", "knn", 1, "macro_f1", Some(0.85)),
            record("b", "knn", 0, "macro_f1", None),
            record("b", "knn", 0, "accuracy", Some(0.99)),
        ];
        records.push(Record { class: Some("x".to_owned()), ..record("b", "knn", 0, "macro_f1", Some(1.0)) });
        records.push(Record { setting: Some("k=1".to_owned()), ..record("b", "knn", 0, "macro_f1", Some(1.0)) });
        let best = BestScore::of(&records).unwrap();
        assert_eq!((best.model.as_str(), best.variant.as_str()), ("knn", "a"));
        assert_eq!(best.to_string(), "macro F1 0.800±0.071, knn · bytes · a");
        assert_eq!(BestScore::of(&records[4..6]), None);
    }

    #[test]
    fn changes_on_the_command_line_are_stored_as_options() {
        let overrides = Overrides {
            data: vec!["lab".to_owned()],
            size: Some("demo".to_owned()),
            assignments: vec!["feature.packets=8".to_owned()],
            seeds: Some(vec![3, 5]),
            models: vec!["svm".to_owned(), "knn".to_owned()],
            ..Overrides::default()
        };
        let invocation = Invocation::now(None, &overrides);
        let expected = ["--data lab", "--size demo", "--set feature.packets=8", "--seeds 3,5", "--models svm,knn"];
        assert_eq!(invocation.overrides, expected);
        let started = invocation.started.clone().unwrap();
        assert!(started.len() == 20 && started.ends_with('Z'), "{started}");
        // Runs of earlier versions have no invocation.
        assert_eq!(serde_json::from_str::<Invocation>("{}").unwrap(), Invocation::default());
        assert!(invocation.ended().wall_seconds.is_some() && Invocation::default().ended().wall_seconds.is_none());
    }
}
