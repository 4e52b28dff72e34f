//! Joins flows to the lines of a flow-label file. Both are sorted by start time, so only the lines near the current
//! flows are held in memory; if either turns out to be unsorted, the whole file is held.

use std::collections::HashMap;
use std::path::Path;

use super::FlowLabelRules;
use super::line::{Key, Line, NO_LABELS};
use super::protocol::UnknownProtocols;
use super::reader::{LabelReader, MalformedLines};
use crate::error::DatasetError;
use crate::labelled::Labels;
use etcbench_flow::Flow;

/// How far to read ahead of a flow, which is how far lines may be out of order.
const READ_AHEAD: i64 = 60_000_000_000;
/// How long to hold lines beyond what sorted flows need, which is how far flows may be out of order.
const HELD_LONGER: i64 = 300_000_000_000;
/// Old lines are dropped when there are twice as many lines as after the last sweep, and at least this many.
const LEAST_SWEEP: usize = 1 << 14;

/// Strategy for holding lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Lines and flows are nearly sorted by start time: hold only the lines near the flows.
    ByTime,
    /// Hold the whole file, at about 80 bytes of memory per line.
    Any,
}

/// The result of looking up a flow in its label file.
#[derive(Debug, PartialEq)]
pub(crate) enum Joined<'a> {
    /// The labels of the matching line.
    Labels(&'a Labels),
    /// The matching line has a label that no rule maps.
    Unused,
    /// The overlapping lines disagree.
    Ambiguous,
    /// No line matches its five-tuple and time.
    Unmatched,
}

/// A flow-label file joined with the flows of one capture.
pub(crate) struct FlowLabelJoin<'a> {
    reader: LabelReader<'a>,
    tolerance: i64,
    order: Order,
    /// Lines held, in `Order::ByTime`.
    window: HashMap<Key, Vec<Line>>,
    held: usize,
    sweep_at: usize,
    /// All lines that start up to this time have been read, except those out of order.
    read_to: i64,
    /// A line read past `read_to`.
    ahead: Option<Line>,
    ended: bool,
    /// Latest end, including tolerance, of a joined flow: a line that starts before this but is read later was missed.
    joined_to: i64,
    newest_start: i64,
    /// Lines that ended before this time may have been dropped.
    dropped_to: i64,
    disorder: bool,
    /// All lines, sorted, in `Order::Any`.
    all: Vec<Line>,
    /// Largest number of lines held at once.
    pub most_held: usize,
}

impl<'a> FlowLabelJoin<'a> {
    /// Opens the file at `path` for a capture.
    pub(crate) fn open(
        path: &Path,
        rules: &'a FlowLabelRules,
        capture: &str,
        order: Order,
    ) -> Result<Self, DatasetError> {
        let mut join = Self {
            reader: LabelReader::open(path, rules, capture)?,
            tolerance: rules.tolerance,
            order,
            window: HashMap::new(),
            held: 0,
            sweep_at: LEAST_SWEEP,
            read_to: i64::MIN,
            ahead: None,
            ended: false,
            joined_to: i64::MIN,
            newest_start: i64::MIN,
            dropped_to: i64::MIN,
            disorder: false,
            all: Vec::new(),
            most_held: 0,
        };
        if order == Order::Any {
            while let Some(line) = join.reader.next_line()? {
                join.all.push(line);
            }
            join.all.sort_unstable();
            join.most_held = join.all.len();
        }
        Ok(join)
    }

    /// Returns whether lines or flows were so far out of order that a line may have been missed. If so, join again with
    /// [`Order::Any`].
    pub(crate) fn disorder(&self) -> bool {
        self.disorder
    }

    /// Reads the rest of the file, so that [`FlowLabelJoin::malformed`] covers all of it.
    pub(crate) fn finish(&mut self) -> Result<(), DatasetError> {
        if self.order == Order::ByTime && !self.ended {
            while let Some(line) = self.reader.next_line()? {
                self.disorder |= line.start <= self.joined_to;
            }
            self.ended = true;
        }
        Ok(())
    }

    /// Returns the lines so far that could not be parsed.
    pub(crate) fn malformed(&self) -> &MalformedLines {
        &self.reader.malformed
    }

    /// Returns the lines so far whose protocol is an unknown word.
    pub(crate) fn unknown_protocols(&self) -> &UnknownProtocols {
        &self.reader.unknown_protocols
    }

    /// Looks up a flow in the file.
    pub(crate) fn join(&mut self, flow: &Flow) -> Result<Joined<'_>, DatasetError> {
        let key = Key::of(&flow.five_tuple);
        let (from, to) = (flow.start.saturating_sub(self.tolerance), flow.end.saturating_add(self.tolerance));
        let lines = match self.order {
            Order::Any => {
                let first = self.all.partition_point(|line| line.key < key);
                let count = self.all[first..].iter().take_while(|line| line.key == key).count();
                &self.all[first..first + count]
            }
            Order::ByTime => {
                if self.newest_start == i64::MIN {
                    self.dropped_to = flow.start.saturating_sub(HELD_LONGER + self.tolerance);
                }
                self.read_until(to.saturating_add(READ_AHEAD))?;
                self.disorder |= from < self.dropped_to;
                self.joined_to = self.joined_to.max(to);
                self.newest_start = self.newest_start.max(flow.start);
                if self.held >= self.sweep_at {
                    self.sweep();
                }
                self.window.get(&key).map_or(&[][..], Vec::as_slice)
            }
        };
        let mut found: Option<u32> = None;
        for line in lines.iter().filter(|line| line.start <= to && from <= line.end) {
            match found {
                None => found = Some(line.labels),
                Some(labels) if labels != line.labels => return Ok(Joined::Ambiguous),
                Some(_) => {}
            }
        }
        Ok(match found {
            None => Joined::Unmatched,
            Some(NO_LABELS) => Joined::Unused,
            Some(number) => self.reader.labels(number).map_or(Joined::Unused, Joined::Labels),
        })
    }

    /// Reads lines until one starts after `time`.
    fn read_until(&mut self, time: i64) -> Result<(), DatasetError> {
        if time <= self.read_to || self.ended {
            return Ok(());
        }
        self.read_to = time;
        if let Some(line) = self.ahead.take() {
            if line.start > time {
                self.ahead = Some(line);
                return Ok(());
            }
            self.hold(line);
        }
        loop {
            match self.reader.next_line()? {
                None => {
                    self.ended = true;
                    return Ok(());
                }
                Some(line) if line.start > time => {
                    self.ahead = Some(line);
                    return Ok(());
                }
                Some(line) => self.hold(line),
            }
        }
    }

    fn hold(&mut self, line: Line) {
        self.disorder |= line.start <= self.joined_to;
        // Lines from before the capture's first packets cannot match any later flow.
        if line.end < self.dropped_to {
            return;
        }
        self.window.entry(line.key).or_default().push(line);
        self.held += 1;
        self.most_held = self.most_held.max(self.held);
    }

    fn sweep(&mut self) {
        self.dropped_to = self.dropped_to.max(self.newest_start.saturating_sub(HELD_LONGER + self.tolerance));
        let oldest = self.dropped_to;
        let mut held = 0;
        self.window.retain(|_, lines| {
            lines.retain(|line| line.end >= oldest);
            held += lines.len();
            !lines.is_empty()
        });
        self.held = held;
        self.sweep_at = (2 * held).max(LEAST_SWEEP);
    }
}
