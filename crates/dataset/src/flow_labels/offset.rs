//! When no flow of a capture finds its line: whether most would find one if the file's times were moved by the same quarters
//! of an hour, as when a file is in local time and is read as universal time.

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
/// And by at most so many of them.
const MOST_QUARTERS: i64 = 4 * 14;
/// A flow and its line begin within this of one another, beside the tolerance.
const SLACK: i64 = 2 * SECOND;
/// How many flows are looked for.
const MOST_FLOWS: usize = 10_000;

/// Flows that found no line.
#[derive(Default)]
pub(crate) struct WithoutLine {
    starts: HashMap<Key, Vec<i64>>,
    flows: usize,
}

impl WithoutLine {
    /// Remembers a flow, of the first ones.
    pub(crate) fn add(&mut self, flow: &Flow) {
        if self.flows < MOST_FLOWS {
            self.flows += 1;
            self.starts.entry(Key::of(&flow.five_tuple)).or_default().push(flow.start);
        }
    }

    /// What to set so that most of the flows find their lines; none where no one offset does.
    ///
    /// # Errors
    /// A file that cannot be read.
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
        // The most, and of equals the smallest offset.
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
                format!("{off}: its times are not universal time; write them so, or with `time = \"iso8601\"`")
            }
        }))
    }
}
