//! A confusion matrix: true classes as rows, predicted ones as columns, shaded by the share of the true class.

use super::canvas::{Anchor, Canvas, widest};
use super::{Figure, WIDTH};
use etcbench_evaluate::ConfusionMatrix;
use etcbench_storage::counted;

/// With more classes than this, a cell is too small for its number.
const MAXIMUM_NUMBERED_CLASSES: usize = 24;

/// Draws a confusion matrix.
pub(crate) fn confusion(title: String, matrix: &ConfusionMatrix, classes: &[String]) -> Figure {
    let count = classes.len();
    // Columns have the numbers of the rows, since names would take more space than the matrix.
    let rows: Vec<String> = classes.iter().enumerate().map(|(index, name)| format!("{name} {}", index + 1)).collect();
    let left = widest(rows.iter().map(String::as_str)) + 26.0;
    let smallest = if count > MAXIMUM_NUMBERED_CLASSES { 10.0 } else { 16.0 };
    let cell = ((WIDTH - left - 10.0) / count.max(1) as f64).clamp(smallest, 52.0);
    let top = 36.0;
    let side = cell * count as f64;
    let mut canvas = Canvas::new(left + side + 10.0, top + side + 10.0);
    canvas.shared(|canvas| {
        canvas.text((left + side / 2.0, 13.0), Anchor::Middle, "var(--muted)", 12.0, "predicted class");
        canvas.upright((14.0, top + side / 2.0), "var(--muted)", "true class");
        for (index, name) in rows.iter().enumerate() {
            let middle = cell * (index as f64 + 0.5);
            let size = if cell < 14.0 { 9.0 } else { 12.0 };
            canvas.text((left - 8.0, top + middle + 4.0), Anchor::End, "var(--ink)", size, name);
            if cell >= 14.0 || index % 5 == 4 {
                let number = (index + 1).to_string();
                canvas.text((left + middle, top - 7.0), Anchor::Middle, "var(--muted)", size.min(11.0), &number);
            }
        }
    });
    for (label, true_class) in classes.iter().enumerate() {
        for (prediction, predicted) in classes.iter().enumerate() {
            let flows = matrix.count(label, prediction);
            let Some(share) = matrix.share(label, prediction).filter(|_| flows > 0) else { continue };
            let (x, y) = (left + cell * prediction as f64, top + cell * label as f64);
            let title =
                format!("{true_class} as {predicted}: {}, {:.1} % of the class", counted(flows, "flow"), 100.0 * share);
            canvas.rectangle([x, y, cell, cell], "var(--heat)", 0.08 + 0.92 * share, &title);
            if count <= MAXIMUM_NUMBERED_CLASSES {
                let colour = if share > 0.5 { "var(--paper)" } else { "var(--ink)" };
                let text = flows.to_string();
                // A digit is about 0.6 times its font size wide.
                let size = ((cell - 2.0) / (0.6 * text.len() as f64)).clamp(6.0, 12.0).floor();
                canvas.text((x + cell / 2.0, y + cell / 2.0 + size / 3.0), Anchor::Middle, colour, size, &text);
            }
        }
    }
    let grid = (0..=count).map(|index| cell * index as f64).flat_map(|offset| {
        [[left, top + offset, left + side, top + offset], [left + offset, top, left + offset, top + side]]
    });
    canvas.shared(|canvas| canvas.lines(&grid.collect::<Vec<_>>(), "var(--grid)", 1.0));
    Figure::new(title, canvas)
}
