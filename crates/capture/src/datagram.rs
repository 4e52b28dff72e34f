//! Fragmented datagrams whose transport header is behind extension headers. Every fragment names the first of them (RFC
//! 8200, section 4.5, and RFC 4302, section 3.3.4, for IPv4), and only the first fragment contains the chain that leads
//! to TCP or UDP, so its result is remembered for the others.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use super::packet::Transport;

/// Maximum number of datagrams remembered; the oldest are forgotten first.
const MOST_DATAGRAMS: usize = 4096;

/// What all fragments of a datagram have in common: addresses and identification.
pub(super) type Datagram = (IpAddr, IpAddr, u32);

/// Transport protocols by datagram, `None` for other protocols.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    transports: HashMap<Datagram, Option<Transport>>,
    /// The datagrams in the order of their first fragments.
    age: VecDeque<Datagram>,
}

impl Datagrams {
    /// Remembers the protocol that a first fragment leads to.
    pub(super) fn remember(&mut self, datagram: Datagram, transport: Option<Transport>) {
        if self.transports.insert(datagram, transport).is_some() {
            return;
        }
        self.age.push_back(datagram);
        if self.age.len() > MOST_DATAGRAMS
            && let Some(oldest) = self.age.pop_front()
        {
            self.transports.remove(&oldest);
        }
    }

    /// Returns the protocol of a datagram whose first fragment was seen.
    pub(super) fn of(&self, datagram: Datagram) -> Option<Option<Transport>> {
        self.transports.get(&datagram).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_datagrams_are_forgotten() {
        let mut datagrams = Datagrams::default();
        let datagram = |number: u32| (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]), number);
        datagrams.remember(datagram(0), None);
        datagrams.remember(datagram(0), Some(Transport::Udp));
        assert_eq!(datagrams.of(datagram(0)), Some(Some(Transport::Udp)));
        (1..=MOST_DATAGRAMS as u32).for_each(|number| datagrams.remember(datagram(number), None));
        assert_eq!((datagrams.of(datagram(0)), datagrams.of(datagram(1))), (None, Some(None)));
    }
}
