//! TCP conversations (RFC 9293, with the options of RFC 7323 and RFC 2018): handshakes, segments and acknowledgements,
//! loss as seen from the client's side, and the ways to close.

use super::draw::Draw;
use super::path::{Message, Path, Recorder, System};
use super::wire::{Frame, Side, TCP};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Number of bytes the timestamps option takes in every segment, including its padding.
const TIMESTAMPS_LENGTH: usize = 12;
/// Number of segments a sender sends before it waits for acknowledgements (RFC 6928).
const INITIAL_WINDOW: usize = 10;

/// The state of one end.
struct End {
    /// Sequence number of the next byte it sends.
    next: u32,
    /// Next sequence number expected from the other end.
    expected: u32,
    /// The window field, before scaling.
    window: u16,
    /// Offset of its timestamp clock in milliseconds.
    clock: u32,
    /// The last timestamp received from the other end.
    echo: u32,
    /// Number of segments received since its last acknowledgement.
    unacknowledged: usize,
}

/// A TCP conversation being recorded.
pub(super) struct TcpConversation<'a> {
    recorder: Recorder<'a>,
    ends: [End; 2],
    timestamps: bool,
    segment_size: usize,
}

impl<'a> TcpConversation<'a> {
    /// Creates a conversation that starts at `now` and is captured up to `budget` packets; nothing is sent yet.
    pub(super) fn new(path: Path, draw: &'a mut Draw, now: i64, budget: usize) -> Self {
        let timestamps = path.client_system != System::Windows && path.server_system != System::Windows;
        let mut end = |system: System| End {
            next: draw.u32(),
            expected: 0,
            window: match system {
                System::Linux => draw.pick(&[64_240, 29_200, 65_160]),
                System::Windows => draw.pick(&[64_240, 65_535, 8_192]),
                System::Apple => 65_535,
            },
            clock: draw.u32(),
            echo: 0,
            unacknowledged: 0,
        };
        let mut ends = [end(path.client_system), end(path.server_system)];
        ends[0].expected = ends[1].next;
        ends[1].expected = ends[0].next;
        let headers = path.network_header() + 20 + if timestamps { TIMESTAMPS_LENGTH } else { 0 };
        let segment_size = path.mtu - headers;
        Self { recorder: Recorder::new(path, draw, now, budget), ends, timestamps, segment_size }
    }

    /// Returns the random stream, for choices between messages.
    pub(super) fn draw(&mut self) -> &mut Draw {
        self.recorder.draw
    }

    /// Performs the three-way handshake; a lossy path occasionally repeats the SYN.
    pub(super) fn open(&mut self) {
        self.synchronise(Side::Client, SYN);
        if self.recorder.draw.chance(self.recorder.path.loss / 2.0) {
            self.recorder.wait(1.0);
            self.synchronise(Side::Client, SYN);
        }
        self.advance(Side::Client, 1);
        self.recorder.turn(Side::Server, 0.0);
        self.synchronise(Side::Server, SYN | ACK);
        self.advance(Side::Server, 1);
        self.recorder.turn(Side::Client, 0.000_05);
        for end in &mut self.ends {
            // From here on the window is scaled, so the field contains another value.
            end.window = end.window.min(4096).wrapping_sub((end.clock % 512) as u16).max(256);
        }
        self.acknowledge(Side::Client);
    }

    /// Continues a conversation that began before the capture, after an idle pause: the first packet seen is data.
    pub(super) fn resume(&mut self) {
        for end in &mut self.ends {
            end.echo = end.clock ^ 0x1234_5678;
            end.window = 501 + (end.clock % 1500) as u16;
        }
    }

    /// Sends a SYN that is answered with a reset.
    pub(super) fn refused(&mut self) {
        self.synchronise(Side::Client, SYN);
        self.advance(Side::Client, 1);
        self.recorder.turn(Side::Server, 0.0);
        self.ends[1].next = 0;
        self.ends[1].window = 0;
        self.segment(Side::Server, RST | ACK, 0, &[], &[]);
    }

    /// Sends a SYN that is never answered, repeated `times` times with doubled pauses.
    pub(super) fn unanswered(&mut self, times: usize) {
        self.synchronise(Side::Client, SYN);
        for time in 0..times {
            self.recorder.wait(f64::from(1u32 << time.min(6)));
            self.synchronise(Side::Client, SYN);
        }
    }

