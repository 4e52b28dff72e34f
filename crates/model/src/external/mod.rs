//! External models: programs in any language, a folder each, that speak the protocol `etcbench-model-1` (see
//! `models/PROTOCOL.md`) and run as processes of their own. [`Package`] is such a folder, `session` a conversation with its
//! program, `confine` what the program may do, and `classifier` makes a [`Classifier`](super::Classifier) of it, so that
//! the rest of the house treats it as any other model.
//!
//! The program is not trusted: it sees training and validation rows with labels, and rows to predict without any, in an
//! order of the harness's choice; whatever it answers is checked, and however it ends is a result.

mod answer;
mod array;
mod build;
mod check;
mod classifier;
mod confine;
mod digest;
mod failure;
mod keys;
mod manifest;
mod message;
mod package;
mod processes;
mod rows;
mod saved;
mod session;
mod versions;

pub use array::write_array;
pub use check::{Finding, Standing, check};
pub use confine::{Confinement, end_all};
pub use failure::{Failure, FailureKind};
pub use manifest::{Gpu, Limits, Manifest, Needs, Weights};
pub use package::{Package, names, set_project};
pub use processes::Usage;

pub(super) use package::{at, known, named, of_archive};

/// The protocol that this version speaks.
pub const PROTOCOL: &str = "etcbench-model-1";

/// What names of temporary folders begin with.
const FOLDER_PREFIX: &str = "etcbench-model-";

/// The file of a model's folder that says what it is.
pub const MANIFEST: &str = "model.toml";
