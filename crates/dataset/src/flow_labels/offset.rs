//! If no flow of a capture matches a line: checks whether most would match after shifting the file's times by a
//! multiple of a quarter hour, as when local times are read as UTC.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::FlowLabelRules;
use super::line::Key;
use super::reader::LabelReader;
use super::time::Clock;
use crate::error::DatasetError;
use etcbench_flow::Flow;

const SECOND: i64 = 1_000_000_000;
/// Time zones differ by multiples of this.
const QUARTER: i64 = 15 * 60 * SECOND;
/// Maximum difference between time zones, in quarter hours.
const MOST_QUARTERS: i64 = 4 * 14;
/// Maximum difference between the starts of a flow and its line, in addition to the tolerance.
const SLACK: i64 = 2 * SECOND;
/// Maximum number of flows to check.
const MOST_FLOWS: usize = 10_000;

/// Flows that matched no line.
#[derive(Default)]
pub(crate) struct WithoutLine {
    starts: HashMap<Key, Vec<i64>>,
    flows: usize,
}

impl WithoutLine {
    /// Records a flow, up to the maximum number.
    pub(crate) fn add(&mut self, flow: &Flow) {
        if self.flows < MOST_FLOWS {
            self.flows += 1;
            self.starts.entry(Key::of(&flow.five_tuple)).or_default().push(flow.start);
        }
    }

    /// Returns the setting with which most of the flows would match, or `None` if no single offset achieves that.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn advice(
        &self,
        path: &Path,
        rules: &FlowLabelRules,
        capture: &str,
    ) -> Result<Option<String>, DatasetError> {
        let mut votes: BTreeMap<i64, usize> = BTreeMap::new();
        let mut reader = LabelReader::open(path, rules, capture)?;
        while let Some(line) = reader.next_line()? {
            for start in self.starts.get(&line.key).into_iter().flatten() {
                let apart = line.start.saturating_sub(*start);
                let quarters = (apart as f64 / QUARTER as f64).round() as i64;
                let is_near = (apart - quarters.saturating_mul(QUARTER)).abs() <= rules.tolerance.saturating_add(SLACK);
                if is_near && (1..=MOST_QUARTERS).contains(&quarters.abs()) {
                    *votes.entry(quarters).or_default() += 1;
                }
            }
        }
        // Prefer the most votes, then the smallest offset.
        let best = votes.into_iter().max_by_key(|&(quarters, count)| (count, -quarters.abs()));
        let Some((quarters, count)) = best.filter(|&(_, count)| count >= 2 && 2 * count >= self.flows) else {
            return Ok(None);
        };
        let (later, seconds) = (if quarters > 0 { "later" } else { "earlier" }, quarters.abs() * 900);
        let off = format!("{count} of its flows have a line that starts {seconds} s {later}");
        Ok(Some(match rules.clock {
            Clock::Netflow { utc_offset } | Clock::Iso8601 { utc_offset } => {
                let minutes = utc_offset / (60 * SECOND) + quarters * 15;
                let sign = if minutes < 0 { '-' } else { '+' };
                let (hours, minutes) = (minutes.abs() / 60, minutes.abs() % 60);
                format!("{off}: set `utc_offset = \"{sign}{hours:02}:{minutes:02}\"` in [flow_labels]")
            }
            Clock::EpochSeconds => {
                format!("{off}: its times are not in UTC; convert them, or use `time = \"iso8601\"`")
            }
        }))
    }
}
