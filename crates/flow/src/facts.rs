//! The properties of a packet that flow assembly needs in addition to its bytes, without borrowing from the capture's
//! reader.

use std::net::SocketAddr;

use etcbench_capture::{HeaderLayout, Packet};

use super::key::FlowKey;
use super::types::Pairing;

/// A packet's flow key, time, lengths and flags.
#[derive(Debug, Clone, Copy)]
pub(super) struct PacketFacts {
    pub(super) key: FlowKey,
    /// Whether the sender is the key's second endpoint.
    pub(super) reversed: bool,
    /// Nanoseconds since the Unix epoch.
    pub(super) timestamp: i64,
    pub(super) wire_length: u32,
    pub(super) network_length: u32,
    pub(super) payload_length: u32,
    pub(super) layout: HeaderLayout,
    pub(super) tcp_flags: u8,
    pub(super) tcp_window: u16,
}

impl PacketFacts {
    pub(super) fn new(packet: &Packet<'_>, pairing: Pairing) -> PacketFacts {
        let (key, reversed) = FlowKey::new(packet.source, packet.destination, packet.layout.transport, pairing);
        PacketFacts {
            key,
            reversed,
            timestamp: packet.timestamp,
            wire_length: packet.wire_length,
            network_length: packet.network_length,
            payload_length: packet.payload_length,
            layout: packet.layout,
            tcp_flags: packet.tcp_flags,
            tcp_window: packet.tcp_window,
        }
    }

    /// Returns the same packet with these ports, for fragments that do not contain them.
    pub(super) fn with_ports(self, ports: (u16, u16), pairing: Pairing) -> PacketFacts {
        let (first, second) = self.key.endpoints();
        let (source, destination) = if self.reversed { (second, first) } else { (first, second) };
        let source = SocketAddr::new(source.ip(), ports.0);
        let destination = SocketAddr::new(destination.ip(), ports.1);
        let (key, reversed) = FlowKey::new(source, destination, self.layout.transport, pairing);
        PacketFacts { key, reversed, ..self }
    }
}
