//! ELMo (Peters et al. 2018) over packet bytes, as a stage of a fit: pre-trained on the training flows'
//! packets, then frozen and used to encode packets. A pre-trained ELMo is kept in the artifact store, so that
//! fits that differ only in the classifier share it.

mod encoding;
mod pretraining;

pub(crate) use encoding::{ENCODING, encode_flows};
pub(crate) use pretraining::{Pretrained, pretrain};
