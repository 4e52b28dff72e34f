//! One capture: conversations of one class under one condition, interleaved in time order.

use std::io::{self, Write};

use super::classes::{CLASSES, SynthClass};
use super::conversation::{Scene, Vantage};
use super::draw::Draw;
use super::network::Condition;
use super::pcap::{PcapWriter, Resolution};
use super::wire::Frame;

/// Start of the first capture: 2020-09-13 12:26:40 UTC.
pub(super) const EPOCH: i64 = 1_600_000_000;
/// Captures of different classes with the same index fall within one day, so that a split by time does not separate
/// classes.
const SECONDS_PER_INDEX: i64 = 86_400;
/// Seconds between the starts of two classes' captures.
const SECONDS_PER_CLASS: i64 = 1200;

/// Content of a capture.
pub(super) struct CaptureContent {
    frames: Vec<Frame>,
    link_type: u32,
    resolution: Resolution,
}

/// Returns where a capture was taken: for VPN classes, three of five inside the tunnel and two outside.
fn vantage(class: SynthClass, index: usize) -> Vantage {
    match class.tunnel {
        "tor" => Vantage::Guard,
        "vpn" if index % 5 == 1 || index % 5 == 3 => Vantage::Outside,
        _ => Vantage::Direct,
    }
}

/// Returns the file stem of a capture, which also names its stream of random numbers.
pub(super) fn stem(class: SynthClass, index: usize) -> String {
    format!("{}-{}-{}-{}-{index:03}", class.traffic, class.tunnel, class.category, class.application)
}

impl CaptureContent {
    /// Generates capture number `index` of a class, with `flows` conversations.
    pub(super) fn new(seed: u64, class: SynthClass, index: usize, flows: usize, background: f64) -> Self {
        let mut draw = Draw::new(seed, &format!("synth/{}", stem(class, index)));
        let vantage = vantage(class, index);
        let inside = class.tunnel == "vpn" && vantage == Vantage::Direct;
        let mut condition = Condition::new(&mut draw, inside);
        let place = CLASSES.iter().position(|other| *other == class).unwrap_or(0) as i64;
        let mut start = (EPOCH + index as i64 * SECONDS_PER_INDEX + place * SECONDS_PER_CLASS) * 1_000_000_000;
        let mut frames = Vec::new();
        for _ in 0..flows {
            let gap = draw.exponential(1.5);
            start += (gap * 1e9) as i64;
            let mut scene = Scene { draw: &mut draw, condition: &mut condition, class, vantage, start, background };
            frames.extend(scene.conversation());
        }
        // Stable sort: packets with equal times stay in the order of their conversations.
        frames.sort_by_key(|frame| frame.at);
        let resolution = if draw.chance(0.2) { Resolution::Nanoseconds } else { Resolution::Microseconds };
        Self { frames, link_type: condition.link().link_type(), resolution }
    }

    /// Returns the number of packets.
    pub(super) fn packets(&self) -> usize {
        self.frames.len()
    }

    /// Returns the length of the file in bytes.
    pub(super) fn file_length(&self) -> u64 {
        24 + self.frames.iter().map(|frame| 16 + frame.bytes.len() as u64).sum::<u64>()
    }

    /// Writes the pcap file.
    ///
    /// # Errors
    /// Any error of `writer`.
    pub(super) fn write(&self, writer: impl Write) -> io::Result<()> {
        let mut file = PcapWriter::new(writer, self.resolution, self.link_type)?;
        for frame in &self.frames {
            file.write(frame.at, &frame.bytes)?;
        }
        file.finish().map(drop)
    }
}
