//! FlowPic (Shapira and Shavitt, "FlowPic: a generic representation for encrypted traffic classification and
//! applications identification", TNSM 2021): an image of a flow's packet counts by length and time. Both directions
//! share one image, as in tcbench's `get_flowpic`.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::sequence::packet_length;
use etcbench_flow::{Flow, FlowOptions, MOST_KEPT_PACKETS};

/// Longer packets count as this long, in bytes.
const LONGEST: f64 = 1500.0;
/// Maximum resolution; the original images have 1,500 rows and columns, which are nearly all empty.
const MOST_RESOLUTION: usize = 256;
/// Maximum window in seconds: an hour.
const LONGEST_WINDOW: f64 = 3600.0;

/// `[feature.flowpic]` of an experiment: the features for `input = "flowpic"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowpicOptions {
    /// Rows (of lengths) and columns (of times) of the image.
    pub resolution: usize,
    /// Seconds from a flow's first packet; later packets are ignored.
    pub window: f64,
    /// Maximum number of packets per flow that are counted.
    pub packets: usize,
}

impl Default for FlowpicOptions {
    /// 32 x 32 over 15 seconds, as in tcbench, from the first 1,000 packets.
    fn default() -> Self {
        Self { resolution: 32, window: 15.0, packets: 1000 }
    }
}

/// Invalid FlowPic options, or options that do not fit the flows.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum FlowpicError {
    /// No pixels, or too many.
    #[error("flowpic.resolution = {resolution}: must be from 1 to {MOST_RESOLUTION}")]
    Resolution {
        /// As given.
        resolution: usize,
    },
    /// No time, or too much.
    #[error("flowpic.window = {window}: must be a number of seconds above 0 and at most {LONGEST_WINDOW}")]
    Window {
        /// As given.
        window: f64,
    },
    /// No packets, or more than flows can keep.
    #[error("flowpic.packets = {packets}: must be from 1 to {MOST_KEPT_PACKETS}")]
    Count {
        /// As given.
        packets: usize,
    },
    /// Flows keep fewer packets than requested.
    #[error("flowpic.packets = {packets}, but flows keep {kept_packets}; raise the flow option kept_packets")]
    Packets {
        /// As given.
        packets: usize,
        /// Packets that flows keep.
        kept_packets: usize,
    },
    /// Flows do not keep the bytes that contain a packet's length.
    #[error("flowpics need {needed} bytes of each packet, but flows keep {kept_bytes}; raise kept_bytes")]
    Bytes {
        /// Bytes needed to determine a length.
        needed: usize,
        /// Bytes that flows keep of a packet.
        kept_bytes: usize,
    },
}

impl FlowpicOptions {
    /// Validates the options against those of the flows they are used with.
    ///
    /// # Errors
    /// No pixels, time or packets, values above the maximum, or more packets or bytes than the flows keep.
    pub fn validate(&self, flows: &FlowOptions) -> Result<(), FlowpicError> {
        let Self { resolution, window, packets } = *self;
        if !(1..=MOST_RESOLUTION).contains(&resolution) {
            return Err(FlowpicError::Resolution { resolution });
        }
        // Also rejects NaN.
        if !(window > 0.0 && window <= LONGEST_WINDOW) {
            return Err(FlowpicError::Window { window });
        }
        if !(1..=MOST_KEPT_PACKETS).contains(&packets) {
            return Err(FlowpicError::Count { packets });
        }
        let FlowOptions { kept_packets, kept_bytes, .. } = *flows;
        if packets > kept_packets {
            return Err(FlowpicError::Packets { packets, kept_packets });
        }
        let needed = super::sequence::LENGTH_BYTES;
        if kept_bytes < needed {
            return Err(FlowpicError::Bytes { needed, kept_bytes });
        }
        Ok(())
    }

    /// Returns the number of pixels.
    pub fn columns(&self) -> usize {
        self.resolution * self.resolution
    }

    /// Raises the flow options to keep as much as these images need.
    pub fn widen(&self, flows: &mut FlowOptions) {
        flows.kept_packets = flows.kept_packets.max(self.packets);
        flows.kept_bytes = flows.kept_bytes.max(super::sequence::LENGTH_BYTES);
    }
}

