//! Fields of TLS hellos over TCP, found in the byte stream that a flow's kept packets show.
//!
//! Packets are put in place by their sequence numbers, so records may be split over packets, several may share one,
//! and packets may be out of order, sent again, or cut: what is missing is a hole in the stream that records and
//! messages of known length are followed across. Records and messages are those of RFC 8446, sections 5.1 and 4.

use etcbench_capture::Transport;
use etcbench_flow::{FlowPacket, PacketDirection};

use super::Mask;
use super::field::{Field, Kind};
use super::header::{FRAGMENT, extension_headers, has_transport_header, is_ipv6};

const SYN: u8 = 0x02;
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const LAST_CONTENT_TYPE: u8 = 24;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SERVER_NAME: u16 = 0;
/// Every version of TLS has this major version on the wire.
const MAJOR_VERSION: u8 = 3;
const RECORD_HEADER: i64 = 5;
const MESSAGE_HEADER: i64 = 4;
const RANDOM: i64 = 32;
const LONGEST_SESSION_ID: u8 = 32;
/// The longest protected record (RFC 5246, section 6.2.3).
const LONGEST_RECORD: i64 = (1 << 14) + 2048;
/// No packet is longer.
const LONGEST_PACKET: i64 = 65_535;

/// Adds the fields of all hellos.
pub(super) fn find(packets: &[FlowPacket], fields: &mut Vec<Field>) {
    for direction in [PacketDirection::Forward, PacketDirection::Backward] {
        for stream in streams(packets, direction) {
            stream.find(packets, fields);
        }
    }
}

/// The kept payload of one packet.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Place of its first byte in the stream.
    start: i64,
    packet: usize,
    /// Its first byte in the packet's bytes.
    at: usize,
    length: usize,
}

impl Piece {
    fn end(&self) -> i64 {
        self.start + self.length as i64
    }
}

/// One direction of one TCP connection.
#[derive(Debug, Default)]
struct Stream {
    /// In order of their places.
    pieces: Vec<Piece>,
}

/// What a later fragment needs of the first: identification, and the place of the datagram's payload in the stream.
type Datagram = (u32, i64);

/// The streams of a direction, one for each connection among the packets.
fn streams(packets: &[FlowPacket], direction: PacketDirection) -> Vec<Stream> {
    let mut streams: Vec<Stream> = Vec::new();
    // Sequence number of the current stream's place 0.
    let mut base: Option<u32> = None;
    let mut datagram: Option<Datagram> = None;
    for (index, packet) in packets.iter().enumerate() {
        if packet.direction != direction || packet.layout.transport != Transport::Tcp {
            continue;
        }
        let payload = usize::from(packet.layout.payload_offset);
        let (identification, fragment_offset) = fragment(packet);
        let start = if has_transport_header(packet) {
            let transport = usize::from(packet.layout.transport_offset);
            let Some(&[a, b, c, d]) = packet.bytes.get(transport + 4..).and_then(|bytes| bytes.first_chunk()) else {
                continue;
            };
            // A SYN takes up one sequence number before the payload.
            let is_first = packet.bytes.get(transport + 13).is_some_and(|flags| flags & SYN != 0);
            let sequence = u32::from_be_bytes([a, b, c, d]).wrapping_add(u32::from(is_first));
            if base.is_none() || (is_first && base != Some(sequence)) {
                base = Some(sequence);
                streams.push(Stream::default());
            }
            let start = i64::from(sequence.wrapping_sub(base.unwrap_or(sequence)).cast_signed());
            datagram = identification.map(|identification| (identification, start - (payload - transport) as i64));
            start
        } else {
            match (datagram, identification) {
                (Some((of_first, start)), Some(own)) if of_first == own => start + fragment_offset,
                _ => continue,
            }
        };
        if let (Some(stream), Some(length)) = (streams.last_mut(), packet.bytes.len().checked_sub(payload))
            && length > 0
        {
            stream.pieces.push(Piece { start, packet: index, at: payload, length });
        }
    }
    for stream in &mut streams {
        stream.pieces.sort_by_key(|piece| piece.start);
    }
    streams
}

/// Identification, and the place of a fragment's payload in its datagram's.
fn fragment(packet: &FlowPacket) -> (Option<u32>, i64) {
    let bytes = &packet.bytes[..];
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    if is_ipv6(packet) {
        let transport = usize::from(packet.layout.transport_offset);
        let header = extension_headers(bytes, transport).find(|(kind, _, _)| *kind == FRAGMENT);
        let Some((_, start, _)) = header else { return (None, 0) };
        let identification = word(start + 4).zip(word(start + 6));
        let identification = identification.map(|(high, low)| (u32::from(high) << 16) | u32::from(low));
        // The low three bits are flags; the others count in eight bytes.
        (identification, i64::from(word(start + 2).unwrap_or(0) & !7))
    } else {
        (word(4).map(u32::from), i64::from(word(6).unwrap_or(0) & 0x1fff) * 8)
    }
}

