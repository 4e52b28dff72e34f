//! etcbench: a reproducible benchmark harness for encrypted-traffic classification.
//!
//! The command line ([`cli`]), and re-exports of every crate of the workspace for programs that use etcbench as a
//! library. Data flows in one direction through these crates, and each depends only on those before it: [`storage`] ->
//! [`capture`] -> [`flow`] -> [`dataset`] -> [`feature`] -> [`split`] -> [`evaluate`] -> [`leaks`] -> [`model`] ->
//! [`experiment`] -> [`report`]. [`synth`] generates captures.

pub use etcbench_capture as capture;
pub use etcbench_dataset as dataset;
pub use etcbench_evaluate as evaluate;
pub use etcbench_experiment as experiment;
pub use etcbench_feature as feature;
pub use etcbench_flow as flow;
pub use etcbench_leaks as leaks;
pub use etcbench_model as model;
pub use etcbench_report as report;
pub use etcbench_split as split;
pub use etcbench_storage as storage;
pub use etcbench_storage::{declarative, progress, seed};
pub use etcbench_submission as submission;
pub use etcbench_synth as synth;

pub mod cli;
pub mod project;
pub mod runs;

#[doc(hidden)]
pub mod fuzz_targets;
