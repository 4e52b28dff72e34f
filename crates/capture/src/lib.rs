//! Captures: turns a pcap or pcapng file, compressed or not, in a zip archive or not, into a stream of decoded packets.
//! This crate handles file formats, link layers, network and transport headers, and truncation, and contains the only
//! locator of packet fields ([`PacketField`]); it knows nothing about flows.
//!
//! A [`CaptureReader`] reads with one bounded buffer and lends one [`Packet`] at a time. Records that cannot become
//! packets are counted by [`SkipReason`] in the [`CaptureSummary`]. If a file is damaged, every packet before the
//! damage is returned, and the summary reports where the damage is.

mod ahead;
pub mod archive;
mod buffer;
mod compression;
mod datagram;
mod error;
mod field;
mod link;
mod network;
mod packet;
mod pcap;
mod pcapng;
mod reader;
mod skip;
mod source;
mod summary;
mod tunnel;

pub use compression::{Compression, CompressionFault, Decompressed, ExpansionLimits, decompress};
pub use error::CaptureError;
pub use field::{FieldGroup, FieldRange, PacketField, PacketView, locate_hellos};
pub use packet::{Fragment, HeaderLayout, Packet, Transport};
pub use reader::{CaptureReader, ReaderOptions};
pub use skip::{SkipReason, SkippedProtocol};
pub use source::CaptureSource;
pub use summary::{CaptureInterface, CaptureSummary, Damage};
pub use tunnel::Tunnels;

#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod layout_tests;
#[cfg(test)]
mod source_tests;
#[cfg(test)]
mod tests;

// Run the README's example as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
