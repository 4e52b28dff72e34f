//! Captures: a pcap or pcapng file, compressed or not, in a zip archive or not, becomes a stream of decoded
//! packets. This module owns file formats, link layers, network and transport headers, and truncation, and the one
//! locator of packet fields ([`PacketField`]); it knows nothing of flows.
//!
//! A [`CaptureReader`] reads with one bounded buffer and lends one [`Packet`] at a time. Whatever cannot
//! become a packet is counted by [`SkipReason`] in the [`CaptureSummary`]; where a file is damaged, every
//! packet before the damage is given and the summary says where the damage lies.

pub mod archive;
mod buffer;
mod compression;
mod error;
mod field;
mod link;
mod network;
mod packet;
mod pcap;
mod pcapng;
mod reader;
mod source;
mod summary;
mod tunnel;
mod wireless;

pub use compression::{Compression, CompressionFault, Decompressed, ExpansionLimits, decompress};
pub use error::CaptureError;
pub use field::{FieldGroup, FieldRange, PacketField, PacketView, locate_hellos};
pub use packet::{Fragment, HeaderLayout, Packet, Transport};
pub use reader::{CaptureReader, ReaderOptions};
pub use source::CaptureSource;
pub use summary::{CaptureInterface, CaptureSummary, Damage, SkipReason};
pub use tunnel::Tunnels;

#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod layout_tests;
#[cfg(test)]
mod source_tests;
#[cfg(test)]
mod tests;

// The README's example is tested like any other.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
