//! Progress for people: on a terminal, stacked bars no wider than it; otherwise plain lines. With `--verbose`, every
//! stage reports its duration at the end; with `--quiet`, nothing is printed.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::output::{Verbosity, duration, shown, verbosity};
use crate::progress::{Progress, Silent};

/// Uses bars if standard error is a terminal, otherwise lines.
pub(super) fn for_standard_error() -> Box<dyn Progress> {
    match verbosity() {
        Verbosity::Quiet => Box::new(Silent),
        _ if std::io::stderr().is_terminal() => Box::new(Bars::default()),
        _ => Box::new(Lines::default()),
    }
}

#[derive(Default)]
struct Bars {
    // Managed together, so that bars do not overwrite one another.
    drawn: MultiProgress,
    // A stack, because stages can be nested.
    bars: Mutex<Vec<Bar>>,
}

struct Bar {
    bar: ProgressBar,
    name: String,
    start: Instant,
    /// Whether the stage counts steps.
    counts: bool,
}

impl Bars {
    fn last(&self, with: impl FnOnce(&ProgressBar)) {
        if let Some(last) = self.bars.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).last() {
            with(&last.bar);
        }
    }
}

/// Returns the template of a bar for a terminal of `width` columns; the name and note are truncated to fit.
fn template(width: usize, counts: bool, estimates: bool) -> String {
    let name = (width * 2 / 5).clamp(12, 40);
    if !counts {
        return format!("{{spinner}} {{prefix:{name}!}} {{wide_msg}}");
    }
    let bar = if width < 100 { 8 } else { 28 };
    // Only the outermost counting stage shows an estimate.
    let left = if estimates { " {eta} left" } else { "" };
    format!("{{prefix:{name}!}} {{bar:{bar}}} {{pos}}/{{len}}{left} {{wide_msg}}")
}

impl Progress for Bars {
    fn begin(&self, stage: &str, steps: u64) {
        let counts = steps > 0;
        let mut bars = self.bars.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let bar = if counts { ProgressBar::new(steps) } else { ProgressBar::new_spinner() };
        let bar = self.drawn.add(bar);
        let width = terminal_size::terminal_size_of(std::io::stderr()).map_or(80, |(width, _)| width.0.into());
        let estimates = bars.iter().all(|bar| !bar.counts);
        let style = ProgressStyle::with_template(&template(width, counts, estimates));
        bar.set_style(style.expect("the template is fixed"));
        bar.set_prefix(shown(stage));
        bar.enable_steady_tick(Duration::from_millis(200));
        bars.push(Bar { bar, name: stage.to_owned(), start: Instant::now(), counts });
    }

    fn advance(&self, steps: u64) {
        self.last(|bar| bar.inc(steps));
    }

    fn note(&self, text: &str) {
        self.last(|bar| bar.set_message(shown(text)));
    }

    fn warn(&self, text: &str) {
        match self.bars.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).last() {
            Some(last) => last.bar.println(shown(text)),
            None => tell(text),
        }
    }

    fn end(&self) {
        if let Some(last) = self.bars.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop() {
            if verbosity() == Verbosity::Verbose {
                last.bar.println(shown(ended(&last.name, last.start, &last.bar.message())));
            }
            last.bar.finish_and_clear();
            self.drawn.remove(&last.bar);
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
    last_printed: Instant,
    note: String,
    done: u64,
    steps: u64,
}

impl Lines {
    fn with_stages(&self, with: impl FnOnce(&mut Vec<Stage>)) {
        with(&mut self.stages.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    }
}

/// Logging short stages would be noise: a stage reports its end only if it took a while, and its progress at most this
/// often.
const SILENCE: Duration = Duration::from_secs(20);

fn tell(text: &str) {
    tell!("{text}");
}

/// Returns what a stage reports at its end.
fn ended(name: &str, start: Instant, note: &str) -> String {
    format!("  {name}: done in {} {note}", duration(start.elapsed().as_secs_f64())).trim_end().to_owned()
}

impl Progress for Lines {
    fn begin(&self, stage: &str, steps: u64) {
        let now = Instant::now();
        self.with_stages(|stages| {
            if stages.is_empty() {
                tell(stage);
            }
            stages.push(Stage {
                name: stage.to_owned(),
                start: now,
                last_printed: now,
                note: String::new(),
                done: 0,
                steps,
            });
        });
    }

    fn advance(&self, steps: u64) {
        self.with_stages(|stages| {
            let estimates = stages.iter().filter(|stage| stage.steps > 0).count() == 1;
            let Some(stage) = stages.last_mut() else { return };
            stage.done += steps;
            if stage.last_printed.elapsed() >= SILENCE {
                stage.last_printed = Instant::now();
                let rest = stage.steps.saturating_sub(stage.done) as f64 / stage.done.max(1) as f64;
                let left = match estimates && stage.done > 0 {
                    true => format!(", about {} left", duration(rest * stage.start.elapsed().as_secs_f64())),
                    false => String::new(),
                };
                let text = format!("  {}: {}/{}{left} {}", stage.name, stage.done, stage.steps, stage.note);
                tell(text.trim_end());
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
            if verbosity() == Verbosity::Verbose || stage.start.elapsed().as_secs_f64() >= 5.0 {
                tell(&ended(&stage.name, stage.start, &stage.note));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use indicatif::{ProgressDrawTarget, TermLike};

    use super::*;

    /// A terminal that records what is written to it.
    #[derive(Debug, Clone)]
    struct Written(u16, Arc<Mutex<Vec<String>>>);

    impl TermLike for Written {
        fn width(&self) -> u16 {
            self.0
        }
        fn height(&self) -> u16 {
            20
        }
        fn move_cursor_up(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> std::io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> std::io::Result<()> {
            self.1.lock().unwrap().push(text.to_owned());
            Ok(())
        }
        fn clear_line(&self) -> std::io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_bar_is_no_wider_than_the_terminal() {
        for width in [60, 80, 120, 200] {
            let terminal = Written(width, Arc::default());
            for (steps, estimates) in [(54, true), (12, false), (0, false)] {
                let bar = if steps > 0 { ProgressBar::new(steps) } else { ProgressBar::new_spinner() };
                bar.set_draw_target(ProgressDrawTarget::term_like(Box::new(terminal.clone())));
                let template = template(width.into(), steps > 0, estimates);
                bar.set_style(ProgressStyle::with_template(&template).unwrap());
                bar.set_prefix("random_split attention_lstm bytes seed0 of a name that is far too long");
                bar.set_message(
                    "epoch 12 of 40, loss 0.1234, macro F1 of the validation part 0.9876, and more of the like",
                );
                bar.tick();
            }
            let lines = terminal.1.lock().unwrap().clone();
            let prefixed: Vec<&String> = lines.iter().filter(|line| line.contains("random_")).collect();
            assert!(prefixed.len() >= 3, "{lines:?}");
            assert!(lines.iter().all(|line| line.chars().count() <= width.into()), "{lines:?}");
            assert!(lines.iter().any(|line| line.contains(" left")), "{lines:?}");
        }
    }
}
