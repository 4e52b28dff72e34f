//! The critical-difference diagram (Demšar, 2006): models on a line of mean ranks; a bar joins those that do not differ
//! significantly.

use super::canvas::{Anchor, Canvas, text_width, widest};
use super::{Figure, WIDTH};
use etcbench_evaluate::Friedman;

/// Draws the diagram. `models` are in the same order as the test's `mean_ranks`; rank 1 is the best.
pub(crate) fn critical_difference(title: String, models: &[String], test: &Friedman) -> Figure {
    let difference = test.critical_difference;
    let order: Vec<(&str, f64)> =
        test.order().into_iter().map(|model| (models[model].as_str(), test.mean_ranks[model])).collect();
    let count = order.len();
    let bars = test.groups();
    let half = count.div_ceil(2);
    let name_width = widest(order.iter().map(|(name, _)| *name)) + text_width(" 0.00") + 30.0;
    let (left, right) = (16.0, WIDTH.max(name_width + 40.0) - 16.0);
    let axis_width = right - left;
    let axis = 62.0;
    let bars_height = 9.0 * bars.len() as f64 + 10.0;
    let mut canvas = Canvas::new(right + 16.0, axis + bars_height + 20.0 * count as f64 + 10.0);
    let place = |rank: f64| left + (rank - 1.0) / (count as f64 - 1.0).max(1.0) * axis_width;
    // The scale of the difference itself, above the axis.
    let end = place(1.0 + difference).min(right);
    canvas.line([left, 22.0, end, 22.0], "var(--ink)", 1.5);
    for x in [left, end] {
        canvas.line([x, 18.0, x, 26.0], "var(--ink)", 1.5);
    }
    let beyond = if place(1.0 + difference) > right { " (longer than the axis)" } else { "" };
    let text = format!("critical difference {difference:.2}{beyond}");
    canvas.text((left, 13.0), Anchor::Start, "var(--ink)", 12.0, &text);
    canvas.line([left, axis, right, axis], "var(--ink)", 1.2);
    for rank in 1..=count {
        let x = place(rank as f64);
        canvas.line([x, axis - 6.0, x, axis], "var(--ink)", 1.2);
        canvas.text((x, axis - 10.0), Anchor::Middle, "var(--muted)", 11.0, &rank.to_string());
    }
    // A line leads from each rank down to the model's name, from the middle outwards in either half, so that no line
    // crosses a name of its own half. A name has an opaque background to cover lines of the other half.
    let level = |index: usize| if index < half { half - 1 - index } else { index };
    let row = |index: usize| axis + bars_height + 20.0 * level(index) as f64 + 8.0;
    for (index, (_, rank)) in order.iter().enumerate() {
        let (x, y) = (place(*rank), row(index));
        let end = if index < half { x + 8.0 } else { x - 8.0 };
        canvas.polyline(&[(x, axis), (x, y), (end, y)], "var(--muted)", 1.0, 1.0);
    }
    for (index, (name, rank)) in order.iter().enumerate() {
        let (x, y) = (place(*rank), row(index));
        let label = format!("{name} {rank:.2}");
        let width = 0.9 * text_width(&label);
        // A name that would extend beyond an edge is aligned to it.
        let (anchor, end, start) = match index < half {
            true if x + 12.0 + width > right + 12.0 => (Anchor::End, right + 12.0, right + 12.0 - width),
            true => (Anchor::Start, x + 12.0, x + 12.0),
            false if x - 12.0 - width < 4.0 => (Anchor::Start, 4.0, 4.0),
            false => (Anchor::End, x - 12.0, x - 12.0 - width),
        };
        canvas.rectangle([start - 2.0, y - 8.0, width + 4.0, 16.0], "var(--paper)", 1.0, "");
        canvas.text((end, y + 4.0), anchor, "var(--ink)", 12.0, &label);
        canvas.mark((x, axis), 0, &format!("{name}: mean rank {rank:.2}"));
    }
    for (index, group) in bars.iter().enumerate() {
        let y = axis + 11.0 + 9.0 * index as f64;
        canvas.line([place(order[group.start].1) - 4.0, y, place(order[group.end - 1].1) + 4.0, y], "var(--ink)", 3.5);
    }
    Figure::new(title, canvas)
}
