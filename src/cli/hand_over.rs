//! Hands the flows of captures from the thread that reads them to the one that writes them, or only counts them.

use std::cell::{Cell, RefCell};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::dataset::LabelledFlow;

/// Maximum number of flows that are handed over together: waking the writer for each costs as much as reading it.
const BATCH_FLOWS: usize = 256;
/// Maximum number of batches that wait for the writer.
const WAITING_BATCHES: usize = 14;

/// Where the flows that were read go.
pub(super) trait Taker {
    /// Takes a flow; returns whether more are wanted.
    fn take(&self, flow: LabelledFlow) -> bool;
    /// Passes on what was taken so far; returns whether more is wanted.
    fn pass_on(&self) -> bool;
}

/// Counts flows that nobody writes.
#[derive(Default)]
pub(super) struct Counter(Cell<u64>);

impl Counter {
    pub(super) fn count(&self) -> u64 {
        self.0.get()
    }
}

impl Taker for Counter {
    fn take(&self, _: LabelledFlow) -> bool {
        self.0.set(self.0.get() + 1);
        true
    }

    fn pass_on(&self) -> bool {
        true
    }
}

/// A message to the writer: flows, or that there will be no more because reading failed.
type Message = Result<Vec<LabelledFlow>, Stopped>;
struct Stopped;

/// The reader's end: hands flows over in batches.
pub(super) struct Batches {
    sender: SyncSender<Message>,
    flows: RefCell<Vec<LabelledFlow>>,
    /// Whether the writer has stopped.
    is_gone: Cell<bool>,
}

/// The writer's end.
pub(super) struct Received {
    receiver: Receiver<Message>,
    batch: std::vec::IntoIter<LabelledFlow>,
}

/// Returns the two ends.
pub(super) fn channel() -> (Batches, Received) {
    let (sender, receiver) = sync_channel(WAITING_BATCHES);
    let batches = Batches { sender, flows: RefCell::default(), is_gone: Cell::new(false) };
    (batches, Received { receiver, batch: Vec::new().into_iter() })
}

impl Batches {
    /// Makes the writer discard its file instead of leaving it half-written.
    pub(super) fn stop(&self) {
        let _ = self.sender.send(Err(Stopped));
    }
}

impl Taker for Batches {
    fn take(&self, flow: LabelledFlow) -> bool {
        let mut flows = self.flows.borrow_mut();
        flows.push(flow);
        let is_full = flows.len() == BATCH_FLOWS;
        drop(flows);
        if is_full { self.pass_on() } else { !self.is_gone.get() }
    }

    fn pass_on(&self) -> bool {
        let flows = self.flows.take();
        if !flows.is_empty() && !self.is_gone.get() {
            self.is_gone.set(self.sender.send(Ok(flows)).is_err());
        }
        !self.is_gone.get()
    }
}

impl Received {
    /// Returns the next flow, or `None` after the last.
    ///
    /// # Errors
    /// A capture could not be read.
    pub(super) fn next_flow(&mut self) -> std::io::Result<Option<LabelledFlow>> {
        loop {
            if let Some(flow) = self.batch.next() {
                return Ok(Some(flow));
            }
            match self.receiver.recv() {
                Ok(Ok(flows)) => self.batch = flows.into_iter(),
                Ok(Err(Stopped)) => return Err(std::io::Error::other("a capture could not be read")),
                Err(_) => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Transport;
    use crate::dataset::{FlowProvenance, Labels};
    use crate::flow::{FiveTuple, Flow};

    fn flow(number: u32) -> LabelledFlow {
        let end = std::net::SocketAddr::from(([10, 0, 0, 1], 1));
        let five_tuple = FiveTuple { source: end, destination: end, transport: Transport::Udp };
        let flow = Flow { five_tuple, start: 0, end: 0, packets: Vec::new(), statistics: Vec::new() };
        let provenance =
            FlowProvenance { capture: "a.pcap".to_owned(), number, five_tuple, start: 0, end: 0, packet: None };
        LabelledFlow { provenance, labels: Labels::new(), flow }
    }

    /// Returns the numbers of the flows that are received, and whether the last was followed by an error.
    fn receive(mut received: Received) -> (Vec<u32>, bool) {
        let mut numbers = Vec::new();
        loop {
            match received.next_flow() {
                Ok(Some(flow)) => numbers.push(flow.provenance.number),
                Ok(None) => return (numbers, false),
                Err(_) => return (numbers, true),
            }
        }
    }

    #[test]
    fn flows_arrive_in_order_and_a_stop_is_an_error() {
        let count = 3 * BATCH_FLOWS as u32 + 7;
        for stopped in [false, true] {
            let (batches, received) = channel();
            let writer = std::thread::spawn(move || receive(received));
            assert!((0..count).all(|number| batches.take(flow(number))));
            assert!(batches.pass_on());
            if stopped {
                batches.stop();
            }
            drop(batches);
            assert_eq!(writer.join().unwrap(), ((0..count).collect(), stopped));
        }
    }

    #[test]
    fn what_was_passed_on_arrives_before_the_batch_is_full() {
        let (batches, mut received) = channel();
        assert!(batches.take(flow(5)) && batches.pass_on());
        assert_eq!(received.next_flow().unwrap().map(|flow| flow.provenance.number), Some(5));
    }

    #[test]
    fn no_more_is_wanted_once_the_writer_has_stopped() {
        let (batches, received) = channel();
        drop(received);
        let taken = (0..2 * BATCH_FLOWS as u32).take_while(|number| batches.take(flow(*number))).count();
        assert_eq!(taken, BATCH_FLOWS - 1);
        assert!(!batches.pass_on());
    }
}
