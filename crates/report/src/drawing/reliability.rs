//! A reliability diagram: the accuracy of the flows in each range of confidence, and the number of those flows.

use super::canvas::{Anchor, Canvas};
use super::scale::Scale;
use super::{Figure, three};
use etcbench_evaluate::ReliabilityBin;
use etcbench_storage::counted;

/// Draws a reliability diagram; `note` is shown above it, where no bar can cover it.
pub(crate) fn reliability_diagram(title: String, bins: &[ReliabilityBin], note: &str) -> Figure {
    let (left, side, below) = (60.0, 260.0, 56.0);
    let (top, right) = (if note.is_empty() { 12.0 } else { 28.0 }, left + side);
    let bottom = top + side;
    let mut canvas = Canvas::new(right + 16.0, bottom + below + 56.0);
    let x_scale = Scale::linear([0.0, 1.0], (left, right), 5);
    let y_scale = Scale::linear([0.0, 1.0], (bottom, top), 5);
    let floor = bottom + 12.0 + below;
    canvas.shared(|canvas| {
        for (place, text) in y_scale.ticks() {
            canvas.line([left, place, right, place], "var(--grid)", 1.0);
            canvas.text((left - 8.0, place + 4.0), Anchor::End, "var(--muted)", 11.0, &text);
        }
        canvas.upright((16.0, (top + bottom) / 2.0), "var(--ink)", "accuracy");
        canvas.dashed([left, bottom, right, top], "var(--muted)");
        canvas.line([left, bottom, right, bottom], "var(--muted)", 1.0);
        canvas.line([left, floor, right, floor], "var(--muted)", 1.0);
        for (place, text) in x_scale.ticks() {
            canvas.text((place, floor + 15.0), Anchor::Middle, "var(--muted)", 11.0, &text);
        }
        canvas.text((left - 8.0, floor), Anchor::End, "var(--muted)", 11.0, "flows");
        let middle = (left + right) / 2.0;
        canvas.text((middle, floor + 34.0), Anchor::Middle, "var(--ink)", 12.0, "highest probability");
    });
    let most = bins.iter().map(|bin| bin.flows).max().unwrap_or(0).max(1);
    for bin in bins {
        let (start, end) = (x_scale.place(bin.low), x_scale.place(bin.high));
        let (Some(confidence), Some(accuracy)) = (bin.mean_confidence, bin.accuracy) else { continue };
        let title = format!(
            "{:.2} to {:.2}: {}, mean confidence {}, accuracy {}",
            bin.low,
            bin.high,
            counted(bin.flows, "flow"),
            three(confidence),
            three(accuracy)
        );
        let place = y_scale.place(accuracy);
        canvas.begin_group(&title);
        canvas.rectangle(
            [start + 1.0, place, end - start - 2.0, (bottom - place).max(0.8)],
            "var(--series-0)",
            0.3,
            "",
        );
        canvas.mark((x_scale.place(confidence), place), 0, "");
        let height = below * bin.flows as f64 / most as f64;
        canvas.rectangle([start + 1.0, floor - height, end - start - 2.0, height.max(0.8)], "var(--muted)", 0.6, "");
        canvas.end_group();
    }
    canvas.text((left - 8.0, floor - below + 8.0), Anchor::End, "var(--muted)", 11.0, &most.to_string());
    canvas.text((left, 13.0), Anchor::Start, "var(--ink)", 12.0, note);
    Figure::new(title, canvas)
}
