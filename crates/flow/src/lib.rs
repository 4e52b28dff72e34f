//! Flows: decoded packets of one five-tuple, split by timeouts, with the first packets' bytes and running statistics.
//! Memory is bounded by the number of active flows, not by the size of the capture.

mod active;
mod assemble;
mod assembler;
mod facts;
mod fragment;
mod kept;
mod key;
mod options;
mod round;
mod running;
mod sequence;
mod shard;
mod slab;
mod sorter;
mod statistics;
mod types;

pub use assemble::{AssembleError, assemble_as_completed, assemble_capture, assemble_packets};
pub use assembler::{Assembler, NumberedFlow};
pub use options::FlowOptionsError;
pub use options::{MOST_KEPT_BYTES, MOST_KEPT_PACKETS};
pub use sequence::{SequencePacket, flow_of_sequence, ipv4_offsets};
pub use sorter::{FlowSorter, Sorted, SortedPacket};
pub use statistics::{STATISTIC_NAMES, reads_times};
pub use types::{FiveTuple, Flow, FlowOptions, FlowPacket, PacketDirection, Pairing};

#[cfg(test)]
mod tests;

// Run the README's example as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
