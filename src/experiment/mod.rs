//! Experiments: a declarative file becomes a run, every stage cached by the hash of all that
//! determines it.

mod record;

pub use record::{Record, RunKey};
