//! The pcapng file format (draft-ietf-opsawg-pcapng), with blocks parsed by `pcap-parser`: sections, each with its byte
//! order and interfaces, and for each interface a link type, a snap length and a clock.

use std::ops::Range;

use pcap_parser::{EPB_MAGIC, IDB_MAGIC, InterfaceDescriptionBlock, OptionCode, SHB_MAGIC, SPB_MAGIC};

use super::buffer::StreamBuffer;
use super::link::LinkLayer;
use super::pcap::{self, LONGEST_PACKET, Record, Step};
use super::skip::SkipReason;
use super::summary::CaptureInterface;

/// The longest accepted block, as in libpcap; a longer one is damage.
const LONGEST_BLOCK: usize = 16 * 1024 * 1024;
/// Maximum number of interfaces in one section; the obsolete packet block cannot address more.
const MOST_INTERFACES: usize = 65_536;
/// Type, total length, and total length again at the end.
const BLOCK_FRAME: usize = 12;
/// The obsolete packet block, which `pcap-parser` does not parse.
const OBSOLETE_PACKET_BLOCK: u32 = 2;
/// Type, total length, interface, drops, two halves of the time, captured and original length.
const OBSOLETE_PACKET_HEADER: usize = 28;
/// Type, total length, original length.
const SIMPLE_PACKET_HEADER: usize = 12;

/// How to convert the units of an interface's clock to nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resolution {
    /// Nanoseconds per unit.
    Multiply(u64),
    /// Units per nanosecond.
    Divide(u128),
    /// The units count seconds divided by two to this power.
    Shift(u32),
}

impl Resolution {
    /// Parses the option `if_tsresol`: a negative power of 10, or of 2 if the high bit is set.
    /// (`pcap_parser::build_ts_resolution` rejects every power of 2.)
    fn new(if_tsresol: u8) -> Resolution {
        let power = u32::from(if_tsresol & 0x7f);
        if if_tsresol & 0x80 != 0 {
            Resolution::Shift(power)
        } else if power <= 9 {
            Resolution::Multiply(10u64.pow(9 - power))
        } else {
            // From 10^39 on, every 64-bit time is less than a nanosecond.
            Resolution::Divide(10u128.checked_pow(power - 9).unwrap_or(u128::MAX))
        }
    }

    fn nanoseconds(self, units: u64) -> u128 {
        match self {
            Resolution::Multiply(factor) => u128::from(units) * u128::from(factor),
            Resolution::Divide(divisor) => u128::from(units) / divisor,
            Resolution::Shift(power) => (u128::from(units) * 1_000_000_000) >> power,
        }
    }
}

struct Interface {
    link_type: u32,
    link_layer: Option<&'static LinkLayer>,
    resolution: Resolution,
    /// Nanoseconds to add to every time (`if_tsoffset`).
    offset: i128,
}

impl Interface {
    fn timestamp(&self, high: u32, low: u32) -> Result<i64, SkipReason> {
        let units = (u64::from(high) << 32) | u64::from(low);
        let nanoseconds = self.resolution.nanoseconds(units).cast_signed() + self.offset;
        match i64::try_from(nanoseconds) {
            Ok(timestamp) if timestamp >= 0 => Ok(timestamp),
            _ => Err(SkipReason::TimestampOutOfRange),
        }
    }
}

/// State of the section being read.
#[derive(Default)]
pub(super) struct PcapNgFormat {
    big_endian: bool,
    interfaces: Vec<Interface>,
}

/// What the reader needs from one block.
enum Content {
    /// Frame position and length within the block, interface, wire length, halves of the time, and the range of the
    /// comment within the block.
    Packet {
        start: usize,
        captured: usize,
        interface: usize,
        wire_length: u32,
        time: Option<(u32, u32)>,
        comment: Range<usize>,
    },
    Nothing,
}

impl Content {
    fn with_comment(mut self, range: Range<usize>) -> Self {
        if let Content::Packet { comment, .. } = &mut self {
            *comment = range;
        }
        self
    }
}

