//! ELMo (Peters et al. 2018) over packet bytes, as a stage of a fit: pre-trained on the training flows' packets or on a
//! larger corpus, then frozen and used to encode packets; or read from a file. A pre-trained ELMo and its encodings are
//! kept in the artifact store, so that fits that differ only in the classifier share them.

mod encoding;
mod language_model;

pub(crate) use encoding::{
    BATCH as ENCODED_AT_ONCE, ENCODING, Encoded, Encodings, LARGEST as LARGEST_KEPT, encode_flows,
};
pub(crate) use language_model::{PRETRAINING_ENTRY, pretrain, untrained};
