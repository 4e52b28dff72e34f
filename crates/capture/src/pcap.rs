//! The pcap file format (draft-ietf-opsawg-pcap) in either byte order, with microseconds or nanoseconds, and as
//! modified by Kuznetzov's patch. `pcap-parser` does not support the latter in big-endian, so the two headers are
//! parsed here.

use std::ops::Range;

use super::buffer::StreamBuffer;
use super::link::LinkLayer;
use super::skip::SkipReason;

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// Here each record header is eight bytes longer.
const MODIFIED: u32 = 0xa1b2_cd34;
const BILLION: i64 = 1_000_000_000;
/// From this fraction on, in microseconds, a fraction is taken for nanoseconds, as are all while more than half of the
/// records have such a fraction. A smaller one beyond a second is a carry that a program forgot.
const LEAST_NANOSECONDS: i64 = 2_000_000;
/// Length of a record header: two halves of the time, captured and original length.
const RECORD_HEADER: usize = 16;
/// Length of the file header.
pub(super) const FILE_HEADER: usize = 24;

/// The longest accepted packet, as in libpcap and Wireshark; a longer one is damage.
pub(super) const LONGEST_PACKET: usize = 262_144;

/// One record of a capture in either format.
pub(super) struct Record {
    /// Range of the frame, for [`StreamBuffer::bytes_at`].
    pub(super) frame: Range<usize>,
    pub(super) wire_length: u32,
    /// Nanoseconds since the Unix epoch.
    pub(super) timestamp: Result<i64, SkipReason>,
    pub(super) link_layer: Option<&'static LinkLayer>,
    pub(super) link_type: u32,
    /// Range of the comment, for [`StreamBuffer::bytes_at`].
    pub(super) comment: Range<usize>,
}

/// Result of reading one record.
pub(super) enum Step {
    Record(Record),
    End,
    /// The record at the buffer's offset is damaged; describes how.
    Damage(String),
}

/// Properties of all records, from the file header.
pub(super) struct PcapFormat {
    big_endian: bool,
    /// Nanoseconds per unit of a fraction of a second, according to the file header.
    pub(super) nanoseconds_per_unit: i64,
    /// Number of records, and of those with nanoseconds in a file of microseconds.
    records: u64,
    of_nanoseconds: u64,
    /// Number of records whose fraction is a second or more.
    pub(super) fractions_out_of_range: u64,
    record_header: usize,
    pub(super) link_type: u32,
    pub(super) snap_length: u32,
    link_layer: Option<&'static LinkLayer>,
}

impl PcapFormat {
    /// Parses a file header; returns `None` if it is not one.
    pub(super) fn new(head: &[u8]) -> Option<PcapFormat> {
        let head: &[u8; FILE_HEADER] = head.first_chunk()?;
        let magic = [head[0], head[1], head[2], head[3]];
        let (big_endian, magic) = match u32::from_be_bytes(magic) {
            magic @ (MICROSECONDS | NANOSECONDS | MODIFIED) => (true, magic),
            magic => (false, magic.swap_bytes()),
        };
        let (nanoseconds_per_unit, record_header) = match magic {
            MICROSECONDS => (1000, RECORD_HEADER),
            NANOSECONDS => (1, RECORD_HEADER),
            MODIFIED => (1000, RECORD_HEADER + 8),
            _ => return None,
        };
        // The six high bits announce frame check sequences, which are cut off like padding.
        let link_type = number(big_endian, head, 20) & 0x03ff_ffff;
        Some(PcapFormat {
            big_endian,
            nanoseconds_per_unit,
            records: 0,
            of_nanoseconds: 0,
            fractions_out_of_range: 0,
            record_header,
            link_type,
            snap_length: number(big_endian, head, 16),
            link_layer: LinkLayer::from_link_type(link_type),
        })
    }

