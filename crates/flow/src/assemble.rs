//! From a capture file to its flows in one call.

use std::collections::VecDeque;
use std::path::Path;

use thiserror::Error;

use etcbench_capture::{CaptureError, CaptureReader, CaptureSource, CaptureSummary, ReaderOptions, SkipReason};

use super::active::Limits;
use super::assembler::NumberedFlow;
use super::options::FlowOptionsError;
use super::round::{self, Made, Round, SHARDS, Source, Stored, Worker};
use super::types::{Flow, FlowOptions};

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
    let decompress_ahead = rayon::current_num_threads() > 1;
    let reader_options = ReaderOptions { tunnels: options.tunnels, decompress_ahead, ..ReaderOptions::default() };
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
    let mut waiting: VecDeque<Option<Stored>> = VecDeque::new();
    // The number of the first waiting flow.
    let mut first: u64 = 0;
    let mut take = |workers: &mut [Worker], began: usize, ended: &[(u64, Stored)]| {
        waiting.extend(std::iter::repeat_n(None, began));
        for (number, stored) in ended {
            waiting[(number - first) as usize] = Some(*stored);
        }
        let ready = waiting.iter().take_while(|flow| flow.is_some()).count();
        first += ready as u64;
        round::finish(workers, waiting.drain(..ready).flatten(), &mut |NumberedFlow { flow, .. }| sink(flow));
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
    let mut take = |workers: &mut [Worker], _, ended: &[(u64, Stored)]| {
        round::finish(workers, ended.iter().map(|(_, stored)| *stored), sink);
    };
    assemble(reader, options, &mut take, progress)
}

/// Called for each part of a capture with the number of flows that began, and those that ended with their numbers.
type Take<'a> = &'a mut dyn FnMut(&mut [Worker], usize, &[(u64, Stored)]);

/// Reads a capture to its end.
fn assemble(
    reader: CaptureReader,
    options: &FlowOptions,
    take: Take<'_>,
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
        // One thread fills the same memory again, while the packets' data is still in the CPU cache.
        let mut filled = Ok(());
        if round::is_alone() {
            round::take(&mut workers, &current);
        } else {
            (filled, ()) = rayon::join(|| source.fill(&mut next), || round::take(&mut workers, &current));
        }
        let Made { began, ended } = round::collect(&mut workers, &current, flows);
        flows += began as u64;
        take(&mut workers, began, &ended);
        progress(source.reader.summary().packets);
        if round::is_alone() {
            filled = source.fill(&mut current);
        } else {
            std::mem::swap(&mut current, &mut next);
        }
        filled?;
    }
    let active = round::end(&mut workers);
    take(&mut workers, 0, &active);
    drop(workers);
    let mut summary = source.reader.summary();
    let lost = source.fragments_without_ports();
    summary.decoded -= lost;
    summary.add_skipped(SkipReason::FragmentWithoutPorts, lost);
    Ok(summary)
}
