//! IEEE 802.11 frames, bare or behind radiotap, AVS or Prism headers: data frames lead to their IP packet, all others
//! are skipped.

use super::IpOffset;
use super::next::{after_llc, little_endian_16, little_endian_32};
use crate::skip::SkipReason;

/// The first four bytes of an AVS header.
const AVS_MAGIC: u32 = 0x8021_1001;
/// Length of a Prism header.
const PRISM_HEADER: usize = 144;
/// Radiotap's flags: padding between header and payload; wrong checksum.
const DATA_PADDING: u8 = 0x20;
const BAD_CHECKSUM: u8 = 0x40;

/// Parses radiotap (<https://www.radiotap.org>), whose numbers are little-endian.
pub(super) fn after_radiotap(frame: &[u8]) -> IpOffset {
    if *frame.first().ok_or(SkipReason::HeadersTruncated)? != 0 {
        return Err(SkipReason::MalformedHeader.into());
    }
    let length = usize::from(little_endian_16(frame, 2)?);
    let present = little_endian_32(frame, 4)?;
    let mut fields = 8;
    let mut word = present;
    while word >> 31 == 1 {
        word = little_endian_32(frame, fields)?;
        fields += 4;
    }
    // Field 0 is an eight-byte time, aligned to eight bytes; field 1 contains the flags.
    if present & 1 != 0 {
        fields = fields.next_multiple_of(8) + 8;
    }
    let flags = match present & 2 {
        0 => 0,
        _ => *frame.get(fields).ok_or(SkipReason::HeadersTruncated)?,
    };
    if flags & BAD_CHECKSUM != 0 || length < fields {
        return Err(SkipReason::MalformedHeader.into());
    }
    after_80211(frame, length, flags & DATA_PADDING != 0)
}

/// Parses an AVS header, or a Prism header if it is not one: captures of either link type contain both.
pub(super) fn after_avs_or_prism(frame: &[u8]) -> IpOffset {
    let first = frame.first_chunk().ok_or(SkipReason::HeadersTruncated)?;
    if u32::from_be_bytes(*first) != AVS_MAGIC {
        return after_80211(frame, PRISM_HEADER, false);
    }
    let length = frame.get(4..8).ok_or(SkipReason::HeadersTruncated)?;
    let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]);
    // A length past the frame's end means a cut or falsified header.
    let length = usize::try_from(length).ok().filter(|length| *length <= frame.len());
    after_80211(frame, length.ok_or(SkipReason::HeadersTruncated)?, false)
}

/// Parses the header of a data frame (IEEE 802.11-2020, 9.2 and 9.3.2), then LLC.
pub(super) fn after_80211(frame: &[u8], at: usize, padded: bool) -> IpOffset {
    let Some(&[control, flags, ..]) = frame.get(at..) else { return Err(SkipReason::HeadersTruncated.into()) };
    let (version, kind, subtype) = (control & 3, control >> 2 & 3, control >> 4);
    if version != 0 {
        return Err(SkipReason::MalformedHeader.into());
    }
    let (data, without_data, quality_of_service) = (2, 4, 8);
    if kind != data || subtype & without_data != 0 {
        return Err(SkipReason::NotIp.into());
    }
    let (four_addresses, protected, order) = (3, 0x40, 0x80);
    if flags & protected != 0 {
        return Err(SkipReason::Encrypted.into());
    }
    let mut length = 24 + if flags & four_addresses == four_addresses { 6 } else { 0 };
    // The low four bits of the sequence control are the fragment number.
    if frame.get(at + 22).ok_or(SkipReason::HeadersTruncated)? & 0x0f != 0 {
        return Err(SkipReason::FragmentWithoutPorts.into());
    }
    if subtype & quality_of_service != 0 {
        if frame.get(at + length).ok_or(SkipReason::HeadersTruncated)? & 0x80 != 0 {
            return Err(SkipReason::AggregatedFrames.into());
        }
        // The high-throughput control field follows if the order flag is set.
        length += 2 + if flags & order != 0 { 4 } else { 0 };
    }
    if padded {
        length = length.next_multiple_of(4);
    }
    after_llc(frame, at + length)
}
