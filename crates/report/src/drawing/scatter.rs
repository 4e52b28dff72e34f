//! What scores cost: a mark per row, its cost along a logarithmic axis and its score upwards. Marks have the numbers of their
//! rows, since names would cover one another.

use super::canvas::{Anchor, Canvas};
use super::scale::{Scale, short};
use super::{Figure, MOST_SERIES, three};

/// One row.
pub(crate) struct ScatterPoint {
    /// What stands at the mark.
    pub number: usize,
    /// The row's name.
    pub name: String,
    /// What it costs, above 0.
    pub cost: f64,
    /// Its score, a share.
    pub score: f64,
}

/// Draws costs against scores.
pub(crate) fn scatter(title: String, cost: &str, score: &str, points: &[ScatterPoint]) -> Figure {
    let (left, right, top, bottom) = (54.0, 470.0, 20.0, 240.0);
    let mut canvas = Canvas::new(right + 24.0, bottom + 44.0);
    let costs = Scale::logarithmic(points.iter().map(|point| point.cost), (left, right));
    let scores = Scale::shares(points.iter().map(|point| point.score), (bottom, top), 5);
    for (place, text) in costs.ticks() {
        canvas.line([place, top, place, bottom], "var(--grid)", 1.0);
        canvas.text((place, bottom + 16.0), Anchor::Middle, "var(--muted)", 11.0, &text);
    }
    for (place, text) in scores.ticks() {
        canvas.line([left, place, right, place], "var(--grid)", 1.0);
        canvas.text((left - 6.0, place + 4.0), Anchor::End, "var(--muted)", 11.0, &text);
    }
    canvas.text(((left + right) / 2.0, bottom + 36.0), Anchor::Middle, "var(--ink)", 12.0, cost);
    canvas.upright((14.0, (top + bottom) / 2.0), "var(--ink)", score);
    for (index, point) in points.iter().enumerate() {
        let place = (costs.place(point.cost), scores.place(point.score));
        let told = format!("{}. {}: {}, {}", point.number, point.name, three(point.score), short(point.cost));
        canvas.mark(place, index % MOST_SERIES, &told);
        canvas.text((place.0 + 8.0, place.1 - 5.0), Anchor::Start, "var(--ink)", 11.0, &point.number.to_string());
    }
    Figure::new(title, canvas)
}
