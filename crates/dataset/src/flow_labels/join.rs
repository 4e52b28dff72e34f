//! Joins flows to the lines of a file of flow labels. Both come in order of their starts, so only the lines
//! around the flows at hand are held; where one of the two turns out not to be in order, the whole file is held.

use std::collections::HashMap;
use std::path::Path;

use super::FlowLabelRules;
use super::line::{Key, Line, NO_LABELS};
use super::reader::{LabelReader, MalformedLines};
use crate::error::DatasetError;
use crate::labelled::Labels;
use etcbench_flow::Flow;

/// Lines are read this much further than a flow needs, so that a file may be out of order by as much.
const READ_AHEAD: i64 = 60_000_000_000;
/// Lines are held this much longer than flows in order need, so that flows may be out of order by as much.
const HELD_LONGER: i64 = 300_000_000_000;
/// Lines are looked through for old ones once there are twice as many as were left the last time, and at least
/// so many.
const LEAST_SWEEP: usize = 1 << 14;

/// How lines are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Lines and flows are in order of their starts, nearly: only the lines around the flows are held.
    ByTime,
    /// The whole file is held, about 80 bytes of memory a line.
    Any,
}

/// What a flow is, by its label file.
#[derive(Debug, PartialEq)]
pub(crate) enum Joined<'a> {
    /// The labels of its line.
    Labels(&'a Labels),
    /// Its line's label is one that no rule uses.
    Unused,
    /// Lines that overlap it disagree.
    Ambiguous,
    /// No line has its five-tuple and time.
    Unmatched,
}

/// One file of flow labels, joined with the flows of one capture.
pub(crate) struct FlowLabelJoin<'a> {
    reader: LabelReader<'a>,
    tolerance: i64,
    order: Order,
    /// Held lines, in `Order::ByTime`.
    window: HashMap<Key, Vec<Line>>,
    held: usize,
    sweep_at: usize,
    /// Lines that start up to here have been read, but for those out of order.
    read_to: i64,
    /// A line beyond, read already.
    ahead: Option<Line>,
    ended: bool,
    /// The latest end, with tolerance, of a flow that was joined: a line that starts before and is read later was
    /// missed.
    joined_to: i64,
    newest_start: i64,
    /// Lines that ended before may be gone.
    dropped_to: i64,
    disorder: bool,
    /// All lines in order, in `Order::Any`.
    all: Vec<Line>,
    /// The most lines that were held at a time.
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

    /// Whether lines or flows were so far out of order that a line may have been missed: then join again with
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

    /// The lines that could not be understood so far.
    pub(crate) fn malformed(&self) -> &MalformedLines {
        &self.reader.malformed
    }

    /// Finds what the file says of a flow.
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
        // Lines from before the first packets of the capture are of no use to any flow to come.
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