/// Returns the names of an image's pixels, row by row: `flowpic_length1_time1`, `flowpic_length1_time2`, ...
pub fn flowpic_names(pixels: usize) -> Vec<String> {
    let resolution = pixels.isqrt();
    (1..=resolution)
        .flat_map(|length| (1..=resolution).map(move |time| format!("flowpic_length{length}_time{time}")))
        .collect()
}

/// Writes the image of a flow to `out`, shape `[resolution, resolution]`: row `i` counts packets with lengths from
/// `i` to `i + 1` times 1,500 bytes / `resolution` (longer packets count in the last row), column `j` those that
/// arrived from `j` to `j + 1` times `window` / `resolution` after the first packet of the flow. Pixels
/// saturate at 255. Packets with timestamps before the first count as simultaneous with it.
pub fn write_flowpic(flow: &Flow, options: &FlowpicOptions, out: &mut [u8]) {
    out.fill(0);
    let resolution = options.resolution as f64;
    for packet in flow.packets.iter().take(options.packets) {
        let time = packet.timestamp.saturating_sub(flow.start).max(0) as f64 / 1e9;
        if time >= options.window {
            continue;
        }
        let part = |share: f64| ((share * resolution) as usize).min(options.resolution - 1);
        let length = f64::from(packet_length(packet)).min(LONGEST);
        let pixel = &mut out[part(length / LONGEST) * options.resolution + part(time / options.window)];
        *pixel = pixel.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcbench_capture::{HeaderLayout, Transport};
    use etcbench_flow::{FiveTuple, FlowPacket, PacketDirection};

    fn flow(packets: &[(PacketDirection, i64, u32)]) -> Flow {
        let endpoint = "1.2.3.4:5".parse().unwrap();
        let layout = HeaderLayout { transport_offset: 0, payload_offset: 0, transport: Transport::Udp };
        let packet = |&(direction, timestamp, wire_length): &(PacketDirection, i64, u32)| FlowPacket {
            direction,
            timestamp,
            wire_length,
            bytes: Vec::new(),
            layout,
        };
        Flow {
            five_tuple: FiveTuple { source: endpoint, destination: endpoint, transport: Transport::Udp },
            start: packets.first().map_or(0, |packet| packet.1),
            end: 0,
            packets: packets.iter().map(packet).collect(),
            statistics: Vec::new(),
        }
    }

    #[test]
    fn packets_are_counted_by_length_and_time_in_both_directions() {
        use PacketDirection::{Backward, Forward};
        let second = 1_000_000_000;
        let flow = flow(&[
            (Forward, 7 * second, 0),
            // Edges belong to the pixel that they begin, and the greatest lengths to the last row.
            (Backward, 7 * second + second / 2, 750),
            (Forward, 8 * second - 1, 1500),
            (Backward, 7 * second + second / 4, 9000),
            (Forward, 6 * second, 749),
            // Outside the window.
            (Forward, 8 * second, 10),
        ]);
        let options = FlowpicOptions { resolution: 2, window: 1.0, packets: 6 };
        let mut out = [9; 4];
        write_flowpic(&flow, &options, &mut out);
        assert_eq!(out, [2, 0, 1, 2]);
        write_flowpic(&flow, &FlowpicOptions { packets: 1, ..options }, &mut out);
        assert_eq!(out, [1, 0, 0, 0]);
        assert_eq!(flowpic_names(4)[1], "flowpic_length1_time2");
    }

    #[test]
    fn a_pixel_counts_to_255() {
        let flow = flow(&[(PacketDirection::Forward, 0, 100); 300]);
        let mut out = [0; 1024];
        write_flowpic(&flow, &FlowpicOptions::default(), &mut out);
        assert_eq!(out[2 * 32], 255);
        assert_eq!(out.iter().map(|&pixel| u32::from(pixel)).sum::<u32>(), 255);
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let mut flows = FlowOptions::default();
        let options = FlowpicOptions::default();
        assert!(options.validate(&flows).unwrap_err().to_string().contains("kept_packets"));
        options.widen(&mut flows);
        assert_eq!(options.validate(&flows), Ok(()));
        let refused = |options: FlowpicOptions| options.validate(&flows).unwrap_err().to_string();
        assert!(refused(FlowpicOptions { resolution: 0, ..options.clone() }).contains("flowpic.resolution = 0"));
        assert!(refused(FlowpicOptions { window: f64::NAN, ..options.clone() }).contains("flowpic.window = NaN"));
        assert!(refused(FlowpicOptions { packets: 0, ..options }).contains("flowpic.packets = 0"));
    }
}
