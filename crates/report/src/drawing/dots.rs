//! Dots in rows: one row per model, one mark per variant, with the 95 % confidence interval of the mean if there are
//! several fits.

use super::canvas::{Anchor, Canvas, legend_height, series, widest};
use super::scale::{Scale, short};
use super::{Figure, WIDTH, three};

/// A measured or published value.
pub(crate) struct Dot {
    /// Its row.
    pub row: usize,
    /// Its series; `None` for a published number.
    pub series: Option<usize>,
    /// The value, a mean.
    pub value: f64,
    /// Half the width of its interval.
    pub interval: Option<f64>,
}

/// The data of the figure.
pub(crate) struct Dots {
    /// The caption.
    pub title: String,
    /// Label of the axis, with its unit.
    pub axis: String,
    /// Names of the rows, from the top.
    pub rows: Vec<String>,
    /// Names of the series.
    pub series: Vec<String>,
    /// The marks.
    pub dots: Vec<Dot>,
    /// Whether the axis is logarithmic; otherwise the values are shares from 0 to 1.
    pub logarithmic: bool,
}

/// Draws dots in rows.
pub(crate) fn dots(plot: &Dots) -> Figure {
    let left = 12.0;
    let width = WIDTH.max(widest(plot.rows.iter().map(String::as_str)) + 2.0 * left);
    let published = plot.dots.iter().any(|dot| dot.series.is_none());
    let named = plot.series.len() > 1 || published;
    // The name of a row is above its marks, which are stacked so that none hides another.
    let (spread, name_height) = (11.0, 17.0);
    let row_height = name_height + plot.series.len() as f64 * spread + 6.0;
    let legend =
        if named { legend_height(&plot.series, width, left) + if published { 18.0 } else { 0.0 } } else { 4.0 };
    let (top, bottom) = (legend + 6.0, legend + 6.0 + row_height * plot.rows.len() as f64);
    let mut canvas = Canvas::new(width, bottom + 44.0);
    let values = plot.dots.iter().flat_map(|dot| {
        let half = dot.interval.unwrap_or(0.0);
        [dot.value - half, dot.value + half]
    });
    let range = (left, width - 16.0);
    let scale = if plot.logarithmic {
        Scale::logarithmic(plot.dots.iter().map(|dot| dot.value), range)
    } else {
        Scale::shares(values, range, 5)
    };
    if named {
        let height = canvas.legend(&plot.series, (left, 0.0), false);
        if published {
            canvas.ring((left + 7.0, height + 8.0), "");
            canvas.text(
                (left + 20.0, height + 12.0),
                Anchor::Start,
                "var(--ink)",
                12.0,
                "published, on the paper's own data",
            );
        }
    }
    for (place, text) in scale.ticks() {
        canvas.line([place, top, place, bottom], "var(--grid)", 1.0);
        canvas.text((place, bottom + 16.0), Anchor::Middle, "var(--muted)", 11.0, &text);
    }
    canvas.text(((range.0 + range.1) / 2.0, bottom + 36.0), Anchor::Middle, "var(--ink)", 12.0, &plot.axis);
    for (row, name) in plot.rows.iter().enumerate() {
        let start = top + row_height * row as f64;
        canvas.text((left, start + 13.0), Anchor::Start, "var(--ink)", 12.0, name);
        if row > 0 {
            canvas.line([left, start, range.1, start], "var(--grid)", 0.6);
        }
    }
    for dot in &plot.dots {
        let middle = top + row_height * dot.row as f64 + (name_height + row_height - 6.0) / 2.0;
        let place = scale.place(dot.value);
        let Some(index) = dot.series else {
            canvas.ring((place, middle), &format!("published: {}", three(dot.value)));
            continue;
        };
        let y = middle + (index as f64 - (plot.series.len() as f64 - 1.0) / 2.0) * spread;
        if let Some(half) = dot.interval {
            let ends = [scale.place(dot.value - half), scale.place(dot.value + half)];
            let cap = |end: f64| [end, y - 3.0, end, y + 3.0];
            canvas.lines(&[[ends[0], y, ends[1], y], cap(ends[0]), cap(ends[1])], &series(index), 1.5);
        }
        let value = if plot.logarithmic { short(dot.value) } else { three(dot.value) };
        let half = dot
            .interval
            .map_or(String::new(), |half| format!(" ± {}", if plot.logarithmic { short(half) } else { three(half) }));
        let title = format!("{}, {}: {value}{half}", plot.rows[dot.row], plot.series[index]);
        canvas.mark((place, y), index, &title);
    }
    Figure::new(plot.title.clone(), canvas)
}
