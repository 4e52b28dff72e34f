//! The critical-difference diagram (Demšar, 2006): models on a line of mean ranks, those that cannot be told apart
//! joined by a bar.

use super::Figure;
use super::canvas::{Anchor, Canvas, text_width, widest};

/// Draws the diagram: `models` with their mean ranks, the best rank 1.
pub fn critical_difference(title: String, models: &[(String, f64)], difference: f64) -> Figure {
    let mut order: Vec<&(String, f64)> = models.iter().collect();
    order.sort_by(|left, right| left.1.total_cmp(&right.1));
    let count = order.len();
    let bars = cliques(&order.iter().map(|(_, rank)| *rank).collect::<Vec<_>>(), difference);
    let (half, axis_width) = (count.div_ceil(2), 340.0);
    let name_width = widest(order.iter().map(|(name, _)| name.as_str())) + text_width(" 0.00") + 24.0;
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
    for (index, &(first, last)) in bars.iter().enumerate() {
        let y = axis + 11.0 + 9.0 * index as f64;
        canvas.line([place(order[first].1) - 4.0, y, place(order[last].1) + 4.0, y], "var(--ink)", 3.5);
    }
    Figure::new(title, canvas)
}

/// Longest runs of ascending ranks whose ends are no further apart than the critical difference, first and last place.
fn cliques(ranks: &[f64], difference: f64) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for first in 0..ranks.len() {
        let last = (first..ranks.len()).rev().find(|&last| ranks[last] - ranks[first] <= difference).unwrap_or(first);
        // A run inside the one before it says nothing new.
        if last > first && found.last().is_none_or(|&(_, before)| last > before) {
            found.push((first, last));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cliques_are_the_longest_runs_within_the_difference() {
        assert_eq!(cliques(&[1.0, 1.5, 2.4, 4.0], 1.0), [(0, 1), (1, 2)]);
        assert_eq!(cliques(&[1.0, 1.5, 2.0, 4.0], 1.0), [(0, 2)]);
        assert_eq!(cliques(&[1.0, 3.0], 1.0), []);
        assert_eq!(cliques(&[1.0, 2.0, 3.0], 5.0), [(0, 2)]);
    }
}