/// The bytes of handshake records, one after another.
#[derive(Debug, Default)]
struct Handshake {
    /// Place in the stream and length of each record's content.
    records: Vec<(i64, i64)>,
    /// A cipher is in use: most of what follows is ciphertext.
    after_change_cipher_spec: bool,
}

impl Handshake {
    /// Parts of the stream for a range of the handshake's bytes, each with its position in the range.
    fn parts(&self, start: i64, end: i64) -> impl Iterator<Item = (i64, i64, usize)> + '_ {
        let mut before = 0;
        self.records.iter().filter_map(move |&(place, length)| {
            let (from, to) = (start.max(before), end.min(before + length));
            let part = (from < to).then(|| (place + from - before, to - from, (from - start) as usize));
            before += length;
            part
        })
    }

    fn length(&self) -> i64 {
        self.records.iter().map(|(_, length)| length).sum()
    }
}

impl Stream {
    /// Pieces that may reach into a range of the stream.
    fn near(&self, start: i64, end: i64) -> impl Iterator<Item = &Piece> {
        let first = self.pieces.partition_point(|piece| piece.start < start - LONGEST_PACKET);
        self.pieces[first..].iter().take_while(move |piece| piece.start < end).filter(move |piece| piece.end() > start)
    }

    /// The byte at a place, if a packet shows it.
    fn byte(&self, packets: &[FlowPacket], place: i64) -> Option<u8> {
        let piece = self.near(place, place + 1).next()?;
        packets[piece.packet].bytes.get(piece.at + (place - piece.start) as usize).copied()
    }

    /// A big-endian number of up to four bytes.
    fn number(&self, packets: &[FlowPacket], place: i64, length: i64) -> Option<i64> {
        (place..place + length).try_fold(0, |number, place| Some((number << 8) | i64::from(self.byte(packets, place)?)))
    }

    /// Follows the records from wherever a packet begins with a hello.
    fn find(&self, packets: &[FlowPacket], fields: &mut Vec<Field>) {
        let mut read_to = i64::MIN;
        for piece in &self.pieces {
            if piece.start >= read_to && self.begins_with_hello(packets, piece.start) {
                read_to = self.records(packets, piece.start, fields);
            }
        }
    }

    /// Type and content length of the record at a place.
    fn record(&self, packets: &[FlowPacket], place: i64) -> Option<(u8, i64)> {
        let content_type = self.byte(packets, place)?;
        let major = self.byte(packets, place + 1)?;
        let length = self.number(packets, place + 3, 2)?;
        let valid = (CHANGE_CIPHER_SPEC..=LAST_CONTENT_TYPE).contains(&content_type)
            && major == MAJOR_VERSION
            && (1..=LONGEST_RECORD).contains(&length);
        valid.then_some((content_type, length))
    }

    fn begins_with_hello(&self, packets: &[FlowPacket], place: i64) -> bool {
        matches!(self.record(packets, place), Some((HANDSHAKE, _)))
            && matches!(self.byte(packets, place + RECORD_HEADER), Some(CLIENT_HELLO | SERVER_HELLO))
    }

    /// Reads records from a place on, and gives where they end or can be followed no further.
    fn records(&self, packets: &[FlowPacket], mut place: i64, fields: &mut Vec<Field>) -> i64 {
        let mut handshake = Handshake::default();
        while let Some((content_type, length)) = self.record(packets, place) {
            let content = place + RECORD_HEADER;
            match content_type {
                HANDSHAKE => handshake.records.push((content, length)),
                CHANGE_CIPHER_SPEC => {
                    self.messages(packets, &handshake, content, fields);
                    handshake = Handshake { records: Vec::new(), after_change_cipher_spec: true };
                }
                _ => {}
            }
            place = content + length;
        }
        self.messages(packets, &handshake, place, fields);
        place
    }

    /// Finds the hellos among handshake messages; `end` is where the records that are known end.
    fn messages(&self, packets: &[FlowPacket], handshake: &Handshake, end: i64, fields: &mut Vec<Field>) {
        let view = View { stream: self, packets, handshake, end };
        let first_record = handshake.records.first().map_or(0, |(_, length)| *length);
        let mut place = 0;
        while place < handshake.length() {
            let (Some(message_type), Some(length)) = (view.number(place, 1), view.number(place + 1, 3)) else { return };
            let message_type = message_type as u8;
            // After a change of ciphers, only a whole hello in the first record is not taken for ciphertext:
            // that is the second ClientHello after a HelloRetryRequest.
            let plain = !handshake.after_change_cipher_spec || (place == 0 && MESSAGE_HEADER + length == first_record);
            if !plain {
                return;
            }
            if matches!(message_type, CLIENT_HELLO | SERVER_HELLO) {
                view.hello(message_type, place, place + MESSAGE_HEADER + length, fields);
            }
            place += MESSAGE_HEADER + length;
        }
    }
}

