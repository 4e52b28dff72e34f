//! Protocols of calls: STUN (RFC 8489), RTP and RTCP (RFC 3550), SIP with SDP (RFC 3261, RFC 8866) and a proprietary
//! framing without any fixed header beyond an identifier.

use std::net::IpAddr;

use super::draw::Draw;
use super::path::{Message, Path};
use super::wire::Side;

/// Computes the CRC-32 of IEEE 802.3, bit by bit: fingerprints are rare.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    !crc
}

/// Builds a STUN message with its length set and a FINGERPRINT at the end.
fn stun(kind: u16, transaction: &[u8], attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend([0, 0, 0x21, 0x12, 0xa4, 0x42]);
    bytes.extend_from_slice(transaction);
    for (attribute, value) in attributes {
        bytes.extend(attribute.to_be_bytes());
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let length = (bytes.len() - 20 + 8) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    let fingerprint = crc32(&bytes) ^ 0x5354_554e;
    bytes.extend([0x80, 0x28, 0, 4]);
    bytes.extend(fingerprint.to_be_bytes());
    bytes
}

/// Encodes the XOR-MAPPED-ADDRESS of the client (RFC 8489, section 14.2).
fn mapped_address(path: &Path, transaction: &[u8]) -> Vec<u8> {
    let port = path.client.port ^ 0x2112;
    let key = [&[0x21, 0x12, 0xa4, 0x42], transaction].concat();
    let (family, octets) = match path.client.address {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (2, address.octets().to_vec()),
    };
    let mut value = vec![0, family];
    value.extend(port.to_be_bytes());
    value.extend(octets.iter().zip(&key).map(|(octet, key)| octet ^ key));
    value
}

/// Generates `count` connectivity checks with their answers; `credentials` are the lengths of both user fragments.
pub(super) fn connectivity_checks(
    draw: &mut Draw,
    path: &Path,
    count: usize,
    credentials: (usize, usize),
) -> Vec<Message> {
    let mut messages = Vec::new();
    let user = format!("{}:{}", draw.word(credentials.0), draw.word(credentials.1)).into_bytes();
    for _ in 0..count {
        let transaction = draw.bytes(12);
        let integrity = (0x0008, draw.bytes(20));
        let request = [
            (0x0006, user.clone()),
            (0x0024, draw.bytes(4)),
            (if draw.chance(0.5) { 0x802a } else { 0x8029 }, draw.bytes(8)),
            integrity.clone(),
        ];
        messages.push(Message::new(Side::Client, 0.02, stun(0x0001, &transaction, &request)));
        let answer = [(0x0020, mapped_address(path, &transaction)), integrity];
        messages.push(Message::new(Side::Server, 0.001, stun(0x0101, &transaction, &answer)));
    }
    messages
}

/// One RTP stream in one direction.
pub(super) struct RtpStream {
    from: Side,
    payload_type: u8,
    synchronisation_source: u32,
    sequence: u16,
    timestamp: u32,
    /// Clock ticks per packet.
    step: u32,
}

impl RtpStream {
    /// Creates a stream with random initial values.
    pub(super) fn new(draw: &mut Draw, from: Side, payload_type: u8, step: u32) -> Self {
        let (sequence, timestamp) = (draw.u16(), draw.u32());
        Self { from, payload_type, synchronisation_source: draw.u32(), sequence, timestamp, step }
    }

    /// Returns the next packet. `last_of_frame` sets the marker bit.
    pub(super) fn packet(&mut self, draw: &mut Draw, delay: f64, length: usize, last_of_frame: bool) -> Message {
        let mut bytes = vec![0x80, self.payload_type | if last_of_frame { 0x80 } else { 0 }];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.synchronisation_source.to_be_bytes());
        draw.append(&mut bytes, length);
        self.sequence = self.sequence.wrapping_add(1);
        Message::new(self.from, delay, bytes)
    }

    /// Advances the timestamp to the next frame.
    pub(super) fn next_frame(&mut self) {
        self.timestamp = self.timestamp.wrapping_add(self.step);
    }

    /// Returns a sender report without report blocks; `counted` is the number of packets and bytes so far.
    pub(super) fn report(&self, draw: &mut Draw, counted: (u32, u32)) -> Message {
        let mut bytes = vec![0x80, 200, 0, 6];
        bytes.extend(self.synchronisation_source.to_be_bytes());
        draw.append(&mut bytes, 8);
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(counted.0.to_be_bytes());
        bytes.extend(counted.1.to_be_bytes());
        Message::new(self.from, 0.001, bytes)
    }
}

