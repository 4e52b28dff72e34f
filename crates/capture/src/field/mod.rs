//! The one locator of packet fields: where, in a packet's bytes from the IP header on, its fields lie.
//!
//! What fields there are, and where, is a table (`table.rs`). The decoder reads from the places it gives; masks, the leak
//! report and whoever else looks at a field ask [`PacketField::locate`] and [`locate_hellos`], so that they cannot disagree.
//! Ranges lie inside the bytes that were captured: of a field that was cut they hold what is there.

mod header;
mod hello;
mod table;

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::packet::{HeaderLayout, Transport};

pub(crate) use header::{IPV4_HEADER, IPV6_HEADER, TCP_HEADER, UDP_HEADER};
pub(crate) use header::{IPV4_PROTOCOL, IPV6_NEXT_HEADER, TCP_DATA_OFFSET, extension_length, header_length};
pub use hello::locate_hellos;
pub(crate) use table::Header;
use table::{Bits, Place};
pub use table::{FieldGroup, PacketField};

/// A packet as its fields are located in it: in a reader's buffer, or kept of a flow.
#[derive(Debug, Clone, Copy)]
pub struct PacketView<'a> {
    /// Captured bytes from the first byte of the IP header on; the end may have been cut.
    pub bytes: &'a [u8],
    /// Where the headers lie in `bytes`.
    pub layout: HeaderLayout,
}

/// A field, or a part of one, in the bytes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldRange {
    /// The field.
    pub field: PacketField,
    /// The packet's number, as whoever gave the packet counts.
    pub packet: usize,
    /// First byte.
    pub start: usize,
    /// Bytes, at least 1; they lie inside the packet's.
    pub length: usize,
    /// Which bits of the first byte are the field's; all of the others' but the last one's are.
    first_bits: u8,
    last_bits: u8,
    /// Bytes of a hello's field before these, which other records or packets hold.
    pub position: usize,
    /// Whether the bytes show that the field is here. Where a length that was not captured decides, it may be here, and
    /// whoever hides fields hides this.
    pub certain: bool,
}

impl FieldRange {
    /// The bytes that hold the field.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.length
    }

    /// The bits of the byte at `index`, counted from the range's start, that are the field's.
    pub fn bits(&self, index: usize) -> u8 {
        let first = if index == 0 { self.first_bits } else { 0xff };
        first & if index + 1 == self.length { self.last_bits } else { 0xff }
    }

    /// What lies at a place of a packet's bytes, as far as they were captured.
    fn inside(field: PacketField, bits: Bits, bytes: &[u8]) -> Option<FieldRange> {
        let whole = bits.start + bits.length;
        let end = whole.min(bytes.len());
        (bits.start < end).then(|| FieldRange {
            field,
            packet: 0,
            start: bits.start,
            length: end - bits.start,
            first_bits: bits.first,
            last_bits: if end == whole { bits.last } else { 0xff },
            position: 0,
            certain: true,
        })
    }
}

impl<'a> PacketView<'a> {
    /// The version that the IP header names; none where nothing was captured.
    pub fn ip_version(&self) -> Option<u8> {
        self.bytes.first().map(|first| first >> 4)
    }

    fn is_ipv6(&self) -> bool {
        self.ip_version() == Some(6)
    }

    fn is_tcp(&self) -> bool {
        self.layout.transport == Transport::Tcp
    }

    /// First byte of the transport header.
    fn transport(&self) -> usize {
        usize::from(self.layout.transport_offset)
    }

    /// First byte of the payload.
    fn payload(&self) -> usize {
        usize::from(self.layout.payload_offset)
    }

    /// Whether the packet has a TCP or UDP header: fragments after the first have none.
    fn has_transport_header(&self) -> bool {
        self.layout.payload_offset > self.layout.transport_offset
    }
}

impl PacketField {
    /// Calls `found` with every part of the field in a packet's headers, in order. The packet's
    /// number in them is 0. Fields of TLS hellos have none here: see [`locate_hellos`].
    pub fn locate(self, packet: PacketView<'_>, mut found: impl FnMut(FieldRange)) {
        self.places(packet, &mut |bits| {
            if let Some(range) = FieldRange::inside(self, bits, packet.bytes) {
                found(range);
            }
        });
    }

    /// The first value of a field of at most four bytes as a number, where all of it was captured.
    pub fn number(self, packet: PacketView<'_>) -> Option<u32> {
        let mut first = None;
        self.places(packet, &mut |bits| {
            first.get_or_insert(bits);
        });
        let Bits { start, length, first, last } = first?;
        let bytes = packet.bytes.get(start..start + length).filter(|_| length <= 4)?;
        let value = bytes.iter().enumerate().fold(0, |value, (index, byte)| {
            let bits = if index == 0 { first } else { 0xff } & if index + 1 == length { last } else { 0xff };
            (value << 8) | u32::from(byte & bits)
        });
        Some(value)
    }

    /// Where the headers say that the field lies, captured or not.
    fn places(self, packet: PacketView<'_>, found: &mut dyn FnMut(Bits)) {
        if !packet.bytes.is_empty() {
            self.row().places.iter().for_each(|place: &Place| header::find(place, packet, found));
        }
    }
}
