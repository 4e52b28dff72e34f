//! Datasets: which captures belong to one, the rules that give a flow its labels, and where every
//! flow came from. The generators of the embedded data live here too.

mod definition;
mod error;
mod labelled;
mod load;
mod locate;
pub mod synth;

pub use definition::{Definition, Verdict};
pub use error::DatasetError;
pub use labelled::{FlowProvenance, LabelledFlow, Labels};
pub use load::{CaptureReport, load};
pub use locate::{CaptureFile, Inventory, locate};