/// Builds a datagram of a proprietary call protocol: an identifier, a kind, and encrypted content.
pub(super) fn proprietary(draw: &mut Draw, from: Side, delay: f64, length: usize) -> Message {
    let mut bytes = draw.bytes(2);
    // Avoid the version of RTP and RTCP and the TPDU code of ISO 8602, which capture readers look for on any port.
    bytes[0] &= 0x7f;
    bytes[1] &= 0xbf;
    // Voice, video and files usually differ in the low half of this byte.
    let kinds = if length < 200 { [(0.9, 0x0d_u8), (0.1, 0x05)] } else { [(0.85, 0x07), (0.15, 0x0d)] };
    bytes.push(draw.weighted(&kinds) | (draw.between(0, 7) as u8) << 4);
    draw.append(&mut bytes, length);
    Message::new(from, delay, bytes)
}

/// Generates a registration, or a call set up by SIP; the media port is announced as `media_port`.
pub(super) fn sip_dialogue(draw: &mut Draw, path: &Path, media_port: u16) -> Vec<Message> {
    let (user, domain) = (draw.word(7), "sip.voice.example");
    let (branch, tag, call) = (draw.word(12), draw.word(6), draw.word(14));
    let host = path.client.address;
    let family = if host.is_ipv4() { "IP4" } else { "IP6" };
    let bracketed = if host.is_ipv4() { host.to_string() } else { format!("[{host}]") };
    let port = path.client.port;
    let headers = |method: &str| {
        format!(
            "Via: SIP/2.0/UDP {bracketed}:{port};branch=z9hG4bK{branch}\r\nFrom: <sip:{user}@{domain}>;tag={tag}\r\n\
             To: <sip:{user}@{domain}>\r\nCall-ID: {call}@{domain}\r\nCSeq: 1 {method}\r\n"
        )
    };
    let (method, body) = if draw.chance(0.35) {
        ("REGISTER", String::new())
    } else {
        let description = format!(
            "v=0\r\no={user} 1 1 IN {family} {host}\r\ns=call\r\nc=IN {family} {host}\r\nt=0 0\r\n\
             m=audio {media_port} RTP/AVP 18 8 101\r\na=rtpmap:18 G729/8000\r\na=rtpmap:8 PCMA/8000\r\n"
        );
        ("INVITE", description)
    };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    let request = format!(
        "{method} sip:{domain} SIP/2.0\r\n{}Max-Forwards: 70\r\nContact: <sip:{user}@{bracketed}:{port}>\r\n\
         {kind}Content-Length: {}\r\n\r\n{body}",
        headers(method),
        body.len()
    );
    let answer = |status: &str| format!("SIP/2.0 {status}\r\n{}Content-Length: 0\r\n\r\n", headers(method));
    let mut messages = vec![
        Message::new(Side::Client, 0.0, request.into_bytes()),
        Message::new(Side::Server, 0.01, answer("100 Trying").into_bytes()),
    ];
    if method == "INVITE" {
        messages.push(Message::new(Side::Server, 0.6, answer("180 Ringing").into_bytes()));
    }
    messages.push(Message::new(Side::Server, 0.4, answer("200 OK").into_bytes()));
    if method == "INVITE" {
        let acknowledgement =
            format!("ACK sip:{domain} SIP/2.0\r\n{}Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n", headers("ACK"));
        messages.push(Message::new(Side::Client, 0.01, acknowledgement.into_bytes()));
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value listed in catalogues of CRC algorithms.
    #[test]
    fn the_check_value_of_crc32() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