    /// Sends application messages one after another.
    pub(super) fn play(&mut self, messages: &[Message]) {
        for message in messages {
            if self.recorder.full() {
                return;
            }
            self.recorder.turn(message.from, message.delay);
            self.send(message.from, &message.payload);
        }
    }

    /// Returns the frames so far, of a conversation that was refused or is not closed.
    pub(super) fn stop(self) -> Vec<Frame> {
        self.recorder.into_frames()
    }

    /// Closes the conversation in one of the ways seen in captures, and returns its frames. A conversation whose
    /// capture is full just stops.
    pub(super) fn finish(mut self) -> Vec<Frame> {
        let closer = if self.recorder.draw.chance(0.6) { Side::Client } else { Side::Server };
        match self.recorder.draw.weighted(&[(0.6, FIN), (0.15, RST), (0.25, 0)]) {
            FIN => {
                self.recorder.turn(closer, 0.02);
                self.segment(closer, FIN | ACK, self.ends[closer as usize].next, &[], &[]);
                self.advance(closer, 1);
                self.recorder.turn(closer.other(), 0.001);
                self.segment(closer.other(), FIN | ACK, self.ends[closer.other() as usize].next, &[], &[]);
                self.advance(closer.other(), 1);
                self.recorder.turn(closer, 0.000_1);
                self.acknowledge(closer);
            }
            RST => {
                self.recorder.turn(closer, 0.05);
                self.segment(closer, RST | ACK, self.ends[closer as usize].next, &[], &[]);
            }
            _ => {}
        }
        self.recorder.into_frames()
    }

    /// Sends one message in segments, with the resulting acknowledgements and retransmissions.
    fn send(&mut self, from: Side, payload: &[u8]) {
        let receiver = from.other();
        let count = payload.len().div_ceil(self.segment_size);
        // A server's segment that was lost before the capture point: sequence number and content, retransmitted later.
        let mut missing: Option<(u32, &[u8])> = None;
        for (place, chunk) in payload.chunks(self.segment_size).enumerate() {
            if self.recorder.full() {
                return;
            }
            let last = place + 1 == count;
            let sequence = self.ends[from as usize].next;
            let lost = self.recorder.draw.chance(self.recorder.path.loss);
            if from == Side::Server && lost && !last && missing.is_none() {
                missing = Some((sequence, chunk));
                self.ends[from as usize].next = sequence.wrapping_add(chunk.len() as u32);
                continue;
            }
            let flags = if last { ACK | PSH } else { ACK };
            self.segment(from, flags, sequence, &[], chunk);
            self.ends[from as usize].next = sequence.wrapping_add(chunk.len() as u32);
            if from == Side::Client && lost {
                self.recorder.wait(0.2 + self.recorder.path.round_trip);
                self.segment(from, flags, sequence, &[], chunk);
            }
            self.ends[receiver as usize].unacknowledged += 1;
            if missing.is_some() {
                self.recorder.wait(0.000_05);
                let right = self.ends[from as usize].next;
                self.selective_acknowledgement(receiver, sequence, right);
                continue;
            }
            self.ends[receiver as usize].expected = self.ends[from as usize].next;
            if self.ends[receiver as usize].unacknowledged >= if receiver == Side::Client { 2 } else { 4 } {
                self.recorder.wait(if receiver == Side::Client {
                    0.000_05
                } else {
                    self.recorder.path.round_trip / 3.0
                });
                self.acknowledge(receiver);
            }
            let pause =
                if place % INITIAL_WINDOW == INITIAL_WINDOW - 1 { self.recorder.path.round_trip } else { 0.000_2 };
            self.recorder.wait(pause);
        }
        if let Some((sequence, chunk)) = missing {
            self.recorder.wait(self.recorder.path.round_trip);
            self.segment(from, ACK, sequence, &[], chunk);
            self.ends[receiver as usize].expected = self.ends[from as usize].next;
            self.recorder.wait(0.000_05);
            self.acknowledge(receiver);
        }
    }

    /// Sends a bare acknowledgement of everything that `from` received.
    fn acknowledge(&mut self, from: Side) {
        self.ends[from as usize].unacknowledged = 0;
        self.segment(from, ACK, self.ends[from as usize].next, &[], &[]);
    }

