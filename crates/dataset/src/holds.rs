//! The information contained in a dataset's flows: captures have bytes, lengths and times; published sequences may have
//! only lengths. Experiments check this before they use information that may be missing.

use etcbench_flow::reads_times;

/// Which bytes of a packet are available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBytes {
    /// None.
    None,
    /// From the IP header on.
    IpHeader,
    /// The payload.
    Payload,
    /// The bytes the publisher kept, with an unspecified start; fields cannot be located in them.
    AsPublished,
}

/// The meaning of a packet's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldLengths {
    /// Unknown: every packet counts as one byte, so that its direction is visible.
    None,
    /// Length of the packet.
    Packets,
    /// Length of the payload.
    Payloads,
}

/// Which packet times are available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldTimes {
    /// None, or invented ones.
    None,
    /// Times since the first packet of the flow.
    Relative,
    /// Times since the Unix epoch.
    Absolute,
}

/// Which TCP flags are available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldFlags {
    /// None.
    None,
    /// PSH.
    Push,
    /// All flags, and the rest of the headers.
    All,
}

/// The information contained in a dataset's flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holds {
    /// Bytes of packets.
    pub bytes: HeldBytes,
    /// Lengths of packets.
    pub lengths: HeldLengths,
    /// Times of packets.
    pub times: HeldTimes,
    /// TCP flags.
    pub flags: HeldFlags,
    /// Addresses and ports.
    pub addresses: bool,
    /// Whether flows are truncated to their first packets.
    pub cut: bool,
}

impl Holds {
    /// The information contained in a capture.
    pub(super) const CAPTURE: Holds = Holds {
        bytes: HeldBytes::IpHeader,
        lengths: HeldLengths::Packets,
        times: HeldTimes::Absolute,
        flags: HeldFlags::All,
        addresses: true,
        cut: false,
    };

    /// Returns whether a flow statistic can be computed for such flows. For truncated flows, duration and packet rates
    /// are unknown.
    pub fn knows(&self, statistic: &str) -> bool {
        let has = |parts: &[&str]| parts.iter().any(|part| statistic.contains(part));
        let ends = |ends: &[&str]| ends.iter().any(|end| statistic.ends_with(end));
        if reads_times(statistic) && self.times == HeldTimes::None {
            return false;
        }
        if self.cut && has(&["duration", "_per_second", "active_", "idle_"]) {
            return false;
        }
        if has(&["header_bytes", "initial_window"]) || ends(&["_fin", "_syn", "_rst", "_ack", "_urg", "_ece", "_cwr"]) {
            return self.flags == HeldFlags::All;
        }
        if statistic.ends_with("_psh") {
            return self.flags != HeldFlags::None;
        }
        if statistic == "is_tcp" {
            return self.addresses;
        }
        if has(&["payload"]) {
            return self.lengths == HeldLengths::Payloads || self.flags == HeldFlags::All;
        }
        if has(&["bytes", "packet_length", "small_packets", "byte_ratio"]) {
            return self.lengths == HeldLengths::Packets;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcbench_flow::STATISTIC_NAMES;

    #[test]
    fn what_is_not_there_is_in_no_statistic() {
        let known = |holds: Holds| STATISTIC_NAMES.iter().copied().filter(|name| holds.knows(name)).collect::<Vec<_>>();
        assert_eq!(known(Holds::CAPTURE), STATISTIC_NAMES);
        let directions = Holds {
            bytes: HeldBytes::None,
            lengths: HeldLengths::None,
            times: HeldTimes::None,
            flags: HeldFlags::None,
            addresses: false,
            cut: true,
        };
        assert_eq!(known(directions), ["packets", "forward_packets", "backward_packets", "down_up_packet_ratio"]);
        let payloads = known(Holds { lengths: HeldLengths::Payloads, flags: HeldFlags::Push, ..directions });
        assert!(payloads.contains(&"payload_length_mean") && payloads.contains(&"forward_psh"));
        assert!(!payloads.contains(&"bytes") && !payloads.contains(&"forward_syn"));
        let times = known(Holds { times: HeldTimes::Relative, ..directions });
        assert!(times.contains(&"flow_interarrival_mean") && !times.contains(&"packets_per_second"));
    }
}
