//! The figures of a whole run: a comparison of its models, their costs, and the curves of an ablation.

use super::aggregate::{Aggregate, RowKey};
use super::drawing::{Curve, CurvePoint, Curves, Dot, Dots, Figure, MAXIMUM_SERIES, curves, dots};
use super::published::PublishedTable;
use etcbench_evaluate::{Metric, Summary};
use etcbench_experiment::coordinates;

/// The costs of a fit, with the name of the figure's file.
const COSTS: [(Metric, &str); 5] = [
    (Metric::FIT_WALL_SECONDS, "fit-time"),
    (Metric::PREDICT_FLOWS_PER_SECOND, "prediction-rate"),
    (Metric::FIT_PEAK_MEMORY_BYTES, "fit-memory"),
    (Metric::PREDICT_PEAK_MEMORY_BYTES, "prediction-memory"),
    (Metric::MODEL_BYTES, "model-size"),
];

/// The score drawn for models and points of a sweep.
const DRAWN: Metric = Metric::MACRO_F1;

/// The figures of a run, each with the name of its file.
pub(super) struct RunFigures {
    /// Scores of the models, and curves of an ablation.
    pub scores: Vec<(String, Figure)>,
    /// Time and memory.
    pub costs: Vec<(String, Figure)>,
}

/// A variant as a point of a sweep: its own name and its value on each axis.
struct Point {
    base: String,
    coordinates: Vec<(String, String)>,
}

impl RunFigures {
    /// Draws the figures of a run; `published` contains the paper's numbers, if any.
    pub(crate) fn draw(aggregate: &Aggregate, published: Option<&PublishedTable>) -> Self {
        let rows = aggregate.rows();
        let mut variants: Vec<&str> = Vec::new();
        for row in &rows {
            if !variants.contains(&row.variant.as_str()) {
                variants.push(&row.variant);
            }
        }
        let points: Vec<Point> = points(&variants);
        let swept = points.iter().any(|point| !point.coordinates.is_empty());
        let mut scores = Vec::new();
        if swept {
            scores.extend(ablations(aggregate, &rows, &variants, &points));
        } else {
            scores.push(("macro-f1".to_owned(), comparison(aggregate, &rows, &variants, published)));
        }
        // The points of a sweep repeat the costs of the same models, so no costs are drawn.
        let costs = if swept { Vec::new() } else { costs(aggregate, &rows, &variants) };
        Self { scores, costs }
    }
}

fn summary(aggregate: &Aggregate, row: &RowKey, metric: Metric) -> Option<Summary> {
    aggregate.get(row, None, metric)?.summary
}