impl PcapNgFormat {
    /// Reads the next packet record; calls `found` with every interface on the way.
    pub(super) fn next(
        &mut self,
        buffer: &mut StreamBuffer,
        found: &mut dyn FnMut(CaptureInterface),
    ) -> std::io::Result<Step> {
        loop {
            let available = buffer.fill(BLOCK_FRAME)?;
            if available == 0 {
                return Ok(Step::End);
            }
            if available < BLOCK_FRAME {
                return Ok(Step::Damage(format!("the file ends inside a block: {available} of 12 bytes are present")));
            }
            let (block_type, length) = match self.block_head(buffer.data()) {
                Ok(head) => head,
                Err(problem) => return Ok(Step::Damage(problem)),
            };
            let available = buffer.fill(length)?;
            if available < length {
                return Ok(Step::Damage(format!(
                    "the file ends inside a block: {available} of {length} bytes are present"
                )));
            }
            let content = match self.block(block_type, &buffer.data()[..length], found) {
                Ok(content) => content,
                Err(problem) => return Ok(Step::Damage(problem)),
            };
            let block_start = buffer.start();
            if let Content::Packet { start, captured, interface, wire_length, time, comment } = content {
                let Some(interface) = self.interfaces.get(interface) else {
                    return Ok(Step::Damage(format!(
                        "a packet names interface {interface}, but the section describes {}",
                        self.interfaces.len()
                    )));
                };
                let start = block_start + start;
                let record = Record {
                    frame: start..start + captured,
                    wire_length,
                    timestamp: match time {
                        Some((high, low)) => interface.timestamp(high, low),
                        None => Err(SkipReason::NoTimestamp),
                    },
                    link_layer: interface.link_layer,
                    link_type: interface.link_type,
                    comment: block_start + comment.start..block_start + comment.end,
                };
                buffer.consume(length);
                return Ok(Step::Record(record));
            }
            buffer.consume(length);
        }
    }

    /// Returns type and length of the block that begins in `head` (at least 12 bytes); a section header sets the byte
    /// order.
    fn block_head(&mut self, head: &[u8]) -> Result<(u32, usize), String> {
        if pcap::is_file_header(head) {
            return Err(pcap::ANOTHER_CAPTURE.to_owned());
        }
        if head[..BLOCK_FRAME].iter().all(|&byte| byte == 0) {
            return Err(pcap::ONLY_ZEROS.to_owned());
        }
        if head[..4] == SHB_MAGIC.to_be_bytes() {
            self.big_endian = match u32::from_be_bytes([head[8], head[9], head[10], head[11]]) {
                pcap_parser::BOM_MAGIC => true,
                other if other.swap_bytes() == pcap_parser::BOM_MAGIC => false,
                other => return Err(format!("a section header has the unknown byte-order magic {other:#010x}")),
            };
        }
        let block_type = self.number(head, 0);
        let length = self.number(head, 4) as usize;
        if length < BLOCK_FRAME {
            return Err(format!(
                "a block of type {block_type} claims {length} bytes, fewer than the 12 of an empty one"
            ));
        }
        if length > LONGEST_BLOCK {
            return Err(format!(
                "a block of type {block_type} claims {length} bytes, more than the limit of {LONGEST_BLOCK}"
            ));
        }
        Ok((block_type, length))
    }

