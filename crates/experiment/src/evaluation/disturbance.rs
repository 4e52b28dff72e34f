//! Disturbed traffic: lost, duplicated or reordered packets, padded or clamped lengths, and jitter. Flows are disturbed
//! before features are built, on the packets that flows keep; random draws depend only on the flow's ID, so that every
//! model sees the same traffic. Checksums remain as recorded.

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use etcbench_dataset::LabelledFlow;
use etcbench_flow::FlowPacket;
use etcbench_storage::seed;

/// A kind of disturbance with its amount, such as `drop 0.1`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Disturbance {
    /// Each packet is lost with this probability.
    Drop(f64),
    /// Each packet is duplicated with this probability.
    Duplicate(f64),
    /// Each packet is swapped with the next one with this probability; times stay in order.
    Reorder(f64),
    /// Lengths are zero-padded to a multiple of this many bytes, up to 1,500.
    Pad(u32),
    /// Packets longer than this many bytes are truncated.
    Clamp(u32),
    /// The time between two packets is multiplied by `exp(amount * z)`, with `z` drawn from the standard normal
    /// distribution.
    Jitter(f64),
}

/// Maximum length of a padded packet.
const MOST_PADDED: u32 = 1500;

impl TryFrom<String> for Disturbance {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let problem = || {
            format!(
                "{text:?} is not a disturbance; use one of \"drop 0.1\", \"duplicate 0.1\", \"reorder 0.1\" \
                 (probabilities), \"pad 128\", \"clamp 576\" (bytes) and \"jitter 0.5\""
            )
        };
        let (kind, amount) = text.split_once(' ').ok_or_else(problem)?;
        let chance = || amount.parse::<f64>().ok().filter(|chance| (0.0..=1.0).contains(chance)).ok_or_else(problem);
        let bytes = || amount.parse::<u32>().ok().filter(|bytes| (40..=65_535).contains(bytes)).ok_or_else(problem);
        match kind {
            "drop" => chance().map(Self::Drop),
            "duplicate" => chance().map(Self::Duplicate),
            "reorder" => chance().map(Self::Reorder),
            "pad" => bytes().map(Self::Pad),
            "clamp" => bytes().map(Self::Clamp),
            "jitter" => {
                let amount = amount.parse::<f64>().ok().filter(|amount| (0.0..=10.0).contains(amount));
                amount.map(Self::Jitter).ok_or_else(problem)
            }
            _ => Err(problem()),
        }
    }
}

impl From<Disturbance> for String {
    fn from(disturbance: Disturbance) -> Self {
        disturbance.to_string()
    }
}

impl std::fmt::Display for Disturbance {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Drop(chance) => write!(formatter, "drop {chance}"),
            Self::Duplicate(chance) => write!(formatter, "duplicate {chance}"),
            Self::Reorder(chance) => write!(formatter, "reorder {chance}"),
            Self::Pad(bytes) => write!(formatter, "pad {bytes}"),
            Self::Clamp(bytes) => write!(formatter, "clamp {bytes}"),
            Self::Jitter(amount) => write!(formatter, "jitter {amount}"),
        }
    }
}

impl Disturbance {
    /// Returns whether the disturbance changes the input of models that read bytes.
    pub(super) fn changes_bytes(self) -> bool {
        !matches!(self, Self::Jitter(_))
    }

    /// Disturbs a flow.
    pub(super) fn disturb(self, flow: &mut LabelledFlow) {
        let mut generator = seed::generator(0, &format!("disturbance {self}, {}", flow.provenance.flow_id()));
        let mut happens = |chance: f64| generator.random::<f64>() < chance;
        let packets = &mut flow.flow.packets;
        match self {
            Self::Drop(chance) => packets.retain(|_| !happens(chance)),
            Self::Duplicate(chance) => {
                let twice = |packet: FlowPacket| {
                    let copy = happens(chance).then(|| packet.clone());
                    std::iter::once(packet).chain(copy)
                };
                *packets = std::mem::take(packets).into_iter().flat_map(twice).collect();
            }
            Self::Reorder(chance) => {
                let mut place = 1;
                while place < packets.len() {
                    if happens(chance) {
                        let times = (packets[place - 1].timestamp, packets[place].timestamp);
                        packets.swap(place - 1, place);
                        (packets[place - 1].timestamp, packets[place].timestamp) = times;
                        // A packet that was swapped is not swapped again.
                        place += 1;
                    }
                    place += 1;
                }
            }
            Self::Pad(multiple) => {
                for packet in packets {
                    let length = ip_length(packet);
                    if length < MOST_PADDED {
                        set_length(packet, length.next_multiple_of(multiple).min(MOST_PADDED));
                    }
                }
            }
            Self::Clamp(most) => {
                for packet in packets {
                    if ip_length(packet) > most {
                        set_length(packet, most);
                    }
                }
            }
            Self::Jitter(amount) => {
                let mut before = flow.flow.start;
                let mut now = flow.flow.start;
                for packet in packets {
                    let gap = packet.timestamp.saturating_sub(before) as f64;
                    before = packet.timestamp;
                    let drawn: f64 = StandardNormal.sample(&mut generator);
                    now = now.saturating_add((gap * (amount * drawn).exp()) as i64);
                    packet.timestamp = now;
                }
            }
        }
    }
}