    /// Reads the next record. The buffer must be at its start, and is moved past it.
    pub(super) fn next(&mut self, buffer: &mut StreamBuffer) -> std::io::Result<Step> {
        let mut needed = self.record_header;
        loop {
            let available = if buffer.data().len() < needed { buffer.fill(needed)? } else { buffer.data().len() };
            if available == 0 {
                return Ok(Step::End);
            }
            if available < needed {
                return Ok(Step::Damage(format!(
                    "the file ends inside a record: {available} of at least {needed} bytes are present"
                )));
            }
            if needed == self.record_header
                && let Some(problem) = no_record(buffer)?
            {
                return Ok(Step::Damage(problem.to_owned()));
            }
            let header = buffer.data();
            let captured = number(self.big_endian, header, 8) as usize;
            if captured > LONGEST_PACKET {
                return Ok(too_long(captured));
            }
            if needed < self.record_header + captured {
                needed = self.record_header + captured;
                continue;
            }
            let (seconds, fraction) = (number(self.big_endian, header, 0), number(self.big_endian, header, 4));
            let wire_length = number(self.big_endian, header, 12).max(captured as u32);
            let end = buffer.start() + needed;
            let record = Record {
                frame: end - captured..end,
                wire_length,
                timestamp: Ok(i64::from(seconds) * BILLION + self.nanoseconds(i64::from(fraction))),
                link_layer: self.link_layer,
                link_type: self.link_type,
                comment: end..end,
            };
            buffer.consume(needed);
            return Ok(Step::Record(record));
        }
    }

    /// Converts a fraction of a second. Programs that write nanoseconds under the magic of microseconds exist, and so do
    /// some that add without a carry. A single damaged fraction says nothing about other records.
    fn nanoseconds(&mut self, fraction: i64) -> i64 {
        self.records += 1;
        let is_large = self.nanoseconds_per_unit > 1 && (LEAST_NANOSECONDS..BILLION).contains(&fraction);
        self.of_nanoseconds += u64::from(is_large);
        let nanoseconds_per_unit =
            if is_large || 2 * self.of_nanoseconds > self.records { 1 } else { self.nanoseconds_per_unit };
        self.fractions_out_of_range += u64::from(is_large || fraction * nanoseconds_per_unit >= BILLION);
        let nanoseconds = fraction * nanoseconds_per_unit;
        // Two seconds and more are no fraction in any unit.
        if nanoseconds < 2 * BILLION { nanoseconds } else { 0 }
    }
}

/// The problem of a file that continues with another capture.
pub(super) const ANOTHER_CAPTURE: &str =
    "another capture begins here: two files were concatenated; join them with mergecap -a";

/// The problem of a file that ends in zeros.
pub(super) const ONLY_ZEROS: &str = "only zeros from here on, as after a power failure during the capture";

/// Whether a file header begins here: a magic number, then version 2.4. Needs eight bytes.
pub(super) fn is_file_header(bytes: &[u8]) -> bool {
    let magic = [MICROSECONDS, NANOSECONDS, MODIFIED]
        .into_iter()
        .any(|magic| bytes[..4] == magic.to_le_bytes() || bytes[..4] == magic.to_be_bytes());
    magic && [[2, 0, 4, 0], [0, 2, 0, 4]].iter().any(|version| bytes[4..8] == *version)
}

/// Detects common content that is not a record: a second capture after the first, or the zeros that a file system
/// leaves after a power failure. Read as records, the former would be a packet without bytes in the year 2050 or so,
/// the latter packets without bytes in 1970.
fn no_record(buffer: &mut StreamBuffer) -> std::io::Result<Option<&'static str>> {
    let header = buffer.data();
    // A section header of a pcapng: type, length, byte order.
    let section = pcap_parser::SHB_MAGIC.to_be_bytes();
    let byte_orders = [pcap_parser::BOM_MAGIC.to_be_bytes(), pcap_parser::BOM_MAGIC.to_le_bytes()];
    let is_section = header[..4] == section && byte_orders.iter().any(|order| header[8..12] == *order);
    if is_section || is_file_header(header) {
        return Ok(Some(ANOTHER_CAPTURE));
    }
    if header[..RECORD_HEADER].iter().any(|&byte| byte != 0) {
        return Ok(None);
    }
    let available = buffer.fill(2 * RECORD_HEADER)?;
    let all_zeros = buffer.data()[..available.min(2 * RECORD_HEADER)].iter().all(|&byte| byte == 0);
    Ok(all_zeros.then_some(ONLY_ZEROS))
}

/// Reads the 32-bit number at `offset`.
fn number(big_endian: bool, bytes: &[u8], offset: usize) -> u32 {
    let bytes = [bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]];
    if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

fn too_long(length: usize) -> Step {
    Step::Damage(format!("a packet claims {length} captured bytes, more than the limit of {LONGEST_PACKET}"))
}
