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

/// Number of flows to finish in parallel: few, because a finished flow is several times as large as a waiting one.
const FINISHED_TOGETHER: usize = 256;

/// Why no flows can be read from a capture.
#[derive(Debug, Error)]
pub enum AssembleError {
    /// The capture cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// An option is invalid.
    #[error(transparent)]
    Options(#[from] FlowOptionsError),
}

/// Reads a capture and passes its flows to `sink` in order of their first packets, so that the n-th call gets flow
/// number n, from 0. The flows are the same as those of an [`super::Assembler`], at any number of threads.
///
/// A complete flow waits for those that began before it. In addition to the active flows, memory therefore holds the
/// flows that began during the oldest active one, which `active_timeout` bounds. If that is too many, use
/// [`assemble_as_completed`], which returns flows as they complete.
///
/// # Errors
/// The options are invalid, or the capture cannot be read. Damage is not an error: the flows before it are returned,
/// and the summary reports it.
pub fn assemble_capture(
    path: &Path,
    options: &FlowOptions,
    sink: &mut dyn FnMut(Flow),
) -> Result<CaptureSummary, AssembleError> {
    options.validate()?;
    let reader_options = ReaderOptions { tunnels: options.tunnels, ..ReaderOptions::default() };
    assemble_packets(CaptureReader::open_with(&CaptureSource::from(path), &reader_options)?, options, sink, &mut |_| {})
}

/// Like [`assemble_capture`], from an open capture; whether tunnels are opened depends on the reader's options.
/// `progress` is called from time to time with the number of packets read from the capture.
///
/// Threads of the current rayon pool decode packets and assign earlier ones to their flows at the same time.
///
/// # Errors
/// Those of [`assemble_capture`].
pub fn assemble_packets(
    reader: CaptureReader,
    options: &FlowOptions,
    sink: &mut dyn FnMut(Flow),
    progress: &mut dyn FnMut(u64),
) -> Result<CaptureSummary, AssembleError> {
    let mut waiting: VecDeque<Option<Box<CompleteFlow>>> = VecDeque::new();
    // The number of the first waiting flow.
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

/// Like [`assemble_packets`], but passes on each flow as soon as it is complete; flows that complete at the same time
/// are ordered by number. The flows are the same as those of an [`super::Assembler`], in the same order, at any number
/// of threads. Memory holds the active flows: those of the last 1.125 idle timeouts.
///
/// # Errors
/// Those of [`assemble_capture`].
pub fn assemble_as_completed(
    reader: CaptureReader,
    options: &FlowOptions,
    sink: &mut dyn FnMut(NumberedFlow),
    progress: &mut dyn FnMut(u64),
) -> Result<CaptureSummary, AssembleError> {
    assemble(reader, options, &mut |_, complete| finish(complete.into_iter(), sink), progress)
}

/// Converts complete flows, some in parallel, and passes them to `sink` in order.
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

/// Reads a capture to its end. Calls `take` for each part with the number of flows that began and the flows that
/// completed.
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
