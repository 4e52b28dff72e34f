//! The deep model, twice: `reference` is short and defines what is computed, `fast` computes the same
//! quickly. What decides a result is written once and serves both: hyper-parameters, parameter names,
//! shapes and initial values ([`parameters`]), the loss ([`loss`]), what the loops may ask of an implementation ([`engine`]),
//! what they feed it ([`packets`]) and the loops themselves ([`training`]).

pub(crate) mod checkpoint;
pub(crate) mod engine;
pub(crate) mod fast;
pub(crate) mod loss;
pub(crate) mod network;
mod pace;
pub(crate) mod packets;
pub(crate) mod parameters;
pub(crate) mod pooling;
pub(crate) mod pretrained;
#[cfg(feature = "reference")]
pub(crate) mod reference;
#[cfg(not(feature = "reference"))]
#[path = "reference_left_out.rs"]
pub(crate) mod reference;
pub(crate) mod training;
pub(crate) mod unlabelled;

use self::engine::{JointClassifier, LanguageModel, MaskedModel, NetworkClassifier, SequenceClassifier};
use self::network::Network;
use self::parameters::{AttentionLstmOptions, ElmoOptions, ParameterSet};
use super::{Device, Implementation, ModelError, attention_lstm};
use etcbench_storage::Determinants;
use serde::{Deserialize, Serialize};

/// What takes a network's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OptimiserKind {
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    Adamw,
    /// Its form by the largest gradients (Kingma and Ba 2015, section 7.1), with decoupled weight decay.
    Adamax,
}

/// How a network's steps are taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NetworkOptions {
    /// The run's seed, for dropout.
    pub seed: u64,
    /// What takes them.
    pub optimiser: OptimiserKind,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Share of each target that is spread over all classes.
    pub label_smoothing: f32,
}

/// Which engine computes, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Engine {
    /// Fast or reference.
    pub implementation: Implementation,
    /// The processor, or a CUDA device.
    pub device: Device,
}

impl Engine {
    /// The beginning of what determines a result of the deep model's: its version, and this engine.
    pub(crate) fn determinants(self, what: &'static str) -> Determinants {
        let facts = Determinants::of(what, attention_lstm::ENTRY.version);
        self.device.add_to(facts.and("implementation", &self.implementation))
    }

    /// ELMo with these parameters.
    ///
    /// # Errors
    /// A device that the implementation cannot use, parameters of other shapes than the options'.
    pub(crate) fn language_model(
        self,
        options: &ElmoOptions,
        parameters: &ParameterSet,
        seed: u64,
    ) -> Result<Box<dyn LanguageModel>, ModelError> {
        match self.implementation {
            Implementation::Fast => fast::language_model(options, parameters, seed, self.device),
            Implementation::Reference => reference::language_model_on(options, parameters, seed, self.device),
        }
    }

    /// The classifier with these parameters.
    ///
    /// # Errors
    /// As of [`Engine::language_model`].
    pub(crate) fn classifier(
        self,
        options: &AttentionLstmOptions,
        parameters: &ParameterSet,
        seed: u64,
    ) -> Result<Box<dyn SequenceClassifier>, ModelError> {
        match self.implementation {
            Implementation::Fast => fast::classifier(options, parameters, seed, self.device),
            Implementation::Reference => reference::classifier_on(options, parameters, seed, self.device),
        }
    }

    /// A network with these parameters, on the processor.
    ///
    /// # Errors
    /// Parameters of other shapes than the network's.
    pub(crate) fn network(
        implementation: Implementation,
        network: &Network,
        parameters: &ParameterSet,
        options: NetworkOptions,
    ) -> Result<Box<dyn NetworkClassifier>, ModelError> {
        match implementation {
            Implementation::Fast => fast::network(network, parameters, options),
            Implementation::Reference => reference::network(network, parameters, options),
        }
    }

    /// A network that reconstructs what is hidden of its input, on the processor.
    ///
    /// # Errors
    /// As of [`Engine::network`].
    pub(crate) fn masked_model(
        implementation: Implementation,
        network: &Network,
        parameters: &ParameterSet,
        options: NetworkOptions,
    ) -> Result<Box<dyn MaskedModel>, ModelError> {
        match implementation {
            Implementation::Fast => fast::masked_model(network, parameters, options),
            Implementation::Reference => reference::masked_model(network, parameters, options),
        }
    }

    /// The classifier with its ELMo, to be trained together; `parameters` are those of both.
    ///
    /// # Errors
    /// As of [`Engine::language_model`].
    pub(crate) fn joint_classifier(
        self,
        options: &AttentionLstmOptions,
        parameters: &ParameterSet,
        seed: u64,
    ) -> Result<Box<dyn JointClassifier>, ModelError> {
        match self.implementation {
            Implementation::Fast => fast::joint_classifier(options, parameters, seed, self.device),
            Implementation::Reference => reference::joint_classifier_on(options, parameters, seed, self.device),
        }
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod network_golden;
