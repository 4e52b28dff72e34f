//! External models: programs in any language, one folder each, that speak the protocol `etcbench-model-1` (see
//! `models/PROTOCOL.md`) and run in their own processes. [`Package`] is such a folder, `session` a conversation with
//! its program, `confine` restricts what the program may do, and `classifier` implements
//! [`Classifier`](super::Classifier) for it, so that the rest of the code treats it like any other model.
//!
//! The program is not trusted: it gets training and validation rows with labels, and rows to predict without labels, in
//! an order that the harness chooses. Every answer is checked, and every outcome is recorded as a result.

mod answer;
mod array;
mod build;
mod check;
mod checkpoint;
mod classifier;
mod confine;
mod digest;
mod failure;
mod folder;
mod keys;
mod landlocked;
mod manifest;
mod message;
mod package;
mod processes;
mod rows;
mod saved;
mod session;
mod versions;

pub use array::write_array;
pub use check::{Finding, Standing, Task, check, check_on};
pub use confine::{AfterEnd, Confinement, end_all, start_again};
pub use failure::{Failure, FailureKind};
pub use manifest::{Gpu, Limits, Manifest, Needs, Weights};
pub use package::{Package, names, set_project};
pub use processes::Usage;

pub(super) use package::{at, known, named, of_archive};

/// The protocol that this version speaks.
pub const PROTOCOL: &str = "etcbench-model-1";

/// Prefix of temporary folder names.
const FOLDER_PREFIX: &str = "etcbench-model-";

/// Name of the manifest in a model's folder.
pub const MANIFEST: &str = "model.toml";
