//! Captures: a pcap or pcapng file becomes a stream of decoded packets. This module owns file
//! formats, link layers, network and transport headers, and truncation; it knows nothing of flows.
//!
//! A [`CaptureReader`] reads with one bounded buffer and lends one [`Packet`] at a time. Whatever cannot
//! become a packet is counted by [`SkipReason`] in the [`CaptureSummary`]; where a file is damaged, every
//! packet before the damage is given and the summary says where the damage lies.

mod buffer;
mod error;
mod link;
mod network;
mod packet;
mod pcap;
mod pcapng;
mod reader;
mod summary;

pub use error::CaptureError;
pub use packet::{Fragment, HeaderLayout, Packet, Transport};
pub use reader::CaptureReader;
pub use summary::{CaptureInterface, CaptureSummary, Damage, SkipReason};

#[cfg(test)]
pub(crate) mod craft;
#[cfg(test)]
mod tests;
