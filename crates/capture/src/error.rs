//! Why no packets at all can be read from a file.

use thiserror::Error;

use super::archive::ArchiveError;
use super::compression::CompressionFault;

/// A capture that cannot be read. Damage after the first bytes is not an error: it is reported by
/// [`super::CaptureSummary::damage`], so that the packets before it can be used.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The file cannot be opened.
    #[error("{name}: cannot open the capture: {source}")]
    Open {
        /// The file.
        name: String,
        /// Error reported by the file system.
        source: std::io::Error,
    },
    /// The path is a folder, not a file.
    #[error("{name}: this is a folder; name the captures in it, such as {name}/*.pcap")]
    IsAFolder {
        /// The folder.
        name: String,
    },
    /// Reading failed partway.
    #[error("{name}: reading failed at byte {offset}: {source}; check the disk or the transfer and read again")]
    Read {
        /// The file.
        name: String,
        /// Number of bytes read before the failure.
        offset: u64,
        /// Error reported by the file system.
        source: std::io::Error,
    },
    /// The file is compressed, and its data is damaged from the start or expands past the limits.
    #[error("{name}: {fault}")]
    Compressed {
        /// The file.
        name: String,
        /// Description of the problem.
        fault: CompressionFault,
    },
    /// The capture is in an archive that cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The file is an archive, not a capture.
    #[error(
        "{name}: a zip archive; name the capture in it as {name}!MEMBER, where MEMBER is one of its {count} members, \
         such as {example}"
    )]
    IsAnArchive {
        /// The file.
        name: String,
        /// Number of members.
        count: usize,
        /// The first member.
        example: String,
    },
    /// The file is empty.
    #[error("{name}: the file is empty (0 bytes); a download or a copy may have failed")]
    Empty {
        /// The file.
        name: String,
    },
    /// The file is neither pcap nor pcapng.
    #[error("{name}: not a pcap or pcapng capture: its first bytes are {first_bytes}; {advice}")]
    NotACapture {
        /// The file.
        name: String,
        /// The first bytes in hexadecimal.
        first_bytes: String,
        /// What the file may be, and what to do.
        advice: &'static str,
    },
    /// No packet of the file has a supported link type.
    #[error(
        "{name}: link type {link_type} is not supported (see https://www.tcpdump.org/linktypes.html); supported are {}; \
         convert the capture to one of them",
        super::link::supported()
    )]
    UnsupportedLinkType {
        /// The file.
        name: String,
        /// The link type's number in the capture.
        link_type: u32,
    },
}
