//! Fields of TLS hellos over TCP, located in the byte stream that a flow's packets carry.
//!
//! Packets are placed by their sequence numbers, so records may be split over packets, several may share one, and
//! packets may be out of order, retransmitted, or cut. Missing bytes leave a hole in the stream; records and messages
//! of known length are followed across it. Records and messages are those of RFC 8446, sections 5.1 and 4.

use super::table::{HelloPart, Place, bytes};
use super::{FieldRange, PacketField, PacketView};
use crate::packet::Fragment;

const SYN: u32 = 0x02;
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const LAST_CONTENT_TYPE: u8 = 24;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SERVER_NAME: u16 = 0;
/// All versions of TLS have this major version on the wire.
const MAJOR_VERSION: u8 = 3;
const RECORD_HEADER: i64 = 5;
const MESSAGE_HEADER: i64 = 4;
const RANDOM: i64 = 32;
const LONGEST_SESSION_ID: u8 = 32;
/// The longest protected record (RFC 5246, section 6.2.3).
const LONGEST_RECORD: i64 = (1 << 14) + 2048;
/// Upper limit on the length of a packet.
const LONGEST_PACKET: i64 = 65_535;

/// Adds the fields of all hellos in the packets of one direction of a flow. The packets are in capture order, each with
/// the number that its ranges will carry.
pub fn locate_hellos(packets: &[(usize, PacketView<'_>)], found: &mut Vec<FieldRange>) {
    for stream in streams(packets) {
        stream.find(packets, found);
    }
}

/// Packets of one direction, each with its number.
type Packets<'a> = &'a [(usize, PacketView<'a>)];

/// The captured payload of one packet.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Position of its first byte in the stream.
    start: i64,
    /// Index among the packets.
    packet: usize,
    /// Position of its first byte in the packet's bytes.
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
    /// Sorted by position.
    pieces: Vec<Piece>,
}

/// What a later fragment needs from the first: identification, and the position of the datagram's payload in the
/// stream.
type Datagram = (u32, i64);

/// Returns the streams of a direction, one for each connection among the packets.
fn streams(packets: Packets<'_>) -> Vec<Stream> {
    let mut streams: Vec<Stream> = Vec::new();
    // Sequence number of position 0 in the current stream.
    let mut base: Option<u32> = None;
    let mut datagram: Option<Datagram> = None;
    for (index, &(_, packet)) in packets.iter().enumerate() {
        if !packet.is_tcp() {
            continue;
        }
        let payload = packet.payload();
        let identification = PacketField::IpIdentification.number(packet);
        let start = if packet.has_transport_header() {
            let Some(sequence) = PacketField::TcpSequence.number(packet) else { continue };
            // A SYN consumes one sequence number before the payload.
            let is_first = PacketField::TcpFlags.number(packet).is_some_and(|flags| flags & SYN != 0);
            let sequence = sequence.wrapping_add(u32::from(is_first));
            if base.is_none() || (is_first && base != Some(sequence)) {
                base = Some(sequence);
                streams.push(Stream::default());
            }
            let start = i64::from(sequence.wrapping_sub(base.unwrap_or(sequence)).cast_signed());
            let of_transport = start - (payload - packet.transport()) as i64;
            datagram = identification.map(|identification| (identification, of_transport));
            start
        } else {
            match (datagram, identification) {
                (Some((of_first, start)), Some(own)) if of_first == own => start + fragment_offset(packet),
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

/// Returns the position of a fragment's payload in its datagram's payload.
fn fragment_offset(packet: PacketView<'_>) -> i64 {
    let field = PacketField::IpFragment.number(packet).unwrap_or(0) as u16;
    let fragment = if packet.is_ipv6() { Fragment::of_ipv6(0, field) } else { Fragment::of_ipv4(0, field) };
    i64::from(fragment.offset)
}

/// The bytes of handshake records, concatenated.
#[derive(Debug, Default)]
struct Handshake {
    /// Position in the stream and length of each record's content.
    records: Vec<(i64, i64)>,
    /// A cipher is in use: most of what follows is ciphertext.
    after_change_cipher_spec: bool,
}

impl Handshake {
    /// Maps a range of the handshake's bytes to parts of the stream, each with its position in the range.
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
    /// Returns the pieces that may overlap a range of the stream.
    fn near(&self, start: i64, end: i64) -> impl Iterator<Item = &Piece> {
        let first = self.pieces.partition_point(|piece| piece.start < start - LONGEST_PACKET);
        self.pieces[first..].iter().take_while(move |piece| piece.start < end).filter(move |piece| piece.end() > start)
    }

    /// Returns the byte at a position, if a packet contains it.
    fn byte(&self, packets: Packets<'_>, place: i64) -> Option<u8> {
        let piece = self.near(place, place + 1).next()?;
        packets[piece.packet].1.bytes.get(piece.at + (place - piece.start) as usize).copied()
    }

    /// Returns a big-endian number of up to four bytes.
    fn number(&self, packets: Packets<'_>, place: i64, length: i64) -> Option<i64> {
        (place..place + length).try_fold(0, |number, place| Some((number << 8) | i64::from(self.byte(packets, place)?)))
    }

    /// Follows the records from every packet that begins with a hello.
    fn find(&self, packets: Packets<'_>, fields: &mut Vec<FieldRange>) {
        let mut read_to = i64::MIN;
        for piece in &self.pieces {
            if piece.start >= read_to && self.begins_with_hello(packets, piece.start) {
                read_to = self.records(packets, piece.start, fields);
            }
        }
    }

    /// Returns type and content length of the record at a position.
    fn record(&self, packets: Packets<'_>, place: i64) -> Option<(u8, i64)> {
        let content_type = self.byte(packets, place)?;
        let major = self.byte(packets, place + 1)?;
        let length = self.number(packets, place + 3, 2)?;
        let valid = (CHANGE_CIPHER_SPEC..=LAST_CONTENT_TYPE).contains(&content_type)
            && major == MAJOR_VERSION
            && (1..=LONGEST_RECORD).contains(&length);
        valid.then_some((content_type, length))
    }

    fn begins_with_hello(&self, packets: Packets<'_>, place: i64) -> bool {
        matches!(self.record(packets, place), Some((HANDSHAKE, _)))
            && matches!(self.byte(packets, place + RECORD_HEADER), Some(CLIENT_HELLO | SERVER_HELLO))
    }

    /// Reads records from a position on, and returns where they end or cannot be followed any further.
    fn records(&self, packets: Packets<'_>, mut place: i64, fields: &mut Vec<FieldRange>) -> i64 {
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

    /// Finds the hellos among handshake messages; `end` is where the known records end.
    fn messages(&self, packets: Packets<'_>, handshake: &Handshake, end: i64, fields: &mut Vec<FieldRange>) {
        let view = View { stream: self, packets, handshake, end };
        let first_record = handshake.records.first().map_or(0, |(_, length)| *length);
        let mut place = 0;
        while place < handshake.length() {
            let (Some(message_type), Some(length)) = (view.number(place, 1), view.number(place + 1, 3)) else { return };
            let message_type = message_type as u8;
            // After a cipher change, assume ciphertext unless the first record is exactly one hello: the second
            // ClientHello after a HelloRetryRequest.
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

/// The handshake's bytes, as far as packets contain them.
struct View<'a> {
    stream: &'a Stream,
    packets: Packets<'a>,
    handshake: &'a Handshake,
    /// Position in the stream where the known records end.
    end: i64,
}

impl View<'_> {
    fn number(&self, place: i64, length: i64) -> Option<i64> {
        (place..place + length).try_fold(0, |number, place| {
            let (in_stream, _, _) = self.handshake.parts(place, place + 1).next()?;
            Some((number << 8) | i64::from(self.stream.byte(self.packets, in_stream)?))
        })
    }

    /// Adds a part at a range of the handshake's bytes, wherever packets contain it or may contain it.
    fn add(&self, part: HelloPart, start: i64, end: i64, certain: bool, fields: &mut Vec<FieldRange>) {
        for field in PacketField::ALL {
            if field.row().places.iter().any(|place| matches!(place, Place::Hello(of) if *of == part)) {
                self.add_field(field, start, end, certain, fields);
            }
        }
    }

    fn add_field(&self, field: PacketField, start: i64, end: i64, certain: bool, fields: &mut Vec<FieldRange>) {
        for (place, length, position) in self.handshake.parts(start, end) {
            self.add_in_stream((field, certain), place, length, position, fields);
        }
        let known = self.handshake.length();
        if end > known {
            // The part continues in records whose headers are missing; assume that they are no shorter than the known
            // ones.
            let shortest = self.handshake.records.iter().map(|(_, length)| *length).min().unwrap_or(end - known).max(1);
            let headers = RECORD_HEADER * ((end - known) / shortest + 1);
            let first = start.max(known);
            let place = self.end + first - known;
            self.add_in_stream((field, false), place, end - first + headers, (first - start) as usize, fields);
        }
    }

    fn add_in_stream(
        &self,
        (field, certain): (PacketField, bool),
        place: i64,
        length: i64,
        position: usize,
        fields: &mut Vec<FieldRange>,
    ) {
        for piece in self.stream.near(place, place + length) {
            let (from, to) = (place.max(piece.start), (place + length).min(piece.end()));
            let (packet, view) = self.packets[piece.packet];
            let bits = bytes(piece.at + (from - piece.start) as usize, (to - from) as usize);
            fields.extend(FieldRange::inside(field, bits, view.bytes).map(|range| FieldRange {
                packet,
                position: position + (from - place) as usize,
                certain,
                ..range
            }));
        }
    }

    /// Adds the fields of the hello from `start` to `end`.
    fn hello(&self, message_type: u8, start: i64, end: i64, fields: &mut Vec<FieldRange>) {
        let random = start + MESSAGE_HEADER + 2;
        let session_id = random + RANDOM + 1;
        if self.number(random - 2, 1) != Some(i64::from(MAJOR_VERSION)) {
            return;
        }
        match self.number(session_id - 1, 1) {
            Some(length) if length > i64::from(LONGEST_SESSION_ID) => {}
            Some(length) => {
                self.add(HelloPart::Random, random, session_id - 1, true, fields);
                self.add(HelloPart::SessionId, session_id, session_id + length, true, fields);
                if message_type == CLIENT_HELLO
                    && let Some(lost) = self.offered(session_id + length, end, fields)
                {
                    // The name may be anywhere in the rest.
                    self.add(HelloPart::ServerNames, lost, end, false, fields);
                }
            }
            // The session ID's length is missing: mask everything that may belong to it.
            None => {
                self.add(HelloPart::Random, random, session_id - 1, true, fields);
                self.add(
                    HelloPart::SessionId,
                    session_id,
                    end.min(session_id + i64::from(LONGEST_SESSION_ID)),
                    false,
                    fields,
                );
                if message_type == CLIENT_HELLO {
                    self.add(HelloPart::ServerNames, session_id, end, false, fields);
                }
            }
        }
    }

    /// Adds the cipher suites and server names of a ClientHello, starting at the former; returns the position of a
    /// missing length, if any.
    fn offered(&self, ciphers: i64, end: i64, fields: &mut Vec<FieldRange>) -> Option<i64> {
        let Some(length) = self.number(ciphers, 2) else { return Some(ciphers) };
        let compressions = ciphers + 2 + length;
        self.add(HelloPart::CipherSuites, ciphers + 2, compressions.min(end), true, fields);
        if compressions >= end {
            return None;
        }
        let Some(length) = self.number(compressions, 1) else { return Some(compressions) };
        // Skip the length of all extensions, which spans the rest.
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
                    self.add(HelloPart::ServerNames, entry + 3, list_end.min(entry + 3 + length), true, fields);
                    entry += 3 + length;
                }
            }
            extension = content + length;
        }
        None
    }
}
