//! Heat maps: how much each cell of a grid lowers a score. Cells that do not lower it have no colour.

use super::canvas::{Anchor, Canvas};
use super::{Figure, WIDTH, three};

/// The data of the figure.
pub(crate) struct HeatMap {
    /// The caption.
    pub title: String,
    /// Label of the rows.
    pub y_axis: String,
    /// Label of the columns.
    pub x_axis: String,
    /// Row, column and value; rows and columns are the numbers shown on the axes, not indices.
    pub cells: Vec<(usize, usize, f64)>,
}

/// Draws a heat map; the opacity of a cell is its value divided by the largest.
pub(crate) fn heat_map(map: &HeatMap) -> Figure {
    let sorted = |of: fn(&(usize, usize, f64)) -> usize| {
        let mut values: Vec<usize> = map.cells.iter().map(of).collect();
        values.sort_unstable();
        values.dedup();
        values
    };
    let (rows, columns) = (sorted(|cell| cell.0), sorted(|cell| cell.1));
    let (left, top, height) = (64.0, 10.0, 26.0);
    let width = ((WIDTH - left - 14.0) / columns.len().max(1) as f64).clamp(24.0, 42.0);
    let (right, bottom) = (left + width * columns.len() as f64, top + height * rows.len() as f64);
    let mut canvas = Canvas::new(right + 14.0, bottom + 46.0);
    let size = if width < 32.0 { 8.0 } else { 10.0 };
    let largest = map.cells.iter().map(|cell| cell.2).fold(0.0, f64::max);
    for &(row, column, value) in &map.cells {
        let place = |all: &[usize], wanted: usize| all.binary_search(&wanted).unwrap_or_default() as f64;
        let (x, y) = (left + width * place(&columns, column), top + height * place(&rows, row));
        let ink = if largest > 0.0 { (value / largest).clamp(0.0, 1.0) } else { 0.0 };
        let title = format!("{} {row}, {} {column}: {}", map.y_axis, map.x_axis, three(value));
        canvas.rectangle([x + 0.5, y + 0.5, width - 1.0, height - 1.0], "var(--heat)", ink, &title);
        let colour = if ink > 0.55 { "var(--paper)" } else { "var(--ink)" };
        canvas.text((x + width / 2.0, y + height / 2.0 + 4.0), Anchor::Middle, colour, size, &three(value));
    }
    for (place, row) in rows.iter().enumerate() {
        let y = top + height * (place as f64 + 0.5) + 4.0;
        canvas.text((left - 8.0, y), Anchor::End, "var(--muted)", 11.0, &row.to_string());
    }
    for (place, column) in columns.iter().enumerate() {
        let x = left + width * (place as f64 + 0.5);
        canvas.text((x, bottom + 16.0), Anchor::Middle, "var(--muted)", 11.0, &column.to_string());
    }
    canvas.text(((left + right) / 2.0, bottom + 36.0), Anchor::Middle, "var(--ink)", 12.0, &map.x_axis);
    canvas.upright((16.0, (top + bottom) / 2.0), "var(--ink)", &map.y_axis);
    Figure::new(map.title.clone(), canvas)
}