/// The handshake's bytes, as far as packets show them.
struct View<'a> {
    stream: &'a Stream,
    packets: &'a [FlowPacket],
    handshake: &'a Handshake,
    /// Where the records that are known end in the stream.
    end: i64,
}

impl View<'_> {
    fn number(&self, place: i64, length: i64) -> Option<i64> {
        (place..place + length).try_fold(0, |number, place| {
            let (in_stream, _, _) = self.handshake.parts(place, place + 1).next()?;
            Some((number << 8) | i64::from(self.stream.byte(self.packets, in_stream)?))
        })
    }

    /// Adds a field at a range of the handshake's bytes, wherever packets show it or may show it.
    fn add(&self, mask: Mask, start: i64, end: i64, fields: &mut Vec<Field>) {
        for (place, length, position) in self.handshake.parts(start, end) {
            self.add_in_stream(mask, place, length, position, fields);
        }
        let known = self.handshake.length();
        if end > known {
            // It goes on in records whose headers are missing; they are taken to be no shorter than those before.
            let shortest = self.handshake.records.iter().map(|(_, length)| *length).min().unwrap_or(end - known).max(1);
            let headers = RECORD_HEADER * ((end - known) / shortest + 1);
            let first = start.max(known);
            let place = self.end + first - known;
            self.add_in_stream(mask, place, end - first + headers, (first - start) as usize, fields);
        }
    }

    fn add_in_stream(&self, mask: Mask, place: i64, length: i64, position: usize, fields: &mut Vec<Field>) {
        for piece in self.stream.near(place, place + length) {
            let (from, to) = (place.max(piece.start), (place + length).min(piece.end()));
            fields.push(Field {
                mask,
                packet: piece.packet,
                start: piece.at + (from - piece.start) as usize,
                length: (to - from) as usize,
                kind: Kind::String(position + (from - place) as usize),
            });
        }
    }

    /// Adds the fields of the hello from `start` to `end`.
    fn hello(&self, message_type: u8, start: i64, end: i64, fields: &mut Vec<Field>) {
        let random = start + MESSAGE_HEADER + 2;
        let session_id = random + RANDOM + 1;
        if self.number(random - 2, 1) != Some(i64::from(MAJOR_VERSION)) {
            return;
        }
        match self.number(session_id - 1, 1) {
            Some(length) if length > i64::from(LONGEST_SESSION_ID) => {}
            Some(length) => {
                self.add(Mask::TlsRandom, random, session_id - 1, fields);
                self.add(Mask::TlsSessionId, session_id, session_id + length, fields);
                if message_type == CLIENT_HELLO
                    && let Some(lost) = self.server_names(session_id + length, end, fields)
                {
                    // The name may be anywhere in what is left.
                    self.add(Mask::TlsServerName, lost, end, fields);
                }
            }
            // Its length is missing: all that may be of it is masked.
            None => {
                self.add(Mask::TlsRandom, random, session_id - 1, fields);
                self.add(Mask::TlsSessionId, session_id, end.min(session_id + i64::from(LONGEST_SESSION_ID)), fields);
                if message_type == CLIENT_HELLO {
                    self.add(Mask::TlsServerName, session_id, end, fields);
                }
            }
        }
    }

    /// Adds the server names of a ClientHello from its cipher suites on; gives where a length was missing, if one was.
    fn server_names(&self, ciphers: i64, end: i64, fields: &mut Vec<Field>) -> Option<i64> {
        let Some(length) = self.number(ciphers, 2) else { return Some(ciphers) };
        let compressions = ciphers + 2 + length;
        if compressions >= end {
            return None;
        }
        let Some(length) = self.number(compressions, 1) else { return Some(compressions) };
        // After the length of all extensions, which is that of the rest.
        let mut extension = compressions + 1 + length + 2;
        while extension + 4 <= end {
            let (Some(kind), Some(length)) = (self.number(extension, 2), self.number(extension + 2, 2)) else {
                return Some(extension);
            };
            let content = extension + 4;
            if kind == i64::from(SERVER_NAME) {
                let list_end = end.min(content + length);
                let mut entry = content + 2;
                while entry + 3 <= list_end {
                    let Some(length) = self.number(entry + 1, 2) else { return Some(entry) };
                    self.add(Mask::TlsServerName, entry + 3, list_end.min(entry + 3 + length), fields);
                    entry += 3 + length;
                }
            }
            extension = content + length;
        }
        None
    }
}
