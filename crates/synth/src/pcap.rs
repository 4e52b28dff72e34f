//! Writes classic pcap files (draft-ietf-opsawg-pcap): a header of 24 bytes, then for each frame a record header of 16
//! bytes and the frame.

use std::io::{self, Write};

/// Snap length in the header; these generators write no longer frames.
const SNAP_LENGTH: u32 = 65_535;

/// The unit of a file's timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolution {
    /// Magic number 0xa1b2c3d4.
    Microseconds,
    /// Magic number 0xa1b23c4d.
    Nanoseconds,
}

/// A pcap file being written, little-endian.
pub(super) struct PcapWriter<W: Write> {
    writer: W,
    resolution: Resolution,
}

impl<W: Write> PcapWriter<W> {
    /// Writes the file's header.
    ///
    /// # Errors
    /// Any error of `writer`.
    pub(super) fn new(mut writer: W, resolution: Resolution, link_type: u32) -> io::Result<Self> {
        let magic: u32 = match resolution {
            Resolution::Microseconds => 0xa1b2_c3d4,
            Resolution::Nanoseconds => 0xa1b2_3c4d,
        };
        let mut header = Vec::with_capacity(24);
        header.extend(magic.to_le_bytes());
        header.extend(2u16.to_le_bytes());
        header.extend(4u16.to_le_bytes());
        header.extend([0; 8]);
        header.extend(SNAP_LENGTH.to_le_bytes());
        header.extend(link_type.to_le_bytes());
        writer.write_all(&header)?;
        Ok(Self { writer, resolution })
    }

    /// Writes one frame; `at` is in nanoseconds since the Unix epoch, within 32 bits of seconds.
    ///
    /// # Errors
    /// Any error of the underlying writer.
    pub(super) fn write(&mut self, at: i64, frame: &[u8]) -> io::Result<()> {
        let seconds = u32::try_from(at.div_euclid(1_000_000_000))
            .map_err(|_| io::Error::other("a timestamp does not fit into pcap's 32 bits of seconds"))?;
        let mut fraction = at.rem_euclid(1_000_000_000) as u32;
        if self.resolution == Resolution::Microseconds {
            fraction /= 1000;
        }
        let length = (frame.len() as u32).to_le_bytes();
        let mut header = [0; 16];
        header[..4].copy_from_slice(&seconds.to_le_bytes());
        header[4..8].copy_from_slice(&fraction.to_le_bytes());
        header[8..12].copy_from_slice(&length);
        header[12..].copy_from_slice(&length);
        self.writer.write_all(&header)?;
        self.writer.write_all(frame)
    }

    /// Flushes and returns the writer.
    ///
    /// # Errors
    /// Any error of the underlying writer.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.writer.flush()?;
        Ok(self.writer)
    }
}
