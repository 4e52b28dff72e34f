//! Progress for people: a bar on a terminal, a plain line per stage otherwise.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::shown;
use crate::progress::Progress;

/// Chooses bars or lines by whether standard error is a terminal.
pub(super) fn for_standard_error() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() { Box::new(Bars::default()) } else { Box::new(Lines::default()) }
}

#[derive(Default)]
struct Bars {
    // A stack: a stage may have stages of its own.
    bars: Mutex<Vec<ProgressBar>>,
}

impl Bars {
    fn last(&self, with: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = self.bars.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).last() {
            with(bar);
        }
    }
}

impl Progress for Bars {
    fn begin(&self, stage: &str, steps: u64) {
        let bar = if steps == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(steps) };
        let style = if steps == 0 {
            ProgressStyle::with_template("{spinner} {prefix} {msg}")
        } else {
            ProgressStyle::with_template("{prefix:40!} {bar:28} {pos}/{len} {per_sec} eta {eta} {msg}")
        };
        bar.set_style(style.expect("the template is fixed"));
        bar.set_prefix(shown(stage));
        bar.enable_steady_tick(Duration::from_millis(200));
        self.bars.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(bar);
    }

    fn advance(&self, steps: u64) {
        self.last(|bar| bar.inc(steps));
    }

    fn note(&self, text: &str) {
        self.last(|bar| bar.set_message(shown(text)));
    }

    fn warn(&self, text: &str) {
        match self.bars.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).last() {
            Some(bar) => bar.println(shown(text)),
            None => tell(text),
        }
    }

    fn end(&self) {
        if let Some(bar) = self.bars.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop() {
            bar.finish_and_clear();
        }
    }
}

#[derive(Default)]
struct Lines {
    stages: Mutex<Vec<Stage>>,
}

struct Stage {
    name: String,
    start: Instant,
    told: Instant,
    note: String,
    done: u64,
    steps: u64,
}

impl Lines {
    fn with_stages(&self, with: impl FnOnce(&mut Vec<Stage>)) {
        with(&mut self.stages.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    }
}

/// A log of short stages would be noise: a stage speaks at its end only if it took a while, and in
/// between at most this often.
const SILENCE: Duration = Duration::from_secs(20);

fn tell(text: &str) {
    tell!("{text}");
}

impl Progress for Lines {
    fn begin(&self, stage: &str, steps: u64) {
        let now = Instant::now();
        self.with_stages(|stages| {
            if stages.is_empty() {
                tell(stage);
            }
            stages.push(Stage { name: stage.to_owned(), start: now, told: now, note: String::new(), done: 0, steps });
        });
    }

    fn advance(&self, steps: u64) {
        self.with_stages(|stages| {
            let Some(stage) = stages.last_mut() else { return };
            stage.done += steps;
            if stage.told.elapsed() >= SILENCE {
                stage.told = Instant::now();
                tell(&format!("  {}: {}/{} {}", stage.name, stage.done, stage.steps, stage.note));
            }
        });
    }

    fn note(&self, text: &str) {
        self.with_stages(|stages| {
            if let Some(stage) = stages.last_mut() {
                stage.note = text.to_owned();
            }
        });
    }

    fn warn(&self, text: &str) {
        tell(text);
    }

    fn end(&self) {
        self.with_stages(|stages| {
            let Some(stage) = stages.pop() else { return };
            let seconds = stage.start.elapsed().as_secs_f64();
            if seconds >= 5.0 {
                tell(&format!("  {}: done in {seconds:.1} s {}", stage.name, stage.note));
            }
        });
    }
}
