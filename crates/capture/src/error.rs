//! Why a file gives no packets at all.

use thiserror::Error;

use super::archive::ArchiveError;
use super::compression::CompressionFault;

/// A capture that cannot be read. Damage after the first bytes is no error: it is reported by
/// [`super::CaptureSummary::damage`], so that the packets before it can be used.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The file cannot be opened.
    #[error("{name}: cannot open the capture: {source}")]
    Open {
        /// The file.
        name: String,
        /// What the file system says.
        source: std::io::Error,
    },
    /// Reading failed part-way.
    #[error("{name}: reading failed at byte {offset}: {source}; check the disk or the transfer and read again")]
    Read {
        /// The file.
        name: String,
        /// Bytes read before the failure.
        offset: u64,
        /// What the file system says.
        source: std::io::Error,
    },
    /// It is compressed, and its data is damaged from the start or expands past the limits.
    #[error("{name}: {fault}")]
    Compressed {
        /// The file.
        name: String,
        /// What is wrong with it.
        fault: CompressionFault,
    },
    /// It lies in an archive that cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It is an archive, and not a capture.
    #[error(
        "{name}: a zip archive; name the capture in it as {name}!MEMBER, where MEMBER is one of its {count} members, \
         such as {example}"
    )]
    IsAnArchive {
        /// The file.
        name: String,
        /// How many members it has.
        count: usize,
        /// The first of them.
        example: String,
    },
    /// Nothing in it.
    #[error("{name}: the file is empty (0 bytes); a download or a copy may have failed")]
    Empty {
        /// The file.
        name: String,
    },
    /// Neither pcap nor pcapng.
    #[error("{name}: not a pcap or pcapng capture: its first bytes are {first_bytes}; {advice}")]
    NotACapture {
        /// The file.
        name: String,
        /// The first bytes in hexadecimal.
        first_bytes: String,
        /// What the file may be, and what to do.
        advice: &'static str,
    },
    /// No packet of the file has a link type that is decoded here.
    #[error(
        "{name}: link type {link_type} is not supported (see https://www.tcpdump.org/linktypes.html); supported are {}; \
         convert the capture to one of them",
        super::link::SUPPORTED
    )]
    UnsupportedLinkType {
        /// The file.
        name: String,
        /// The number in the capture.
        link_type: u32,
    },
}
