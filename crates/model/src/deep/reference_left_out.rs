//! Replaces `reference` in builds without that feature; models that request it are rejected earlier.

use super::NetworkOptions;
use super::engine::{JointClassifier, LanguageModel, MaskedModel, NetworkClassifier, SequenceClassifier};
use super::network::Network;
use super::parameters::{AttentionLstmOptions, ElmoOptions, MODEL, ParameterSet};
use crate::{Device, ModelError, left_out};

pub(crate) fn language_model(
    _: &ElmoOptions,
    _: &ParameterSet,
    _: u64,
    _: Device,
) -> Result<Box<dyn LanguageModel>, ModelError> {
    Err(left_out::reference(MODEL))
}

pub(crate) fn classifier(
    _: &AttentionLstmOptions,
    _: &ParameterSet,
    _: u64,
    _: Device,
) -> Result<Box<dyn SequenceClassifier>, ModelError> {
    Err(left_out::reference(MODEL))
}

pub(crate) fn joint_classifier(
    _: &AttentionLstmOptions,
    _: &ParameterSet,
    _: u64,
    _: Device,
) -> Result<Box<dyn JointClassifier>, ModelError> {
    Err(left_out::reference(MODEL))
}

pub(crate) fn network(
    _: &Network,
    _: &ParameterSet,
    _: NetworkOptions,
) -> Result<Box<dyn NetworkClassifier>, ModelError> {
    Err(left_out::reference(MODEL))
}

pub(crate) fn masked_model(
    _: &Network,
    _: &ParameterSet,
    _: NetworkOptions,
) -> Result<Box<dyn MaskedModel>, ModelError> {
    Err(left_out::reference(MODEL))
}
