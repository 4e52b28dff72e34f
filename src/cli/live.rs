//! Classifies packets as they arrive, from a capture that is still being written, through a pipe. A reader thread
//! assigns packets to their flows; this thread classifies the flows that are ready, a few milliseconds after they
//! become so, and writes the results.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;

use super::classify::{Event, Lines, Summary, labelled};
use super::interrupt;
use crate::capture::{CaptureError, CaptureReader, CaptureSource, CaptureSummary, ReaderOptions};
use crate::dataset::LabelledFlow;
use crate::feature::PacketStart;
use crate::flow::{Assembler, NumberedFlow};
use crate::model::{Classification, ModelDescription, TrainedModel};
use crate::progress::{Progress, Silent};

/// How long a flow that is ready waits for others.
const PATIENCE: Duration = Duration::from_millis(5);
/// How often to look for flows without new packets.
const TICK: Duration = Duration::from_millis(100);
/// Number of batches of flows that may wait for the model before reading pauses.
const BACKLOG: usize = 4;
/// A packet whose timestamp is within this many nanoseconds of now counts as just recorded.
const RECENT: i64 = 60_000_000_000;

/// A flow that waits for the model.
struct Waiting {
    event: Event,
    flow: NumberedFlow,
    /// When it became ready.
    since: Instant,
}

/// The state shared by the reader thread and the classifying thread.
struct State {
    assembler: Assembler,
    waiting: Vec<Waiting>,
    /// The timestamp of the latest packet, and when it arrived; `None` if packets are not read as they are recorded.
    latest: Option<(i64, Instant)>,
    /// The result of reading, once there is nothing more to read.
    read: Option<Result<CaptureSummary, CaptureError>>,
}

struct Shared {
    state: Mutex<State>,
    /// Notified when something waits, and when it no longer does.
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns nanoseconds since 1970 by this machine's clock.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Returns the number of packets after which further packets of a flow do not change the model's prediction; `None` if
/// it depends on the complete flow.
fn packets_read(description: &ModelDescription) -> Option<usize> {
    let ModelDescription { input, tokens, sequences, flow, minimum_packets, .. } = description;
    if input.reads_statistics() || input.reads_flowpic() {
        return None;
    }
    // If packets without visible bytes are skipped, any of the kept packets may be among those read.
    let of_bytes = match tokens.packet_start {
        PacketStart::IpHeader => tokens.packets,
        PacketStart::AfterIpHeader | PacketStart::Payload => flow.kept_packets,
    };
    let of_bytes = input.reads_bytes().then_some(of_bytes);
    // The metadata that a model reads in addition to the bytes belongs to the same packets; `sequences` are those of
    // its variant, which other models may read.
    let of_sequences = sequences.as_ref().filter(|_| input.reads_sequences()).map(|sequences| sequences.packets);
    let read = of_bytes.max(of_sequences)?;
    // Flows with fewer packets are not classified.
    let packets = read.max(usize::try_from(*minimum_packets).ok()?);
    (packets <= flow.kept_packets).then_some(packets)
}

/// Reads a capture to its end, packet by packet.
fn read(mut reader: CaptureReader, shared: &Shared, packets: Option<usize>, most: usize) {
    let result = loop {
        let packet = match reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break Ok(reader.summary()),
            Err(error) => break Err(error),
        };
        let mut state = shared.lock();
        while state.waiting.len() >= most {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let since = Instant::now();
        let State { assembler, waiting, latest, .. } = &mut *state;
        *latest = (packet.timestamp.abs_diff(now()) < RECENT.unsigned_abs()).then_some((packet.timestamp, since));
        let before = waiting.len();
        let (mut decided, mut ended) = (None, Vec::new());
        let mut end = |flow| ended.push(Waiting { event: Event::End, flow, since });
        match packets {
            Some(packets) => {
                let mut watch = |flow| decided = Some(Waiting { event: Event::Decision, flow, since });
                assembler.push_watched(&packet, packets, &mut watch, &mut end);
            }
            None => assembler.push(&packet, &mut end),
        }
        waiting.extend(ended.into_iter().chain(decided));
        let some = waiting.len() > before;
        drop(state);
        if some {
            shared.changed.notify_all();
        }
    };
    shared.lock().read = Some(result);
    shared.changed.notify_all();
}

/// A histogram of how long flows waited for their answers, in microseconds: each power of two has 16 classes, so the
/// four bits after the leading one count. A capture may run for weeks, and this does not grow.
struct Waits {
    counts: Vec<u64>,
    total: u64,
}

/// Number of classes per power of two.
const STEPS: u64 = 16;

impl Waits {
    fn new() -> Self {
        Self { counts: vec![0; 64 * STEPS as usize], total: 0 }
    }

