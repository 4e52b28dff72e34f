//! etcbench: a reproducible benchmark harness for encrypted-traffic classification.
//!
//! Data flows one way through the modules, and each imports only those before it:
//! [`capture`] -> [`flow`] -> [`dataset`] -> [`feature`] -> [`split`] -> [`model`] -> [`evaluate`] ->
//! [`experiment`] -> [`report`] -> [`cli`]. Four small modules serve all of them: [`declarative`]
//! (TOML files with errors worth reading), [`seed`]
//! (randomness split by purpose), [`progress`] (what long work tells the person waiting) and
//! [`storage`] (files that appear whole or not at all).
#![warn(missing_docs)]
#![forbid(unsafe_op_in_unsafe_fn)]
// Allowed by name in the few modules that call NVIDIA's libraries or vector instructions, and nowhere else.
#![deny(unsafe_code, clippy::undocumented_unsafe_blocks)]

pub mod declarative;
pub mod progress;
pub mod seed;
pub mod storage;

pub mod capture;
pub mod flow;

pub mod dataset;
pub mod feature;
pub mod split;

pub mod model;

pub mod evaluate;
pub mod experiment;
pub mod report;

pub mod cli;

#[doc(hidden)]
pub mod fuzz_targets;
