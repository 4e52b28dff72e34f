//! What every figure draws with: lines, rectangles, text and marks, as SVG elements.

use std::fmt::Write;

/// An SVG that grows.
pub(super) struct Canvas {
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
    /// Its elements.
    pub body: String,
}

/// Where a text stands on its point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Text in which a browser finds no markup.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // No XML has these (XML 1.0, 2.2).
            _ if character.is_control() && !matches!(character, '\t' | '\n' | '\r') => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// The colour of a series.
pub(super) fn series(index: usize) -> String {
    format!("var(--series-{})", index % super::MOST_SERIES)
}

/// About how wide a text of 12 pixels is, in the widest of the usual typefaces: a name of the masks in it must not be cut.
pub(super) fn text_width(text: &str) -> f64 {
    7.2 * text.chars().count() as f64
}

/// The widest of several texts.
pub(super) fn widest<'a>(texts: impl IntoIterator<Item = &'a str>) -> f64 {
    texts.into_iter().map(text_width).fold(0.0, f64::max)
}

impl Canvas {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { width: width.ceil(), height: height.ceil(), body: String::new() }
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(element);
    }

    pub(super) fn line(&mut self, [x1, y1, x2, y2]: [f64; 4], colour: &str, width: f64) {
        self.push(format_args!(
            "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\" fill=\"none\"/>"
        ));
    }

    pub(super) fn dashed(&mut self, [x1, y1, x2, y2]: [f64; 4], colour: &str) {
        self.push(format_args!(
            "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"{colour}\" stroke-dasharray=\"3 3\" fill=\"none\"/>"
        ));
    }

    /// A rectangle `[x, y, width, height]`; `title` is shown where a pointer rests.
    pub(super) fn rectangle(&mut self, [x, y, width, height]: [f64; 4], colour: &str, opacity: f64, title: &str) {
        let title = if title.is_empty() { String::new() } else { format!("<title>{}</title>", escape(title)) };
        self.push(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\" \
             fill-opacity=\"{opacity:.3}\">{title}</rect>"
        ));
    }

    /// A line through points.
    pub(super) fn polyline(&mut self, points: &[(f64, f64)], colour: &str, width: f64, opacity: f64) {
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        self.push(format_args!(
            "<path d=\"M{}\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-opacity=\"{opacity}\" \
             stroke-linejoin=\"round\" fill=\"none\"/>",
            path.join("L")
        ));
    }

    /// A filled shape through points.
    pub(super) fn area(&mut self, points: &[(f64, f64)], colour: &str, opacity: f64) {
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        self.push(format_args!("<path d=\"M{}Z\" fill=\"{colour}\" fill-opacity=\"{opacity}\"/>", path.join("L")));
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, colour: &str, size: f64, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\" font-size=\"{size}\">{}</text>",
            escape(text)
        ));
    }

    /// Text that reads upwards, centred on its point.
    pub(super) fn upright(&mut self, (x, y): (f64, f64), colour: &str, text: &str) {
        self.push(format_args!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-90)\" text-anchor=\"middle\" fill=\"{colour}\">{}</text>",
            escape(text)
        ));
    }

    /// Text that rises to the right from its point.
    pub(super) fn slanted(&mut self, (x, y): (f64, f64), colour: &str, text: &str) {
        self.push(format_args!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-40)\" fill=\"{colour}\" font-size=\"11\">{}</text>",
            escape(text)
        ));
    }

    /// Text that rises to the right and ends at its point.
    pub(super) fn falling(&mut self, (x, y): (f64, f64), colour: &str, text: &str) {
        self.push(format_args!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-40)\" text-anchor=\"end\" fill=\"{colour}\" \
             font-size=\"11\">{}</text>",
            escape(text)
        ));
    }

    /// The mark of a series: its colour and its shape, so that neither has to be recognised alone.
    pub(super) fn mark(&mut self, (x, y): (f64, f64), index: usize, title: &str) {
        let r = 4.5;
        let polygon = |points: &[(f64, f64)]| {
            let path: Vec<String> =
                points.iter().map(|(dx, dy)| format!("{:.1} {:.1}", x + r * dx, y + r * dy)).collect();
            format!("<path d=\"M{}Z\"", path.join("L"))
        };
        let shape = match index % super::MOST_SERIES {
            0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r}\""),
            1 => polygon(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
            2 => polygon(&[(0.0, -1.2), (1.1, 0.9), (-1.1, 0.9)]),
            3 => polygon(&[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)]),
            4 => polygon(&[(0.0, 1.2), (1.1, -0.9), (-1.1, -0.9)]),
            5 => polygon(&[(-1.2, 0.0), (0.9, -1.1), (0.9, 1.1)]),
            6 => polygon(&[(1.2, 0.0), (-0.9, -1.1), (-0.9, 1.1)]),
            _ => polygon(&[(-1.1, -0.45), (1.1, -0.45), (1.1, 0.45), (-1.1, 0.45)]),
        };
        let title = if title.is_empty() { String::new() } else { format!("<title>{}</title>", escape(title)) };
        self.push(format_args!(
            "{shape} fill=\"{}\" stroke=\"var(--paper)\" stroke-width=\"0.8\">{title}",
            series(index)
        ));
        self.body.push_str(if shape.starts_with("<circle") { "</circle>" } else { "</path>" });
    }

    /// A ring, for values that were not measured here.
    pub(super) fn ring(&mut self, (x, y): (f64, f64), title: &str) {
        self.push(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"none\" stroke=\"var(--muted)\" stroke-width=\"1.5\">\
             <title>{}</title></circle>",
            escape(title)
        ));
    }

    /// Names of series with their marks, from `start` on, wrapped at the right edge; gives the height it took.
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

/// The height that [`Canvas::legend`] will take.
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
