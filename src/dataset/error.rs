//! Why a dataset cannot be used.

use std::path::PathBuf;

use crate::flow::AssembleError;

/// Why a dataset cannot be used; one line that says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// No definition of this name.
    #[error("dataset `{name}`: {problem}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// Where it was looked for, and the known names.
        problem: String,
    },
    /// A definition or label table that cannot be used.
    #[error("{origin}: {problem}")]
    Definition {
        /// The file, with the line where known.
        origin: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// TOML that cannot be used.
    #[error(transparent)]
    Declarative(#[from] crate::declarative::DeclarativeError),
    /// The captures are not here.
    #[error("dataset `{name}`: no capture ({}) in {}; {advice}", patterns.join(", "), folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(" or "))]
    Missing {
        /// The dataset.
        name: String,
        /// Patterns of the files expected.
        patterns: Vec<String>,
        /// Where they were looked for.
        folders: Vec<PathBuf>,
        /// Where they are published, and what can be run without them.
        advice: String,
    },
    /// A folder or file cannot be read.
    #[error("{}: {problem}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said.
        problem: String,
    },
    /// A capture cannot be read.
    #[error(transparent)]
    Capture(#[from] AssembleError),
}
