//! Drawing primitives of all figures: lines, rectangles, text and marks, as SVG elements.

use std::fmt::Write;

use crate::cell_text::visible;

/// An SVG under construction.
pub(super) struct Canvas {
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
    /// Its elements.
    pub body: String,
}

/// Delimiters of the presentation attributes of an element in a drawing: a page defines these once for all of its
/// figures, a file repeats them at each element. Text never contains the delimiters, since [`escape`] replaces control
/// characters.
pub(super) const LOOK: char = '\u{1}';
pub(super) const LOOK_END: char = '\u{2}';

/// Delimiters of a part of a drawing that other figures share, such as axes: a page includes it once.
pub(super) const SHARED: char = '\u{3}';
pub(super) const SHARED_END: char = '\u{4}';

/// The alignment of a text at its point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Escapes text for HTML and SVG.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in visible(text).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML does not allow these characters (XML 1.0, 2.2).
            _ if character.is_control() && !matches!(character, '\t' | '\n' | '\r') => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Formats a coordinate to a tenth of a pixel, as short as possible.
fn number(value: f64) -> String {
    let tenths = (value * 10.0).round();
    // A value that rounds to zero has no sign.
    if tenths == 0.0 { "0".to_owned() } else { format!("{}", tenths / 10.0) }
}

/// Returns a path through points: the first absolute, the others relative to the previous one.
fn path(points: &[(f64, f64)]) -> String {
    let tenths = |value: f64| (value * 10.0).round() as i64;
    let mut path = String::new();
    let mut last = (0, 0);
    let mut command = ' ';
    for (index, (x, y)) in points.iter().enumerate() {
        let (x, y) = (tenths(*x), tenths(*y));
        let (next, numbers) = match (index, x - last.0, y - last.1) {
            (0, ..) => ('M', vec![x, y]),
            (_, step, 0) => ('h', vec![step]),
            (_, 0, step) => ('v', vec![step]),
            (_, right, down) => ('l', vec![right, down]),
        };
        for (place, tenth) in numbers.into_iter().enumerate() {
            let text = match (tenth / 10, tenth % 10) {
                (whole, 0) => whole.to_string(),
                (0, rest) => format!("{}.{}", if rest < 0 { "-" } else { "" }, rest.abs()),
                (whole, rest) => format!("{whole}.{}", rest.abs()),
            };
            if place == 0 && next != command {
                path.push(next);
            } else if !text.starts_with('-') {
                path.push(' ');
            }
            path.push_str(&text);
        }
        (last, command) = ((x, y), next);
    }
    path
}

/// Returns the colour of a series.
pub(super) fn series(index: usize) -> String {
    format!("var(--series-{})", index % super::MAXIMUM_SERIES)
}

/// Estimates the width of a text of 12 pixels in the widest of the usual typefaces, so that long names of masks are not
/// cut off.
pub(super) fn text_width(text: &str) -> f64 {
    7.2 * text.chars().count() as f64
}

/// Returns the largest width of several texts.
pub(super) fn widest<'a>(texts: impl IntoIterator<Item = &'a str>) -> f64 {
    texts.into_iter().map(text_width).fold(0.0, f64::max)
}