/// Returns the length declared in the IP header, or else the frame's length.
fn ip_length(packet: &FlowPacket) -> u32 {
    let field = |at: usize| packet.bytes.get(at..at + 2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])));
    let declared = match packet.bytes.first().map(|first| first >> 4) {
        Some(4) => field(2),
        Some(6) => field(4).map(|payload| payload + 40),
        _ => None,
    };
    declared.filter(|&length| length > 0).unwrap_or(packet.wire_length)
}

/// Sets a packet's length from its IP header on: in the header, on the wire, and in the kept bytes.
fn set_length(packet: &mut FlowPacket, length: u32) {
    let before = ip_length(packet);
    let kept_all = packet.bytes.len() as u32 >= before;
    packet.wire_length = packet.wire_length.saturating_add(length).saturating_sub(before);
    let (at, declared) = match packet.bytes.first().map(|first| first >> 4) {
        Some(6) => (4, length.saturating_sub(40)),
        _ => (2, length),
    };
    if let Some(field) = packet.bytes.get_mut(at..at + 2) {
        field.copy_from_slice(&(declared.min(65_535) as u16).to_be_bytes());
    }
    if length < packet.bytes.len() as u32 || kept_all {
        packet.bytes.resize(length as usize, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcbench_capture::{HeaderLayout, Transport};
    use etcbench_dataset::FlowProvenance;
    use etcbench_flow::{FiveTuple, Flow, PacketDirection};

    fn flow(packets: usize) -> LabelledFlow {
        let end = |port| format!("10.0.0.1:{port}").parse().unwrap();
        let five_tuple = FiveTuple { source: end(1), destination: end(2), transport: Transport::Udp };
        let packet = |number: usize| {
            let length = 60 + number;
            let mut bytes = vec![number as u8; length];
            bytes[0] = 0x45;
            bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            FlowPacket {
                direction: PacketDirection::Forward,
                timestamp: 1000 * number as i64,
                wire_length: length as u32 + 14,
                bytes,
                layout: HeaderLayout { transport_offset: 20, payload_offset: 28, transport: Transport::Udp },
            }
        };
        LabelledFlow {
            provenance: FlowProvenance { capture: "a".into(), number: 0, five_tuple, start: 0, end: 9, packet: None },
            labels: Default::default(),
            flow: Flow {
                five_tuple,
                start: 0,
                end: 9,
                packets: (0..packets).map(packet).collect(),
                statistics: vec![],
            },
        }
    }

    fn disturbed(text: &str, packets: usize) -> Vec<FlowPacket> {
        let mut flow = flow(packets);
        Disturbance::try_from(text.to_owned()).unwrap().disturb(&mut flow);
        flow.flow.packets
    }

    #[test]
    fn rates_are_kept_and_times_stay_in_order() {
        let numbers = |packets: &[FlowPacket]| packets.iter().map(|packet| packet.bytes[9]).collect::<Vec<_>>();
        let whole = flow(200).flow.packets;
        for nothing in ["drop 0", "duplicate 0", "reorder 0", "jitter 0", "clamp 1500"] {
            assert_eq!(disturbed(nothing, 200), whole, "{nothing}");
        }
        assert!(disturbed("drop 1", 200).is_empty());
        assert!((30..=70).contains(&(200 - disturbed("drop 0.25", 200).len())));
        assert_eq!(disturbed("duplicate 1", 3).len(), 6);
        let swapped = disturbed("reorder 1", 4);
        assert_eq!(numbers(&swapped), [1, 0, 3, 2]);
        assert!(swapped.is_sorted_by_key(|packet| packet.timestamp));
        let late = disturbed("jitter 0.5", 200);
        assert!(late.is_sorted_by_key(|packet| packet.timestamp) && late != whole);
        assert_eq!(disturbed("drop 0.25", 200), disturbed("drop 0.25", 200));
    }

    #[test]
    fn a_length_is_that_of_header_frame_and_bytes() {
        let lengths = |packets: &[FlowPacket]| {
            let of = |packet: &FlowPacket| (ip_length(packet), packet.wire_length, packet.bytes.len());
            packets.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&disturbed("pad 64", 6)[3..]), [(64, 78, 64), (64, 78, 64), (128, 142, 128)]);
        assert_eq!(lengths(&disturbed("clamp 62", 4)), [(60, 74, 60), (61, 75, 61), (62, 76, 62), (62, 76, 62)]);
        // A truncated packet keeps as many bytes as before.
        let mut part = flow(1);
        part.flow.packets[0].bytes.truncate(40);
        Disturbance::Pad(128).disturb(&mut part);
        assert_eq!(lengths(&part.flow.packets), [(128, 142, 40)]);
    }

    #[test]
    fn what_is_no_disturbance_is_refused() {
        for text in ["drop", "drop 2", "lose 0.1", "pad 0", "jitter -1", "clamp x"] {
            assert!(Disturbance::try_from(text.to_owned()).unwrap_err().contains("is not a disturbance"), "{text}");
        }
        for text in ["drop 0.1", "pad 128", "clamp 576", "jitter 0.5", "reorder 0.25", "duplicate 1"] {
            assert_eq!(Disturbance::try_from(text.to_owned()).unwrap().to_string(), text);
        }
    }
}
