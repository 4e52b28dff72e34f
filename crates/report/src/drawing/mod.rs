//! Figures, drawn as SVG from measured values: dots for models, bars for classes, confusion matrices, curves, heat
//! maps, ladders, scatter plots, reliability and critical-difference diagrams. On a page, a figure uses the colours of
//! the page's theme; in a file for a paper, the colours are fixed and the background is transparent.

mod bars;
mod canvas;
mod confusion;
mod critical_difference;
mod curves;
mod dots;
mod heat_map;
mod ladder;
mod reliability;
mod scale;
mod scatter;

pub(super) use bars::{ClassBars, class_bars};
pub(super) use confusion::confusion;
pub(super) use critical_difference::critical_difference;
pub(super) use curves::{Curve, CurvePoint, Curves, curves};
pub(super) use dots::{Dot, Dots, dots};
pub(super) use heat_map::{HeatMap, heat_map};
pub(super) use ladder::{LadderLine, LadderPlot, LadderPoint, ladder_figure};
pub(super) use reliability::reliability_diagram;
pub(super) use scatter::{ScatterPoint, scatter};

use std::collections::BTreeMap;

use canvas::{Canvas, LOOK, LOOK_END, SHARED, SHARED_END};

/// The names of colours on a page, and their values in a file.
const PAPER_COLOURS: [(&str, &str); 13] = [
    ("ink", "#1c2024"),
    ("muted", "#5b646d"),
    ("grid", "#dde1e5"),
    ("paper", "#ffffff"),
    ("heat", "#1f5fa8"),
    ("series-0", "#1f5fa8"),
    ("series-1", "#c8520b"),
    ("series-2", "#17806a"),
    ("series-3", "#9c3f86"),
    ("series-4", "#8a6a00"),
    ("series-5", "#3592b9"),
    ("series-6", "#5f656b"),
    ("series-7", "#b03548"),
];

/// The usual width of a figure: a phone shows it without scrolling, and wider screens show several side by side.
const WIDTH: f64 = 380.0;

/// The number of series with a distinct colour and shape.
pub(super) const MAXIMUM_SERIES: usize = 8;

/// A drawn figure.
#[derive(Debug, Clone)]
pub struct Figure {
    /// The caption.
    pub title: String,
    /// Width in CSS pixels.
    width: f64,
    /// Height in CSS pixels.
    height: f64,
    body: String,
}

impl Figure {
    fn new(title: String, canvas: Canvas) -> Self {
        Self { title, width: canvas.width, height: canvas.height, body: canvas.body }
    }

    /// Renders the figure for a page that defines the colours and includes the style sheet of `looks`.
    pub(super) fn to_html(&self, looks: &Looks) -> String {
        let (width, height) = (self.width, self.height);
        // A figure much wider than the others is scrolled, since it would be unreadable at their width.
        let wide = if width > 1.3 * WIDTH { " class=\"wide\"" } else { "" };
        let title = canvas::escape(&self.title);
        let mut body = String::new();
        for (part, is_shared) in parts(&self.body) {
            match looks.shared.get(part).filter(|_| is_shared) {
                Some(name) => body += &format!("<use href=\"#{name}\"/>"),
                None => body += &looks.drawn(part),
            }
        }
        format!(
            "<svg{wide} width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-label=\"{title}\">{body}</svg>"
        )
    }

    /// Renders the figure as a standalone file.
    pub fn to_svg_file(&self) -> String {
        let mut svg = self.svg(" xmlns=\"http://www.w3.org/2000/svg\"");
        for (name, colour) in PAPER_COLOURS {
            svg = svg.replace(&format!("var(--{name})"), colour);
        }
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{svg}\n")
    }

    /// Renders the drawing with all attributes.
    fn svg(&self, attributes: &str) -> String {
        let (width, height) = (self.width, self.height);
        format!(
            "<svg{attributes} width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-label=\"{}\" font-family=\"system-ui, 'Segoe UI', 'Liberation Sans', Helvetica, Arial, sans-serif\" \
             font-size=\"12\">{}</svg>",
            canvas::escape(&self.title),
            self.body.replace([LOOK, LOOK_END, SHARED, SHARED_END], "")
        )
    }
}

/// Splits a drawing into parts, each with whether other figures may share it.
fn parts(body: &str) -> impl Iterator<Item = (&str, bool)> {
    body.split(SHARED).enumerate().flat_map(|(number, part)| match part.split_once(SHARED_END) {
        Some((shared, rest)) => [(shared, true), (rest, false)],
        None => [(part, number > 0), ("", false)],
    })
}

/// What a page defines once for all of its figures: a CSS class for each set of presentation attributes, and the parts
/// that several figures share.
pub(super) struct Looks {
    classes: BTreeMap<String, String>,
    /// The shared parts: drawing to name.
    shared: BTreeMap<String, String>,
}

