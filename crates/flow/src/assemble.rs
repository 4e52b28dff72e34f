//! From a capture file to its flows in one call.

use std::collections::VecDeque;
use std::path::Path;

use rayon::prelude::*;
use thiserror::Error;

use etcbench_capture::{CaptureError, CaptureReader, CaptureSource, CaptureSummary, ReaderOptions, SkipReason};

use super::active::Limits;
use super::assembler::NumberedFlow;
use super::options::FlowOptionsError;
use super::round::{self, Made, Round, SHARDS, Source, Worker};
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
/// those that began during the oldest active one, which `active_timeout` bounds. [`assemble_as_completed`] gives
/// flows as they complete, where that is too many.
///
/// # Errors
/// The options make no sense, or the capture cannot be read. Damage is no error: the flows before it are
/// given, and the summary reports it.
pub fn assemble_capture(
    path: &Path,
    options: &FlowOptions,
    sink: &mut dyn FnMut(Flow),
) -> Result<CaptureSummary, AssembleError> {
    options.validate()?;
    let reader_options = ReaderOptions { tunnels: options.tunnels, ..ReaderOptions::default() };
    assemble_packets(CaptureReader::open_with(&CaptureSource::from(path), &reader_options)?, options, sink, &mut |_| {})
}

/// Like [`assemble_capture`], from a capture that is open; whether its tunnels are is the reader's option. `progress` is
/// called from time to time with how many packets of the capture have been read.
///
/// Threads of the current rayon pool decode packets and take those before to their flows at the same time.
///
/// # Errors
/// Like [`assemble_capture`].
pub fn assemble_packets(
    reader: CaptureReader,
    options: &FlowOptions,
    sink: &mut dyn FnMut(Flow),
    progress: &mut dyn FnMut(u64),
) -> Result<CaptureSummary, AssembleError> {
    let mut waiting: VecDeque<Option<Box<CompleteFlow>>> = VecDeque::new();
    // The number of the first that waits.
    let mut first: u64 = 0;
    let mut take = |began: usize, complete: Vec<Box<CompleteFlow>>| {
        waiting.extend(std::iter::repeat_with(|| None).take(began));
        for flow in complete {
            let place = (flow.number() - first) as usize;
            waiting[place] = Some(flow);
        }
        let ready = waiting.iter().take_while(|flow| flow.is_some()).count();
        first += ready as u64;
        finish(waiting.drain(..ready).flatten(), &mut |NumberedFlow { flow, .. }| sink(flow));
    };
    assemble(reader, options, &mut take, progress)
}

/// Like [`assemble_packets`], but gives each flow as soon as it is complete, of several at once those of lower numbers
/// first: the flows of an [`super::Assembler`], in its order, at any number of threads. Memory holds the active flows:
/// those of the last 1.125 idle timeouts.
///
/// # Errors
/// Like [`assemble_capture`].
pub fn assemble_as_completed(
    reader: CaptureReader,
    options: &FlowOptions,
    sink: &mut dyn FnMut(NumberedFlow),
    progress: &mut dyn FnMut(u64),
) -> Result<CaptureSummary, AssembleError> {
    assemble(reader, options, &mut |_, complete| finish(complete.into_iter(), sink), progress)
}

/// Makes flows of those that are complete, some side by side, and gives them to `sink` in their order.
fn finish(mut complete: impl Iterator<Item = Box<CompleteFlow>>, sink: &mut dyn FnMut(NumberedFlow)) {
    loop {
        let together: Vec<Box<CompleteFlow>> = complete.by_ref().take(FINISHED_TOGETHER).collect();
        if together.is_empty() {
            return;
        }
        let finished: Vec<NumberedFlow> = together.into_par_iter().with_min_len(32).map(|flow| flow.finish()).collect();
        finished.into_iter().for_each(&mut *sink);
    }
}

/// Reads a capture to its end and gives `take`, part by part, how many flows began and which were completed.
fn assemble(
    reader: CaptureReader,
    options: &FlowOptions,
    take: &mut dyn FnMut(usize, Vec<Box<CompleteFlow>>),
    progress: &mut dyn FnMut(u64),
) -> Result<CaptureSummary, AssembleError> {
    options.validate()?;
    let limits = Limits::new(options);
    let mut source = Source::new(reader, options, &limits);
    let mut workers: Vec<Worker> = (0..SHARDS).map(|_| Worker::new(limits)).collect();
    let (mut current, mut next) = (Round::new(), Round::new());
    let mut flows: u64 = 0;
    source.fill(&mut current)?;
    while !current.is_empty() {
        let (filled, ()) = rayon::join(|| source.fill(&mut next), || round::take(&mut workers, &current));
        filled?;
        let Made { began, complete } = round::collect(&mut workers, &current, flows);
        flows += began as u64;
        take(began, complete);
        progress(source.reader.summary().packets);
        std::mem::swap(&mut current, &mut next);
    }
    let mut active = round::end(&mut workers);
    loop {
        let together: Vec<Box<CompleteFlow>> = active.by_ref().take(FINISHED_TOGETHER).collect();
        if together.is_empty() {
            break;
        }
        take(0, together);
    }
    drop(active);
    let mut summary = source.reader.summary();
    let lost = source.fragments_without_ports();
    summary.decoded -= lost;
    summary.add_skipped(SkipReason::FragmentWithoutPorts, lost);
    Ok(summary)
}
