//! The ladder: a line per model, a step per rung, in panels side by side.

use super::canvas::{Anchor, Canvas, legend_height, series, widest};
use super::scale::Scale;
use super::{Figure, three};

/// A model on a rung.
pub(crate) struct LadderPoint {
    /// The number of the step, from 0.
    pub step: usize,
    /// Its score.
    pub value: f64,
    /// Its interval, if there is one.
    pub interval: Option<(f64, f64)>,
}

/// A model.
pub(crate) struct LadderLine {
    /// Its series.
    pub series: usize,
    /// Its scores, by step.
    pub points: Vec<LadderPoint>,
}

/// The data of the figure.
pub(crate) struct LadderPlot {
    /// The caption.
    pub title: String,
    /// The steps, in order.
    pub steps: Vec<String>,
    /// Names of the series.
    pub series: Vec<String>,
    /// The panels, each with its heading.
    pub panels: Vec<(String, Vec<LadderLine>)>,
}

/// Draws a ladder.
pub(crate) fn ladder_figure(plot: &LadderPlot) -> Figure {
    const STEP: f64 = 52.0;
    let (left, gap, plot_height) = (64.0, 28.0, 260.0);
    let panel_width = STEP * plot.steps.len() as f64 + 8.0;
    let panels = plot.panels.len() as f64;
    // The names of steps slope down to the left of their ticks.
    let names = widest(plot.steps.iter().map(String::as_str));
    let width = left + panels * panel_width + (panels - 1.0) * gap + 14.0;
    let top = legend_height(&plot.series, width, left) + 26.0;
    let bottom = top + plot_height;
    let mut canvas = Canvas::new(width, bottom + 22.0 + 0.66 * names);
    canvas.legend(&plot.series, (left, 0.0), false);
    let values = plot.panels.iter().flat_map(|(_, lines)| lines.iter().flat_map(|line| &line.points));
    let scale = Scale::shares(
        values.flat_map(|point| [point.value, point.interval.map_or(point.value, |(low, _)| low)]),
        (bottom, top),
        5,
    );
    canvas.upright((16.0, (top + bottom) / 2.0), "var(--ink)", "macro F1");
    for (number, (heading, lines)) in plot.panels.iter().enumerate() {
        let start = left + number as f64 * (panel_width + gap);
        let end = start + panel_width;
        canvas.text(((start + end) / 2.0, top - 10.0), Anchor::Middle, "var(--ink)", 12.0, heading);
        for (place, text) in scale.ticks() {
            canvas.line([start, place, end, place], "var(--grid)", 1.0);
            if number == 0 {
                canvas.text((left - 8.0, place + 4.0), Anchor::End, "var(--muted)", 11.0, &text);
            }
        }
        canvas.line([start, bottom, end, bottom], "var(--muted)", 1.0);
        let place = |step: usize| start + STEP * (step as f64 + 0.5) + 4.0;
        for (step, name) in plot.steps.iter().enumerate() {
            canvas.line([place(step), bottom, place(step), bottom + 4.0], "var(--muted)", 1.0);
            canvas.falling((place(step) + 4.0, bottom + 14.0), "var(--ink)", name);
        }
        // Models are slightly offset horizontally so that their intervals do not overlap.
        let spread = |series: usize| {
            let count = plot.series.len().max(1) as f64;
            (series as f64 - (count - 1.0) / 2.0) * (24.0 / count)
        };
        for line in lines {
            let at = |point: &LadderPoint| (place(point.step) + spread(line.series), scale.place(point.value));
            let path: Vec<(f64, f64)> = line.points.iter().map(at).collect();
            canvas.polyline(&path, &series(line.series), 1.5, 0.55);
            for point in &line.points {
                let (x, _) = at(point);
                if let Some((low, high)) = point.interval {
                    canvas.line([x, scale.place(low), x, scale.place(high)], &series(line.series), 1.0);
                }
            }
            for point in &line.points {
                let interval =
                    point.interval.map_or(String::new(), |(low, high)| format!(" ({} to {})", three(low), three(high)));
                let (name, step) = (&plot.series[line.series], &plot.steps[point.step]);
                let title = format!("{name}, {step}: {}{interval}", three(point.value));
                canvas.mark(at(point), line.series, &title);
            }
        }
    }
    Figure::new(plot.title.clone(), canvas)
}
