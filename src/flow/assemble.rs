//! From a capture file to its flows in one call.

use std::collections::BTreeMap;
use std::path::Path;

use thiserror::Error;

use crate::capture::{CaptureError, CaptureReader, CaptureSummary};

use super::assembler::{Assembler, NumberedFlow};
use super::options::FlowOptionsError;
use super::types::{Flow, FlowOptions};

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
/// is flow number n from 0.
///
/// A flow that is complete waits for those that began before it, so besides the active flows memory holds
/// those that began during the oldest active one, which `active_timeout` bounds. An [`Assembler`] gives
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
    let mut assembler = Assembler::new(options)?;
    let mut reader = CaptureReader::open(path)?;
    let mut queue = InOrder { next: 0, waiting: BTreeMap::new(), sink };
    while let Some(packet) = reader.next_packet()? {
        assembler.push(&packet, &mut |flow| queue.add(flow));
    }
    assembler.finish(&mut |flow| queue.add(flow));
    Ok(reader.summary())
}

/// Holds flows back until those with lower numbers are through.
struct InOrder<'a> {
    next: u64,
    waiting: BTreeMap<u64, Flow>,
    sink: &'a mut dyn FnMut(Flow),
}

impl InOrder<'_> {
    fn add(&mut self, NumberedFlow { number, flow }: NumberedFlow) {
        self.waiting.insert(number, flow);
        while let Some(flow) = self.waiting.remove(&self.next) {
            (self.sink)(flow);
            self.next += 1;
        }
    }
}