    /// Sends a duplicate acknowledgement that reports what arrived after a hole (RFC 2018).
    fn selective_acknowledgement(&mut self, from: Side, left: u32, right: u32) {
        let mut option = vec![1, 1, 5, 10];
        option.extend(left.to_be_bytes());
        option.extend(right.to_be_bytes());
        self.segment(from, ACK, self.ends[from as usize].next, &option, &[]);
    }

    /// Sends a SYN or SYN-ACK with the options of the sender's system, in that system's order.
    fn synchronise(&mut self, from: Side, flags: u8) {
        let path = &self.recorder.path;
        let system = if from == Side::Client { path.client_system } else { path.server_system };
        let segment_size = ((path.mtu - path.network_header() - 20) as u16).to_be_bytes();
        let size = [2, 4, segment_size[0], segment_size[1]];
        // A client offers timestamps if its system supports them; a server answers with them if both do.
        let offered = if from == Side::Client { system != System::Windows } else { self.timestamps };
        let mut options = Vec::with_capacity(24);
        options.extend(size);
        match system {
            System::Linux if offered => {
                options.extend([4, 2]);
                self.append_timestamps(from, &mut options);
                options.extend([1, 3, 3, 7]);
            }
            System::Linux => options.extend([1, 1, 4, 2, 1, 3, 3, 7]),
            System::Windows => options.extend([1, 3, 3, 8, 1, 1, 4, 2]),
            System::Apple => {
                options.extend([1, 3, 3, 6]);
                if offered {
                    options.extend([1, 1]);
                    self.append_timestamps(from, &mut options);
                    options.extend([4, 2, 0, 0]);
                } else {
                    options.extend([1, 1, 4, 2]);
                }
            }
        }
        self.push(from, flags, self.ends[from as usize].next, &options, &[]);
    }

    /// Advances the sequence number of `from`, and what the other end expects.
    fn advance(&mut self, from: Side, count: u32) {
        let end = &mut self.ends[from as usize];
        end.next = end.next.wrapping_add(count);
        self.ends[from.other() as usize].expected = end.next;
    }

    /// Appends the ten bytes of the timestamps option.
    fn append_timestamps(&mut self, from: Side, options: &mut Vec<u8>) {
        let milliseconds = (self.recorder.now / 1_000_000) as u32;
        let value = self.ends[from as usize].clock.wrapping_add(milliseconds);
        let echo = self.ends[from as usize].echo;
        options.extend([8, 10]);
        options.extend(value.to_be_bytes());
        options.extend(echo.to_be_bytes());
        self.ends[from.other() as usize].echo = value;
    }

    /// Sends a segment after the handshake: the negotiated options, then the options `more`.
    fn segment(&mut self, from: Side, flags: u8, sequence: u32, more: &[u8], payload: &[u8]) {
        let mut options = Vec::new();
        if self.timestamps && flags & RST == 0 {
            options.extend([1, 1]);
            self.append_timestamps(from, &mut options);
        }
        options.extend_from_slice(more);
        self.push(from, flags, sequence, &options, payload);
    }

    /// Records one segment; `options` must fill whole 32-bit words.
    fn push(&mut self, from: Side, flags: u8, sequence: u32, options: &[u8], payload: &[u8]) {
        let path = &self.recorder.path;
        let (source, destination) = match from {
            Side::Client => (path.client.port, path.server.port),
            Side::Server => (path.server.port, path.client.port),
        };
        let end = &self.ends[from as usize];
        let acknowledged = if flags & ACK != 0 { end.expected } else { 0 };
        let mut segment = Vec::with_capacity(20 + options.len() + payload.len());
        segment.extend(source.to_be_bytes());
        segment.extend(destination.to_be_bytes());
        segment.extend(sequence.to_be_bytes());
        segment.extend(acknowledged.to_be_bytes());
        segment.extend([(((20 + options.len()) / 4) << 4) as u8, flags]);
        segment.extend(end.window.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend_from_slice(options);
        segment.extend_from_slice(payload);
        if !payload.is_empty() {
            // Data segments also acknowledge.
            self.ends[from as usize].unacknowledged = 0;
        }
        self.recorder.emit(from, TCP, &mut segment);
    }
}
