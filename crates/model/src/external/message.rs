//! The messages of the protocol, a JSON object to a line. `models/PROTOCOL.md` says what each means.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{EpochRecord, Input};

/// What the harness says.
#[derive(Debug, Serialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub(super) enum Request<'a> {
    /// Who are you?
    Describe { protocols: &'a [&'a str], etcbench: &'a str },
    /// Learn from these rows.
    Fit(Box<Fit<'a>>),
    /// Write a distribution over the classes for each of these rows to `answer`.
    Predict {
        rows: usize,
        #[serde(flatten)]
        arrays: &'a Arrays,
        answer: &'a Path,
    },
    /// Write the fitted model into this folder.
    Save { folder: &'a Path },
    /// Read the fitted model from this folder, in which another process saved it.
    Load {
        folder: &'a Path,
        input: Input,
        class_names: &'a [String],
        parameters: &'a serde_json::Value,
        device: &'a str,
        threads: usize,
    },
    /// End.
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

/// Files of arrays; those that the input names.
#[derive(Debug, Default, Serialize)]
pub(super) struct Arrays {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistics: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequences: Option<PathBuf>,
}

/// What the program says.
#[derive(Debug, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Reply {
    /// The answer to `describe`.
    Description {
        protocol: String,
        inputs: Vec<Input>,
        #[serde(default)]
        deterministic: bool,
        #[serde(default)]
        software: Option<String>,
    },
    /// An epoch, or how far the work is.
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
    /// Something that a reader of the results should know.
    Log {
        #[serde(default)]
        level: Level,
        text: String,
    },
    /// The answer to `fit`.
    Fitted {},
    /// The answer to `predict`.
    Predicted {},
    /// The answer to `save`.
    Saved {},
    /// The answer to `load`.
    Loaded {},
    /// The program cannot go on.
    Error { text: String },
}

/// Who should read a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// Whoever watches.
    #[default]
    Information,
    /// Whoever reads the results too.
    Warning,
}

impl Reply {
    /// The message's name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Description { .. } => "description",
            Self::Progress { .. } => "progress",
            Self::Log { .. } => "log",
            Self::Fitted {} => "fitted",
            Self::Predicted {} => "predicted",
            Self::Saved {} => "saved",
            Self::Loaded {} => "loaded",
            Self::Error { .. } => "error",
        }
    }

    /// The epoch of a training curve that a progress line tells; none where it tells no loss.
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
