//! Features: labelled flows become `N x M` byte tokens and flow statistics. This module owns masking,
//! padding and the columnar feature store on disk (Parquet).

mod build;
mod column;
mod mask;
mod sequence;
mod set;
mod store;
mod token;

pub use build::{Classes, Selection, SelectionError, Unselected, Values, build_features, build_table_features};
pub use mask::Mask;
pub use sequence::{SequenceError, SequenceOptions, Transformation, sequence_names, write_sequence};
pub use set::{FeatureSet, PAD, TokenArray, VOCABULARY};
pub use store::{StoreError, StoreHeader, StoreReader, write_store};
pub use token::{PacketStart, TokenError, TokenOptions, tokenize};
