//! The statistics of a flow: definition of each column, and its computation while packets arrive.
//!
//! Definitions, for all columns:
//! - Times are in seconds, lengths in bytes. A packet's length is that of its IP packet as declared in the header, so
//!   that neither the link layer nor a snap length affects a flow's statistics. A payload is the data after the TCP or
//!   UDP header.
//! - An inter-arrival time is the time since the latest packet before (of the flow, or of the same direction). Time
//!   never goes backwards within a flow: a packet with an earlier timestamp than its predecessor counts as arriving
//!   together with it, so the inter-arrival times of a flow add up to its duration.
//! - Packets without a gap over `activity_timeout` form an active period, and such a gap is an idle period. An active
//!   period of a single instant is not counted, as in ISCXFlowMeter.
//! - Standard deviations are sample standard deviations (n - 1), as in ISCXFlowMeter.
//! - A fragment after the first has a part of the datagram's payload, no TCP flags, and only the IP header as its
//!   header.
//! - Undefined values are 0: rates of a flow without duration; inter-arrival times of one packet; the minimum, mean,
//!   maximum and standard deviation of nothing; the standard deviation of one value; ratios to 0. (ISCXFlowMeter writes
//!   -1 for some of these.)
//!
//! The 23 time-based features of Draper-Gil et al. (2016) are `duration`, `packets_per_second`,
//! `bytes_per_second`, and these: total, minimum, maximum and mean of `forward_interarrival` and
//! `backward_interarrival` (their fiat and biat); minimum, maximum, mean and standard deviation of
//! `flow_interarrival`, `active` and `idle`.

use etcbench_capture::Transport;

use super::facts::PacketFacts;
use super::running::Running;
use super::types::PacketDirection;

/// Names of the columns of [`super::Flow::statistics`], in order.
pub const STATISTIC_NAMES: &[&str] = &[
    "duration",
    "packets_per_second",
    "bytes_per_second",
    "forward_packets_per_second",
    "backward_packets_per_second",
    "forward_bytes_per_second",
    "backward_bytes_per_second",
    "flow_interarrival_min",
    "flow_interarrival_mean",
    "flow_interarrival_max",
    "flow_interarrival_std",
    "forward_interarrival_total",
    "forward_interarrival_min",
    "forward_interarrival_mean",
    "forward_interarrival_max",
    "forward_interarrival_std",
    "backward_interarrival_total",
    "backward_interarrival_min",
    "backward_interarrival_mean",
    "backward_interarrival_max",
    "backward_interarrival_std",
    "active_min",
    "active_mean",
    "active_max",
    "active_std",
    "active_periods",
    "idle_min",
    "idle_mean",
    "idle_max",
    "idle_std",
    "idle_periods",
    "packets",
    "forward_packets",
    "backward_packets",
    "bytes",
    "forward_bytes",
    "backward_bytes",
    "packet_length_min",
    "packet_length_mean",
    "packet_length_max",
    "packet_length_std",
    "forward_packet_length_min",
    "forward_packet_length_mean",
    "forward_packet_length_max",
    "forward_packet_length_std",
    "backward_packet_length_min",
    "backward_packet_length_mean",
    "backward_packet_length_max",
    "backward_packet_length_std",
    "payload_bytes",
    "forward_payload_bytes",
    "backward_payload_bytes",
    "payload_length_min",
    "payload_length_mean",
    "payload_length_max",
    "payload_length_std",
    "forward_payload_length_min",
    "forward_payload_length_mean",
    "forward_payload_length_max",
    "forward_payload_length_std",
    "backward_payload_length_min",
    "backward_payload_length_mean",
    "backward_payload_length_max",
    "backward_payload_length_std",
    "forward_packets_with_payload",
    "backward_packets_with_payload",
    "forward_small_packets",
    "backward_small_packets",
    "forward_header_bytes",
    "backward_header_bytes",
    "down_up_packet_ratio",
    "down_up_byte_ratio",
    "first_forward_payload_length",
    "first_backward_payload_length",
    "forward_initial_window",
    "backward_initial_window",
    "forward_fin",
    "forward_syn",
    "forward_rst",
    "forward_psh",
    "forward_ack",
    "forward_urg",
    "forward_ece",
    "forward_cwr",
    "backward_fin",
    "backward_syn",
    "backward_rst",
    "backward_psh",
    "backward_ack",
    "backward_urg",
    "backward_ece",
    "backward_cwr",
    "is_tcp",
];

/// Whether a statistic depends on the times of packets, and not just on the packets themselves.
pub fn reads_times(statistic: &str) -> bool {
    ["duration", "_per_second", "_interarrival_", "active_", "idle_"].iter().any(|part| statistic.contains(part))
}

