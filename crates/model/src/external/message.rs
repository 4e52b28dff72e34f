//! The messages of the protocol, one JSON object per line. `models/PROTOCOL.md` documents them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{EpochRecord, Input};

/// A message from the harness.
#[derive(Debug, Serialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub(super) enum Request<'a> {
    /// Describe yourself.
    Describe { protocols: &'a [&'a str], etcbench: &'a str },
    /// Fit to these rows.
    Fit(Box<Fit<'a>>),
    /// Write a distribution over the classes for each of these rows to `answer`.
    Predict {
        rows: usize,
        #[serde(flatten)]
        arrays: &'a Arrays,
        answer: &'a Path,
    },
    /// Save the fitted model in this folder.
    Save { folder: &'a Path },
    /// Load the fitted model from this folder, where another process saved it.
    Load {
        folder: &'a Path,
        input: Input,
        class_names: &'a [String],
        parameters: &'a serde_json::Value,
        device: &'a str,
        threads: usize,
    },
    /// Exit.
    Quit,
}

/// The request to fit.
#[derive(Debug, Serialize)]
pub(super) struct Fit<'a> {
    pub training: &'a Examples,
    pub validation: &'a Examples,
    pub input: Input,
    pub class_names: &'a [String],
    pub statistic_names: &'a [String],
    pub pad: u16,
    pub parameters: &'a serde_json::Value,
    pub seed: u64,
    pub device: &'a str,
    pub threads: usize,
    pub seconds: f64,
    pub scratch: &'a Path,
    pub checkpoint: &'a Path,
}

/// Rows with labels.
#[derive(Debug, Serialize)]
pub(super) struct Examples {
    pub rows: usize,
    #[serde(flatten)]
    pub arrays: Arrays,
    pub labels: PathBuf,
}

/// Files of arrays, one for each part of the input.
#[derive(Debug, Default, Serialize)]
pub(super) struct Arrays {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistics: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequences: Option<PathBuf>,
}

/// A message from the program.
#[derive(Debug, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Reply {
    /// Answers `describe`.
    Description {
        protocol: String,
        inputs: Vec<Input>,
        #[serde(default)]
        deterministic: bool,
        #[serde(default)]
        software: Option<String>,
        /// Time to predict one flow, one at a time, by the program's own account.
        #[serde(default)]
        microseconds_per_flow: Option<f64>,
    },
    /// Reports an epoch, or the progress of the work.
    Progress {
        stage: String,
        #[serde(default)]
        epoch: Option<usize>,
        #[serde(default)]
        training_loss: Option<f64>,
        #[serde(default)]
        validation_loss: Option<f64>,
        #[serde(default)]
        validation_macro_f1: Option<f64>,
    },
    /// Reports something that readers of the results should know.
    Log {
        #[serde(default)]
        level: Level,
        text: String,
    },
    /// Answers `fit`; `seconds` is the time by the program's own account.
    Fitted {
        #[serde(default)]
        seconds: Option<f64>,
    },
    /// Answers `predict`.
    Predicted {},
    /// Answers `save`.
    Saved {},
    /// Answers `load`.
    Loaded {},
    /// The program cannot continue.
    Error { text: String },
}

/// The audience of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// Whoever watches the run.
    #[default]
    Information,
    /// Readers of the results too.
    Warning,
}

impl Reply {
    /// Returns the message's name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Description { .. } => "description",
            Self::Progress { .. } => "progress",
            Self::Log { .. } => "log",
            Self::Fitted { .. } => "fitted",
            Self::Predicted {} => "predicted",
            Self::Saved {} => "saved",
            Self::Loaded {} => "loaded",
            Self::Error { .. } => "error",
        }
    }

    /// Returns the epoch of a training curve that a progress message reports; `None` if it reports no loss.
    pub(super) fn epoch(&self) -> Option<EpochRecord> {
        let Self::Progress {
            stage,
            epoch: Some(epoch),
            training_loss: Some(training_loss),
            validation_loss,
            validation_macro_f1,
        } = self
        else {
            return None;
        };
        Some(EpochRecord {
            stage: stage.clone(),
            epoch: *epoch,
            training_loss: *training_loss,
            validation_loss: *validation_loss,
            validation_macro_f1: *validation_macro_f1,
        })
    }
}
