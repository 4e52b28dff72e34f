//! Where a masked field lies.

use super::Mask;

/// How a field's bytes are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number or an address: one value.
    Value,
    /// The 20 low bits of three bytes, the IPv6 flow label.
    FlowLabel,
    /// A string of bytes, of which this is the part from a position on.
    String(usize),
}

/// A field in the bytes of one packet; it may lie past those that were kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) mask: Mask,
    /// Index of the packet in its flow.
    pub(super) packet: usize,
    /// First byte.
    pub(super) start: usize,
    /// Bytes.
    pub(super) length: usize,
    pub(super) kind: Kind,
}

/// The bits of a flow label's first byte.
pub(super) const FLOW_LABEL_BITS: u8 = 0x0f;

impl Field {
    pub(super) fn value(mask: Mask, packet: usize, start: usize, length: usize) -> Field {
        Field { mask, packet, start, length, kind: Kind::Value }
    }

    /// Sets what was kept of the field to zero.
    pub(super) fn zero(&self, part: &mut [u8]) {
        match (self.kind, part) {
            (Kind::FlowLabel, [first, rest @ ..]) => {
                *first &= !FLOW_LABEL_BITS;
                rest.fill(0);
            }
            (_, part) => part.fill(0),
        }
    }
}
