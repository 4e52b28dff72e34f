//! Captures of any size in bounded memory: many concurrent conversations, interleaved in time order.
//!
//! A fixed set of conversations is generated once as templates; each active conversation is a position in one of them,
//! with its own client address and port. Checksums are updated for the changed words (RFC 1624). Memory consists of the
//! templates (at most 64 frames each) and a few words per active conversation.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write;

use super::SynthError;
use super::capture_file::EPOCH;
use super::classes::CLASSES;
use super::conversation::{Scene, Vantage};
use super::draw::Draw;
use super::network::Condition;
use super::pcap::{PcapWriter, Resolution};
use super::wire::{Frame, Link, Side, UDP, updated_checksum};

/// Number of templates.
const TEMPLATES: usize = 1024;
/// Maximum number of concurrent conversations; more would need many gigabytes in every reader.
const MAXIMUM_ACTIVE: usize = 16_000_000;
/// Mean pause between two conversations in one slot, in seconds.
const MEAN_PAUSE: f64 = 2.0;

/// Options for a large capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LargeOptions {
    /// The run's seed.
    pub seed: u64,
    /// Number of packets to write.
    pub packets: u64,
    /// Number of concurrent conversations.
    pub active_flows: usize,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LargeSummary {
    /// Number of packets written.
    pub packets: u64,
    /// Number of conversations with at least one written packet; each has a distinct five-tuple.
    pub flows: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
}

/// A packet of a template, with the offsets needed to change its client.
struct TemplatePacket {
    /// Nanoseconds since the conversation's first packet.
    offset: i64,
    frame: Vec<u8>,
    /// Offset of the last four bytes of the client's address.
    address: usize,
    /// Offset of the client's port.
    port: usize,
    /// Offset of the transport checksum.
    checksum: usize,
    /// Offset of the IPv4 header's checksum.
    header_checksum: Option<usize>,
    datagram: bool,
}

impl TemplatePacket {
    fn new(frame: Frame, begin: i64) -> Self {
        let network = frame.network_offset;
        let fourth = frame.bytes[network] >> 4 == 4;
        let client_sends = frame.from == Side::Client;
        let (transport, protocol) =
            if fourth { (network + 20, frame.bytes[network + 9]) } else { (network + 40, frame.bytes[network + 6]) };
        let address = match (fourth, client_sends) {
            (true, true) => network + 12,
            (true, false) => network + 16,
            (false, true) => network + 20,
            (false, false) => network + 36,
        };
        let datagram = protocol == UDP;
        Self {
            offset: frame.at - begin,
            frame: frame.bytes,
            address,
            port: if client_sends { transport } else { transport + 2 },
            checksum: transport + if datagram { 6 } else { 16 },
            header_checksum: fourth.then_some(network + 10),
            datagram,
        }
    }

    /// Copies the frame into `buffer` with the client's address and port replaced.
    fn copy_for(&self, client: u64, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(&self.frame);
        // 14 bits of port and 24 bits of address: 10.0.0.0/8, or the interface part under IPv6.
        let port = 49_152 + (client & 0x3fff) as u16;
        let address = 0x0a00_0000 | (client >> 14) as u32 & 0x00ff_ffff;
        self.replace(buffer, self.address, (address >> 16) as u16, true);
        self.replace(buffer, self.address + 2, address as u16, true);
        self.replace(buffer, self.port, port, false);
        if self.datagram && buffer[self.checksum..self.checksum + 2] == [0, 0] {
            buffer[self.checksum..self.checksum + 2].fill(0xff);
        }
    }

    /// Replaces a word and updates the checksums that cover it.
    fn replace(&self, buffer: &mut [u8], at: usize, new: u16, in_header: bool) {
        let old = u16::from_be_bytes([buffer[at], buffer[at + 1]]);
        buffer[at..at + 2].copy_from_slice(&new.to_be_bytes());
        let header = self.header_checksum.filter(|_| in_header);
        for place in [Some(self.checksum), header].into_iter().flatten() {
            let checksum = u16::from_be_bytes([buffer[place], buffer[place + 1]]);
            buffer[place..place + 2].copy_from_slice(&updated_checksum(checksum, old, new).to_be_bytes());
        }
    }
}

