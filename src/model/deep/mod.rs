//! The deep model, twice: `reference` is short and defines what is computed, `fast` computes the same
//! quickly. What decides a result is written once and serves both: hyper-parameters, parameter names,
//! shapes and initial values ([`parameters`]), and what the loops may ask of an implementation
//! ([`engine`]).

pub(crate) mod engine;
pub(crate) mod fast;
pub(crate) mod parameters;
pub(crate) mod reference;

#[cfg(test)]
mod golden;
