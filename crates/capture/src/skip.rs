//! Why records do not become packets: the reasons, the protocols that are not read, and their counters.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Maximum number of distinct protocols counted by name; packets of further ones count as [`OTHERS`].
const MOST_PROTOCOLS: usize = 64;
/// The name of all protocols beyond that.
const OTHERS: &str = "other protocols";

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

/// A protocol that this crate does not read, with its number in the registry of the layer below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    /// IEEE 802.3, and GRE's protocol types.
    EtherType(u16),
    /// Subnetwork access protocol (IEEE 802): the organisation and its protocol.
    Snap([u8; 3], u16),
    /// The destination's service access point of LLC (IEEE 802.2).
    ServiceAccessPoint(u8),
    /// Network-layer protocol identifier (ISO/IEC TR 9577).
    NetworkLayer(u8),
    Ppp(u16),
    /// Next protocol of a network service header (RFC 8300).
    Service(u8),
    /// Address family of the capturing machine.
    Family(u32),
    Arcnet(u8),
    /// Protocol or next header of IP.
    Ip(u8),
    /// Link type of an interface, or one named in a header.
    LinkType(u32),
}

impl Protocol {
    fn reason(self) -> SkipReason {
        match self {
            Protocol::Ip(_) => SkipReason::NotTcpOrUdp,
            Protocol::LinkType(_) => SkipReason::UnknownLinkType,
            _ => SkipReason::NotIp,
        }
    }
}

/// Numbers as their registries write them.
impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Protocol::EtherType(number) => write!(formatter, "EtherType {number:#06x}"),
            Protocol::Snap([a, b, c], number) => write!(formatter, "SNAP {a:02x}-{b:02x}-{c:02x} {number:#06x}"),
            Protocol::ServiceAccessPoint(number) => write!(formatter, "LLC SAP {number:#04x}"),
            Protocol::NetworkLayer(number) => write!(formatter, "NLPID {number:#04x}"),
            Protocol::Ppp(number) => write!(formatter, "PPP protocol {number:#06x}"),
            Protocol::Service(number) => write!(formatter, "NSH next protocol {number}"),
            Protocol::Family(number) => write!(formatter, "address family {number}"),
            Protocol::Arcnet(number) => write!(formatter, "ARCNET protocol {number}"),
            Protocol::Ip(number) => write!(formatter, "IP protocol {number}"),
            Protocol::LinkType(number) => write!(formatter, "link type {number}"),
        }
    }
}

/// Why a record did not become a packet, and the protocol at fault if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skip {
    pub(super) reason: SkipReason,
    pub(super) protocol: Option<Protocol>,
}

impl From<SkipReason> for Skip {
    fn from(reason: SkipReason) -> Self {
        Self { reason, protocol: None }
    }
}

impl From<Protocol> for Skip {
    fn from(protocol: Protocol) -> Self {
        Self { reason: protocol.reason(), protocol: Some(protocol) }
    }
}

/// Packets of a protocol that is not read: the reason that counts them, the protocol by its number, such as `EtherType
/// 0x88cc`, and the number of packets.
pub type SkippedProtocol = (SkipReason, String, u64);

/// One counter per [`SkipReason`], and one per protocol.
#[derive(Debug, Default)]
pub(super) struct SkipCounters {
    reasons: [u64; SkipReason::ALL.len()],
    protocols: BTreeMap<Protocol, u64>,
    /// Packets of protocols beyond the limit.
    others: BTreeMap<SkipReason, u64>,
}

impl SkipCounters {
    pub(super) fn add(&mut self, skip: Skip) {
        self.reasons[skip.reason as usize] += 1;
        let Some(protocol) = skip.protocol else { return };
        if self.protocols.len() < MOST_PROTOCOLS || self.protocols.contains_key(&protocol) {
            *self.protocols.entry(protocol).or_default() += 1;
        } else {
            *self.others.entry(skip.reason).or_default() += 1;
        }
    }

    pub(super) fn of(&self, reason: SkipReason) -> u64 {
        self.reasons[reason as usize]
    }

    /// Returns the counters of reasons, without zeros.
    pub(super) fn list(&self) -> Vec<(SkipReason, u64)> {
        SkipReason::ALL.into_iter().zip(self.reasons).filter(|(_, count)| *count > 0).collect()
    }

    /// Returns the counters of protocols: by reason, the most frequent first, others last.
    pub(super) fn protocols(&self) -> Vec<SkippedProtocol> {
        let mut known: Vec<(SkipReason, Protocol, u64)> =
            self.protocols.iter().map(|(protocol, count)| (protocol.reason(), *protocol, *count)).collect();
        known.sort_by_key(|&(reason, protocol, count)| (reason, u64::MAX - count, protocol));
        let mut list: Vec<SkippedProtocol> =
            known.into_iter().map(|(reason, protocol, packets)| (reason, protocol.to_string(), packets)).collect();
        for (&reason, &packets) in &self.others {
            let place = list.partition_point(|entry| entry.0 <= reason);
            list.insert(place, (reason, OTHERS.to_owned(), packets));
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_counted_by_number_up_to_a_limit() {
        let mut counters = SkipCounters::default();
        for number in [0x88cc, 0x0806, 0x0806] {
            counters.add(Protocol::EtherType(number).into());
        }
        counters.add(SkipReason::NotIp.into());
        counters.add(Protocol::Ip(1).into());
        let told = |counters: &SkipCounters| -> Vec<(String, u64)> {
            counters.protocols().into_iter().map(|(_, protocol, packets)| (protocol, packets)).collect()
        };
        let first = [("EtherType 0x0806", 2), ("EtherType 0x88cc", 1), ("IP protocol 1", 1)];
        assert_eq!(told(&counters), first.map(|(name, count)| (name.to_owned(), count)));
        assert_eq!(counters.list(), [(SkipReason::NotIp, 4), (SkipReason::NotTcpOrUdp, 1)]);
        (0..=u16::MAX).for_each(|number| counters.add(Protocol::EtherType(number).into()));
        let list = counters.protocols();
        assert_eq!(list.len(), MOST_PROTOCOLS + 1);
        let known = list.iter().filter(|(reason, ..)| *reason == SkipReason::NotIp);
        let packets: u64 = known.map(|(.., packets)| packets).sum();
        assert_eq!(packets + 1, counters.of(SkipReason::NotIp), "one has no protocol");
        let others = list.iter().find(|(_, protocol, _)| protocol == OTHERS).unwrap();
        assert_eq!(others.2, u64::from(u16::MAX) + 1 - (MOST_PROTOCOLS as u64 - 1));
    }
}
