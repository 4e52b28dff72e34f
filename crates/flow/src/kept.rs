//! The first packets of active flows. All flows of a shard share one store of cells, so that keeping a packet costs no
//! allocation and a flow wastes less than one cell.

use super::facts::PacketFacts;
use super::types::{FlowPacket, PacketDirection};
use etcbench_capture::{HeaderLayout, Transport};

/// Time, wire length, offsets of transport header and payload, direction, number of bytes kept.
const HEAD: usize = 8 + 4 + 2 + 2 + 1 + 2;
/// Bytes of a cell without its link to the next: with the link, it fills two CPU cache lines.
const CELL: usize = 128 - 4;
/// Number of cells in a piece of the store.
const PIECE: usize = 256;
/// Marks the end of a chain.
const NONE: u32 = u32::MAX;

/// Aligned, so that it fills no third line.
#[repr(align(64))]
struct Cell {
    next: u32,
    bytes: [u8; CELL],
}

/// The cells of a shard, both used and free.
pub(super) struct KeptStore {
    /// Pieces never move, unlike the contents of a growing vector.
    pieces: Vec<Vec<Cell>>,
    /// The first free cell, which links to the others.
    free: u32,
}

/// The cells of one flow: a chain that contains, for each packet, a head of [`HEAD`] bytes and its kept bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeptPackets {
    first: u32,
    last: u32,
    /// Number of bytes in all cells.
    length: u32,
    count: u16,
}

impl KeptPackets {
    pub(super) fn new() -> KeptPackets {
        KeptPackets { first: NONE, last: NONE, length: 0, count: 0 }
    }

    /// Returns the number of kept packets.
    pub(super) fn count(&self) -> usize {
        usize::from(self.count)
    }
}

impl KeptStore {
    pub(super) fn new() -> KeptStore {
        KeptStore { pieces: Vec::new(), free: NONE }
    }

    fn cell(&mut self, number: u32) -> &mut Cell {
        &mut self.pieces[number as usize / PIECE][number as usize % PIECE]
    }

    /// Returns a cell without a link.
    fn new_cell(&mut self) -> u32 {
        if self.free != NONE {
            let number = self.free;
            self.free = std::mem::replace(&mut self.cell(number).next, NONE);
            return number;
        }
        if self.pieces.last().is_none_or(|piece| piece.len() == PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        let whole = self.pieces.len() - 1;
        let piece = &mut self.pieces[whole];
        piece.push(Cell { next: NONE, bytes: [0; CELL] });
        u32::try_from(whole * PIECE + piece.len() - 1).expect("a cell number fits into 32 bits")
    }

    /// Keeps a packet with these of its bytes, at most 65,535.
    pub(super) fn push(
        &mut self,
        kept: &mut KeptPackets,
        direction: PacketDirection,
        packet: &PacketFacts,
        bytes: &[u8],
    ) {
        let [t0, t1, t2, t3, t4, t5, t6, t7] = packet.timestamp.to_ne_bytes();
        let [w0, w1, w2, w3] = packet.wire_length.to_ne_bytes();
        let [h0, h1] = packet.layout.transport_offset.to_ne_bytes();
        let [p0, p1] = packet.layout.payload_offset.to_ne_bytes();
        let backward = u8::from(direction == PacketDirection::Backward);
        let [l0, l1] = (bytes.len() as u16).to_ne_bytes();
        let head: [u8; HEAD] = [t0, t1, t2, t3, t4, t5, t6, t7, w0, w1, w2, w3, h0, h1, p0, p1, backward, l0, l1];
        self.append(kept, &head);
        self.append(kept, bytes);
        kept.count += 1;
    }

    fn append(&mut self, kept: &mut KeptPackets, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = kept.length as usize % CELL;
            if used == 0 {
                let new = self.new_cell();
                if kept.length == 0 {
                    kept.first = new;
                } else {
                    self.cell(kept.last).next = new;
                }
                kept.last = new;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CELL - used));
            self.cell(kept.last).bytes[used..used + now.len()].copy_from_slice(now);
            kept.length += now.len() as u32;
            bytes = later;
        }
    }

    /// Reads from the cell to which the next packet of a flow is appended; the returned value is meaningless.
    pub(super) fn touch(&self, kept: KeptPackets) -> u64 {
        if kept.last == NONE { 0 } else { u64::from(self.bytes(kept.last)[kept.length as usize % CELL]) }
    }

    fn bytes(&self, number: u32) -> &[u8; CELL] {
        &self.pieces[number as usize / PIECE][number as usize % PIECE].bytes
    }

    /// Reads from all cells of several flows, one cell of each at a time: a link is known only once its cell was read,
    /// and the processor waits for as many cells at once as there are flows. The returned value is meaningless.
    pub(super) fn touch_all(chains: &mut [(&KeptStore, KeptPackets)]) -> u64 {
        let mut sum = 0;
        let mut some = true;
        while some {
            some = false;
            for (store, kept) in &mut *chains {
                if kept.first != NONE {
                    let cell = &store.pieces[kept.first as usize / PIECE][kept.first as usize % PIECE];
                    sum ^= u64::from(cell.bytes[CELL - 1]);
                    kept.first = cell.next;
                    some = true;
                }
            }
        }
        sum
    }

    /// Returns a flow's packets, in the public type.
    pub(super) fn packets(&self, kept: KeptPackets, transport: Transport) -> Vec<FlowPacket> {
        let mut chain = Chain { store: self, number: kept.first, used: 0 };
        let packet = |_| {
            let [t0, t1, t2, t3, t4, t5, t6, t7, w0, w1, w2, w3, h0, h1, p0, p1, backward, l0, l1] = chain.head();
            FlowPacket {
                direction: if backward == 0 { PacketDirection::Forward } else { PacketDirection::Backward },
                timestamp: i64::from_ne_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
                wire_length: u32::from_ne_bytes([w0, w1, w2, w3]),
                bytes: chain.bytes(usize::from(u16::from_ne_bytes([l0, l1]))),
                layout: HeaderLayout {
                    transport_offset: u16::from_ne_bytes([h0, h1]),
                    payload_offset: u16::from_ne_bytes([p0, p1]),
                    transport,
                },
            }
        };
        (0..kept.count).map(packet).collect()
    }

    /// Frees a flow's cells.
    pub(super) fn free(&mut self, kept: KeptPackets) {
        if kept.last != NONE {
            self.cell(kept.last).next = self.free;
            self.free = kept.first;
        }
    }
}

