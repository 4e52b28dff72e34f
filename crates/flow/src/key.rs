//! The key that assigns packets to flows, and its hash.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etcbench_capture::Transport;

use super::types::Pairing;

/// Two endpoints and the transport protocol, in 64-bit words that are fast to compare and hash. For bidirectional flows
/// the smaller endpoint comes first, so that both directions have the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlowKey {
    hash: u64,
    first: [u64; 2],
    second: [u64; 2],
    /// From the high bits down: ports of the first and the second endpoint, IP version, transport protocol.
    rest: u64,
}

const UDP_BIT: u64 = 1;
const IPV6_BIT: u64 = 2;

fn words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(address) => [0, u64::from(address.to_bits())],
        IpAddr::V6(address) => [(address.to_bits() >> 64) as u64, address.to_bits() as u64],
    }
}

impl FlowKey {
    /// Returns the key, and whether its first endpoint is the destination.
    pub(super) fn new(
        source: SocketAddr,
        destination: SocketAddr,
        transport: Transport,
        pairing: Pairing,
    ) -> (FlowKey, bool) {
        let ends = [source, destination].map(|end| (words(end.ip()), end.port()));
        let reversed = pairing == Pairing::Bidirectional && ends[0] > ends[1];
        let [first, second] = if reversed { [ends[1], ends[0]] } else { ends };
        let rest = (u64::from(first.1) << 48)
            | (u64::from(second.1) << 32)
            | if source.is_ipv6() { IPV6_BIT } else { 0 }
            | if transport == Transport::Udp { UDP_BIT } else { 0 };
        let mut hash = mixed(rest, 0);
        for word in [first.0[1], second.0[1], first.0[0], second.0[0]] {
            hash = mixed(hash, word);
        }
        (FlowKey { hash, first: first.0, second: second.0, rest }, reversed)
    }

    /// Returns the first and the second endpoint.
    pub(super) fn endpoints(&self) -> (SocketAddr, SocketAddr) {
        let address = |words: [u64; 2]| -> IpAddr {
            if self.rest & IPV6_BIT == 0 {
                Ipv4Addr::from_bits(words[1] as u32).into()
            } else {
                Ipv6Addr::from_bits((u128::from(words[0]) << 64) | u128::from(words[1])).into()
            }
        };
        let ports = ((self.rest >> 48) as u16, (self.rest >> 32) as u16);
        (SocketAddr::new(address(self.first), ports.0), SocketAddr::new(address(self.second), ports.1))
    }

    /// Returns the transport protocol.
    pub(super) fn transport(&self) -> Transport {
        if self.rest & UDP_BIT == 0 { Transport::Tcp } else { Transport::Udp }
    }

    /// Returns the precomputed hash of all parts of the key.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// Returns the shard of the flow among `count` (a power of two); it is the same for both directions.
    pub(super) fn shard(&self, count: usize) -> usize {
        // A hash map uses the low and the highest bits.
        (self.hash >> 40) as usize & (count - 1)
    }
}

/// Mixes two 64-bit words by combining the halves of a 128-bit product: several times faster on such keys than the
/// standard hasher. No map is ever iterated over, so hashes never affect results.
fn mixed(state: u64, word: u64) -> u64 {
    // The odd constant is 2^64 divided by the golden ratio (Knuth, volume 3, 6.4).
    let product = u128::from(state ^ word ^ 0x517c_c1b7_2722_0a95) * 0x9e37_79b9_7f4a_7c15;
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint() -> impl Strategy<Value = (u128, u16)> {
        (prop_oneof![0..4u128, any::<u128>()], prop_oneof![0..3u16, any::<u16>()])
    }

    proptest! {
        #[test]
        fn a_key_holds_its_endpoints_and_is_the_same_in_both_directions(
            ends in (endpoint(), endpoint()), ipv6: bool, udp: bool,
        ) {
            let address = |bits: u128| -> IpAddr {
                if ipv6 { Ipv6Addr::from_bits(bits).into() } else { Ipv4Addr::from_bits(bits as u32).into() }
            };
            let (a, b) = (SocketAddr::new(address(ends.0.0), ends.0.1), SocketAddr::new(address(ends.1.0), ends.1.1));
            let transport = if udp { Transport::Udp } else { Transport::Tcp };
            let (key, reversed) = FlowKey::new(a, b, transport, Pairing::Bidirectional);
            let (other, other_reversed) = FlowKey::new(b, a, transport, Pairing::Bidirectional);
            prop_assert_eq!(key, other);
            prop_assert!(a == b || reversed != other_reversed);
            let (first, second) = key.endpoints();
            prop_assert_eq!(if reversed { (second, first) } else { (first, second) }, (a, b));
            let (one_way, reversed) = FlowKey::new(a, b, transport, Pairing::Unidirectional);
            prop_assert!(!reversed);
            prop_assert_eq!(one_way.endpoints(), (a, b));
            prop_assert!(key.shard(16) < 16);
            prop_assert_eq!(key.transport(), transport);
        }
    }
}
