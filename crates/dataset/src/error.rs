//! Errors of datasets, each with a one-line message that says what to do.

use etcbench_storage::declarative::DeclarativeError;

/// Why a dataset could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The definition file is not valid TOML or has an unknown key.
    #[error(transparent)]
    Declarative(#[from] DeclarativeError),
    /// The definition is well-formed but invalid.
    #[error("{file}: {message}")]
    Definition {
        /// The definition or label table.
        file: String,
        /// Description of the problem and what to do.
        message: String,
    },
    /// The dataset's folder does not exist or contains no capture.
    #[error(
        "dataset {name} not found; looked in {tried} for {expected}\n  to get it: {published}\n  without it: {hint}"
    )]
    NotHere {
        /// The dataset.
        name: String,
        /// The folders tried, with the reason each was rejected.
        tried: String,
        /// The files expected.
        expected: String,
        /// Where the dataset is published and how to get it.
        published: String,
        /// The command that works without a download.
        hint: String,
    },
    /// An archive is being unpacked into the folder, or unpacking was interrupted, so files may be missing.
    #[error(
        "{}: an archive is being unpacked here, or unpacking was interrupted; captures may be missing: unpack {} \
         again, or remove this file to use what is there",
        marker.display(), if archive.is_empty() { "it" } else { archive }
    )]
    Unpacking {
        /// The marker file.
        marker: std::path::PathBuf,
        /// The archive, or empty if unknown.
        archive: String,
    },
    /// A file or folder cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// The underlying I/O error.
        source: std::io::Error,
    },
    /// A file's labels contradict each other, are incomplete, or apply to two files.
    #[error("dataset {dataset}: {capture}: {message}")]
    Labels {
        /// The dataset.
        dataset: String,
        /// The capture, relative to the dataset's folder.
        capture: String,
        /// Description of the problem and what to do.
        message: String,
    },
    /// A file of flow labels, or a feature file, cannot be used.
    #[error("{file}:{line}: {message}")]
    FlowLabels {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// Description of the problem.
        message: String,
    },
    /// A file in a published layout cannot be used.
    #[error("{file}: {message}")]
    Published {
        /// The file.
        file: String,
        /// Description of the problem and its location in the file.
        message: String,
    },
    /// An archive in the dataset's folder cannot be opened.
    #[error(
        "dataset {dataset}: {archive}: {message}; its captures would be missing: repair the archive, unpack it, \
         or move it out of the folder"
    )]
    Archive {
        /// The dataset.
        dataset: String,
        /// The archive, relative to the dataset's folder.
        archive: String,
        /// Description of the problem.
        message: String,
    },
    /// A capture cannot be read.
    #[error(
        "dataset {dataset}: {message}; repair the file, or name it in `exclude` of the dataset's [files] with a reason"
    )]
    Capture {
        /// The dataset.
        dataset: String,
        /// The capture's own error, which includes the file name.
        message: String,
    },
}
