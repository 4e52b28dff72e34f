//! A value over one axis of a sweep: a line with its confidence band where the axis is of numbers, marks with bars
//! where it is of names.

use std::fmt::Write;

use super::{COLOURS, escaped, ticks};

const WIDTH: f64 = 680.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 56.0;
const LEGEND_LINE: f64 = 20.0;
/// Width of a character at the size of labels, on the wide side.
const CHARACTER: f64 = 7.0;

/// What a figure shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// The line above it.
    pub title: String,
    /// The swept key.
    pub axis: String,
    /// What is measured.
    pub metric: String,
    /// The swept values in order.
    pub positions: Vec<Position>,
    /// A line each.
    pub series: Vec<Series>,
    /// What a reader must know, below it.
    pub note: String,
}

/// One swept value.
#[derive(Debug, Clone, PartialEq)]
pub struct Position {
    /// As it is written.
    pub label: String,
    /// As a number, where it is one.
    pub value: Option<f64>,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// Its points, by position.
    pub points: Vec<CurvePoint>,
}

/// The value of a series at a position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurvePoint {
    /// Index of the position.
    pub position: usize,
    /// Mean over seeds and folds.
    pub mean: f64,
    /// Half the width of the confidence interval of the mean; none for one fit.
    pub interval: Option<f64>,
}

/// Where values stand on the page.
struct Scale {
    /// Per position; none where the axis is of names.
    numbers: Option<Vec<f64>>,
    count: usize,
    low: f64,
    high: f64,
}

impl Scale {
    fn x(&self, position: usize) -> f64 {
        let share = match &self.numbers {
            Some(numbers) => {
                let (first, last) = bounds(numbers.iter().copied());
                (numbers[position] - first) / (last - first)
            }
            None => (position as f64 + 0.5) / self.count as f64,
        };
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value.clamp(self.low, self.high) - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// The numbers of the axis, on a logarithmic scale where they span much; none where one is no number, or all are one.
fn numbers(positions: &[Position]) -> Option<Vec<f64>> {
    let numbers: Vec<f64> = positions.iter().map(|position| position.value).collect::<Option<_>>()?;
    let (low, high) = bounds(numbers.iter().copied());
    match high > low {
        true if low > 0.0 && high / low >= 50.0 => Some(numbers.into_iter().map(f64::log2).collect()),
        true => Some(numbers),
        false => None,
    }
}

fn scale(curve: &Curve) -> Scale {
    let points = || curve.series.iter().flat_map(|series| &series.points);
    let ends = points().flat_map(|point| {
        let interval = point.interval.unwrap_or(0.0);
        [point.mean - interval, point.mean + interval]
    });
    let (means_low, means_high) = bounds(points().map(|point| point.mean));
    let (low, high) = bounds(ends);
    // Shares stay within 0 and 1, wherever an interval that supposes normal values would end.
    let share = means_low >= 0.0 && means_high <= 1.0;
    let (low, high) = if share { (low.max(0.0), high.min(1.0)) } else { (low, high) };
    let (low, high) = if low < high { (low, high) } else { (low - 0.05, high + 0.05) };
    let room = 0.05 * (high - low);
    let (low, high) = (low - room, high + room);
    let (low, high) = if share { (low.max(0.0), high.min(1.0)) } else { (low, high) };
    Scale { numbers: numbers(&curve.positions), count: curve.positions.len(), low, high }
}

/// The figure as a whole SVG file. Nothing but the axes where there is no point.
pub fn curve_svg(curve: &Curve) -> String {
    let has_points = curve.series.iter().any(|series| !series.points.is_empty());
    let scale = if has_points {
        scale(curve)
    } else {
        Scale { numbers: numbers(&curve.positions), count: curve.positions.len(), low: 0.0, high: 1.0 }
    };
    let total = HEIGHT + LEGEND_LINE * (curve.series.len() + 1) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {total}\" width=\"{WIDTH}\" height=\"{total}\" \
         role=\"img\" font-family=\"sans-serif\" font-size=\"12\" fill=\"currentColor\">\n<title>{}</title>\n",
        escaped(&curve.title)
    );
    text(
        &mut svg,
        LEFT,
        TOP - 18.0,
        "start",
        &format!("<tspan font-weight=\"bold\">{}</tspan>", escaped(&curve.title)),
    );
    axes(&mut svg, curve, &scale);
    for (index, series) in curve.series.iter().enumerate() {
        draw(&mut svg, series, index, curve.series.len(), &scale);
        let y = HEIGHT + LEGEND_LINE * index as f64 + 4.0;
        let (colour, dash) = style(index);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y}h24\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/><circle cx=\"{}\" cy=\"{y}\" r=\"3.5\" \
             fill=\"{colour}\"/>",
            LEFT + 12.0
        );
        text(&mut svg, LEFT + 32.0, y + 4.0, "start", &escaped(&series.name));
    }
    text(
        &mut svg,
        LEFT,
        HEIGHT + LEGEND_LINE * curve.series.len() as f64 + 8.0,
        "start",
        &format!("<tspan font-size=\"11\">{}</tspan>", escaped(&curve.note)),
    );
    svg.push_str("</svg>\n");
    svg
}

