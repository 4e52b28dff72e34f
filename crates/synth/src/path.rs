//! The path between two endpoints and the recorder next to the client: the effect of delay, jitter and loss on a
//! conversation, and how many of its packets are captured.

use super::draw::Draw;
use super::wire::{self, Endpoint, Frame, Link, Side, UDP};

/// The operating system of an endpoint, as visible in its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    /// TTL 64, timestamps, one identification counter per conversation.
    Linux,
    /// TTL 128, no timestamps, one identification counter.
    Windows,
    /// TTL 64, its own order of TCP options, identification zero.
    Apple,
}

impl System {
    /// Returns the initial time to live of its packets.
    pub(super) fn initial_ttl(self) -> u8 {
        if self == Self::Windows { 128 } else { 64 }
    }
}

/// Two endpoints and the path between them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    pub(super) link: Link,
    pub(super) client: Endpoint,
    pub(super) server: Endpoint,
    pub(super) client_system: System,
    pub(super) server_system: System,
    /// Seconds.
    pub(super) round_trip: f64,
    /// Standard deviation of the logarithm of each delay.
    pub(super) jitter: f64,
    /// Fraction of data segments that are lost.
    pub(super) loss: f64,
    /// Maximum length of an IP packet in bytes.
    pub(super) mtu: usize,
}

impl Path {
    /// Returns the length of the IP header in bytes.
    pub(super) fn network_header(&self) -> usize {
        if self.client.address.is_ipv4() { 20 } else { 40 }
    }
}

/// An application message: its sender, its content, and the delay after the previous one.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) from: Side,
    /// Delay at the sender in seconds, without the path's.
    pub(super) delay: f64,
    pub(super) payload: Vec<u8>,
}

impl Message {
    /// Creates a message sent `delay` seconds after the previous one.
    pub(super) fn new(from: Side, delay: f64, payload: Vec<u8>) -> Self {
        Self { from, delay, payload }
    }
}

/// Records the frames of one conversation as seen next to the client.
pub(super) struct Recorder<'a> {
    pub(super) path: Path,
    pub(super) draw: &'a mut Draw,
    /// Nanoseconds since the Unix epoch.
    pub(super) now: i64,
    frames: Vec<Frame>,
    /// Maximum number of captured packets of the conversation.
    budget: usize,
    identification: [u16; 2],
    last_sender: Side,
}

impl<'a> Recorder<'a> {
    /// Creates a recorder that starts at `now`; `budget` is a number of packets.
    pub(super) fn new(path: Path, draw: &'a mut Draw, now: i64, budget: usize) -> Self {
        let identification = [draw.u16(), draw.u16()];
        Self { path, draw, now, frames: Vec::new(), budget, identification, last_sender: Side::Client }
    }

    /// Returns whether no more packets are captured.
    pub(super) fn full(&self) -> bool {
        self.frames.len() >= self.budget
    }

    /// Returns the frames, in time order.
    pub(super) fn into_frames(self) -> Vec<Frame> {
        self.frames
    }

    /// Advances the time by `seconds`, varied by the path's jitter.
    pub(super) fn wait(&mut self, seconds: f64) {
        let spread = self.draw.log_normal(1.0, self.path.jitter);
        // At least a microsecond, so that the order survives in a capture with that resolution.
        self.now += ((seconds * spread * 1e9) as i64).max(1000);
    }

    /// Advances the time until the next message of `from` is seen: by the sender's own delay, plus a round trip if the
    /// server answers the client.
    pub(super) fn turn(&mut self, from: Side, delay: f64) {
        let travel = if from == Side::Server && self.last_sender == Side::Client { self.path.round_trip } else { 0.0 };
        self.wait(travel + delay);
        self.last_sender = from;
    }

    /// Records one transport segment, whose checksum field must be zero. Records nothing if full.
    pub(super) fn emit(&mut self, from: Side, protocol: u8, segment: &mut [u8]) {
        if self.full() {
            return;
        }
        let (source, destination, system) = match from {
            Side::Client => (&self.path.client, &self.path.server, self.path.client_system),
            Side::Server => (&self.path.server, &self.path.client, self.path.server_system),
        };
        let counter = &mut self.identification[from as usize];
        *counter = counter.wrapping_add(1);
        let identification = if system == System::Apple { 0 } else { *counter };
        let (mut bytes, network_offset) =
            wire::frame(self.path.link, source, destination, identification, protocol, segment);
        if from == Side::Server && network_offset > 0 {
            wire::pad_to_minimum(&mut bytes);
        }
        self.frames.push(Frame { at: self.now, bytes, network_offset, from });
    }

    /// Records one UDP datagram.
    pub(super) fn datagram(&mut self, from: Side, payload: &[u8]) {
        let (source, destination) = match from {
            Side::Client => (self.path.client.port, self.path.server.port),
            Side::Server => (self.path.server.port, self.path.client.port),
        };
        let mut segment = Vec::with_capacity(8 + payload.len());
        segment.extend(source.to_be_bytes());
        segment.extend(destination.to_be_bytes());
        segment.extend((8 + payload.len() as u16).to_be_bytes());
        segment.extend([0, 0]);
        segment.extend_from_slice(payload);
        self.emit(from, UDP, &mut segment);
    }

    /// Records messages as UDP datagrams, one each; lost datagrams of the server are not recorded.
    pub(super) fn play_datagrams(&mut self, messages: &[Message]) {
        for (place, message) in messages.iter().enumerate() {
            if self.full() {
                return;
            }
            self.turn(message.from, message.delay);
            // The first exchange always arrives: otherwise there would be no conversation.
            let lost = place > 1 && message.from == Side::Server && self.draw.chance(self.path.loss);
            if !lost {
                self.datagram(message.from, &message.payload);
            }
        }
    }
}
