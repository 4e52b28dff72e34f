//! Bars per class: precision, recall and F1 of one model, with the 95 % confidence interval of the mean if there are
//! several fits.

use super::canvas::{Anchor, Canvas, series, text_width, widest};
use super::scale::Scale;
use super::{Figure, WIDTH, three};
use etcbench_evaluate::Summary;

/// The data of the figure.
pub(crate) struct ClassBars {
    /// The caption.
    pub title: String,
    /// Per class: its name, mean support, and one value per metric, `None` if it is undefined.
    pub classes: Vec<(String, Option<f64>, Vec<Option<Summary>>)>,
    /// Names of the metrics.
    pub metrics: Vec<String>,
}

const BAR: f64 = 9.0;
const GAP: f64 = 6.0;
const NAME: f64 = 17.0;

/// Draws bars per class.
pub(crate) fn class_bars(plot: &ClassBars) -> Figure {
    let support = |support: &Option<f64>| support.map_or(String::new(), |support| format!("{support:.0}"));
    let supports: Vec<String> = plot.classes.iter().map(|(_, flows, _)| support(flows)).collect();
    let number_width = widest(supports.iter().map(String::as_str));
    let left = 12.0;
    let names = widest(plot.classes.iter().map(|(name, ..)| name.as_str()));
    let width = WIDTH.max(left + names + number_width + 32.0);
    // The name of a class and its number of flows are above its bars.
    let group = NAME + BAR * plot.metrics.len() as f64 + GAP;
    let (top, bottom) = (26.0, 26.0 + group * plot.classes.len() as f64);
    let mut canvas = Canvas::new(width, bottom + 28.0);
    let scale = Scale::linear([0.0, 1.0], (left, width - 16.0), 5);
    canvas.shared(|canvas| {
        let mut x = left;
        for (index, name) in plot.metrics.iter().enumerate() {
            canvas.rectangle([x, 4.0, 12.0, 9.0], &series(index), 0.9, "");
            canvas.text((x + 17.0, 13.0), Anchor::Start, "var(--ink)", 12.0, name);
            x += 17.0 + text_width(name) + 14.0;
        }
        canvas.text((width - 16.0, 13.0), Anchor::End, "var(--muted)", 11.0, "flows");
        for (place, text) in scale.ticks() {
            canvas.line([place, top - 4.0, place, bottom], "var(--grid)", 1.0);
            canvas.text((place, bottom + 16.0), Anchor::Middle, "var(--muted)", 11.0, &text);
        }
        for (row, ((name, ..), support)) in plot.classes.iter().zip(&supports).enumerate() {
            let y = top + group * row as f64 + NAME - 4.0;
            canvas.text((left, y), Anchor::Start, "var(--ink)", 12.0, name);
            canvas.text((width - 16.0, y), Anchor::End, "var(--muted)", 11.0, support);
        }
    });
    for (row, (_, _, values)) in plot.classes.iter().enumerate() {
        let start = top + group * row as f64 + NAME;
        for (index, (value, metric)) in values.iter().zip(&plot.metrics).enumerate() {
            let y = start + BAR * index as f64;
            let Some(summary) = value else {
                canvas.text((left + 4.0, y + 8.0), Anchor::Start, "var(--muted)", 9.0, "undefined");
                continue;
            };
            let end = scale.place(summary.mean);
            let interval = summary.interval.map_or(String::new(), |half| format!(" ± {}", three(half)));
            let title = format!("{metric} {}{interval}", three(summary.mean));
            canvas.rectangle([left, y, (end - left).max(0.8), BAR - 1.0], &series(index), 0.9, &title);
            if let Some(half) = summary.interval.filter(|half| *half > 0.0) {
                let y = y + (BAR - 1.0) / 2.0;
                let ends = [scale.place(summary.mean - half), scale.place(summary.mean + half)];
                canvas.line([ends[0], y, ends[1], y], "var(--ink)", 1.0);
            }
        }
    }
    Figure::new(plot.title.clone(), canvas)
}
