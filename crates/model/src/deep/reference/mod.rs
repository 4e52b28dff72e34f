//! The reference engine: the deep model composed of the tensor operations of the crate `dfdx`, with gradients from its
//! automatic differentiation. Written for brevity rather than speed, it defines what the fast engine computes, and is
//! itself checked against golden values from PyTorch.

/// Evaluates a model's constructor with dfdx's device for a [`crate::Device`], which is a type of its own for each kind,
/// and boxes the model.
macro_rules! on_device {
    ($device:expr, |$on:ident| $model:expr) => {
        match $device {
            crate::Device::Cpu => {
                let $on = dfdx::tensor::Cpu::default();
                Ok(Box::new($model?))
            }
            #[cfg(feature = "dfdx-cuda")]
            crate::Device::Cuda(card) => {
                let $on = $crate::deep::reference::cuda(card)?;
                Ok(Box::new($model?))
            }
            #[cfg(not(feature = "dfdx-cuda"))]
            crate::Device::Cuda(card) => Err($crate::deep::reference::no_cuda(card)),
        }
    };
}

mod classifier;
mod graph;
mod language_model;
mod layers;
mod loss;
mod network;
mod optimiser;
mod stacks;
mod transformer;

pub(crate) use classifier::{classifier, joint_classifier};
pub(crate) use language_model::language_model;
pub(crate) use network::{masked_model, network};
#[cfg(test)]
pub(crate) use {
    classifier::{gradients as classifier_gradients, joint_gradients},
    language_model::gradients as language_model_gradients,
    network::{gradients as network_gradients, masked_gradients},
};

use crate::{CudaDevice, ModelError};

/// Opens dfdx's CUDA device. Its kernels sum gradients with atomic additions in no fixed order (`gather.cu`,
/// `slice.cu`, ...), so two trainings on it differ in their last bits, and by more after some epochs.
///
/// # Errors
/// The GPU is not available, or the precision of products is not f32, the only one that dfdx supports.
#[cfg(feature = "dfdx-cuda")]
fn cuda(device: CudaDevice) -> Result<dfdx::tensor::Cuda, ModelError> {
    let problem = |problem: String| ModelError::Device { device: format!("cuda:{device}"), problem };
    if device.precision != crate::Precision::F32 {
        return Err(problem("the reference implementation computes in f32 only".to_owned()));
    }
    dfdx::tensor::Cuda::try_build(device.number, 0).map_err(|error| problem(format!("{error:?}")))
}

/// Returns the error for builds in which the reference has no CUDA device.
#[cfg(not(feature = "dfdx-cuda"))]
fn no_cuda(device: CudaDevice) -> ModelError {
    ModelError::Device {
        device: format!("cuda:{device}"),
        problem: "the reference implementation runs on the cpu only in this build; use --device cpu or the fast one, \
                  or build with `--features dfdx-cuda`, which needs nvcc"
            .to_owned(),
    }
}