/// A position in a chain of cells.
struct Chain<'a> {
    store: &'a KeptStore,
    number: u32,
    /// Number of bytes of this cell before the position.
    used: usize,
}

impl<'a> Chain<'a> {
    /// Returns the next bytes of one cell, at most `most`.
    fn part(&mut self, most: usize) -> &'a [u8] {
        if self.used == CELL {
            self.number = self.store.pieces[self.number as usize / PIECE][self.number as usize % PIECE].next;
            self.used = 0;
        }
        let rest = &self.store.bytes(self.number)[self.used..];
        let part = &rest[..rest.len().min(most)];
        self.used += part.len();
        part
    }

    fn head(&mut self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        let mut filled = 0;
        while filled < HEAD {
            let part = self.part(HEAD - filled);
            head[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        }
        head
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            bytes.extend_from_slice(self.part(length - bytes.len()));
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Pairing;
    use crate::key::FlowKey;

    fn facts(timestamp: i64, wire_length: u32, offsets: (u16, u16), transport: Transport) -> PacketFacts {
        let end = std::net::SocketAddr::from(([10, 0, 0, 1], 1));
        let (key, reversed) = FlowKey::new(end, end, transport, Pairing::Bidirectional);
        PacketFacts {
            key,
            reversed,
            timestamp,
            wire_length,
            network_length: 0,
            payload_length: 0,
            layout: HeaderLayout { transport_offset: offsets.0, payload_offset: offsets.1, transport },
            tcp_flags: 0,
            tcp_window: 0,
        }
    }

    proptest! {
        /// Adds packets of several flows in turn; now and then takes a flow, whose cells are then reused.
        #[test]
        fn packets_come_back_as_they_were_kept(
            steps in prop::collection::vec(
                (0usize..5, any::<(i64, u32, u16, u16, bool)>(), prop::collection::vec(any::<u8>(), 0..400), 0u8..8),
                0..120,
            ),
            udp: bool,
        ) {
            let transport = if udp { Transport::Udp } else { Transport::Tcp };
            let mut store = KeptStore::new();
            let mut flows: [(KeptPackets, Vec<FlowPacket>); 5] =
                std::array::from_fn(|_| (KeptPackets::new(), Vec::new()));
            let (mut used, mut most_used) = (0, 0);
            let cells = |flow: &KeptPackets| (flow.length as usize).div_ceil(CELL);
            for (flow, (timestamp, wire_length, start, payload, backward), bytes, taken) in steps {
                let (kept, expected) = &mut flows[flow];
                let direction = if backward { PacketDirection::Backward } else { PacketDirection::Forward };
                let packet = facts(timestamp, wire_length, (start, payload), transport);
                used -= cells(kept);
                store.push(kept, direction, &packet, &bytes);
                used += cells(kept);
                most_used = most_used.max(used);
                expected.push(FlowPacket { direction, timestamp, wire_length, bytes, layout: packet.layout });
                prop_assert_eq!(kept.count(), expected.len());
                if taken == 0 {
                    used -= cells(kept);
                    prop_assert_eq!(store.packets(*kept, transport), std::mem::take(expected));
                    store.free(*kept);
                    *kept = KeptPackets::new();
                }
            }
            for (kept, expected) in flows {
                prop_assert_eq!(store.packets(kept, transport), expected);
            }
            prop_assert_eq!(store.pieces.iter().map(Vec::len).sum::<usize>(), most_used);
        }
    }
}
