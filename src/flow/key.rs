//! The key under which packets meet their flow, and how it is hashed.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use crate::capture::{Packet, Transport};

use super::types::Pairing;

/// Two endpoints and the transport protocol. For bidirectional flows the smaller endpoint comes first, so
/// that both directions have one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlowKey {
    first: SocketAddr,
    second: SocketAddr,
    transport: Transport,
}

impl FlowKey {
    pub(super) fn new(packet: &Packet<'_>, pairing: Pairing) -> FlowKey {
        let (source, destination) = (packet.source, packet.destination);
        let swapped = pairing == Pairing::Bidirectional && source > destination;
        let (first, second) = if swapped { (destination, source) } else { (source, destination) };
        FlowKey { first, second, transport: packet.layout.transport }
    }
}

impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for endpoint in [self.first, self.second] {
            match endpoint.ip() {
                IpAddr::V4(address) => state.write_u64(u64::from(address.to_bits())),
                IpAddr::V6(address) => {
                    let bits = address.to_bits();
                    state.write_u64(bits as u64);
                    state.write_u64((bits >> 64) as u64);
                }
            }
        }
        let protocol = u64::from(self.transport == Transport::Udp);
        let ports = u64::from(self.first.port()) << 16 | u64::from(self.second.port());
        state.write_u64(protocol << 32 | ports);
    }
}

/// Mixes 64-bit words by the two halves of a 128-bit product: several times faster on such keys than the
/// standard hasher. Nothing iterates over the map, so the hash never reaches a result.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct WordHasher(u64);

pub(super) type BuildWordHasher = BuildHasherDefault<WordHasher>;

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // The odd constant is 2^64 divided by the golden ratio (Knuth, volume 3, 6.4).
        let product = u128::from(self.0 ^ word ^ 0x517c_c1b7_2722_0a95) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
