//! QUIC version 1 and draft 29 as seen on the wire (RFC 9000, section 17): long headers with valid lengths during
//! connection setup, then short headers. Contents are random, as they appear to any reader without the keys.

use super::draw::Draw;
use super::path::Message;
use super::wire::Side;

/// Packet types of a long header.
const INITIAL: u8 = 0;
const HANDSHAKE: u8 = 2;

/// The identifiers of one connection.
pub(super) struct QuicConnection {
    version: u32,
    client_id: Vec<u8>,
    server_id: Vec<u8>,
    /// Destination identifier used by the client until it knows the server's.
    first_id: Vec<u8>,
}

impl QuicConnection {
    /// Creates a connection with identifiers of plausible lengths; `draft` chooses draft 29.
    pub(super) fn new(draw: &mut Draw, draft: bool) -> Self {
        let client_length = draw.pick(&[0, 0, 3, 8]);
        Self {
            version: if draft { 0xff00_001d } else { 1 },
            client_id: draw.bytes(client_length),
            server_id: draw.bytes(8),
            first_id: draw.bytes(8),
        }
    }

    /// Builds a packet with a long header and `length` bytes of protected packet number and payload.
    fn long(&self, draw: &mut Draw, kind: u8, destination: &[u8], source: &[u8], length: usize) -> Vec<u8> {
        // The low four bits are under header protection.
        let mut bytes = vec![0xc0 | kind << 4 | draw.between(0, 15) as u8];
        bytes.extend(self.version.to_be_bytes());
        for id in [destination, source] {
            bytes.push(id.len() as u8);
            bytes.extend_from_slice(id);
        }
        if kind == INITIAL {
            // No token.
            bytes.push(0);
        }
        // A variable-length integer of two bytes (RFC 9000, section 16).
        bytes.extend((0x4000 | length as u16).to_be_bytes());
        draw.append(&mut bytes, length);
        bytes
    }

    /// Generates the datagrams of connection setup; `datagram` is the length of full datagrams.
    pub(super) fn handshake(&self, draw: &mut Draw, datagram: usize) -> Vec<Message> {
        let overhead = 1 + 4 + 1 + self.first_id.len() + 1 + self.client_id.len() + 1 + 2;
        let initial = self.long(draw, INITIAL, &self.first_id, &self.client_id, datagram - overhead);
        let mut messages = vec![Message::new(Side::Client, 0.0, initial)];
        let acknowledgement = self.long(draw, INITIAL, &self.client_id, &self.server_id, 117 + 19);
        let used = acknowledgement.len() + 1 + 4 + 1 + self.client_id.len() + 1 + 8 + 2;
        let mut flight = acknowledgement;
        flight.extend(self.long(draw, HANDSHAKE, &self.client_id, &self.server_id, datagram - used));
        messages.push(Message::new(Side::Server, 0.002, flight));
        for _ in 0..draw.between(1, 2) {
            let length = draw.between(500, datagram - 40);
            let more = self.long(draw, HANDSHAKE, &self.client_id, &self.server_id, length);
            messages.push(Message::new(Side::Server, 0.000_1, more));
        }
        // The client's Finished, followed by its first request in a short-header packet.
        let mut finished = self.long(draw, HANDSHAKE, &self.server_id, &self.client_id, 78);
        let request = draw.between(40, 120);
        finished.extend(self.short(draw, Side::Client, request));
        messages.push(Message::new(Side::Client, 0.001, finished));
        let done = draw.between(150, 600);
        messages.push(Message::new(Side::Server, 0.001, self.short(draw, Side::Server, done)));
        messages
    }

    /// Builds a packet with a short header followed by `length` bytes (at least 24).
    pub(super) fn short(&self, draw: &mut Draw, from: Side, length: usize) -> Vec<u8> {
        let id = if from == Side::Client { &self.server_id } else { &self.client_id };
        let mut bytes = vec![0x40 | draw.between(0, 63) as u8];
        bytes.extend_from_slice(id);
        draw.append(&mut bytes, length.max(24));
        bytes
    }
}
