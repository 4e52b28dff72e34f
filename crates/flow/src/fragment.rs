//! Finds the flow of IP fragments: the first fragment of a datagram carries the ports, the rest follow it.
//!
//! A fragment after the first is taken for its flow as a packet of its own, without TCP flags and with the IP header
//! alone as its header; nothing is reassembled. What decides is the datagram: addresses, transport protocol and
//! identification, for [`LIFETIME`] after its first fragment; a new first fragment of the same identification takes
//! the old one's place. Where the rest comes before the first (out of order, or sent last fragment first), it is
//! held for as long, and given right after the first with its own, earlier time. At most [`MOST_DATAGRAMS`] are known
//! and [`MOST_HELD`] fragments held at a time, the oldest leaving first. Fragments whose first never comes in
//! that time are of no flow, and counted.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use etcbench_capture::{Fragment, Packet, Transport};

use super::facts::PacketFacts;
use super::types::Pairing;

/// How long a datagram's fragments find each other, in nanoseconds of capture time: Linux's 30 s, between the 15 s
/// that RFC 791 suggests for IPv4 and the 60 s of RFC 8200 for IPv6.
const LIFETIME: i64 = 30_000_000_000;
const MOST_DATAGRAMS: usize = 4096;
const MOST_HELD: usize = 1024;

/// What all fragments of a datagram share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Datagram {
    source: IpAddr,
    destination: IpAddr,
    transport: Transport,
    identification: u32,
}

/// The first fragment of a datagram, as far as the rest needs it.
#[derive(Debug, Clone, Copy)]
struct First {
    timestamp: i64,
    ports: (u16, u16),
}

/// A fragment that waits for its datagram's first.
struct Held {
    datagram: Datagram,
    facts: PacketFacts,
    bytes: Vec<u8>,
}

/// Gives every packet with its ports, fragments included.
pub(super) struct Fragments {
    pairing: Pairing,
    /// Most bytes that are kept of a packet.
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

    /// Gives `packet`, and what waited for it, to `sink`; or holds it.
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

    /// Fragments that no first fragment has claimed; final when every packet was placed.
    pub(super) fn without_ports(&self) -> u64 {
        self.lost + self.held.len() as u64
    }

    /// Gives what waited for a first fragment, in the order it came.
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

    /// Drops what is too old at a time, and the oldest beyond the bounds. Time that ran backwards makes nothing old.
    fn forget(&mut self, now: i64) {
        let old = |then: i64| now.saturating_sub(then) > LIFETIME;
        while let Some(&(datagram, timestamp)) = self.age.front() {
            if !old(timestamp) && self.age.len() < MOST_DATAGRAMS {
                break;
            }
            self.age.pop_front();
            // A later first fragment of the same identification has its own place in the line.
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
