//! Hyper-parameters ([`options`]) and trained parameters: their names, shapes, initial values and learning rates
//! ([`specification`]), and their values ([`set`]).

mod options;
mod set;
mod specification;

#[cfg(any(test, feature = "cuda"))]
pub(crate) use options::WeightAveraging;
pub(crate) use options::{
    Activation, AttentionLstmOptions, Encoder, LearningRateSchedule, Normalisation, PacketMetadata, check_rate_divisor,
};
pub(crate) use options::{ElmoOptions, MODEL};
pub use set::ParameterSet;
pub(crate) use specification::{
    POSITIONS, Specification, classifier_specifications, convolution, convolution2d, elmo_specifications,
    encoder_specifications, initial, initial_classifier, initial_elmo, layer_norm, linear, norm, rate_factors, token,
};
