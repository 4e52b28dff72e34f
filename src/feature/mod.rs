//! Features: labelled flows become `N x M` byte tokens and flow statistics. This module owns masking,
//! padding and the columnar feature store on disk (Parquet).

mod build;
mod mask;
mod select;
mod set;
mod token;

pub use build::build_features;
pub use mask::Mask;
pub use select::{Classes, OneOrMore, Selection, SelectionSummary};
pub use set::{FeatureSet, PAD, TokenArray, VOCABULARY};
pub use token::{PacketStart, TokenError, TokenOptions, tokenize};

/// Why flows do not give the features asked for.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// The selection does not fit the flows.
    #[error("[selection]: {problem}")]
    Selection {
        /// What is wrong and what to do.
        problem: String,
    },
    /// The token options make no sense or do not fit the flows.
    #[error("[feature]: {0}")]
    Token(#[from] TokenError),
}
