//! Scores over costs: a mark per row, with its cost on a logarithmic horizontal axis and its score on the vertical
//! axis, and a line through the Pareto front. Marks are labelled with the numbers of their rows, since names would
//! overlap.

use super::canvas::{Anchor, Canvas};
use super::scale::{Scale, short};
use super::{Figure, MAXIMUM_SERIES, three};

/// One row.
pub(crate) struct ScatterPoint {
    /// The label of the mark.
    pub number: usize,
    /// The row's name.
    pub name: String,
    /// Its cost, above 0.
    pub cost: f64,
    /// Its score, a share.
    pub score: f64,
}

/// Returns the indices of the points on the Pareto front, by rising cost.
fn front(points: &[ScatterPoint]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    let cheaper = |a: &ScatterPoint, b: &ScatterPoint| a.cost.total_cmp(&b.cost).then(b.score.total_cmp(&a.score));
    order.sort_by(|&a, &b| cheaper(&points[a], &points[b]));
    let mut best = f64::NEG_INFINITY;
    order.retain(|&place| {
        let better = points[place].score > best;
        best = best.max(points[place].score);
        better
    });
    order
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
    let front =
        front(points).into_iter().map(|index| (costs.place(points[index].cost), scores.place(points[index].score)));
    canvas.polyline(&front.collect::<Vec<_>>(), "var(--muted)", 1.5, 0.8);
    for (index, point) in points.iter().enumerate() {
        let place = (costs.place(point.cost), scores.place(point.score));
        let label = format!("{}. {}: {}, {}", point.number, point.name, three(point.score), short(point.cost));
        canvas.mark(place, index % MAXIMUM_SERIES, &label);
        canvas.text((place.0 + 8.0, place.1 - 5.0), Anchor::Start, "var(--ink)", 11.0, &point.number.to_string());
    }
    Figure::new(title, canvas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_has_the_points_that_no_other_beats() {
        let rows = [
            ("slow and bad", 100.0, 0.4),
            ("slow and best", 90.0, 0.9),
            ("quick", 1.0, 0.5),
            ("between", 10.0, 0.8),
            ("as dear, worse", 10.0, 0.7),
            ("as good, dearer", 50.0, 0.8),
        ];
        let point = |(index, (name, cost, score)): (usize, (&str, f64, f64))| ScatterPoint {
            number: index + 1,
            name: name.to_owned(),
            cost,
            score,
        };
        let points: Vec<ScatterPoint> = rows.into_iter().enumerate().map(point).collect();
        assert_eq!(front(&points), [2, 3, 1]);
        let drawn = scatter("t".to_owned(), "cost", "score", &points).to_svg_file();
        assert!(drawn.contains("2. slow and best: 0.900"), "{drawn}");
    }
}
