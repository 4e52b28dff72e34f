//! What a minimal build leaves out, and the messages shown if it is requested.

use super::{Implementation, ModelError};

/// Message for the reference implementations in a build without the feature `reference`.
pub(crate) const REFERENCE: &str = "this etcbench was built without the reference implementations; \
     build it with `cargo build --release --features reference`, or use implementation = \"fast\"";

/// Message for logistic regression in a build without the feature `reference`.
pub(crate) const LOGISTIC_REGRESSION: &str = "this etcbench was built without smartcore, which fits it; \
     build it with `cargo build --release --features reference`";

/// Message for CUDA in a build without the feature `cuda`.
#[cfg(not(feature = "cuda"))]
pub(crate) const CUDA: &str =
    "this etcbench was built without CUDA; build it with `cargo build --release --features cuda`, or use --device cpu";

/// Rejects an implementation of `model` that this build does not include.
pub(crate) fn check(model: &str, implementation: Implementation) -> Result<(), ModelError> {
    if implementation == Implementation::Reference && !cfg!(feature = "reference") {
        return Err(reference(model));
    }
    Ok(())
}

/// Returns the error for a reference implementation that this build does not include.
pub(crate) fn reference(model: &str) -> ModelError {
    ModelError::Parameters { model: model.to_owned(), problem: REFERENCE.to_owned() }
}
