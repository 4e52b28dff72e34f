//! Curves: a value over epochs, or over the points of an ablation with a confidence band of the means.

use super::canvas::{Anchor, Canvas, legend_height, series};
use super::scale::Scale;
use super::{Figure, WIDTH, three};

/// A point of a curve.
#[derive(Clone, Copy)]
pub(crate) struct CurvePoint {
    /// Its position on the horizontal axis.
    pub x: f64,
    /// The value, a mean.
    pub y: f64,
    /// Half the width of its interval.
    pub interval: Option<f64>,
}

/// A curve.
pub(crate) struct Curve {
    /// Its series.
    pub series: usize,
    /// Its points, by ascending `x`.
    pub points: Vec<CurvePoint>,
}

/// The data of the figure.
pub(crate) struct Curves {
    /// The caption.
    pub title: String,
    /// Label of the horizontal axis.
    pub x_axis: String,
    /// Label of the vertical axis.
    pub y_axis: String,
    /// Names of the series.
    pub series: Vec<String>,
    /// The curves; several may belong to one series.
    pub curves: Vec<Curve>,
    /// Whether the horizontal axis has a tick at each point and the curve a mark; otherwise the axis has integer ticks.
    pub at_points: bool,
    /// Whether values are shares, so that their axis ends at 1.
    pub shares: bool,
}

/// Draws curves.
pub(crate) fn curves(plot: &Curves) -> Figure {
    let (left, width, plot_height) = (60.0, WIDTH, 210.0);
    let top = legend_height(&plot.series, width, left) + 8.0;
    let bottom = top + plot_height;
    let mut canvas = Canvas::new(width, bottom + 46.0);
    canvas.legend(&plot.series, (left, 0.0), !plot.at_points);
    let points = || plot.curves.iter().flat_map(|curve| &curve.points);
    let xs: Vec<f64> = points().map(|point| point.x).collect();
    let (x_range, y_range) = ((left + 10.0, width - 14.0), (bottom, top));
    let x_scale =
        if plot.at_points { Scale::of_points(&xs, x_range) } else { Scale::whole(xs, (left, width - 14.0), 8) };
    let ys = points().flat_map(|point| {
        let half = point.interval.unwrap_or(0.0);
        [point.y - half, point.y + half]
    });
    let y_scale = if plot.shares { Scale::shares(ys, y_range, 5) } else { Scale::linear(ys, y_range, 5) };
    for (place, text) in y_scale.ticks() {
        canvas.line([left, place, width - 14.0, place], "var(--grid)", 1.0);
        canvas.text((left - 8.0, place + 4.0), Anchor::End, "var(--muted)", 11.0, &text);
    }
    let mut last_label = f64::NEG_INFINITY;
    for (place, text) in x_scale.ticks() {
        canvas.line([place, bottom, place, bottom + 4.0], "var(--muted)", 1.0);
        // Labels of neighbouring ticks must not overlap.
        if place - last_label >= 7.0 * text.len() as f64 + 6.0 {
            canvas.text((place, bottom + 18.0), Anchor::Middle, "var(--muted)", 11.0, &text);
            last_label = place;
        }
    }
    canvas.line([left, bottom, width - 14.0, bottom], "var(--muted)", 1.0);
    canvas.text(((left + width) / 2.0, bottom + 38.0), Anchor::Middle, "var(--ink)", 12.0, &plot.x_axis);
    canvas.upright((16.0, (top + bottom) / 2.0), "var(--ink)", &plot.y_axis);
    for curve in &plot.curves {
        if curve.points.len() > 1 && curve.points.iter().all(|point| point.interval.is_some()) {
            let edge = |point: &CurvePoint, side: f64| {
                (x_scale.place(point.x), y_scale.place(point.y + side * point.interval.unwrap_or(0.0)))
            };
            let mut outline: Vec<(f64, f64)> = curve.points.iter().map(|point| edge(point, 1.0)).collect();
            outline.extend(curve.points.iter().rev().map(|point| edge(point, -1.0)));
            canvas.area(&outline, &series(curve.series), 0.16);
        }
    }
    for curve in &plot.curves {
        let line: Vec<(f64, f64)> =
            curve.points.iter().map(|point| (x_scale.place(point.x), y_scale.place(point.y))).collect();
        let (width, opacity) = if plot.at_points { (2.0, 1.0) } else { (1.5, 0.8) };
        canvas.polyline(&line, &series(curve.series), width, opacity);
        // A curve with a single point has no visible line, so it gets a mark.
        if plot.at_points || line.len() == 1 {
            for (point, &place) in curve.points.iter().zip(&line) {
                let interval = point.interval.map_or(String::new(), |half| format!(" ± {}", three(half)));
                let name = &plot.series[curve.series];
                canvas.mark(place, curve.series, &format!("{name} at {}: {}{interval}", point.x, three(point.y)));
            }
        }
    }
    Figure::new(plot.title.clone(), canvas)
}