impl Canvas {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { width: width.ceil(), height: height.ceil(), body: String::new() }
    }

    /// Marks what `draw` draws as likely to be identical in other figures.
    pub(super) fn shared(&mut self, draw: impl FnOnce(&mut Self)) {
        self.body.push(SHARED);
        draw(self);
        self.body.push(SHARED_END);
    }

    /// Gives everything up to [`Canvas::end_group`] the tooltip `title`.
    pub(super) fn begin_group(&mut self, title: &str) {
        self.push(format_args!("<g><title>{}</title>", escape(title)));
    }

    pub(super) fn end_group(&mut self) {
        self.body.push_str("</g>");
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(element);
    }

    pub(super) fn line(&mut self, [x1, y1, x2, y2]: [f64; 4], colour: &str, width: f64) {
        let path = path(&[(x1, y1), (x2, y2)]);
        self.push(format_args!(
            "<path d=\"{path}\"{LOOK} stroke=\"{colour}\" stroke-width=\"{width}\" fill=\"none\"{LOOK_END}/>"
        ));
    }

    /// Draws several lines of the same style.
    pub(super) fn lines(&mut self, lines: &[[f64; 4]], colour: &str, width: f64) {
        let paths: String = lines.iter().map(|[x1, y1, x2, y2]| path(&[(*x1, *y1), (*x2, *y2)])).collect();
        self.push(format_args!(
            "<path d=\"{paths}\"{LOOK} stroke=\"{colour}\" stroke-width=\"{width}\" fill=\"none\"{LOOK_END}/>"
        ));
    }

    pub(super) fn dashed(&mut self, [x1, y1, x2, y2]: [f64; 4], colour: &str) {
        let path = path(&[(x1, y1), (x2, y2)]);
        self.push(format_args!(
            "<path d=\"{path}\"{LOOK} stroke=\"{colour}\" stroke-dasharray=\"3 3\" fill=\"none\"{LOOK_END}/>"
        ));
    }

    /// Draws a rectangle `[x, y, width, height]` with the tooltip `title`.
    pub(super) fn rectangle(&mut self, [x, y, width, height]: [f64; 4], colour: &str, opacity: f64, title: &str) {
        let [x, y, width, height] = [x, y, width, height].map(number);
        let opacity = (opacity * 1000.0).round() / 1000.0;
        let look = if opacity < 1.0 { format!(" fill-opacity=\"{opacity}\"") } else { String::new() };
        let end = match title.is_empty() {
            true => "/>".to_owned(),
            false => format!("><title>{}</title></rect>", escape(title)),
        };
        self.push(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"{look}{LOOK} fill=\"{colour}\"{LOOK_END}{end}"
        ));
    }

    /// Draws a line through points.
    pub(super) fn polyline(&mut self, points: &[(f64, f64)], colour: &str, width: f64, opacity: f64) {
        let path = path(points);
        self.push(format_args!(
            "<path d=\"{path}\"{LOOK} stroke=\"{colour}\" stroke-width=\"{width}\" stroke-opacity=\"{opacity}\" \
             stroke-linejoin=\"round\" fill=\"none\"{LOOK_END}/>"
        ));
    }

    /// Draws a filled shape through points.
    pub(super) fn area(&mut self, points: &[(f64, f64)], colour: &str, opacity: f64) {
        let path = path(points);
        self.push(format_args!("<path d=\"{path}Z\"{LOOK} fill=\"{colour}\" fill-opacity=\"{opacity}\"{LOOK_END}/>"));
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, colour: &str, size: f64, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(format_args!(
            "<text x=\"{}\" y=\"{}\"{LOOK} text-anchor=\"{anchor}\" fill=\"{colour}\" font-size=\"{size}\"{LOOK_END}>{}</text>",
            number(x),
            number(y),
            escape(text)
        ));
    }

    /// Draws text that reads upwards, centred on its point.
    pub(super) fn upright(&mut self, (x, y): (f64, f64), colour: &str, text: &str) {
        self.push(format_args!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-90)\"{LOOK} text-anchor=\"middle\" fill=\"{colour}\"{LOOK_END}>{}</text>",
            escape(text)
        ));
    }

    /// Draws text that rises to the right and ends at its point.
    pub(super) fn falling(&mut self, (x, y): (f64, f64), colour: &str, text: &str) {
        self.push(format_args!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-40)\"{LOOK} text-anchor=\"end\" fill=\"{colour}\" \
             font-size=\"11\"{LOOK_END}>{}</text>",
            escape(text)
        ));
    }

    /// Draws the mark of a series, which has both its own colour and its own shape so that neither has to be recognised
    /// alone.
    pub(super) fn mark(&mut self, (x, y): (f64, f64), index: usize, title: &str) {
        const R: f64 = 4.5;
        let polygon = |points: &[(f64, f64)]| {
            let placed: Vec<(f64, f64)> = points.iter().map(|(dx, dy)| (x + R * dx, y + R * dy)).collect();
            format!("<path d=\"{}Z\"", path(&placed))
        };
        let shape = match index % super::MAXIMUM_SERIES {
            0 => format!("<circle cx=\"{}\" cy=\"{}\" r=\"{R}\"", number(x), number(y)),
            1 => polygon(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
            2 => polygon(&[(0.0, -1.2), (1.1, 0.9), (-1.1, 0.9)]),
            3 => polygon(&[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)]),
            4 => polygon(&[(0.0, 1.2), (1.1, -0.9), (-1.1, -0.9)]),
            5 => polygon(&[(-1.2, 0.0), (0.9, -1.1), (0.9, 1.1)]),
            6 => polygon(&[(1.2, 0.0), (-0.9, -1.1), (-0.9, 1.1)]),
            _ => polygon(&[(-1.1, -0.45), (1.1, -0.45), (1.1, 0.45), (-1.1, 0.45)]),
        };
        let name = if shape.starts_with("<circle") { "circle" } else { "path" };
        let end = match title.is_empty() {
            true => "/>".to_owned(),
            false => format!("><title>{}</title></{name}>", escape(title)),
        };
        let colour = series(index);
        self.push(format_args!(
            "{shape}{LOOK} fill=\"{colour}\" stroke=\"var(--paper)\" stroke-width=\"0.8\"{LOOK_END}{end}"
        ));
    }

    /// Draws a ring, for values that were not measured here.
    pub(super) fn ring(&mut self, (x, y): (f64, f64), title: &str) {
        self.push(format_args!(
            "<circle cx=\"{}\" cy=\"{}\" r=\"4\"{LOOK} fill=\"none\" stroke=\"var(--muted)\" stroke-width=\"1.5\"{LOOK_END}>\
             <title>{}</title></circle>",
            number(x),
            number(y),
            escape(title)
        ));
    }

    /// Draws the names of series with their marks from `(left, top)`, wrapped at the right edge, and returns its
    /// height.
    pub(super) fn legend(&mut self, names: &[String], (left, top): (f64, f64), lines_only: bool) -> f64 {
        let (mut x, mut y) = (left, top + 8.0);
        for (index, name) in names.iter().enumerate() {
            let width = 22.0 + text_width(name) + 12.0;
            if x + width > self.width && x > left {
                (x, y) = (left, y + 18.0);
            }
            if lines_only {
                self.line([x, y, x + 14.0, y], &series(index), 2.0);
            } else {
                self.mark((x + 7.0, y), index, "");
            }
            self.text((x + 20.0, y + 4.0), Anchor::Start, "var(--ink)", 12.0, name);
            x += width;
        }
        y + 10.0 - top
    }
}

/// Returns the height of [`Canvas::legend`].
pub(super) fn legend_height(names: &[String], width: f64, left: f64) -> f64 {
    let (mut x, mut height) = (left, 18.0);
    for name in names {
        let entry = 22.0 + text_width(name) + 12.0;
        if x + entry > width && x > left {
            (x, height) = (left, height + 18.0);
        }
        x += entry;
    }
    height
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_briefly() {
        let points = [(10.0, 20.04), (10.5, 20.0), (10.5, 18.26), (9.0, 18.3), (9.4, 18.8), (9.3, 17.7)];
        assert_eq!(path(&points), "M10 20h.5v-1.7h-1.5l.4 .5-.1-1.1");
        assert_eq!([276.0, 0.04, -0.04, 12.345, -3.5].map(number), ["276", "0", "0", "12.3", "-3.5"]);
    }
}
