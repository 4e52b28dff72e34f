//! The reference engine: the deep model composed from the tensor operations of the crate `dfdx`, whose
//! automatic differentiation gives the gradients. Short rather than fast, it is the definition of what the
//! fast engine computes, and is itself held to PyTorch by golden values.

mod classifier;
mod graph;
mod language_model;
mod layers;
mod optimiser;

pub(crate) use classifier::classifier;
pub(crate) use language_model::language_model;

#[cfg(test)]
pub(crate) use {classifier::gradients as classifier_gradients, language_model::gradients as language_model_gradients};
