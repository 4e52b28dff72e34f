//! A confusion matrix: true classes as rows, predicted ones as columns, shaded by the share of the true class.

use super::Figure;
use super::canvas::{Anchor, Canvas, widest};
use etcbench_evaluate::ConfusionMatrix;

/// Above so many classes a cell has no room for its number.
const MOST_NUMBERED: usize = 24;

/// Draws a confusion matrix.
pub(crate) fn confusion(title: String, matrix: &ConfusionMatrix, classes: &[String]) -> Figure {
    let count = classes.len();
    let cell = match count {
        0..=5 => 52.0,
        6..=10 => 38.0,
        11..=MOST_NUMBERED => 30.0,
        _ => 14.0,
    };
    let name_width = widest(classes.iter().map(String::as_str));
    let left = name_width + 34.0;
    let top = name_width * 0.66 + 36.0;
    let side = cell * count as f64;
    // The last slanted name reaches beyond the matrix.
    let mut canvas = Canvas::new(left + side + (name_width * 0.72 - cell / 2.0).max(0.0) + 10.0, top + side + 10.0);
    canvas.text((left + side / 2.0, 13.0), Anchor::Middle, "var(--muted)", 12.0, "predicted class");
    canvas.upright((14.0, top + side / 2.0), "var(--muted)", "true class");
    for (index, name) in classes.iter().enumerate() {
        let middle = cell * (index as f64 + 0.5);
        canvas.text((left - 8.0, top + middle + 4.0), Anchor::End, "var(--ink)", 12.0, name);
        canvas.slanted((left + middle, top - 7.0), "var(--ink)", name);
    }
    for (label, true_class) in classes.iter().enumerate() {
        for (prediction, predicted) in classes.iter().enumerate() {
            let flows = matrix.count(label, prediction);
            let Some(share) = matrix.share(label, prediction).filter(|_| flows > 0) else { continue };
            let (x, y) = (left + cell * prediction as f64, top + cell * label as f64);
            let title =
                format!("{true_class} predicted as {predicted}: {flows} flows, {:.1} % of the class", 100.0 * share);
            canvas.rectangle([x, y, cell, cell], "var(--heat)", 0.08 + 0.92 * share, &title);
            if count <= MOST_NUMBERED {
                let colour = if share > 0.5 { "var(--paper)" } else { "var(--ink)" };
                let size = if cell < 36.0 { 10.0 } else { 12.0 };
                canvas.text((x + cell / 2.0, y + cell / 2.0 + 4.0), Anchor::Middle, colour, size, &flows.to_string());
            }
        }
    }
    for index in 0..=count {
        let offset = cell * index as f64;
        canvas.line([left, top + offset, left + side, top + offset], "var(--grid)", 1.0);
        canvas.line([left + offset, top, left + offset, top + side], "var(--grid)", 1.0);
    }
    Figure::new(title, canvas)
}