    fn add(&mut self, wait: Duration) {
        let microseconds = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        self.counts[Self::class(microseconds)] += 1;
        self.total += 1;
    }

    /// Returns the class of a number; those below [`STEPS`] have their own classes.
    fn class(microseconds: u64) -> usize {
        let power = u64::from(microseconds.max(STEPS).ilog2() - STEPS.ilog2());
        (power * STEPS + (microseconds >> power)) as usize
    }

    /// Returns the smallest number of a class.
    fn first(class: usize) -> u64 {
        let power = (class as u64 / STEPS).saturating_sub(1);
        (class as u64 - power * STEPS) << power
    }

    /// Returns the milliseconds within which this share of the waits falls, to a precision of one sixteenth.
    fn quantile(&self, share: f64) -> f64 {
        let wanted = (share * self.total as f64).ceil().max(1.0) as u64;
        let mut sum = 0;
        let class = self.counts.iter().position(|count| {
            sum += count;
            sum >= wanted
        });
        class.map_or(0.0, |class| Self::first(class + 1) as f64 / 1e3)
    }
}

/// Reads a capture as it arrives, and writes one line for each flow when it can be decided and another when it ends; if
/// `early` is false, only the latter. Ctrl-C ends the capture, and the program still writes its last lines.
pub(super) fn classify_live(
    path: &Path,
    early: bool,
    model: &TrainedModel,
    lines: &mut Lines<'_>,
    summary: &mut Summary,
    progress: &dyn Progress,
) -> anyhow::Result<()> {
    let options = &model.description().flow;
    let reader_options = ReaderOptions { tunnels: options.tunnels, ..ReaderOptions::default() };
    let stopped = interrupt::take_over();
    let reader = CaptureReader::open_with(&CaptureSource::from(path), &reader_options)?;
    let capture = path.display().to_string();
    let packets = packets_read(model.description()).filter(|_| early);
    if early && packets.is_none() {
        progress.warn("this model needs features of complete flows, so each flow is classified when it ends");
    }
    let assembler = Assembler::new(options).context("the model's flow options")?;
    let state = State { assembler, waiting: Vec::new(), latest: None, read: None };
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
    let most = model.flows_at_a_time();
    let (theirs, backlog) = (Arc::clone(&shared), BACKLOG * most);
    // The thread may block on a packet that never arrives, so nothing waits for the thread.
    std::thread::Builder::new()
        .name("capture".to_owned())
        .spawn(move || read(reader, &theirs, packets, backlog))
        .context("cannot start a thread that reads the capture")?;

    let (began, mut waits, mut flows) = (Instant::now(), Waits::new(), 0_u64);
    let mut decided: HashMap<u64, Classification> = HashMap::new();
    let read = loop {
        let mut state = shared.lock();
        if state.waiting.is_empty() && state.read.is_none() {
            state = shared.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.read.is_none() && !state.waiting.is_empty() && state.waiting.len() < most {
            // Others may follow shortly: classifying them together is cheaper.
            drop(state);
            std::thread::sleep(PATIENCE);
            state = shared.lock();
        }
        let State { assembler, waiting, latest, .. } = &mut *state;
        if let Some((timestamp, came)) = *latest {
            let since = Instant::now();
            let passed = i64::try_from(since.duration_since(came).as_nanos()).unwrap_or(i64::MAX);
            let mut end = |flow| waiting.push(Waiting { event: Event::End, flow, since });
            assembler.advance(timestamp.saturating_add(passed), &mut end);
        }
        let ready = std::mem::take(waiting);
        let over = if stopped.is_set() { Some(None) } else { state.read.take().map(Some) };
        drop(state);
        shared.changed.notify_all();
        flows += answer(model, &capture, ready, lines, summary, (&mut decided, &mut waits))?;
        if let Some(read) = over {
            break read;
        }
    };
    // Flows that were active at the end of the input. They became ready only then, and all at once, so their wait times
    // are meaningless.
    let mut state = shared.lock();
    let empty = Assembler::new(options).context("the model's flow options")?;
    let assembler = std::mem::replace(&mut state.assembler, empty);
    let waiting: Vec<Waiting> = std::mem::take(&mut state.waiting);
    drop(state);
    flows += answer(model, &capture, waiting, lines, summary, (&mut decided, &mut waits))?;
    let (since, mut left) = (Instant::now(), Vec::new());
    assembler.finish(&mut |flow| left.push(Waiting { event: Event::End, flow, since }));
    flows += answer(model, &capture, left, lines, summary, (&mut decided, &mut Waits::new()))?;
    let read = match read {
        Some(read) => read?.to_string(),
        None => "stopped before its end".to_owned(),
    };
    progress.warn(&format!("{capture}: {flows} flows; {read}"));
    if waits.total > 0 {
        progress.warn(&format!(
            "{} answers in {:.1} s while reading; time from when a flow could be decided to its line: median {:.1} ms, \
             99 % within {:.1} ms",
            waits.total,
            began.elapsed().as_secs_f64(),
            waits.quantile(0.5),
            waits.quantile(0.99)
        ));
    }
    Ok(())
}

/// Splits the flows into chunks of at most `most`, in order.
fn chunks(mut all: Vec<Waiting>, most: usize) -> Vec<Vec<Waiting>> {
    let mut parts = Vec::new();
    while !all.is_empty() {
        let rest = all.split_off(all.len().min(most));
        parts.push(std::mem::replace(&mut all, rest));
    }
    parts
}

/// Classifies flows and writes their lines; the last line of a flow repeats an earlier decision. Returns how many flows
/// ended.
fn answer(
    model: &TrainedModel,
    capture: &str,
    waiting: Vec<Waiting>,
    lines: &mut Lines<'_>,
    summary: &mut Summary,
    (decided, waits): (&mut HashMap<u64, Classification>, &mut Waits),
) -> anyhow::Result<u64> {
    let mut ended = 0;
    for part in chunks(waiting, model.flows_at_a_time()) {
        let mut queried: Vec<LabelledFlow> = Vec::new();
        let mut kinds = Vec::new();
        for Waiting { event, flow, since } in part {
            kinds.push((event, flow.number, since));
            queried.push(labelled(flow, capture)?);
        }
        // A flow that was decided is not classified again.
        let unknown: Vec<usize> = (0..queried.len()).filter(|&place| !decided.contains_key(&kinds[place].1)).collect();
        let open: Vec<LabelledFlow> = unknown.iter().map(|&place| queried[place].clone()).collect();
        let mut answers: HashMap<usize, Classification> =
            unknown.into_iter().zip(model.classify(&open, &Silent)?).collect();
        for (place, (flow, (event, number, since))) in queried.iter().zip(kinds).enumerate() {
            let fresh = answers.remove(&place);
            let Some(answer) = decided.get(&number).or(fresh.as_ref()) else { continue };
            lines.write(event, flow, answer)?;
            match event {
                Event::End => {
                    summary.add(answer);
                    ended += 1;
                    if fresh.is_some() {
                        waits.add(since.elapsed());
                    }
                    decided.remove(&number);
                }
                Event::Decision => {
                    waits.add(since.elapsed());
                    decided.extend(fresh.map(|answer| (number, answer)));
                }
            }
        }
    }
    lines.flush()?;
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_accurate_to_a_sixteenth() {
        for microseconds in (0..70_000).chain([1 << 40, (1 << 40) + 12_345, u64::MAX]) {
            let class = Waits::class(microseconds);
            assert!(Waits::first(class) <= microseconds, "{microseconds}");
            let width = microseconds - Waits::first(class);
            assert!(width * STEPS <= microseconds, "{microseconds}: {width}");
            assert!(class < 64 * STEPS as usize, "{microseconds}");
        }
        let mut waits = Waits::new();
        assert_eq!(waits.quantile(0.5), 0.0);
        (1..=1000).for_each(|microseconds| waits.add(Duration::from_micros(microseconds)));
        for (share, expected) in [(0.5, 0.5), (0.99, 0.99), (1.0, 1.0)] {
            let found = waits.quantile(share);
            assert!((expected..=expected * 1.07).contains(&found), "{share}: {found}");
        }
    }
}
