//! OpenVPN over UDP, without tls-auth: the reset exchange, a TLS handshake in control packets, and data packets that
//! wrap the packets of an inner conversation. The layout follows OpenVPN's protocol description (opcode and key
//! identifier in one byte, session identifier, acknowledgements, packet number).

use super::draw::Draw;
use super::network::TunnelSettings;
use super::path::Message;
use super::tls::{self, TlsSettings};
use super::wire::{Frame, Side};

const CONTROL: u8 = 4;
const ACKNOWLEDGEMENT: u8 = 5;
const DATA_V1: u8 = 6;
const HARD_RESET_CLIENT: u8 = 7;
const HARD_RESET_SERVER: u8 = 8;
const DATA_V2: u8 = 9;

/// Maximum bytes of the TLS stream per control packet.
const CONTROL_PAYLOAD: usize = 1100;

/// The state of the control channel, by side.
struct ControlChannel {
    session: [Vec<u8>; 2],
    next: [u32; 2],
    /// Packet numbers of the other side that are not acknowledged yet.
    pending: [Vec<u32>; 2],
}

impl ControlChannel {
    /// Builds a control packet from `from`; every kind except acknowledgements is numbered.
    fn packet(&mut self, opcode: u8, from: Side, content: &[u8]) -> Vec<u8> {
        let (own, other) = (from as usize, from.other() as usize);
        let mut bytes = vec![opcode << 3];
        bytes.extend_from_slice(&self.session[own]);
        let acknowledged = std::mem::take(&mut self.pending[own]);
        bytes.push(acknowledged.len() as u8);
        for number in &acknowledged {
            bytes.extend(number.to_be_bytes());
        }
        if !acknowledged.is_empty() {
            bytes.extend_from_slice(&self.session[other]);
        }
        if opcode != ACKNOWLEDGEMENT {
            bytes.extend(self.next[own].to_be_bytes());
            self.pending[other].push(self.next[own]);
            self.next[own] += 1;
        }
        bytes.extend_from_slice(content);
        bytes
    }
}

/// Generates the control channel from the first reset to the end of the TLS handshake and the key exchange.
pub(super) fn set_up(draw: &mut Draw, settings: &TlsSettings) -> Vec<Message> {
    let mut channel =
        ControlChannel { session: [draw.bytes(8), draw.bytes(8)], next: [0, 0], pending: [Vec::new(), Vec::new()] };
    let mut messages = vec![
        Message::new(Side::Client, 0.0, channel.packet(HARD_RESET_CLIENT, Side::Client, &[])),
        Message::new(Side::Server, 0.001, channel.packet(HARD_RESET_SERVER, Side::Server, &[])),
        Message::new(Side::Client, 0.001, channel.packet(ACKNOWLEDGEMENT, Side::Client, &[])),
    ];
    let mut exchange = tls::handshake_messages(draw, settings);
    for from in [Side::Client, Side::Server] {
        // The key material and the pushed options.
        let length = draw.between(250, 600);
        let content = tls::application_data(draw, length);
        exchange.push(Message::new(from, 0.002, content));
    }
    for message in exchange {
        let mut delay = message.delay;
        for chunk in message.payload.chunks(CONTROL_PAYLOAD) {
            messages.push(Message::new(message.from, delay, channel.packet(CONTROL, message.from, chunk)));
            delay = 0.000_2;
            // At most four packets wait for an acknowledgement.
            if channel.pending[message.from.other() as usize].len() >= 4 {
                let receiver = message.from.other();
                messages.push(Message::new(receiver, 0.000_5, channel.packet(ACKNOWLEDGEMENT, receiver, &[])));
            }
        }
    }
    messages
}

/// Wraps an inner conversation (raw IP frames) in data packets, keeping its timing.
pub(super) fn wrap(draw: &mut Draw, settings: TunnelSettings, inner: &[Frame]) -> Vec<Message> {
    let TunnelSettings { second_version, modern_cipher, peer } = settings;
    let mut numbers = [draw.between(1, 4000) as u32, draw.between(1, 4000) as u32];
    let mut messages = Vec::with_capacity(inner.len());
    let mut before = inner.first().map_or(0, |frame| frame.at);
    for frame in inner {
        let mut bytes = if second_version { vec![DATA_V2 << 3, 0, 0, peer] } else { vec![DATA_V1 << 3] };
        let length = if modern_cipher {
            // The packet number and the tag.
            let number = &mut numbers[frame.from as usize];
            *number += 1;
            bytes.extend(number.to_be_bytes());
            16 + frame.bytes.len()
        } else {
            // HMAC, initialisation vector, and the packet with its number in whole blocks.
            20 + 16 + (frame.bytes.len() + 4 + 1).next_multiple_of(16)
        };
        draw.append(&mut bytes, length);
        messages.push(Message::new(frame.from, (frame.at - before) as f64 / 1e9, bytes));
        before = frame.at;
    }
    messages
}
