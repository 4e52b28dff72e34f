//! Tests of flow assembly: invariants over drawn packets, and statistics against an independent script.

mod golden;
mod invariants;
mod parallel;
mod watched;
