//! The type of a flow, and the options that decide where flows begin and end.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use etcbench_capture::{FieldRange, HeaderLayout, PacketView, Transport, Tunnels, locate_hellos};

/// Source and destination address and port, and the transport protocol, oriented from the sender of the flow's first
/// packet to its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FiveTuple {
    /// Sender of the flow's first packet.
    pub source: SocketAddr,
    /// Receiver of the flow's first packet.
    pub destination: SocketAddr,
    /// The transport protocol.
    pub transport: Transport,
}

/// Whether the two directions of a five-tuple form one flow or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// Both directions form one flow, in packet order.
    #[default]
    Bidirectional,
    /// Each direction is a separate flow.
    Unidirectional,
}

/// Where flows begin and end, and what is kept of them (`[flow]` in an experiment).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowOptions {
    /// Whether the two directions form one flow.
    pub direction: Pairing,
    /// Whether packets inside tunnels form the flows, or the packets that carry them.
    pub tunnels: Tunnels,
    /// A packet later than this after the flow's last packet begins a new flow, in seconds.
    pub idle_timeout: f64,
    /// A packet later than this after the flow's first packet begins a new flow, in seconds.
    pub active_timeout: f64,
    /// A gap longer than this splits a flow's time into active and idle periods, in seconds.
    pub activity_timeout: f64,
    /// Number of first packets of a flow to keep with their bytes.
    pub kept_packets: usize,
    /// Number of first bytes to keep of each kept packet, from the IP header on.
    pub kept_bytes: usize,
    /// Whether to compute statistics. Experiments always do; without them, [`Flow::statistics`] is empty.
    #[serde(skip)]
    pub statistics: bool,
}

/// A packet's direction within its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketDirection {
    /// From the sender of the flow's first packet.
    Forward,
    /// Towards the sender of the flow's first packet.
    Backward,
}

/// One of a flow's first packets.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowPacket {
    /// Direction within the flow.
    pub direction: PacketDirection,
    /// Nanoseconds since the Unix epoch.
    pub timestamp: i64,
    /// Length of the frame on the wire in bytes.
    pub wire_length: u32,
    /// The first bytes from the IP header on, at most [`FlowOptions::kept_bytes`].
    pub bytes: Vec<u8>,
    /// Where the headers are in `bytes`.
    pub layout: HeaderLayout,
}

impl FlowPacket {
    /// Returns a view in which the packet's fields can be located.
    pub fn view(&self) -> PacketView<'_> {
        PacketView { bytes: &self.bytes, layout: self.layout }
    }
}

/// One flow.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// Endpoints, oriented by the first packet.
    pub five_tuple: FiveTuple,
    /// Time of the first packet, nanoseconds since the Unix epoch.
    pub start: i64,
    /// Time of the last packet, nanoseconds since the Unix epoch.
    pub end: i64,
    /// The first packets, at most [`FlowOptions::kept_packets`].
    pub packets: Vec<FlowPacket>,
    /// One value per name in `flow::STATISTIC_NAMES`; empty without [`FlowOptions::statistics`].
    pub statistics: Vec<f64>,
}

impl Flow {
    /// Locates the fields of TLS hellos in the first packets; a range's packet is its index among them.
    pub fn locate_hellos(&self) -> Vec<FieldRange> {
        let mut found = Vec::new();
        for direction in [PacketDirection::Forward, PacketDirection::Backward] {
            let packets = self.packets.iter().enumerate().filter(|(_, packet)| packet.direction == direction);
            let packets: Vec<(usize, PacketView<'_>)> = packets.map(|(index, packet)| (index, packet.view())).collect();
            locate_hellos(&packets, &mut found);
        }
        found
    }
}
