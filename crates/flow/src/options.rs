//! Defaults and validation of the flow options.

use thiserror::Error;

use super::types::{FlowOptions, Pairing};
use etcbench_capture::Tunnels;

/// The longest accepted timeout, in seconds (over 30 years); longer ones are unit mistakes.
const LONGEST_TIMEOUT: f64 = 1e9;
/// Maximum number of bytes kept of a packet: the largest IPv4 packet.
pub const MOST_KEPT_BYTES: usize = 65_535;
/// Maximum number of packets kept of a flow.
pub const MOST_KEPT_PACKETS: usize = 65_535;

/// An invalid option.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum FlowOptionsError {
    /// A time is not a positive number.
    #[error("flow option {option} = {value}: must be a number of seconds above 0 and at most {LONGEST_TIMEOUT}")]
    Timeout {
        /// The option's key.
        option: &'static str,
        /// Its value.
        value: f64,
    },
    /// Flows cannot outlive the active timeout, so a longer idle timeout would never take effect.
    #[error(
        "flow option idle_timeout = {idle_timeout} is longer than active_timeout = {active_timeout} and would never \
         be used; make it shorter"
    )]
    IdleLongerThanActive {
        /// Seconds.
        idle_timeout: f64,
        /// Seconds.
        active_timeout: f64,
    },
    /// A count is zero or too large.
    #[error("flow option {option} = {value}: must be from 1 to {most}")]
    Count {
        /// The option's key.
        option: &'static str,
        /// Its value.
        value: usize,
        /// The largest accepted value.
        most: usize,
    },
}

impl Default for FlowOptions {
    /// Bidirectional flows, like the paper's "session". The idle timeout is 120 s, the longest of those that Draper-Gil
    /// et al. (2016) compare (15, 30, 60 and 120 s): the paper specifies none, and the longest splits the fewest
    /// five-tuples. The active timeout of an hour only bounds memory and keeps an endless connection from being a
    /// single sample. The threshold of five seconds between activity and idleness is ISCXFlowMeter's. Six packets are
    /// the paper's N. Of each, its M = 128 bytes are kept, plus 120, the maximum length of an IPv4 and a TCP header, so
    /// that 128 bytes remain if features begin at the payload.
    fn default() -> FlowOptions {
        FlowOptions {
            direction: Pairing::Bidirectional,
            tunnels: Tunnels::Outer,
            idle_timeout: 120.0,
            active_timeout: 3600.0,
            activity_timeout: 5.0,
            kept_packets: 6,
            kept_bytes: 128 + 120,
            statistics: true,
        }
    }
}

impl FlowOptions {
    /// Validates every option.
    ///
    /// # Errors
    /// The first invalid option.
    pub fn validate(&self) -> Result<(), FlowOptionsError> {
        let timeouts = [
            ("idle_timeout", self.idle_timeout),
            ("active_timeout", self.active_timeout),
            ("activity_timeout", self.activity_timeout),
        ];
        for (option, value) in timeouts {
            // Also rejects NaN.
            if !(value > 0.0 && value <= LONGEST_TIMEOUT) {
                return Err(FlowOptionsError::Timeout { option, value });
            }
        }
        if self.idle_timeout > self.active_timeout {
            return Err(FlowOptionsError::IdleLongerThanActive {
                idle_timeout: self.idle_timeout,
                active_timeout: self.active_timeout,
            });
        }
        let counts =
            [("kept_packets", self.kept_packets, MOST_KEPT_PACKETS), ("kept_bytes", self.kept_bytes, MOST_KEPT_BYTES)];
        for (option, value, most) in counts {
            if value == 0 || value > most {
                return Err(FlowOptionsError::Count { option, value, most });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_nonsense_is_named() {
        let options = FlowOptions::default();
        assert_eq!(options.validate(), Ok(()));
        let message = |options: FlowOptions| options.validate().unwrap_err().to_string();
        assert!(message(FlowOptions { idle_timeout: f64::NAN, ..options.clone() }).contains("idle_timeout = NaN"));
        assert!(message(FlowOptions { active_timeout: 0.0, ..options.clone() }).contains("active_timeout = 0"));
        assert!(message(FlowOptions { activity_timeout: -1.0, ..options.clone() }).contains("activity_timeout"));
        assert!(message(FlowOptions { active_timeout: 60.0, ..options.clone() }).contains("never"));
        assert!(message(FlowOptions { kept_packets: 0, ..options.clone() }).contains("kept_packets = 0"));
        assert!(message(FlowOptions { kept_bytes: 70_000, ..options }).contains("65535"));
    }
}