    /// Reads the 32-bit number at `offset`, in the section's byte order.
    fn number(&self, bytes: &[u8], offset: usize) -> u32 {
        let bytes = [bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]];
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// Processes one whole block.
    fn block(
        &mut self,
        block_type: u32,
        block: &[u8],
        found: &mut dyn FnMut(CaptureInterface),
    ) -> Result<Content, String> {
        if self.number(block, block.len() - 4) as usize != block.len() {
            return Err(format!("a block of type {block_type} has two different lengths at its ends"));
        }
        match block_type {
            SHB_MAGIC => {
                let parsed = pcap_parser::parse_sectionheaderblock(block);
                let (_, header) = parsed.map_err(|_| "a section header is malformed".to_owned())?;
                if header.major_version != 1 {
                    return Err(format!(
                        "a section has format version {}.{}, only 1.x is supported",
                        header.major_version, header.minor_version
                    ));
                }
                self.interfaces.clear();
                Ok(Content::Nothing)
            }
            IDB_MAGIC => {
                let parsed = if self.big_endian {
                    pcap_parser::parse_interfacedescriptionblock_be(block)
                } else {
                    pcap_parser::parse_interfacedescriptionblock_le(block)
                };
                let (_, description) = parsed.map_err(|_| "an interface description is malformed".to_owned())?;
                if self.interfaces.len() == MOST_INTERFACES {
                    return Err(format!("a section describes more than {MOST_INTERFACES} interfaces"));
                }
                let interface = self.interface(&description)?;
                found(CaptureInterface { link_type: interface.link_type, snap_length: description.snaplen });
                self.interfaces.push(interface);
                Ok(Content::Nothing)
            }
            EPB_MAGIC => {
                let parsed = if self.big_endian {
                    pcap_parser::parse_enhancedpacketblock_be(block)
                } else {
                    pcap_parser::parse_enhancedpacketblock_le(block)
                };
                let (_, packet) = parsed.map_err(|_| "an enhanced packet block is malformed".to_owned())?;
                let within = |bytes: &[u8]| {
                    let start = bytes.as_ptr().addr() - block.as_ptr().addr();
                    start..start + bytes.len()
                };
                let comment = packet.options.iter().find(|option| option.code == OptionCode::Comment);
                let comment = comment.and_then(|option| option.as_bytes().ok()).map_or(0..0, within);
                let content = packet_content(
                    packet.data.as_ptr().addr() - block.as_ptr().addr(),
                    (packet.caplen as usize, packet.data.len()),
                    packet.if_id as usize,
                    packet.origlen,
                    Some((packet.ts_high, packet.ts_low)),
                )?;
                Ok(content.with_comment(comment))
            }
            OBSOLETE_PACKET_BLOCK if block.len() >= OBSOLETE_PACKET_HEADER + 4 => {
                let interface = [block[8], block[9]];
                let interface =
                    if self.big_endian { u16::from_be_bytes(interface) } else { u16::from_le_bytes(interface) };
                packet_content(
                    OBSOLETE_PACKET_HEADER,
                    (self.number(block, 20) as usize, block.len() - OBSOLETE_PACKET_HEADER - 4),
                    usize::from(interface),
                    self.number(block, 24),
                    Some((self.number(block, 12), self.number(block, 16))),
                )
            }
            SPB_MAGIC if block.len() >= SIMPLE_PACKET_HEADER + 4 => {
                let original = self.number(block, 8);
                let available = block.len() - SIMPLE_PACKET_HEADER - 4;
                let captured = available.min(original as usize);
                packet_content(SIMPLE_PACKET_HEADER, (captured, available), 0, original, None)
            }
            OBSOLETE_PACKET_BLOCK | SPB_MAGIC => Err("a packet block is too short for its header".to_owned()),
            _ => Ok(Content::Nothing),
        }
    }

    fn interface(&self, description: &InterfaceDescriptionBlock<'_>) -> Result<Interface, String> {
        let link_type = description.linktype.0.cast_unsigned();
        let mut interface = Interface {
            link_type,
            link_layer: LinkLayer::from_link_type(link_type),
            // Microseconds if the option is absent.
            resolution: Resolution::new(6),
            offset: 0,
        };
        for option in &description.options {
            // The fields that `pcap-parser` derives assume a little-endian offset in every section.
            match (option.code, option.as_bytes()) {
                (OptionCode::IfTsresol, Ok(&[resolution])) => interface.resolution = Resolution::new(resolution),
                (OptionCode::IfTsoffset, Ok(bytes)) if bytes.len() == 8 => {
                    let mut seconds = [0; 8];
                    seconds.copy_from_slice(bytes);
                    let seconds =
                        if self.big_endian { i64::from_be_bytes(seconds) } else { i64::from_le_bytes(seconds) };
                    interface.offset = i128::from(seconds) * 1_000_000_000;
                }
                (OptionCode::IfTsresol | OptionCode::IfTsoffset, _) => {
                    return Err("an interface's time resolution or offset has the wrong length".to_owned());
                }
                _ => {}
            }
        }
        Ok(interface)
    }
}

fn packet_content(
    start: usize,
    (captured, available): (usize, usize),
    interface: usize,
    original: u32,
    time: Option<(u32, u32)>,
) -> Result<Content, String> {
    if captured > available {
        return Err(format!("a packet claims {captured} captured bytes, but its block contains {available}"));
    }
    if captured > LONGEST_PACKET {
        return Err(format!("a packet claims {captured} captured bytes, more than the limit of {LONGEST_PACKET}"));
    }
    let wire_length = original.max(captured as u32);
    Ok(Content::Packet { start, captured, interface, wire_length, time, comment: 0..0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resolution_becomes_nanoseconds() {
        assert_eq!(Resolution::new(6).nanoseconds(1_500_000), 1_500_000_000);
        assert_eq!(Resolution::new(0).nanoseconds(3), 3_000_000_000);
        assert_eq!(Resolution::new(9).nanoseconds(7), 7);
        assert_eq!(Resolution::new(12).nanoseconds(7_999), 7);
        assert_eq!(Resolution::new(127).nanoseconds(u64::MAX), 0);
        assert_eq!(Resolution::new(0x80).nanoseconds(3), 3_000_000_000);
        assert_eq!(Resolution::new(0x80 | 10).nanoseconds(1536), 1_500_000_000);
        assert_eq!(Resolution::new(0xff).nanoseconds(u64::MAX), 0);
    }
}
