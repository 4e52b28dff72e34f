//! The fast engine: hand-written layers with explicit forward and backward passes over the operations of a device
//! ([`backend`]). Sequences are packed so that padding costs nothing ([`packing`]), buffers are reused, and results are
//! bitwise identical for any number of threads.

mod backend;
pub mod benchmark;
mod chain;
mod classifier;
mod classifier_buffers;
mod classifier_weights;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "cuda_left_out.rs"]
pub(crate) mod cuda;
mod joint;
mod language_model;
mod layers;
mod network;
mod packing;
mod pool;
mod reading;
mod stacks;
mod transformer;
mod weights;

#[cfg(test)]
mod tests;

use super::NetworkOptions;
use super::engine::{JointClassifier, LanguageModel, MaskedModel, NetworkClassifier, SequenceClassifier};
use super::network::Network;
use super::parameters::{AttentionLstmOptions, ElmoOptions, ParameterSet};
use crate::{Device, ModelError};

/// Returns the number of values that a step of pre-training holds for each byte of a batch.
pub(crate) fn language_model_values(options: &ElmoOptions, vocabulary: usize) -> usize {
    // The head's logits.
    stacks::values_of_byte(options, true, false) + vocabulary
}

/// Returns the number of values that encoding holds for each byte of a batch.
pub(crate) fn encoder_values(options: &ElmoOptions) -> usize {
    stacks::values_of_byte(options, false, false)
}

/// Returns the number of values that a step of training holds for each byte of a batch if the ELMo is trained too.
pub(crate) fn joint_values(options: &ElmoOptions) -> usize {
    stacks::values_of_byte(options, true, true)
}

/// Returns the number of values that a step of training holds for a flow of this many packets, besides the encodings of
/// the packets.
pub(crate) fn classifier_values(options: &AttentionLstmOptions, classes: usize, packets: usize) -> usize {
    classifier_buffers::values_of_flow(options, classes, packets)
}

/// Returns the number of values that a step of training a network holds for each flow.
pub(crate) fn network_values(network: &Network) -> usize {
    chain::values_of_flow(network)
}

/// Creates an ELMo on a device with a copy of `parameters`.
///
/// # Errors
/// The device is not available, or the parameters' shapes do not match `options`.
pub(crate) fn language_model(
    options: &ElmoOptions,
    parameters: &ParameterSet,
    seed: u64,
    device: Device,
) -> Result<Box<dyn LanguageModel>, ModelError> {
    match device {
        Device::Cpu => {
            Ok(Box::new(pool::OnPool(language_model::Elmo::new(cpu::Cpu::new(), options, parameters, seed)?)))
        }
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(card) => Err(cuda::left_out(card)),
        #[cfg(feature = "cuda")]
        Device::Cuda(card) => {
            Ok(Box::new(language_model::Elmo::new(cuda::Cuda::new(card)?, options, parameters, seed)?))
        }
    }
}

/// Creates the classifier on a device with a copy of `parameters`.
///
/// # Errors
/// The device is not available, or the parameters' shapes do not match `options`.
pub(crate) fn classifier(
    options: &AttentionLstmOptions,
    parameters: &ParameterSet,
    seed: u64,
    device: Device,
) -> Result<Box<dyn SequenceClassifier>, ModelError> {
    match device {
        Device::Cpu => {
            Ok(Box::new(pool::OnPool(classifier::AttentionLstm::new(cpu::Cpu::new(), options, parameters, seed)?)))
        }
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(card) => Err(cuda::left_out(card)),
        #[cfg(feature = "cuda")]
        Device::Cuda(card) => {
            Ok(Box::new(classifier::AttentionLstm::new(cuda::Cuda::new(card)?, options, parameters, seed)?))
        }
    }
}

/// Creates the classifier with its ELMo, to be trained together, on a device; `parameters` are those of both.
///
/// # Errors
/// Same as [`classifier`].
pub(crate) fn joint_classifier(
    options: &AttentionLstmOptions,
    parameters: &ParameterSet,
    seed: u64,
    device: Device,
) -> Result<Box<dyn JointClassifier>, ModelError> {
    match device {
        Device::Cpu => Ok(Box::new(pool::OnPool(joint::Joint::new(cpu::Cpu::new(), options, parameters, seed)?))),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(card) => Err(cuda::left_out(card)),
        #[cfg(feature = "cuda")]
        Device::Cuda(card) => Ok(Box::new(joint::Joint::new(cuda::Cuda::new(card)?, options, parameters, seed)?)),
    }
}

/// Creates a network on the CPU with a copy of `parameters`.
///
/// # Errors
/// The parameters' shapes do not match the network.
pub(crate) fn network(
    network: &Network,
    parameters: &ParameterSet,
    options: NetworkOptions,
) -> Result<Box<dyn NetworkClassifier>, ModelError> {
    Ok(Box::new(pool::OnPool(network::Network::new(cpu::Cpu::new(), network, parameters, options)?)))
}

/// Creates a network that reconstructs hidden parts of its input, on the CPU, with a copy of `parameters`.
///
/// # Errors
/// The parameters' shapes do not match the network.
pub(crate) fn masked_model(
    network: &Network,
    parameters: &ParameterSet,
    options: NetworkOptions,
) -> Result<Box<dyn MaskedModel>, ModelError> {
    Ok(Box::new(pool::OnPool(network::Network::new(cpu::Cpu::new(), network, parameters, options)?)))
}

/// Returns the gradients of a batch's loss by name.
#[cfg(test)]
pub(crate) fn network_gradients(
    network: &Network,
    parameters: &ParameterSet,
    options: NetworkOptions,
    class_weights: Option<&[f32]>,
    (rows, labels): (&[f32], &[u32]),
) -> Vec<(String, Vec<f32>)> {
    let mut model = network::Network::new(cpu::Cpu::new(), network, parameters, options).unwrap();
    if let Some(weights) = class_weights {
        model.set_class_weights(weights).unwrap();
    }
    model.loss_and_gradients(rows, labels).unwrap();
    model.named_gradients()
}

/// Returns the gradients of a batch's reconstruction loss by name.
#[cfg(test)]
pub(crate) fn masked_gradients(
    network: &Network,
    parameters: &ParameterSet,
    options: NetworkOptions,
    rows: &[f32],
) -> Vec<(String, Vec<f32>)> {
    let mut model = network::Network::new(cpu::Cpu::new(), network, parameters, options).unwrap();
    model.reconstruct(rows, true).unwrap();
    model.named_gradients()
}
