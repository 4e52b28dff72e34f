//! Reading captures on a separate thread, which passes batches to the reader of the stream through a short queue.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, SchemaRef};
use etcbench::capture::{CaptureReader, CaptureSource, ReaderOptions, Tunnels};
use pyo3::prelude::*;

use crate::table::{Stream, Summaries};
use crate::work;

/// Number of queued batches. A stream keeps these in memory, plus the one being built and the one being read.
const WAITING: usize = 2;

type Sent = Result<RecordBatch, ArrowError>;

/// Returns the choice with this name, or an error that lists the names.
pub(crate) fn one_of<T: Copy>(what: &str, name: &str, choices: &[(&str, T)]) -> anyhow::Result<T> {
    let names = || choices.iter().map(|(name, _)| *name);
    let found = choices.iter().find(|(other, _)| *other == name).map(|(_, choice)| *choice);
    found.ok_or_else(|| {
        let nearest = etcbench::declarative::did_you_mean(name, names());
        anyhow::anyhow!("{what} {name:?}: must be one of {}{nearest}", names().collect::<Vec<_>>().join(", "))
    })
}

/// Returns the tunnel option with this name.
pub(crate) fn tunnels(name: &str) -> anyhow::Result<Tunnels> {
    one_of("tunnels", name, &[("outer", Tunnels::Outer), ("inner", Tunnels::Inner)])
}

/// Opens a capture.
pub(crate) fn open(path: &Path, tunnels: Tunnels) -> anyhow::Result<CaptureReader> {
    let options = ReaderOptions { tunnels, ..ReaderOptions::default() };
    Ok(CaptureReader::open_with(&CaptureSource::from(path), &options)?)
}

/// The destination of a reading thread's batches.
pub(crate) struct Sink {
    sender: SyncSender<Sent>,
    summaries: Summaries,
}

impl Sink {
    /// Sends a batch; ends the thread if the stream is no longer read.
    pub(crate) fn send(&self, batch: Result<RecordBatch, ArrowError>) {
        if self.sender.send(batch).is_err() {
            work::stop();
        }
    }

    /// Stores the summary of a capture.
    pub(crate) fn summarise(&self, path: &Path, summary: String) {
        self.summaries.lock().unwrap_or_else(PoisonError::into_inner).insert(path.display().to_string(), summary);
    }
}

struct Batches {
    schema: SchemaRef,
    receiver: Receiver<Sent>,
}

impl Iterator for Batches {
    type Item = Sent;
    fn next(&mut self) -> Option<Sent> {
        self.receiver.recv().ok()
    }
}

impl RecordBatchReader for Batches {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// Returns a stream of the batches that `read` produces from each capture in turn. Opens the first capture at once and
/// checks that the others exist, so that a wrong path raises in the call and not while reading.
pub(crate) fn stream<S: Send + 'static>(
    captures: Vec<PathBuf>,
    tunnels: Tunnels,
    schema: SchemaRef,
    state: S,
    read: impl Fn(&Path, CaptureReader, &S, &Sink) -> anyhow::Result<String> + Send + 'static,
) -> PyResult<Stream> {
    for path in captures.iter().skip(1).filter(|path| !path.to_string_lossy().contains('!')) {
        std::fs::metadata(path).map_err(|error| crate::raised(anyhow::anyhow!("{}: {error}", path.display())))?;
    }
    let mut first = captures.first().map(|path| open(path, tunnels)).transpose().map_err(crate::raised)?;
    let (sender, receiver) = sync_channel(WAITING);
    let summaries = Summaries::default();
    let sink = Sink { sender, summaries: Arc::clone(&summaries) };
    let mut all = move |sink: &Sink| -> anyhow::Result<()> {
        for path in &captures {
            let reader = first.take().map_or_else(|| open(path, tunnels), Ok)?;
            sink.summarise(path, read(path, reader, &state, sink)?);
        }
        Ok(())
    };
    let run = move || {
        let problem = match std::panic::catch_unwind(AssertUnwindSafe(|| all(&sink))) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => etcbench::cli::in_lines(&error),
            Err(panic) if work::was_stopped(&*panic) => return,
            Err(_) => "internal error; see the output above".to_owned(),
        };
        // Sending fails if the stream is no longer read.
        let _ = sink.sender.send(Err(ArrowError::ExternalError(problem.into())));
    };
    std::thread::Builder::new().name("captures".to_owned()).spawn(run).map_err(crate::raised)?;
    Ok(Stream::new(Box::new(Batches { schema, receiver }), summaries))
}
