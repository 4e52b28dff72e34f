//! The deep model in two implementations: `reference` is short and defines the computation, `fast` computes the same
//! quickly. Everything that affects results is shared by both: hyper-parameters, parameter names, shapes and initial
//! values ([`parameters`]), the loss ([`loss`]), the interface between loops and implementations ([`engine`]), their
//! input ([`packets`]) and the loops themselves ([`training`]).

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

/// The optimiser of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OptimiserKind {
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    Adamw,
    /// Adamax, the variant of Adam based on the infinity norm (Kingma and Ba 2015, section 7.1), with decoupled weight
    /// decay.
    Adamax,
}

/// Optimiser and loss settings of a network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NetworkOptions {
    /// The run's seed, for dropout.
    pub seed: u64,
    /// The optimiser.
    pub optimiser: OptimiserKind,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Share of each target that is spread over all classes.
    pub label_smoothing: f32,
}

/// The implementation and the device it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Engine {
    /// Fast or reference.
    pub implementation: Implementation,
    /// The CPU, or a CUDA device.
    pub device: Device,
}

impl Engine {
    /// Starts the determinants of a result of the deep model: its version and this engine.
    pub(crate) fn determinants(self, what: &'static str) -> Determinants {
        let facts = Determinants::of(what, attention_lstm::ENTRY.version);
        self.device.add_to(facts.and("implementation", &self.implementation))
    }

    /// Creates an ELMo with these parameters.
    ///
    /// # Errors
    /// The implementation cannot use the device, or the parameters' shapes do not match the options.
    pub(crate) fn language_model(
        self,
        options: &ElmoOptions,
        parameters: &ParameterSet,
        seed: u64,
    ) -> Result<Box<dyn LanguageModel>, ModelError> {
        match self.implementation {
            Implementation::Fast => fast::language_model(options, parameters, seed, self.device),
            Implementation::Reference => reference::language_model(options, parameters, seed, self.device),
        }
    }

    /// Creates a classifier with these parameters.
    ///
    /// # Errors
    /// Same as [`Engine::language_model`].
    pub(crate) fn classifier(
        self,
        options: &AttentionLstmOptions,
        parameters: &ParameterSet,
        seed: u64,
    ) -> Result<Box<dyn SequenceClassifier>, ModelError> {
        match self.implementation {
            Implementation::Fast => fast::classifier(options, parameters, seed, self.device),
            Implementation::Reference => reference::classifier(options, parameters, seed, self.device),
        }
    }

    /// Creates a network with these parameters on the CPU.
    ///
    /// # Errors
    /// The parameters' shapes do not match the network.
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

    /// Creates a network that reconstructs hidden parts of its input, on the CPU.
    ///
    /// # Errors
    /// Same as [`Engine::network`].
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

    /// Creates the classifier with its ELMo, to be trained together; `parameters` are those of both.
    ///
    /// # Errors
    /// Same as [`Engine::language_model`].
    pub(crate) fn joint_classifier(
        self,
        options: &AttentionLstmOptions,
        parameters: &ParameterSet,
        seed: u64,
    ) -> Result<Box<dyn JointClassifier>, ModelError> {
        match self.implementation {
            Implementation::Fast => fast::joint_classifier(options, parameters, seed, self.device),
            Implementation::Reference => reference::joint_classifier(options, parameters, seed, self.device),
        }
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod network_golden;
