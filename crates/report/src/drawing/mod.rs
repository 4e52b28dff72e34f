//! Figures, drawn as SVG from what was measured: dots for models, bars for classes, confusion matrices, curves, heat maps, ladders,
//! reliability and critical-difference diagrams. A figure knows two inks: on a page its colours are those of the
//! page's theme, in a file for a paper they are fixed and dark on nothing.

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

use canvas::Canvas;

/// The names of colours on a page, and what they are in a file.
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

/// How many series have a colour and a shape of their own.
pub(super) const MOST_SERIES: usize = 8;

/// A drawn figure.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What it shows, for a caption.
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

    /// The figure as part of a page that defines the colours.
    pub(super) fn to_html(&self) -> String {
        self.svg("")
    }

    /// The figure as a file of its own.
    pub fn to_svg_file(&self) -> String {
        let mut svg = self.svg(" xmlns=\"http://www.w3.org/2000/svg\"");
        for (name, colour) in PAPER_COLOURS {
            svg = svg.replace(&format!("var(--{name})"), colour);
        }
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{svg}\n")
    }

    fn svg(&self, attributes: &str) -> String {
        let (width, height) = (self.width, self.height);
        format!(
            "<svg{attributes} width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-label=\"{}\" font-family=\"system-ui, 'Segoe UI', 'Liberation Sans', Helvetica, Arial, sans-serif\" \
             font-size=\"12\">{}</svg>",
            canvas::escape(&self.title),
            self.body
        )
    }
}

/// Three decimals for what is shown beside marks.
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
    }
}