/// IP packets shorter than this are "small": headers and at most a short message.
const SMALL_PACKET: u32 = 128;

const NANOSECONDS_PER_SECOND: f64 = 1e9;

/// Lengths of packets or of payloads: each fits into 32 bits, so the sum of squares fits into 64 bits for four billion
/// packets of any IPv4 length.
#[derive(Debug, Clone, Copy)]
struct Lengths {
    least: u32,
    greatest: u32,
    total: u64,
    squares: u64,
}

impl Default for Lengths {
    fn default() -> Lengths {
        Lengths { least: u32::MAX, greatest: 0, total: 0, squares: 0 }
    }
}

impl Lengths {
    fn add(&mut self, length: u32) {
        self.least = self.least.min(length);
        self.greatest = self.greatest.max(length);
        self.total += u64::from(length);
        self.squares = self.squares.saturating_add(u64::from(length) * u64::from(length));
    }

    /// Converts to running statistics.
    fn running(&self) -> Running {
        Running::of_lengths(self.least, self.greatest, self.total, self.squares)
    }
}

/// Statistics of one direction. The fields that every packet changes come first, next to each other.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct DirectionStatistics {
    packets: u64,
    /// Time of the latest packet in nanoseconds.
    latest: i64,
    packet_length: Lengths,
    payload_length: Lengths,
    interarrival: Running,
    header_bytes: u64,
    packets_with_payload: u64,
    small_packets: u64,
    /// Packets with each TCP flag, from FIN (low bit) to CWR; the counts saturate at 2^32 - 1.
    flags: [u32; 8],
    /// Length of the first non-empty payload.
    first_payload: u32,
    /// Receive window of the first packet.
    initial_window: u16,
}

impl DirectionStatistics {
    fn add(&mut self, packet: &PacketFacts, timestamp: i64) {
        if self.packets == 0 {
            self.initial_window = packet.tcp_window;
        } else {
            self.interarrival.add(gap(self.latest, timestamp));
        }
        self.packets += 1;
        self.latest = timestamp;
        self.packet_length.add(packet.network_length);
        self.payload_length.add(packet.payload_length);
        if packet.payload_length > 0 {
            if self.packets_with_payload == 0 {
                self.first_payload = packet.payload_length;
            }
            self.packets_with_payload += 1;
        }
        self.small_packets += u64::from(packet.network_length < SMALL_PACKET);
        self.header_bytes += u64::from(packet.layout.payload_offset);
        if packet.tcp_flags != 0 {
            for (bit, count) in self.flags.iter_mut().enumerate() {
                *count = count.saturating_add(u32::from((packet.tcp_flags >> bit) & 1));
            }
        }
    }

    /// Reads the first, the middle and the last field: all cache lines.
    fn touch(&self) -> u64 {
        self.packets ^ self.interarrival.touch() ^ u64::from(self.initial_window)
    }

    /// Returns the number of gaps between packets.
    fn interarrivals(&self) -> u64 {
        self.packets.saturating_sub(1)
    }
}

/// Returns the nanoseconds from one time to a later one; 0 if it is not later.
fn gap(from: i64, to: i64) -> u64 {
    to.saturating_sub(from).max(0).cast_unsigned()
}

/// Active and idle periods that have ended.
#[derive(Debug, Clone, Default)]
struct Periods {
    active: Running,
    active_count: u64,
    idle: Running,
    idle_count: u64,
}

impl Periods {
    /// Ends an active period; one of a single instant is not counted.
    fn end_active(&mut self, since: i64, latest: i64) {
        let length = gap(since, latest);
        if length > 0 {
            self.active.add(length);
            self.active_count += 1;
        }
    }
}

/// The statistics of a flow so far, except for its times and transport, which [`super::active::ActiveFlow`] has.
#[derive(Debug, Clone)]
pub(super) struct FlowStatistics {
    /// Start of the current active period.
    active_since: i64,
    interarrival: Running,
    forward: DirectionStatistics,
    backward: DirectionStatistics,
    /// Allocated at the first gap that ends an active period, which most flows never have.
    periods: Option<Box<Periods>>,
}

impl FlowStatistics {
    /// Creates the statistics of a flow that begins at this time.
    pub(super) fn new(start: i64) -> FlowStatistics {
        FlowStatistics {
            active_since: start,
            interarrival: Running::default(),
            forward: DirectionStatistics::default(),
            backward: DirectionStatistics::default(),
            periods: None,
        }
    }