/// The colour of a series, and its dashes once colours are used up.
fn style(index: usize) -> (&'static str, &'static str) {
    let dashes = ["", " stroke-dasharray=\"6 3\"", " stroke-dasharray=\"2 3\""];
    (COLOURS[index % COLOURS.len()], dashes[(index / COLOURS.len()) % dashes.len()])
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, content: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{content}</text>");
}

fn axes(svg: &mut String, curve: &Curve, scale: &Scale) {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let (values, decimals) = ticks(scale.low, scale.high, 6);
    for value in values {
        let y = scale.y(value);
        let _ = writeln!(svg, "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"currentColor\" stroke-opacity=\"0.15\"/>");
        text(svg, LEFT - 8.0, y + 4.0, "end", &format!("{value:.decimals$}"));
    }
    let _ = writeln!(
        svg,
        "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"currentColor\" stroke-opacity=\"0.6\"/>"
    );
    // A label that would run into the one before it is left out; its tick stays. Names are never left out.
    let room = (right - LEFT) / scale.count.max(1) as f64;
    let slanted = scale.numbers.is_none()
        && curve.positions.iter().any(|position| position.label.chars().count() as f64 * CHARACTER > room);
    let mut free = f64::NEG_INFINITY;
    for (index, position) in curve.positions.iter().enumerate() {
        let x = scale.x(index);
        let _ = writeln!(svg, "<path d=\"M{x:.1} {bottom}v5\" stroke=\"currentColor\" stroke-opacity=\"0.6\"/>");
        let half = position.label.chars().count() as f64 * CHARACTER / 2.0;
        if slanted {
            // Long names stand on two lines' height in turn.
            let y = bottom + if index % 2 == 0 { 18.0 } else { 31.0 };
            text(svg, x, y, "middle", &escaped(&position.label));
        } else if scale.numbers.is_none() || x - half > free {
            text(svg, x, bottom + 18.0, "middle", &escaped(&position.label));
            free = x + half + 2.0;
        }
    }
    let below = bottom + if slanted { 47.0 } else { 36.0 };
    text(svg, (LEFT + right) / 2.0, below, "middle", &escaped(&curve.axis));
    let (x, y) = (16.0, (TOP + bottom) / 2.0);
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\" transform=\"rotate(-90 {x} {y})\">{}</text>",
        escaped(&curve.metric)
    );
}

