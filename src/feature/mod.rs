//! Features: labelled flows become `N x M` byte tokens and flow statistics. This module owns masking,
//! padding and the columnar feature store on disk (Parquet).

mod mask;
mod set;
mod token;

pub use mask::Mask;
pub use set::{FeatureSet, PAD, TokenArray, VOCABULARY};
pub use token::{PacketStart, TokenError, TokenOptions, tokenize};
