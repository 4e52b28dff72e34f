//! Models: features, labels and a seed go in; a fitted model that predicts probabilities and can be saved and loaded
//! comes out. One file or folder per model, one trait ([`Classifier`]) that all models implement, and one table with
//! the facts about each. Every model has two implementations under one name: `fast`, the default, and `reference`,
//! which is short and built on a published crate; a test checks that the two agree.

#[cfg(all(test, not(feature = "reference")))]
compile_error!("the tests compare with the reference implementations; add --features reference,cuda");

mod archive;
pub mod attention_lstm;
mod byte_cnn;
mod byte_transformer;
mod class_weights;
mod classical;
mod classifier;
mod decision_tree;
pub(crate) mod deep;
mod deep_fingerprinting;
mod device;
mod elmo;
mod ensemble;
mod entry;
pub mod external;
mod factory;
mod flowpic_cnn;
mod gradient_boosting;
mod input;
mod knn;
mod left_out;
mod logistic_regression;
mod majority;
mod masked;
mod memory;
mod network_model;
mod parameters;
pub mod pretraining;
mod product;
mod random_forest;
#[cfg(feature = "reference")]
mod refit;
mod sequence_cnn;
mod sequence_scaling;
mod stored;
mod svm;
mod trained;

#[doc(hidden)]
pub use deep::fast::benchmark;

pub use archive::{ModelArchive, Tensor, TensorData};
pub use classifier::{
    ArtifactStore, Claims, Classifier, CudaDevice, Device, EpochRecord, Examples, FitContext, FitReport,
    Implementation, Input, ModelError, ModelSpec, NoArtifacts, PACKET_METADATA, Precision, StageTime,
};
pub use device::Finding;
pub use entry::{AgreementBound, ModelEntry, ModelKind};
pub use factory::{build, load};
pub use knn::neighbour_distances;
pub use memory::{ExpectedMemory, FitSize};
pub use pretraining::{CorpusPart, Excluded, Pretraining, Seen};
pub use trained::{Classification, ModelDescription, TrainedModel, model_description, trained_model_bytes};

/// The models, in table order, the paper's models first. To add a model, add a line here and its `mod` above.
static MODELS: &[&ModelEntry] = &[
    &svm::ENTRY,
    &random_forest::ENTRY,
    &knn::ENTRY,
    &gradient_boosting::ENTRY,
    &attention_lstm::ENTRY,
    &sequence_cnn::ENTRY,
    &byte_cnn::ENTRY,
    &byte_transformer::ENTRY,
    &deep_fingerprinting::ENTRY,
    &flowpic_cnn::ENTRY,
    &ensemble::ENTRY,
    &decision_tree::ENTRY,
    &logistic_regression::ENTRY,
    &majority::ENTRY,
];

// Run the README's example as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
