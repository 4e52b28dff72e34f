//! Assigns IP fragments to flows: the first fragment of a datagram contains the ports, and the rest follow it.
//!
//! A fragment after the first counts as a packet of its own in its flow, without TCP flags and with only the IP header
//! as its header; nothing is reassembled. Fragments are matched by datagram (addresses, transport protocol and
//! identification) for [`LIFETIME`] after its first fragment; a new first fragment with the same identification
//! replaces the old one. Fragments that come before the first (out of order, or sent last fragment first) are held for
//! as long, and emitted right after the first with their own, earlier time. At most [`MOST_DATAGRAMS`] are known and
//! [`MOST_HELD`] fragments held at a time; the oldest are dropped first. Fragments whose first never arrives in that
//! time belong to no flow, and are counted.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use etcbench_capture::{Fragment, Packet, Transport};

use super::facts::PacketFacts;
use super::types::Pairing;

/// How long the fragments of a datagram are matched, in nanoseconds of capture time: Linux's 30 s, between the 15 s
/// that RFC 791 suggests for IPv4 and the 60 s of RFC 8200 for IPv6.
const LIFETIME: i64 = 30_000_000_000;
const MOST_DATAGRAMS: usize = 4096;
const MOST_HELD: usize = 1024;

/// What all fragments of a datagram have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Datagram {
    source: IpAddr,
    destination: IpAddr,
    transport: Transport,
    identification: u32,
}

/// The properties of a datagram's first fragment that the others need.
#[derive(Debug, Clone, Copy)]
struct First {
    timestamp: i64,
    ports: (u16, u16),
}

/// A fragment waiting for its datagram's first.
struct Held {
    datagram: Datagram,
    facts: PacketFacts,
    bytes: Vec<u8>,
}

/// Emits every packet with its ports, including fragments.
pub(super) struct Fragments {
    pairing: Pairing,
    /// Maximum number of bytes kept of a packet.
    kept_bytes: usize,
    known: HashMap<Datagram, First>,
    /// Datagrams in order of their first fragments, with their times; a datagram seen twice is listed twice.
    age: VecDeque<(Datagram, i64)>,
    held: VecDeque<Held>,
    lost: u64,
}

impl Fragments {
    pub(super) fn new(pairing: Pairing, kept_bytes: usize) -> Fragments {
        Fragments { pairing, kept_bytes, known: HashMap::new(), age: VecDeque::new(), held: VecDeque::new(), lost: 0 }
    }

    /// Passes `packet`, and the fragments that waited for it, to `sink`, or holds it.
    pub(super) fn place(&mut self, packet: &Packet<'_>, sink: &mut dyn FnMut(&PacketFacts, &[u8])) {
        let facts = PacketFacts::new(packet, self.pairing);
        let Some(fragment) = packet.fragment else {
            sink(&facts, packet.bytes);
            return;
        };
        let Fragment { identification, offset, .. } = fragment;
        let datagram = Datagram {
            source: packet.source.ip(),
            destination: packet.destination.ip(),
            transport: packet.layout.transport,
            identification,
        };
        self.forget(packet.timestamp);
        if offset == 0 {
            let first = First { timestamp: packet.timestamp, ports: (packet.source.port(), packet.destination.port()) };
            self.known.insert(datagram, first);
            self.age.push_back((datagram, packet.timestamp));
            sink(&facts, packet.bytes);
            self.release(datagram, first, sink);
        } else if let Some(first) = self.known.get(&datagram) {
            sink(&facts.with_ports(first.ports, self.pairing), packet.bytes);
        } else {
            let bytes = packet.bytes[..packet.bytes.len().min(self.kept_bytes)].to_vec();
            self.held.push_back(Held { datagram, facts, bytes });
            if self.held.len() > MOST_HELD {
                self.held.pop_front();
                self.lost += 1;
            }
        }
    }

    /// Returns the number of fragments whose first fragment is missing; final once every packet was placed.
    pub(super) fn without_ports(&self) -> u64 {
        self.lost + self.held.len() as u64
    }

    /// Emits the fragments that waited for their first fragment, in arrival order.
    fn release(&mut self, datagram: Datagram, first: First, sink: &mut dyn FnMut(&PacketFacts, &[u8])) {
        if self.held.iter().any(|held| held.datagram == datagram) {
            let (claimed, rest): (VecDeque<Held>, VecDeque<Held>) =
                std::mem::take(&mut self.held).into_iter().partition(|held| held.datagram == datagram);
            self.held = rest;
            for Held { facts, bytes, .. } in claimed {
                sink(&facts.with_ports(first.ports, self.pairing), &bytes);
            }
        }
    }

    /// Drops whatever is too old at this time, and the oldest datagrams beyond the limit. Nothing becomes old if time
    /// goes backwards.
    fn forget(&mut self, now: i64) {
        let old = |then: i64| now.saturating_sub(then) > LIFETIME;
        while let Some(&(datagram, timestamp)) = self.age.front() {
            if !old(timestamp) && self.age.len() < MOST_DATAGRAMS {
                break;
            }
            self.age.pop_front();
            // A later first fragment with the same identification has its own entry in the queue.
            if self.known.get(&datagram).is_some_and(|first| first.timestamp == timestamp) {
                self.known.remove(&datagram);
            }
        }
        while self.held.front().is_some_and(|held| old(held.facts.timestamp)) {
            self.held.pop_front();
            self.lost += 1;
        }
    }
}
