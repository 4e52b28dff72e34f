//! What is had for what it costs: a mark per model over a logarithmic axis of costs, and the line through those that no other is
//! both cheaper and better than (the Pareto front).

use super::canvas::{Anchor, Canvas, legend_height};
use super::scale::Scale;
use super::{Figure, three};

/// What is drawn.
pub(crate) struct Scatter {
    /// The caption.
    pub title: String,
    /// What the horizontal axis measures; less is better.
    pub x_axis: String,
    /// What the vertical axis measures, a share; more is better.
    pub y_axis: String,
    /// Name, cost and score of each.
    pub points: Vec<(String, f64, f64)>,
}

/// Places of the points that no other costs at most as much as and scores at least as well, by rising cost.
fn front(points: &[(String, f64, f64)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|&a, &b| points[a].1.total_cmp(&points[b].1).then(points[b].2.total_cmp(&points[a].2)));
    let mut best = f64::NEG_INFINITY;
    order.retain(|&place| {
        let better = points[place].2 > best;
        best = best.max(points[place].2);
        better
    });
    order
}

/// Draws marks and the front.
pub(crate) fn scatter(plot: &Scatter) -> Figure {
    let (left, width, plot_height) = (64.0, 460.0, 240.0);
    let names: Vec<String> = plot.points.iter().map(|(name, ..)| name.clone()).collect();
    let top = legend_height(&names, width, left) + 8.0;
    let bottom = top + plot_height;
    let mut canvas = Canvas::new(width, bottom + 46.0);
    canvas.legend(&names, (left, 0.0), false);
    let x_scale = Scale::logarithmic(plot.points.iter().map(|(_, x, _)| *x), (left + 10.0, width - 14.0));
    let y_scale = Scale::shares(plot.points.iter().map(|(.., y)| *y), (bottom, top), 5);
    for (place, text) in y_scale.ticks() {
        canvas.line([left, place, width - 14.0, place], "var(--grid)", 1.0);
        canvas.text((left - 8.0, place + 4.0), Anchor::End, "var(--muted)", 11.0, &text);
    }
    for (place, text) in x_scale.ticks() {
        canvas.line([place, bottom, place, bottom + 4.0], "var(--muted)", 1.0);
        canvas.text((place, bottom + 18.0), Anchor::Middle, "var(--muted)", 11.0, &text);
    }
    canvas.line([left, bottom, width - 14.0, bottom], "var(--muted)", 1.0);
    canvas.text(((left + width) / 2.0, bottom + 38.0), Anchor::Middle, "var(--ink)", 12.0, &plot.x_axis);
    canvas.upright((16.0, (top + bottom) / 2.0), "var(--ink)", &plot.y_axis);
    let place = |index: usize| (x_scale.place(plot.points[index].1), y_scale.place(plot.points[index].2));
    let line: Vec<(f64, f64)> = front(&plot.points).into_iter().map(place).collect();
    canvas.polyline(&line, "var(--muted)", 1.5, 0.8);
    for (index, (name, x, y)) in plot.points.iter().enumerate() {
        canvas.mark(place(index), index, &format!("{name}: {} at {}", three(*y), three(*x)));
    }
    Figure::new(plot.title.clone(), canvas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_has_what_nothing_beats() {
        let point = |name: &str, x: f64, y: f64| (name.to_owned(), x, y);
        let points = vec![
            point("slow and bad", 100.0, 0.4),
            point("slow and best", 90.0, 0.9),
            point("quick", 1.0, 0.5),
            point("between", 10.0, 0.8),
            point("as dear, worse", 10.0, 0.7),
            point("as good, dearer", 50.0, 0.8),
        ];
        assert_eq!(front(&points), [2, 3, 1]);
        let drawn =
            scatter(&Scatter { title: "t".into(), x_axis: "x".into(), y_axis: "y".into(), points }).to_svg_file();
        assert!(drawn.contains("slow and best: 0.900 at 90.0"), "{drawn}");
    }
}
