//! The reference engine: the deep model composed from the tensor operations of the crate `dfdx`, whose
//! automatic differentiation gives the gradients. Short rather than fast, it is the definition of what the
//! fast engine computes, and is itself held to PyTorch by golden values.

mod classifier;
mod graph;
mod language_model;
mod layers;
mod network;
mod optimiser;
mod stacks;
mod transformer;

#[cfg(test)]
pub(crate) use classifier::{classifier, joint_classifier};
pub(crate) use classifier::{classifier_on, joint_classifier_on};
#[cfg(test)]
pub(crate) use language_model::language_model;
pub(crate) use language_model::language_model_on;
pub(crate) use network::{masked_model, network};
#[cfg(test)]
pub(crate) use {
    classifier::{gradients as classifier_gradients, joint_gradients},
    language_model::gradients as language_model_gradients,
    network::{gradients as network_gradients, masked_gradients},
};

use crate::{CudaDevice, ModelError};

/// dfdx's CUDA device. Its kernels add gradients up by atomic additions, in no fixed order (`gather.cu`, `slice.cu`, ...), so
/// two trainings on it differ in their last bits, and after some epochs in more.
///
/// # Errors
/// A card that is not there, or products in another precision than f32, which dfdx does not have.
#[cfg(feature = "dfdx-cuda")]
fn cuda(device: CudaDevice) -> Result<dfdx::tensor::Cuda, ModelError> {
    let problem = |problem: String| ModelError::Device { device: format!("cuda:{device}"), problem };
    if device.precision != crate::Precision::F32 {
        return Err(problem("the reference implementation computes in f32 only".to_owned()));
    }
    dfdx::tensor::Cuda::try_build(device.number, 0).map_err(|error| problem(format!("{error:?}")))
}

/// Why there is no CUDA device for the reference in this build.
#[cfg(not(feature = "dfdx-cuda"))]
fn no_cuda(device: CudaDevice) -> ModelError {
    ModelError::Device {
        device: format!("cuda:{device}"),
        problem: "the reference implementation runs on the cpu only in this build; use --device cpu or the fast one, \
                  or build with `--features dfdx-cuda`, which needs nvcc"
            .to_owned(),
    }
}
