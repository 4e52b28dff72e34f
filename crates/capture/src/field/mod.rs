//! The only locator of packet fields: finds the fields in a packet's bytes from the IP header on.
//!
//! A table (`table.rs`) lists the fields and their places. The decoder reads from these places; masks, the leak report
//! and everything else that inspects a field use [`PacketField::locate`] and [`locate_hellos`], so that they cannot
//! disagree. Ranges are within the captured bytes: for a truncated field, they cover the captured part.

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

/// A packet whose fields are to be located: in a reader's buffer, or stored with a flow.
#[derive(Debug, Clone, Copy)]
pub struct PacketView<'a> {
    /// Captured bytes from the first byte of the IP header on; the end may be cut.
    pub bytes: &'a [u8],
    /// Where the headers are in `bytes`.
    pub layout: HeaderLayout,
}

/// A field, or a part of one, in the bytes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldRange {
    /// The field.
    pub field: PacketField,
    /// The packet's number, as assigned by the caller.
    pub packet: usize,
    /// First byte.
    pub start: usize,
    /// Number of bytes, at least 1, all within the packet.
    pub length: usize,
    /// Which bits of the first byte belong to the field; the last byte has its own mask, and all bytes in between
    /// belong to it.
    first_bits: u8,
    last_bits: u8,
    /// Number of bytes of a hello's field that come before these, in other records or packets.
    pub position: usize,
    /// Whether the bytes prove that the field is here. If the place depends on a length that was not captured, the
    /// field may be here, and masks hide this range too.
    pub certain: bool,
}

impl FieldRange {
    /// Returns the range of bytes that contain the field.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.length
    }

    /// Returns the field's bits in the byte at `index`, counted from the range's start.
    pub fn bits(&self, index: usize) -> u8 {
        let first = if index == 0 { self.first_bits } else { 0xff };
        first & if index + 1 == self.length { self.last_bits } else { 0xff }
    }

    /// Returns the captured part of a place in a packet's bytes.
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
    /// Returns the version in the IP header, or `None` if nothing was captured.
    pub fn ip_version(&self) -> Option<u8> {
        self.bytes.first().map(|first| first >> 4)
    }

    fn is_ipv6(&self) -> bool {
        self.ip_version() == Some(6)
    }

    fn is_tcp(&self) -> bool {
        self.layout.transport == Transport::Tcp
    }

    /// Returns the position of the transport header.
    fn transport(&self) -> usize {
        usize::from(self.layout.transport_offset)
    }

    /// Returns the position of the payload.
    fn payload(&self) -> usize {
        usize::from(self.layout.payload_offset)
    }

    /// Whether the packet has a TCP or UDP header: fragments after the first have none.
    fn has_transport_header(&self) -> bool {
        self.layout.payload_offset > self.layout.transport_offset
    }
}

impl PacketField {
    /// Calls `found` with every part of the field in a packet's headers, in order, with packet number 0. Fields of TLS
    /// hellos are not found here: see [`locate_hellos`].
    pub fn locate(self, packet: PacketView<'_>, mut found: impl FnMut(FieldRange)) {
        self.places(packet, &mut |bits| {
            if let Some(range) = FieldRange::inside(self, bits, packet.bytes) {
                found(range);
            }
        });
    }

    /// Returns the first value of a field of at most four bytes as a number, if all of it was captured.
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

    /// Calls back with the field's places according to the headers, captured or not.
    fn places(self, packet: PacketView<'_>, found: &mut dyn FnMut(Bits)) {
        if !packet.bytes.is_empty() {
            self.row().places.iter().for_each(|place: &Place| header::find(place, packet, found));
        }
    }
}