/// Returns the models of the rows, in their order.
fn model_names(rows: &[RowKey]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for row in rows {
        let name = row.model_name();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn comparison(aggregate: &Aggregate, rows: &[RowKey], variants: &[&str], published: Option<&PublishedTable>) -> Figure {
    let names = model_names(rows);
    let place = |row: &RowKey| names.iter().position(|name| *name == row.model_name());
    let mut marks = Vec::new();
    for row in rows {
        let (Some(at), Some(summary)) = (place(row), summary(aggregate, row, DRAWN)) else { continue };
        let series = variants.iter().position(|variant| *variant == row.variant);
        marks.push(Dot { row: at, series, value: summary.mean, interval: summary.interval });
    }
    for row in rows.iter().filter(|row| row.variant == variants[0]) {
        if let (Some(at), Some(cell)) = (place(row), published.and_then(|table| table.get(&row.model, DRAWN.key))) {
            marks.push(Dot { row: at, series: None, value: cell.value, interval: None });
        }
    }
    let several = marks.iter().any(|mark| mark.interval.is_some());
    dots(&Dots {
        title: format!("Macro F1 of the models{}", if several { ", mean and its 95 % interval" } else { "" }),
        axis: format!("{} on the test part", DRAWN.label),
        rows: names,
        series: variants.iter().map(|variant| (*variant).to_owned()).collect(),
        dots: marks,
        logarithmic: false,
    })
}

fn costs(aggregate: &Aggregate, rows: &[RowKey], variants: &[&str]) -> Vec<(String, Figure)> {
    let names = model_names(rows);
    let mut figures = Vec::new();
    for (metric, file) in COSTS {
        let axis = format!("{} ({})", metric.label, metric.unit.name);
        let mut marks = Vec::new();
        for row in rows {
            let (Some(at), Some(summary)) =
                (names.iter().position(|name| *name == row.model_name()), summary(aggregate, row, metric))
            else {
                continue;
            };
            if summary.mean > 0.0 {
                let series = variants.iter().position(|variant| *variant == row.variant);
                marks.push(Dot { row: at, series, value: summary.mean / metric.unit.size, interval: None });
            }
        }
        if marks.is_empty() {
            continue;
        }
        let plot = Dots {
            title: axis.clone(),
            axis: format!("{axis}, logarithmic"),
            rows: names.clone(),
            series: variants.iter().map(|variant| (*variant).to_owned()).collect(),
            dots: marks,
            logarithmic: true,
        };
        figures.push((file.to_owned(), dots(&plot)));
    }
    figures
}

/// Returns the coordinates of variants. The name of a sweep's point contains them (`feature.packets=4, masks=none`,
/// after a variant's own name, if any); variants that differ only in a number at the end (`packets_4`) are points on
/// one axis too.
fn points(variants: &[&str]) -> Vec<Point> {
    let named = |variant: &&str| {
        let (base, found) = coordinates(variant);
        let coordinates = found.into_iter().map(|(axis, value)| (axis.to_owned(), value.to_owned())).collect();
        Point { base: base.unwrap_or_default().to_owned(), coordinates }
    };
    let points: Vec<Point> = variants.iter().map(named).collect();
    if points.iter().any(|point| !point.coordinates.is_empty()) {
        return points;
    }
    let numbered: Vec<_> = variants
        .iter()
        .filter_map(|variant| variant.rsplit_once('_').filter(|(_, number)| number.parse::<f64>().is_ok()))
        .collect();
    if numbered.len() < variants.len() || variants.len() < 3 || numbered.iter().any(|(axis, _)| *axis != numbered[0].0)
    {
        return points;
    }
    let point = |(axis, number): (&str, &str)| Point {
        base: String::new(),
        coordinates: vec![(axis.to_owned(), number.to_owned())],
    };
    numbered.into_iter().map(point).collect()
}

/// Draws one figure per axis and combination of the other coordinates: a curve if the values are numbers, dots if they
/// are names.
fn ablations(aggregate: &Aggregate, rows: &[RowKey], variants: &[&str], points: &[Point]) -> Vec<(String, Figure)> {
    let mut axes: Vec<&str> = Vec::new();
    for (axis, _) in points.iter().flat_map(|point| &point.coordinates) {
        if !axes.contains(&axis.as_str()) {
            axes.push(axis);
        }
    }
    let names = model_names(rows);
    let mut figures = Vec::new();
    for axis in axes {
        // Variants on this axis, grouped by their other coordinates.
        let mut groups: Vec<(String, Vec<(&str, &str)>)> = Vec::new();
        for (variant, point) in variants.iter().zip(points) {
            let Some((_, value)) = point.coordinates.iter().find(|(other, _)| other == axis) else { continue };
            let others = point.coordinates.iter().filter(|(other, _)| other != axis);
            let mut rest: Vec<String> = others.map(|(other, value)| format!("{other}={value}")).collect();
            if !point.base.is_empty() {
                rest.insert(0, point.base.clone());
            }
            let rest = rest.join(", ");
            match groups.iter_mut().find(|(known, _)| *known == rest) {
                Some((_, members)) => members.push((variant, value)),
                None => groups.push((rest, vec![(variant, value)])),
            }
        }
        for (rest, members) in groups.iter().filter(|(_, members)| members.len() > 1) {
            let suffix = if rest.is_empty() { String::new() } else { format!(" ({rest})") };
            let title = format!("Macro F1 over {axis}{suffix}, mean and its 95 % interval");
            let numeric = members.iter().all(|(_, value)| value.parse::<f64>().is_ok_and(f64::is_finite));
            for (part, models) in names.chunks(MAXIMUM_SERIES).enumerate() {
                let group = Group { aggregate, rows, members, models };
                let figure = if numeric { group.curve(title.clone(), axis) } else { group.dots(title.clone(), axis) };
                let mut file = if rest.is_empty() { format!("over-{axis}") } else { format!("over-{axis}-{rest}") };
                if part > 0 {
                    file += &format!("-{}", part + 1);
                }
                figures.push((file, figure));
            }
        }
    }
    figures
}

/// Points that differ on one axis only.
struct Group<'a> {
    aggregate: &'a Aggregate,
    rows: &'a [RowKey],
    /// Variant and value.
    members: &'a [(&'a str, &'a str)],
    models: &'a [String],
}

impl Group<'_> {
    fn measured(&self, model: &str, variant: &str) -> Option<Summary> {
        let row = self.rows.iter().find(|row| row.variant == variant && row.model_name() == model)?;
        summary(self.aggregate, row, DRAWN)
    }

    fn curve(&self, title: String, axis: &str) -> Figure {
        let curve = |(series, model): (usize, &String)| {
            let point = |(variant, value): &(&str, &str)| {
                let summary = self.measured(model, variant)?;
                Some(CurvePoint { x: value.parse().ok()?, y: summary.mean, interval: summary.interval })
            };
            let mut points: Vec<CurvePoint> = self.members.iter().filter_map(point).collect();
            points.sort_by(|left, right| left.x.total_cmp(&right.x));
            Curve { series, points }
        };
        curves(&Curves {
            title,
            x_axis: axis.to_owned(),
            y_axis: DRAWN.label.to_owned(),
            series: self.models.to_vec(),
            curves: self.models.iter().enumerate().map(curve).collect(),
            at_points: true,
            shares: true,
        })
    }

    fn dots(&self, title: String, axis: &str) -> Figure {
        let mut marks = Vec::new();
        for (row, (variant, _)) in self.members.iter().enumerate() {
            for (series, model) in self.models.iter().enumerate() {
                if let Some(summary) = self.measured(model, variant) {
                    let (value, interval) = (summary.mean, summary.interval);
                    marks.push(Dot { row, series: Some(series), value, interval });
                }
            }
        }
        dots(&Dots {
            title,
            axis: format!("{}, by {axis}", DRAWN.label),
            rows: self.members.iter().map(|(_, value)| (*value).to_owned()).collect(),
            series: self.models.to_vec(),
            dots: marks,
            logarithmic: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variants: &[&str]) -> Vec<(String, Vec<(String, String)>)> {
        points(variants).into_iter().map(|point| (point.base, point.coordinates)).collect()
    }

    #[test]
    fn variants_are_points_where_their_names_say_so() {
        let at = |axis: &str, value: &str| (axis.to_owned(), value.to_owned());
        assert_eq!(
            places(&["random_split, feature.packets=4, masks=none", "feature.packets=8"]),
            [
                ("random_split".to_owned(), vec![at("feature.packets", "4"), at("masks", "none")]),
                (String::new(), vec![at("feature.packets", "8")])
            ]
        );
        assert_eq!(places(&["packets_1", "packets_2", "packets_12"])[2].1, [at("packets", "12")]);
        for other in [&["random_split", "without_shortcuts"][..], &["packets_1", "bytes_2", "bytes_3"]] {
            assert!(places(other).iter().all(|(_, coordinates)| coordinates.is_empty()));
        }
    }
}
