//! Replaces `cuda` in builds without that feature: no GPU can be used.

use crate::{CudaDevice, ModelError, left_out};

pub(crate) mod check {
    use super::left_out;
    use crate::{CudaDevice, Finding, ModelError};

    pub(crate) fn all(card: CudaDevice) -> Result<Vec<Finding>, ModelError> {
        Err(left_out(card))
    }
}

/// Returns the error for the GPU.
pub(crate) fn left_out(card: CudaDevice) -> ModelError {
    ModelError::Device { device: format!("cuda:{card}"), problem: left_out::CUDA.to_owned() }
}

pub(crate) fn is_usable(card: CudaDevice) -> Result<(), ModelError> {
    Err(left_out(card))
}

pub(crate) fn describe(card: CudaDevice) -> Result<String, ModelError> {
    Err(left_out(card))
}