fn draw(svg: &mut String, series: &Series, index: usize, count: usize, scale: &Scale) {
    let (colour, dash) = style(index);
    let is_line = scale.numbers.is_some();
    // Marks of one name stand side by side.
    let room = (WIDTH - LEFT - RIGHT) / scale.count.max(1) as f64;
    let shift = match is_line {
        true => 0.0,
        false => (index as f64 - (count - 1) as f64 / 2.0) * (0.6 * room / count as f64).min(14.0),
    };
    let mut points: Vec<CurvePoint> = series.points.clone();
    points.sort_by(|first, second| scale.x(first.position).total_cmp(&scale.x(second.position)));
    let place =
        |point: &CurvePoint, value: f64| format!("{:.1} {:.1}", scale.x(point.position) + shift, scale.y(value));
    let banded: Vec<(&CurvePoint, f64)> = points.iter().filter_map(|point| Some((point, point.interval?))).collect();
    if is_line {
        if banded.len() > 1 {
            let upper = banded.iter().map(|(point, interval)| place(point, point.mean + interval));
            let lower = banded.iter().rev().map(|(point, interval)| place(point, point.mean - interval));
            let outline = upper.chain(lower).collect::<Vec<_>>().join("L");
            let _ = writeln!(svg, "<path d=\"M{outline}Z\" fill=\"{colour}\" fill-opacity=\"0.16\"/>");
        }
        let line = points.iter().map(|point| place(point, point.mean)).collect::<Vec<_>>().join("L");
        if points.len() > 1 {
            let _ = writeln!(svg, "<path d=\"M{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>");
        }
    }
    for point in &points {
        let (x, y) = (scale.x(point.position) + shift, scale.y(point.mean));
        if let Some(interval) = point.interval.filter(|_| !is_line || banded.len() == 1) {
            let (low, high) = (scale.y(point.mean - interval), scale.y(point.mean + interval));
            let _ = writeln!(svg, "<path d=\"M{x:.1} {low:.1}V{high:.1}\" stroke=\"{colour}\" stroke-width=\"1.5\"/>");
        }
        let told = point.interval.map_or(String::new(), |interval| format!(" ± {interval:.4}"));
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{}: {:.4}{told}</title></circle>",
            escaped(&series.name),
            point.mean
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(labels: &[&str]) -> Curve {
        let position = |label: &&str| Position { label: (*label).to_owned(), value: label.parse().ok() };
        let point = |position, mean| CurvePoint { position, mean, interval: Some(0.02) };
        Curve {
            title: "a < b".to_owned(),
            axis: "feature.packets".to_owned(),
            metric: "macro F1".to_owned(),
            positions: labels.iter().map(position).collect(),
            series: vec![
                Series { name: "svm".to_owned(), points: vec![point(0, 0.5), point(1, 0.7), point(2, 0.8)] },
                Series { name: "knn".to_owned(), points: vec![point(0, 0.4), point(2, 0.995)] },
            ],
            note: String::new(),
        }
    }

    #[test]
    fn numbers_make_lines_with_bands_and_names_make_marks_with_bars() {
        let numbers = curve_svg(&curve(&["1", "2", "16"]));
        assert_eq!(numbers.matches("fill-opacity").count(), 2);
        assert_eq!(numbers.matches("<circle").count(), 5 + 2);
        assert!(numbers.contains("a &lt; b") && !numbers.contains("a < b"));
        let names = curve_svg(&curve(&["relu", "tanh", "none"]));
        assert_eq!(names.matches("fill-opacity").count(), 0);
        assert_eq!(names.matches("stroke-width=\"1.5\"").count(), 5);
    }

    #[test]
    fn points_stand_where_their_values_are() {
        let drawn = curve(&["1", "2", "16"]);
        let scale = scale(&drawn);
        assert!((scale.x(0) - LEFT).abs() < 1e-9 && (scale.x(2) - (WIDTH - RIGHT)).abs() < 1e-9);
        let share = (scale.x(1) - LEFT) / (WIDTH - LEFT - RIGHT);
        assert!((share - 1.0 / 15.0).abs() < 1e-9);
        assert!(scale.y(0.5) > scale.y(0.8));
        // A band that would leave the shares ends with them.
        assert_eq!(scale.high, 1.0);
        assert_eq!(scale.y(1.4), scale.y(1.0));
    }

    #[test]
    fn a_figure_without_points_or_with_equal_ones_is_a_figure() {
        let mut empty = curve(&["1", "2", "3"]);
        empty.series.clear();
        assert!(!curve_svg(&empty).contains("NaN"));
        let mut flat = curve(&["5"]);
        flat.series.truncate(1);
        flat.series[0].points = vec![CurvePoint { position: 0, mean: 1.0, interval: None }];
        assert!(!curve_svg(&flat).contains("NaN"));
    }
}
