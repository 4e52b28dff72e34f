//! Captures: a pcap or pcapng file becomes a stream of decoded packets. This module owns file
//! formats, link layers, network and transport headers, and truncation; it knows nothing of flows.

mod packet;

pub use packet::{HeaderLayout, Packet, Transport};
