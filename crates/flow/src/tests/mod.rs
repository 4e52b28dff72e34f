//! Tests of flow assembly: invariants over random packets, and statistics against an independent script.

mod collisions;
mod golden;
mod invariants;
mod parallel;
mod watched;