impl Looks {
    /// Collects the presentation attributes and shared parts of these figures.
    pub(super) fn of<'a>(figures: impl IntoIterator<Item = &'a Figure>) -> Self {
        let mut looks = BTreeMap::new();
        let mut shared: BTreeMap<&str, (usize, ())> = BTreeMap::new();
        for figure in figures {
            for (part, _) in parts(&figure.body).filter(|(_, is_shared)| *is_shared) {
                shared.entry(part).or_default().0 += 1;
            }
            for part in figure.body.split(LOOK).skip(1) {
                let (look, _) = part.split_once(LOOK_END).unwrap_or((part, ""));
                looks.entry(look.to_owned()).or_default();
            }
        }
        for (number, class) in looks.values_mut().enumerate() {
            *class = format!("f{number}");
        }
        shared.retain(|_, (count, _)| *count > 1);
        let named = shared.into_iter().enumerate().map(|(number, (part, _))| (part.to_owned(), format!("x{number}")));
        Self { classes: looks, shared: named.collect() }
    }

    /// Renders a part of a drawing with CSS classes in place of presentation attributes.
    fn drawn(&self, part: &str) -> String {
        let mut pieces = part.split(LOOK);
        let mut drawn = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (look, rest) = piece.split_once(LOOK_END).unwrap_or((piece, ""));
            drawn += &format!(" class=\"{}\"", self.classes.get(look).map_or("", String::as_str));
            drawn += rest;
        }
        drawn
    }

    /// Renders the shared parts as a hidden drawing.
    pub(super) fn to_definitions(&self) -> String {
        let parts = self.shared.iter().map(|(part, name)| format!("<g id=\"{name}\">{}</g>", self.drawn(part)));
        let parts: String = parts.collect();
        format!("<svg class=\"hidden\" width=\"0\" height=\"0\" aria-hidden=\"true\"><defs>{parts}</defs></svg>")
    }

    /// Renders the style sheet.
    pub(super) fn to_css(&self) -> String {
        let rule = |(look, class): (&String, &String)| {
            // An attribute becomes a property of the same name; a length needs a unit.
            let properties = look.split("\" ").map(|attribute| {
                let (name, value) = attribute.trim().trim_end_matches('"').split_once("=\"").unwrap_or_default();
                let unit = if name == "font-size" { "px" } else { "" };
                format!("{name}:{value}{unit}")
            });
            format!(".{class}{{{}}}\n", properties.collect::<Vec<_>>().join(";"))
        };
        self.classes.iter().map(rule).collect()
    }
}

/// Formats a value with three decimals, for tooltips and labels.
fn three(value: f64) -> String {
    format!("{value:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_no_colour_of_the_page_left() {
        let mut canvas = Canvas::new(100.0, 20.0);
        for (index, (name, _)) in PAPER_COLOURS.iter().enumerate() {
            canvas.rectangle([index as f64, 0.0, 1.0, 1.0], &format!("var(--{name})"), 1.0, "a < b");
        }
        let file = Figure::new("a & b".to_owned(), canvas).to_svg_file();
        assert!(!file.contains("var("), "{file}");
        assert!(file.contains("aria-label=\"a &amp; b\"") && file.contains("<title>a &lt; b</title>"), "{file}");
        assert!(!file.contains(|letter: char| letter.is_control() && letter != '\n'), "{file}");
    }

    #[test]
    fn a_page_defines_each_look_once() {
        let mut canvas = Canvas::new(100.0, 20.0);
        canvas.line([0.0, 0.0, 5.0, 0.0], "var(--grid)", 1.0);
        canvas.line([0.0, 9.0, 5.0, 9.0], "var(--grid)", 1.0);
        canvas.text((1.0, 2.0), canvas::Anchor::End, "var(--ink)", 11.0, "a\u{1}b");
        let figure = Figure::new("t".to_owned(), canvas);
        let looks = Looks::of([&figure]);
        let css =
            ".f0{stroke:var(--grid);stroke-width:1;fill:none}\n.f1{text-anchor:end;fill:var(--ink);font-size:11px}\n";
        assert_eq!(looks.to_css(), css);
        assert!(!looks.to_definitions().contains("<g "), "{}", looks.to_definitions());
        let html = figure.to_html(&looks);
        assert!(html.contains("<path d=\"M0 0h5\" class=\"f0\"/><path d=\"M0 9h5\" class=\"f0\"/>"), "{html}");
        assert!(html.contains("<text x=\"1\" y=\"2\" class=\"f1\">a\u{fffd}b</text>"), "{html}");
        // A part that two figures share is emitted once.
        let alike = |own: f64| {
            let mut canvas = Canvas::new(10.0, 10.0);
            canvas.line([0.0, 0.0, own, 0.0], "var(--grid)", 1.0);
            canvas.shared(|canvas| canvas.line([0.0, 9.0, 5.0, 9.0], "var(--grid)", 1.0));
            Figure::new("t".to_owned(), canvas)
        };
        let (first, second) = (alike(1.0), alike(2.0));
        let looks = Looks::of([&first, &second]);
        let line = "<path d=\"M0 9h5\" class=\"f0\"/>";
        assert!(looks.to_definitions().contains(&format!("<g id=\"x0\">{line}</g>")), "{}", looks.to_definitions());
        let html = first.to_html(&looks);
        assert!(html.ends_with("<path d=\"M0 0h1\" class=\"f0\"/><use href=\"#x0\"/></svg>"), "{html}");
        assert!(second.to_html(&Looks::of([&second])).contains(line));
        assert!(second.to_svg_file().contains("<path d=\"M0 9h5\" stroke=\"#dde1e5\""), "{}", second.to_svg_file());
    }
}
