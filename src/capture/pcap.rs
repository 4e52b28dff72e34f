//! The pcap file format (draft-ietf-opsawg-pcap), its records parsed by `pcap-parser`.

use std::ops::Range;

use pcap_parser::nom::{Err, IResult, Needed};
use pcap_parser::{LegacyPcapBlock, PcapError, PcapHeader};

use super::buffer::StreamBuffer;
use super::link::LinkLayer;
use super::summary::SkipReason;

/// Length of the file header.
pub(super) const FILE_HEADER: usize = 24;

/// The longest captured packet that is believed, as in libpcap and Wireshark; a longer one is damage.
pub(super) const LONGEST_PACKET: usize = 262_144;

/// One record of a capture, of either format.
pub(super) struct Record {
    /// The frame, for [`StreamBuffer::bytes_at`].
    pub(super) frame: Range<usize>,
    pub(super) wire_length: u32,
    /// Nanoseconds since the Unix epoch.
    pub(super) timestamp: Result<i64, SkipReason>,
    pub(super) link_layer: Option<LinkLayer>,
    pub(super) link_type: u32,
}

/// What reading on gave.
pub(super) enum Step {
    Record(Record),
    End,
    /// The record at the buffer's offset is damaged, and how.
    Damage(String),
}

type ParseRecord = fn(&[u8]) -> IResult<&[u8], LegacyPcapBlock<'_>, PcapError<&[u8]>>;

/// What the file header says of all records.
pub(super) struct PcapFormat {
    parse: ParseRecord,
    nanoseconds_per_unit: i64,
    pub(super) link_type: u32,
    pub(super) snap_length: u32,
    link_layer: Option<LinkLayer>,
}

impl PcapFormat {
    pub(super) fn new(header: &PcapHeader) -> PcapFormat {
        let parse: ParseRecord = if header.is_modified_format() {
            pcap_parser::parse_pcap_frame_modified
        } else if header.is_bigendian() {
            pcap_parser::parse_pcap_frame_be
        } else {
            pcap_parser::parse_pcap_frame
        };
        // The six high bits tell of frame check sequences, which are cut off as padding is.
        let link_type = header.network.0.cast_unsigned() & 0x03ff_ffff;
        PcapFormat {
            parse,
            nanoseconds_per_unit: if header.is_nanosecond_precision() { 1 } else { 1000 },
            link_type,
            snap_length: header.snaplen,
            link_layer: LinkLayer::from_link_type(link_type),
        }
    }

    /// The next record; the buffer stands at its start, and after it afterwards.
    pub(super) fn next(&self, buffer: &mut StreamBuffer) -> std::io::Result<Step> {
        loop {
            let window = buffer.data();
            let available = window.len();
            let missing = match (self.parse)(window) {
                Ok((rest, block)) => {
                    let captured = block.data.len();
                    if captured > LONGEST_PACKET {
                        return Ok(too_long(captured));
                    }
                    let record_length = available - rest.len();
                    let end = buffer.start() + record_length;
                    let record = Record {
                        frame: end - captured..end,
                        wire_length: block.origlen.max(block.caplen),
                        timestamp: Ok(i64::from(block.ts_sec) * 1_000_000_000
                            + i64::from(block.ts_usec) * self.nanoseconds_per_unit),
                        link_layer: self.link_layer,
                        link_type: self.link_type,
                    };
                    buffer.consume(record_length);
                    return Ok(Step::Record(record));
                }
                Err(Err::Incomplete(Needed::Size(missing))) => missing.get(),
                Err(_) => return Ok(Step::Damage("the record header is malformed".to_owned())),
            };
            if missing > LONGEST_PACKET {
                return Ok(too_long(missing + available));
            }
            let needed = available + missing;
            let available = buffer.fill(needed)?;
            if available == 0 {
                return Ok(Step::End);
            }
            if available < needed {
                return Ok(Step::Damage(format!(
                    "the file ends inside a record: {available} of at least {needed} bytes are there"
                )));
            }
        }
    }
}

fn too_long(length: usize) -> Step {
    Step::Damage(format!("a packet claims {length} captured bytes, more than the {LONGEST_PACKET} that are believed"))
}
