//! What was found while reading a capture, other than its packets: counters and damage.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::skip::{SkipReason, SkippedProtocol};
use etcbench_storage::counted;

/// Maximum number of protocols per reason that the one-line summary names.
const SHOWN_PROTOCOLS: usize = 3;

/// Where and why reading stopped before the end of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// Bytes from the start of the (decompressed) capture to the start of the damaged record.
    pub offset: u64,
    /// Description of the problem.
    pub problem: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "damaged at byte {}: {}; only the packets before it were read", self.offset, self.problem)
    }
}

/// The counters of one capture. `packets` is `decoded` plus all of `skipped`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureSummary {
    /// Records read, which is also the number of the last packet.
    pub packets: u64,
    /// Records that became packets.
    pub decoded: u64,
    /// Number of packets whose transport header was cut after the ports. TCP flags and window are 0, and the header
    /// length is the minimum, if they were not captured.
    pub partial_transport_headers: u64,
    /// Number of packets that are first fragments of fragmented IP packets.
    pub first_fragments: u64,
    /// Number of packets that are earlier than a packet before them in the file. Flows take packets in the order of the
    /// file, so such a flow may have its direction reversed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub out_of_order: u64,
    /// Number of records of a pcap whose fraction of a second is larger than the format of the file allows, such as
    /// nanoseconds in a file of microseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fractions_out_of_range: u64,
    /// Records that did not become packets, by reason, without zeros, in the order of [`SkipReason::ALL`].
    pub skipped: Vec<(SkipReason, u64)>,
    /// The protocols of skipped records, as far as they have numbers: at most 64, by reason, the most frequent first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped_protocols: Vec<SkippedProtocol>,
    /// Where the file is damaged, if it is.
    pub damage: Option<Damage>,
    /// The capture's distinct interfaces, ascending; a pcap has one.
    pub interfaces: Vec<CaptureInterface>,
}

/// An interface that packets were captured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CaptureInterface {
    /// Link type, a number of <https://www.tcpdump.org/linktypes.html>.
    pub link_type: u32,
    /// Maximum captured bytes per packet, 0 if there was no limit.
    pub snap_length: u32,
}

/// A one-line summary: packets, those skipped by reason, damage.
impl fmt::Display for CaptureSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, {} of TCP or UDP", counted(self.packets, "packet"), self.decoded)?;
        for (reason, count) in self.skipped.iter().filter(|(_, count)| *count > 0) {
            write!(formatter, ", {count} {reason}")?;
            let protocols: Vec<&SkippedProtocol> =
                self.skipped_protocols.iter().filter(|entry| entry.0 == *reason).collect();
            let shown = protocols.iter().take(SHOWN_PROTOCOLS);
            let mut names: Vec<String> = shown.map(|(_, protocol, packets)| format!("{protocol}: {packets}")).collect();
            if protocols.len() > SHOWN_PROTOCOLS {
                names.push("...".to_owned());
            }
            if !names.is_empty() {
                write!(formatter, " ({})", names.join(", "))?;
            }
        }
        if let Some(damage) = &self.damage {
            write!(formatter, "; {damage}")?;
        }
        self.time_advice().iter().try_for_each(|advice| write!(formatter, "; {advice}"))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl CaptureSummary {
    /// Returns the distinct link types of the interfaces, ascending.
    pub fn link_types(&self) -> Vec<u32> {
        let mut link_types: Vec<u32> = self.interfaces.iter().map(|interface| interface.link_type).collect();
        link_types.dedup();
        link_types
    }

    /// Describes times that are out of order or out of range, and what to do about them.
    pub fn time_advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        if self.out_of_order > 0 {
            let verb = if self.out_of_order == 1 { "is" } else { "are" };
            advice.push(format!(
                "{} {verb} earlier than a packet before; the direction of a flow is that of its first packet in the file; \
                 sort the capture by time with reordercap",
                counted(self.out_of_order, "packet")
            ));
        }
        if self.fractions_out_of_range > 0 {
            let verb = if self.fractions_out_of_range == 1 { "has" } else { "have" };
            advice.push(format!(
                "{} {verb} a fraction of a second beyond the file's resolution; those of at least 2,000,000 microseconds are \
                 read as nanoseconds, as are all while most are such, and impossible ones as 0",
                counted(self.fractions_out_of_range, "packet")
            ));
        }
        advice
    }

    /// Counts records that the reader decoded but that turned out to have no place in a flow.
    pub fn add_skipped(&mut self, reason: SkipReason, count: u64) {
        if count > 0 {
            match self.skipped.binary_search_by_key(&reason, |(other, _)| *other) {
                Ok(place) => self.skipped[place].1 += count,
                Err(place) => self.skipped.insert(place, (reason, count)),
            }
        }
    }

    /// Returns how many records were skipped for a reason.
    pub fn skipped_for(&self, reason: SkipReason) -> u64 {
        self.skipped.iter().find(|(other, _)| *other == reason).map_or(0, |(_, count)| *count)
    }
}
