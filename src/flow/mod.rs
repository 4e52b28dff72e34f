//! Flows: decoded packets of one five-tuple, split by timeouts, with the first packets' bytes and
//! running statistics. Memory is bounded by the number of active flows, not by the capture.

mod types;

pub use types::{FiveTuple, Flow, FlowOptions, FlowPacket, PacketDirection, Pairing};
