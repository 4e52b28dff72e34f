//! What was found while reading a capture, other than its packets: counters and damage.

use std::fmt;

use serde::{Deserialize, Serialize};

use etcbench_storage::counted;

/// Why a record of a capture did not become a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// The frame carries something other than IPv4 or IPv6 (ARP, LLDP, ...).
    NotIp,
    /// The IP packet carries something other than TCP or UDP (ICMP, ESP, GRE, ...); tunnels are only opened on request.
    NotTcpOrUdp,
    /// A fragment whose datagram's first fragment, which has the ports, is missing.
    FragmentWithoutPorts,
    /// The capture cut the frame before the ports.
    HeadersTruncated,
    /// A header contradicts itself or the packet's declared length.
    MalformedHeader,
    /// The packet's interface, or a header that names one, has an unsupported link type.
    UnknownLinkType,
    /// The record has no time (a pcapng simple packet block), so it cannot be placed in a flow.
    NoTimestamp,
    /// The time is before 1970 or after 2262.
    TimestampOutOfRange,
    /// The frame is encrypted on its link (IEEE 802.11, IEEE 802.1AE).
    Encrypted,
    /// One IEEE 802.11 frame contains several packets (A-MSDU), which is not supported.
    AggregatedFrames,
    /// More than four tunnels are nested.
    NestedTooDeep,
}

impl SkipReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [SkipReason; 11] = [
        SkipReason::NotIp,
        SkipReason::NotTcpOrUdp,
        SkipReason::FragmentWithoutPorts,
        SkipReason::HeadersTruncated,
        SkipReason::MalformedHeader,
        SkipReason::UnknownLinkType,
        SkipReason::NoTimestamp,
        SkipReason::TimestampOutOfRange,
        SkipReason::Encrypted,
        SkipReason::AggregatedFrames,
        SkipReason::NestedTooDeep,
    ];

    /// Returns the name used in records and tables.
    pub const fn name(self) -> &'static str {
        match self {
            SkipReason::NotIp => "not_ip",
            SkipReason::NotTcpOrUdp => "not_tcp_or_udp",
            SkipReason::FragmentWithoutPorts => "fragment_without_ports",
            SkipReason::HeadersTruncated => "headers_truncated",
            SkipReason::MalformedHeader => "malformed_header",
            SkipReason::UnknownLinkType => "unknown_link_type",
            SkipReason::NoTimestamp => "no_timestamp",
            SkipReason::TimestampOutOfRange => "timestamp_out_of_range",
            SkipReason::Encrypted => "encrypted",
            SkipReason::AggregatedFrames => "aggregated_frames",
            SkipReason::NestedTooDeep => "nested_too_deep",
        }
    }

    /// Returns the reason as a sentence.
    pub const fn sentence(self) -> &'static str {
        match self {
            SkipReason::NotIp => "The frame carries neither IPv4 nor IPv6.",
            SkipReason::NotTcpOrUdp => {
                "The IP packet carries neither TCP nor UDP (tunnels are only opened on request)."
            }
            SkipReason::FragmentWithoutPorts => "The datagram's first fragment, which has the ports, is missing.",
            SkipReason::HeadersTruncated => "The capture cut the frame before its ports.",
            SkipReason::MalformedHeader => "A header contradicts itself or the packet's declared length.",
            SkipReason::UnknownLinkType => "The interface has a link type that is not supported.",
            SkipReason::NoTimestamp => "The record has no time (a pcapng simple packet block).",
            SkipReason::TimestampOutOfRange => "The time is before 1970 or after 2262.",
            SkipReason::Encrypted => "The frame is encrypted on its link (802.11, MACsec).",
            SkipReason::AggregatedFrames => {
                "The 802.11 frame contains several packets (A-MSDU), which is not supported."
            }
            SkipReason::NestedTooDeep => "More than four tunnels are nested.",
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

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
    /// Records that did not become packets, by reason, without zeros, in the order of [`SkipReason::ALL`].
    pub skipped: Vec<(SkipReason, u64)>,
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
        }
        if let Some(damage) = &self.damage {
            write!(formatter, "; {damage}")?;
        }
        match self.order_advice() {
            Some(advice) => write!(formatter, "; {advice}"),
            None => Ok(()),
        }
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

    /// Describes packets that are out of order, and what to do about them.
    pub fn order_advice(&self) -> Option<String> {
        let verb = if self.out_of_order == 1 { "is" } else { "are" };
        (self.out_of_order > 0).then(|| {
            format!(
                "{} {verb} earlier than a packet before; the direction of a flow is that of its first packet in the file; \
                 sort the capture by time with reordercap",
                counted(self.out_of_order, "packet")
            )
        })
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

/// One counter per [`SkipReason`].
#[derive(Debug, Default)]
pub(super) struct SkipCounters([u64; SkipReason::ALL.len()]);

impl SkipCounters {
    pub(super) fn add(&mut self, reason: SkipReason) {
        self.0[reason as usize] += 1;
    }

    pub(super) fn of(&self, reason: SkipReason) -> u64 {
        self.0[reason as usize]
    }

    pub(super) fn list(&self) -> Vec<(SkipReason, u64)> {
        SkipReason::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0).collect()
    }
}
