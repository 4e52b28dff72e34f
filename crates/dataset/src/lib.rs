//! Datasets: which captures belong to a dataset, the rules that label its flows, and the provenance of every flow.
//!
//! A [`DatasetDefinition`] is read from `data/<name>.toml`; [`fetch`] downloads openly published files, [`locate`]
//! finds the dataset's folder, [`verify`] reads its contents into a [`Manifest`], and [`load`] turns the captures of
//! one or several datasets into labelled flows.

mod content;
mod definition;
mod definition_file;
mod duplicate;
mod error;
mod feature_file;
mod fetch;
mod flow_labels;
mod folder;
mod foreign;
mod holds;
mod host_labels;
mod labelled;
mod load;
mod manifest;
mod manifest_file;
mod names;
mod plan;
mod published;
mod released;
mod rules;
mod sparse;
mod unmatched;
mod unpack;
mod unpacking;
mod verify;

pub use content::{CaptureContent, capture_sha256, examine, file_sha256};
pub use definition::{DatasetDefinition, PublishedParts, definition_path};
pub use definition_file::{Download, Exclusion, FlowExtent, PacketTimes, Publication};
pub use duplicate::DuplicateCapture;
pub use error::DatasetError;
pub use feature_file::{
    ArffAttribute, ArffError, ArffTable, ArffType, ArffValue, EndpointColumns, FeatureFileRules, FeatureFormat,
    FeatureRow, FeatureTable, ValueRule, load_features, parse_arff,
};
pub use fetch::{FetchError, FetchOptions, Fetched, downloads, fetch};
pub use flow_labels::{MalformedLines, UnknownProtocols};
pub use folder::{CaptureFile, DATA_VARIABLE, DatasetFolder, download_folder, locate, locate_in, open_folder};
pub use holds::{HeldBytes, HeldFlags, HeldLengths, HeldTimes, Holds};
pub use labelled::{FlowProvenance, LabelledFlow, Labels, labels_alike};
pub use load::{Dataset, Loaded, LoadedCapture, load};
pub use manifest::{EntryState, Manifest, ManifestEntry, ManifestError, compare_manifests};
pub use manifest_file::{read_manifest, write_manifest};
pub use names::composed;
pub use plan::{LabelPlan, PlannedCapture, plan};
pub use published::{LAYOUTS, Layout, PublishedRules};
pub use released::{ReleasedPart, read_released};
pub use rules::capture_stem;
pub use unmatched::{FlowWithoutLabel, WithoutLabel, flows_without_label_csv};
pub use unpack::{UnpackError, UnpackLimits, Unpacked, unpack};
pub use verify::{UsedCapture, manifest_of_run, verify};

#[cfg(test)]
mod tests;

// Compile and run the README's example as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
