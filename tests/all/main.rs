//! Tests through the real binary and the library's public API, in one program so that they link once. Two are separate
//! because they measure their whole process: `deep_step` counts allocations and `synth_tshark` memory.

mod common;

mod audit_data;
mod bad_input;
mod broken_files;
mod capture_data;
mod capture_tshark;
mod classical;
mod dataset;
#[cfg(target_os = "linux")]
mod determinism;
mod download;
#[cfg(unix)]
mod edited_runs;
mod evaluation;
#[cfg(unix)]
mod examples;
mod experiments;
#[cfg(unix)]
mod external;
#[cfg(target_os = "linux")]
mod external_faults;
#[cfg(unix)]
mod external_models;
mod falsified_lengths;
#[cfg(target_os = "linux")]
mod fault_outputs;
#[cfg(target_os = "linux")]
mod faults;
mod findings;
mod flow_peers;
mod fuzz_seeds;
#[cfg(target_os = "linux")]
mod interruption;
mod lab;
mod ladder;
mod leaks;
mod links;
#[cfg(unix)]
mod live;
mod project;
mod published;
mod release;
mod report;
#[cfg(unix)]
mod slurm;
#[cfg(target_os = "linux")]
mod slurm_everything;
mod split_flows;
mod stages;
mod submission;
mod sweep;
mod tables;
mod terminal;
mod tools;
mod tutorial;
mod unpack;
#[cfg(unix)]
mod user_files;
mod written_formats;
