//! Datasets: which captures belong to one, the rules that give a flow its labels, and where every
//! flow came from. The generators of the embedded data live here too.

mod labelled;
pub mod synth;

pub use labelled::{FlowProvenance, LabelledFlow, Labels};
