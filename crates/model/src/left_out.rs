//! What a light build leaves out, and what to say when it is asked for.

use super::{Implementation, ModelError};

/// The reference implementations, in a build without the feature `reference`.
pub(crate) const REFERENCE: &str = "this etcbench was built without the reference implementations; build it with `cargo build \
                                    --release --features reference`, or use implementation = \"fast\"";

/// Logistic regression, in a build without the feature `reference`.
pub(crate) const LOGISTIC_REGRESSION: &str = "this etcbench was built without smartcore, which fits it; build it with `cargo build --release --features reference`";

/// CUDA, in a build without the feature `cuda`.
#[cfg(not(feature = "cuda"))]
pub(crate) const CUDA: &str =
    "this etcbench was built without CUDA; build it with `cargo build --release --features cuda`, or use --device cpu";

/// Refuses an implementation of `model` that this build does not have.
pub(crate) fn check(model: &str, implementation: Implementation) -> Result<(), ModelError> {
    if implementation == Implementation::Reference && !cfg!(feature = "reference") {
        return Err(reference(model));
    }
    Ok(())
}

/// That the reference implementation of `model` is not in this build.
pub(crate) fn reference(model: &str) -> ModelError {
    ModelError::Parameters { model: model.to_owned(), problem: REFERENCE.to_owned() }
}
