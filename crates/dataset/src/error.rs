//! Everything that can be wrong with a dataset, each with a message of one line that says what to do.

use etcbench_storage::declarative::DeclarativeError;

/// Why a dataset could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The definition file is not readable as TOML or has a key that nothing reads.
    #[error(transparent)]
    Declarative(#[from] DeclarativeError),
    /// The definition is well-formed but means nothing.
    #[error("{file}: {message}")]
    Definition {
        /// The definition or label table.
        file: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// No folder of the dataset exists, or none holds a capture.
    #[error(
        "dataset {name} is not here; looked in {tried} for {expected}\n  to get it: {published}\n  without it: {hint}"
    )]
    NotHere {
        /// The dataset.
        name: String,
        /// The folders tried, and what was wrong with each.
        tried: String,
        /// The files expected.
        expected: String,
        /// Where it is published, and how to get it from there.
        published: String,
        /// The command that needs no download.
        hint: String,
    },
    /// An archive is being unpacked into the folder, or was not to its end, so that files may be missing.
    #[error(
        "{}: an archive is being unpacked here, or that was stopped, so captures are missing: unpack {} again, or remove \
         this file to use what is there",
        marker.display(), if archive.is_empty() { "it" } else { archive }
    )]
    Unpacking {
        /// The file that says so.
        marker: std::path::PathBuf,
        /// The archive, where it is known.
        archive: String,
    },
    /// A file or folder cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// The file system's reason.
        source: std::io::Error,
    },
    /// A file's labels contradict each other, are incomplete, or apply to two files.
    #[error("dataset {dataset}: {capture}: {message}")]
    Labels {
        /// The dataset.
        dataset: String,
        /// The capture, relative to the dataset's folder.
        capture: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A file of flow labels, or a feature file, cannot be used.
    #[error("{file}:{line}: {message}")]
    FlowLabels {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        message: String,
    },
    /// A file in a published layout cannot be used.
    #[error("{file}: {message}")]
    Published {
        /// The file.
        file: String,
        /// Where in it, and what is wrong.
        message: String,
    },
    /// An archive in the dataset's folder cannot be opened.
    #[error(
        "dataset {dataset}: {archive}: {message}; without it captures may be missing: repair the archive, unpack it, \
         or move it out of the folder"
    )]
    Archive {
        /// The dataset.
        dataset: String,
        /// The archive, relative to the dataset's folder.
        archive: String,
        /// What is wrong with it.
        message: String,
    },
    /// A capture cannot be read.
    #[error(
        "dataset {dataset}: {message}; repair the file, or name it in `exclude` of the dataset's [files] with a reason"
    )]
    Capture {
        /// The dataset.
        dataset: String,
        /// The capture's own error, which names the file.
        message: String,
    },
}
