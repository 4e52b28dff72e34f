//! Datasets: which captures belong to one, the rules that give a flow its labels, and where every
//! flow came from. The generators of the embedded data live here too.
//!
//! A [`DatasetDefinition`] is read from `data/<name>.toml`; [`locate`] finds its folder, [`inventory`]
//! lists what is there with checksums, and [`load`] turns the captures of one or several datasets into
//! labelled flows.

mod definition;
mod error;
mod feature_file;
mod feature_file_arff;
mod flow_labels;
mod folder;
mod labelled;
mod load;
mod plan;
mod rules;
pub mod synth;

pub use definition::{DatasetDefinition, Exclusion, Publication, definition_path};
pub use error::DatasetError;
pub use feature_file::{FeatureFileRules, FeatureFormat, FeatureRow, FeatureTable, load_features};
pub use feature_file_arff::{ArffAttribute, ArffError, ArffTable, ArffType, ArffValue, parse_arff};
pub use folder::{CaptureFile, DATA_VARIABLE, DatasetFolder, file_sha256, locate, locate_in, open_folder};
pub use labelled::{FlowProvenance, LabelledFlow, Labels};
pub use load::{Dataset, Loaded, LoadedCapture, load};
pub use plan::{Inventory, InventoryCapture, LabelPlan, PlannedCapture, inventory, plan};
pub use rules::capture_stem;

#[cfg(test)]
mod tests;
