//! Training progress for the user: loss, samples per second and remaining time.

use std::time::{Duration, Instant};

use super::checkpoint::Position;
use super::engine::BatchLoss;
use etcbench_storage::progress::Progress;

/// Minimum time between two notes.
const NOTES: Duration = Duration::from_secs(2);

/// Counts the samples of a training with a known number of epochs.
pub(crate) struct Pace {
    unit: &'static str,
    epochs: usize,
    /// Remaining samples.
    left: usize,
    /// Samples processed since this process started.
    done: usize,
    start: Instant,
    last_note: Instant,
}

impl Pace {
    /// Creates a counter for `epochs` passes over `samples` in batches of `batch`, resuming at `position`.
    pub(super) fn new(epochs: usize, samples: usize, unit: &'static str, position: &Position, batch: usize) -> Self {
        let earlier = position.epochs.len() * samples + position.batches * batch;
        let now = Instant::now();
        Self { unit, epochs, left: (epochs * samples).saturating_sub(earlier), done: 0, start: now, last_note: now }
    }

    /// Records `samples` more as processed; `trained` is the loss of the epoch so far.
    pub(super) fn advance(&mut self, samples: usize, epoch: usize, trained: BatchLoss, progress: &dyn Progress) {
        self.done += samples;
        self.left = self.left.saturating_sub(samples);
        if self.last_note.elapsed() >= NOTES {
            self.last_note = Instant::now();
            progress.note(&self.text(epoch, trained.mean(), self.start.elapsed()));
        }
    }

    fn text(&self, epoch: usize, loss: f64, elapsed: Duration) -> String {
        let speed = self.done as f64 / elapsed.as_secs_f64().max(1e-9);
        let left = Duration::from_secs_f64(self.left as f64 / speed.max(1e-9)).as_secs();
        let left = match (left / 3600, left / 60 % 60, left % 60) {
            (0, 0, seconds) => format!("{seconds} s"),
            (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
            (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
        };
        let Self { epochs, unit, .. } = self;
        format!("epoch {epoch} of {epochs}: loss {loss:.4}, {speed:.0} {unit}/s, at most {left} left")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_and_time_left_follow_from_what_is_done() {
        let position = Position { batches: 5, ..Position::default() };
        let mut pace = Pace::new(3, 1000, "packets", &position, 100);
        assert_eq!(pace.left, 2500);
        pace.advance(500, 1, BatchLoss { sum: 3.0, targets: 2 }, &etcbench_storage::progress::Silent);
        let text = pace.text(1, 1.5, Duration::from_secs(10));
        assert_eq!(text, "epoch 1 of 3: loss 1.5000, 50 packets/s, at most 40 s left");
        pace.left = 400_000;
        assert!(pace.text(1, 1.5, Duration::from_secs(10)).ends_with("at most 2 h 13 min left"));
        pace.left = 6_250;
        assert!(pace.text(1, 1.5, Duration::from_secs(10)).ends_with("at most 2 min 05 s left"));
    }
}
