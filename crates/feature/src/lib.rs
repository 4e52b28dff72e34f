//! Features: turns labelled flows into `N x M` byte tokens and flow statistics. Includes masking, padding and the
//! columnar feature store on disk (Parquet).

mod arrow;
mod build;
mod column;
mod duplicate;
mod flow_captures;
mod flowpic;
mod image;
mod mask;
mod nprint;
mod npz;
mod occlusion;
mod selected;
mod selection;
mod sequence;
mod set;
mod spool;
mod store;
mod text;
mod token;
mod tool;
mod unlabelled;

pub use arrow::stream_arrow;
pub use build::{PacketColumns, build_features, build_table_features, features_of};
pub use column::{Columns, added_key};
pub use duplicate::{DuplicateFlows, tokens_without_identifiers};
pub use flow_captures::{FlowCaptureError, FlowCaptureFolder, FlowCaptureOptions, WrittenFlows};
pub use flowpic::{FlowpicError, FlowpicOptions, flowpic_names, write_flowpic};
pub use image::{IMAGE_BYTES, IMAGE_PACKETS, write_images};
pub use mask::{Mask, MaskMethod, mask_flow};
pub use nprint::stream_nprint;
pub use npz::stream_npz;
pub use occlusion::Quantity;
pub use selected::{SelectionError, Unselected, drawn_flows};
pub use selection::{Classes, Sample, Selection, Values};
pub use sequence::{SequenceError, SequenceOptions, Transformation, sequence_names, write_sequence};
pub use set::{FeatureSet, PAD, TokenArray, VOCABULARY};
pub use spool::npy_header;
pub use store::{StoreCompression, StoreError, StoreHeader, StoreReader, stream_store, write_store};
pub use text::stream_csv;
pub use token::{PacketStart, TokenError, TokenOptions, shown_packets, tokenize};
pub use tool::Tool;
pub use unlabelled::{Unusable, unlabelled_features};

/// Bump whenever a change to the code changes the features of the same flows (masks, padding, statistics, sequences,
/// which flows are selected), so that nothing learnt from older features is reused.
pub const FEATURES_VERSION: u32 = 1;

// Compile and run the README's example as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
