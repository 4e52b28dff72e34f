//! The critical-difference diagram (Demšar, 2006): models on a line of mean ranks, those that cannot be told apart
//! joined by a bar.

use super::Figure;
use super::canvas::{Anchor, Canvas, text_width, widest};
use etcbench_evaluate::Friedman;

/// Draws the diagram: `models` in the order of the test's mean ranks, the best rank 1.
pub(crate) fn critical_difference(title: String, models: &[String], test: &Friedman) -> Figure {
    let difference = test.critical_difference;
    let order: Vec<(&str, f64)> =
        test.order().into_iter().map(|model| (models[model].as_str(), test.mean_ranks[model])).collect();
    let count = order.len();
    let bars = test.groups();
    let (half, axis_width) = (count.div_ceil(2), 340.0);
    let name_width = widest(order.iter().map(|(name, _)| *name)) + text_width(" 0.00") + 24.0;
    let (left, right) = (name_width, name_width + axis_width);
    let axis = 62.0;
    let bars_height = 9.0 * bars.len() as f64 + 10.0;
    let mut canvas = Canvas::new(right + name_width, axis + bars_height + 20.0 * half as f64 + 10.0);
    let place = |rank: f64| left + (rank - 1.0) / (count as f64 - 1.0).max(1.0) * axis_width;
    // The scale of the difference itself, above the axis.
    let end = place(1.0 + difference).min(right);
    canvas.line([left, 22.0, end, 22.0], "var(--ink)", 1.5);
    for x in [left, end] {
        canvas.line([x, 18.0, x, 26.0], "var(--ink)", 1.5);
    }
    let beyond = if place(1.0 + difference) > right { " (longer than the axis)" } else { "" };
    let told = format!("critical difference {difference:.2}{beyond}");
    canvas.text((left, 13.0), Anchor::Start, "var(--ink)", 12.0, &told);
    canvas.line([left, axis, right, axis], "var(--ink)", 1.2);
    for rank in 1..=count {
        let x = place(rank as f64);
        canvas.line([x, axis - 6.0, x, axis], "var(--ink)", 1.2);
        canvas.text((x, axis - 10.0), Anchor::Middle, "var(--muted)", 11.0, &rank.to_string());
    }
    for (index, (name, rank)) in order.iter().enumerate() {
        let x = place(*rank);
        // The better half is named on the left, best first; the others on the right, worst first.
        let (level, on_left) = if index < half { (index, true) } else { (count - 1 - index, false) };
        let y = axis + bars_height + 20.0 * level as f64 + 8.0;
        let edge = if on_left { left - 8.0 } else { right + 8.0 };
        canvas.polyline(&[(x, axis), (x, y), (edge, y)], "var(--muted)", 1.0, 1.0);
        canvas.mark((x, axis), 0, &format!("{name}: mean rank {rank:.2}"));
        if on_left {
            canvas.text((edge - 6.0, y + 4.0), Anchor::End, "var(--ink)", 12.0, &format!("{name} {rank:.2}"));
        } else {
            canvas.text((edge + 6.0, y + 4.0), Anchor::Start, "var(--ink)", 12.0, &format!("{rank:.2} {name}"));
        }
    }
    for (index, group) in bars.iter().enumerate() {
        let y = axis + 11.0 + 9.0 * index as f64;
        canvas.line([place(order[group.start].1) - 4.0, y, place(order[group.end - 1].1) + 4.0, y], "var(--ink)", 3.5);
    }
    Figure::new(title, canvas)
}
