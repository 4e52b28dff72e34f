//! Features: labelled flows become `N x M` byte tokens and flow statistics. This module owns masking,
//! padding and the columnar feature store on disk (Parquet).

mod set;

pub use set::{FeatureSet, PAD, TokenArray, VOCABULARY};