/// Generates the templates: cycles through the classes, each under a new condition.
fn templates(seed: u64) -> Vec<Vec<TemplatePacket>> {
    (0..TEMPLATES)
        .map(|number| {
            let mut draw = Draw::new(seed, &format!("synth/large/template/{number}"));
            let mut condition = Condition::new(&mut draw, false);
            let class = CLASSES[number % CLASSES.len()];
            let vantage = match class.tunnel {
                "tor" => Vantage::Guard,
                "vpn" => Vantage::Outside,
                _ => Vantage::Direct,
            };
            debug_assert!(matches!(condition.link(), Link::Ethernet(_)), "a large capture has one link type");
            let mut scene = Scene {
                draw: &mut draw,
                condition: &mut condition,
                class,
                vantage,
                start: EPOCH * 1_000_000_000,
                background: 0.12,
            };
            let frames = scene.conversation();
            let begin = frames.first().map_or(0, |frame| frame.at);
            frames.into_iter().map(|frame| TemplatePacket::new(frame, begin)).collect()
        })
        .collect()
}

/// A conversation in progress.
struct Active {
    template: u32,
    packet: u32,
    /// Start time in nanoseconds since the Unix epoch.
    begin: i64,
    /// Its number among all conversations, which determines its client.
    client: u64,
}

/// Writes a pcap file (Ethernet, nanoseconds) of exactly `options.packets` packets to `writer`, in time order. The same
/// options produce the same bytes. Memory does not depend on the number of packets.
///
/// # Errors
/// [`SynthError::Options`] for zero packets or zero or too many active flows; [`SynthError::Stream`] if `writer` fails.
pub fn generate_large<W: Write>(options: &LargeOptions, writer: W) -> Result<LargeSummary, SynthError> {
    if options.packets == 0 {
        return Err(SynthError::Options { option: "packets", problem: "0, but must be at least 1".into() });
    }
    if options.active_flows == 0 || options.active_flows > MAXIMUM_ACTIVE {
        let problem = format!("{}, but must be between 1 and {MAXIMUM_ACTIVE}", options.active_flows);
        return Err(SynthError::Options { option: "active_flows", problem });
    }
    let templates = templates(options.seed);
    let mut draw = Draw::new(options.seed, "synth/large/schedule");
    let mut file = PcapWriter::new(writer, Resolution::Nanoseconds, Link::Ethernet(None).link_type())
        .map_err(SynthError::Stream)?;
    let mut active = Vec::with_capacity(options.active_flows);
    let mut due = BinaryHeap::with_capacity(options.active_flows);
    for place in 0..options.active_flows {
        let begin = EPOCH * 1_000_000_000 + (draw.real(0.0, 2.0 * MEAN_PAUSE) * 1e9) as i64;
        active.push(Active { template: draw.below(TEMPLATES) as u32, packet: 0, begin, client: place as u64 });
        due.push(Reverse((begin, place)));
    }
    let mut next_client = options.active_flows as u64;
    let mut summary = LargeSummary { packets: 0, flows: 0, bytes: 24 };
    let mut buffer = Vec::with_capacity(2048);
    while summary.packets < options.packets {
        let Some(mut first) = due.peek_mut() else { break };
        let Reverse((at, place)) = *first;
        let flow = &mut active[place];
        let packets = &templates[flow.template as usize];
        let packet = &packets[flow.packet as usize];
        packet.copy_for(flow.client, &mut buffer);
        file.write(at, &buffer).map_err(SynthError::Stream)?;
        summary.packets += 1;
        summary.bytes += 16 + buffer.len() as u64;
        summary.flows += u64::from(flow.packet == 0);
        flow.packet += 1;
        if let Some(next) = packets.get(flow.packet as usize) {
            *first = Reverse((flow.begin + next.offset, place));
        } else {
            let begin = at + (draw.exponential(MEAN_PAUSE) * 1e9) as i64;
            *flow = Active { template: draw.below(TEMPLATES) as u32, packet: 0, begin, client: next_client };
            next_client += 1;
            *first = Reverse((begin, place));
        }
    }
    file.finish().map_err(SynthError::Stream)?;
    Ok(summary)
}