    /// Adds a packet with time `timestamp`, not before `latest`, the time of the flow's latest packet;
    /// `activity_timeout` is in nanoseconds.
    pub(super) fn add(
        &mut self,
        packet: &PacketFacts,
        direction: PacketDirection,
        latest: i64,
        timestamp: i64,
        activity_timeout: u64,
    ) {
        // The first packet of a captured flow is forward; that of a published sequence need not be.
        if self.packets() > 0 {
            let gap = gap(latest, timestamp);
            self.interarrival.add(gap);
            if gap > activity_timeout {
                let periods = self.periods.get_or_insert_default();
                periods.end_active(self.active_since, latest);
                periods.idle.add(gap);
                periods.idle_count += 1;
                self.active_since = timestamp;
            }
        }
        match direction {
            PacketDirection::Forward => self.forward.add(packet, timestamp),
            PacketDirection::Backward => self.backward.add(packet, timestamp),
        }
    }

    /// Returns the number of packets so far.
    fn packets(&self) -> u64 {
        self.forward.packets + self.backward.packets
    }

    /// Reads from each cache line that a packet of this direction changes; the returned value is meaningless.
    pub(super) fn touch(&self, direction: PacketDirection) -> u64 {
        let changed = match direction {
            PacketDirection::Forward => &self.forward,
            PacketDirection::Backward => &self.backward,
        };
        self.interarrival.touch() ^ changed.touch()
    }

    /// Reads from each cache line; the returned value is meaningless.
    pub(super) fn touch_all(&self) -> u64 {
        self.touch(PacketDirection::Forward) ^ self.backward.touch()
    }

    /// Returns one value per name in [`STATISTIC_NAMES`].
    pub(super) fn finish(&self, start: i64, latest: i64, transport: Transport) -> Vec<f64> {
        let mut periods = self.periods.as_deref().cloned().unwrap_or_default();
        periods.end_active(self.active_since, latest);
        let duration = gap(start, latest) as f64 / NANOSECONDS_PER_SECOND;
        let rate = |total: f64| ratio(total, duration);
        let (forward, backward) = (&self.forward, &self.backward);
        let packets = self.packets();
        let [forward_length, backward_length, forward_payload, backward_payload] =
            [forward.packet_length, backward.packet_length, forward.payload_length, backward.payload_length]
                .map(|lengths| lengths.running());
        // Lengths are only stored per direction, because a flow's memory limits the speed with many flows.
        let packet_length = forward_length.merged(&backward_length);
        let payload_length = forward_payload.merged(&backward_payload);
        let mut values = Vec::with_capacity(STATISTIC_NAMES.len());
        values.extend([
            duration,
            rate(packets as f64),
            rate(packet_length.total()),
            rate(forward.packets as f64),
            rate(backward.packets as f64),
            rate(forward_length.total()),
            rate(backward_length.total()),
        ]);
        values.extend(in_seconds(&self.interarrival, packets.saturating_sub(1)));
        for direction in [forward, backward] {
            values.push(direction.interarrival.total() / NANOSECONDS_PER_SECOND);
            values.extend(in_seconds(&direction.interarrival, direction.interarrivals()));
        }
        for (lengths, count) in [(&periods.active, periods.active_count), (&periods.idle, periods.idle_count)] {
            values.extend(in_seconds(lengths, count));
            values.push(count as f64);
        }
        let counts = [packets, forward.packets, backward.packets];
        values.extend(counts.map(|count| count as f64));
        let lengths = [packet_length, forward_length, backward_length];
        let payloads = [payload_length, forward_payload, backward_payload];
        for group in [lengths, payloads] {
            values.extend(group.each_ref().map(Running::total));
            values.extend(group.iter().zip(counts).flat_map(|(lengths, count)| lengths.spread(count)));
        }
        let both = [forward, backward];
        values.extend(both.map(|direction| direction.packets_with_payload as f64));
        values.extend(both.map(|direction| direction.small_packets as f64));
        values.extend(both.map(|direction| direction.header_bytes as f64));
        values.extend([
            ratio(backward.packets as f64, forward.packets as f64),
            ratio(backward_length.total(), forward_length.total()),
        ]);
        values.extend(both.map(|direction| f64::from(direction.first_payload)));
        values.extend(both.map(|direction| f64::from(direction.initial_window)));
        values.extend(both.iter().flat_map(|direction| direction.flags.map(f64::from)));
        values.push(f64::from(u8::from(transport == Transport::Tcp)));
        debug_assert_eq!(values.len(), STATISTIC_NAMES.len());
        values
    }
}

/// Returns minimum, mean, maximum and standard deviation, converted from nanoseconds to seconds.
fn in_seconds(values: &Running, count: u64) -> [f64; 4] {
    values.spread(count).map(|value| value / NANOSECONDS_PER_SECOND)
}

fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator > 0.0 { numerator / denominator } else { 0.0 }
}
