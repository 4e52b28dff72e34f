//! From a capture file to its flows in one call.

use std::collections::VecDeque;
use std::path::Path;

use rayon::prelude::*;
use thiserror::Error;

use crate::capture::{CaptureError, CaptureReader, CaptureSource, CaptureSummary, ReaderOptions, SkipReason};

use super::active::Limits;
use super::assembler::NumberedFlow;
use super::options::FlowOptionsError;
use super::round::{self, Round, SHARDS, Source, Worker};
use super::shard::CompleteFlow;
use super::types::{Flow, FlowOptions};

/// Flows that are finished side by side: few, for a finished flow is several times as large as one that waits.
const FINISHED_TOGETHER: usize = 256;

/// Why a capture gives no flows.
#[derive(Debug, Error)]
pub enum AssembleError {
    /// The capture cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// An option makes no sense.
    #[error(transparent)]
    Options(#[from] FlowOptionsError),
}

/// Reads a capture and gives its flows to `sink` in order of their first packets, so that the n-th call
/// is flow number n from 0. They are those of an [`super::Assembler`], at any number of threads.
///
/// A flow that is complete waits for those that began before it, so besides the active flows memory holds
/// those that began during the oldest active one, which `active_timeout` bounds. An [`super::Assembler`] gives
/// flows as they complete, where that is too many.
///
/// # Errors
/// The options make no sense, or the capture cannot be read. Damage is no error: the flows before it are
/// given, and the summary tells of it.
pub fn assemble_capture(
    path: &Path,
    options: &FlowOptions,
    sink: &mut dyn FnMut(Flow),
) -> Result<CaptureSummary, AssembleError> {
    options.validate()?;
    let reader_options = ReaderOptions { tunnels: options.tunnels, ..ReaderOptions::default() };
    assemble_packets(CaptureReader::open_with(&CaptureSource::from(path), &reader_options)?, options, sink, &mut |_| {})
}

/// As [`assemble_capture`], from a capture that is open; whether its tunnels are is the reader's option. `progress` is told now and then how many packets of the
/// capture have been read.
///
/// Threads of the current rayon pool decode packets and take those before to their flows at the same time.
///
/// # Errors
/// As [`assemble_capture`].
pub fn assemble_packets(
    reader: CaptureReader,
    options: &FlowOptions,
    sink: &mut dyn FnMut(Flow),
    progress: &mut dyn FnMut(u64),
) -> Result<CaptureSummary, AssembleError> {
    options.validate()?;
    let limits = Limits::new(options);
    let mut source = Source::new(reader, options, &limits);
    let mut workers: Vec<Worker> = (0..SHARDS).map(|_| Worker::new(limits)).collect();
    let mut queue = InOrder { waiting: VecDeque::new(), sink };
    let (mut current, mut next) = (Round::new(), Round::new());
    source.fill(&mut current)?;
    while !current.is_empty() {
        let (filled, ()) = rayon::join(|| source.fill(&mut next), || round::take(&mut workers, &current));
        filled?;
        queue.add(&mut workers);
        progress(source.reader.summary().packets);
        std::mem::swap(&mut current, &mut next);
    }
    round::finish(&mut workers);
    queue.add(&mut workers);
    let mut summary = source.reader.summary();
    let lost = source.fragments_without_ports();
    summary.decoded -= lost;
    summary.add_skipped(SkipReason::FragmentWithoutPorts, lost);
    Ok(summary)
}

/// Holds flows back until those that began earlier are through.
struct InOrder<'a> {
    /// Numbers of flows that began, ascending, and the flow where it is complete.
    waiting: VecDeque<(u64, Option<Box<CompleteFlow>>)>,
    sink: &'a mut dyn FnMut(Flow),
}

impl InOrder<'_> {
    /// Takes over what a round has made. Its flows began after those of all rounds before.
    fn add(&mut self, workers: &mut [Worker]) {
        let mut began: Vec<u64> = workers.iter_mut().flat_map(|worker| worker.began.drain(..)).collect();
        began.sort_unstable();
        self.waiting.extend(began.into_iter().map(|number| (number, None)));
        for flow in workers.iter_mut().flat_map(|worker| worker.complete.drain(..)) {
            let place = self.waiting.partition_point(|(other, _)| *other < flow.number());
            self.waiting[place].1 = Some(flow);
        }
        loop {
            let ready = self.waiting.iter().take(FINISHED_TOGETHER).take_while(|(_, flow)| flow.is_some()).count();
            if ready == 0 {
                return;
            }
            let complete: Vec<Box<CompleteFlow>> = self.waiting.drain(..ready).filter_map(|(_, flow)| flow).collect();
            let finished: Vec<NumberedFlow> =
                complete.into_par_iter().with_min_len(32).map(|flow| flow.finish()).collect();
            finished.into_iter().for_each(|NumberedFlow { flow, .. }| (self.sink)(flow));
        }
    }
}
